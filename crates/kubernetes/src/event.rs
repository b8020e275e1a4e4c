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
    /// When it happened last, by the reporter's clock.
    pub last_seen: Option<Timestamp>,
}

impl From<wire::Event> for EventObservation {
    fn from(event: wire::Event) -> Self {
        Self {
            kind: event.r#type.unwrap_or_default(),
            reason: event.reason.unwrap_or_default(),
            message: event.message.unwrap_or_default(),
            count: event.count.unwrap_or(1).max(1),
            last_seen: event
                .last_timestamp
                .or(event.event_time)
                .or(event.first_timestamp),
        }
    }
}
