//! Attempts that were followed by another one: stored in the step to the next, read with the execution.

use domain::{AttemptRecord, Execution, ExecutionId, LogSummary};

use crate::rows::{Column, Reader, count, ending_columns, micros, optional_micros};
use crate::sql::{Builder, Sql, Value};
use crate::{ExecutionStore, Step, StoreError, StoredLog, Written};

impl<S: Sql> ExecutionStore<S> {
    /// As [`update`](Self::update) for an execution that goes on with its next attempt, and stores, in the same
    /// write, how the attempt before it `ended`, with its log. It is not claimed before the next one is due.
    pub async fn retry(
        &self,
        step: impl Into<Step<'_>>,
        ended: &Execution,
        log: &StoredLog,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        let set = self
            .set(step.next)
            .text(", not_before = ")
            .bind(micros(step.next.due_at));
        let others = vec![
            self.insert_attempt(ended, log.summary()),
            self.insert_attempt_log(ended, log),
            // What a stop has kept of it before is part of what is stored now.
            self.build("DELETE FROM logs WHERE execution_id = ")
                .bind(ended.id.to_string())
                .text(" AND ")
                .if_changed(),
            self.forget_followed(ended.id),
        ];
        self.write(set, &step, others).await
    }

    fn insert_attempt(&self, ended: &Execution, log: LogSummary) -> Builder {
        let mut columns: Vec<Column> = vec![
            ("execution_id", ended.id.to_string().into()),
            ("number", ended.attempt.into()),
            ("dispatched_at", optional_micros(ended.dispatched_at)),
            ("started_at", optional_micros(ended.started_at)),
            ("finished_at", optional_micros(ended.finished_at)),
            ("log_bytes", count(log.bytes).into()),
            ("log_lost_bytes", count(log.lost_bytes).into()),
            ("log_complete", log.complete.into()),
        ];
        columns.extend(ending_columns(ended));
        self.insert_rows("attempts", vec![columns]).if_changed()
    }

    fn insert_attempt_log(&self, ended: &Execution, log: &StoredLog) -> Builder {
        let columns: Vec<Column> = vec![
            ("execution_id", ended.id.to_string().into()),
            ("number", ended.attempt.into()),
            ("head", log.head.clone().into()),
            ("tail", log.tail.clone().into()),
        ];
        self.insert_rows("attempt_logs", vec![columns]).if_changed()
    }

    /// The attempts of those executions that were followed by another one, by execution and number. Their sizes are small: at
    /// most as many as there can be retries, for each of at most a page of executions.
    pub async fn earlier_attempts(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<(ExecutionId, AttemptRecord)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let statement = self
            .build(
                "SELECT execution_id, number, dispatched_at, started_at, finished_at, outcome, reason, message, \
                 exit_code, signal, log_bytes, log_lost_bytes, log_complete \
                 FROM attempts WHERE execution_id IN (",
            )
            .commas(ids, |b, id| b.bind(id.to_string()))
            .text(") ORDER BY execution_id, number")
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        rows.map(|row| {
            let mut reader = Reader::new("attempts", row);
            let id = reader.text("execution_id")?;
            let id = reader.parsed("execution_id", &id)?;
            let attempt = AttemptRecord {
                number: reader.number("number")?,
                dispatched_at: reader.optional_time("dispatched_at")?,
                started_at: reader.optional_time("started_at")?,
                finished_at: reader.optional_time("finished_at")?,
                ending: reader.ending()?,
                log: reader.log_summary()?,
            };
            Ok((id, attempt))
        })
        .collect()
    }

    /// The kept log of that attempt, whether it is the one that the execution is at or one before it.
    pub async fn attempt_log(
        &self,
        id: ExecutionId,
        attempt: u32,
    ) -> Result<Option<StoredLog>, StoreError> {
        let statement = self
            .build(
                "SELECT id, head, tail, log_bytes, log_lost_bytes, log_complete \
                 FROM logs JOIN executions ON id = execution_id WHERE execution_id = ",
            )
            .bind(id.to_string())
            .text(" AND attempt = ")
            .bind(attempt)
            .text(
                " UNION ALL SELECT execution_id, head, tail, log_bytes, log_lost_bytes, log_complete \
                 FROM attempt_logs JOIN attempts USING (execution_id, number) WHERE execution_id = ",
            )
            .bind(id.to_string())
            .text(" AND number = ")
            .bind(attempt)
            .statement();
        self.query_row(statement).await?.map(stored_log).transpose()
    }
}

/// The row `id, head, tail, log_bytes, log_lost_bytes, log_complete`.
pub(crate) fn stored_log(row: Vec<Value>) -> Result<StoredLog, StoreError> {
    let mut reader = Reader::new("logs", row);
    reader.text("id")?;
    Ok(StoredLog {
        head: reader.blob("head")?,
        tail: reader.blob("tail")?,
        bytes: reader.number("log_bytes")?,
        lost_bytes: reader.number("log_lost_bytes")?,
        complete: reader.integer("log_complete")? != 0,
    })
}
