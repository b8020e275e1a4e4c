//! The parts of the API server's answers that are read; everything else in them is skipped unseen.

use jiff::Timestamp;
use serde::Deserialize;
use uuid::Uuid;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub creation_timestamp: Option<Timestamp>,
    pub deletion_timestamp: Option<Timestamp>,
    pub labels: Option<Labels>,
    pub annotations: Option<Annotations>,
    pub owner_references: Option<Vec<Owner>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

/// Of the labels those that are ours.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Labels {
    #[serde(rename = "executor.dev/execution")]
    pub execution: Option<String>,
    #[serde(rename = "executor.dev/attempt")]
    pub attempt: Option<String>,
}

impl Labels {
    /// The execution that it belongs to; none on what is not ours.
    pub(crate) fn execution_id(&self) -> Option<Uuid> {
        Uuid::parse_str(self.execution.as_deref()?).ok()
    }

    /// The attempt that it belongs to: the first where it has no label for it.
    pub(crate) fn attempt(&self) -> u32 {
        let label = self.attempt.as_deref();
        label.and_then(|text| text.parse().ok()).unwrap_or(1)
    }
}

/// The same of the annotations.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Annotations {
    #[serde(rename = "executor.dev/spec-digest")]
    pub spec_digest: Option<String>,
    #[serde(rename = "executor.dev/database")]
    pub database: Option<String>,
    #[serde(rename = "executor.dev/name-held-until")]
    pub name_held_until: Option<String>,
}

/// What an object of any kind says about itself; all that a bookmark says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Object {
    pub metadata: Metadata,
}

#[derive(Debug, Deserialize)]
pub struct List<T> {
    #[serde(default)]
    pub metadata: ListMetadata,
    // Go writes an empty list as null, too.
    pub items: Option<Vec<T>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMetadata {
    pub resource_version: String,
    pub r#continue: Option<String>,
}

impl ListMetadata {
    /// The token of the next page; none on the last one.
    pub(crate) fn next(self) -> Option<String> {
        self.r#continue.filter(|token| !token.is_empty())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Condition {
    pub r#type: String,
    pub status: String,
    pub reason: Option<String>,
    pub message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    pub metadata: Metadata,
    pub spec: JobSpec,
    pub status: JobStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobSpec {
    pub suspend: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct JobStatus {
    pub active: Option<u32>,
    pub conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Pod {
    pub metadata: Metadata,
    pub spec: PodSpec,
    pub status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub node_name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub phase: String,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub conditions: Option<Vec<Condition>>,
    pub container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerStatus {
    pub name: String,
    pub state: ContainerState,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    pub waiting: Option<ContainerWaiting>,
    pub running: Option<ContainerRunning>,
    pub terminated: Option<ContainerTerminated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ContainerWaiting {
    pub reason: Option<String>,
    pub message: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerRunning {
    pub started_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerTerminated {
    pub exit_code: i32,
    pub signal: Option<i32>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    pub r#type: Option<String>,
    pub reason: Option<String>,
    pub message: Option<String>,
    pub count: Option<u32>,
    pub event_time: Option<Timestamp>,
    pub first_timestamp: Option<Timestamp>,
    pub last_timestamp: Option<Timestamp>,
    pub source: Option<EventSource>,
    pub reporting_component: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EventSource {
    pub component: Option<String>,
}

/// The body of a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
    pub details: Option<StatusDetails>,
    pub metadata: Option<ListMetadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    pub causes: Option<Vec<StatusCause>>,
    pub retry_after_seconds: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    pub reason: String,
    pub message: String,
    pub field: String,
}

#[cfg(test)]
mod tests {
    //! The names here are those that [`job`](crate::job) writes.
    use super::*;
    use crate::job::{
        ANNOTATION_DATABASE, ANNOTATION_NAME_HELD_UNTIL, ANNOTATION_SPEC_DIGEST, LABEL_ATTEMPT,
        LABEL_EXECUTION,
    };
    use serde_json::json;

    #[test]
    fn labels_and_annotations_are_read_by_the_names_they_are_written_by() {
        let id = "01890a5d-ac96-774b-bcce-b302099a8057";
        let metadata = json!({
            "labels": { LABEL_EXECUTION: id, LABEL_ATTEMPT: "2", "team": "seven" },
            "annotations": {
                ANNOTATION_SPEC_DIGEST: "ab",
                ANNOTATION_DATABASE: "d1",
                ANNOTATION_NAME_HELD_UNTIL: "2026-01-02T03:04:05Z",
                "note": "",
            },
        });
        let metadata: Metadata = serde_json::from_value(metadata).expect("metadata");
        let (labels, annotations) = (metadata.labels, metadata.annotations);
        let labels = labels.expect("labels");
        assert_eq!(
            labels.execution_id().map(|id| id.to_string()).as_deref(),
            Some(id)
        );
        assert_eq!(labels.attempt(), 2);
        let annotations = annotations.expect("annotations");
        assert_eq!(annotations.spec_digest.as_deref(), Some("ab"));
        assert_eq!(annotations.database.as_deref(), Some("d1"));
        assert!(annotations.name_held_until.is_some());
        let none: Metadata = serde_json::from_value(json!({ "labels": null })).expect("metadata");
        assert_eq!(none.labels.unwrap_or_default().attempt(), 1);
    }
}
