//! Why an execution does not start: what only Kubernetes events tell, for the record and its timeline.

use domain::transition::STARTING;
use domain::{Entry, Execution, Observation, Reason, Waiting, WaitingKind, timeline};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{EventObservation, PodObservation, REPORTER};
use store::{Event, MAX_EVENTS};

use crate::apply::{Applied, about};
use crate::observe::observation;
use crate::{App, Error, Platform, Runtime};

/// How long after the dispatch a policy may refuse the pod before that is believed to be its last word: somebody may be
/// just changing it. The start clock, which is longer as a rule, need not be waited for.
const ADMISSION_PATIENCE: SignedDuration = SignedDuration::from_secs(20);

/// The reason of the event that tells that the Job's pod could not be created.
const FAILED_CREATE: &str = "FailedCreate";

/// The type of events that are about something wrong.
const WARNING: &str = "Warning";

impl<P: Platform> App<P> {
    /// Asks the cluster why the execution has no running container yet; costs two or three requests. What is new of
    /// that is stored.
    ///
    /// # Errors
    /// When the API server or the store does not answer.
    pub(crate) async fn explain(&self, execution: &Execution) -> Result<Applied, Error> {
        let Some(job_uid) = &execution.job_uid else {
            return Ok(Applied::Nothing);
        };
        let client = self.kubernetes_of(execution);
        let pods = client.pods_of_job(&execution.job_name()).await?;
        // The name alone proves nothing: somebody else's Job may have taken it.
        let ours = |pod: &&PodObservation| pod.execution_id == Some(execution.id.0);
        let pod = pods.iter().find(ours);
        let mut events = client.list_events_of(job_uid).await?;
        if let Some(pod) = pod {
            events.extend(client.list_events_of(&pod.uid).await?);
        }
        // What we said of it ourselves is no news, and no cause.
        events.retain(|event| event.source != REPORTER);
        let now = self.runtime.now();
        let known = self.store.events(execution.id, 0, MAX_EVENTS).await?;
        let entries: Vec<Entry> = in_order(&events)
            .into_iter()
            .map(|event| entry(event, execution, now))
            .filter(|entry| is_news(entry, &known))
            .collect();
        self.store.add_events(execution.id, &entries).await?;
        let Some(why) = explanation(&events, pod) else {
            return Ok(Applied::Nothing);
        };
        let waited = execution
            .dispatched_at
            .map_or(SignedDuration::ZERO, |at| now.duration_since(at));
        let seen = if why.kind == WaitingKind::Admission && waited >= ADMISSION_PATIENCE {
            Observation::CannotStart {
                reason: Reason::AdmissionDenied,
                message: why.message,
            }
        } else {
            Observation::Waiting(why)
        };
        self.apply(execution.id, about(execution), &seen, pod).await
    }
}

fn in_order(events: &[EventObservation]) -> Vec<&EventObservation> {
    let mut events: Vec<_> = events.iter().collect();
    events.sort_by_key(|event| event.first_seen);
    events
}

fn entry(event: &EventObservation, execution: &Execution, now: Timestamp) -> Entry {
    // The cluster's clock may be behind ours, and nothing came before the acceptance.
    let at = event.first_seen.unwrap_or(now).max(execution.created_at);
    let message = timeline::of_attempt(execution, event.message.clone());
    Entry {
        last_at: event.last_seen.unwrap_or(now).max(at),
        count: event.count,
        counted_by_cluster: true,
        ..Entry::once(at, &event.reason, &event.source, message)
    }
}

/// Whether it is not in the timeline yet, or has happened again since. Messages are compared as far as they are kept.
fn is_news(entry: &Entry, known: &[Event]) -> bool {
    !known.iter().any(|Event { entry: old, .. }| {
        old.kind == entry.kind
            && old.source == entry.source
            && entry.message.starts_with(old.message.as_str())
            && old.count >= entry.count
    })
}

/// Why it waits, where the pod itself does not tell.
pub(crate) fn explanation(
    events: &[EventObservation],
    pod: Option<&PodObservation>,
) -> Option<Waiting> {
    let warnings = events.iter().filter(|event| event.kind == WARNING);
    let Some(pod) = pod else {
        let failed = warnings.filter(|event| event.reason == FAILED_CREATE);
        let event = failed.max_by_key(|event| event.last_seen)?;
        return Some(Waiting {
            kind: kind_of_refusal(&event.message),
            message: format!("its pod cannot be created: {}", event.message),
        });
    };
    let seen = observation(pod);
    let starts =
        matches!(&seen, Some(Observation::Waiting(why)) if why.kind == WaitingKind::Starting);
    // A volume or a network that cannot be set up: the container's state just says ContainerCreating.
    let event = warnings
        .filter(|_| starts)
        .max_by_key(|event| event.last_seen)?;
    Some(Waiting {
        kind: WaitingKind::Starting,
        message: format!("{STARTING}: {}: {}", event.reason, event.message),
    })
}

/// What keeps the Job controller from creating the pod, by the API server's words in its event.
fn kind_of_refusal(message: &str) -> WaitingKind {
    let forbidden = message.contains("is forbidden: ");
    if message.contains("exceeded quota: ") || message.contains("failed quota: ") {
        WaitingKind::Quota
    } else if forbidden && message.contains("error looking up service account") {
        // It is created by a controller, or by somebody who is just setting the namespace up.
        WaitingKind::Config
    } else if forbidden
        || message.contains("denied the request")
        || message.contains("denied request")
    {
        WaitingKind::Admission
    } else {
        WaitingKind::ApiServer
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
