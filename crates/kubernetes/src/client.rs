//! The calls that Executor makes: each request as a value, each answer within its limit.

mod send;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube_core::params::{
    DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchParams,
};
use kube_core::request::Request;
use serde::Serialize;

use crate::body;
use crate::config::{ClientConfig, checked};
use crate::error::Error;
use crate::event::{EventObservation, JobEvent};
use crate::job::ANNOTATION_NAME_HELD_UNTIL;
use crate::job_status::JobObservation;
use crate::log::{LogOptions, LogStream};
use crate::pod::PodObservation;
use crate::transport::{Timeouts, Transport};
use crate::watch::{Observed, WatchStream};
use crate::wire;
use send::{ANYTHING, JSON, REFUSAL_LIMIT_BYTES};

/// Selects what Executor has made: the same label is on its Jobs and on their pods.
pub const MANAGED_SELECTOR: &str = "app.kubernetes.io/managed-by=executor";

/// One object, in bytes: etcd takes 1.5 MiB of it, JSON and `managedFields` at most double that.
const OBJECT_LIMIT_BYTES: usize = 4 << 20;

/// One page of a list, in bytes: it is held in a component's memory as a whole. A page of ordinary Jobs has some
/// 4 KiB an item; a fuller one is asked for again in smaller pieces.
const PAGE_LIMIT_BYTES: usize = 16 << 20;

/// By how much a page is made smaller that was too large: large scripts are inlined up to 64 KiB, so
/// one or two steps suffice.
const PAGE_SHRINK: u32 = 8;

/// How many pods of one Job are read: it makes one, and a second only when the first was taken from it.
const PODS_OF_JOB_LIMIT: u32 = 16;

/// How many events of one object are read: repeated ones are counted, not listed.
const EVENTS_LIMIT: u32 = 100;

/// A watch that the server keeps open longer than this is refused by the request builder.
const WATCH_TIMEOUT_LIMIT_SECONDS: u64 = 290;

/// What becomes of a deleted Job's pods and ConfigMaps. There is no third: left alone, its pods would run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// The Job goes at once, they follow.
    Background,
    /// They go first; the Job is gone when they are.
    Foreground,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The objects.
    pub items: Vec<K>,
    /// The version of the whole list: where a watch goes on after the last page.
    pub resource_version: String,
    /// Gives the next page, for some minutes; none on the last one.
    pub continue_token: Option<String>,
}

/// Talks to one API server about one namespace.
#[derive(Debug)]
pub struct Client<T> {
    config: ClientConfig,
    transport: T,
}

impl<T: Transport> Client<T> {
    /// Puts the two together; sends nothing.
    pub fn new(config: ClientConfig, transport: T) -> Self {
        Self { config, transport }
    }

    /// The configuration.
    pub fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// The same client for the objects of that namespace.
    pub fn within(&self, namespace: &str) -> Client<&T> {
        Client {
            config: self.config.clone().with_namespace(namespace),
            transport: &self.transport,
        }
    }

    /// The same client for requests that are part of a trace: each has that header `traceparent`, for servers that trace
    /// themselves.
    #[must_use]
    pub fn traced(self, traceparent: &str) -> Self {
        Self {
            config: self.config.with_traceparent(traceparent),
            ..self
        }
    }

    /// The way out itself, for requests to others than the API server: nothing of ours is added to them, no token above all.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Creates a Job.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when there is one of that name; see [`Error::is_definite`] for the others.
    pub async fn create_job(&self, job: &Job) -> Result<JobObservation, Error> {
        self.post_job(job, &PostParams::default()).await
    }

    /// Goes through all of a Job's creation, admission and quotas included, and keeps nothing.
    ///
    /// # Errors
    /// As [`create_job`](Self::create_job).
    pub async fn try_job(&self, job: &Job) -> Result<JobObservation, Error> {
        self.post_job(job, &dry_run()).await
    }

    async fn post_job(&self, job: &Job, params: &PostParams) -> Result<JobObservation, Error> {
        let request = self.jobs()?.create(params, json(job)?).map_err(bad_input)?;
        Ok(self
            .call::<wire::Job>(request, OBJECT_LIMIT_BYTES)
            .await?
            .into())
    }

    /// Creates a ConfigMap.
    ///
    /// # Errors
    /// As [`create_job`](Self::create_job).
    pub async fn create_config_map(&self, config_map: &ConfigMap) -> Result<(), Error> {
        self.post_config_map(config_map, &PostParams::default())
            .await
    }

    /// The same, as far as it goes without keeping anything.
    ///
    /// # Errors
    /// As [`create_job`](Self::create_job).
    pub async fn try_config_map(&self, config_map: &ConfigMap) -> Result<(), Error> {
        self.post_config_map(config_map, &dry_run()).await
    }

