//! What a Kubernetes Event says, as a plain value; and those that Executor writes about its Jobs.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::job::{LABEL_MANAGED_BY, MANAGED_BY};
use crate::wire;

/// Who reports Executor's own events.
pub const REPORTER: &str = "executor";

/// A longer message is cut, in bytes: newer validation of the API server takes 1 KiB.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Something that happened to an object, in the cluster's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventObservation {
    /// `Normal` or `Warning`.
    pub kind: String,
    /// One word, as in `FailedCreate` or `FailedScheduling`.
    pub reason: String,
    /// In words.
    pub message: String,
    /// How often it happened; at least once.
    pub count: u32,
    /// When it happened first, by the reporter's clock.
    pub first_seen: Option<Timestamp>,
    /// When it happened last, by the reporter's clock.
    pub last_seen: Option<Timestamp>,
    /// Who reports it, as in `kubelet` or `job-controller`.
    pub source: String,
}

impl From<wire::Event> for EventObservation {
    fn from(event: wire::Event) -> Self {
        Self {
            kind: event.r#type.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
            count: event.count.unwrap_or(1).max(1),
            first_seen: event
                .first_timestamp
                .or(event.event_time)
                .or(event.last_timestamp),
            last_seen: event
                .last_timestamp
                .or(event.event_time)
                .or(event.first_timestamp),
            // The older API fills the one, the newer the other.
            source: event
                .source
                .and_then(|source| source.component)
                .into_iter()
                .chain(event.reporting_component)
                .find(|component| !component.is_empty())
                .unwrap_or_default(),
        }
    }
}

/// Something that Executor did with one of its Jobs, to be told to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// The event's own name: the same for the same thing, so that telling it twice is a conflict.
    pub name: String,
    /// The Job that it is about, which may be gone.
    pub job_name: String,
    /// Its uid.
    pub job_uid: String,
    /// What happened, in one word.
    pub reason: String,
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
    /// Whether it is about something wrong.
    pub is_warning: bool,
}

impl JobEvent {
    /// The object to be created in the Job's namespace.
    pub(crate) fn object(&self, namespace: &str) -> Value {
        let message = &self.message;
        let message = &message[..message.floor_char_boundary(MAX_MESSAGE_BYTES)];
        // The API server keeps whole seconds.
        let at = self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {LABEL_MANAGED_BY: MANAGED_BY},
            },
            "involvedObject": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "namespace": namespace,
                "name": self.job_name,
                "uid": self.job_uid,
            },
            "type": if self.is_warning { "Warning" } else { "Normal" },
            "reason": self.reason,
            "message": message,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": REPORTER},
            "reportingComponent": REPORTER,
            "reportingInstance": "",
        })
    }
}
