//! What is accepted, as it is stored: an execution with all that belongs to it is one row, and one statement stores it.
//!
//! On SQLite that is an INSERT into the view `new_executions`, whose trigger writes the tables; batches are written to these (`batch.rs`).
//! On PostgreSQL it is a call of the function `accept_executions`, which says itself whether a transaction was left open (`sent.rs`).
//! Both are made by `migrations/*/0015_accepting.sql`.

use std::collections::BTreeMap;

use domain::timeline::Entry;
use domain::{Execution, Submission, Tenant};
use jiff::Timestamp;

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
    /// Whether fewer than so many are dispatched is told.
    pub(crate) max_running: u32,
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

    /// The statement that stores those on PostgreSQL, and answers with a generation, how many are before the first, and whether there is room;
    /// with nothing where it stores nothing.
    pub(crate) fn accept(&self, accepted: Accepted<'_>) -> Statement {
        let count = u32::try_from(accepted.rows.len()).unwrap_or(u32::MAX);
        let limits = self.limits(accepted.tenant);
        let (first_key, behind_keys) = accepted.keys.unzip();
        let earlier = accepted.counts_earlier.then_some(MAX_ACCEPTED_POSITION);
        let with = |name: &str| {
            let has = |row: &&Vec<Column>| row.iter().any(|(n, v)| *n == name && *v != Value::Null);
            u32::try_from(accepted.rows.iter().filter(has).count()).unwrap_or(u32::MAX)
        };
        let (labeled, hooked) = (with("label_rows"), with("webhook_url"));
        let dialect = self.sql().dialect();
        let rows = accepted.rows.into_iter();
        let given = array(rows.map(|row| row.into_iter().map(|(_, value)| dialect.fitting(value))));
        let arguments: [Value; 14] = [
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
            accepted.max_running.into(),
            labeled.into(),
            hooked.into(),
        ];
        self.build(
            "SELECT begun, written, stored_generation, earlier, room FROM accept_executions(",
        )
        .commas(arguments, Builder::bind)
        .text(")")
        .must_change()
    }
}

/// Rows as the text of an array of composite values
/// (<https://www.postgresql.org/docs/current/rowtypes.html#ROWTYPES-IO-SYNTAX>, and that of arrays).
fn array(rows: impl Iterator<Item = impl Iterator<Item = Value>>) -> String {
    let mut text = String::from("{");
    for (number, row) in rows.enumerate() {
        text.push_str(if number == 0 { "\"(" } else { ",\"(" });
        for (number, value) in row.enumerate() {
            if number > 0 {
                text.push(',');
            }
            push_value(&mut text, value);
        }
        text.push_str(")\"");
    }
    text.push('}');
    text
}

/// Adds a value as a row within an array has it: nothing at all is NULL.
fn push_value(text: &mut String, value: Value) {
    match value {
        Value::Null => {}
        Value::Integer(number) => text.push_str(&number.to_string()),
        Value::Real(number) => text.push_str(&number.to_string()),
        Value::Blob(bytes) => {
            text.push_str("\\\\\\\\x");
            for byte in bytes {
                text.push_str(&format!("{byte:02x}"));
            }
        }
        Value::Text(value) => {
            text.push_str("\\\"");
            let mut rest = &*value;
            while let Some(at) = rest.find(['"', '\\']) {
                let (before, from) = rest.split_at(at);
                text.push_str(before);
                // The row doubles either, and the array escapes each of the two.
                let doubled = if from.starts_with('"') {
                    "\\\"\\\""
                } else {
                    "\\\\\\\\"
                };
                text.push_str(doubled);
                rest = &from[1..];
            }
            text.push_str(rest);
            text.push_str("\\\"");
        }
    }
}

#[cfg(test)]
mod tests {
    //! The form of what is given; that PostgreSQL reads it as it was meant, the contract holds on a real server.
    use domain::{ExecutionId, Resources, Retry, Timeouts};

    use super::*;
    use crate::sql::{Dialect, Rows, SqlError};

    /// A PostgreSQL that nothing is sent to.
    struct Nowhere;

    impl Sql for Nowhere {
        fn dialect(&self) -> Dialect {
            Dialect::Postgres
        }

        async fn query(&self, _: Statement) -> Result<Rows, SqlError> {
            Err(SqlError::Unavailable(String::new()))
        }

        async fn transaction(&self, _: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
            Err(SqlError::Unavailable(String::new()))
        }
    }

    fn submission() -> Submission {
        Submission {
            script: "true".to_owned(),
            interpreter: None,
            args: Vec::new(),
            image: "busybox".to_owned(),
            resources: Resources {
                cpu: "1".parse().expect("a quantity"),
                memory: "1Mi".parse().expect("a quantity"),
                ephemeral_storage: None,
            },
            env: BTreeMap::new(),
            files: BTreeMap::new(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            priority: 0,
            labels: BTreeMap::new(),
            ttl_seconds: 1,
            webhook: None,
            digest: String::new(),
        }
    }

    #[test]
    fn a_row_has_what_the_type_has_in_its_order() {
        let made = include_str!("../migrations/postgres/0015_accepting.sql");
        let (_, made) = made
            .split_once("CREATE TYPE new_execution AS (")
            .expect("a type");
        let (made, _) = made.split_once(");").expect("its end");
        let names = made.split(',').map(|one| one.split_whitespace().next());
        let names: Vec<&str> = names.map(|name| name.expect("a name")).collect();
        let (now, submission) = (Timestamp::UNIX_EPOCH, submission());
        let id = ExecutionId::new(now, [0; 10]);
        let execution = Execution::accepted(id, now, &Tenant::default(), &submission);
        let row = ExecutionStore::new(Nowhere).whole_row(&execution, &submission, "", None);
        let given: Vec<&str> = row.iter().map(|(name, _)| *name).collect();
        assert_eq!(given, names);
    }

    #[test]
    fn rows_are_written_as_an_array_of_composite_values() {
        let rows = [
            vec![Value::Null, Value::Integer(-7), Value::Text(String::new())],
            vec![Value::Text(r#"a,"b"\(NULL)"#.to_owned())],
        ];
        let text = array(rows.into_iter().map(Vec::into_iter));
        assert_eq!(text, r#"{"(,-7,\"\")","(\"a,\"\"b\"\"\\\\(NULL)\")"}"#);
    }
}
