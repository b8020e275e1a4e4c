//! Logs: kept with head and tail when an execution ends, live while it runs.

use std::time::Duration;

use bytes::Bytes;
use domain::{Execution, ExecutionId, Status};
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kubernetes::{Error as KubernetesError, LogStream, PodObservation, Transport};
use store::StoredLog;

use crate::collector::Collector;
use crate::report::Level;
use crate::{App, Caller, Error, Platform, Runtime};

/// How often the API server is asked for a log before the next tick has to try: a kubelet that is just busy
/// answers by then.
pub(crate) const LOG_READ_ATTEMPTS: u32 = 3;

/// The pause between two such attempts.
pub(crate) const LOG_READ_PAUSE: Duration = Duration::from_millis(200);

/// How long after the container's end its log may be unreadable before the outcome is stored without it.
/// A kubelet that restarts is back by then; callers should not wait for ever for one that is not.
pub(crate) const LOG_PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// How a kubelet begins what it answers, with the status of a success, in place of the log of a container that its runtime has no word of; the
/// container's id follows, and nothing else (`GetContainerLogs` in Kubernetes' `kuberuntime_container.go`). Either the container is being
/// removed, or the runtime is not well.
const NO_CONTAINER: &[u8] = b"unable to retrieve container logs for ";

/// A container's id, as in `containerd://` and 64 digits, has no more bytes.
const CONTAINER_ID_LIMIT_BYTES: usize = 200;

/// How long a follower waits for a queued execution to start. Callers come back with the same request.
const FOLLOW_START_LIMIT: Duration = Duration::from_secs(3600);

/// How often a follower looks whether it has started.
const FOLLOW_START_INTERVAL: Duration = Duration::from_millis(250);

/// How a log is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Of that attempt; else of the last one that has started, or, to follow, of the one that is on.
    pub attempt: Option<u32>,
    /// Only so many lines from the end.
    pub tail_lines: Option<u32>,
    /// Only what was written in the last so many seconds.
    pub since_seconds: Option<u32>,
    /// Each line begins with its time, as Kubernetes writes it.
    pub timestamps: bool,
    /// Go on until the script has ended.
    pub follow: bool,
}

/// Where a log comes from.
pub enum Log<P: Platform> {
    /// From the store: the execution is finished. Options are the reader's to apply.
    Stored(StoredLog),
    /// From the cluster, with the options applied there.
    Live(LiveLog<P>),
    /// There is none yet: the script has not started.
    NotYet,
    /// There is no attempt of that number.
    NoAttempt {
        /// The number of the last one.
        last: u32,
    },
}

/// A log as it is being written.
pub struct LiveLog<P: Platform> {
    stream: LogStream<<P::Transport as Transport>::Body>,
}

impl<P: Platform> LiveLog<P> {
    /// The next bytes as the script wrote them; none at the end.
    ///
    /// # Errors
    /// When the API server breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        Ok(self.stream.chunk().await?)
    }
}

impl<P: Platform> App<P> {
    /// The log of an execution; none for an id that the caller's tenant has not.
    ///
    /// # Errors
    /// When neither the store nor the API server can say.
    pub async fn log(
        &self,
        caller: &Caller,
        id: ExecutionId,
        options: &LogOptions,
    ) -> Result<Option<Log<P>>, Error> {
        let deadline = self.runtime.now() + FOLLOW_START_LIMIT;
        let mut wanted = options.attempt;
        loop {
            let Some(execution) = self.store.get_of(&caller.tenant, id).await? else {
                return Ok(None);
            };
            let attempt = match wanted {
                Some(attempt) => attempt,
                None => self.attempt_to_show(&execution, options.follow).await?,
            };
            wanted = Some(attempt);
            let last = execution.attempt;
            if !(1..=last).contains(&attempt) {
                return Ok(Some(Log::NoAttempt { last }));
            }
            if execution.status == Status::Finished || attempt < last {
                let log = self.store.attempt_log(id, attempt).await?;
                return Ok(Some(Log::Stored(log.unwrap_or_default())));
            }
            if let Some(live) = self.live_log(&execution, options).await? {
                return Ok(Some(live));
            }
            if execution.log.is_some() {
                // Its pod has gone, by a cancel that is not at its end yet.
                let log = self.store.attempt_log(id, attempt).await?;
                return Ok(Some(Log::Stored(log.unwrap_or_default())));
            }
            if !options.follow || self.runtime.now() >= deadline {
                return Ok(Some(Log::NotYet));
            }
            self.runtime.sleep(FOLLOW_START_INTERVAL).await;
        }
    }

