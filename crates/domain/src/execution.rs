//! The record of one execution, as it stands at one generation.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::audit::Origin;
use crate::caller::{Namespace, Tenant};
use crate::reason::Ending;
use crate::retry::Retry;
use crate::submission::{Resources, Submission, Timeouts};
use crate::trace::TraceContext;

/// The id of an execution: a UUID version 7, so ids sort by the time they were made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutionId(pub Uuid);

impl ExecutionId {
    /// Makes an id from the time and ten random bytes (RFC 9562, section 5.7).
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        // A clock before 1970 is a broken clock; such ids still are unique by their random part.
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }
}

impl fmt::Display for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ExecutionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ExecutionId {
    type Err = uuid::Error;

    /// Takes the hyphenated form only, in either case: one id has one spelling in URLs.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::fmt::Hyphenated::from_str(text).map(|id| Self(id.into_uuid()))
    }
}

/// Where an execution is; it only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Accepted; its container has not started.
    Queued,
    /// Its container has started.
    Running,
    /// It has its outcome, for ever.
    Finished,
}

impl Status {
    /// Every status, in order.
    pub const ALL: [Self; 3] = [Self::Queued, Self::Running, Self::Finished];

    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Finished => "FINISHED",
        }
    }

    /// The status of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == name)
    }
}

/// The three clocks that can end an execution, each with its own limit and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// From acceptance, or the end of the pause before a later attempt, until its Job is asked for.
    Queue,
    /// From the Job being asked for until the container starts.
    Start,
    /// From the container's start until its end.
    Run,
}

/// What kind of thing an execution waits for; decides the reason when its clock runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingKind {
    /// The limit of executions running at once.
    Concurrency,
    /// A ResourceQuota or LimitRange of the namespace.
    Quota,
    /// A policy of the cluster that refuses its pod: LimitRange, Pod Security, a webhook.
    Admission,
    /// The API server does not answer, refuses us or asks for patience.
    ApiServer,
    /// The image cannot be pulled yet.
    Image,
    /// The scheduler finds no node.
    Unschedulable,
    /// The container cannot be configured, e.g. a missing Secret.
    Config,
    /// The ordinary steps of a start.
    Starting,
    /// Its own end, which its caller has asked for or its run clock demands.
    Canceling,
    /// The pause before its next attempt.
    Retry,
}

impl WaitingKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Concurrency,
        Self::Quota,
        Self::Admission,
        Self::ApiServer,
        Self::Image,
        Self::Unschedulable,
        Self::Config,
        Self::Starting,
        Self::Canceling,
        Self::Retry,
    ];

    /// The name in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Concurrency => "Concurrency",
            Self::Quota => "Quota",
            Self::Admission => "Admission",
            Self::ApiServer => "ApiServer",
            Self::Image => "Image",
            Self::Unschedulable => "Unschedulable",
            Self::Config => "Config",
            Self::Starting => "Starting",
            Self::Canceling => "Canceling",
            Self::Retry => "Retry",
        }
    }

    /// The kind of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == name)
    }
}

/// Why an execution does not run yet, or has not ended yet though it is being ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What kind of thing it waits for.
    pub kind: WaitingKind,
    /// What a person needs to know, from the cluster's own words where there are some.
    pub message: String,
}

/// Why we end an execution, rather than its script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Its caller wants it ended.
    Cancel,
    /// Its run clock has run out.
    RunTimeout,
}

/// What is kept of an execution's log. Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSummary {
    /// How many bytes the script wrote, as far as is known.
    pub bytes: u64,
    /// How many of them are not kept.
    pub lost_bytes: u64,
    /// Whether nothing is missing, and that is known.
    pub complete: bool,
}

