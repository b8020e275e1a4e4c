//! What a Job says, as a plain value.

use jiff::Timestamp;
use uuid::Uuid;

use crate::wire;

/// A Job as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobObservation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: another Job of the same name has another.
    pub uid: String,
    /// The version of this state.
    pub resource_version: String,
    /// The execution that its label names; none on a Job that is not ours.
    pub execution_id: Option<Uuid>,
    /// The attempt that its label names; the first where it names none.
    pub attempt: u32,
    /// The digest of what was asked for, from its annotation.
    pub spec_digest: Option<String>,
    /// Whose Job it is, from its annotation; none where it does not say.
    pub database: Option<String>,
    /// Until when it only keeps its name, from its annotation; none where it is no such.
    pub name_held_until: Option<Timestamp>,
    /// When it was created, by the API server's clock.
    pub created_at: Option<Timestamp>,
    /// It is to make no pod, or none any more.
    pub suspended: bool,
    /// Its controller has seen that, and ended the pods that it had.
    pub suspension: Option<Condition>,
    /// How many of its pods have not ended.
    pub active: u32,
    /// Its pod succeeded, and is over.
    pub complete: Option<Condition>,
    /// It failed, and its pod is over or was never made.
    pub failed: Option<Condition>,
    /// It is being deleted.
    pub deleted: bool,
}

/// Why a Job is as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// One word, as in `BackoffLimitExceeded` or `DeadlineExceeded`.
    pub reason: String,
    /// In words.
    pub message: String,
}

impl From<wire::Job> for JobObservation {
    fn from(job: wire::Job) -> Self {
        let metadata = job.metadata;
        let labels = metadata.labels.unwrap_or_default();
        let annotations = metadata.annotations.unwrap_or_default();
        let mut conditions = job.status.conditions.unwrap_or_default();
        // `FailureTarget` and `SuccessCriteriaMet` come earlier, while pods may still run: not these.
        let mut holds = |name: &str| {
            let condition = conditions
                .iter_mut()
                .find(|c| c.r#type == name && c.status == "True")?;
            Some(Condition {
                reason: condition.reason.take().unwrap_or_default(),
                message: condition.message.take().unwrap_or_default(),
            })
        };
        Self {
            complete: holds("Complete"),
            failed: holds("Failed"),
            suspension: holds("Suspended"),
            execution_id: labels.execution_id(),
            attempt: labels.attempt(),
            spec_digest: annotations.spec_digest,
            database: annotations.database,
            name_held_until: annotations
                .name_held_until
                .and_then(|until| until.parse().ok()),
            suspended: job.spec.suspend.unwrap_or(false),
            active: job.status.active.unwrap_or(0),
            created_at: metadata.creation_timestamp,
            deleted: metadata.deletion_timestamp.is_some(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Jobs as the API server writes them.
    use super::*;

    fn observe(json: &str) -> JobObservation {
        serde_json::from_str::<wire::Job>(json)
            .expect("a Job")
            .into()
    }

    #[test]
    fn a_finished_job_says_how() {
        let job = observe(
            r#"{"metadata":{"name":"x-01890a5d-ac96-774b-bcce-b302099a8057","uid":"u","resourceVersion":"42",
                "creationTimestamp":"2026-01-02T03:04:05Z","deletionTimestamp":"2026-01-02T03:05:05Z","managedFields":[{}],
                "labels":{"executor.dev/execution":"01890a5d-ac96-774b-bcce-b302099a8057","executor.dev/attempt":"2"},"annotations":{"executor.dev/spec-digest":"ab","executor.dev/database":"d1"}},
              "spec":{"suspend":false,"template":{"spec":{}}},
              "status":{"failed":1,"ready":0,"terminating":0,"uncountedTerminatedPods":{},"conditions":[
                {"type":"FailureTarget","status":"True","reason":"BackoffLimitExceeded"},
                {"type":"Suspended","status":"False"},
                {"type":"Failed","status":"True","reason":"BackoffLimitExceeded","message":"limit reached"}]}}"#,
        );
        assert_eq!(
            job.execution_id.map(|id| id.to_string()).as_deref(),
            Some("01890a5d-ac96-774b-bcce-b302099a8057")
        );
        assert_eq!(job.failed.expect("failed").reason, "BackoffLimitExceeded");
        assert_eq!(
            (job.complete, job.suspended, job.active, job.deleted),
            (None, false, 0, true)
        );
        assert_eq!(job.spec_digest.as_deref(), Some("ab"));
        assert_eq!(job.database.as_deref(), Some("d1"));
        assert_eq!((job.name_held_until, job.suspension), (None, None));
        assert_eq!(job.attempt, 2);
        assert_eq!(
            job.created_at,
            Some("2026-01-02T03:04:05Z".parse().expect("a time"))
        );
    }

    #[test]
    fn early_conditions_decide_nothing() {
        let job = observe(
            r#"{"metadata":{"name":"x"},"spec":{"suspend":true},"status":{"active":1,"conditions":[
                {"type":"SuccessCriteriaMet","status":"True"},{"type":"Complete","status":"False"}]}}"#,
        );
        assert_eq!(
            (job.complete, job.failed, job.suspended, job.active),
            (None, None, true, 1)
        );
        assert_eq!((job.execution_id, job.attempt), (None, 1));
    }
}
