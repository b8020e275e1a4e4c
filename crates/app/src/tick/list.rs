//! The full list: what the cluster has against what the store believes.

use std::collections::HashSet;

use domain::{About, Execution, ExecutionId, Observation, Status};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{JobObservation, MANAGED_SELECTOR};

use super::{LISTED_AT, OBSERVATIONS_IN_FLIGHT, Tick};
use crate::apply::{Applied, about};
use crate::{Error, Platform, Runtime};

/// How many objects a page of a list has: what kubectl asks for, and far under the limits of memory.
const LIST_PAGE: u32 = 500;

/// How many executions are read from the store at once.
const STORE_PAGE: u32 = 500;

/// How old a Job is left alone at least though its execution is not known: long enough for whoever works on the database
/// or the cluster by hand to see it.
const SWEEP_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// By how much the clocks of hosts may differ: what another one dispatched before a list has no later time than this after its
/// beginning.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(5);

impl<P: Platform> Tick<'_, P> {
    /// Brings the store up to what the cluster has; answers the resourceVersion to watch the pods from. Each page is worked on
    /// before the next is asked for, so that of all there is only the Jobs' names are held at once.
    pub(super) async fn list_all(&self) -> Result<Option<String>, Error> {
        let begun = self.app.now();
        let listed = self.list_jobs().await?;
        let version = self.list_pods().await?;
        self.look_for_missing(begun, &listed).await?;
        self.app.store.recount().await?;
        self.app
            .store
            .set_state(LISTED_AT, &self.app.now().to_string())
            .await?;
        Ok(Some(version))
    }

    /// Works on all Jobs; answers their names.
    async fn list_jobs(&self) -> Result<HashSet<String>, Error> {
        let client = &self.app.kubernetes;
        let mut names = HashSet::new();
        let mut token: Option<String> = None;
        loop {
            let page = client
                .list_jobs(MANAGED_SELECTOR, LIST_PAGE, token.as_deref())
                .await?;
            stream::iter(&page.items)
                .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |job| async {
                    if let Err(error) = self.see_job(job).await {
                        self.failed("a listed Job could not be worked on", &error);
                    }
                })
                .await;
            names.extend(page.items.into_iter().map(|job| job.name));
            token = page.continue_token;
            if token.is_none() {
                return Ok(names);
            }
        }
    }

    /// Works on all pods; answers the resourceVersion of their list. Every page carries that of the first, so that a watch from it
    /// replays what came since.
    async fn list_pods(&self) -> Result<String, Error> {
        let client = &self.app.kubernetes;
        let mut token: Option<String> = None;
        loop {
            let page = client
                .list_pods(MANAGED_SELECTOR, LIST_PAGE, token.as_deref())
                .await?;
            stream::iter(page.items)
                .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |pod| self.see(pod, false))
                .await;
            token = page.continue_token;
            if token.is_none() {
                return Ok(page.resource_version);
            }
        }
    }

    /// Looks for the Jobs that are known to have existed and are not listed. One that was dispatched while the list was made may
    /// rightly be missing from it: the next list is about that.
    async fn look_for_missing(
        &self,
        begun: Timestamp,
        listed: &HashSet<String>,
    ) -> Result<(), Error> {
        let is_missing = |execution: &Execution| {
            execution
                .dispatched_at
                .is_some_and(|at| at < begun + CLOCKS_APART)
                && !listed.contains(&execution.job_name())
        };
        let mut after = None;
        loop {
            let store = &self.app.store;
            let page = store.unfinished_dispatched(after, STORE_PAGE).await?;
            after = page.last().map(|execution| execution.id);
            let is_last = page.len() < STORE_PAGE as usize;
            stream::iter(page.iter().filter(|execution| is_missing(execution)))
                .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |execution| async {
                    if let Err(error) = self.look_for(execution).await {
                        self.failed("a missing Job could not be looked for", &error);
                    }
                })
                .await;
            if is_last {
                return Ok(());
            }
        }
    }

    /// The Job of an attempt that is over is deleted. One that failed without any pod to tell of it is looked into.
    async fn see_job(&self, job: &JobObservation) -> Result<(), Error> {
        let Some(id) = job.execution_id.map(ExecutionId) else {
            return Ok(());
        };
        let Some(execution) = self.app.store.get(id).await? else {
            return self.sweep(id, job).await;
        };
        if execution.status == Status::Finished || job.attempt < execution.attempt {
            return if job.deleted {
                Ok(())
            } else {
                self.retire(id, job.attempt, Some(&job.uid)).await
            };
        }
        let Some(failure) = &job.failed else {
            return Ok(());
        };
        let pods = self.app.kubernetes.pods_of_job(&job.name).await?;
        match pods.into_iter().next() {
            Some(pod) => self.see(pod, false).await,
            None => {
                let message = format!(
                    "its Job failed and no pod is left to tell why ({}): {}",
                    failure.reason, failure.message
                );
                let about = About {
                    attempt: job.attempt,
                    job_uid: Some(&job.uid),
                };
                self.conclude(id, about, message).await?;
            }
        }
        Ok(())
    }

    /// Nobody remembers what this Job was made for: its record was deleted before it. Deleted is only what says that it
    /// belongs to this database, since another Executor may share the namespace.
    async fn sweep(&self, id: ExecutionId, job: &JobObservation) -> Result<(), Error> {
        let Some(created_at) = job.created_at.filter(|_| !job.deleted) else {
            return Ok(());
        };
        let now = self.app.now();
        let too_young = now.duration_since(created_at) < SWEEP_AFTER;
        let keeps_its_name = job.name_held_until.is_some_and(|until| now < until);
        if too_young
            || keeps_its_name
            || job.database.as_deref() != Some(self.app.database().await?)
        {
            return Ok(());
        }
        self.retire(id, job.attempt, Some(&job.uid)).await?;
        self.swept.set(self.swept.get() + 1);
        self.app.store.count_swept().await?;
        let runtime = &self.app.runtime;
        runtime.log(
            "a Job that nobody remembers was deleted",
            &[("job", &job.name)],
        );
        Ok(())
    }

    /// A miss in a list proves nothing: the Job itself is asked for.
    async fn look_for(&self, execution: &Execution) -> Result<(), Error> {
        match self.app.kubernetes.get_job(&execution.job_name()).await {
            Ok(job) if execution.job_uid.as_ref().is_none_or(|uid| *uid == job.uid) => Ok(()),
            Ok(_) => {
                let message = "its Job was replaced by another of the same name";
                self.conclude(execution.id, about(execution), message.to_owned())
                    .await
            }
            Err(error) if error.is_not_found() => {
                let message = "its Job was deleted by somebody before its end was seen";
                self.conclude(execution.id, about(execution), message.to_owned())
                    .await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn conclude(
        &self,
        id: ExecutionId,
        about: About<'_>,
        message: String,
    ) -> Result<(), Error> {
        let gone = Observation::JobGone { message };
        match (self.app.apply(id, about, &gone, None).await?, about.job_uid) {
            // There is none to delete.
            (Applied::Finished, None) => self.count_finished(),
            (Applied::Retried, None) => self.room.free(),
            (applied, uid) => self.ended(applied, id, about.attempt, uid).await?,
        }
        Ok(())
    }
}
