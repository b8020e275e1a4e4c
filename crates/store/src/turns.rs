//! What must be said to many writers at once. SQLite has one writer at a time, so nothing here is needed there.
//!
//! On PostgreSQL each statement sees what was committed before it began. What is counted first and added to then, such as
//! what runs, needs a lock that is taken by a statement of its own, before, and lasts until the commit.

use domain::ExecutionId;

use crate::ExecutionStore;
use crate::sql::{Builder, Dialect, Sql, Statement};

/// The lock of whoever may add to what runs. Its second number is that of the table, so that several schemas of one database,
/// each with an Executor of its own, do not wait for each other. The first is "exec" in ASCII.
const TURN: &str = "1702389091, 'executions'::regclass::oid::int4";

impl<S: Sql> ExecutionStore<S> {
    pub(crate) fn where_many_write(&self) -> bool {
        self.sql().dialect() == Dialect::Postgres
    }

    /// Waits until nobody else may add to what runs, and keeps it so until the commit.
    pub(crate) fn wait_for_turn(&self) -> Option<Statement> {
        self.where_many_write().then(|| {
            // As text, since drivers know no value of the type void.
            self.build(&format!("SELECT pg_advisory_xact_lock({TURN})::TEXT"))
                .statement()
        })
    }

    /// Asks for the same and does not wait: where somebody else has it, the transaction ends here. Otherwise those who come at
    /// once would write one after another, each waiting for the disk.
    pub(crate) fn ask_for_turn(&self) -> Option<Statement> {
        self.where_many_write().then(|| {
            self.build(&format!("SELECT 1 WHERE pg_try_advisory_xact_lock({TURN})"))
                .must_change()
        })
    }

    /// Keeps others from writing or forgetting that execution until the commit.
    pub(crate) fn hold(&self, id: ExecutionId) -> Option<Statement> {
        self.hold_all(&[id.to_string()])
    }

    /// The same for several. All are held in one order, so that no two wait for each other.
    pub(crate) fn hold_all(&self, ids: &[String]) -> Option<Statement> {
        self.where_many_write().then(|| {
            self.build("SELECT id FROM executions WHERE id IN (")
                .commas(ids, |b, id| b.bind(id.as_str()))
                .text(") ORDER BY id FOR UPDATE")
                .statement()
        })
    }
}

impl Builder {
    /// Of the rows that a query gives, those that nobody else is writing; they are the caller's until the commit. Without it
    /// claimers would wait for each other and then find the rows taken.
    pub(crate) fn skip_locked(self) -> Self {
        self.postgres(" FOR UPDATE SKIP LOCKED")
    }
}
