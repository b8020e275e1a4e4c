//! Many executions at once: stored in one write, under one idempotency key, and the first of them dispatched.

use std::collections::{HashMap, HashSet};

use domain::timeline::Entry;
use domain::transition::Observation;
use domain::{Execution, ExecutionId, Submission, Tenant, timeline, transition};
use jiff::Timestamp;

use crate::accept::Accepted;
use crate::insert::{INSERT_TRIES, as_stored, scoped};
use crate::rows::{
    COLUMNS, Column, Reader, changing_columns, fixed_columns, micros, rank, whole_micros,
};
use crate::sql::{Builder, Dialect, Rows, Sql, SqlError, Statement};
use crate::{ExecutionStore, Limited, MAX_ROWS, StoreError, payload};

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum InsertedBatch {
    /// All of it is stored.
    New {
        /// As stored, in the batch's order: dispatched when there was room, else queued.
        executions: Vec<Execution>,
    },
    /// The same batch was stored before, under the same idempotency key; nothing was changed.
    Replayed {
        /// As they are now, in the batch's order; none for those whose record is deleted.
        executions: Vec<Option<Execution>>,
    },
    /// Its idempotency key belongs to another request; nothing was changed.
    Conflict {
        /// An execution with that key.
        id: ExecutionId,
    },
    /// With it more would be queued than may be; nothing was changed.
    QueueFull,
    /// With it its tenant would have or do more than it may; nothing was changed.
    Limited(Limited),
}

/// An idempotency key, and the digest of the whole batch that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct BatchKey<'a> {
    /// The caller's key: visible ASCII.
    pub key: &'a str,
    /// Tells the batch from any other request.
    pub digest: &'a str,
}

