//! What the timeline of an execution tells: each step of its own, and what the cluster said while it waited.

use jiff::Timestamp;

use crate::execution::{Execution, WaitingKind};
use crate::reason::Reason;
use crate::transition::Observation;

/// Who saw or decided what Executor does by itself.
pub const EXECUTOR: &str = "executor";

/// Who submitted it, or cancels it.
pub const CALLER: &str = "caller";

/// The API server's own answers.
pub const API_SERVER: &str = "api-server";

/// What makes the pods of Jobs; only Kubernetes events tell what keeps it from doing so.
pub const JOB_CONTROLLER: &str = "job-controller";

/// The state of the pod.
pub const POD: &str = "pod";

/// One line of a timeline. Two with the same kind, source and message are one that happened twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it happened first: by our clock, or by the cluster's where the cluster dates it.
    pub at: Timestamp,
    /// When it happened last; `at`, where it happened once.
    pub last_at: Timestamp,
    /// How often it happened; at least once.
    pub count: u32,
    /// What happened, in one word: one of [`steps`], or the reason of a Kubernetes event.
    pub kind: String,
    /// Who saw it: [`EXECUTOR`], [`CALLER`], [`API_SERVER`], [`POD`], or the component that wrote a Kubernetes event.
    pub source: String,
    /// What a person needs to know of it.
    pub message: String,
    /// Whether `count` is of all times, as the cluster counts them, and not of new ones.
    pub counted_by_cluster: bool,
}

/// The kinds that [`steps`] makes.
pub mod kind {
    /// It was accepted and stored.
    pub const ACCEPTED: &str = "Accepted";
    /// It was decided to create its Job.
    pub const DISPATCHED: &str = "Dispatched";
    /// Its Job exists.
    pub const JOB_CREATED: &str = "JobCreated";
    /// Its Job could not be created yet: it went back into the queue.
    pub const POSTPONED: &str = "Postponed";
    /// Something keeps it from running.
    pub const WAITING: &str = "Waiting";
    /// Its container started.
    pub const STARTED: &str = "Started";
    /// Its cancel was asked for.
    pub const CANCEL_REQUESTED: &str = "CancelRequested";
    /// Its run clock has run out.
    pub const TIMED_OUT: &str = "TimedOut";
    /// Its Job is being deleted.
    pub const STOPPING: &str = "Stopping";
    /// An attempt has its outcome, and another one follows.
    pub const ATTEMPT_ENDED: &str = "AttemptEnded";
    /// When the next attempt is due.
    pub const RETRY_SCHEDULED: &str = "RetryScheduled";
    /// It has its outcome.
    pub const FINISHED: &str = "Finished";
}

impl Entry {
    /// Something that happened once.
    pub fn once(at: Timestamp, kind: &str, source: &str, message: impl Into<String>) -> Self {
        Self {
            at,
            last_at: at,
            count: 1,
            kind: kind.to_owned(),
            source: source.to_owned(),
            message: message.into(),
            counted_by_cluster: false,
        }
    }

    /// The first line of every timeline.
    pub fn accepted(execution: &Execution) -> Self {
        let at = execution.created_at;
        Self::once(at, kind::ACCEPTED, EXECUTOR, "it is accepted and stored")
    }

    /// Whether the timeline is not whole without it, however full it is.
    pub fn is_essential(&self) -> bool {
        [kind::STARTED, kind::ATTEMPT_ENDED, kind::FINISHED].contains(&self.kind.as_str())
    }
}

