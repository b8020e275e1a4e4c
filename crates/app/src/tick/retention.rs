//! Forgetting finished executions that have been kept for as long as they were to be.

use std::time::Duration;

use store::MAX_FORGOTTEN;

use super::Tick;
use crate::{Error, Platform};

/// How often it is looked for expired records: their times are whole seconds, and nobody waits for it.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after a full batch, in which others write.
const BATCH_PAUSE: Duration = Duration::from_millis(50);

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn forget_expired(&self) {
        while !self.is_over() {
            let pause = match self.app.store.forget_expired(self.app.now()).await {
                Ok(forgotten) => {
                    self.forgotten.set(self.forgotten.get() + forgotten);
                    if forgotten == MAX_FORGOTTEN {
                        BATCH_PAUSE
                    } else {
                        RETENTION_INTERVAL
                    }
                }
                Err(error) => {
                    self.failed(
                        "expired records could not be forgotten",
                        &Error::from(error),
                    );
                    RETENTION_INTERVAL
                }
            };
            self.pause(pause).await;
        }
    }
}
