//! Canceling: asked for in one write, carried out step by step until it is sure that nothing runs any more. What has
//! run for too long is ended in the same way.
//!
//! The log is read and stored before the Job is deleted, the deletion waits for the pod (Foreground), and the outcome is
//! stored when Job and pod are confirmed gone: see [`gone`]. Every step can be done again, by whoever comes after a crash. What
//! the container did by itself before the deletion is its outcome, whoever asked for what.

mod gone;

use std::time::Duration;

use domain::{Action, Execution, ExecutionId, Observation, Status, Stop, timeline, transition};
use jiff::{SignedDuration, Timestamp};
use store::{Step, StoredLog, Written};

use crate::announce::Also;
use crate::apply::{Applied, CAS_ATTEMPTS, about};
use crate::logs::has_log;
use crate::namespaces::JobRef;
use crate::observe::observation;
use crate::report::Level;
use crate::submit::CLAIM;
use crate::{App, Caller, Error, Platform, Runtime};

/// For how long whoever takes up a cancel has it to itself.
pub(crate) const CANCEL_CLAIM: SignedDuration = SignedDuration::from_secs(15);

/// How long of that it works on it; the rest is for what it has in hand then.
const CANCEL_WORK: SignedDuration = SignedDuration::from_secs(12);

/// When somebody may take up a cancel again at which something failed.
const AGAIN_AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(1);

/// The longest pause between two looks at what is ending.
const LAST_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a creation that nobody has an answer to is waited for where its name cannot be taken: an API server gives a
/// request up after 60 s (its default), and the last claim on the creation may have begun just before the cancel.
const LATE_CREATION: SignedDuration = SignedDuration::from_secs(60).saturating_add(CLAIM);

/// What became of the wish to cancel an execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Canceled {
    /// It is noted, or was before; where it had no Job yet, it is finished by it.
    Accepted {
        /// The record, as it stands now.
        execution: Execution,
        /// Whether the caller is to carry it out: see [`App::carry_out_cancel`].
        to_carry_out: bool,
    },
    /// It was finished before.
    Finished(Execution),
    /// There is none of that id.
    Unknown,
}

