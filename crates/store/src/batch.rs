//! Many executions at once: stored in one transaction, under one idempotency key.

use std::collections::HashSet;

use domain::transition::Observation;
use domain::{Execution, ExecutionId, Submission, transition};
use jiff::Timestamp;

use crate::claims::QUEUED;
use crate::executions::INSERT_TRIES;
use crate::rows::{
    COLUMNS, Column, Reader, changing_columns, fixed_columns, micros, rank, whole_micros,
};
use crate::sql::{Builder, Sql, SqlError, Statement};
use crate::{ExecutionStore, MAX_ROWS, StoreError};

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

    /// Which item of the batch has this key in its row.
    fn item(&self, stored: &str) -> Option<usize> {
        match stored.strip_prefix(self.key)? {
            "" => Some(0),
            rest => rest.strip_prefix(' ')?.parse().ok(),
        }
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// Stores new executions, all or none, in one transaction.
    ///
    /// As many as there is room for are dispatched at once, but no more than `at_once`, and only when nobody else is
    /// queued: as in [`insert`](Self::insert), the caller is to create their Jobs before `claim_until`. They are the
    /// first of the queue's order, in which ids are compared last: ids that ascend keep the batch's own order.
    pub async fn insert_batch(
        &self,
        batch: &[(Execution, Submission)],
        key: Option<BatchKey<'_>>,
        max_running: u32,
        at_once: u32,
        claim_until: Timestamp,
    ) -> Result<InsertedBatch, StoreError> {
        let mut queued: Vec<Execution> = batch.iter().map(|(e, _)| e.clone()).collect();
        for execution in &mut queued {
            execution.created_at = whole_micros(execution.created_at);
            execution.due_at = execution.created_at;
        }
        let mut statements = Vec::new();
        for (index, (execution, (_, submission))) in queued.iter().zip(batch).enumerate() {
            statements.push(self.insert_queued(index, execution, submission, key));
            statements.push(self.insert_payload(execution.id, submission));
            if !execution.labels.is_empty() {
                statements.push(self.insert_labels(execution));
            }
            if let Some(webhook) = &submission.webhook {
                statements.push(self.insert_webhook(execution.id, webhook));
            }
            statements.extend(self.first_events(execution, execution));
        }
        let next = first_dispatched(&queued, at_once.min(max_running));
        let now = queued
            .iter()
            .map(|e| e.created_at)
            .max()
            .unwrap_or_default();
        let all = u32::try_from(queued.len()).unwrap_or(u32::MAX);
        if !next.is_empty() {
            statements.extend(self.ask_for_turn(|b| b.queued_at_most(all, now)));
        }
        let dispatch_at = statements.len();
        if !next.is_empty() {
            let dispatch = self.dispatch(&next, claim_until, max_running);
            statements.push(
                dispatch
                    .text(" AND ")
                    .with_turn()
                    .queued_at_most(all, now)
                    .text(" RETURNING id")
                    .statement(),
            );
            for after in &next {
                if let Some(before) = queued.iter().find(|before| before.id == after.id) {
                    statements.extend(self.dispatched_events(before, after));
                }
            }
        }
        for _ in 0..INSERT_TRIES {
            if let Some(answers) = self.transaction(&statements).await? {
                let mut dispatched = HashSet::new();
                if !next.is_empty() {
                    let answer = answers.into_iter().nth(dispatch_at);
                    for row in answer.unwrap_or_default().rows {
                        dispatched.insert(Reader::new("executions", row).text("id")?);
                    }
                }
                let mut executions = queued;
                for execution in &mut executions {
                    if dispatched.contains(&execution.id.to_string())
                        && let Some(taken) = next.iter().find(|e| e.id == execution.id)
                    {
                        execution.clone_from(taken);
                    }
                }
                return Ok(InsertedBatch::New { executions });
            }
            if let Some(key) = key
                && let Some(existing) = self.with_batch_key(key, batch.len()).await?
            {
                return Ok(existing);
            }
        }
        Err(SqlError::Busy("executions with the idempotency key come and go".into()).into())
    }

    fn insert_queued(
        &self,
        index: usize,
        queued: &Execution,
        submission: &Submission,
        key: Option<BatchKey<'_>>,
    ) -> Statement {
        let mut columns: Vec<Column> = fixed_columns(queued);
        columns.extend(changing_columns(queued));
        let digest = key.map_or(submission.digest.as_str(), |key| key.digest);
        columns.push(("digest", digest.into()));
        columns.push(("idempotency_key", key.map(|key| key.of_item(index)).into()));
        self.build("INSERT INTO executions (")
            .commas(&columns, |b, (name, _)| b.text(name))
            .text(") VALUES (")
            .commas(&columns, |b, (_, value)| b.bind(value.clone()))
            .text(
                ") ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING \
                 RETURNING generation",
            )
            .must_change()
    }

    /// What is stored under that key, if anything is. The first of a batch may be deleted while others are there.
    async fn with_batch_key(
        &self,
        key: BatchKey<'_>,
        items: usize,
    ) -> Result<Option<InsertedBatch>, StoreError> {
        // The exclamation mark is the character after the blank: between are this key and its items' alone.
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(", digest, idempotency_key FROM executions WHERE idempotency_key >= ")
            .bind(key.key)
            .text(" AND idempotency_key < ")
            .bind(format!("{}!", key.key))
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

/// The first of them in the queue's order, no more than that many, as they are once dispatched.
fn first_dispatched(queued: &[Execution], most: u32) -> Vec<Execution> {
    let mut in_order: Vec<&Execution> = queued.iter().collect();
    in_order.sort_by_key(|e| (rank(e), e.created_at, e.id));
    let dispatched = in_order
        .into_iter()
        .filter_map(|e| transition(e, &Observation::Dispatched, e.created_at));
    dispatched
        .take(usize::try_from(most).unwrap_or(usize::MAX))
        .collect()
}

impl Builder {
    /// Whether no more than that many are queued and due at that time. Counts no further than it must.
    fn queued_at_most(self, most: u32, now: Timestamp) -> Self {
        self.text("(SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
            .text(QUEUED)
            .text(" AND due_at <= ")
            .bind(micros(now))
            .text(" LIMIT ")
            .bind(most.saturating_add(1))
            .text(") AS waiting) <= ")
            .bind(most)
    }
}
