//! Ending the pod of an execution that is being ended, and seeing it gone, while the last lines of its log come in.

use std::pin::pin;
use std::time::Duration;

use domain::{ContainerEnd, Execution, Observation, Stop};
use futures::future::{self, Either};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{PodObservation, Propagation};
use store::StoredLog;

use super::{LAST_LOOK_INTERVAL, nothing_written};
use crate::apply::about;
use crate::logs::{better, has_log};
use crate::observe::container_end;
use crate::{App, Error, Platform, Runtime};

/// The first pause between two looks at a pod that is ending: most end within a second.
const FIRST_LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long after its grace a pod may take to go before its caller is told what that waits for.
const SLOW_END: SignedDuration = SignedDuration::from_secs(15);

/// How long after its grace a pod may take to go at most. Clusters themselves give an unreachable node five minutes before
/// they do anything about its pods.
const CONFIRMATION_LIMIT: SignedDuration = SignedDuration::from_mins(10);

/// How long the followed log may take to come to its end once the pod is gone.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A followed log that ended is the whole log if its container is seen ended so soon after.
const END_AFTER_LOG: SignedDuration = SignedDuration::from_secs(3);

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
    /// Deletes the Job, or ends its pod where its name must stay taken, and waits for them to be gone, while the log is
    /// followed to its end: so the last words of a script that catches SIGTERM are kept.
    pub(super) async fn see_it_gone(
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
        let going = pin!(self.end_and_watch(current, uid, pod, since, until));
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

    async fn end_and_watch(
        &self,
        current: &Execution,
        uid: &str,
        mut last: Option<PodObservation>,
        since: Timestamp,
        until: Timestamp,
    ) -> Result<Going, Error> {
        if current.creation_in_doubt {
            self.hold_name(current, current.attempt, Some(uid)).await?;
        } else {
            self.delete_job(current, uid, Propagation::Foreground)
                .await?;
        }
        let mut ended_at = None;
        let mut interval = FIRST_LOOK_INTERVAL;
        loop {
            let mut pod = self.pod_of(current, uid).await?;
            if !may_run(current, pod.as_ref()) && self.makes_no_pod(current, uid).await? {
                // Asked again: before, it might have made one.
                pod = self.pod_of(current, uid).await?;
                if !may_run(current, pod.as_ref()) {
                    last = pod.or(last);
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
                self.tell(current, Observation::Canceling { message })
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

    /// Whether its Job is gone; or, where it stays for its name, has confirmed to make no pod any more.
    async fn makes_no_pod(&self, current: &Execution, uid: &str) -> Result<bool, Error> {
        let job = self.job_named(current).await?;
        let Some(job) = job.filter(|job| job.uid == uid) else {
            return Ok(true);
        };
        let has_finished = job.complete.is_some() || job.failed.is_some();
        Ok(current.creation_in_doubt && (job.suspension.is_some() || has_finished))
    }

    /// The pod of that Job; of several the one that has not ended.
    pub(super) async fn pod_of(
        &self,
        current: &Execution,
        uid: &str,
    ) -> Result<Option<PodObservation>, Error> {
        let pods = self
            .kubernetes_for(current)
            .pods_of_job(&current.job_name())
            .await?;
        let ours = pods
            .into_iter()
            .filter(|pod| pod.job_uid.as_deref() == Some(uid));
        Ok(ours.min_by_key(|pod| pod.terminated.is_some()))
    }
}

/// Whether something of the script may still run in that pod. Where its Job stays, so does a pod that has ended by itself.
fn may_run(current: &Execution, pod: Option<&PodObservation>) -> bool {
    pod.is_some_and(|pod| !current.creation_in_doubt || pod.terminated.is_none())
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
