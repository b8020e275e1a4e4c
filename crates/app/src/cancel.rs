//! Canceling: asked for in one write, carried out step by step until it is sure that nothing runs any more. What has
//! run for too long is ended in the same way.
//!
//! The log is read and stored before the Job is deleted, the deletion waits for the pod (Foreground), and the outcome is
//! stored when Job and pod are confirmed gone. Every step can be done again, by whoever comes after a crash. What
//! the container did by itself before the deletion is its outcome, whoever asked for what.

use std::pin::pin;
use std::time::Duration;

use domain::{
    ContainerEnd, Execution, ExecutionId, Observation, Status, Stop, timeline, transition,
};
use futures::future::{self, Either};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{PodObservation, Propagation};
use store::{Step, StoredLog, Written};

use crate::apply::{Applied, CAS_ATTEMPTS, about};
use crate::logs::{better, has_log};
use crate::observe::{container_end, observation};
use crate::submit::CLAIM;
use crate::{App, Error, Platform, Runtime};

/// For how long whoever takes up a cancel has it to itself.
pub(crate) const CANCEL_CLAIM: SignedDuration = SignedDuration::from_secs(15);

/// How long of that it works on it; the rest is for what it has in hand then.
const CANCEL_WORK: SignedDuration = SignedDuration::from_secs(12);

/// When somebody may take up a cancel again at which something failed.
const AGAIN_AFTER_FAILURE: SignedDuration = SignedDuration::from_secs(1);

/// The first pause between two looks at a pod that is ending: most end within a second.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The longest such pause.
const LAST_LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a creation that nobody has an answer to may still be on its way: an API server gives a request up
/// after 60 s (its default), and the last claim on the creation may have begun just before the cancel.
const LATE_CREATION: SignedDuration = SignedDuration::from_secs(60).saturating_add(CLAIM);

/// How long after its grace a pod may take to go before its caller is told what that waits for.
const SLOW_END: SignedDuration = SignedDuration::from_secs(15);

/// How long after its grace a pod may take to go at most. Clusters themselves give an unreachable node five minutes before
/// they do anything about its pods.
const CONFIRMATION_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// How long the followed log may take to come to its end once the pod is gone.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A followed log that ended is the whole log if its container is seen ended so soon after.
const END_AFTER_LOG: SignedDuration = SignedDuration::from_secs(3);

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

/// What one look at an ending pod came to.
enum Going {
    /// Job and pod are gone for sure.
    Gone {
        end: Option<ContainerEnd>,
        never_ran: bool,
        /// When its end was first seen.
        at: Timestamp,
    },
    /// It is finished otherwise, or somebody else has finished it.
    Over,
    /// Its time of work is over, and it still is there.
    Later,
    /// It could not be confirmed in time.
    Unconfirmed(String),
}