    /// The last attempt that has started, or the one that is on where it is to be followed.
    async fn attempt_to_show(&self, execution: &Execution, follow: bool) -> Result<u32, Error> {
        let is_on = follow && execution.status != Status::Finished;
        if is_on || execution.started_at.is_some() {
            return Ok(execution.attempt);
        }
        let earlier = self.attempts_before(std::slice::from_ref(execution));
        let earlier = earlier.await?.remove(&execution.id).unwrap_or_default();
        let started = earlier.iter().rev().find(|a| a.started_at.is_some());
        Ok(started.map_or(execution.attempt, |a| a.number))
    }

    async fn live_log(
        &self,
        execution: &Execution,
        options: &LogOptions,
    ) -> Result<Option<Log<P>>, Error> {
        if execution.dispatched_at.is_none() {
            return Ok(None);
        }
        let client = self.kubernetes_of(execution);
        let pods = client.pods_of_job(&execution.job_name()).await?;
        let ours = |pod: &&PodObservation| pod.execution_id == Some(execution.id.0);
        let Some(pod) = pods.iter().find(|pod| ours(pod) && has_log(pod)) else {
            return Ok(None);
        };
        let options = kubernetes::LogOptions {
            follow: options.follow,
            tail_lines: options.tail_lines,
            since_seconds: options.since_seconds,
            timestamps: options.timestamps,
            ..Default::default()
        };
        match client.read_log(&pod.name, &options).await {
            Ok(stream) => Ok(Some(Log::Live(LiveLog { stream }))),
            Err(error) if log_is_not_there(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`collect_log`](Self::collect_log), but where it still fails [`LOG_PATIENCE`] after that time: nothing, and not
    /// said to be all. Without a time it is never given up.
    ///
    /// # Errors
    /// When the API server cannot give it now, and there is patience left.
    pub(crate) async fn collect_log_or_give_up(
        &self,
        execution: &Execution,
        pod: &PodObservation,
        since: Option<Timestamp>,
    ) -> Result<StoredLog, KubernetesError> {
        match self.collect_log(pod).await {
            Err(error) => {
                let waited = since.map(|since| self.runtime.now().duration_since(since));
                if waited.is_none_or(|waited| waited < LOG_PATIENCE) {
                    return Err(error);
                }
                let message = "the log could not be read and is given up";
                self.report_of(Level::Error, execution, message, &[("error", &error)]);
                Ok(StoredLog::default())
            }
            log => log,
        }
    }

    /// Reads the whole log of a pod's container, keeping head and tail.
    ///
    /// # Errors
    /// When the API server cannot give it now, though it may later.
    async fn collect_log(&self, pod: &PodObservation) -> Result<StoredLog, KubernetesError> {
        let mut attempt = 1;
        loop {
            let options = kubernetes::LogOptions::default();
            match self.try_collect_log(pod, &options).await {
                Err(error) if log_is_not_there(&error) => return Ok(StoredLog::default()),
                Err(error) if error.is_retryable() && attempt < LOG_READ_ATTEMPTS => {
                    attempt += 1;
                    self.runtime.sleep(LOG_READ_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn try_collect_log(
        &self,
        pod: &PodObservation,
        options: &kubernetes::LogOptions,
    ) -> Result<StoredLog, KubernetesError> {
        let client = self.kubernetes_in(&pod.namespace);
        let mut stream = client.read_log(&pod.name, options).await?;
        let mut collector = Collector::default();
        while let Some(chunk) = stream.chunk().await? {
            collector.push(&chunk);
        }
        let log = collector.log();
        if !is_nodes_own(&log) {
            return Ok(log);
        }
        if pod.delete_by.is_some() {
            // Its container is removed, and the log with it.
            return Ok(StoredLog::default());
        }
        Err(KubernetesError::Unavailable {
            code: StatusCode::OK.as_u16(),
            message: String::from_utf8_lossy(&log.head).into_owned(),
            retry_after: None,
        })
    }
}

/// Whether its container has started, so that there is a log.
pub(crate) fn has_log(pod: &PodObservation) -> bool {
    pod.running_since.is_some() || pod.terminated.is_some()
}

/// Whether it is no log, but a kubelet's words about one that it cannot find.
fn is_nodes_own(log: &StoredLog) -> bool {
    let id = log.head.strip_prefix(NO_CONTAINER).unwrap_or_default();
    let id = id.strip_suffix(b"\n").unwrap_or(id);
    let is_word = id.iter().all(u8::is_ascii_graphic);
    let has_runtime = id.windows(3).any(|part| part == b"://");
    is_word && has_runtime && id.len() <= CONTAINER_ID_LIMIT_BYTES
}

/// Of two readings of one log the one that has more of it.
pub(crate) fn better(first: StoredLog, second: StoredLog) -> StoredLog {
    if second.bytes >= first.bytes {
        second
    } else {
        first
    }
}

/// Whether the API server surely has no log of it: its pod is gone, or its container never started.
pub(crate) fn log_is_not_there(error: &KubernetesError) -> bool {
    matches!(
        error,
        KubernetesError::NotFound { .. } | KubernetesError::BadRequest { .. }
    )
}
