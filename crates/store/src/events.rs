//! The timeline: written with the step that it tells of, in the same transaction, bounded for each execution.

use domain::timeline::{self, Entry};
use domain::{Execution, ExecutionId, Observation};
use jiff::Timestamp;

use crate::group::key;
use crate::rows::{COLUMNS, Reader, execution, micros, readable};
use crate::sql::{Builder, Dialect, Sql, Statement, Value};
use crate::{AuditRecord, ExecutionStore, MAX_ROWS, StoreError};

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
    /// The record of who asked for it, if somebody did.
    pub noted: Option<&'a AuditRecord>,
}

impl<'a> Step<'a> {
    /// A step with what the timeline says of it.
    pub const fn new(next: &'a Execution, entries: &'a [Entry]) -> Self {
        Self {
            next,
            entries,
            noted: None,
        }
    }

    /// The same as asked for by the caller of that record.
    pub const fn noted(self, record: &'a AuditRecord) -> Self {
        Self {
            noted: Some(record),
            ..self
        }
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

/// The dispatch that a row of `given` tells of has come about.
const IS_DISPATCHED: &str = "EXISTS (SELECT 1 FROM executions WHERE executions.id = given.column1 \
     AND executions.generation = given.column2 + 1 AND executions.dispatched_at = given.column4)";

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
            b.text("EXISTS (SELECT 1 FROM executions WHERE id = ")
                .bind(id.to_string())
                .text(" AND status <> 'FINISHED')")
        };
        let told = entries
            .iter()
            .map(|entry| self.event(id, entry, &[], &unfinished).statement());
        if !entries.is_empty() {
            // The numbers of a timeline are given by one writer at a time.
            let mut statements: Vec<Statement> = self.hold(id).into_iter().collect();
            statements.extend(told);
            self.transaction(&statements).await?;
        }
        Ok(())
    }

    /// The executions whose container has not started, and whose Job was asked for in one of those spans, each from after its first
    /// time up to its second, which do not overlap: the longest waiting first; at most `limit` and [`MAX_ROWS`] of them, whichever.
    /// Reads no others.
    pub async fn starting_since(
        &self,
        spans: &[(Timestamp, Timestamp)],
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM ")
            .rows(
                "spans",
                spans
                    .iter()
                    .map(|(after, until)| vec![micros(*after).into(), micros(*until).into()])
                    .collect(),
            )
            // A search of the index for each span: SQLite keeps the order of what CROSS JOIN joins, and PostgreSQL, which does not,
            // looks for the rows of each in their order.
            .text(" CROSS JOIN ")
            .postgres("LATERAL (SELECT * FROM ")
            .text(
                "executions WHERE started_at IS NULL AND dispatched_at IS NOT NULL AND job_uid IS NOT NULL \
                 AND status <> 'FINISHED' AND dispatched_at > spans.column1 AND dispatched_at <= spans.column2",
            )
            .postgres(" ORDER BY dispatched_at, id) AS executions")
            .text(" LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        let mut starting = readable(rows.map(execution))?;
        starting.sort_by_key(|execution| (execution.dispatched_at, execution.id));
        Ok(starting)
    }

    /// What the timeline says of a write that these belong to, as parts of it.
    pub(crate) fn told_with(&self, id: ExecutionId, entries: &[Entry]) -> Vec<Builder> {
        let told = entries.iter().enumerate().map(|(index, entry)| {
            // The parts of one statement do not see each other's rows; the statements of a transaction do.
            let unseen = match self.sql().dialect() {
                Dialect::Sqlite => &[],
                Dialect::Postgres => &entries[..index],
            };
            self.event(id, entry, unseen, &Builder::if_changed)
        });
        told.collect()
    }

    /// What the timelines say of dispatches, of those that came about, each as [`event`](Self::event) tells it: as a part of the write that
    /// tries them. None where nothing is said.
    pub(crate) fn dispatches_told(&self, steps: &[(&Execution, Execution)]) -> Option<Builder> {
        let mut rows: Vec<Vec<Value>> = Vec::new();
        for (before, after) in steps {
            let Some(at) = after.dispatched_at else {
                continue;
            };
            let entries = timeline::steps(before, &Observation::Dispatched, after, at);
            rows.extend(told_rows(after, &entries));
        }
        let came_about = |b: Builder| match b.dialect() {
            Dialect::Sqlite => b.text(IS_DISPATCHED),
            Dialect::Postgres => b.if_given(),
        };
        (!rows.is_empty()).then(|| self.tell_all(rows, came_about))
    }

    /// The lines of several timelines, each as [`event`](Self::event) tells it, where the `condition` holds of its row, as
    /// [`told_rows`] makes them, in the table `given`. None of them is counted by the cluster.
    pub(crate) fn tell_all(
        &self,
        rows: Vec<Vec<Value>>,
        condition: impl Fn(Builder) -> Builder,
    ) -> Builder {
        let builder = self
            .build(
                "INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message) \
                 SELECT place.id, place.sequence, place.at, place.last_at, place.number, place.kind, place.source, \
                 place.message FROM (SELECT given.column1 AS id, given.column4 AS at, given.column5 AS last_at, \
                 given.column6 AS number, given.column7 AS kind, given.column8 AS source, given.column9 AS message, \
                 given.column10 AS places, coalesce((SELECT sequence FROM events WHERE execution_id = given.column1 \
                 AND kind = given.column7 AND source = given.column8 AND message = given.column9), \
                 (SELECT coalesce(max(sequence), 0) FROM events WHERE execution_id = given.column1) + given.column3) \
                 AS sequence FROM ",
            )
            .rows("given", rows)
            .text(" WHERE ");
        condition(builder)
            .text(") AS place WHERE place.sequence <= place.places")
            .or_once_more(false)
    }

    /// Takes the place of the same thing told before, or the next free one as long as there is one, behind those of other
    /// things that are told at the same time and `unseen`. Does nothing without the `condition`.
    ///
    /// The place may be another's meanwhile on PostgreSQL, where that one was first with the lock of the execution. Then it is
    /// a constraint that refuses the line and all that it belongs to: a count must not be NULL.
    pub(crate) fn event(
        &self,
        id: ExecutionId,
        entry: &Entry,
        unseen: &[Entry],
        condition: &dyn Fn(Builder) -> Builder,
    ) -> Builder {
        let id = id.to_string();
        let message = shortened(&entry.message);
        let places = places(entry);
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
            .text(" FROM (SELECT coalesce(")
            .place_of(&id, entry)
            .text(", (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE execution_id = ")
            .bind(id.as_str())
            .text(")");
        for other in unseen {
            builder = builder
                .text(" + (CASE WHEN ")
                .place_of(&id, other)
                .text(" IS NULL THEN 1 ELSE 0 END)");
        }
        builder = builder
            .text(") AS sequence) AS place WHERE place.sequence <= ")
            .bind(places)
            .text(" AND ");
        condition(builder).or_once_more(entry.counted_by_cluster)
    }
}

