//! Trying a submission out: all that its dispatch would send, by the API server's own dry run. Nothing is kept.

use domain::{Execution, ExecutionId, Reason, Submission};
use kubernetes::Error as KubernetesError;

use crate::dispatch::{run_spec, verdict};
use crate::{App, Caller, Error, Platform, Runtime};

/// What would become of a submission.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    /// It would be accepted, as this; the id is nobody's.
    Fits(Box<Execution>),
    /// The API server would not take its Job.
    Refused {
        /// With which reason it would end, or keep waiting.
        reason: Reason,
        /// The API server's words.
        message: String,
    },
}

impl<P: Platform> App<P> {
    /// Tries the Job and what it mounts, without the store. What only shows at the pod is not seen: its image, a node with
    /// room for it, and what quotas, limits and policies say of pods.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn try_out(&self, caller: &Caller, submission: &Submission) -> Result<Trial, Error> {
        let now = self.runtime.now();
        let id = ExecutionId::new(now, self.runtime.random());
        let execution = Execution::accepted(id, now, &caller.tenant, submission);
        let execution = self.placed(caller, execution);
        match self.try_creation(&execution, submission).await {
            Ok(()) => Ok(Trial::Fits(Box::new(execution))),
            Err(error) => {
                let quota = error.is_quota().then_some(Reason::QuotaExceeded);
                let Some(reason) = quota.or_else(|| verdict(&error)) else {
                    return Err(error.into());
                };
                let message = error.to_string();
                Ok(Trial::Refused { reason, message })
            }
        }
    }

    async fn try_creation(
        &self,
        execution: &Execution,
        submission: &Submission,
    ) -> Result<(), KubernetesError> {
        let spec = run_spec(execution, submission, &self.config.pods);
        let payload = kubernetes::payload(&spec);
        let client = self.kubernetes_of(execution);
        let job = client.try_job(&payload.job).await?;
        for config_map in &payload.with_owner(&job.uid).config_maps {
            client.try_config_map(config_map).await?;
        }
        Ok(())
    }
}
