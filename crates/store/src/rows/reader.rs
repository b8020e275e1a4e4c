//! Reading rows back, with every doubt an error.

use std::collections::BTreeMap;

use domain::{
    Ending, Execution, ExecutionId, LogSummary, Namespace, Origin, Outcome, Reason, Resources,
    Retry, Status, Submission, Tenant, Timeouts, TraceContext, Waiting, WaitingKind,
};
use jiff::Timestamp;

use crate::sql::Value;
use crate::{StoreError, payload};

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

    /// The execution whose [`COLUMNS`](super::COLUMNS) come next.
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
