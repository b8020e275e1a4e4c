//! Ending what ran out of time, after asking the cluster once more how it stands.

use std::time::Duration;

use domain::{Execution, Observation};

use super::Tick;
use crate::apply::{Applied, about, about_pod};
use crate::observe::observation;
use crate::{Error, Platform};

/// How often deadlines are looked at. Clocks count whole seconds.
const DEADLINE_INTERVAL: Duration = Duration::from_millis(500);

/// How many deadlines are worked on in one look, the oldest first.
const DEADLINE_BATCH: u32 = 64;

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn end_what_is_due(&self) {
        while !self.is_over() {
            match self.app.store.due(self.app.now(), DEADLINE_BATCH).await {
                Ok(due) => {
                    for execution in due {
                        if self.is_over() {
                            return;
                        }
                        if let Err(error) = self.end(&execution).await {
                            self.failed("a deadline could not be carried out", &error);
                        }
                    }
                }
                Err(error) => self.failed("the deadlines could not be read", &Error::from(error)),
            }
            self.pause(DEADLINE_INTERVAL).await;
        }
    }

    /// A conclusive observation goes before the clock: a script that ended in time ended in time, however late we look.
    async fn end(&self, execution: &Execution) -> Result<(), Error> {
        let app = self.app;
        // A first generation was never dispatched: the cluster knows nothing of it, and need not be asked.
        let pods = if execution.generation == 1 {
            Vec::new()
        } else {
            app.kubernetes.pods_of_job(&execution.job_name()).await?
        };
        // The name alone proves nothing: somebody else's Job may have taken it.
        let pod = pods
            .iter()
            .find(|pod| pod.execution_id == Some(execution.id.0));
        let job_uid = pod
            .and_then(|pod| pod.job_uid.as_deref())
            .or(execution.job_uid.as_deref());
        let attempt = execution.attempt;
        if let Some(pod) = pod
            && let Some(seen) = observation(pod)
        {
            let applied = app
                .apply(execution.id, about_pod(pod), &seen, Some(pod))
                .await?;
            match applied {
                Applied::Finished | Applied::Retried => {
                    return self.ended(applied, execution.id, attempt, job_uid).await;
                }
                // It moved on, so another clock runs now; if that has run out too, the next look ends it.
                Applied::Changed => return Ok(()),
                Applied::Nothing | Applied::Over | Applied::Unknown => {}
            }
        }
        if pod.is_none() && execution.job_uid.is_some() {
            // Only Kubernetes events tell why there is no pod. Where they cannot be read, the clock still counts.
            self.explain_or_log(execution).await;
        }
        app.doubt_creation(execution).await?;
        let passed = Observation::DeadlinePassed;
        let applied = app
            .apply(execution.id, about(execution), &passed, pod)
            .await?;
        self.ended(applied, execution.id, attempt, job_uid).await
    }
}