/// One execution at one generation; what was asked for in full is the [`Submission`].
#[derive(Clone, Debug, PartialEq)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Whose it is; it never becomes another's.
    pub tenant: Tenant,
    /// The namespace that its Jobs run in, as it was when it was accepted; none for the one of all who have none of their own.
    pub namespace: Option<Namespace>,
    /// Counts its changes from 1; every write compares it.
    pub generation: u64,
    /// Where it is.
    pub status: Status,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Which attempt it is at, counted from 1. What follows is of this one, where it is not of the whole.
    pub attempt: u32,
    /// From when on the attempt may be dispatched, and its queue clock runs: the acceptance, or the end of the pause
    /// before a later attempt.
    pub due_at: Timestamp,
    /// When it was decided to create its Job. Set before the first request goes out.
    pub dispatched_at: Option<Timestamp>,
    /// The uid of its Job. Once known, no Job is created for it again.
    pub job_uid: Option<String>,
    /// Whether a request for a Job of it was ever left without an answer, so that it may still arrive: the names of its
    /// Jobs must stay taken for a while. Set by the store, never taken back.
    pub creation_in_doubt: bool,
    /// When its container started, by the cluster's clock.
    pub started_at: Option<Timestamp>,
    /// When its caller asked for its end.
    pub cancel_requested_at: Option<Timestamp>,
    /// When its run clock ran out, and it began to be ended for that.
    pub timed_out_at: Option<Timestamp>,
    /// When it was decided to delete its Job for either. Set before the request goes out, with the log up to then.
    pub stopping_since: Option<Timestamp>,
    /// When it ended: the container's end where it ran, else when the outcome was decided.
    pub finished_at: Option<Timestamp>,
    /// How it ended; present exactly when the status is `Finished`.
    pub ending: Option<Ending>,
    /// Why it does not run yet, absent once it runs; while it is being ended, what that waits for.
    pub waiting: Option<Waiting>,
    /// The image it runs in.
    pub image: String,
    /// Requests and limits of its container.
    pub resources: Resources,
    /// Its clocks' limits.
    pub timeouts: Timeouts,
    /// Which ends are tried again, and how often.
    pub retry: Retry,
    /// Its place in the queue goes by this first, the highest in front, and then by age.
    pub priority: i32,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// How long its record is kept after its end, in seconds.
    pub ttl_seconds: u32,
    /// What is kept of its log; present once it is finished or its Job's deletion is decided.
    pub log: Option<LogSummary>,
    /// The trace that its caller's request belongs to, if that said so.
    pub trace: Option<TraceContext>,
    /// Who submitted it; none where that is not known, as of what was accepted before it was noted.
    pub origin: Option<Box<Origin>>,
}

impl Execution {
    /// A new one, queued, of what a caller of that tenant asked for.
    pub fn accepted(
        id: ExecutionId,
        now: Timestamp,
        tenant: &Tenant,
        submission: &Submission,
    ) -> Self {
        Self {
            id,
            tenant: tenant.clone(),
            namespace: None,
            generation: 1,
            status: Status::Queued,
            created_at: now,
            attempt: 1,
            due_at: now,
            dispatched_at: None,
            job_uid: None,
            creation_in_doubt: false,
            started_at: None,
            cancel_requested_at: None,
            timed_out_at: None,
            stopping_since: None,
            finished_at: None,
            ending: None,
            waiting: None,
            image: submission.image.clone(),
            resources: submission.resources.clone(),
            timeouts: submission.timeouts,
            retry: submission.retry,
            priority: submission.priority,
            labels: submission.labels.clone(),
            ttl_seconds: submission.ttl_seconds,
            log: None,
            trace: None,
            origin: None,
        }
    }

    /// The same as one that runs in that namespace.
    pub fn in_namespace(self, namespace: Option<Namespace>) -> Self {
        Self { namespace, ..self }
    }

    /// The same as submitted by that one.
    pub fn submitted_by(self, origin: Origin) -> Self {
        Self {
            origin: Some(Box::new(origin)),
            ..self
        }
    }

    /// The same as a part of the trace that its caller's request belongs to.
    pub fn in_trace(self, trace: Option<TraceContext>) -> Self {
        Self { trace, ..self }
    }

    /// What a request of ours for this execution says of its trace, coming from that span: the caller's trace, or else one of
    /// its own, whose id is that of the execution.
    pub fn trace_from(&self, span: u64) -> TraceContext {
        let own = TraceContext {
            trace: self.id.0.as_u128(),
            parent: span,
            flags: 0,
        };
        self.trace.map_or(own, |caller| TraceContext {
            parent: span,
            ..caller
        })
    }

    /// The name of its attempt's Job: derived from the id, so that creating it twice is a conflict, never two Jobs.
    pub fn job_name(&self) -> String {
        job_name(self.id, self.attempt)
    }

