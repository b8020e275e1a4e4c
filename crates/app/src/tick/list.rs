//! The full list: what the cluster has against what the store believes, page by page, and from tick to tick.
//!
//! First all pods, which tell their ends, then all Jobs. Both come in the order of their names, and a Job's name is made from its
//! execution's id, so that each page of Jobs has all that there are between two ids: only these are compared with the store, and
//! nothing is kept of a page but the place where the next one begins. The watch goes on meanwhile. Each namespace has a list of its own,
//! so that one where it cannot be made keeps no other waiting.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use domain::execution::id_in_job_name;
use domain::{About, Execution, ExecutionId, Observation, Status, transition};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{JobObservation, MANAGED_SELECTOR, PodObservation};
use serde::{Deserialize, Serialize};

use super::namespaces::Watched;
use super::{OBSERVATIONS_IN_FLIGHT, Tick};
use crate::apply::{Applied, about, about_pod};
use crate::namespaces::JobRef;
use crate::observe::observation;
use crate::report::Level;
use crate::{Error, Platform};

/// How many objects a page of a list has: what kubectl asks for, and far under the limits of memory.
const LIST_PAGE: u32 = 500;

/// How many executions are read from the store at once.
const STORE_PAGE: u32 = 500;

/// The pause after a page that could not be worked on, and after a list that another is to follow at once.
const LIST_PAUSE: Duration = Duration::from_millis(500);

/// How old a Job is left alone at least though its execution is not known: long enough for whoever works on the database
/// or the cluster by hand to see it.
const SWEEP_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// By how much the clocks of hosts may differ: what another one dispatched before a list has no later time than this after its
/// beginning.
const CLOCKS_APART: SignedDuration = SignedDuration::from_secs(5);

/// What a tick leaves to the next one of the full list, as the store keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Listing {
    /// The list under way.
    pub pass: Option<Pass>,
    /// Whether another is to follow: since that one has begun, something was missed that it may have passed by.
    pub again: bool,
}

impl Listing {
    /// As it was kept. Of what cannot be read nothing is known.
    pub fn read(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        serde_json::from_str(text).unwrap_or(Self {
            pass: None,
            again: true,
        })
    }

    /// As it is kept; nothing of nothing.
    pub fn text(&self) -> String {
        if *self == Self::default() {
            return String::new();
        }
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// How far a list has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Pass {
    /// When it was begun.
    begun: Timestamp,
    /// What is being listed.
    kind: Kind,
    /// Where its next page begins; none before the first one.
    #[serde(rename = "continue")]
    token: Option<String>,
    /// Up to which id the Jobs of executions were looked for; none before the first.
    looked_to: Option<String>,
    /// Whether there were Jobs of ours.
    #[serde(default)]
    found: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Pods,
    Jobs,
}

impl Pass {
    const fn new(begun: Timestamp) -> Self {
        Self {
            begun,
            kind: Kind::Pods,
            token: None,
            looked_to: None,
            found: false,
        }
    }

    /// From where on Jobs are to be looked for. What it says of a place that is none costs another look.
    fn looked_to(&self) -> Option<ExecutionId> {
        self.looked_to.as_deref()?.parse().ok()
    }
}

impl<P: Platform> Tick<'_, P> {
    /// Makes full lists of that namespace as long as the tick lasts and they are wanted.
    pub(super) async fn keep_listing(&self, at: &Watched) {
        while !self.is_over() && !at.is_done.get() {
            let under_way = at.pass.borrow().clone();
            let Some(mut pass) = under_way.or_else(|| self.begin_list(at)) else {
                self.unless_over(at.list_wanted.take()).await;
                continue;
            };
            match self.next_page(at, &mut pass).await {
                Ok(false) => {
                    // A list of one page each is quicker made anew than kept.
                    let is_long = pass.token.is_some();
                    at.pass.replace(Some(pass));
                    if is_long {
                        self.keep_place(at).await;
                    }
                }
                Ok(true) => {
                    at.pass.take();
                    self.keep_place(at).await;
                    if at.missed.get() {
                        self.pause(LIST_PAUSE).await;
                    }
                }
                Err(error) => {
                    self.give_place_up(at, &mut pass, &error);
                    at.pass.replace(Some(pass));
                    self.pause(LIST_PAUSE).await;
                }
            }
        }
    }

    /// A list that is wanted, unless the watch is to begin first: what comes after it is for the watch to tell.
    fn begin_list(&self, at: &Watched) -> Option<Pass> {
        let begins = at.missed.get() && at.knows_version.get();
        begins.then(|| {
            at.missed.set(false);
            Pass::new(self.app.now())
        })
    }

