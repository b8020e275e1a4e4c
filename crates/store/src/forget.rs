//! Forgetting finished executions, with all that belongs to them.

use domain::{ExecutionId, Tenant};
use jiff::Timestamp;

use crate::figures::Farewell;
use crate::rows::{Reader, micros};
use crate::sql::{Builder, Sql, Statement};
use crate::{AuditRecord, ExecutionStore, StoreError, Written};

/// The tables with rows of executions, by their column `execution_id`.
const BELONGINGS: [&str; 10] = [
    "payloads",
    "labels",
    "logs",
    "followed_logs",
    "attempts",
    "attempt_logs",
    "events",
    "webhooks",
    "deliveries",
    "delivery_attempts",
];

/// When a finished record may be forgotten. The text is that of an index.
const EXPIRES_AT: &str = "finished_at + ttl_seconds * 1000000";

/// At most this many are forgotten in one transaction: each may have a log of 2 MiB, and others wait to write
/// meanwhile.
pub const MAX_FORGOTTEN: u32 = 32;

impl<S: Sql> ExecutionStore<S> {
    /// Forgets a finished execution of that tenant with all that belongs to it, in one transaction; its idempotency key is free
    /// again. [`Written::Stale`] when it is not finished. Who asked for it is noted with that.
    pub async fn forget(
        &self,
        tenant: &Tenant,
        id: ExecutionId,
        noted: Option<&AuditRecord>,
    ) -> Result<Written, StoreError> {
        // It never becomes another's, so what is asked first still holds then.
        if self.get_of(tenant, id).await?.is_none() {
            return Ok(Written::Missing);
        }
        let ids = [id.to_string()];
        let forgotten = self.forget_all(&ids, Farewell::Deleted, noted).await?;
        self.written(id, forgotten > 0).await
    }

    /// Forgets finished executions that have been kept for as long as they were to be at `now`, the longest
    /// expired first, in one transaction; at most [`MAX_FORGOTTEN`]. Answers how many. Those whose webhook is still to
    /// be told stay until it is, or is given up: the message is made of the record.
    pub async fn forget_expired(&self, now: Timestamp) -> Result<u32, StoreError> {
        let statement = self
            .build("SELECT id FROM executions WHERE status = 'FINISHED' AND ")
            .text(EXPIRES_AT)
            .text(" <= ")
            .bind(micros(now))
            .text(
                " AND NOT EXISTS (SELECT 1 FROM deliveries \
                 WHERE execution_id = executions.id AND next_at IS NOT NULL)",
            )
            .text(" ORDER BY ")
            .text(EXPIRES_AT)
            .text(", id LIMIT ")
            .bind(MAX_FORGOTTEN)
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        let ids = rows.map(|row| Reader::new("executions", row).text("id"));
        let ids: Vec<String> = ids.collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        self.forget_all(&ids, Farewell::Expired, None).await
    }

    async fn forget_all(
        &self,
        ids: &[String],
        farewell: Farewell,
        noted: Option<&AuditRecord>,
    ) -> Result<u32, StoreError> {
        let mut statements: Vec<Statement> = self.hold_all(ids).into_iter().collect();
        // First, while they are still there; undone with the rest when there is nothing to delete.
        statements.push(self.count_forgotten(ids, farewell));
        let deleted_at = statements.len();
        statements.push(
            self.build("DELETE FROM executions WHERE id IN (")
                .ids(ids)
                .text(") AND status = 'FINISHED' RETURNING id")
                .must_change(),
        );
        statements.extend(BELONGINGS.iter().map(|table| {
            self.build("DELETE FROM ")
                .text(table)
                .text(" WHERE execution_id IN (")
                .ids(ids)
                // What is not finished stays whole.
                .text(") AND execution_id NOT IN (SELECT id FROM executions WHERE id IN (")
                .ids(ids)
                .text("))")
                .statement()
        }));
        // The transaction has ended where nothing was deleted.
        let noted = noted.map(|record| self.note(record));
        statements.extend(noted.map(|note| note.text("true").statement()));
        let answers = self.transaction(&statements).await?.unwrap_or_default();
        let forgotten = answers
            .get(deleted_at)
            .map_or(0, |answer| answer.rows.len());
        Ok(u32::try_from(forgotten).unwrap_or(u32::MAX))
    }
}

impl Builder {
    fn ids(self, ids: &[String]) -> Self {
        self.commas(ids, |b, id| b.bind(id.as_str()))
    }
}