    /// Whether it waits for its Job to be asked for: in the queue, or in the pause before an attempt.
    pub fn is_queued(&self) -> bool {
        self.dispatched_at.is_none() && self.status != Status::Finished
    }

    /// Whether it has been decided to create its Job, and it is not finished: it counts against the limit.
    pub fn is_dispatched(&self) -> bool {
        self.dispatched_at.is_some() && self.status != Status::Finished
    }

    /// Why it is being ended, or was; none where nobody wants that. Whatever came first decides: a cancel has no clock
    /// that could run out, and a time that has run out is not undone by a cancel.
    pub fn stop(&self) -> Option<Stop> {
        match (self.timed_out_at, self.cancel_requested_at) {
            (Some(_), _) => Some(Stop::RunTimeout),
            (None, Some(_)) => Some(Stop::Cancel),
            (None, None) => None,
        }
    }

    /// Since when it is to be ended.
    pub fn stop_wanted_at(&self) -> Option<Timestamp> {
        self.timed_out_at.or(self.cancel_requested_at)
    }

    /// When its record may be forgotten; none before its end.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let after = SignedDuration::from_secs(i64::from(self.ttl_seconds));
        let at = self.finished_at?.checked_add(after);
        Some(at.unwrap_or(Timestamp::MAX))
    }

    /// The clock that runs now, and when it runs out; none once finished, and none while it is being ended:
    /// that has its own bound.
    pub fn deadline(&self) -> Option<(Clock, Timestamp)> {
        if self.stop().is_some() {
            return None;
        }
        let (clock, from, seconds) = match (self.status, self.dispatched_at, self.started_at) {
            (Status::Finished, _, _) => return None,
            (_, _, Some(started)) => (Clock::Run, started, self.timeouts.run_seconds),
            (_, Some(dispatched), _) => (Clock::Start, dispatched, self.timeouts.start_seconds),
            (_, None, _) => (Clock::Queue, self.due_at, self.timeouts.queue_seconds),
        };
        let after = SignedDuration::from_secs(i64::from(seconds));
        Some((clock, from.checked_add(after).unwrap_or(Timestamp::MAX)))
    }
}

/// The name of the Job of that attempt at the execution with that id: at most 63 characters, as Kubernetes asks.
pub fn job_name(id: ExecutionId, attempt: u32) -> String {
    match attempt {
        0 | 1 => format!("x-{id}"),
        later => format!("x-{id}-{later}"),
    }
}

/// The execution whose Job has that name, whichever attempt's it is; none where no Job of ours is called so. Names are in the
/// order of these ids.
pub fn id_in_job_name(name: &str) -> Option<ExecutionId> {
    let rest = name.strip_prefix("x-")?;
    let (id, attempt) = rest.split_at_checked(uuid::fmt::Hyphenated::LENGTH)?;
    let is_ours = attempt.is_empty() || attempt.starts_with('-');
    id.parse().ok().filter(|_| is_ours)
}

#[cfg(test)]
mod tests {
    //! The names of Jobs, there and back.
    use super::*;

    #[test]
    fn the_name_of_a_job_tells_its_execution_and_nothing_else_does() {
        let id = |n: u8| ExecutionId::new(Timestamp::UNIX_EPOCH, [n; 10]);
        for attempt in [1, 2, 10] {
            assert_eq!(id_in_job_name(&job_name(id(7), attempt)), Some(id(7)));
        }
        let text = id(7).to_string();
        for name in [
            "",
            "x-",
            "x-1",
            "y-01890a5d-ac96-774b-bcce-b302099a8057",
            &text,
            &format!("x-{}", &text[1..]),
            &format!("x-{text}9"),
            "x-ééééééééééééééééééééé",
        ] {
            assert_eq!(id_in_job_name(name), None, "{name}");
        }
        // A page of names ends where a page of ids does.
        let mut names: Vec<String> = (1..=3)
            .flat_map(|n| (1..=12).map(move |attempt| job_name(id(n), attempt)))
            .collect();
        names.sort();
        let ids: Vec<_> = names.iter().filter_map(|n| id_in_job_name(n)).collect();
        assert!(ids.is_sorted() && ids.len() == names.len());
    }
}
