//! Executions as rows: the columns, writing them, and reading them back with every doubt an error.

use std::collections::BTreeMap;

use domain::{
    Ending, Execution, ExecutionId, LogSummary, Namespace, Origin, Outcome, Quantity, Reason,
    Resources, Retry, Status, Submission, Tenant, Timeouts, TraceContext, Waiting, WaitingKind,
};
use jiff::Timestamp;

use crate::sql::Value;
use crate::{StoreError, payload};

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

/// Takes the values of one row in order, each as what it must be.
pub(crate) struct Reader {
    table: &'static str,
    row: String,
    values: std::vec::IntoIter<Value>,
}

impl Reader {
    pub(crate) fn new(table: &'static str, values: Vec<Value>) -> Self {
        // The id comes first in every table that has one; it names the row in errors.
        let row = match values.first() {
            Some(Value::Text(id)) => id.clone(),
            _ => String::new(),
        };
        Self {
            table,
            row,
            values: values.into_iter(),
        }
    }

    pub(crate) fn corrupt(&self, column: &str, problem: impl Into<String>) -> StoreError {
        let Self { table, row, .. } = self;
        StoreError::Corrupt {
            place: format!("{table}.{column} of \"{row}\""),
            problem: problem.into(),
        }
    }

    fn value(&mut self, column: &str) -> Result<Value, StoreError> {
        self.values
            .next()
            .ok_or_else(|| self.corrupt(column, "the column is missing from the answer"))
    }

    fn missing(&self, column: &str) -> StoreError {
        self.corrupt(column, "it must not be NULL")
    }

