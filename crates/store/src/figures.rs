//! Figures for operators: counters that are written with what they count, and gauges that are read from indexes.

use domain::Reason;
use jiff::Timestamp;

use crate::rows::Reader;
use crate::sql::{Builder, Sql, Statement};
use crate::{ExecutionStore, StoreError};

/// At most this many rows are counted for one gauge: counting reads as many index entries, and somebody asks every few
/// seconds. A gauge at this value means "so many or more".
pub const MAX_COUNTED: u32 = 100_000;

/// The counter of ends, labelled with their reasons.
const FINISHED: &str = "finished";

/// The counter of forgotten records, labelled with the [`Farewell`].
const FORGOTTEN: &str = "forgotten";

/// The counter of Jobs that nobody remembered.
const SWEPT: &str = "swept";

/// What is counted now, in the same table as the counters' own names.
const QUEUED_NOW: &str = "queued";
const RUNNING: &str = "running";
const WAITING: &str = "waiting";
const PLACED: &str = "placed";
const OLDEST: &str = "oldest";
const PENDING: &str = "pending";

/// Why a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// It had been kept for as long as it was to be.
    Expired,
    /// Its caller deleted it.
    Deleted,
}

impl Farewell {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Deleted => "deleted",
        }
    }
}

/// How things stand, all of one moment. Counters are of the database's whole life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Executions that are QUEUED. At most [`MAX_COUNTED`].
    pub queued: u64,
    /// Executions that are RUNNING. At most [`MAX_COUNTED`].
    pub running: u64,
    /// Executions that wait for a place: no Job of their attempt was asked for yet.
    pub waiting: u64,
    /// Executions that have a place: the Job of their attempt was asked for.
    pub dispatched: u64,
    /// When the oldest of those that are QUEUED was accepted.
    pub oldest_queued_at: Option<Timestamp>,
    /// How many ended for each reason that occurred.
    pub finished: Vec<(Reason, u64)>,
    /// Records that were forgotten since their time was over.
    pub expired: u64,
    /// Records that their callers deleted.
    pub deleted: u64,
    /// Jobs that were deleted since nobody remembered what they were made for.
    pub swept: u64,
    /// Webhook deliveries that are to be tried, for the first time or again. At most [`MAX_COUNTED`].
    pub deliveries_pending: u64,
}

impl Figures {
    /// Finished executions whose record is kept.
    pub fn kept(&self) -> u64 {
        let ended: u64 = self.finished.iter().map(|(_, count)| count).sum();
        ended.saturating_sub(self.expired + self.deleted)
    }

    /// Takes one row. Names and reasons that only a newer version knows are not for this one to tell.
    fn take(&mut self, name: &str, label: &str, value: i64) {
        let count = u64::try_from(value).unwrap_or(0);
        match (name, label) {
            (QUEUED_NOW, _) => self.queued = count,
            (RUNNING, _) => self.running = count,
            (WAITING, _) => self.waiting = count,
            (PLACED, _) => self.dispatched = count,
            (OLDEST, _) => self.oldest_queued_at = Timestamp::from_microsecond(value).ok(),
            (PENDING, _) => self.deliveries_pending = count,
            (SWEPT, _) => self.swept = count,
            (FORGOTTEN, label) if label == Farewell::Expired.as_str() => self.expired = count,
            (FORGOTTEN, label) if label == Farewell::Deleted.as_str() => self.deleted = count,
            (FINISHED, label) => {
                let reason = Reason::from_name(label);
                self.finished.extend(reason.map(|reason| (reason, count)));
            }
            _ => {}
        }
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// How things stand. One statement, so that all of it is of one moment; it reads no table and, of the indexes, the
    /// entries of what is unfinished or pending, up to [`MAX_COUNTED`] of each kind.
    pub async fn figures(&self) -> Result<Figures, StoreError> {
        let statement = self
            .build("SELECT name, label, value FROM counters")
            .gauge(QUEUED_NOW, "count(*)", |b| {
                b.executions("status = 'QUEUED'")
            })
            .counted(WAITING, Builder::queued)
            .counted(PLACED, Builder::running)
            .gauge(RUNNING, "count(*)", |b| b.executions("status = 'RUNNING'"))
            .gauge(PENDING, "count(*)", |b| {
                b.text("SELECT 1 FROM deliveries WHERE next_at IS NOT NULL LIMIT ")
                    .bind(MAX_COUNTED)
            })
            .gauge(OLDEST, "created_at", |b| {
                b.text(
                    "SELECT created_at FROM executions WHERE status = 'QUEUED' \
                     ORDER BY created_at, id LIMIT 1",
                )
            })
            .statement();
        let mut figures = Figures::default();
        for row in self.query(statement).await?.rows {
            let mut reader = Reader::new("counters", row);
            let (name, label) = (reader.text("name")?, reader.text("label")?);
            figures.take(&name, &label, reader.integer("value")?);
        }
        Ok(figures)
    }

    /// Counts a Job that was deleted since nobody remembered what it was made for.
    pub async fn count_swept(&self) -> Result<(), StoreError> {
        let statement = self
            .build("INSERT INTO counters (name, label, value) VALUES (")
            .bind(SWEPT)
            .text(", '', 1)")
            .add_to_counter()
            .statement();
        self.query(statement).await?;
        Ok(())
    }

    /// Counts an end. It belongs to the write that stores the end.
    pub(crate) fn count_finished(&self, reason: Reason) -> Builder {
        self.build("INSERT INTO counters (name, label, value) SELECT ")
            .bind(FINISHED)
            .text(", ")
            .bind(reason.as_str())
            .text(", 1 WHERE ")
            .if_changed()
            .add_to_counter()
    }

    /// Counts those of the ids that are about to be forgotten: run before the statement that deletes them, in its
    /// transaction.
    pub(crate) fn count_forgotten(&self, ids: &[String], farewell: Farewell) -> Statement {
        self.build("INSERT INTO counters (name, label, value) SELECT ")
            .bind(FORGOTTEN)
            .text(", ")
            .bind(farewell.as_str())
            .text(", count(*) FROM executions WHERE id IN (")
            .commas(ids, |b, id| b.bind(id.as_str()))
            .text(") AND status = 'FINISHED'")
            .add_to_counter()
            .statement()
    }
}

impl Builder {
    /// One more row: what the rows that `from` selects come to.
    fn gauge(self, name: &str, value: &str, from: impl FnOnce(Self) -> Self) -> Self {
        let select = self
            .text(" UNION ALL SELECT ")
            .bind(name)
            .text(", '', ")
            .text(value)
            .text(" FROM (");
        from(select).text(") AS rows_of_it")
    }

    /// One more row: a number that is kept.
    fn counted(self, name: &str, number: impl FnOnce(Self) -> Self) -> Self {
        number(self.text(" UNION ALL SELECT ").bind(name).text(", '', "))
    }

    fn executions(self, condition: &str) -> Self {
        self.text("SELECT 1 FROM executions WHERE ")
            .text(condition)
            .text(" LIMIT ")
            .bind(MAX_COUNTED)
    }

    fn add_to_counter(self) -> Self {
        self.text(
            " ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value",
        )
    }
}
