//! Dispatching what waits, several requests in flight, up to the limit of running executions.

use std::time::Duration;

use futures::StreamExt;
use futures::stream;

use super::Tick;
use crate::dispatch::{Attempt, CREATIONS_IN_FLIGHT, Created};
use crate::submit::CLAIM;
use crate::{Error, Platform};

/// How many queued executions are claimed in one statement. Few, so that a crash strands few until their claims end.
const CLAIM_BATCH: u32 = 16;

/// How often the queue is looked at while it is empty or the limit is reached.
const QUEUE_INTERVAL: Duration = Duration::from_millis(200);

/// The pause after the API server took nothing, and the batch that tries it again.
const BACK_OFF: Duration = Duration::from_secs(1);

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn drain_queue(&self) {
        let mut batch = CLAIM_BATCH;
        while !self.is_over() {
            match self.dispatch_some(batch).await {
                Ok(Some(Created::Settled)) => batch = CLAIM_BATCH,
                Ok(None) => self.pause(QUEUE_INTERVAL).await,
                Ok(Some(Created::Later)) => {
                    // One probe at a time until the API server takes Jobs again.
                    batch = 1;
                    self.pause(BACK_OFF).await;
                }
                Err(error) => {
                    self.failed("the queue could not be read", &error);
                    self.pause(BACK_OFF).await;
                }
            }
        }
    }

    /// Creates up to that many Jobs; none when nothing waits or there is no room.
    async fn dispatch_some(&self, batch: u32) -> Result<Option<Created>, Error> {
        let app = self.app;
        let now = app.now();
        let again = app.store.claim_unconfirmed(now, now + CLAIM, batch).await?;
        let first = app
            .store
            .claim_queued(now, now + CLAIM, app.config.max_running, batch)
            .await?;
        let again = again.iter().map(|claim| (claim, Attempt::Again));
        let first = first
            .iter()
            .map(|claim| (claim, Attempt::from_queue(&claim.0)));
        let claimed: Vec<_> = again.chain(first).collect();
        if claimed.is_empty() {
            return Ok(None);
        }
        let later = stream::iter(&claimed)
            .map(|((execution, submission), attempt)| {
                app.create_job(execution, submission, *attempt)
            })
            .buffer_unordered(CREATIONS_IN_FLIGHT)
            .filter(|created| std::future::ready(*created == Created::Later))
            .count()
            .await;
        let settled = u32::try_from(claimed.len() - later).unwrap_or(u32::MAX);
        self.dispatched.set(self.dispatched.get() + settled);
        Ok(Some(if settled == 0 {
            Created::Later
        } else {
            Created::Settled
        }))
    }
}
