//! Accepting an execution: one durable write, then the answer.

use std::collections::HashMap;

use domain::{Execution, ExecutionId, Submission};
use futures::StreamExt;
use futures::stream;
use jiff::SignedDuration;
use store::{BatchKey, Inserted, InsertedBatch, Limited};

use crate::dispatch::{Attempt, CREATIONS_IN_FLIGHT};
use crate::report::Level;
use crate::{App, Caller, Error, Platform, Runtime};

/// For how long the instance that accepted or claimed an execution has its Job's creation to itself.
/// Longer than the API server's timeouts for one creation, so that two seldom try at once; it
/// would do no harm, since the Job's name makes the second a conflict.
pub(crate) const CLAIM: SignedDuration = SignedDuration::from_secs(15);

/// For so long after their acceptance creations of Jobs are begun by the instance that accepted them. One that is begun
/// then is over before its claim, as far as the API server's timeouts go: what the next claimer creates may have
/// ended by then, and its name be free for a second run.
const FIRST_CREATIONS: SignedDuration = SignedDuration::from_secs(7);

/// How many Jobs of one batch the instance that accepted it creates, so that it is done in that time; the rest waits for
/// the tick's turn like everything else.
const MAX_BATCH_DISPATCHED: u32 = 100;

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// Accepted and stored.
    New {
        /// As stored.
        execution: Execution,
        /// Its place in the queue, from 1, if it is there.
        queue_position: Option<u64>,
        /// Whether there may be room for it now, so that [`App::dispatch_submitted`] is the next step.
        may_run: bool,
    },
    /// The same request was accepted before, under the same idempotency key.
    Replayed(Execution),
    /// Another request was accepted before, under the same idempotency key.
    Conflict(ExecutionId),
    /// As many wait as may; nothing was accepted.
    QueueFull,
    /// The caller's tenant has or does as much as it may; nothing was accepted.
    Limited(Limited),
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum SubmittedBatch {
    /// All accepted and stored, in the batch's order.
    New(Vec<(Execution, Submission)>),
    /// The same batch was accepted before, under the same idempotency key. None for those whose record is deleted.
    Replayed(Vec<Option<Execution>>),
    /// Another request was accepted before, under the same idempotency key.
    Conflict(ExecutionId),
    /// With these more would wait than may; nothing was accepted.
    QueueFull,
    /// With these the caller's tenant would have or do more than it may; nothing was accepted.
    Limited(Limited),
}

