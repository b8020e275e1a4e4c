//! The timeline: written with the step that it tells of, in the same transaction, bounded for each execution.

use domain::timeline::Entry;
use domain::{Execution, ExecutionId};
use jiff::Timestamp;

use crate::rows::{COLUMNS, Reader, execution, micros, readable};
use crate::sql::{Builder, Sql, Statement};
use crate::{ExecutionStore, MAX_ROWS, StoreError};

/// So many different things are told of one execution; later ones only where they are
/// [essential](Entry::is_essential). Repeated ones are counted, so nobody reads to here.
pub const MAX_EVENTS: u32 = 200;

/// A message is cut to so many bytes: what is beyond adds nothing that a person would read, and policies may write any length.
pub const MAX_EVENT_MESSAGE_BYTES: usize = 2 * 1024;

/// The next generation of an execution, and what its timeline says of the step to it.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The next generation.
    pub next: &'a Execution,
    /// New lines of the timeline, in their order.
    pub entries: &'a [Entry],
}

impl<'a> Step<'a> {
    /// A step with what the timeline says of it.
    pub const fn new(next: &'a Execution, entries: &'a [Entry]) -> Self {
        Self { next, entries }
    }
}

impl<'a> From<&'a Execution> for Step<'a> {
    /// A step of which the timeline says nothing.
    fn from(next: &'a Execution) -> Self {
        Self::new(next, &[])
    }
}

/// One line of a timeline as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the timeline, from 1; it never changes.
    pub sequence: u32,
    /// What it tells.
    pub entry: Entry,
}

impl<S: Sql> ExecutionStore<S> {
    /// The timeline of an execution after that number, in its order; at most `limit` and [`MAX_ROWS`].
    pub async fn events(
        &self,
        id: ExecutionId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let statement = self
            .build(
                "SELECT execution_id, sequence, at, last_at, count, kind, source, message \
                 FROM events WHERE execution_id = ",
            )
            .bind(id.to_string())
            .text(" AND sequence > ")
            .bind(after)
            .text(" ORDER BY sequence LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(|row| {
            let mut reader = Reader::new("events", row);
            reader.text("execution_id")?;
            Ok(Event {
                sequence: reader.number("sequence")?,
                entry: Entry {
                    at: reader.time("at")?,
                    last_at: reader.time("last_at")?,
                    count: reader.number("count")?,
                    kind: reader.text("kind")?,
                    source: reader.text("source")?,
                    message: reader.text("message")?,
                    counted_by_cluster: false,
                },
            })
        }))
    }

    /// Adds what the cluster says of an unfinished execution, which changes no generation. Of one that is finished
    /// meanwhile nothing more is told.
    pub async fn add_events(&self, id: ExecutionId, entries: &[Entry]) -> Result<(), StoreError> {
        let unfinished = |b: Builder| {
            b.text("SELECT 1 FROM executions WHERE id = ")
                .bind(id.to_string())
                .text(" AND status <> 'FINISHED'")
        };
        let told = self.event_statements(id, entries, Some(&unfinished));
        if !told.is_empty() {
            // The numbers of a timeline are given by one writer at a time.
            let mut statements: Vec<Statement> = self.hold(id).into_iter().collect();
            statements.extend(told);
            self.transaction(&statements).await?;
        }
        Ok(())
    }

    /// The executions whose Job was asked for before that time, and whose container has not started: the longest
    /// waiting first; at most `limit` and [`MAX_ROWS`].
    pub async fn starting_since(
        &self,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(
                " FROM executions WHERE started_at IS NULL AND dispatched_at IS NOT NULL \
                 AND job_uid IS NOT NULL AND status <> 'FINISHED' AND dispatched_at <= ",
            )
            .bind(micros(before))
            .text(" ORDER BY dispatched_at, id LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(execution))
    }

    /// One statement for each entry, to be run in one transaction after the write that they tell of. With a `guard`, a
    /// query, they do nothing where it finds nothing.
    pub(crate) fn event_statements(
        &self,
        id: ExecutionId,
        entries: &[Entry],
        guard: Option<&dyn Fn(Builder) -> Builder>,
    ) -> Vec<Statement> {
        let statement = |entry| self.event_statement(id, entry, guard);
        entries.iter().map(statement).collect()
    }

    /// Takes the place of the same thing told before, or the next free one as long as there is one.
    fn event_statement(
        &self,
        id: ExecutionId,
        entry: &Entry,
        guard: Option<&dyn Fn(Builder) -> Builder>,
    ) -> Statement {
        let id = id.to_string();
        let message = shortened(&entry.message);
        let places = if entry.is_essential() {
            u32::MAX
        } else {
            MAX_EVENTS
        };
        let mut builder = self
            .build(
                "INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message) \
                 SELECT ",
            )
            .bind(id.as_str())
            .text(", place.sequence, ")
            .bind(micros(entry.at))
            .text(", ")
            .bind(micros(entry.last_at))
            .text(", ")
            .bind(entry.count)
            .text(", ")
            .bind(entry.kind.as_str())
            .text(", ")
            .bind(entry.source.as_str())
            .text(", ")
            .bind(message)
            .text(" FROM (SELECT coalesce((SELECT sequence FROM events WHERE execution_id = ")
            .bind(id.as_str())
            .text(" AND kind = ")
            .bind(entry.kind.as_str())
            .text(" AND source = ")
            .bind(entry.source.as_str())
            .text(" AND message = ")
            .bind(message)
            .text("), (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE execution_id = ")
            .bind(id.as_str())
            .text(")) AS sequence) AS place WHERE place.sequence <= ")
            .bind(places);
        if let Some(guard) = guard {
            builder = guard(builder.text(" AND EXISTS (")).text(")");
        }
        let greatest = builder.dialect().greatest();
        let count = if entry.counted_by_cluster {
            format!("{greatest}(events.count, excluded.count)")
        } else {
            "events.count + excluded.count".to_owned()
        };
        builder
            .text(&format!(
                " ON CONFLICT (execution_id, sequence) DO UPDATE SET \
                 last_at = {greatest}(events.last_at, excluded.last_at), count = {count}"
            ))
            .statement()
    }
}

/// The text up to its limit, cut between two characters.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_EVENT_MESSAGE_BYTES)]
}