impl<P: Platform> App<P> {
    /// Notes that an execution is to be canceled; one without a Job is finished by it at once.
    ///
    /// # Errors
    /// When the store cannot take it.
    pub async fn cancel(&self, id: ExecutionId) -> Result<Canceled, Error> {
        for _ in 0..CAS_ATTEMPTS {
            let Some(current) = self.store.get(id).await? else {
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
            let finished = next.status == Status::Finished;
            let too_late = next.stop() == Some(Stop::RunTimeout);
            let written = if finished {
                let log = nothing_written();
                next.log = Some(log.summary());
                self.store.finish(Step::new(&next, &told), &log).await?
            } else if too_late {
                // The ticks are ending it, and go on with that.
                self.store.update(Step::new(&next, &told)).await?
            } else {
                self.store
                    .request_cancel(Step::new(&next, &told), now + CANCEL_CLAIM)
                    .await?
            };
            match written {
                Written::Updated => {
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
            self.runtime.log(
                "a cancel is left to a later tick",
                &[("execution", &id), ("error", &error.chain())],
            );
        }
    }

    /// What was canceled in the pause before an attempt has the Job of the one before deleted at its end; the full list
    /// does so too, but later.
    async fn delete_earlier_job(&self, id: ExecutionId) -> Result<(), Error> {
        match self.store.get(id).await? {
            Some(canceled) if canceled.attempt > 1 => {
                self.delete_job(id, canceled.attempt - 1, None).await
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
                        let canceling = Observation::Canceling { message };
                        self.apply(id, about(&current), &canceling, None).await?;
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

    /// It is not known whether its Job was created: asks by its name. Nobody creates it any more, but a creation may be on
    /// its way.
    async fn find_its_job(&self, current: &Execution) -> Result<(), Error> {
        let found = match self.kubernetes.get_job(&current.job_name()).await {
            Ok(job) => Some(job),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        if let Some(job) = found {
            let asked = self.store.submission(current.id).await?;
            // Another's Job of that name is not ours to delete, and keeps ours from ever being created.
            if job.spec_digest == asked.map(|submission| submission.digest) {
                let uid = job.uid;
                self.apply(
                    current.id,
                    about(current),
                    &Observation::JobExists { uid },
                    None,
                )
                .await?;
                return Ok(());
            }
        }
        if current.stop() == Some(Stop::RunTimeout) {
            // It ran, so its Job was there.
            let message = "its Job was deleted by somebody before its end was seen".to_owned();
            self.apply(
                current.id,
                about(current),
                &Observation::JobGone { message },
                None,
            )
            .await?;
            return Ok(());
        }
        let asked_at = current.stop_wanted_at().unwrap_or(current.created_at);
        if self.runtime.now() >= asked_at + LATE_CREATION {
            let stopped = Observation::Stopped { end: None };
            return self
                .conclude_cancel(current, &stopped, &nothing_written())
                .await;
        }
        let message = "it is being canceled; whether its Job was created will be known soon";
        let message = message.to_owned();
        self.apply(
            current.id,
            about(current),
            &Observation::Canceling { message },
            None,
        )
        .await?;
        self.runtime.sleep(LAST_LOOK_INTERVAL).await;
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
                    return self
                        .delete_job(current.id, current.attempt, Some(uid))
                        .await;
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
            let (Written::Updated | Written::Stale | Written::Missing) =
                self.store.stop(Step::new(&next, &told), &log).await?;
        }
        Ok(())
    }

    /// Deletes the Job and waits for it and its pod to be gone, while the log is followed to its end: so the last words of
    /// a script that catches SIGTERM are kept.
    async fn see_it_gone(
        &self,
        current: &Execution,
        uid: &str,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<(), Error> {
        let pod = self.pod_of(current, uid).await?;
        let follower = match pod.as_ref().filter(|pod| has_log(pod)) {
            Some(pod) => Some(self.any_follower(current.id, pod).await?),
            None => None,
        };
        let follow = pin!(async {
            let (follower, is_followed) = follower?;
            if is_followed {
                self.until_ended(&follower).await;
            } else {
                self.follow_once(current.id, &follower).await.ok()?;
            }
            Some((follower.log(), follower.ended()?))
        });
        let going = pin!(self.delete_and_watch(current, uid, pod, since, until));
        let (going, followed) = match future::select(going, follow).await {
            Either::Right((followed, going)) => (going.await?, followed),
            Either::Left((going, follow)) => match going? {
                gone @ Going::Gone { .. } => {
                    let rest = pin!(self.runtime.sleep(LAST_LINES));
                    match future::select(follow, rest).await {
                        Either::Left((followed, _)) => (gone, followed),
                        Either::Right(_) => (gone, None),
                    }
                }
                other => (other, None),
            },
        };
        let kept = self.store.log(current.id).await?.unwrap_or_default();
        match going {
            Going::Over | Going::Later => Ok(()),
            Going::Unconfirmed(message) => {
                let lost = Observation::StopUnconfirmed { message };
                self.conclude_cancel(current, &lost, &kept).await
            }
            Going::Gone { end, never_ran, at } => {
                let log = match followed {
                    Some((log, ended)) => {
                        let whole = at.duration_since(ended) <= END_AFTER_LOG;
                        let complete = log.complete && whole;
                        better(kept, StoredLog { complete, ..log })
                    }
                    None if never_ran && kept.bytes == 0 => nothing_written(),
                    None => kept,
                };
                self.conclude_cancel(current, &Observation::Stopped { end }, &log)
                    .await
            }
        }
    }

    async fn delete_and_watch(
        &self,
        current: &Execution,
        uid: &str,
        mut last: Option<PodObservation>,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Going, Error> {
        let name = current.job_name();
        match self
            .kubernetes
            .delete_job(&name, Some(uid), Propagation::Foreground)
            .await
        {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
            _ => {}
        }
        let mut ended_at = None;
        let mut interval = FIRST_LOOK_INTERVAL;
        loop {
            let mut pod = self.pod_of(current, uid).await?;
            if pod.is_none() && self.job_is_gone(&name, uid).await? {
                // Asked again: while the Job was there, it might have made one.
                pod = self.pod_of(current, uid).await?;
                if pod.is_none() {
                    let has_no_node = |pod: &PodObservation| pod.node.is_none();
                    return Ok(Going::Gone {
                        end: last.as_ref().and_then(|pod| self.end_of(pod)),
                        never_ran: last.as_ref().is_some_and(has_no_node),
                        at: ended_at.unwrap_or_else(|| self.runtime.now()),
                    });
                }
            }
            if let Some(pod) = pod {
                if let Some(terminated) = &pod.terminated {
                    ended_at.get_or_insert(self.runtime.now());
                    let end = Observation::Ended(container_end(terminated));
                    let applied = self
                        .apply(current.id, about(current), &end, Some(&pod))
                        .await?;
                    if applied.has_ended() {
                        return Ok(Going::Over);
                    }
                }
                last = Some(pod);
            }
            let grace = SignedDuration::from_secs(current.timeouts.grace_seconds.into());
            let ends_by = last.as_ref().and_then(|pod| pod.delete_by);
            let ends_by = ends_by.map_or(since + grace, |at| at.max(since + grace));
            let now = self.runtime.now();
            let message = ending_slowly(last.as_ref());
            if now >= until {
                return Ok(if now >= ends_by + CONFIRMATION_LIMIT {
                    let why = match current.stop() {
                        Some(Stop::RunTimeout) => "its time to run was over",
                        _ => "it was canceled",
                    };
                    Going::Unconfirmed(format!(
                        "{why}, but {message} and the script may still run there"
                    ))
                } else {
                    Going::Later
                });
            }
            if now >= ends_by + SLOW_END {
                let message = format!("it is being ended, but {message}");
                self.apply(
                    current.id,
                    about(current),
                    &Observation::Canceling { message },
                    None,
                )
                .await?;
            }
            self.runtime.sleep(interval).await;
            interval = (interval * 3 / 2).min(LAST_LOOK_INTERVAL);
        }
    }

    /// How the container of a pod ended that is gone now, as far as anybody here has seen.
    fn end_of(&self, last: &PodObservation) -> Option<ContainerEnd> {
        let seen = last.terminated.as_ref().map(container_end);
        seen.or_else(|| self.seen_ends.borrow().get(&last.uid).cloned())
    }

    async fn job_is_gone(&self, name: &str, uid: &str) -> Result<bool, Error> {
        match self.kubernetes.get_job(name).await {
            Ok(job) => Ok(job.uid != uid),
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The pod of that Job; of several the one that has not ended.
    async fn pod_of(
        &self,
        current: &Execution,
        uid: &str,
    ) -> Result<Option<PodObservation>, Error> {
        let pods = self.kubernetes.pods_of_job(&current.job_name()).await?;
        let ours = pods
            .into_iter()
            .filter(|pod| pod.job_uid.as_deref() == Some(uid));
        Ok(ours.min_by_key(|pod| pod.terminated.is_some()))
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

/// What is known of a pod that takes long to go.
fn ending_slowly(pod: Option<&PodObservation>) -> String {
    match pod {
        Some(PodObservation {
            name,
            node: Some(node),
            ..
        }) => format!(
            "the node {node} has not confirmed the end of the pod {name}: it may be out of reach,"
        ),
        Some(pod) => format!("the pod {} is not gone yet,", pod.name),
        None => "its Job is not gone yet,".to_owned(),
    }
}