impl<P: Platform> App<P> {
    /// Stores a new execution of the caller's tenant. Its Job is created by [`App::dispatch_submitted`] or the next tick.
    ///
    /// # Errors
    /// When the store cannot take it; then nothing was accepted.
    pub async fn submit(
        &self,
        caller: &Caller,
        submission: &Submission,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, Error> {
        let now = self.runtime.now();
        let id = ExecutionId::new(now, self.runtime.random());
        let execution = Execution::accepted(id, now, &caller.tenant, submission);
        let execution = self
            .placed(caller, execution)
            .in_trace(self.request_trace())
            .submitted_by(caller.origin());
        let max_running = self.config.max_running;
        let inserted = self
            .store
            .insert(
                &execution,
                submission,
                idempotency_key,
                max_running,
                now + CLAIM,
            )
            .await?;
        Ok(match inserted {
            Inserted::New {
                execution,
                queue_position,
                may_run,
            } => Submitted::New {
                execution,
                queue_position,
                may_run,
            },
            Inserted::Existing {
                execution,
                same_request: true,
            } => Submitted::Replayed(execution),
            Inserted::Existing {
                execution,
                same_request: false,
            } => Submitted::Conflict(execution.id),
            Inserted::QueueFull => Submitted::QueueFull,
            Inserted::Limited(limited) => Submitted::Limited(limited),
        })
    }

    /// Stores new executions of the caller's tenant, all or none. Their Jobs are created by [`App::dispatch_accepted`] or the next tick.
    ///
    /// # Errors
    /// When the store cannot take them; then nothing was accepted.
    pub async fn submit_batch(
        &self,
        caller: &Caller,
        submissions: Vec<Submission>,
        key: Option<BatchKey<'_>>,
    ) -> Result<SubmittedBatch, Error> {
        let now = self.runtime.now();
        let id = |_: &Submission| ExecutionId::new(now, self.runtime.random());
        let mut ids: Vec<ExecutionId> = submissions.iter().map(id).collect();
        // Of what was accepted at the same time, the queue takes the lowest id first.
        ids.sort();
        let mut batch: Vec<(Execution, Submission)> = ids
            .into_iter()
            .zip(submissions)
            .map(|(id, submission)| {
                let execution = Execution::accepted(id, now, &caller.tenant, &submission);
                let execution = self
                    .placed(caller, execution)
                    .in_trace(self.request_trace())
                    .submitted_by(caller.origin());
                (execution, submission)
            })
            .collect();
        let (max_running, claim_until) = (self.config.max_running, now + CLAIM);
        let inserted = self
            .store
            .insert_batch(&batch, key, max_running, MAX_BATCH_DISPATCHED, claim_until)
            .await?;
        Ok(match inserted {
            InsertedBatch::New { executions } => {
                for ((execution, _), stored) in batch.iter_mut().zip(executions) {
                    *execution = stored;
                }
                SubmittedBatch::New(batch)
            }
            InsertedBatch::Replayed { executions } => SubmittedBatch::Replayed(executions),
            InsertedBatch::Conflict { id } => SubmittedBatch::Conflict(id),
            InsertedBatch::QueueFull => SubmittedBatch::QueueFull,
            InsertedBatch::Limited(limited) => SubmittedBatch::Limited(limited),
        })
    }

    /// Whether something is left to do for one just accepted, once its caller has the answer: to create its Job, or to see
    /// whether there is room for it.
    pub fn is_to_be_dispatched(&self, accepted: &Execution) -> bool {
        accepted.is_dispatched() || accepted.is_queued() && self.store.dispatches_apart()
    }

    /// Creates the Jobs of executions just accepted, of those for which there is room, several at once: after the answer
    /// went out. What goes wrong here, and what is not begun in time, is for the next tick to mend.
    pub async fn dispatch_accepted(&self, accepted: &[(Execution, Submission)]) {
        let queued = accepted.iter().map(|(execution, _)| execution);
        let taken = self.take_accepted(queued).await;
        let create = async |(execution, submission): &(Execution, Submission)| {
            let execution = taken.get(&execution.id).unwrap_or(execution);
            if let Some(at) = execution.dispatched_at
                && self.runtime.now() < at + FIRST_CREATIONS
            {
                self.create_job(execution, submission, Attempt::First).await;
            }
        };
        stream::iter(accepted)
            .for_each_concurrent(CREATIONS_IN_FLIGHT, create)
            .await;
        self.send_last_announcements().await;
    }

    /// Creates the Job of an execution just accepted, if there is room for it: after the answer went out, or
    /// beside a wait. What goes wrong here is for the next tick to mend, never the caller's trouble.
    pub async fn dispatch_submitted(&self, execution: &Execution, submission: &Submission) {
        let execution = self.take_submitted(execution.clone()).await;
        if execution.is_dispatched() {
            self.create_job(&execution, submission, Attempt::First)
                .await;
        }
        self.send_last_announcements().await;
    }

    /// An execution just accepted, as it is once it is seen whether there is room for it: from then on a dispatch that was
    /// broken off can be begun again.
    pub async fn take_submitted(&self, accepted: Execution) -> Execution {
        let mut taken = self.take_accepted([&accepted]).await;
        taken.remove(&accepted.id).unwrap_or(accepted)
    }

    /// Of those that were stored as queued, though there may be room: the ones that are dispatched now.
    async fn take_accepted(
        &self,
        accepted: impl IntoIterator<Item = &Execution>,
    ) -> HashMap<ExecutionId, Execution> {
        if !self.store.dispatches_apart() {
            return HashMap::new();
        }
        let queued: Vec<Execution> = accepted
            .into_iter()
            .filter(|execution| execution.is_queued())
            .cloned()
            .collect();
        let (now, max_running) = (self.runtime.now(), self.config.max_running);
        let taken = self
            .store
            .claim_accepted(&queued, now, now + CLAIM, max_running, MAX_BATCH_DISPATCHED)
            .await;
        let taken = taken.unwrap_or_else(|error| {
            let error = Error::from(error).chain();
            let message = "a dispatch is left to a later tick";
            self.report(Level::Warn, message, &[("error", &error)]);
            Vec::new()
        });
        taken.into_iter().map(|e| (e.id, e)).collect()
    }
}