/// What the timeline says of the step from one generation to the next, in its order; nothing where the two differ in
/// nothing that a person would ask for, such as the ordinary steps of a start.
pub fn steps(
    before: &Execution,
    observation: &Observation,
    after: &Execution,
    now: Timestamp,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut add = |at, kind, source, message: String| {
        let message = of_attempt(after, message);
        entries.push(Entry::once(at, kind, source, message));
    };
    if let (None, Some(at)) = (before.dispatched_at, after.dispatched_at) {
        let message = "it is decided to create its Job".to_owned();
        add(at, kind::DISPATCHED, EXECUTOR, message);
    }
    if let (None, Some(uid)) = (&before.job_uid, &after.job_uid) {
        let message = format!("its Job is {} with the uid {uid}", after.job_name());
        add(now, kind::JOB_CREATED, API_SERVER, message);
    }
    if let (None, Some(at)) = (before.cancel_requested_at, after.cancel_requested_at) {
        let message = "its cancel is asked for".to_owned();
        add(at, kind::CANCEL_REQUESTED, CALLER, message);
    }
    if let (None, Some(at)) = (before.timed_out_at, after.timed_out_at) {
        let limit = after.timeouts.run_seconds;
        let message = format!("it has run for longer than its limit of {limit} s");
        add(at, kind::TIMED_OUT, EXECUTOR, message);
    }
    if let (None, Some(at)) = (before.stopping_since, after.stopping_since) {
        let message = "its log is read, and its Job is being deleted".to_owned();
        add(at, kind::STOPPING, EXECUTOR, message);
    }
    // The steps of ending it are told in their own words above.
    let stops = |e: &Execution| (e.stop_wanted_at(), e.stopping_since);
    let ended = stops(before) != stops(after);
    let waits = after
        .waiting
        .as_ref()
        .filter(|_| before.waiting != after.waiting);
    if let Some(waiting) = waits.filter(|_| !ended) {
        let back = before.dispatched_at.is_some() && after.dispatched_at.is_none();
        if back || waiting.kind != WaitingKind::Starting {
            let kind = if back { kind::POSTPONED } else { kind::WAITING };
            add(now, kind, seen_by(observation), waiting.message.clone());
        }
    }
    if let (None, Some(at)) = (before.started_at, after.started_at) {
        add(at, kind::STARTED, POD, "its container runs".to_owned());
    }
    if let (None, Some(ending)) = (&before.ending, &after.ending) {
        let message = format!(
            "{} ({}): {}",
            ending.outcome().as_str(),
            ending.reason.as_str(),
            ending.message
        );
        let at = after.finished_at.unwrap_or(now);
        add(at, kind::FINISHED, seen_by(observation), message);
    }
    entries
}

/// What the timeline says of the step with which an attempt has `ended`, so that `next` takes its place.
pub fn steps_to_retry(
    before: &Execution,
    observation: &Observation,
    ended: &Execution,
    next: &Execution,
    now: Timestamp,
) -> Vec<Entry> {
    let mut entries = steps(before, observation, ended, now);
    for entry in entries.iter_mut().filter(|e| e.kind == kind::FINISHED) {
        entry.kind = kind::ATTEMPT_ENDED.to_owned();
        if ended.attempt == 1 {
            entry.message = format!("attempt 1: {}", entry.message);
        }
    }
    if let Some(waiting) = &next.waiting {
        let message = waiting.message.as_str();
        entries.push(Entry::once(now, kind::RETRY_SCHEDULED, EXECUTOR, message));
    }
    entries
}

/// What is told of a later attempt says so: it would else count as the same thing again.
pub fn of_attempt(execution: &Execution, message: String) -> String {
    match execution.attempt {
        1 => message,
        attempt => format!("attempt {attempt}: {message}"),
    }
}

fn seen_by(observation: &Observation) -> &'static str {
    match observation {
        Observation::Postponed(_)
        | Observation::JobExists { .. }
        | Observation::Refused { .. }
        | Observation::JobGone { .. } => API_SERVER,
        Observation::Waiting(why) if why.kind == WaitingKind::ApiServer => API_SERVER,
        Observation::Waiting(why)
            if matches!(why.kind, WaitingKind::Quota | WaitingKind::Admission) =>
        {
            JOB_CONTROLLER
        }
        Observation::CannotStart { reason, .. } if *reason == Reason::AdmissionDenied => {
            JOB_CONTROLLER
        }
        Observation::Waiting(_)
        | Observation::CannotStart { .. }
        | Observation::Started { .. }
        | Observation::Ended(_)
        | Observation::PodFailed { .. } => POD,
        _ => EXECUTOR,
    }
}

