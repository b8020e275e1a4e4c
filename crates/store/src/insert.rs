//! Accepting: an execution is stored with all that belongs to it in one write, and dispatched at once where there is room.

use domain::timeline::{self, Entry};
use domain::transition::Observation;
use domain::{Execution, Submission, transition};
use jiff::Timestamp;

use crate::executions::position;
use crate::places::{POSTPONED, READY};
use crate::rows::{
    COLUMNS, Column, Reader, changing_columns, count, fixed_columns, micros, whole_micros,
};
use crate::sql::{Builder, Sql, SqlError};
use crate::{ExecutionStore, StoreError, payload};

/// How often an insert starts anew when the execution that holds its idempotency key is gone before
/// it can be read. Only deletions between two statements do that.
pub(crate) const INSERT_TRIES: u32 = 3;

/// What became of an insert.
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It is stored.
    New {
        /// As stored: dispatched when there was room and this database does that in the same write, else queued.
        execution: Execution,
        /// Its place in the queue, as [`queue_position`](ExecutionStore::queue_position) tells it.
        queue_position: Option<u64>,
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
        let mut once: Vec<Column> = fixed_columns(&queued);
        once.push(("digest", submission.digest.as_str().into()));
        once.push(("idempotency_key", idempotency_key.into()));
        let at_once = transition(&queued, &Observation::Dispatched, queued.created_at)
            .filter(|_| !self.dispatches_apart());
        let first = match &at_once {
            Some(dispatched) => {
                self.insert_with_room(once, &queued, dispatched, max_running, claim_until)
            }
            None => {
                once.extend(changing_columns(&queued));
                self.insert_rows("executions", vec![once])
            }
        };
        let first = first
            .queue_takes(1, self.max_queued)
            .text(" AND ")
            .up_to_date()
            .text(
                " ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING \
                 RETURNING generation, CASE WHEN dispatched_at IS NULL THEN ",
            )
            .earlier(&queued)
            .text(" END");
        let mut others = self.belongings(&[(&queued, submission)]);
        if let Some(dispatched) = &at_once {
            others.extend(self.dispatch_told(&queued, dispatched));
        }
        let statements = self.together(first, others);
        for _ in 0..INSERT_TRIES {
            if let Some(answer) = self.run(&statements).await? {
                let row = answer.rows.into_iter().next().unwrap_or_default();
                let mut reader = Reader::new("executions", row);
                let generation: u64 = reader.number("generation")?;
                let earlier: Option<u64> = reader.optional_number("count")?;
                let dispatched = at_once.filter(|dispatched| dispatched.generation == generation);
                return Ok(Inserted::New {
                    execution: dispatched.unwrap_or(queued),
                    queue_position: earlier.and_then(position),
                });
            }
            if let Some(existing) = self.with_key(idempotency_key, &submission.digest).await? {
                return Ok(existing);
            }
            if self.is_queue_full(1).await? {
                return Ok(Inserted::QueueFull);
            }
            self.migrate().await?;
        }
        Err(SqlError::Busy("the execution with the idempotency key comes and goes".into()).into())
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
        self.build("WITH room (free) AS (SELECT ")
            .running()
            .text(" < ")
            .bind(max_running)
            .text(" AND ")
            .in_front(queued, 0, queued.created_at)
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
            .text(" FROM room WHERE ")
    }

    /// What belongs to new executions, apart from their rows: scripts, labels, webhooks, and that they are accepted.
    pub(crate) fn belongings(&self, new: &[(&Execution, &Submission)]) -> Vec<Builder> {
        let (mut payloads, mut labels) = (Vec::with_capacity(new.len()), Vec::new());
        let (mut webhooks, mut events) = (Vec::new(), Vec::with_capacity(new.len()));
        for (execution, submission) in new {
            let id = ("execution_id", execution.id.to_string().into());
            payloads.push(vec![
                id.clone(),
                ("body", payload::encode(submission).into()),
            ]);
            labels.extend(execution.labels.iter().map(|(name, value)| {
                vec![
                    id.clone(),
                    ("name", name.as_str().into()),
                    ("value", value.as_str().into()),
                    ("execution_created_at", micros(execution.created_at).into()),
                ]
            }));
            webhooks.extend(submission.webhook.as_ref().map(|webhook| {
                vec![
                    id.clone(),
                    ("url", webhook.url.as_str().into()),
                    ("secret_ref", webhook.secret_ref.as_str().into()),
                ]
            }));
            events.push(first_event(id, &Entry::accepted(execution)));
        }
        let tables = [
            ("payloads", payloads),
            ("labels", labels),
            ("webhooks", webhooks),
            ("events", events),
        ];
        let statements = tables.map(|(table, rows)| self.insert_all(table, rows));
        statements.into_iter().flatten().collect()
    }

    fn dispatch_told(&self, before: &Execution, after: &Execution) -> Vec<Builder> {
        let Some(at) = after.dispatched_at else {
            return Vec::new();
        };
        let came_about = |b: Builder| {
            b.text("EXISTS (SELECT 1 FROM executions WHERE id = ")
                .bind(after.id.to_string())
                .text(" AND generation = ")
                .bind(count(after.generation))
                .text(" AND dispatched_at = ")
                .bind(micros(at))
                .text(")")
        };
        let entries = timeline::steps(before, &Observation::Dispatched, after, at);
        let told = entries
            .iter()
            .map(|entry| self.event(after.id, entry, &[], &came_about));
        told.collect()
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

/// The row of the first line of a timeline.
fn first_event(id: Column, entry: &Entry) -> Vec<Column> {
    vec![
        id,
        ("sequence", 1_i64.into()),
        ("at", micros(entry.at).into()),
        ("last_at", micros(entry.last_at).into()),
        ("count", entry.count.into()),
        ("kind", entry.kind.as_str().into()),
        ("source", entry.source.as_str().into()),
        ("message", entry.message.as_str().into()),
    ]
}

impl Builder {
    /// Whether, up to the place of that one in the queue, it included, no more than that many are queued and due at that
    /// time, and none of those that are postponed. Counts no further than it must.
    pub(crate) fn in_front(self, last: &Execution, most: usize, now: Timestamp) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX - 1);
        self.text("(SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
            .text(READY)
            .up_to(last)
            .text(" LIMIT ")
            .bind(most + 1)
            .text(") AS earlier) <= ")
            .bind(most)
            .text(" AND (SELECT 1 FROM executions WHERE ")
            .text(POSTPONED)
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
