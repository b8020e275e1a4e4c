//! Ending what ran too long, and carrying out the cancels that nobody works on: whoever accepted them died, or had no time
//! left.

use std::time::Duration;

use domain::Execution;
use futures::{StreamExt, stream};

use super::Tick;
use crate::cancel::CANCEL_CLAIM;
use crate::{Error, Platform};

/// How many are worked on at once: each follows a log and looks at its pod once to five times a second. Those with a
/// long grace take turns, tick by tick.
const STOPS_IN_FLIGHT: usize = 64;

/// How many are taken in one statement. Few, so that a crash strands few until their claims end.
const STOP_BATCH: u32 = 16;

/// How often it is looked for some.
const STOP_INTERVAL: Duration = Duration::from_millis(500);

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn carry_out_stops(&self) {
        let claimed = stream::unfold((), |()| async {
            let batch = self.claim_stops().await?;
            Some((stream::iter(batch), ()))
        });
        claimed
            .flatten()
            .for_each_concurrent(STOPS_IN_FLIGHT, |execution| async move {
                match self.app.work_on_cancel(execution.id, self.ends_at).await {
                    Ok(true) => self.count_finished(),
                    Ok(false) => {}
                    Err(error) => {
                        let namespace = self.app.namespace_of(&execution);
                        self.failed_in(namespace, "an execution could not be ended", &error);
                    }
                }
            })
            .await;
    }

    /// The next ones, as soon as there are some; none when the tick is over.
    async fn claim_stops(&self) -> Option<Vec<Execution>> {
        while !self.is_over() {
            let now = self.app.now();
            match self
                .app
                .store
                .claim_stops(now, now + CANCEL_CLAIM, STOP_BATCH)
                .await
            {
                Ok(claimed) if !claimed.is_empty() => return Some(claimed),
                Ok(_) => {}
                Err(error) => {
                    self.failed("what is to be ended could not be read", &Error::from(error))
                }
            }
            self.pause(STOP_INTERVAL).await;
        }
        None
    }
}
