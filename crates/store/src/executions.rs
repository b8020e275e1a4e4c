//! One execution: read, compare-and-set, finish with its log.

use domain::{Execution, ExecutionId, LogSummary, Status, Submission, Tenant};
use jiff::Timestamp;

use crate::attempts::stored_log;
use crate::places::READY;
use crate::rows::{
    COLUMNS, Column, Reader, changing_columns, count, execution, micros, rank, readable,
};
use crate::sql::{Builder, Sql, SqlError};
use crate::{ExecutionStore, MAX_ROWS, Step, StoreError};

/// A place in the queue beyond this is not counted: the count reads as many index entries.
pub const MAX_QUEUE_POSITION: u32 = 1_000;

/// The same when it is accepted, and then it is not counted at all where more wait: behind a long queue that would cost a quarter of what
/// storing it does.
pub const MAX_ACCEPTED_POSITION: u32 = 100;

/// How often a write is tried again whose line of the timeline another writer's took the place of. Each time one more line is
/// there, and what the cluster says of a start is told by few.
const TOLD_TRIES: u32 = 8;

/// What became of a compare-and-set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Written {
    /// It is stored.
    Updated,
    /// Another generation is stored, or it is finished: read it again.
    Stale,
    /// There is no such execution.
    Missing,
}

/// The kept log of a finished execution. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredLog {
    /// Its beginning.
    pub head: Vec<u8>,
    /// Its end, where the beginning is not all of it; what is between is lost.
    pub tail: Vec<u8>,
    /// How many bytes the script wrote, as far as is known.
    pub bytes: u64,
    /// How many of them are not kept.
    pub lost_bytes: u64,
    /// Whether nothing is missing, and that is known.
    pub complete: bool,
}

impl StoredLog {
    /// What the execution says of it.
    pub const fn summary(&self) -> LogSummary {
        LogSummary {
            bytes: self.bytes,
            lost_bytes: self.lost_bytes,
            complete: self.complete,
        }
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// The execution with that id.
    pub async fn get(&self, id: ExecutionId) -> Result<Option<Execution>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM executions WHERE id = ")
            .bind(id.to_string())
            .statement();
        self.query_row(statement).await?.map(execution).transpose()
    }

