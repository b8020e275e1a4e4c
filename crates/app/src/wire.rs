//! Executions as the API and webhooks write them: every member always there, null where it is not known.

use std::collections::BTreeMap;

use domain::{AttemptRecord, Ending, Execution, LogSummary, Status, Timeouts};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::View;

/// A time of RFC 3339 in UTC, always with six digits behind the point.
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:.6}", self.0))
    }
}

/// One execution.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionJson<'a> {
    id: Option<String>,
    status: &'static str,
    outcome: Option<&'static str>,
    created_at: Time,
    reason: Option<&'static str>,
    fault: Option<&'static str>,
    retryable: Option<bool>,
    message: Option<&'a str>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    waiting_for: Option<&'a str>,
    queue_position: Option<u64>,
    dispatched_at: Option<Time>,
    started_at: Option<Time>,
    cancel_requested_at: Option<Time>,
    finished_at: Option<Time>,
    expires_at: Option<Time>,
    durations: Durations,
    attempts: Vec<AttemptJson<'a>>,
    labels: &'a BTreeMap<String, String>,
    image: &'a str,
    resources: ResourcesJson<'a>,
    timeouts: TimeoutsJson,
    retry: RetryJson,
    priority: i32,
    log: Option<LogJson>,
}

/// How long each clock of the last attempt ran, in seconds; null until it has stopped, or if it never ran.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Durations {
    queue_seconds: Option<f64>,
    start_seconds: Option<f64>,
    run_seconds: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptJson<'a> {
    attempt: u32,
    outcome: Option<&'static str>,
    reason: Option<&'static str>,
    fault: Option<&'static str>,
    retryable: Option<bool>,
    message: Option<&'a str>,
    exit_code: Option<i32>,
    signal: Option<i32>,
    dispatched_at: Option<Time>,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    log: Option<LogJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourcesJson<'a> {
    cpu: &'a str,
    memory: &'a str,
    ephemeral_storage: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimeoutsJson {
    queue_seconds: u32,
    start_seconds: u32,
    run_seconds: u32,
    grace_seconds: u32,
}

#[derive(Serialize)]
struct RetryJson {
    limit: u32,
    on: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LogJson {
    bytes: u64,
    lost_bytes: u64,
    complete: bool,
}

/// What is said of a queued execution for which nothing else is known.
const WAITS_FOR_ITS_TURN: &str = "its turn in the queue";

impl<'a> ExecutionJson<'a> {
    /// The execution as its caller sees it.
    pub fn of(view: &'a View) -> Self {
        let e = &view.execution;
        let ending = e.ending.as_ref();
        let waiting_for = match (&e.waiting, e.status) {
            (Some(waiting), _) => Some(waiting.message.as_str()),
            (None, Status::Queued) => Some(WAITS_FOR_ITS_TURN),
            (None, _) => None,
        };
        Self {
            id: Some(e.id.to_string()),
            status: e.status.as_str(),
            outcome: ending.map(|end| end.outcome().as_str()),
            created_at: Time(e.created_at),
            reason: ending.map(|end| end.reason.as_str()),
            fault: ending
                .and_then(|end| end.reason.fault())
                .map(|f| f.as_str()),
            retryable: ending.map(|end| end.reason.retryable()),
            message: ending.map(|end| end.message.as_str()),
            exit_code: ending.and_then(|end| end.exit_code),
            signal: ending.and_then(|end| end.signal),
            waiting_for,
            queue_position: view.queue_position,
            dispatched_at: e.dispatched_at.map(Time),
            started_at: e.started_at.map(Time),
            cancel_requested_at: e.cancel_requested_at.map(Time),
            finished_at: e.finished_at.map(Time),
            expires_at: e.expires_at().map(Time),
            durations: Durations::of(e),
            attempts: attempts(view),
            labels: &e.labels,
            image: &e.image,
            resources: ResourcesJson {
                cpu: e.resources.cpu.as_str(),
                memory: e.resources.memory.as_str(),
                ephemeral_storage: e.resources.ephemeral_storage.as_ref().map(|q| q.as_str()),
            },
            timeouts: e.timeouts.into(),
            retry: RetryJson {
                limit: e.retry.limit,
                on: e.retry.outcomes().iter().map(|o| o.as_str()).collect(),
            },
            priority: e.priority,
            log: e.log.map(Into::into),
        }
    }
}

impl<'a> ExecutionJson<'a> {
    /// The same of what was only tried out: it is nowhere, so it has no id and waits for nothing.
    pub fn tried(view: &'a View) -> Self {
        Self {
            id: None,
            waiting_for: None,
            ..Self::of(view)
        }
    }
}

/// All attempts, the one under way too once it was decided to create its Job.
fn attempts(view: &View) -> Vec<AttemptJson<'_>> {
    let earlier = view.earlier.iter().map(AttemptJson::of_record);
    let current = view.execution.dispatched_at.map(|_| {
        let e = &view.execution;
        AttemptJson {
            attempt: e.attempt,
            dispatched_at: e.dispatched_at.map(Time),
            started_at: e.started_at.map(Time),
            finished_at: e.finished_at.map(Time),
            log: e.log.map(Into::into),
            ..AttemptJson::of_ending(e.ending.as_ref())
        }
    });
    earlier.chain(current).collect()
}

