//! Remembers executions: [`ExecutionStore`] over the small [`Sql`] trait, and its migrations.
//!
//! Every status write compares the generation in the statement that writes, and says whether it
//! [updated](Written::Updated), was stale, or found nothing. Nothing here reads a clock or sleeps.
//!
//! All of an instance's tasks share one connection. A transaction is one call of
//! [`Sql::transaction`], which awaits nothing between `BEGIN` and `COMMIT`, so no other task's
//! statement can get into it.

mod accept;
mod attempts;
mod audit;
mod batch;
mod cancels;
mod claims;
mod events;
mod executions;
mod figures;
mod followed;
mod forget;
mod given;
mod group;
mod insert;
mod lease;
mod list;
mod migrate;
mod namespaces;
mod payload;
mod places;
mod rows;
mod sent;
mod shares;
pub mod sql;
mod tally;
#[cfg(feature = "testing")]
pub mod testing;
mod together;
mod tokens;
mod turns;
mod webhooks;
pub mod wire;

pub use audit::{AuditFilter, AuditRecord, MAX_AUDIT_FORGOTTEN, MAX_REFUSALS_PER_MINUTE};
pub use batch::{BatchKey, InsertedBatch};
pub use claims::{MAX_CLAIMS, MAX_ROWS};
pub use events::{Event, MAX_EVENT_MESSAGE_BYTES, MAX_EVENTS, Step};
pub use executions::{MAX_ACCEPTED_POSITION, MAX_QUEUE_POSITION, StoredLog, Written};
pub use figures::{Figures, MAX_COUNTED};
pub use followed::{FollowedLog, FollowedOf};
pub use forget::MAX_FORGOTTEN;
pub use group::{Change, Landed};
pub use insert::Inserted;
pub use lease::{Lease, LeaseRow, Spent};
pub use list::{Cursor, Filter, Page};
pub use namespaces::Within;
pub use shares::{Limited, Room};
pub use sql::{Dialect, POSTGRES_OPTIONS, Rows, Sql, SqlError, Statement, Value, run_in_turn};
pub use tally::{BUCKETS, Measure, Tally, Timing};
pub use tokens::TokenRow;
pub use webhooks::{
    Attempt, Claim, Delivery, DeliveryState, MAX_DELIVERIES, MAX_DELIVERY_CLAIMS, Redelivered,
    Settled,
};

use std::cell::Cell;
use std::collections::BTreeMap;

use domain::{Limits, Tenant};

/// How often a statement is tried again at once when the database is busy. Each try has already
/// waited for the lock as long as the host's busy timeout says (Spin: 5 s), so more would only let
/// callers hang.
const BUSY_RETRIES: u32 = 2;

/// Why the store could not answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do it.
    #[error("the store's database failed")]
    Sql(#[from] SqlError),
    /// What is stored cannot be understood, e.g. a status that this version does not know.
    #[error("the store holds something unreadable: {place}: {problem}")]
    Corrupt {
        /// Table, row and column.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later with nothing changed in the program: the database is
    /// busy, out of reach or out of space.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Sql(error) => matches!(
                error,
                SqlError::Busy(_) | SqlError::Unavailable(_) | SqlError::Full(_)
            ),
            Self::Corrupt { .. } => false,
        }
    }
}

/// Executions and what belongs to them, in a database.
pub struct ExecutionStore<S: Sql> {
    sql: S,
    /// The most that may wait; none refuses nobody.
    max_queued: Option<u32>,
    /// What tenants may have, of whom that is said.
    tenants: BTreeMap<Tenant, Limits>,
    /// How many statements were sent.
    statements: Cell<u64>,
}

impl<S: Sql> ExecutionStore<S> {
    /// A store over that connection. A schema that lacks what a statement needs is brought up to date, and so it is before anything new is
    /// stored; whoever changes what is there calls [`migrate`](Self::migrate) first.
    pub const fn new(sql: S) -> Self {
        Self {
            sql,
            max_queued: None,
            tenants: BTreeMap::new(),
            statements: Cell::new(0),
        }
    }

    /// The same with a queue that takes so many and no more. On PostgreSQL those who come at once may be a few more.
    pub fn with_max_queued(self, most: u32) -> Self {
        let max_queued = Some(most);
        Self { max_queued, ..self }
    }

    /// The same with limits of tenants: how many run, wait and come in a minute. Tenants who are not named have none.
    pub fn with_tenants(self, tenants: BTreeMap<Tenant, Limits>) -> Self {
        Self { tenants, ..self }
    }

    /// The connection.
    pub const fn sql(&self) -> &S {
        &self.sql
    }

    /// How many statements this instance has sent, those counted that were tried again.
    pub fn statements(&self) -> u64 {
        self.statements.get()
    }

    fn count_statements(&self, sent: usize) {
        let before = self.statements.get();
        self.statements
            .set(before.saturating_add(u64::try_from(sent).unwrap_or(u64::MAX)));
    }

    fn build(&self, text: &str) -> sql::Builder {
        sql::Builder::new(self.sql.dialect()).text(text)
    }

    /// One statement; run again when the schema was an older one, since then it surely did nothing.
    async fn query(&self, statement: Statement) -> Result<Rows, StoreError> {
        match self.query_as_it_is(&statement).await {
            Err(StoreError::Sql(SqlError::Schema(_))) => {
                self.migrate().await?;
                self.query_as_it_is(&statement).await
            }
            other => other,
        }
    }

    /// One statement on the schema that is there; tried again when busy, since then it surely did nothing.
    async fn query_as_it_is(&self, statement: &Statement) -> Result<Rows, StoreError> {
        for _ in 0..BUSY_RETRIES {
            self.count_statements(1);
            match self.sql.query(statement.clone()).await {
                Err(SqlError::Busy(_)) => {}
                other => return Ok(other?),
            }
        }
        self.count_statements(1);
        Ok(self.sql.query(statement.clone()).await?)
    }

    /// The first row of a statement's answer, if it has one.
    async fn query_row(&self, statement: Statement) -> Result<Option<Vec<Value>>, StoreError> {
        Ok(self.query(statement).await?.rows.into_iter().next())
    }

    /// One transaction; run again when the schema was an older one, since then it was surely rolled back.
    async fn transaction(&self, statements: &[Statement]) -> Result<Option<Vec<Rows>>, StoreError> {
        match self.transaction_as_it_is(statements).await {
            Err(StoreError::Sql(SqlError::Schema(_))) => {
                self.migrate().await?;
                self.transaction_as_it_is(statements).await
            }
            other => other,
        }
    }

    /// One transaction on the schema that is there; tried again when busy, since then it was surely rolled back.
    async fn transaction_as_it_is(
        &self,
        statements: &[Statement],
    ) -> Result<Option<Vec<Rows>>, StoreError> {
        for _ in 0..BUSY_RETRIES {
            self.count_statements(statements.len());
            match self.sql.transaction(statements.to_vec()).await {
                Err(SqlError::Busy(_)) => {}
                other => return Ok(other?),
            }
        }
        self.count_statements(statements.len());
        Ok(self.sql.transaction(statements.to_vec()).await?)
    }
}