impl BatchKey<'_> {
    /// The key in the row of that item. The first has the caller's own, so that single executions conflict with it; the
    /// others have a blank and their number behind it, which no caller's key can have.
    fn of_item(&self, index: usize) -> String {
        match index {
            0 => self.key.to_owned(),
            _ => format!("{} {index}", self.key),
        }
    }

    /// What all keys of the batch come before, and no other that begins as they do. The exclamation mark is the character after the blank.
    fn end(&self) -> String {
        format!("{}!", self.key)
    }

    /// Which item of the batch has this key in its row.
    fn item(&self, stored: &str) -> Option<usize> {
        match stored.strip_prefix(self.key)? {
            "" => Some(0),
            rest => rest.strip_prefix(' ')?.parse().ok(),
        }
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// Stores new executions of one tenant, all or none, in one write; no more than 500, so that their values fit into it.
    ///
    /// Unless the store [dispatches apart](Self::dispatches_apart), as many as there is room for are dispatched at once, but no
    /// more than `at_once`, and only when nobody else who is due is before them in the queue: as in
    /// [`insert`](Self::insert), the caller is to create their Jobs before `claim_until`. They are the
    /// first of the queue's order, in which ids are compared last: ids that ascend keep the batch's own order.
    pub async fn insert_batch(
        &self,
        batch: &[(Execution, Submission)],
        key: Option<BatchKey<'_>>,
        max_running: u32,
        at_once: u32,
        claim_until: Timestamp,
    ) -> Result<InsertedBatch, StoreError> {
        let queued: Vec<Execution> = batch.iter().map(|(e, _)| as_stored(e)).collect();
        let stored_key = key
            .zip(queued.first())
            .map(|(key, first)| (scoped(&first.tenant, key.key), key.digest));
        let key = stored_key
            .as_ref()
            .map(|(key, digest)| BatchKey { key, digest });
        let new: Vec<_> = queued.iter().zip(batch.iter().map(|(_, s)| s)).collect();
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        if let Some((tenant, now)) = tenant_of(batch)
            && let Some(limited) = self.limited_at_a_look(tenant, now, count).await?
        {
            let existing = match key {
                Some(key) => self.with_batch_key(key, batch.len()).await?,
                None => None,
            };
            return Ok(existing.unwrap_or(InsertedBatch::Limited(limited)));
        }
        let mut statements = self.insert_queued(&new, key);
        let dispatch_at = statements.len();
        let next = if self.dispatches_apart() {
            Vec::new()
        } else {
            first_dispatched(&queued, at_once.min(max_running), None)
        };
        if let Some((dispatch, told)) =
            self.dispatch_first(&queued, &next, claim_until, max_running)
        {
            statements.push(dispatch.statement());
            statements.extend(told.into_iter().map(Builder::statement));
        }
        for _ in 0..INSERT_TRIES {
            let refused = match self.run_all(&statements).await {
                Ok(Some(answers)) => {
                    let dispatched = dispatched_ids(answers, dispatch_at)?;
                    let next = next.into_iter().map(|e| (e.id, e));
                    let mut next: HashMap<ExecutionId, Execution> = next.collect();
                    let taken = |e: Execution| match dispatched.contains(&e.id.to_string()) {
                        true => next.remove(&e.id).unwrap_or(e),
                        false => e,
                    };
                    let executions = queued.into_iter().map(taken).collect();
                    return Ok(InsertedBatch::New { executions });
                }
                Ok(None) => None,
                // On PostgreSQL another with the same key may have been stored at the same time, and nothing of this.
                Err(StoreError::Sql(error @ SqlError::Constraint(_))) => Some(error),
                Err(error) => return Err(error),
            };
            if let Some(key) = key
                && let Some(existing) = self.with_batch_key(key, batch.len()).await?
            {
                return Ok(existing);
            }
            if refused.is_none() {
                if let Some((tenant, now)) = tenant_of(batch)
                    && let Some(limited) = self.limited(tenant, now, count).await?
                {
                    return Ok(InsertedBatch::Limited(limited));
                }
                if self.is_queue_full(count).await? {
                    return Ok(InsertedBatch::QueueFull);
                }
            }
            if let Some(error) = refused {
                return Err(error.into());
            }
            self.migrate().await?;
        }
        Err(SqlError::Busy("executions with the idempotency key come and go".into()).into())
    }

    /// Dispatches the first in the queue's order of what was just accepted and is queued, as many as there is room for, but no
    /// more than `at_once`, and only when nobody else who is due is before them and nobody else is just dispatching. They
    /// are given as stored; the caller is to create their Jobs before `claim_until`.
    ///
    /// The next step where the store [dispatches apart](Self::dispatches_apart). Whatever it leaves is in the queue for
    /// [`claim_queued`](Self::claim_queued).
    pub async fn claim_accepted(
        &self,
        accepted: &[Execution],
        now: Timestamp,
        claim_until: Timestamp,
        max_running: u32,
        at_once: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        let now = whole_micros(now);
        let next = first_dispatched(accepted, at_once.min(max_running), Some(now));
        let Some(last) = next.last() else {
            return Ok(Vec::new());
        };
        // A queue that is full, or has others in front, is seen without a lock.
        let look = self
            .build("SELECT 1 WHERE ")
            .running()
            .text(" < ")
            .bind(max_running)
            .tenant_has_room(&last.tenant, &self.limits(&last.tenant))
            .text(" AND ")
            .in_front(last, next.len(), now)
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(Vec::new());
        }
        let Some((dispatch, told)) = self.dispatch_first(accepted, &next, claim_until, max_running)
        else {
            return Ok(Vec::new());
        };
        let mut statements: Vec<Statement> = self.ask_for_turn().into_iter().collect();
        let dispatch_at = statements.len();
        statements.extend(self.together(dispatch, told));
        let answers = self.run_all(&statements).await?.unwrap_or_default();
        let dispatched = dispatched_ids(answers, dispatch_at)?;
        let taken = next.into_iter();
        Ok(taken
            .filter(|e| dispatched.contains(&e.id.to_string()))
            .collect())
    }

    /// Stores a batch, if nothing is stored under its key and the queue takes all of it.
    fn insert_queued(
        &self,
        new: &[(&Execution, &Submission)],
        key: Option<BatchKey<'_>>,
    ) -> Vec<Statement> {
        let Some((first, _)) = new.first() else {
            return Vec::new();
        };
        match self.sql().dialect() {
            Dialect::Sqlite => self.insert_tables(new, key, &first.tenant, first.created_at),
            Dialect::Postgres => {
                let rows = new.iter().enumerate().map(|(index, (queued, submission))| {
                    let digest = key.map_or(submission.digest.as_str(), |key| key.digest);
                    let item = key.map(|key| key.of_item(index));
                    self.whole_row(queued, submission, digest, item.as_deref())
                });
                vec![self.accept(Accepted {
                    rows: rows.collect(),
                    tenant: &first.tenant,
                    at: first.created_at,
                    keys: key.map(|key| (key.key, key.end())),
                    counts_earlier: false,
                    max_running: 0,
                })]
            }
        }
    }

    /// SQLite's statements of that, one for each table: a trigger for each row would cost more.
    fn insert_tables(
        &self,
        new: &[(&Execution, &Submission)],
        key: Option<BatchKey<'_>>,
        tenant: &Tenant,
        now: Timestamp,
    ) -> Vec<Statement> {
        let rows = new.iter().enumerate().map(|(index, (queued, submission))| {
            let mut columns: Vec<Column> = fixed_columns(queued);
            columns.extend(changing_columns(queued));
            let digest = key.map_or(submission.digest.as_str(), |key| key.digest);
            columns.push(("digest", digest.into()));
            columns.push(("idempotency_key", key.map(|key| key.of_item(index)).into()));
            columns
        });
        let insert = self.insert_rows("executions", rows.collect());
        let insert = match key {
            Some(key) => insert
                .text("NOT EXISTS (SELECT 1 FROM executions WHERE ")
                .of_batch(key)
                .text(") AND "),
            None => insert,
        };
        let more = u32::try_from(new.len()).unwrap_or(u32::MAX);
        let insert = insert
            .queue_takes(more, self.max_queued)
            .tenants_queue_takes(tenant, more, self.limits(tenant).queued)
            .text(" AND ")
            .up_to_date()
            .text(" RETURNING generation");
        let rate = self.take_from_rate(tenant, now, more);
        let must_change = rate.into_iter().chain([insert]);
        let others = self.belongings(new).into_iter();
        must_change
            .map(Builder::must_change)
            .chain(others.map(Builder::statement))
            .collect()
    }

    /// What belongs to new executions, apart from their rows: scripts, labels, webhooks, and that they are accepted.
    fn belongings(&self, new: &[(&Execution, &Submission)]) -> Vec<Builder> {
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
                    ("execution_tenant", execution.tenant.as_str().into()),
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

    /// What dispatches those, the first in the queue, as far as there is room and nobody else is before the last of them, and
    /// gives back which; and what tells of it. None for none.
    fn dispatch_first(
        &self,
        queued: &[Execution],
        next: &[Execution],
        claim_until: Timestamp,
        max_running: u32,
    ) -> Option<(Builder, Vec<Builder>)> {
        let last = next.last()?;
        let before = queued.iter().find(|before| before.id == last.id)?;
        let now = last.dispatched_at?;
        let dispatch = self
            .dispatch(next, claim_until, max_running)
            .text(" AND ")
            .in_front(last, next.len(), now)
            .text(" RETURNING id, dispatched_at");
        // The same is told of each of them.
        let entries = timeline::steps(before, &Observation::Dispatched, last, now);
        let told = (1_i64..).zip(&entries).map(|(number, entry)| {
            self.build(
                "INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message)                  SELECT changed.id, (SELECT coalesce(max(sequence), 0) FROM events                  WHERE execution_id = changed.id) + ",
            )
            .bind(number)
            .text(", changed.dispatched_at, changed.dispatched_at, 1, ")
            .bind(entry.kind.as_str())
            .text(", ")
            .bind(entry.source.as_str())
            .text(", ")
            .bind(entry.message.as_str())
            .text(" FROM ")
            .dispatched(next)
        });
        let told = told.collect();
        Some((dispatch, told))
    }

    /// What is stored under that key, if anything is. The first of a batch may be deleted while others are there.
    async fn with_batch_key(
        &self,
        key: BatchKey<'_>,
        items: usize,
    ) -> Result<Option<InsertedBatch>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(", digest, idempotency_key FROM executions WHERE ")
            .of_batch(key)
            .text(" LIMIT ")
            .bind(MAX_ROWS)
            .statement();
        let rows = self.query(statement).await?.rows;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut executions = vec![None; items];
        for row in rows {
            let mut reader = Reader::new("executions", row);
            let execution = reader.execution()?;
            let same_request = reader.text("digest")? == key.digest;
            let stored = reader.text("idempotency_key")?;
            let place = key.item(&stored).and_then(|item| executions.get_mut(item));
            match place.filter(|_| same_request) {
                Some(place) => *place = Some(execution),
                None => return Ok(Some(InsertedBatch::Conflict { id: execution.id })),
            }
        }
        Ok(Some(InsertedBatch::Replayed { executions }))
    }
}

