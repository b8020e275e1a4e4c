//! One execution: insert, read, compare-and-set, finish with its log.

use domain::timeline::{self, Entry};
use domain::transition::Observation;
use domain::{Execution, ExecutionId, LogSummary, Status, Submission, transition};
use jiff::Timestamp;

use crate::attempts::stored_log;
use crate::claims::QUEUED;
use crate::rows::{
    COLUMNS, Column, Reader, changing_columns, count, execution, fixed_columns, micros, rank,
    whole_micros,
};
use crate::sql::{Builder, Sql, SqlError, Statement};
use crate::{ExecutionStore, Step, StoreError, payload};

/// A place in the queue beyond this is not counted: the count reads as many index entries.
pub const MAX_QUEUE_POSITION: u32 = 10_000;

/// How often an insert starts anew when the execution that holds its idempotency key is gone before
/// it can be read. Only deletions between two statements do that.
pub(crate) const INSERT_TRIES: u32 = 3;

/// What became of an insert.
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It is stored.
    New {
        /// As stored: dispatched when there was room, else queued.
        execution: Execution,
    },
    /// Its idempotency key was taken; nothing was changed.
    Existing {
        /// The execution with that key.
        execution: Execution,
        /// Whether it was asked for by the same request, going by the digest.
        same_request: bool,
    },
}

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
    /// Stores a new execution, in one transaction.
    ///
    /// It is dispatched at once when fewer than `max_running` are dispatched and unfinished and
    /// nobody is queued that is due, and, on PostgreSQL, nobody else is just dispatching; then the caller is to create its Job before `claim_until`, after which
    /// [`claim_unconfirmed`](Self::claim_unconfirmed) gives it to somebody else. When the
    /// idempotency key is taken, nothing is stored and the execution that has it is given.
    pub async fn insert(
        &self,
        execution: &Execution,
        submission: &Submission,
        idempotency_key: Option<&str>,
        max_running: u32,
        claim_until: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let created_at = whole_micros(execution.created_at);
        let queued = Execution {
            created_at,
            due_at: created_at,
            ..execution.clone()
        };
        let dispatched = transition(&queued, &Observation::Dispatched, queued.created_at)
            .unwrap_or_else(|| queued.clone());
        let mut once: Vec<Column> = fixed_columns(&queued);
        once.push(("digest", submission.digest.as_str().into()));
        once.push(("idempotency_key", idempotency_key.into()));
        let has_room = |b: Builder| b.room(max_running, queued.created_at);
        let mut statements: Vec<Statement> = self.ask_for_turn(has_room).into_iter().collect();
        let inserted_at = statements.len();
        statements.push(self.insert_row(once, &queued, &dispatched, max_running, claim_until));
        statements.push(self.insert_payload(queued.id, submission));
        if !queued.labels.is_empty() {
            statements.push(self.insert_labels(&queued));
        }
        if let Some(webhook) = &submission.webhook {
            statements.push(self.insert_webhook(queued.id, webhook));
        }
        statements.extend(self.first_events(&queued, &dispatched));
        for _ in 0..INSERT_TRIES {
            if let Some(answers) = self.transaction(&statements).await? {
                let row = answers
                    .into_iter()
                    .nth(inserted_at)
                    .and_then(|a| a.rows.into_iter().next());
                let generation: u64 =
                    Reader::new("executions", row.unwrap_or_default()).number("generation")?;
                let has_room = generation == dispatched.generation;
                let execution = if has_room { dispatched } else { queued };
                return Ok(Inserted::New { execution });
            }
            if let Some(existing) = self.with_key(idempotency_key, &submission.digest).await? {
                return Ok(existing);
            }
        }
        Err(SqlError::Busy("the execution with the idempotency key comes and goes".into()).into())
    }

    /// Writes each column as the one or the other, as there is room or not. The room is found by the
    /// statement that writes, so two inserts never take the same place.
    fn insert_row(
        &self,
        once: Vec<Column>,
        queued: &Execution,
        dispatched: &Execution,
        max_running: u32,
        claim_until: Timestamp,
    ) -> Statement {
        let mut pairs: Vec<_> = once.into_iter().map(|(n, v)| (n, v.clone(), v)).collect();
        let changing = changing_columns(dispatched).into_iter();
        pairs.extend(
            changing
                .zip(changing_columns(queued))
                .map(|((name, with_room), (_, without))| (name, with_room, without)),
        );
        pairs.push(("claim_until", micros(claim_until).into(), 0_i64.into()));
        self.build("WITH room (free) AS (SELECT ")
            .with_turn()
            .room(max_running, queued.created_at)
            .text(") INSERT INTO executions (")
            .commas(&pairs, |b, (name, ..)| b.text(name))
            .text(") SELECT ")
            .commas(&pairs, |b, (_, with_room, without)| {
                if with_room == without {
                    b.bind(without.clone())
                } else {
                    b.text("CASE WHEN free THEN ")
                        .bind(with_room.clone())
                        .text(" ELSE ")
                        .bind(without.clone())
                        .text(" END")
                }
            })
            // Without a WHERE, SQLite would read the ON as one of a join.
            .text(
                " FROM room WHERE true \
                 ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING \
                 RETURNING generation",
            )
            .must_change()
    }

    /// The timeline of a new one: it is accepted, and where there was room, dispatched at once.
    pub(crate) fn first_events(
        &self,
        queued: &Execution,
        dispatched: &Execution,
    ) -> Vec<Statement> {
        let accepted = [Entry::accepted(queued)];
        let mut statements = self.event_statements(queued.id, &accepted, None);
        statements.extend(self.dispatched_events(queued, dispatched));
        statements
    }

    /// What the timeline says of a dispatch, if it came about: run after the statement that tries it.
    pub(crate) fn dispatched_events(
        &self,
        before: &Execution,
        after: &Execution,
    ) -> Vec<Statement> {
        let Some(at) = after.dispatched_at else {
            return Vec::new();
        };
        let entries = timeline::steps(before, &Observation::Dispatched, after, at);
        let came_about = |b: Builder| {
            b.text("SELECT 1 FROM executions WHERE id = ")
                .bind(after.id.to_string())
                .text(" AND generation = ")
                .bind(count(after.generation))
                .text(" AND dispatched_at = ")
                .bind(micros(at))
        };
        self.event_statements(after.id, &entries, Some(&came_about))
    }

    pub(crate) fn insert_payload(&self, id: ExecutionId, submission: &Submission) -> Statement {
        self.build("INSERT INTO payloads (execution_id, body) VALUES (")
            .bind(id.to_string())
            .text(", ")
            .bind(payload::encode(submission))
            .text(")")
            .statement()
    }

    pub(crate) fn insert_labels(&self, execution: &Execution) -> Statement {
        self.build("INSERT INTO labels (execution_id, name, value, execution_created_at) VALUES ")
            .commas(&execution.labels, |b, (name, value)| {
                b.text("(")
                    .bind(execution.id.to_string())
                    .text(", ")
                    .bind(name.as_str())
                    .text(", ")
                    .bind(value.as_str())
                    .text(", ")
                    .bind(micros(execution.created_at))
                    .text(")")
            })
            .statement()
    }

    async fn with_key(
        &self,
        key: Option<&str>,
        digest: &str,
    ) -> Result<Option<Inserted>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(", digest FROM executions WHERE idempotency_key = ")
            .bind(key)
            .statement();
        let Some(row) = self.query_row(statement).await? else {
            return Ok(None);
        };
        let mut reader = Reader::new("executions", row);
        let execution = reader.execution()?;
        let same_request = reader.text("digest")? == digest;
        Ok(Some(Inserted::Existing {
            execution,
            same_request,
        }))
    }

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

    /// Its place in the queue, counted from 1; none when it is not in the queue, waits for a later attempt, or is further
    /// back than [`MAX_QUEUE_POSITION`].
    pub async fn queue_position(&self, execution: &Execution) -> Result<Option<u64>, StoreError> {
        if !execution.is_queued() || execution.attempt > 1 {
            return Ok(None);
        }
        let statement = self
            .build("SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
            .text(QUEUED)
            .text(" AND (rank, created_at, id) < (")
            .bind(rank(execution))
            .text(", ")
            .bind(micros(execution.created_at))
            .text(", ")
            .bind(execution.id.to_string())
            .text(") LIMIT ")
            .bind(MAX_QUEUE_POSITION)
            .text(") AS earlier")
            .statement();
        let row = self.query_row(statement).await?;
        let earlier: u64 = Reader::new("executions", row.unwrap_or_default()).number("count")?;
        Ok((earlier < u64::from(MAX_QUEUE_POSITION)).then_some(earlier + 1))
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
    /// step is stored in the same transaction.
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
    /// counts the end, in the same transaction. The sizes in the execution are those of `log`, whatever `next.log` says.
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
        others: Vec<Statement>,
    ) -> Result<Written, StoreError> {
        let next = Execution {
            log: Some(log.summary()),
            ..step.next.clone()
        };
        self.write(self.set(&next), step, others).await
    }

    fn log_statement(&self, next: &Execution, log: &StoredLog) -> Statement {
        self.build("INSERT INTO logs (execution_id, head, tail) VALUES (")
            .bind(next.id.to_string())
            .text(", ")
            .bind(log.head.clone())
            .text(", ")
            .bind(log.tail.clone())
            .text(
                ") ON CONFLICT (execution_id) \
                 DO UPDATE SET head = excluded.head, tail = excluded.tail",
            )
            .statement()
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
        others: Vec<Statement>,
    ) -> Result<Written, StoreError> {
        let id = step.next.id;
        let set = set.if_generation(step.next);
        let mut rest = self.event_statements(id, step.entries, None);
        rest.extend(others);
        let updated = if rest.is_empty() {
            !self.query(set.statement()).await?.rows.is_empty()
        } else {
            rest.insert(0, set.must_change());
            self.transaction(&rest).await?.is_some()
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

impl Builder {
    /// Whether one more may run, and nobody else is queued and due at that time.
    fn room(self, max_running: u32, now: Timestamp) -> Self {
        self.running(max_running)
            .text(" < ")
            .bind(max_running)
            .text(" AND NOT EXISTS (SELECT 1 FROM executions WHERE ")
            .text(QUEUED)
            // What waits for a later attempt lets others go first until that is due.
            .text(" AND due_at <= ")
            .bind(micros(now))
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