    /// Those of the executions with these ids that are there and can be read, in no particular order. At most
    /// [`MAX_ROWS`] ids.
    pub async fn get_many(&self, ids: &[ExecutionId]) -> Result<Vec<Execution>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids = ids.iter().take(MAX_ROWS as usize);
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM executions WHERE id IN (")
            .commas(ids, |b, id| b.bind(id.to_string()))
            .text(")")
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(execution))
    }

    /// The same, if it is that tenant's.
    pub async fn get_of(
        &self,
        tenant: &Tenant,
        id: ExecutionId,
    ) -> Result<Option<Execution>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM executions WHERE id = ")
            .bind(id.to_string())
            .text(" AND tenant = ")
            .bind(tenant.as_str())
            .statement();
        self.query_row(statement).await?.map(execution).transpose()
    }

    /// Its place in the queue of its tenant, counted from 1; none when it is not in the queue, waits for a later attempt, or is further
    /// back than [`MAX_QUEUE_POSITION`]. Those before it that are postponed let it go first, and do not count.
    pub async fn queue_position(&self, execution: &Execution) -> Result<Option<u64>, StoreError> {
        if !execution.is_queued() || execution.attempt > 1 {
            return Ok(None);
        }
        let statement = self
            .build("SELECT ")
            .earlier(execution, MAX_QUEUE_POSITION)
            .statement();
        let row = self.query_row(statement).await?;
        let earlier: u64 = Reader::new("executions", row.unwrap_or_default()).number("count")?;
        Ok(position(earlier, MAX_QUEUE_POSITION))
    }

    /// What was asked for in full.
    pub async fn submission(&self, id: ExecutionId) -> Result<Option<Submission>, StoreError> {
        let statement = self
            .build("SELECT execution_id, body FROM payloads WHERE execution_id = ")
            .bind(id.to_string())
            .statement();
        let Some(row) = self.query_row(statement).await? else {
            return Ok(None);
        };
        let mut reader = Reader::new("payloads", row);
        reader.text("execution_id")?;
        reader.submission(id).map(Some)
    }

    /// Stores the next generation if the one before it is stored now, in one statement.
    ///
    /// A claim ends when the Job's uid is known, or when it is not dispatched any more. What the timeline says of the
    /// step is stored in the same write.
    pub async fn update(&self, step: impl Into<Step<'_>>) -> Result<Written, StoreError> {
        let step = step.into();
        self.write(self.set(step.next), &step, Vec::new()).await
    }

    /// As [`update`](Self::update), and it is not claimed again before `not_before`: for an
    /// execution that goes back to the queue since the API server asks for patience.
    pub async fn postpone(
        &self,
        step: impl Into<Step<'_>>,
        not_before: Timestamp,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        let set = self
            .set(step.next)
            .text(", not_before = ")
            .bind(micros(not_before));
        self.write(set, &step, Vec::new()).await
    }

    /// As [`update`](Self::update) for a finished execution, and stores its log and the delivery to its webhook, and
    /// counts the end, in the same write. The sizes in the execution are those of `log`, whatever `next.log` says.
    pub async fn finish(
        &self,
        step: impl Into<Step<'_>>,
        log: &StoredLog,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        debug_assert_eq!(step.next.status, Status::Finished, "it ends with this");
        let mut others = vec![
            self.log_statement(step.next, log),
            self.forget_followed(step.next.id),
            self.first_delivery(step.next),
        ];
        let ending = step.next.ending.as_ref();
        others.extend(ending.map(|ending| self.count_finished(ending.reason)));
        self.write_with_log(&step, log, others).await
    }

    /// Stores the next generation and its log, over one that was stored before.
    pub(crate) async fn update_with_log(
        &self,
        step: impl Into<Step<'_>>,
        log: &StoredLog,
    ) -> Result<Written, StoreError> {
        let step = step.into();
        let others = vec![self.log_statement(step.next, log)];
        self.write_with_log(&step, log, others).await
    }

    /// Stores the next generation with the sizes of its log, and what else belongs to that.
    async fn write_with_log(
        &self,
        step: &Step<'_>,
        log: &StoredLog,
        others: Vec<Builder>,
    ) -> Result<Written, StoreError> {
        let next = Execution {
            log: Some(log.summary()),
            ..step.next.clone()
        };
        self.write(self.set(&next), step, others).await
    }

    fn log_statement(&self, next: &Execution, log: &StoredLog) -> Builder {
        let columns: Vec<Column> = vec![
            ("execution_id", next.id.to_string().into()),
            ("head", log.head.clone().into()),
            ("tail", log.tail.clone().into()),
        ];
        self.insert_rows("logs", vec![columns]).if_changed().text(
            " ON CONFLICT (execution_id) DO UPDATE SET head = excluded.head, tail = excluded.tail",
        )
    }

    /// The kept log of the attempt that an execution is at, once it is finished, or its Job's deletion is decided.
    pub async fn log(&self, id: ExecutionId) -> Result<Option<StoredLog>, StoreError> {
        let statement = self
            .build(
                "SELECT id, head, tail, log_bytes, log_lost_bytes, log_complete \
                 FROM logs JOIN executions ON id = execution_id WHERE execution_id = ",
            )
            .bind(id.to_string())
            .statement();
        self.query_row(statement).await?.map(stored_log).transpose()
    }

    /// The compare-and-set that `set` begins, and with it, all or nothing, what the timeline says and `others`.
    pub(crate) async fn write(
        &self,
        set: Builder,
        step: &Step<'_>,
        mut others: Vec<Builder>,
    ) -> Result<Written, StoreError> {
        let id = step.next.id;
        others.extend(self.told_with(id, step.entries));
        others.extend(step.noted.map(|record| self.noted(record)));
        let statements = self.together(set.if_generation(step.next), others);
        let mut refused = 0;
        let updated = loop {
            match self.run(&statements).await {
                // Others have told something at the same time, and nothing was written.
                Err(StoreError::Sql(SqlError::Constraint(_)))
                    if self.where_many_write()
                        && !step.entries.is_empty()
                        && refused < TOLD_TRIES =>
                {
                    refused += 1;
                }
                answer => break answer?.is_some(),
            }
        };
        self.written(id, updated).await
    }

    pub(crate) fn set(&self, next: &Execution) -> Builder {
        let unconfirmed = next.is_dispatched() && next.job_uid.is_none();
        self.build("UPDATE executions SET ")
            .commas(changing_columns(next), |b, (name, value)| {
                b.text(name).text(" = ").bind(value)
            })
            .text(if unconfirmed { "" } else { ", claim_until = 0" })
    }

    /// Only when nothing was written, a look at why.
    pub(crate) async fn written(
        &self,
        id: ExecutionId,
        updated: bool,
    ) -> Result<Written, StoreError> {
        if updated {
            return Ok(Written::Updated);
        }
        let statement = self
            .build("SELECT generation FROM executions WHERE id = ")
            .bind(id.to_string())
            .statement();
        let is_there = !self.query(statement).await?.rows.is_empty();
        Ok(if is_there {
            Written::Stale
        } else {
            Written::Missing
        })
    }
}

/// The place behind so many in the queue, as far as they are all counted: up to `most`.
pub(crate) fn position(earlier: u64, most: u32) -> Option<u64> {
    (earlier < u64::from(most)).then_some(earlier + 1)
}

impl Builder {
    /// How many that can be taken now are before that one in the queue, counted up to `most`.
    pub(crate) fn earlier(self, execution: &Execution, most: u32) -> Self {
        self.text("(SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
            .text(READY)
            .text(" AND tenant = ")
            .bind(execution.tenant.as_str())
            .text(" AND (rank, created_at, id) < ")
            .queue_key(execution)
            .text(" LIMIT ")
            .bind(most)
            .text(") AS earlier)")
    }

    /// What the queue goes by, of that one: rank, time and id.
    pub(crate) fn queue_key(self, execution: &Execution) -> Self {
        self.text("(")
            .bind(rank(execution))
            .text(", ")
            .bind(micros(execution.created_at))
            .text(", ")
            .bind(execution.id.to_string())
            .text(")")
    }

    /// The condition of a compare-and-set. What is finished stays as it is, whatever its generation.
    pub(crate) fn if_generation(self, next: &Execution) -> Self {
        let before = next.generation.saturating_sub(1);
        self.text(" WHERE id = ")
            .bind(next.id.to_string())
            .text(" AND generation = ")
            .bind(count(before))
            .text(" AND status <> 'FINISHED' RETURNING generation")
    }
}