    async fn post_config_map(
        &self,
        config_map: &ConfigMap,
        params: &PostParams,
    ) -> Result<(), Error> {
        let config_maps = self.config.objects("api/v1", "configmaps")?;
        let request = config_maps
            .create(params, json(config_map)?)
            .map_err(bad_input)?;
        self.call::<wire::Object>(request, OBJECT_LIMIT_BYTES)
            .await
            .map(|_| ())
    }

    /// The Job of that name.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none: then it surely is not there, since no cache is asked.
    pub async fn get_job(&self, name: &str) -> Result<JobObservation, Error> {
        let request = self
            .jobs()?
            .get(checked(name)?, &GetParams::default())
            .map_err(bad_input)?;
        Ok(self
            .call::<wire::Job>(request, OBJECT_LIMIT_BYTES)
            .await?
            .into())
    }

    /// Lets a Job that was created suspended make its pod. Doing so twice is harmless.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name.
    pub async fn unsuspend_job(&self, name: &str) -> Result<JobObservation, Error> {
        let patch = Patch::Merge(serde_json::json!({"spec": {"suspend": false}}));
        self.patch_job(name, &patch).await
    }

    /// Ends the pod of that Job for good; the Job stays, to keep its name until that time. It is suspended, which its
    /// controller confirms by a condition, and wants no pod any more: so unsuspending it later starts nothing. One that is
    /// finished stays finished.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name, [`Error::Conflict`] when it is not as it was seen.
    pub async fn halt_job(&self, job: &JobObservation, until: Timestamp) -> Result<(), Error> {
        let patch = Patch::Merge(serde_json::json!({
            "metadata": {
                "resourceVersion": job.resource_version,
                "annotations": {ANNOTATION_NAME_HELD_UNTIL: until.to_string()},
            },
            "spec": {"suspend": true, "parallelism": 0},
        }));
        self.patch_job(&job.name, &patch).await.map(|_| ())
    }

    async fn patch_job(
        &self,
        name: &str,
        patch: &Patch<serde_json::Value>,
    ) -> Result<JobObservation, Error> {
        let request = self
            .jobs()?
            .patch(checked(name)?, &PatchParams::default(), patch)
            .map_err(bad_input)?;
        Ok(self
            .call::<wire::Job>(request, OBJECT_LIMIT_BYTES)
            .await?
            .into())
    }

    /// Deletes the Job of that name, if it has that uid. It may take a while to be gone.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none of that name, [`Error::Conflict`] when it has another uid.
    pub async fn delete_job(
        &self,
        name: &str,
        uid: Option<&str>,
        propagation: Propagation,
    ) -> Result<(), Error> {
        let mut params = match propagation {
            Propagation::Background => DeleteParams::background(),
            Propagation::Foreground => DeleteParams::foreground(),
        };
        if let Some(uid) = uid {
            let uid = Some(uid.to_owned());
            params = params.preconditions(Preconditions {
                uid,
                ..Preconditions::default()
            });
        }
        let request = self
            .jobs()?
            .delete(checked(name)?, &params)
            .map_err(bad_input)?;
        let mut response = self.send(request, JSON, Timeouts::CALL).await?;
        // It is done; the rest is read only so that the connection can be used again.
        body::beginning(response.body_mut(), OBJECT_LIMIT_BYTES).await;
        Ok(())
    }

    /// One page of Jobs. `limit` is the most there can be; fewer come when they are large.
    ///
    /// # Errors
    /// [`Error::Gone`] when the continue token is too old: go on with [`Error::continue_token`], or begin anew.
    pub async fn list_jobs(
        &self,
        selector: &str,
        limit: u32,
        continue_token: Option<&str>,
    ) -> Result<Page<JobObservation>, Error> {
        self.list(&self.jobs()?, selector, limit, continue_token)
            .await
    }

    /// One page of Pods, as [`list_jobs`](Self::list_jobs).
    ///
    /// # Errors
    /// As there.
    pub async fn list_pods(
        &self,
        selector: &str,
        limit: u32,
        continue_token: Option<&str>,
    ) -> Result<Page<PodObservation>, Error> {
        self.list(&self.pods()?, selector, limit, continue_token)
            .await
    }

