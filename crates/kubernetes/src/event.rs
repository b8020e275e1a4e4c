//! What a Kubernetes Event says, as a plain value.

use jiff::Timestamp;

use crate::wire;

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
