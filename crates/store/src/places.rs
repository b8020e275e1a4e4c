//! The places that `max_running` gives: who has one, who waits for one, and how many both are without counting them.
//!
//! Triggers keep two counters with each change (`migrations/*/0011_places.sql`). That of the dispatched is exact, also for whoever adds to
//! it: on PostgreSQL only the holder of the turn does, and others only take away. That of the queued is exact on SQLite, and on
//! PostgreSQL as good as it must be to refuse what is too much.

use jiff::Timestamp;

use crate::rows::micros;
use crate::sql::{Builder, Dialect, Sql, Statement};
use crate::{ExecutionStore, StoreError};

/// Counts against the limit of executions running at once. The text is that of a partial index.
pub(crate) const DISPATCHED: &str = "dispatched_at IS NOT NULL AND status <> 'FINISHED'";

/// In the queue, for a first attempt or a later one, and to be taken now. The text is that of a partial index, which is used for just
/// this text.
pub(crate) const READY: &str = "dispatched_at IS NULL AND status <> 'FINISHED' AND not_before = 0";

/// In the queue, and to be taken when its time has come. The text is that of a partial index.
pub(crate) const POSTPONED: &str =
    "dispatched_at IS NULL AND status <> 'FINISHED' AND not_before > 0";

/// Runs in a namespace of its own, or will. The text is that of a partial index.
pub(crate) const ELSEWHERE: &str = "namespace IS NOT NULL AND status <> 'FINISHED'";

/// So many are woken in one statement, so that others can write in between.
const MAX_WOKEN: u32 = 500;

/// The number of unfinished executions that are dispatched.
const COUNT_DISPATCHED: &str =
    "coalesce((SELECT value FROM counters WHERE name = 'places' AND label = 'dispatched'), 0)";

/// The number of those that are queued, ready or postponed; on PostgreSQL less those that the sequence has counted.
const COUNT_QUEUED: &str =
    "coalesce((SELECT value FROM counters WHERE name = 'places' AND label = 'queued'), 0)";

/// How many the sequence has counted.
const ARRIVALS: &str = "(SELECT last_value FROM queue_arrivals)";

impl<S: Sql> ExecutionStore<S> {
    /// Lets those be taken that were postponed until now. What waits longer costs nothing, however much it is.
    pub(crate) async fn wake_postponed(&self, now: Timestamp) -> Result<(), StoreError> {
        // As a rule there is none. A read sees that without waiting for the write lock.
        let look = self
            .build("SELECT 1 FROM executions WHERE ")
            .awake(now)
            // The order leads PostgreSQL to the index, whatever it believes to be there.
            .text(" ORDER BY due_at, not_before LIMIT 1")
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(());
        }
        let statement = self
            .build("WITH awake (awake_id) AS (SELECT id FROM executions WHERE ")
            .awake(now)
            .text(" ORDER BY due_at, not_before LIMIT ")
            .bind(MAX_WOKEN)
            .skip_locked()
            .text(") UPDATE executions SET not_before = 0 WHERE ")
            .awake(now)
            .text(" AND id IN (SELECT awake_id FROM awake)")
            .statement();
        self.query(statement).await?;
        Ok(())
    }

    /// Counts anew what the triggers keep: nothing of ours makes that wrong, but people may, and on PostgreSQL a transaction that
    /// was undone. Reads an index entry for each unfinished execution.
    pub async fn recount(&self) -> Result<(), StoreError> {
        let mut statements = Vec::new();
        if self.sql().dialect() == Dialect::Postgres {
            // Whoever changes one of them waits here until the commit, so that nothing is counted twice or not at all.
            let hold = "SELECT value FROM counters WHERE name = 'places' ORDER BY label FOR UPDATE";
            statements.push(self.build(hold).statement());
        }
        let dispatched = self
            .build("(SELECT count(*) FROM executions WHERE ")
            .text(DISPATCHED)
            .text(")");
        statements.push(self.set_places("dispatched", dispatched));
        let queued = self
            .build("((SELECT count(*) FROM executions WHERE ")
            .text(READY)
            .text(") + (SELECT count(*) FROM executions WHERE ")
            .text(POSTPONED)
            .text(")")
            .postgres(&format!(" - {ARRIVALS}"))
            .text(")");
        statements.push(self.set_places("queued", queued));
        statements.extend(self.recount_tenants());
        self.transaction(&statements).await?;
        Ok(())
    }

    fn set_places(&self, label: &str, count: Builder) -> Statement {
        let count = count.statement().sql;
        // Without a WHERE, SQLite would read the ON as one of a join.
        self.build(&format!(
            "INSERT INTO counters (name, label, value) \
             SELECT 'places', '{label}', number FROM (SELECT {count} AS number) AS found WHERE true \
             ON CONFLICT (name, label) DO UPDATE SET value = excluded.value WHERE counters.value <> excluded.value"
        ))
        .statement()
    }
}

impl Builder {
    /// How many are dispatched and unfinished.
    pub(crate) fn running(self) -> Self {
        self.text(COUNT_DISPATCHED)
    }

    /// How many are in the queue, ready or postponed.
    pub(crate) fn queued(self) -> Self {
        self.text("(")
            .text(COUNT_QUEUED)
            .postgres(&format!(" + {ARRIVALS}"))
            .text(")")
    }

    /// Whether so many more make it no more than that in the queue; always where there is no such limit.
    pub(crate) fn queue_takes(self, more: u32, most: Option<u32>) -> Self {
        match most {
            Some(most) => self.queued().text(" + ").bind(more).text(" <= ").bind(most),
            None => self.text("true"),
        }
    }

    /// Postponed until that time at most. Who was postponed has been due before, so the index leads to it.
    fn awake(self, now: Timestamp) -> Self {
        self.text(POSTPONED)
            .text(" AND due_at <= ")
            .bind(micros(now))
            .text(" AND not_before <= ")
            .bind(micros(now))
    }
}
