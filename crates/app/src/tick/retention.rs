//! Forgetting finished executions, and records of the audit log, that have been kept for as long as they were to be.

use std::time::Duration;

use store::{MAX_AUDIT_FORGOTTEN, MAX_FORGOTTEN};

use super::Tick;
use crate::{Error, Platform};

/// How often it is looked for expired records: their times are whole seconds, and nobody waits for it.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);

/// The pause after a full batch, in which others write.
const BATCH_PAUSE: Duration = Duration::from_millis(50);

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn forget_expired(&self) {
        let mut audit_is_done = false;
        while !self.is_over() {
            // With the full list, which is every few minutes: an idle tick need not look for what is days old.
            if self.listed.get() && !audit_is_done {
                audit_is_done = true;
                self.forget_audit().await;
            }
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

    /// Lets go of the records of the audit log whose time is over.
    async fn forget_audit(&self) {
        let before = self.app.now() - self.app.config.audit_retention;
        while !self.is_over() {
            match self.app.store.forget_audit(before).await {
                Ok(MAX_AUDIT_FORGOTTEN) => self.pause(BATCH_PAUSE).await,
                Ok(_) => break,
                Err(error) => {
                    let what = "old records of the audit log could not be let go";
                    self.put_off(what, &Error::from(error));
                    break;
                }
            }
        }
    }
}