impl<P: Platform> App<P> {
    /// Notes that an execution of the caller's tenant is to be canceled; one without a Job is finished by it at once.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub async fn cancel(&self, caller: &Caller, id: ExecutionId) -> Result<Canceled, Error> {
        for _ in 0..CAS_ATTEMPTS {
            let Some(current) = self.store.get_of(&caller.tenant, id).await? else {
                return Ok(Canceled::Unknown);
            };
            if current.status == Status::Finished {
                return Ok(Canceled::Finished(current));
            }
            let now = self.runtime.now();
            let Some(mut next) = transition(&current, &Observation::CancelRequested, now) else {
                return Ok(Canceled::Accepted {
                    execution: current,
                    to_carry_out: false,
                });
            };
            let told = timeline::steps(&current, &Observation::CancelRequested, &next, now);
            let record = self.record(caller, Action::ExecutionCancel, &id.to_string());
            let finished = next.status == Status::Finished;
            let too_late = next.stop() == Some(Stop::RunTimeout);
            let written = if finished {
                let log = nothing_written();
                next.log = Some(log.summary());
                self.store
                    .finish(Step::new(&next, &told).noted(&record), &log)
                    .await?
            } else if too_late {
                // The ticks are ending it, and go on with that.
                self.store
                    .update(Step::new(&next, &told).noted(&record))
                    .await?
            } else {
                self.store
                    .request_cancel(Step::new(&next, &told).noted(&record), now + CANCEL_CLAIM)
                    .await?
            };
            match written {
                Written::Updated => {
                    self.announce(&next, &told, Also::By(caller));
                    if finished {
                        self.log_finished(&next);
                    }
                    return Ok(Canceled::Accepted {
                        // In the pause before an attempt, the Job of the one before may be left.
                        to_carry_out: if finished {
                            next.attempt > 1
                        } else {
                            !too_late
                        },
                        execution: next,
                    });
                }
                Written::Stale => {}
                Written::Missing => return Ok(Canceled::Unknown),
            }
        }
        Err(Error::Contended)
    }

    /// Works on a cancel that this instance has taken, for some seconds: after the answer went out. What is left then,
    /// and what goes wrong, is for the ticks.
    pub async fn carry_out_cancel(&self, id: ExecutionId) {
        let carried_out = async {
            self.work_on_cancel(id, Timestamp::MAX).await?;
            self.delete_earlier_job(id).await
        };
        if let Err(error) = carried_out.await {
            let why = error.chain();
            let message = "a cancel is left to a later tick";
            self.report_of_id(Level::Warn, id, message, &[("error", &why)])
                .await;
        }
        self.store_tally().await;
        self.send_last_announcements().await;
    }

    /// What was canceled in the pause before an attempt has the Job of the one before deleted at its end; the full list
    /// does so too, but later.
    async fn delete_earlier_job(&self, id: ExecutionId) -> Result<(), Error> {
        match self.store.get(id).await? {
            Some(canceled) if canceled.attempt > 1 => {
                let earlier = JobRef {
                    attempt: canceled.attempt - 1,
                    ..self.job_of(&canceled, None)
                };
                self.retire_job(earlier).await
            }
            _ => Ok(()),
        }
    }

    /// The same, at most until that time, for whoever has claimed it. Answers whether the execution is finished.
    ///
    /// # Errors
    /// Why it could not go on; it is given back before.
    pub(crate) async fn work_on_cancel(
        &self,
        id: ExecutionId,
        until: Timestamp,
    ) -> Result<bool, Error> {
        let until = until.min(self.runtime.now() + CANCEL_WORK);
        match self.cancel_until(id, until).await {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.store.release_stop(id, self.runtime.now()).await?;
                Ok(false)
            }
            Err(error) => {
                if let Error::Kubernetes(why) = &error {
                    let message = format!(
                        "it is being ended, but the cluster cannot be asked just now: {why}"
                    );
                    if let Some(current) = self.store.get(id).await? {
                        self.tell(&current, Observation::Canceling { message })
                            .await?;
                    }
                }
                let again = self.runtime.now() + AGAIN_AFTER_FAILURE;
                self.store.release_stop(id, again).await?;
                Err(error)
            }
        }
    }

    async fn cancel_until(&self, id: ExecutionId, until: Timestamp) -> Result<bool, Error> {
        loop {
            let Some(current) = self.store.get(id).await? else {
                return Ok(true);
            };
            if current.status == Status::Finished {
                return Ok(true);
            }
            // Its attempt has ended, and nobody wants the next one ended.
            if current.stop().is_none() {
                return Ok(false);
            }
            if self.runtime.now() >= until {
                return Ok(false);
            }
            match (current.stopping_since, &current.job_uid) {
                (None, None) => self.find_its_job(&current).await?,
                (None, Some(uid)) => self.keep_log_and_stop(&current, uid).await?,
                (Some(since), uid) => {
                    let uid = uid.as_deref().unwrap_or_default();
                    self.see_it_gone(&current, uid, since, until).await?;
                }
            }
        }
    }

    /// It is not known whether its Job was created: asks by its name, and takes the name if it is free, so that a creation
    /// that is still on its way comes to nothing.
    async fn find_its_job(&self, current: &Execution) -> Result<(), Error> {
        self.doubt_creation(current).await?;
        let found = self.job_named(current).await?;
        if let Some(job) = found {
            let asked = self.store.submission(current.id).await?;
            // Another's Job of that name is not ours to delete, and keeps ours from ever being created.
            if job.spec_digest == asked.map(|submission| submission.digest) {
                let exists = Observation::JobExists { uid: job.uid };
                return self.tell(current, exists).await;
            }
        }
        if current.stop() == Some(Stop::RunTimeout) {
            // It ran, so its Job was there.
            let message = "its Job was deleted by somebody before its end was seen".to_owned();
            return self.tell(current, Observation::JobGone { message }).await;
        }
        let may_still_come = match self.take_name(current).await {
            Ok(taken) => !taken,
            // A quota may not leave room for it now, and later for what is on its way.
            Err(Error::Kubernetes(error)) if error.is_definite() => true,
            Err(error) => return Err(error),
        };
        let asked_at = current.stop_wanted_at().unwrap_or(current.created_at);
        if !may_still_come || self.runtime.now() >= asked_at + LATE_CREATION {
            let stopped = Observation::Stopped { end: None };
            return self
                .conclude_cancel(current, &stopped, &nothing_written())
                .await;
        }
        let message = "it is being canceled; whether its Job was created will be known soon";
        let message = message.to_owned();
        self.tell(current, Observation::Canceling { message })
            .await?;
        self.runtime.sleep(LAST_LOOK_INTERVAL).await;
        Ok(())
    }

    /// Applies what was found out about it while it is being ended.
    async fn tell(&self, current: &Execution, observation: Observation) -> Result<(), Error> {
        self.apply(current.id, about(current), &observation, None)
            .await?;
        Ok(())
    }

    /// Its Job is there and was not deleted by us yet: what it did by itself counts, and its log is kept first.
    async fn keep_log_and_stop(&self, current: &Execution, uid: &str) -> Result<(), Error> {
        let pod = self.pod_of(current, uid).await?;
        if let Some(seen) = pod.as_ref().and_then(observation) {
            match self
                .apply(current.id, about(current), &seen, pod.as_ref())
                .await?
            {
                Applied::Finished | Applied::Retried => {
                    return self.retire_job(self.job_of(current, Some(uid))).await;
                }
                Applied::Changed => return Ok(()),
                Applied::Nothing | Applied::Over | Applied::Unknown => {}
            }
        }
        let log = match pod.filter(has_log) {
            None => StoredLog::default(),
            Some(pod) => {
                let since = current.stop_wanted_at().unwrap_or(current.created_at);
                let log = self.whole_log(current, &pod, Some(since)).await?;
                // It may write on until it is ended.
                StoredLog {
                    complete: false,
                    ..log
                }
            }
        };
        let now = self.runtime.now();
        if let Some(next) = transition(current, &Observation::Stopping, now) {
            let told = timeline::steps(current, &Observation::Stopping, &next, now);
            // Whoever wrote in between knew more: the next look begins with that.
            let written = self.store.stop(Step::new(&next, &told), &log).await?;
            if written == Written::Updated {
                self.announce(&next, &told, Also::Nothing);
            }
        }
        Ok(())
    }

    /// Stores the end of a cancel with the log that is kept of it, if the execution still is at the attempt of that record.
    pub(crate) async fn conclude_cancel(
        &self,
        of: &Execution,
        observation: &Observation,
        log: &StoredLog,
    ) -> Result<(), Error> {
        for _ in 0..CAS_ATTEMPTS {
            let current = self.store.get(of.id).await?;
            let Some(current) = current.filter(|now| now.attempt == of.attempt) else {
                return Ok(());
            };
            let now = self.runtime.now();
            let Some(next) = transition(&current, observation, now) else {
                return Ok(());
            };
            let (written, _) = self
                .store_end(&current, observation, &next, log, now)
                .await?;
            match written {
                Written::Updated | Written::Missing => return Ok(()),
                Written::Stale => {}
            }
        }
        Err(Error::Contended)
    }
}

/// The log of what never ran: nothing, and that is all of it.
pub(crate) fn nothing_written() -> StoredLog {
    StoredLog {
        complete: true,
        ..StoredLog::default()
    }
}