    /// The Pods of a Job: one, or none yet; more only when the cluster has replaced one.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn pods_of_job(&self, job_name: &str) -> Result<Vec<PodObservation>, Error> {
        let selector = format!("job-name={}", checked(job_name)?);
        Ok(self
            .list(&self.pods()?, &selector, PODS_OF_JOB_LIMIT, None)
            .await?
            .items)
    }

    /// Watches Jobs from a resource version on; the server ends the watch after `timeout` (whole seconds, up to 290).
    ///
    /// # Errors
    /// [`Error::Gone`] when the version is too old: list anew.
    pub async fn watch_jobs(
        &self,
        selector: &str,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<WatchStream<JobObservation, T::Body>, Error> {
        self.watch(&self.jobs()?, selector, resource_version, timeout)
            .await
    }

    /// Watches Pods, as [`watch_jobs`](Self::watch_jobs).
    ///
    /// # Errors
    /// As there.
    pub async fn watch_pods(
        &self,
        selector: &str,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<WatchStream<PodObservation, T::Body>, Error> {
        self.watch(&self.pods()?, selector, resource_version, timeout)
            .await
    }

    /// The log of a pod's container.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the pod is gone, [`Error::BadRequest`] when its container has not started.
    pub async fn read_log(
        &self,
        pod_name: &str,
        options: &LogOptions,
    ) -> Result<LogStream<T::Body>, Error> {
        let request = self
            .pods()?
            .logs(checked(pod_name)?, &options.params())
            .map_err(bad_input)?;
        let timeouts = if options.follow {
            Timeouts::FOLLOW
        } else {
            Timeouts::LOG
        };
        let body = self.send(request, ANYTHING, timeouts).await?.into_body();
        Ok(LogStream { body })
    }

    /// What happened to the object of that uid, in no particular order. Events are kept for an hour or so.
    ///
    /// # Errors
    /// When the API server does not say.
    pub async fn list_events_of(&self, uid: &str) -> Result<Vec<EventObservation>, Error> {
        let field = format!("involvedObject.uid={}", checked(uid)?);
        let params = ListParams::default().fields(&field).limit(EVENTS_LIMIT);
        let request = self
            .config
            .objects("api/v1", "events")?
            .list(&params)
            .map_err(bad_input)?;
        let list = self
            .call::<wire::List<wire::Event>>(request, PAGE_LIMIT_BYTES)
            .await?;
        Ok(list
            .items
            .unwrap_or_default()
            .into_iter()
            .map(EventObservation::from)
            .collect())
    }

    /// Tells the cluster what was done with a Job.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when it was told before.
    pub async fn create_event(&self, event: &JobEvent) -> Result<(), Error> {
        let object = event.object(self.config.namespace());
        let request = self
            .config
            .objects("api/v1", "events")?
            .create(&PostParams::default(), json(&object)?)
            .map_err(bad_input)?;
        self.call::<wire::Object>(request, OBJECT_LIMIT_BYTES)
            .await
            .map(|_| ())
    }

    /// Whether the API server is ready and accepts our credentials.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Error> {
        let request = http::Request::get("/readyz")
            .body(Vec::new())
            .map_err(|e| Error::BadInput(e.to_string()))?;
        let mut response = self.send(request, ANYTHING, Timeouts::CALL).await?;
        body::beginning(response.body_mut(), REFUSAL_LIMIT_BYTES).await;
        Ok(())
    }

    fn jobs(&self) -> Result<Request, Error> {
        self.config.objects("apis/batch/v1", "jobs")
    }

    fn pods(&self) -> Result<Request, Error> {
        self.config.objects("api/v1", "pods")
    }

    async fn list<K: Observed>(
        &self,
        objects: &Request,
        selector: &str,
        limit: u32,
        continue_token: Option<&str>,
    ) -> Result<Page<K>, Error> {
        let mut params = ListParams::default().labels(selector).limit(limit);
        params.continue_token = continue_token.map(str::to_owned);
        let mut limit = limit;
        let list = loop {
            let request = objects.list(&params).map_err(bad_input)?;
            match self
                .call::<wire::List<K::Wire>>(request, PAGE_LIMIT_BYTES)
                .await
            {
                // A continue token does not bind the size of the next page.
                Err(Error::BodyTooLarge { .. }) if limit > 1 => {
                    limit = (limit / PAGE_SHRINK).max(1);
                    params = params.limit(limit);
                }
                other => break other?,
            }
        };
        Ok(Page {
            items: list
                .items
                .unwrap_or_default()
                .into_iter()
                .map(K::from)
                .collect(),
            resource_version: list.metadata.resource_version.clone(),
            continue_token: list.metadata.next(),
        })
    }

    async fn watch<K: Observed>(
        &self,
        objects: &Request,
        selector: &str,
        resource_version: &str,
        timeout: Duration,
    ) -> Result<WatchStream<K, T::Body>, Error> {
        // Zero would mean the server's default of up to an hour.
        let seconds = timeout.as_secs().clamp(1, WATCH_TIMEOUT_LIMIT_SECONDS);
        let params = WatchParams::default()
            .labels(selector)
            .timeout(seconds as u32);
        let request = objects
            .watch(&params, resource_version)
            .map_err(bad_input)?;
        let timeouts = Timeouts::watch(Duration::from_secs(seconds));
        let body = self.send(request, JSON, timeouts).await?.into_body();
        Ok(WatchStream::new(body, resource_version))
    }
}

/// The API server's own dry run: all stages of a request but the last, which would store it.
fn dry_run() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

fn json(object: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(object).map_err(|error| Error::BadInput(error.to_string()))
}

fn bad_input(error: kube_core::request::Error) -> Error {
    Error::BadInput(error.to_string())
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "client_within_tests.rs"]
mod within_tests;
