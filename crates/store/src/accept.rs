//! What is accepted, as it is stored: an execution with all that belongs to it is one row, and one statement stores it.
//!
//! On SQLite that is an INSERT into the view `new_executions`, whose trigger writes the tables; batches are written to these (`batch.rs`). On PostgreSQL it is a call of the function
//! `accept_executions`, which says itself whether a transaction was left open (`sent.rs`). Both are made by `migrations/*/0015_accepting.sql`.

use std::collections::BTreeMap;

use domain::timeline::Entry;
use domain::{Execution, Submission, Tenant};
use jiff::Timestamp;
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::payload;
use crate::rows::{Column, changing_columns, fixed_columns, micros};
use crate::sql::{Builder, Sql, Statement, Value};
use crate::{ExecutionStore, MAX_ACCEPTED_POSITION};

/// What is asked of PostgreSQL: all rows or none, of one tenant.
pub(crate) struct Accepted<'a> {
    /// The rows, at least one.
    pub(crate) rows: Vec<Vec<Column>>,
    /// Whose they are.
    pub(crate) tenant: &'a Tenant,
    /// When they were accepted.
    pub(crate) at: Timestamp,
    /// No idempotency key from the first up to the second, it excluded, may be taken.
    pub(crate) keys: Option<(&'a str, String)>,
    /// Whether those before the first in the queue are counted.
    pub(crate) counts_earlier: bool,
}

impl<S: Sql> ExecutionStore<S> {
    /// The row of a new execution, and of what belongs to it and does not change: script, labels, webhook, and that it is accepted.
    pub(crate) fn fixed_row(
        &self,
        execution: &Execution,
        submission: &Submission,
        digest: &str,
        idempotency_key: Option<&str>,
    ) -> Vec<Column> {
        let hook = submission.webhook.as_ref();
        let entry = Entry::accepted(execution);
        let mut row = fixed_columns(execution);
        row.extend([
            ("digest", digest.into()),
            ("idempotency_key", idempotency_key.into()),
            ("body", payload::encode(submission).into()),
            ("label_rows", self.label_rows(execution).into()),
            ("webhook_url", hook.map(|hook| hook.url.as_str()).into()),
            (
                "webhook_secret_ref",
                hook.map(|hook| hook.secret_ref.as_str()).into(),
            ),
            ("event_at", micros(entry.at).into()),
            ("event_last_at", micros(entry.last_at).into()),
            ("event_count", entry.count.into()),
            ("event_kind", entry.kind.as_str().into()),
            ("event_source", entry.source.as_str().into()),
            ("event_message", entry.message.as_str().into()),
        ]);
        row
    }

    /// The whole row of a new execution.
    pub(crate) fn whole_row(
        &self,
        execution: &Execution,
        submission: &Submission,
        digest: &str,
        idempotency_key: Option<&str>,
    ) -> Vec<Column> {
        let mut row = self.fixed_row(execution, submission, digest, idempotency_key);
        row.extend(changing_columns(execution));
        row
    }

    /// The labels as JSON, each as a text that the database can hold; none for none.
    fn label_rows(&self, execution: &Execution) -> Option<String> {
        let held = |text: &str| self.sql().dialect().held(text).into_owned();
        let labels: BTreeMap<String, String> = execution
            .labels
            .iter()
            .map(|(name, value)| (held(name), held(value)))
            .collect();
        // A map of strings to strings always is JSON.
        (!labels.is_empty()).then(|| serde_json::to_string(&labels).unwrap_or_default())
    }

    /// The statement that stores those on PostgreSQL, and answers with a generation and how many are before the first; with nothing where it
    /// stores nothing.
    pub(crate) fn accept(&self, accepted: Accepted<'_>) -> Statement {
        let count = u32::try_from(accepted.rows.len()).unwrap_or(u32::MAX);
        let limits = self.limits(accepted.tenant);
        let (first_key, behind_keys) = accepted.keys.unzip();
        let earlier = accepted.counts_earlier.then_some(MAX_ACCEPTED_POSITION);
        let dialect = self.sql().dialect();
        let fitting = |(name, value)| (name, dialect.fitting(value));
        let rows = accepted.rows.into_iter();
        let rows: Vec<Object> = rows
            .map(|row| Object(row.into_iter().map(fitting).collect()))
            .collect();
        // Names, numbers and texts always are JSON.
        let given = serde_json::to_string(&rows).unwrap_or_default();
        let arguments: [Value; 11] = [
            dialect.newest().into(),
            given.into(),
            count.into(),
            accepted.tenant.as_str().into(),
            self.max_queued.into(),
            limits.queued.into(),
            first_key.into(),
            behind_keys.into(),
            self.rate_cost(accepted.tenant, count).into(),
            micros(accepted.at).into(),
            earlier.into(),
        ];
        self.build("SELECT begun, written, stored_generation, earlier FROM accept_executions(")
            .commas(arguments, Builder::bind)
            .text(")")
            .must_change()
    }
}

/// A row as JSON: what is NULL is left out.
struct Object(Vec<Column>);

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in &self.0 {
            match value {
                Value::Null => {}
                Value::Integer(number) => map.serialize_entry(name, number)?,
                Value::Real(number) => map.serialize_entry(name, number)?,
                Value::Text(text) => map.serialize_entry(name, text)?,
                Value::Blob(bytes) => map.serialize_entry(name, bytes)?,
            }
        }
        map.end()
    }
}
