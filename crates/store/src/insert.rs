//! Accepting: an execution is stored with all that belongs to it in one write, and dispatched at once where there is room.

use domain::timeline::{self, Entry};
use domain::transition::Observation;
use domain::{Execution, Submission, Tenant, transition};
use jiff::Timestamp;

use crate::accept::Accepted;
use crate::executions::{MAX_ACCEPTED_POSITION, position};
use crate::places::{POSTPONED, READY};
use crate::rows::{COLUMNS, Column, Reader, changing_columns, micros, whole_micros};
use crate::sql::{Builder, Dialect, Rows, Sql, SqlError, Statement, Value};
use crate::{ExecutionStore, Limited, StoreError};

/// How often an insert starts anew when the execution that holds its idempotency key is gone before
/// it can be read. Only deletions between two statements do that.
pub(crate) const INSERT_TRIES: u32 = 3;

/// A caller's idempotency key as its column has it: one for all tenants, so that older programs find the one index that they name. Callers'
/// keys and tenants have no blank in them, so no two tenants' keys are one.
pub(crate) fn scoped(tenant: &Tenant, key: &str) -> String {
    match tenant.as_str() {
        Tenant::DEFAULT => key.to_owned(),
        name => format!(" {name} {key}"),
    }
}

/// What became of an insert.
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It is stored.
    New {
        /// As stored: dispatched when there was room and this database does that in the same write, else queued.
        execution: Execution,
        /// Its place in the queue, as [`queue_position`](ExecutionStore::queue_position) tells it, up to [`MAX_ACCEPTED_POSITION`].
        queue_position: Option<u64>,
        /// Whether there is a next step: its Job to create if it is dispatched, else a place to take that was left, by
        /// [`claim_accepted`](ExecutionStore::claim_accepted). What is left in the queue is for [`claim_queued`](ExecutionStore::claim_queued).
        may_run: bool,
    },
    /// Its idempotency key was taken; nothing was changed.
    Existing {
        /// The execution with that key.
        execution: Execution,
        /// Whether it was asked for by the same request, going by the digest.
        same_request: bool,
    },
    /// As many are queued as may be; nothing was changed.
    QueueFull,
    /// Its tenant has or does as much as it may; nothing was changed.
    Limited(Limited),
}

impl<S: Sql> ExecutionStore<S> {
    /// Whether inserts leave everything in the queue, so that [`claim_accepted`](Self::claim_accepted) is the next step: on PostgreSQL, where
    /// an insert is one statement, and others may have written what such a one has counted.
    pub fn dispatches_apart(&self) -> bool {
        self.where_many_write()
    }