    pub(crate) fn optional_integer(&mut self, column: &str) -> Result<Option<i64>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(number)),
            _ => Err(self.corrupt(column, "it is no integer")),
        }
    }

    pub(crate) fn integer(&mut self, column: &str) -> Result<i64, StoreError> {
        self.optional_integer(column)?
            .ok_or_else(|| self.missing(column))
    }

    /// An integer that fits the type asked for.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self, column: &str) -> Result<T, StoreError> {
        let number = self.integer(column)?;
        T::try_from(number).map_err(|_| self.out_of_range(column, number))
    }

    pub(crate) fn optional_number<T: TryFrom<i64>>(
        &mut self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.optional_integer(column)?
            .map(|n| T::try_from(n).map_err(|_| self.out_of_range(column, n)))
            .transpose()
    }

    fn out_of_range(&self, column: &str, number: i64) -> StoreError {
        self.corrupt(column, format!("{number} is out of range"))
    }

    pub(crate) fn optional_text(&mut self, column: &str) -> Result<Option<String>, StoreError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            _ => Err(self.corrupt(column, "it is no text")),
        }
    }

    pub(crate) fn text(&mut self, column: &str) -> Result<String, StoreError> {
        self.optional_text(column)?
            .ok_or_else(|| self.missing(column))
    }

    pub(crate) fn blob(&mut self, column: &str) -> Result<Vec<u8>, StoreError> {
        match self.value(column)? {
            Value::Blob(bytes) => Ok(bytes),
            _ => Err(self.corrupt(column, "it is no blob")),
        }
    }

    pub(crate) fn optional_time(&mut self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        self.optional_integer(column)?
            .map(|n| Timestamp::from_microsecond(n).map_err(|_| self.out_of_range(column, n)))
            .transpose()
    }

    pub(crate) fn time(&mut self, column: &str) -> Result<Timestamp, StoreError> {
        self.optional_time(column)?
            .ok_or_else(|| self.missing(column))
    }

    /// Text that must be one of a closed set.
    pub(crate) fn name<T>(
        &self,
        column: &str,
        text: &str,
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, StoreError> {
        find(text).ok_or_else(|| self.corrupt(column, format!("\"{text}\" is not known here")))
    }

    pub(crate) fn parsed<T: std::str::FromStr>(
        &self,
        column: &str,
        text: &str,
    ) -> Result<T, StoreError>
    where
        T::Err: std::fmt::Display,
    {
        text.parse()
            .map_err(|e: T::Err| self.corrupt(column, format!("\"{text}\": {e}")))
    }

    /// The execution whose [`COLUMNS`] come next.
    pub(crate) fn execution(&mut self) -> Result<Execution, StoreError> {
        let mut execution = self.first_columns()?;
        execution.attempt = self.number("attempt")?;
        if execution.attempt > 1 {
            execution.due_at = self.time("due_at")?;
        } else {
            self.value("due_at")?;
        }
        execution.retry = self.retry()?;
        execution.creation_in_doubt = self.number::<i64>("creation_in_doubt")? != 0;
        execution.tenant = self.tenant()?;
        execution.namespace = self.namespace()?;
        let trace = self.optional_text("traceparent")?;
        execution.trace = trace.as_deref().and_then(TraceContext::parse);
        let origin = self.origin()?;
        execution.origin = origin.actor.is_some().then(|| Box::new(origin));
        Ok(execution)
    }

    /// Who it was, by what name, and from where.
    pub(crate) fn origin(&mut self) -> Result<Origin, StoreError> {
        Ok(Origin {
            actor: self.optional_text("created_by")?,
            name: self.optional_text("created_by_name")?,
            // An address that cannot be read tells nothing, and must not keep the execution from being worked on.
            address: self
                .optional_text("created_from")?
                .and_then(|text| text.parse().ok()),
        })
    }

    pub(crate) fn tenant(&mut self) -> Result<Tenant, StoreError> {
        let name = self.text("tenant")?;
        let tenant = name.parse();
        tenant.map_err(|_| self.corrupt("tenant", format!("\"{name}\" is no name of a tenant")))
    }

    /// Where its Jobs run; none for the namespace of all who have none of their own.
    pub(crate) fn namespace(&mut self) -> Result<Option<Namespace>, StoreError> {
        let name = self.optional_text("namespace")?;
        let parsed = name.as_deref().map(str::parse).transpose();
        parsed.map_err(|_| {
            let name = name.unwrap_or_default();
            self.corrupt("namespace", format!("\"{name}\" is no name of a namespace"))
        })
    }

    /// The columns of before there were retries, as of one that has none.
    fn first_columns(&mut self) -> Result<Execution, StoreError> {
        let id_text = self.text("id")?;
        let id: ExecutionId = self.parsed("id", &id_text)?;
        let generation = self.number("generation")?;
        let status_text = self.text("status")?;
        let status = self.name("status", &status_text, Status::from_name)?;
        let created_at = self.time("created_at")?;
        let dispatched_at = self.optional_time("dispatched_at")?;
        let job_uid = self.optional_text("job_uid")?;
        let started_at = self.optional_time("started_at")?;
        let finished_at = self.optional_time("finished_at")?;
        let ending = self.ending()?;
        if ending.is_some() != (status == Status::Finished) {
            return Err(self.corrupt("reason", format!("it does not go with {status_text}")));
        }
        Ok(Execution {
            id,
            tenant: Tenant::default(),
            namespace: None,
            generation,
            status,
            created_at,
            attempt: 1,
            due_at: created_at,
            dispatched_at,
            job_uid,
            creation_in_doubt: false,
            started_at,
            finished_at,
            ending,
            waiting: self.waiting()?,
            image: self.text("image")?,
            resources: self.resources()?,
            timeouts: Timeouts {
                queue_seconds: self.number("queue_seconds")?,
                start_seconds: self.number("start_seconds")?,
                run_seconds: self.number("run_seconds")?,
                grace_seconds: self.number("grace_seconds")?,
            },
            retry: Retry::default(),
            priority: self.priority()?,
            labels: self.labels()?,
            log: self.log_summary()?,
            cancel_requested_at: self.optional_time("cancel_requested_at")?,
            timed_out_at: self.optional_time("timed_out_at")?,
            stopping_since: self.optional_time("stopping_since")?,
            ttl_seconds: self.number("ttl_seconds")?,
            trace: None,
            origin: None,
        })
    }

    /// The submission of that execution, whose `body` comes next.
    pub(crate) fn submission(&mut self, id: ExecutionId) -> Result<Submission, StoreError> {
        payload::decode(&id.to_string(), &self.text("body")?)
    }

    fn retry(&mut self) -> Result<Retry, StoreError> {
        let limit = self.number("retry_limit")?;
        let text = self.text("retry_on")?;
        let names = text.split(',').filter(|name| !name.is_empty());
        let outcomes: Result<Vec<_>, _> = names
            .map(|name| self.name("retry_on", name, Outcome::from_name))
            .collect();
        Ok(Retry::of(limit, &outcomes?))
    }

    pub(crate) fn ending(&mut self) -> Result<Option<Ending>, StoreError> {
        let outcome = self.optional_text("outcome")?;
        let reason = self.optional_text("reason")?;
        let message = self.optional_text("message")?;
        let exit_code = self.optional_number("exit_code")?;
        let signal = self.optional_number("signal")?;
        let Some(reason) = reason else {
            return Ok(None);
        };
        let reason = self.name("reason", &reason, Reason::from_name)?;
        let outcome = outcome.ok_or_else(|| self.missing("outcome"))?;
        if self.name("outcome", &outcome, Outcome::from_name)? != reason.outcome() {
            let problem = format!("{outcome} does not go with {}", reason.as_str());
            return Err(self.corrupt("outcome", problem));
        }
        Ok(Some(Ending {
            reason,
            message: message.ok_or_else(|| self.missing("message"))?,
            exit_code,
            signal,
        }))
    }

    fn waiting(&mut self) -> Result<Option<Waiting>, StoreError> {
        let kind = self.optional_text("waiting_kind")?;
        let message = self.optional_text("waiting_message")?;
        let Some(kind) = kind else {
            return Ok(None);
        };
        Ok(Some(Waiting {
            kind: self.name("waiting_kind", &kind, WaitingKind::from_name)?,
            message: message.ok_or_else(|| self.missing("waiting_message"))?,
        }))
    }

    fn resources(&mut self) -> Result<Resources, StoreError> {
        let cpu = self.text("cpu")?;
        let memory = self.text("memory")?;
        let disk = self.optional_text("ephemeral_storage")?;
        Ok(Resources {
            cpu: self.parsed("cpu", &cpu)?,
            memory: self.parsed("memory", &memory)?,
            ephemeral_storage: disk
                .map(|text| self.parsed("ephemeral_storage", &text))
                .transpose()?,
        })
    }

    fn priority(&mut self) -> Result<i32, StoreError> {
        let rank = self.integer("rank")?;
        let priority = rank.checked_neg().and_then(|n| i32::try_from(n).ok());
        priority.ok_or_else(|| self.out_of_range("rank", rank))
    }

    fn labels(&mut self) -> Result<BTreeMap<String, String>, StoreError> {
        let text = self.text("labels")?;
        serde_json::from_str(&text).map_err(|e| self.corrupt("labels", e.to_string()))
    }

    pub(crate) fn log_summary(&mut self) -> Result<Option<LogSummary>, StoreError> {
        let bytes = self.optional_number("log_bytes")?;
        let lost_bytes = self.optional_number("log_lost_bytes")?;
        let complete = self.optional_integer("log_complete")?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        Ok(Some(LogSummary {
            bytes,
            lost_bytes: lost_bytes.ok_or_else(|| self.missing("log_lost_bytes"))?,
            complete: complete.ok_or_else(|| self.missing("log_complete"))? != 0,
        }))
    }
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
