//! Accepting an execution: one durable write, then the answer.

use domain::{Execution, ExecutionId, Submission};
use jiff::SignedDuration;
use store::Inserted;

use crate::dispatch::Attempt;
use crate::{App, Error, Platform, Runtime};

/// For how long the instance that accepted or claimed an execution has its Job's creation to itself.
/// Longer than the API server's timeouts for one creation, so that two seldom try at once; it
/// would do no harm, since the Job's name makes the second a conflict.
pub(crate) const CLAIM: SignedDuration = SignedDuration::from_secs(15);

/// What became of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Submitted {
    /// Accepted and stored.
    New(Execution),
    /// The same request was accepted before, under the same idempotency key.
    Replayed(Execution),
    /// Another request was accepted before, under the same idempotency key.
    Conflict(ExecutionId),
}

impl<P: Platform> App<P> {
    /// Stores a new execution, queued. Its Job is created by [`App::dispatch_submitted`] or the next tick.
    ///
    /// # Errors
    /// When the store cannot take it; then nothing was accepted.
    pub async fn submit(
        &self,
        submission: &Submission,
        idempotency_key: Option<&str>,
    ) -> Result<Submitted, Error> {
        let now = self.runtime.now();
        let id = ExecutionId::new(now, self.runtime.random());
        let execution = Execution::accepted(id, now, submission);
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
            Inserted::New { execution } => Submitted::New(execution),
            Inserted::Existing {
                execution,
                same_request: true,
            } => Submitted::Replayed(execution),
            Inserted::Existing {
                execution,
                same_request: false,
            } => Submitted::Conflict(execution.id),
        })
    }

    /// Creates the Job of an execution just accepted, if there was room for it: after the answer went out, or
    /// beside a wait. What goes wrong here is for the next tick to mend, never the caller's trouble.
    pub async fn dispatch_submitted(&self, execution: &Execution, submission: &Submission) {
        if execution.is_dispatched() {
            self.create_job(execution, submission, Attempt::First).await;
        }
    }
}