impl<'a> AttemptJson<'a> {
    fn of_record(record: &'a AttemptRecord) -> Self {
        Self {
            attempt: record.number,
            dispatched_at: record.dispatched_at.map(Time),
            started_at: record.started_at.map(Time),
            finished_at: record.finished_at.map(Time),
            log: record.log.map(Into::into),
            ..Self::of_ending(record.ending.as_ref())
        }
    }

    /// What an end says of an attempt, and nothing else.
    fn of_ending(ending: Option<&'a Ending>) -> Self {
        Self {
            attempt: 0,
            outcome: ending.map(|end| end.outcome().as_str()),
            reason: ending.map(|end| end.reason.as_str()),
            fault: ending
                .and_then(|end| end.reason.fault())
                .map(|f| f.as_str()),
            retryable: ending.map(|end| end.reason.retryable()),
            message: ending.map(|end| end.message.as_str()),
            exit_code: ending.and_then(|end| end.exit_code),
            signal: ending.and_then(|end| end.signal),
            dispatched_at: None,
            started_at: None,
            finished_at: None,
            log: None,
        }
    }
}

impl Durations {
    fn of(e: &Execution) -> Self {
        let seconds = |from: Option<Timestamp>, to: Option<Timestamp>| {
            let (from, to) = (from?, to?);
            // Whole microseconds of less than 285 years are exact in a double.
            Some((to.as_microsecond() - from.as_microsecond()) as f64 / 1e6)
        };
        Self {
            // A cancel may end it before the attempt is due.
            queue_seconds: seconds(Some(e.due_at), e.dispatched_at.or(e.finished_at))
                .map(|waited| waited.max(0.0)),
            start_seconds: seconds(e.dispatched_at, e.started_at.or(e.finished_at)),
            run_seconds: seconds(e.started_at, e.finished_at),
        }
    }
}

impl From<Timeouts> for TimeoutsJson {
    fn from(t: Timeouts) -> Self {
        Self {
            queue_seconds: t.queue_seconds,
            start_seconds: t.start_seconds,
            run_seconds: t.run_seconds,
            grace_seconds: t.grace_seconds,
        }
    }
}

impl From<LogSummary> for LogJson {
    fn from(log: LogSummary) -> Self {
        Self {
            bytes: log.bytes,
            lost_bytes: log.lost_bytes,
            complete: log.complete,
        }
    }
}

/// A page of executions.
#[derive(Serialize)]
pub struct PageJson<'a> {
    /// Newest first.
    pub items: Vec<ExecutionJson<'a>>,
    /// The cursor of the next page, or null on the last.
    pub next: Option<String>,
}

/// The results of a batch.
#[derive(Serialize)]
pub struct BatchJson<'a> {
    /// In the batch's order; null for one that was deleted since, where the batch is a replay.
    pub executions: Vec<Option<ExecutionJson<'a>>>,
}

/// The weak entity tag of what [`ExecutionJson`] shows: the generation, and the one thing that moves without it.
pub fn entity_tag(view: &View) -> String {
    match view.queue_position {
        Some(position) => format!("W/\"{}-{position}\"", view.execution.generation),
        None => format!("W/\"{}\"", view.execution.generation),
    }
}