    /// A place that the API server knows no more is left for the one that it names, or for the beginning of all pods or Jobs.
    fn give_place_up(&self, at: &Watched, pass: &mut Pass, error: &Error) {
        match error {
            Error::Kubernetes(refusal) if pass.token.is_some() && refusal.is_refused_place() => {
                pass.token = refusal.continue_token().map(str::to_owned);
            }
            _ => {
                let what = "a page of the full list could not be worked on";
                self.put_off_in(&at.namespace, what, error);
            }
        }
    }

    /// Works on the next page; answers whether it was the last. One that the tick's end interrupts comes again.
    async fn next_page(&self, at: &Watched, pass: &mut Pass) -> Result<bool, Error> {
        let client = self.app.kubernetes_in(&at.namespace);
        let token = pass.token.clone();
        // One page at a time is in memory as it came, however many namespaces there are.
        let turn = self.unless_over(self.page_turn.lock()).await;
        let (next, is_last) = match pass.kind {
            Kind::Pods => {
                let page = client.list_pods(MANAGED_SELECTOR, LIST_PAGE, token.as_deref());
                let Some(page) = self.unless_over(page).await.transpose()? else {
                    return Ok(false);
                };
                drop(turn);
                self.listed.set(true);
                self.see_pods(page.items).await?;
                (page.continue_token, false)
            }
            Kind::Jobs => {
                let page = client.list_jobs(MANAGED_SELECTOR, LIST_PAGE, token.as_deref());
                let Some(page) = self.unless_over(page).await.transpose()? else {
                    return Ok(false);
                };
                drop(turn);
                self.listed.set(true);
                let is_last = page.continue_token.is_none();
                pass.found |= page.items.iter().any(|job| job.execution_id.is_some());
                let upto = page.items.iter().filter_map(|j| id_in_job_name(&j.name));
                let upto = upto.max().max(pass.looked_to());
                self.see_jobs(at, &page.items).await?;
                // Behind the last page there are none at all; a page that has none of ours says nothing.
                if is_last || upto.is_some() {
                    let upto = upto.filter(|_| !is_last);
                    self.look_for_missing(at, pass, upto, &page.items).await?;
                }
                if !self.is_over() {
                    pass.looked_to = upto.map(|id| id.to_string());
                }
                (page.continue_token, is_last)
            }
        };
        if self.is_over() {
            return Ok(false);
        }
        if is_last {
            self.app.store.recount().await?;
            self.keep_end_of_list(at, pass.found).await?;
            return Ok(true);
        }
        if next.is_none() {
            pass.kind = Kind::Jobs;
        }
        pass.token = next;
        Ok(false)
    }

    /// What the store has of those, by id.
    async fn records(
        &self,
        ids: impl Iterator<Item = ExecutionId>,
    ) -> Result<HashMap<ExecutionId, Execution>, Error> {
        let ids: HashSet<ExecutionId> = ids.collect();
        let mut ids: Vec<ExecutionId> = ids.into_iter().collect();
        // In order: the simulator replays histories.
        ids.sort();
        let found = self.app.store.get_many(&ids).await?;
        Ok(found.into_iter().map(|e| (e.id, e)).collect())
    }

