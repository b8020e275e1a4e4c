//! Executions as rows: the columns, and what is written into them.

mod reader;

use std::collections::BTreeMap;

use domain::{Execution, Namespace, Origin, Quantity, Resources, Retry, Timeouts};
use jiff::Timestamp;

use crate::StoreError;
use crate::sql::Value;
pub(crate) use reader::Reader;

/// The columns of an execution, in the order that [`Reader::execution`] takes them.
pub(crate) const COLUMNS: &str = "id, generation, status, created_at, dispatched_at, job_uid, \
     started_at, finished_at, outcome, reason, message, exit_code, signal, waiting_kind, \
     waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds, start_seconds, \
     run_seconds, grace_seconds, rank, labels, log_bytes, log_lost_bytes, log_complete, \
     cancel_requested_at, timed_out_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on, creation_in_doubt, tenant, namespace, traceparent, \
     created_by, created_by_name, created_from";

/// A column's name and the value to write into it.
pub(crate) type Column = (&'static str, Value);

/// Of the [changing columns](changing_columns), those that hold text; the others hold whole numbers.
const TEXTS: [&str; 7] = [
    "status",
    "job_uid",
    "waiting_kind",
    "waiting_message",
    "outcome",
    "reason",
    "message",
];

/// The type of a changing column.
pub(crate) fn sql_type(column: &str) -> &'static str {
    if TEXTS.contains(&column) {
        "TEXT"
    } else {
        "BIGINT"
    }
}

/// A time as it is stored: microseconds since 1970.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond()
}

/// The time as it will be read back: whole microseconds.
pub(crate) fn whole_micros(time: Timestamp) -> Timestamp {
    // Dropping digits of a valid time gives a valid time; the fallback is never taken.
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

pub(crate) fn optional_micros(time: Option<Timestamp>) -> Value {
    time.map(micros).into()
}

/// A count as the database holds it. Counts beyond 2^63 do not occur; they stay at the largest.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The priority as it is stored: turned round, so that the queue's order ascends in each of its columns and a
/// place in it is one comparison of rows.
pub(crate) fn rank(execution: &Execution) -> i64 {
    -i64::from(execution.priority)
}

/// The columns that are written once.
pub(crate) fn fixed_columns(execution: &Execution) -> Vec<Column> {
    let Resources {
        cpu,
        memory,
        ephemeral_storage,
    } = &execution.resources;
    let Timeouts {
        queue_seconds,
        start_seconds,
        run_seconds,
        grace_seconds,
    } = execution.timeouts;
    let disk = ephemeral_storage.as_ref().map(Quantity::as_str);
    let origin = execution.origin.as_deref();
    vec![
        ("id", execution.id.to_string().into()),
        ("tenant", execution.tenant.as_str().into()),
        (
            "namespace",
            execution.namespace.as_ref().map(Namespace::as_str).into(),
        ),
        ("created_at", micros(execution.created_at).into()),
        ("image", execution.image.as_str().into()),
        ("cpu", cpu.as_str().into()),
        ("memory", memory.as_str().into()),
        ("ephemeral_storage", disk.into()),
        ("queue_seconds", queue_seconds.into()),
        ("start_seconds", start_seconds.into()),
        ("run_seconds", run_seconds.into()),
        ("grace_seconds", grace_seconds.into()),
        ("rank", rank(execution).into()),
        ("labels", labels_text(&execution.labels).into()),
        ("ttl_seconds", execution.ttl_seconds.into()),
        ("retry_limit", execution.retry.limit.into()),
        ("retry_on", retry_on_text(execution.retry).into()),
        (
            "traceparent",
            execution.trace.map(|trace| trace.to_string()).into(),
        ),
        ("created_by", origin.and_then(|o| o.actor.as_deref()).into()),
        (
            "created_by_name",
            origin.and_then(|o| o.name.as_deref()).into(),
        ),
        ("created_from", origin.and_then(address_text).into()),
    ]
}

/// The address that somebody came from, as it is stored.
pub(crate) fn address_text(origin: &Origin) -> Option<String> {
    origin.address.map(|address| address.to_string())
}

/// The columns that change with the generation.
pub(crate) fn changing_columns(execution: &Execution) -> Vec<Column> {
    let waiting = execution.waiting.as_ref();
    let log = execution.log;
    let deadline = execution.deadline().map(|(_, at)| at);
    let mut columns = vec![
        ("generation", count(execution.generation).into()),
        ("status", execution.status.as_str().into()),
        ("dispatched_at", optional_micros(execution.dispatched_at)),
        ("job_uid", execution.job_uid.as_deref().into()),
        ("started_at", optional_micros(execution.started_at)),
        ("finished_at", optional_micros(execution.finished_at)),
        ("waiting_kind", waiting.map(|w| w.kind.as_str()).into()),
        (
            "waiting_message",
            waiting.map(|w| w.message.as_str()).into(),
        ),
        ("log_bytes", log.map(|l| count(l.bytes)).into()),
        ("log_lost_bytes", log.map(|l| count(l.lost_bytes)).into()),
        ("log_complete", log.map(|l| l.complete).into()),
        ("deadline_at", optional_micros(deadline)),
        (
            "cancel_requested_at",
            optional_micros(execution.cancel_requested_at),
        ),
        ("timed_out_at", optional_micros(execution.timed_out_at)),
        ("stopping_since", optional_micros(execution.stopping_since)),
        ("attempt", execution.attempt.into()),
        ("due_at", due_at(execution).into()),
    ];
    columns.extend(ending_columns(execution));
    columns
}

/// How it, or its attempt, has ended.
pub(crate) fn ending_columns(execution: &Execution) -> Vec<Column> {
    let ending = execution.ending.as_ref();
    let exit_code = ending.and_then(|e| e.exit_code);
    let signal = ending.and_then(|e| e.signal);
    vec![
        ("outcome", ending.map(|e| e.outcome().as_str()).into()),
        ("reason", ending.map(|e| e.reason.as_str()).into()),
        ("message", ending.map(|e| e.message.as_str()).into()),
        ("exit_code", exit_code.map(i64::from).into()),
        ("signal", signal.map(i64::from).into()),
    ]
}

/// A first attempt has always been due.
fn due_at(execution: &Execution) -> i64 {
    match execution.attempt {
        1 => 0,
        _ => micros(execution.due_at),
    }
}

fn retry_on_text(retry: Retry) -> String {
    let names: Vec<_> = retry.outcomes().iter().map(|o| o.as_str()).collect();
    names.join(",")
}

fn labels_text(labels: &BTreeMap<String, String>) -> String {
    // A map of strings to strings always is JSON.
    serde_json::to_string(labels).unwrap_or_default()
}

/// The row of [`COLUMNS`] as an execution.
pub(crate) fn execution(row: Vec<Value>) -> Result<Execution, StoreError> {
    Reader::new("executions", row).execution()
}

/// Those that could be read; the error when there is nothing else. So one unreadable row, e.g.
/// written by a newer version, never keeps the others from being worked on, and is still told
/// once they are done.
pub(crate) fn readable<T>(
    results: impl IntoIterator<Item = Result<T, StoreError>>,
) -> Result<Vec<T>, StoreError> {
    let mut items = Vec::new();
    let mut first_error = None;
    for result in results {
        match result {
            Ok(item) => items.push(item),
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(error) if items.is_empty() => Err(error),
        _ => Ok(items),
    }
}
