//! What is being ended, canceled or too long at work: taken up by one at a time, and the log that is kept before
//! anything is deleted.

use domain::{Execution, ExecutionId};
use jiff::Timestamp;

use crate::rows::{COLUMNS, execution, micros, readable};
use crate::sql::{Builder, Sql};
use crate::{ExecutionStore, MAX_ROWS, Step, StoreError, StoredLog, Written};

/// To be ended, and not at its end yet. The text is that of a partial index.
const STOPPING: &str =
    "(cancel_requested_at IS NOT NULL OR timed_out_at IS NOT NULL) AND status <> 'FINISHED'";

impl<S: Sql> ExecutionStore<S> {
    /// As [`update`](Self::update) for an execution whose cancel is asked for; the caller has until
    /// `claim_until` to carry it out before [`claim_stops`](Self::claim_stops) gives it to another.
    pub async fn request_cancel(
        &self,
        step: impl Into<Step<'_>>,
        claim_until: Timestamp,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        let set = self
            .set(step.next)
            .text(", cancel_claim_until = ")
            .bind(micros(claim_until));
        self.write(set, &step, Vec::new()).await
    }

    /// As [`update`](Self::update) for an execution whose Job is going to be deleted, and stores its log up to
    /// now in the same transaction, with its sizes: after the deletion there may be none to read.
    pub async fn stop(
        &self,
        step: impl Into<Step<'_>>,
        log: &StoredLog,
    ) -> Result<Written, StoreError> {
        self.update_with_log(step, log).await
    }

    /// Takes what is to be ended and nobody works on at `now`, for the caller until `claim_until`; that does not change the
    /// generation. The longest unclaimed first; at most `limit` and [`MAX_ROWS`].
    pub async fn claim_stops(
        &self,
        now: Timestamp,
        claim_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        // As a rule there is none. A read sees that without waiting for the write lock.
        let look = self
            .build("SELECT 1 FROM executions WHERE ")
            .unclaimed_stop(now)
            // The order leads PostgreSQL to the index, whatever it believes to be there.
            .text(" ORDER BY cancel_claim_until, id LIMIT 1")
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(Vec::new());
        }
        let statement = self
            .build("WITH free (free_id) AS (SELECT id FROM executions WHERE ")
            .unclaimed_stop(now)
            .text(" ORDER BY cancel_claim_until, id LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .skip_locked()
            .text(") UPDATE executions SET cancel_claim_until = ")
            .bind(micros(claim_until))
            .text(" WHERE cancel_claim_until <= ")
            .bind(micros(now))
            .text(" AND id IN (SELECT free_id FROM free) RETURNING ")
            .text(COLUMNS)
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(execution))
    }

    /// Gives one back that was claimed and is not at its end yet, to whoever comes at or after that time.
    pub async fn release_stop(&self, id: ExecutionId, at: Timestamp) -> Result<(), StoreError> {
        let statement = self
            .build("UPDATE executions SET cancel_claim_until = ")
            .bind(micros(at))
            .text(" WHERE id = ")
            .bind(id.to_string())
            .text(" AND ")
            .text(STOPPING)
            .statement();
        self.query(statement).await?;
        Ok(())
    }
}

impl Builder {
    fn unclaimed_stop(self, now: Timestamp) -> Self {
        self.text(STOPPING)
            .text(" AND cancel_claim_until <= ")
            .bind(micros(now))
    }
}