impl Builder {
    /// Where the place is taken, by the same thing told before, that is counted once more, or as often as the cluster says.
    fn or_once_more(self, counted_by_cluster: bool) -> Self {
        let greatest = self.dialect().greatest();
        let count = if counted_by_cluster {
            format!("{greatest}(events.count, excluded.count)")
        } else {
            "events.count + excluded.count".to_owned()
        };
        self.text(&format!(
            " ON CONFLICT (execution_id, sequence) DO UPDATE SET \
             last_at = {greatest}(events.last_at, excluded.last_at), count = CASE \
             WHEN events.kind = excluded.kind AND events.source = excluded.source \
             AND events.message = excluded.message THEN {count} END"
        ))
    }

    /// The number of the line that tells the same, if there is one.
    fn place_of(self, id: &str, entry: &Entry) -> Self {
        self.text("(SELECT sequence FROM events WHERE execution_id = ")
            .bind(id)
            .text(" AND kind = ")
            .bind(entry.kind.as_str())
            .text(" AND source = ")
            .bind(entry.source.as_str())
            .text(" AND message = ")
            .bind(shortened(&entry.message))
            .text(")")
    }
}

/// The lines of a step as rows for [`tell_all`](ExecutionStore::tell_all): after the [`key`] of the execution their number among them, their
/// times and their count, what they say, and the last place that they may take.
pub(crate) fn told_rows(next: &Execution, entries: &[Entry]) -> Vec<Vec<Value>> {
    let row = |(number, entry): (i64, &Entry)| {
        debug_assert!(!entry.counted_by_cluster, "that is no step's");
        let mut row = key(next);
        row.extend([
            number.into(),
            micros(entry.at).into(),
            micros(entry.last_at).into(),
            entry.count.into(),
            entry.kind.as_str().into(),
            entry.source.as_str().into(),
            shortened(&entry.message).into(),
            places(entry).into(),
        ]);
        row
    };
    (1_i64..).zip(entries).map(row).collect()
}

/// The last place in a timeline that the line may take.
fn places(entry: &Entry) -> u32 {
    if entry.is_essential() {
        u32::MAX
    } else {
        MAX_EVENTS
    }
}

/// The text up to its limit, cut between two characters.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_EVENT_MESSAGE_BYTES)]
}
