//! Following the pods by a watch until the tick ends.

use domain::{ExecutionId, Observation};
use futures::{StreamExt, stream};
use kubernetes::{Error as KubernetesError, MANAGED_SELECTOR, PodObservation, WatchEvent};
use std::time::Duration;

use super::namespaces::Watched;
use super::{OBSERVATIONS_IN_FLIGHT, Tick};
use crate::apply::{Applied, about_pod};
use crate::namespaces::JobRef;
use crate::observe::{container_end, observation};
use crate::report::{Fields, Level};
use crate::{Error, Platform};

/// How long the server may keep one watch open: a tick ends its watch itself, this is for one that was killed.
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);

/// The pause before the watch is begun anew when it broke.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

const WATCH_BROKE: &str = "the watch of the pods broke";

impl<P: Platform> Tick<'_, P> {
    /// Watches a namespace from its version on until the tick ends, or else from the present one; leaves the version to go on from. What
    /// is before that is carried out, or noted as missed.
    pub(super) async fn follow_pods(&self, at: &Watched) {
        let mut version = at.version.take();
        while !self.is_over() && !at.is_done.get() {
            let Some(from) = version.take() else {
                version = self.present_version(at).await;
                continue;
            };
            let (newest, broken) = self.watch_from(at, &from).await;
            version = match broken {
                None => Some(newest),
                // It may be the server that ended; all that came was carried out, and the next one goes on.
                Some(error) if !error.is_gone() && newest != from => {
                    let chain = Error::from(error).chain();
                    let fields: Fields<'_> = &[("namespace", &at.namespace), ("error", &chain)];
                    self.app.report(Level::Warn, WATCH_BROKE, fields);
                    self.pause(WATCH_PAUSE).await;
                    Some(newest)
                }
                Some(error) => {
                    at.knows_version.set(false);
                    if !error.is_gone() {
                        self.failed_in(&at.namespace, WATCH_BROKE, &error.into());
                    }
                    self.pause(WATCH_PAUSE).await;
                    None
                }
            };
        }
        at.version.replace(version);
    }

    /// The version of the pods as they are now. What came before it is missed, and for a list to tell that begins from now on.
    async fn present_version(&self, at: &Watched) -> Option<String> {
        let client = self.app.kubernetes_in(&at.namespace);
        let page = client.list_pods(MANAGED_SELECTOR, 1, None);
        match self.unless_over(page).await? {
            Ok(page) => {
                at.knows_version.set(true);
                at.miss();
                Some(page.resource_version)
            }
            Err(error) => {
                if matches!(error, KubernetesError::Forbidden { .. }) {
                    at.is_refused();
                }
                let what = "the resourceVersion could not be read";
                self.failed_in(&at.namespace, what, &error.into());
                self.pause(WATCH_PAUSE).await;
                None
            }
        }
    }

    /// Watches until the tick is over or the server ends the stream; answers the version to go on from, and what broke it.
    async fn watch_from(&self, at: &Watched, version: &str) -> (String, Option<KubernetesError>) {
        let mut newest = version.to_owned();
        let mut broken = None;
        let client = self.app.kubernetes_in(&at.namespace);
        let watch = client.watch_pods(MANAGED_SELECTOR, version, WATCH_TIMEOUT);
        let watch = match self.unless_over(watch).await {
            Some(Ok(watch)) => watch,
            Some(Err(error)) => return (newest, Some(error)),
            None => return (newest, None),
        };
        // After an error nothing more is asked for: a body that broke may say so again and again, without end.
        let events = stream::unfold(Some(watch), |watch| async {
            let mut watch = watch?;
            let event = watch.next().await.transpose()?;
            let rest = event.is_ok().then_some(watch);
            Some((event, rest))
        });
        // Ends by itself when the tick does, and lets what is in flight come to its end.
        let mut events = std::pin::pin!(events.take_until(self.until_over()).filter_map(|event| {
            let pod = match event {
                Ok(WatchEvent::Bookmark(version)) => {
                    newest = version;
                    None
                }
                Ok(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                    newest.clone_from(&pod.resource_version);
                    Some((pod, false))
                }
                Ok(WatchEvent::Deleted(pod)) => {
                    newest.clone_from(&pod.resource_version);
                    Some((pod, true))
                }
                Err(error) => {
                    broken = Some(error);
                    None
                }
            };
            std::future::ready(pod)
        }));
        events
            .as_mut()
            .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |(pod, gone)| self.see(pod, gone))
            .await;
        (newest, broken)
    }

    /// Carries out what a pod tells, when all it told before is.
    pub(super) async fn carry_out(&self, pod: PodObservation, gone: bool) {
        let Some(id) = pod.execution_id.map(ExecutionId) else {
            return;
        };
        let job_uid = pod.job_uid.as_deref();
        if job_uid.is_some_and(|uid| self.done.borrow().contains(uid)) {
            return;
        }
        if let (true, Some(terminated)) = (pod.deleted || gone, &pod.terminated) {
            let end = container_end(terminated);
            self.app.seen_ends.borrow_mut().insert(pod.uid.clone(), end);
        }
        let result = match observation(&pod) {
            Some(seen) if !gone || ends(&seen) => self.observe(id, &seen, &pod).await,
            _ if gone => self.pod_is_gone(id, &pod).await,
            _ => Ok(()),
        };
        if let Err(error) = result {
            let what = "an observation could not be carried out";
            self.failed_in(&pod.namespace, what, &error);
        }
    }

    async fn observe(
        &self,
        id: ExecutionId,
        seen: &Observation,
        pod: &PodObservation,
    ) -> Result<(), Error> {
        let applied = self.app.apply(id, about_pod(pod), seen, Some(pod)).await?;
        let is_known = !matches!(applied, Applied::Over | Applied::Unknown);
        if is_known && matches!(seen, Observation::Started { .. }) {
            self.follow(id, pod);
        }
        match applied {
            Applied::Over if !pod.deleted => {
                // It ended before, by somebody who did not get to delete the Job; or that was created late, by a request
                // that had been given up: the sooner it is retired, the less of its script runs.
                self.retire(JobRef::of_pod(id, pod)).await
            }
            _ => self.ended(applied, JobRef::of_pod(id, pod)).await,
        }
    }

    /// A pod that went without telling an end: somebody deleted it, or its Job.
    async fn pod_is_gone(&self, id: ExecutionId, pod: &PodObservation) -> Result<(), Error> {
        let message = "its pod was deleted by somebody before its end was seen".to_owned();
        let gone = Observation::JobGone { message };
        let applied = self.app.apply(id, about_pod(pod), &gone, None).await?;
        self.ended(applied, JobRef::of_pod(id, pod)).await
    }

    /// Where that ended an attempt, deletes its Job; counts the execution if it is finished by that.
    pub(super) async fn ended(&self, applied: Applied, job: JobRef<'_>) -> Result<(), Error> {
        if !applied.has_ended() {
            return Ok(());
        }
        if applied == Applied::Finished {
            self.count_finished();
        } else {
            self.room.give();
        }
        self.app.retire_job_at_the_end(job).await?;
        self.is_done(job.uid);
        Ok(())
    }

    pub(super) async fn retire(&self, job: JobRef<'_>) -> Result<(), Error> {
        self.app.retire_job(job).await?;
        self.is_done(job.uid);
        Ok(())
    }

    fn is_done(&self, job_uid: Option<&str>) {
        let deleted = job_uid.map(str::to_owned);
        self.done.borrow_mut().extend(deleted);
    }
}

fn ends(observation: &Observation) -> bool {
    matches!(
        observation,
        Observation::Ended(_)
            | Observation::PodFailed { .. }
            | Observation::JobGone { .. }
            | Observation::CannotStart { .. }
    )
}