/// Whose batch it is, and when it was accepted; none for an empty one.
fn tenant_of(batch: &[(Execution, Submission)]) -> Option<(&Tenant, Timestamp)> {
    let (first, _) = batch.first()?;
    Some((&first.tenant, first.created_at))
}

/// The first of them in the queue's order, no more than that many, as they are once dispatched: at that time, else when they
/// were accepted.
fn first_dispatched(queued: &[Execution], most: u32, now: Option<Timestamp>) -> Vec<Execution> {
    let mut in_order: Vec<&Execution> = queued.iter().collect();
    in_order.sort_by_key(|e| (rank(e), e.created_at, e.id));
    let dispatched = in_order
        .into_iter()
        .filter_map(|e| transition(e, &Observation::Dispatched, now.unwrap_or(e.created_at)));
    dispatched
        .take(usize::try_from(most).unwrap_or(usize::MAX))
        .collect()
}

/// What the answer with that index says was dispatched, if there is one.
fn dispatched_ids(answers: Vec<Rows>, index: usize) -> Result<HashSet<String>, StoreError> {
    let answer = answers.into_iter().nth(index).unwrap_or_default();
    let ids = answer.rows.into_iter();
    ids.map(|row| Reader::new("executions", row).text("id"))
        .collect()
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
    /// That the key is the batch's or one of its items'.
    fn of_batch(self, key: BatchKey<'_>) -> Self {
        self.text("idempotency_key >= ")
            .bind(key.key)
            .text(" AND idempotency_key < ")
            .bind(key.end())
    }

    /// Those of them that the write that this one belongs to has dispatched, as `changed`.
    fn dispatched(self, next: &[Execution]) -> Self {
        match self.dialect() {
            Dialect::Postgres => self.text("changed"),
            Dialect::Sqlite => self
                .rows(
                    "told",
                    next.iter()
                        .map(|execution| {
                            let at = execution.dispatched_at.map(micros);
                            vec![execution.id.to_string().into(), at.into()]
                        })
                        .collect(),
                )
                .text(
                    " JOIN executions AS changed \
                     ON changed.id = told.column1 AND changed.dispatched_at = told.column2",
                ),
        }
    }
}