    /// Stores a new execution, in one write.
    ///
    /// Unless the store [dispatches apart](Self::dispatches_apart), it is dispatched at once when fewer than `max_running` are
    /// dispatched and unfinished and nobody who is due is before it in the queue; then the caller is to create its Job before
    /// `claim_until`, after which [`claim_unconfirmed`](Self::claim_unconfirmed) gives it to somebody else. When the
    /// idempotency key is taken, nothing is stored and the execution that has it is given.
    pub async fn insert(
        &self,
        execution: &Execution,
        submission: &Submission,
        idempotency_key: Option<&str>,
        max_running: u32,
        claim_until: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let queued = as_stored(execution);
        let stored_key = idempotency_key.map(|key| scoped(&queued.tenant, key));
        let stored_key = stored_key.as_deref();
        let (tenant, now) = (&queued.tenant, queued.created_at);
        if let Some(limited) = self.limited_at_a_look(tenant, now, 1).await? {
            let existing = self.with_key(stored_key, &submission.digest).await?;
            return Ok(existing.unwrap_or(Inserted::Limited(limited)));
        }
        let at_once = transition(&queued, &Observation::Dispatched, queued.created_at)
            .filter(|_| !self.dispatches_apart());
        let statements = match self.sql().dialect() {
            Dialect::Sqlite => {
                let row = self.fixed_row(&queued, submission, &submission.digest, stored_key);
                let first = match &at_once {
                    Some(dispatched) => {
                        self.insert_with_room(row, &queued, dispatched, max_running, claim_until)
                    }
                    None => {
                        let changing = changing_columns(&queued).into_iter();
                        let row = row.into_iter().chain(changing).collect();
                        self.insert_rows("new_executions", vec![row])
                    }
                };
                self.insert_alone(first, &queued, stored_key)
            }
            Dialect::Postgres => vec![self.accept(Accepted {
                rows: vec![self.whole_row(&queued, submission, &submission.digest, stored_key)],
                tenant: &queued.tenant,
                at: queued.created_at,
                // Callers' keys have nothing in them that comes before a blank.
                keys: stored_key.map(|key| (key, format!("{key} "))),
                counts_earlier: queued.dispatched_at.is_none(),
                max_running,
            })],
        };
        for _ in 0..INSERT_TRIES {
            let refused = match self.run_all(&statements).await {
                Ok(Some(answers)) => {
                    let answer = answers.into_iter().next_back().unwrap_or_default();
                    return inserted(answer, queued, at_once);
                }
                Ok(None) => None,
                // On PostgreSQL another with the same key may have been stored at the same time, and nothing of this.
                Err(StoreError::Sql(error @ SqlError::Constraint(_))) => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(existing) = self.with_key(stored_key, &submission.digest).await? {
                return Ok(existing);
            }
            if let Some(error) = refused {
                return Err(error.into());
            }
            if let Some(limited) = self.limited(&queued.tenant, queued.created_at, 1).await? {
                return Ok(Inserted::Limited(limited));
            }
            if self.is_queue_full(1).await? {
                return Ok(Inserted::QueueFull);
            }
            self.migrate().await?;
        }
        Err(SqlError::Busy("the execution with the idempotency key comes and goes".into()).into())
    }

    /// SQLite's statements of an insert that `first` begins: one, where nothing is taken from a rate before.
    fn insert_alone(
        &self,
        first: Builder,
        queued: &Execution,
        key: Option<&str>,
    ) -> Vec<Statement> {
        let (tenant, now) = (&queued.tenant, queued.created_at);
        let first = match key {
            Some(key) => first
                .text("NOT EXISTS (SELECT 1 FROM executions WHERE idempotency_key = ")
                .bind(key)
                .text(") AND "),
            None => first,
        };
        let first = first
            .queue_takes(1, self.max_queued)
            .tenants_queue_takes(tenant, 1, self.limits(tenant).queued)
            .text(" AND ")
            .up_to_date()
            .text(" RETURNING generation, CASE WHEN dispatched_at IS NULL AND ")
            .queued()
            .text(" <= ")
            .bind(MAX_ACCEPTED_POSITION + 1)
            .text(" THEN ")
            .earlier(queued, MAX_ACCEPTED_POSITION)
            .text(" END, NULL");
        let rate = self.take_from_rate(tenant, now, 1);
        let statements = rate.into_iter().chain([first]);
        statements.map(Builder::must_change).collect()
    }

    /// Writes each column as the one or the other, as there is room or not, up to the condition on which it is done. The room is found by the
    /// statement that writes, so two inserts never take the same place.
    fn insert_with_room(
        &self,
        once: Vec<Column>,
        queued: &Execution,
        dispatched: &Execution,
        max_running: u32,
        claim_until: Timestamp,
    ) -> Builder {
        let mut pairs: Vec<_> = once.into_iter().map(|(n, v)| (n, v.clone(), v)).collect();
        let changing = changing_columns(dispatched).into_iter();
        pairs.extend(
            changing
                .zip(changing_columns(queued))
                .map(|((name, with_room), (_, without))| (name, with_room, without)),
        );
        pairs.push(("claim_until", micros(claim_until).into(), 0_i64.into()));
        let told = told_of_dispatch(queued, dispatched);
        pairs.push(("events", told.into(), Value::Null));
        pairs
            .retain(|(_, with_room, without)| *with_room != Value::Null || *without != Value::Null);
        self.build("WITH room (free) AS (SELECT ")
            .running()
            .text(" < ")
            .bind(max_running)
            .tenant_has_room(&queued.tenant, &self.limits(&queued.tenant))
            .text(" AND ")
            .in_front(queued, 0, queued.created_at)
            .text(") INSERT INTO new_executions (")
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
            .text(" FROM room WHERE ")
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
}

/// A new one as it will be read back.
pub(crate) fn as_stored(execution: &Execution) -> Execution {
    let created_at = whole_micros(execution.created_at);
    Execution {
        created_at,
        due_at: created_at,
        ..execution.clone()
    }
}

/// What became of an insert that answered so.
fn inserted(
    answer: Rows,
    queued: Execution,
    at_once: Option<Execution>,
) -> Result<Inserted, StoreError> {
    let row = answer.rows.into_iter().next().unwrap_or_default();
    let mut reader = Reader::new("executions", row);
    let generation: u64 = reader.number("generation")?;
    let earlier: Option<u64> = reader.optional_number("count")?;
    let has_room = reader
        .optional_number::<i64>("room")?
        .is_some_and(|room| room != 0);
    let dispatched = at_once.filter(|dispatched| dispatched.generation == generation);
    Ok(Inserted::New {
        may_run: has_room || dispatched.is_some(),
        execution: dispatched.unwrap_or(queued),
        queue_position: earlier.and_then(|earlier| position(earlier, MAX_ACCEPTED_POSITION)),
    })
}

/// What the timeline says of a dispatch, as the column `events` of a new execution has it.
fn told_of_dispatch(before: &Execution, after: &Execution) -> Option<String> {
    let at = after.dispatched_at?;
    let entries = timeline::steps(before, &Observation::Dispatched, after, at);
    let told: Vec<_> = entries.iter().map(told).collect();
    serde_json::to_string(&told).ok()
}

fn told(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "at": micros(entry.at),
        "kind": entry.kind,
        "source": entry.source,
        "message": entry.message,
    })
}

impl Builder {
    /// Whether, up to the place of that one in the queue of its tenant, it included, no more than that many are queued and due at that
    /// time, and none of those that are postponed. Counts no further than it must.
    pub(crate) fn in_front(self, last: &Execution, most: usize, now: Timestamp) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        self.text("(SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
            .text(READY)
            .text(" AND tenant = ")
            .bind(last.tenant.as_str())
            .up_to(last)
            .text(" LIMIT ")
            .bind(most + 1)
            .text(") AS earlier) <= ")
            .bind(most)
            .text(" AND (SELECT 1 FROM executions WHERE ")
            .text(POSTPONED)
            .text(" AND tenant = ")
            .bind(last.tenant.as_str())
            // What waits for a later attempt lets others go first until that is due; what the API server could not take does not.
            .text(" AND due_at <= ")
            .bind(micros(now))
            .up_to(last)
            // The order leads PostgreSQL to the index, whatever it believes to be there.
            .text(" ORDER BY due_at LIMIT 1) IS NULL")
    }

    /// And at the place of that one in the queue, or before it.
    fn up_to(self, last: &Execution) -> Self {
        self.text(" AND (rank, created_at, id) <= ").queue_key(last)
    }
}
