//! What becomes of an execution whose Job the API server did not take.

use domain::transition::waiting;
use domain::{Execution, ExecutionId, Observation, Reason, Waiting, WaitingKind, timeline};
use jiff::SignedDuration;
use kubernetes::Error as KubernetesError;
use store::{Step, Written};

use super::{Attempt, Created};
use crate::apply::about;
use crate::cancel::nothing_written;
use crate::{App, Error, Platform, Runtime};

/// How long an execution that the API server could not take stays in the queue before the next try, unless
/// the server says how long.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// The same where only people or other executions' ends can help: a quota, missing rights.
pub(super) const RETRY_AFTER_REFUSAL: SignedDuration = SignedDuration::from_secs(5);

impl<P: Platform> App<P> {
    /// What the API server's answer means for the execution, and for whoever asks next.
    pub(super) async fn not_created(
        &self,
        execution: &Execution,
        error: &KubernetesError,
    ) -> Result<Created, Error> {
        let created = self.follow_refusal(execution, error).await?;
        let asked = error.retry_after();
        Ok(
            match asked.and_then(|after| SignedDuration::try_from(after).ok()) {
                Some(after) if created == Created::Later => Created::Patience(after),
                None if created == Created::Later && is_of_its_namespace(error) => Created::Refused,
                _ => created,
            },
        )
    }

    /// A verdict, patience, or nothing at all.
    async fn follow_refusal(
        &self,
        execution: &Execution,
        error: &KubernetesError,
    ) -> Result<Created, Error> {
        let text = error.to_string();
        if error.is_quota() {
            return self
                .postpone(execution, WaitingKind::Quota, &text, RETRY_AFTER_REFUSAL)
                .await;
        }
        if let Some(reason) = verdict(error) {
            return self.refuse(execution, reason, text).await;
        }
        if error.is_definite() {
            // Nothing was created: not sent, not allowed in, asked for patience, or the namespace is missing.
            let wait = error.retry_after().map_or_else(
                || {
                    if error.is_retryable() {
                        RETRY_AFTER
                    } else {
                        RETRY_AFTER_REFUSAL
                    }
                },
                |after| SignedDuration::try_from(after).unwrap_or(RETRY_AFTER_REFUSAL),
            );
            return self
                .postpone(execution, WaitingKind::ApiServer, &text, wait)
                .await;
        }
        // It may have been created. The claim runs out soon, and then its name tells.
        let message = format!("the API server's answer was lost, it will be asked again: {text}");
        self.apply(
            execution.id,
            about(execution),
            &Observation::Waiting(waiting(WaitingKind::ApiServer, &message)),
            None,
        )
        .await?;
        Ok(Created::Later)
    }

    /// Surely no Job was created for one that is canceled meanwhile: that ends it, if no earlier creation may be on
    /// its way.
    pub(super) async fn cancel_uncreated(
        &self,
        id: ExecutionId,
        error: &KubernetesError,
        attempt: Attempt,
    ) -> Result<bool, Error> {
        if attempt == Attempt::Again || !error.is_definite() {
            return Ok(false);
        }
        let current = self.store.get(id).await?;
        let Some(current) = current.filter(|current| current.cancel_requested_at.is_some()) else {
            return Ok(false);
        };
        let stopped = Observation::Stopped { end: None };
        self.conclude_cancel(&current, &stopped, &nothing_written())
            .await?;
        Ok(true)
    }

    async fn refuse(
        &self,
        execution: &Execution,
        reason: Reason,
        message: String,
    ) -> Result<Created, Error> {
        self.apply(
            execution.id,
            about(execution),
            &Observation::Refused { reason, message },
            None,
        )
        .await?;
        Ok(Created::Settled)
    }

    /// Back to the queue, not to be tried before that long has passed.
    pub(super) async fn postpone(
        &self,
        execution: &Execution,
        kind: WaitingKind,
        message: &str,
        wait: SignedDuration,
    ) -> Result<Created, Error> {
        let now = self.runtime.now();
        let observation = Observation::Postponed(Waiting {
            kind,
            message: message.to_owned(),
        });
        // Only the record as it was claimed may be put back: any other generation says that more is known.
        let current = self.store.get(execution.id).await?;
        let Some(current) = current.filter(|now| now.attempt == execution.attempt) else {
            return Ok(Created::Settled);
        };
        if let Some(next) = domain::transition(&current, &observation, now) {
            // Whoever wrote in between knew more than this.
            let told = timeline::steps(&current, &observation, &next, now);
            let (Written::Updated | Written::Stale | Written::Missing) = self
                .store
                .postpone(Step::new(&next, &told), now + wait)
                .await?;
        }
        Ok(Created::Later)
    }
}

/// Whether it says something of the namespace alone, and that the API server is well.
fn is_of_its_namespace(error: &KubernetesError) -> bool {
    let may_not = matches!(
        error,
        KubernetesError::Forbidden { is_permission, .. } if *is_permission
    );
    may_not || error.is_quota() || error.is_not_found()
}

/// The reason with which an execution ends whose Job the API server surely will not take, however often it is asked.
pub(crate) fn verdict(error: &KubernetesError) -> Option<Reason> {
    match error {
        // An answer that broke off does not say who forbids it: a quota and missing rights are waited out.
        KubernetesError::Forbidden { message, .. }
            if message.is_empty() || message.starts_with('{') =>
        {
            None
        }
        KubernetesError::Forbidden {
            is_quota: false,
            is_permission: false,
            ..
        } => Some(Reason::AdmissionDenied),
        KubernetesError::BadRequest { message } if message.contains("admission webhook") => {
            Some(Reason::AdmissionDenied)
        }
        // A ValidatingAdmissionPolicy says 422, unless its author chose otherwise.
        KubernetesError::Invalid { message, .. } if message.contains("denied request") => {
            Some(Reason::AdmissionDenied)
        }
        KubernetesError::BadRequest { .. }
        | KubernetesError::Invalid { .. }
        | KubernetesError::RequestTooLarge { .. }
        | KubernetesError::BadInput(_) => Some(Reason::InvalidSpec),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    //! Which refusals by 403 are a verdict.
    use super::*;

    #[test]
    fn a_refusal_that_broke_off_is_no_verdict() {
        for (message, expected) in [
            ("", None),
            (r#"{"kind":"Status","message":"jobs.batch is forb"#, None),
            ("images must be signed", Some(Reason::AdmissionDenied)),
        ] {
            let error = KubernetesError::Forbidden {
                message: message.to_owned(),
                is_quota: false,
                is_permission: false,
            };
            assert_eq!(verdict(&error), expected, "{message}");
        }
    }
}
