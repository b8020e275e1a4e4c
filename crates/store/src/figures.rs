//! Figures for operators: counters that are written with what they count, and gauges that are read from indexes.

use domain::{Execution, Reason};
use jiff::Timestamp;

use crate::rows::Reader;
use crate::sql::{Builder, Dialect, Sql, Statement};
use crate::{Claim, ExecutionStore, Settled, StoreError, StoredLog};

/// At most this many rows are counted for one gauge: counting reads as many index entries, and somebody asks every few
/// seconds. A gauge at this value means "so many or more".
pub const MAX_COUNTED: u32 = 100_000;

/// The counter of ends, labelled with their reasons.
const FINISHED: &str = "finished";

/// The counter of forgotten records, labelled with the [`Farewell`].
const FORGOTTEN: &str = "forgotten";

/// The counter of Jobs that nobody remembered.
const SWEPT: &str = "swept";

/// The counter of requests that the queue was too full for.
const REFUSED: &str = "refused";

/// The counter of times that a Job was asked for, which triggers keep.
const DISPATCHES: &str = "dispatches";

/// The counter of attempts at webhooks, labelled with what became of the delivery.
const WEBHOOK_ATTEMPTS: &str = "webhook_attempts";

/// What is counted now, in the same table as the counters' own names.
const QUEUED_NOW: &str = "queued";
const RUNNING: &str = "running";
const WAITING: &str = "waiting";
const PLACED: &str = "placed";
const OLDEST: &str = "oldest";
const PENDING: &str = "pending";
const ACCEPTED: &str = "accepted";
const REFUSED_SO_FAR: &str = "refused_so_far";

/// Everything that was ever accepted: what ended, and what has not. Only what has ended is ever deleted.
const COUNT_ACCEPTED: &str =
    "(SELECT coalesce(sum(value), 0) FROM counters WHERE name IN ('finished', 'places'))";

/// The same on PostgreSQL, where the count of what is queued may go back: what came before the sequence counted, and what it has.
const COUNT_ARRIVED: &str = "(SELECT last_value + coalesce((SELECT value FROM counters \
     WHERE name = 'arrived_before' AND label = ''), 0) FROM queue_arrivals)";

/// What the sequence of refusals has counted.
const COUNT_REFUSED: &str =
    "(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM queue_refusals)";

/// What becomes of a delivery after an attempt, as its counter's label.
const SETTLED: [&str; 3] = ["delivered", "again", "failed"];

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
    /// Executions that were ever accepted. On PostgreSQL some more after transactions that failed at their end.
    pub accepted: u64,
    /// Requests that were refused since the queue was full, a batch as one.
    pub refused: u64,
    /// How often a Job was asked for, those again that went back into the queue.
    pub dispatches: u64,
    /// Attempts at webhooks after which a delivery was done, was to be tried again, and was given up.
    pub webhook_attempts: [u64; 3],
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
            (ACCEPTED, _) => self.accepted = count,
            (REFUSED | REFUSED_SO_FAR, _) => self.refused = count,
            (DISPATCHES, _) => self.dispatches = count,
            (WEBHOOK_ATTEMPTS, label) => {
                let settled = SETTLED.iter().position(|known| *known == label);
                if let Some(place) = settled {
                    self.webhook_attempts[place] = count;
                }
            }
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
                b.executions("status = 'QUEUED' AND status <> 'FINISHED'")
            })
            .counted(WAITING, Builder::queued)
            .counted(PLACED, Builder::running)
            .counted(ACCEPTED, Builder::accepted)
            .refused_so_far()
            .gauge(RUNNING, "count(*)", |b| b.executions("status = 'RUNNING' AND status <> 'FINISHED'"))
            .gauge(PENDING, "count(*)", |b| {
                b.text("SELECT 1 FROM deliveries WHERE next_at IS NOT NULL LIMIT ")
                    .bind(MAX_COUNTED)
            })
            .gauge(OLDEST, "created_at", |b| {
                b.text(
                    "SELECT created_at FROM executions WHERE status = 'QUEUED' AND status <> 'FINISHED' \
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

    /// Whether so many more would be too many for the queue; if so, that is counted.
    pub(crate) async fn is_queue_full(&self, more: u32) -> Result<bool, StoreError> {
        let look = match self.sql().dialect() {
            // A write instead of a look: whoever is refused has waited for the one writer already.
            Dialect::Sqlite => self
                .build("INSERT INTO counters (name, label, value) SELECT ")
                .bind(REFUSED)
                .text(", '', 1 WHERE NOT (")
                .queue_takes(more, self.max_queued)
                .text(")")
                .add_to_counter()
                .text(" RETURNING value"),
            // All who are refused at once would wait for each other at a row.
            Dialect::Postgres => self
                .build("SELECT nextval('queue_refusals') WHERE NOT (")
                .queue_takes(more, self.max_queued)
                .text(")"),
        };
        Ok(self.query_row(look.statement()).await?.is_some())
    }

    /// Counts an attempt at a webhook, as long as its delivery is there. It belongs to the transaction that settles it.
    pub(crate) fn count_webhook_attempt(&self, claim: &Claim, settled: Settled) -> Statement {
        let [delivered, again, failed] = SETTLED;
        let label = match settled {
            Settled::Delivered => delivered,
            Settled::Again(_) => again,
            Settled::Failed => failed,
        };
        self.build("INSERT INTO counters (name, label, value) SELECT ")
            .bind(WEBHOOK_ATTEMPTS)
            .text(", ")
            .bind(label)
            .text(", 1 FROM deliveries WHERE execution_id = ")
            .bind(claim.execution_id.to_string())
            .text(" AND number = ")
            .bind(claim.delivery)
            .add_to_counter()
            .statement()
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

    /// The same of several ends, of those that come about.
    pub(crate) fn count_all_finished(&self, ends: &[(&Execution, &StoredLog)]) -> Builder {
        self.build("INSERT INTO counters (name, label, value) SELECT ")
            .bind(FINISHED)
            .text(", given.column3, count(*) FROM ")
            .given(ends, |(finished, _)| {
                let ending = finished.ending.as_ref();
                vec![ending.map(|ending| ending.reason.as_str()).into()]
            })
            .text(" WHERE given.column3 IS NOT NULL AND ")
            .if_given()
            // In one order, so that no two who count at once wait for each other.
            .text(" GROUP BY given.column3 ORDER BY given.column3")
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

    /// How many were ever accepted.
    fn accepted(self) -> Self {
        let count = match self.dialect() {
            Dialect::Sqlite => COUNT_ACCEPTED,
            Dialect::Postgres => COUNT_ARRIVED,
        };
        self.text(count)
    }

    /// One more row where refusals are counted by a sequence.
    fn refused_so_far(self) -> Self {
        match self.dialect() {
            Dialect::Sqlite => self,
            Dialect::Postgres => self.counted(REFUSED_SO_FAR, |b| b.text(COUNT_REFUSED)),
        }
    }

    /// The condition says as well that they are not finished: by that SQLite knows the partial index.
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