    /// Carries out what the pods of a page tell that the store does not know yet.
    async fn see_pods(&self, pods: Vec<PodObservation>) -> Result<(), Error> {
        let ids = pods.iter().filter_map(|pod| pod.execution_id);
        let records = self.records(ids.map(ExecutionId)).await?;
        let now = self.app.now();
        let mut news = Vec::new();
        for pod in pods {
            let record = pod.execution_id.map(ExecutionId);
            let record = record.and_then(|id| records.get(&id));
            match record.filter(|record| self.has_no_news(&pod, record, now)) {
                Some(record) if runs(&pod) => self.follow(record.id, &pod),
                Some(_) => {}
                None => news.push(pod),
            }
        }
        stream::iter(news)
            .take_until(self.until_over())
            .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |pod| self.see(pod, false))
            .await;
        Ok(())
    }

    async fn see_jobs(&self, at: &Watched, jobs: &[JobObservation]) -> Result<(), Error> {
        let ids = jobs.iter().filter_map(|job| job.execution_id);
        let records = self.records(ids.map(ExecutionId)).await?;
        stream::iter(jobs)
            .take_until(self.until_over())
            .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |job| async {
                let record = job.execution_id.map(ExecutionId);
                let record = record.and_then(|id| records.get(&id));
                if let Err(error) = self.see_job(job, record).await {
                    let what = "a listed Job could not be worked on";
                    self.failed_in(&at.namespace, what, &error);
                }
            })
            .await;
        Ok(())
    }

    /// Looks for the Jobs that are known to have existed, and are not among those of a page: of all executions from where the
    /// one before ended, up to that id. One that was dispatched while the list was made may rightly be missing from
    /// it: the next list is about that.
    async fn look_for_missing(
        &self,
        at: &Watched,
        pass: &Pass,
        upto: Option<ExecutionId>,
        listed: &[JobObservation],
    ) -> Result<(), Error> {
        let names: HashSet<&str> = listed.iter().map(|job| job.name.as_str()).collect();
        let is_missing = |execution: &Execution| {
            execution
                .dispatched_at
                .is_some_and(|at| at < pass.begun + CLOCKS_APART)
                && !names.contains(execution.job_name().as_str())
        };
        let mut after = pass.looked_to();
        while !self.is_over() {
            let store = &self.app.store;
            let page = store.unfinished_dispatched(at.within(), after, upto, STORE_PAGE);
            let page = page.await?;
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            stream::iter(page.iter().filter(|execution| is_missing(execution)))
                .take_until(self.until_over())
                .for_each_concurrent(OBSERVATIONS_IN_FLIGHT, |execution| async {
                    if let Err(error) = self.look_for(execution).await {
                        let what = "a missing Job could not be looked for";
                        self.failed_in(&at.namespace, what, &error);
                    }
                })
                .await;
        }
        Ok(())
    }

    /// The Job of an attempt that is over is deleted. One that failed without any pod to tell of it is looked into.
    async fn see_job(&self, job: &JobObservation, record: Option<&Execution>) -> Result<(), Error> {
        let Some(id) = job.execution_id.map(ExecutionId) else {
            return Ok(());
        };
        if self.done.borrow().contains(&job.uid) {
            return Ok(());
        }
        let execution = match record {
            Some(record) => record.clone(),
            // One that could not be read with others is told from one that is not there.
            None => match self.app.store.get(id).await? {
                Some(execution) => execution,
                None => return self.sweep(id, job).await,
            },
        };
        if self.app.namespace_of(&execution) != job.namespace {
            // Somebody has given one of theirs this label.
            return Ok(());
        }
        if execution.status == Status::Finished || job.attempt < execution.attempt {
            return if job.deleted {
                Ok(())
            } else {
                self.retire(JobRef::seen(id, job)).await
            };
        }
        let Some(failure) = &job.failed else {
            return Ok(());
        };
        let client = self.app.kubernetes_in(&job.namespace);
        let pods = client.pods_of_job(&job.name).await?;
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
                self.conclude(&execution, about, message).await?;
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
        self.retire(JobRef::seen(id, job)).await?;
        self.swept.set(self.swept.get() + 1);
        self.app.store.count_swept().await?;
        let message = "a Job that nobody remembers was deleted";
        self.app.report(Level::Warn, message, &[("job", &job.name)]);
        Ok(())
    }

    /// A miss in a list proves nothing: the Job itself is asked for.
    async fn look_for(&self, execution: &Execution) -> Result<(), Error> {
        let client = self.app.kubernetes_of(execution);
        match client.get_job(&execution.job_name()).await {
            Ok(job) if execution.job_uid.as_ref().is_none_or(|uid| *uid == job.uid) => Ok(()),
            Ok(_) => {
                let message = "its Job was replaced by another of the same name";
                self.conclude(execution, about(execution), message.to_owned())
                    .await
            }
            Err(error) if error.is_not_found() => {
                let message = "its Job was deleted by somebody before its end was seen";
                self.conclude(execution, about(execution), message.to_owned())
                    .await
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn conclude(
        &self,
        of: &Execution,
        about: About<'_>,
        message: String,
    ) -> Result<(), Error> {
        let gone = Observation::JobGone { message };
        let applied = self.app.apply(of.id, about, &gone, None).await?;
        match (applied, about.job_uid) {
            // There is none to delete.
            (Applied::Finished, None) => self.count_finished(),
            (Applied::Retried, None) => self.room.give(),
            (applied, uid) => {
                let job = JobRef {
                    attempt: about.attempt,
                    ..self.app.job_of(of, uid)
                };
                self.ended(applied, job).await?;
            }
        }
        Ok(())
    }

    /// Whether the record says all that the pod tells. What is finished, or at another attempt, is looked into.
    fn has_no_news(&self, pod: &PodObservation, record: &Execution, now: Timestamp) -> bool {
        let is_current =
            record.status != Status::Finished && self.app.is_current(record, about_pod(pod));
        let seen = observation(pod);
        is_current
            && !pod.deleted
            && seen.is_none_or(|seen| transition(record, &seen, now).is_none())
    }
}

fn runs(pod: &PodObservation) -> bool {
    matches!(observation(pod), Some(Observation::Started { .. }))
}
