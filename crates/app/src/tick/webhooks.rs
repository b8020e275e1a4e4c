//! Telling receivers what is finished, several at once.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::future;
use futures::stream::FuturesUnordered;

use super::Tick;
use crate::webhooks::{ATTEMPT_LIMIT, CLAIM};
use crate::{Error, Platform};

/// How many attempts are under way at once. Each may take 10 s where a receiver does not answer, so this is what
/// keeps a few dead receivers from holding up the others.
const ATTEMPTS_IN_FLIGHT: usize = 16;

/// How often the outbox is looked at: an end is told within a fraction of a second.
const OUTBOX_INTERVAL: Duration = Duration::from_millis(200);

/// The pause after the store failed.
const BACK_OFF: Duration = Duration::from_secs(1);

impl<P: Platform> Tick<'_, P> {
    /// Works until the tick ends, and then lets come to their end what is under way. The lease is not needed for it: a
    /// delivery is its claimer's, so the next tick may work meanwhile.
    pub(super) async fn deliver_webhooks(&self) {
        let mut in_flight = FuturesUnordered::new();
        while !self.is_over() {
            let mut interval = OUTBOX_INTERVAL;
            let now = self.app.now();
            let room = u32::try_from(ATTEMPTS_IN_FLIGHT - in_flight.len()).unwrap_or(0);
            let claimed = if room == 0 {
                Ok(Vec::new())
            } else {
                self.app
                    .store
                    .claim_deliveries(now, now + CLAIM, room)
                    .await
            };
            match claimed {
                Ok(claims) => in_flight.extend(claims.into_iter().map(|claim| async move {
                    if let Err(error) = self.app.deliver(&claim, self.attempt_limit()).await {
                        self.failed("a delivery could not be stored", &error);
                    }
                })),
                Err(error) => {
                    self.failed("the outbox could not be read", &Error::from(error));
                    interval = BACK_OFF;
                }
            }
            let pause = pin!(self.pause(interval));
            if in_flight.is_empty() {
                pause.await;
            } else {
                future::select(pause, in_flight.next()).await;
            }
        }
        while in_flight.next().await.is_some() {}
    }

    /// How long an attempt that begins now may take, in whole seconds.
    fn attempt_limit(&self) -> Duration {
        let Some(end) = self.attempts_end else {
            return ATTEMPT_LIMIT;
        };
        let left = end.duration_since(self.app.now()).as_secs();
        Duration::from_secs(u64::try_from(left).unwrap_or(0).max(1)).min(ATTEMPT_LIMIT)
    }
}
