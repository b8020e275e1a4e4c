//! Following the pods: a list where the past is unknown, then a watch until the tick ends.

use domain::{ExecutionId, Observation};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kubernetes::{MANAGED_SELECTOR, PodObservation, WatchEvent};
use std::time::Duration;

use super::{FULL_LIST_EVERY, LISTED_AT, OBSERVATIONS_IN_FLIGHT, RESOURCE_VERSION, Tick};
use crate::apply::{Applied, about_pod};
use crate::observe::{container_end, observation};
use crate::{Error, Platform};

/// How long the server may keep one watch open: a tick ends its watch itself, this is for one that was killed.
const WATCH_TIMEOUT: Duration = Duration::from_secs(290);

/// The pause before the watch is begun anew when it broke.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

impl<P: Platform> Tick<'_, P> {
    /// Answers whether a full list was made, and the version to go on from, if all up to it was carried out.
    pub(super) async fn follow_pods(&self) -> (bool, Option<String>) {
        let mut listed = false;
        let mut version = self.take_resource_version().await.unwrap_or_else(|error| {
            self.failed("the resourceVersion could not be read", &error);
            None
        });
        while !self.is_over() {
            let before = self.failures.get();
            let result = match &version {
                Some(from) => self.watch_from(from).await.map(Some),
                None => {
                    listed = true;
                    self.unless_over(self.list_all())
                        .await
                        .transpose()
                        .map(Option::flatten)
                }
            };
            version = match result {
                Ok(next) if self.failures.get() == before => next,
                // Something seen could not be carried out, so only a list can tell what is still to do.
                Ok(_) => self.after_failure().await,
                Err(error) => {
                    if !error.is_gone() {
                        self.failed("the watch of the pods broke", &error);
                    }
                    self.after_failure().await
                }
            };
        }
        (listed, version)
    }

    async fn after_failure(&self) -> Option<String> {
        self.pause(WATCH_PAUSE).await;
        None
    }

    /// The version to go on from. It is taken out of the store: a tick that is killed leaves none, so that its
    /// successor lists and finds what was half done.
    async fn take_resource_version(&self) -> Result<Option<String>, Error> {
        let store = &self.app.store;
        let version = store
            .get_state(RESOURCE_VERSION)
            .await?
            .filter(|v| !v.is_empty());
        if version.is_some() {
            store.set_state(RESOURCE_VERSION, "").await?;
        }
        let listed_at = store
            .get_state(LISTED_AT)
            .await?
            .and_then(|text| text.parse::<Timestamp>().ok());
        let recent =
            listed_at.is_some_and(|at| self.app.now().duration_since(at) < FULL_LIST_EVERY);
        Ok(version.filter(|_| recent))
    }

    /// Watches until the tick is over or the server ends the stream; answers the version to go on from.
    async fn watch_from(&self, version: &str) -> Result<String, Error> {
        let Some(started) = self
            .unless_over(
                self.app
                    .kubernetes
                    .watch_pods(MANAGED_SELECTOR, version, WATCH_TIMEOUT),
            )
            .await
        else {
            return Ok(version.to_owned());
        };
        let mut newest = version.to_owned();
        let mut broken = None;
        // After an error nothing more is asked for: a body that broke may say so again and again, without end.
        let events = stream::unfold(Some(started?), |watch| async {
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
        match broken {
            Some(error) => Err(error.into()),
            None => Ok(newest),
        }
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
            self.failed("an observation could not be carried out", &error);
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
                self.retire(id, pod.attempt, pod.job_uid.as_deref()).await
            }
            _ => {
                self.ended(applied, id, pod.attempt, pod.job_uid.as_deref())
                    .await
            }
        }
    }

    /// A pod that went without telling an end: somebody deleted it, or its Job.
    async fn pod_is_gone(&self, id: ExecutionId, pod: &PodObservation) -> Result<(), Error> {
        let message = "its pod was deleted by somebody before its end was seen".to_owned();
        let gone = Observation::JobGone { message };
        let applied = self.app.apply(id, about_pod(pod), &gone, None).await?;
        self.ended(applied, id, pod.attempt, pod.job_uid.as_deref())
            .await
    }

    /// Where that ended an attempt, deletes its Job; counts the execution if it is finished by that.
    pub(super) async fn ended(
        &self,
        applied: Applied,
        id: ExecutionId,
        attempt: u32,
        job_uid: Option<&str>,
    ) -> Result<(), Error> {
        if !applied.has_ended() {
            return Ok(());
        }
        if applied == Applied::Finished {
            self.count_finished();
        } else {
            self.room.free();
        }
        self.retire(id, attempt, job_uid).await
    }

    pub(super) async fn retire(
        &self,
        id: ExecutionId,
        attempt: u32,
        job_uid: Option<&str>,
    ) -> Result<(), Error> {
        self.app.retire_job(id, attempt, job_uid).await?;
        let deleted = job_uid.map(str::to_owned);
        self.done.borrow_mut().extend(deleted);
        Ok(())
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
