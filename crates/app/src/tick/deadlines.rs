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
        let mut behind = None;
        while !self.is_over() {
            behind = match self.look_for_due(behind.as_ref()).await {
                Ok(last) => last,
                Err(error) => {
                    self.failed("the deadlines could not be read", &error);
                    None
                }
            };
            self.pause(DEADLINE_INTERVAL).await;
        }
    }

    /// Ends some that are due. Where some could not be ended, as in a namespace that does not answer us, and there are more, it answers
    /// behind which one the next look begins, so that they keep no others waiting.
    async fn look_for_due(&self, behind: Option<&Execution>) -> Result<Option<Execution>, Error> {
        let (store, now) = (&self.app.store, self.app.now());
        let due = store.due_behind(now, behind, DEADLINE_BATCH).await?;
        let mut all_ended = true;
        for execution in &due {
            if self.is_over() {
                return Ok(None);
            }
            if let Err(error) = self.end(execution).await {
                all_ended = false;
                let namespace = self.app.namespace_of(execution);
                self.failed_in(namespace, "a deadline could not be carried out", &error);
            }
        }
        let are_more = due.len() == DEADLINE_BATCH as usize;
        let last = due.into_iter().next_back();
        Ok(last.filter(|_| are_more && !all_ended))
    }

    /// A conclusive observation goes before the clock: a script that ended in time ended in time, however late we look.
    async fn end(&self, execution: &Execution) -> Result<(), Error> {
        let app = self.app;
        // A first generation was never dispatched: the cluster knows nothing of it, and need not be asked.
        let pods = if execution.generation == 1 {
            Vec::new()
        } else {
            let client = app.kubernetes_of(execution);
            client.pods_of_job(&execution.job_name()).await?
        };
        // The name alone proves nothing: somebody else's Job may have taken it.
        let pod = pods
            .iter()
            .find(|pod| pod.execution_id == Some(execution.id.0));
        let job_uid = pod
            .and_then(|pod| pod.job_uid.as_deref())
            .or(execution.job_uid.as_deref());
        let job = app.job_of(execution, job_uid);
        if let Some(pod) = pod
            && let Some(seen) = observation(pod)
        {
            let applied = app
                .apply(execution.id, about_pod(pod), &seen, Some(pod))
                .await?;
            match applied {
                Applied::Finished | Applied::Retried => {
                    return self.ended(applied, job).await;
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
        self.ended(applied, job).await
    }
}