#[cfg(test)]
mod tests {
    //! What each step leaves in the timeline.
    use super::*;
    use crate::transition::{ContainerEnd, transition, waiting};

    /// Not whole seconds, which would be widened to all of their second.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_500 + seconds * 1000).expect("a valid time")
    }

    fn queued() -> Execution {
        Execution {
            created_at: at(0),
            ..crate::transition::tests::queued()
        }
    }

    /// Carries the observations out, and tells kind, source and time of what they leave.
    fn story(observations: &[Observation]) -> Vec<(String, String, Timestamp)> {
        let mut execution = queued();
        let mut entries = vec![Entry::accepted(&execution)];
        for (seconds, observation) in (1..).zip(observations) {
            let now = at(seconds);
            let Some(next) = transition(&execution, observation, now) else {
                continue;
            };
            entries.extend(steps(&execution, observation, &next, now));
            execution = next;
        }
        let told = entries.into_iter().map(|e| (e.kind, e.source, e.at));
        told.collect()
    }

    fn told(kind: &str, source: &str, seconds: i64) -> (String, String, Timestamp) {
        (kind.to_owned(), source.to_owned(), at(seconds))
    }

    fn end() -> Observation {
        Observation::Ended(ContainerEnd {
            exit_code: 0,
            signal: None,
            out_of_memory: false,
            start_error: false,
            message: String::new(),
            started_at: Some(at(2)),
            finished_at: Some(at(3)),
        })
    }

    fn exists() -> Observation {
        let uid = "u".to_owned();
        Observation::JobExists { uid }
    }

    #[test]
    fn an_ordinary_life_has_five_lines() {
        let starting = waiting(WaitingKind::Starting, "its Job is created");
        let lived = [
            Observation::Dispatched,
            exists(),
            Observation::Waiting(starting),
            Observation::Started { at: at(4) },
            end(),
            end(),
        ];
        let expected = [
            told("Accepted", EXECUTOR, 0),
            told("Dispatched", EXECUTOR, 1),
            told("JobCreated", API_SERVER, 2),
            told("Started", POD, 4),
            // Never before the start, whatever the clocks say.
            told("Finished", POD, 4),
        ];
        assert_eq!(story(&lived), expected);
    }

    #[test]
    fn an_end_whose_start_nobody_saw_tells_both() {
        let story = story(&[Observation::Dispatched, exists(), end()]);
        assert_eq!(
            story[3..],
            [told("Started", POD, 2), told("Finished", POD, 3)]
        );
    }

    #[test]
    fn who_said_it_is_told() {
        let quota = Observation::Postponed(waiting(WaitingKind::Quota, "exceeded quota"));
        let image = Observation::Waiting(waiting(WaitingKind::Image, "ImagePullBackOff"));
        let refused = Observation::Refused {
            reason: Reason::InvalidSpec,
            message: "no".to_owned(),
        };
        for (observation, kind, source) in [
            (quota, "Postponed", API_SERVER),
            (image, "Waiting", POD),
            (refused, "Finished", API_SERVER),
        ] {
            let story = story(&[Observation::Dispatched, observation]);
            assert_eq!(story.last(), Some(&told(kind, source, 2)));
        }
        let clock = Observation::DeadlinePassed;
        let mut execution = queued();
        execution.timeouts.queue_seconds = 5;
        let next = transition(&execution, &clock, at(6)).expect("it ends");
        let entries = steps(&execution, &clock, &next, at(6));
        assert_eq!((entries[0].source.as_str(), entries.len()), (EXECUTOR, 1));
        assert!(entries[0].message.starts_with("ERROR (QueueTimeout): "));
    }
}
