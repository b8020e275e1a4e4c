//! Creating the Job of an execution: once, whatever gets lost on the way.
//!
//! The intent is stored before the first request (`dispatched_at`), the Job's name is derived from the id, and its uid
//! is stored last. Between the two every step can be done again: a second creation is a conflict, for as long as the name
//! stays taken ([`retire`](crate::retire)), a second ConfigMap too, and unsuspending twice is unsuspending.

mod refusals;

use std::collections::BTreeMap;

use domain::{Execution, Observation, Reason, Status, Submission, WaitingKind, timeline};
use jiff::SignedDuration;
use kubernetes::{Error as KubernetesError, PodRules, RunSpec};
use store::{Step, Written};

use crate::announce::Also;
use crate::apply::{Applied, about};
use crate::namespaces::JobRef;
use crate::report::Level;
use crate::submit::CLAIM;
use crate::{App, Error, Platform, Runtime};
use refusals::RETRY_AFTER_REFUSAL;
pub(crate) use refusals::verdict;

/// What the pod may use beyond the sum of its clocks before the kubelet ends it, in seconds. It is the backstop
/// behind our own clocks, for the case that nobody ticks any more.
const POD_DEADLINE_MARGIN_SECONDS: u64 = 120;

/// How many Jobs are created at once. Each is one or a few requests; more would crowd out other clients of the
/// API server, which by default takes 20 a second from a client without its own priority level.
pub(crate) const CREATIONS_IN_FLIGHT: usize = 8;

/// Whether somebody may have asked for this Job before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nobody has.
    First,
    /// Another's claim ran out before the Job's uid was stored, or it was put back into the queue.
    Again,
}

impl Attempt {
    /// Of an execution just taken from the queue: an answer may have been lost, and what came after it put it back.
    pub(crate) const fn from_queue(execution: &Execution) -> Self {
        if execution.creation_in_doubt {
            Self::Again
        } else {
            Self::First
        }
    }
}

/// How a creation went, for whoever paces the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Created {
    /// The Job runs, or never will: this execution needs no further try.
    Settled,
    /// The API server cannot take Jobs at the moment.
    Later,
    /// Its namespace does not take Jobs at the moment: a quota is used up, or a right or the namespace is missing. Others may take
    /// theirs.
    Refused,
    /// The same, and it asks to be left alone for so long.
    Patience(SignedDuration),
}

impl<P: Platform> App<P> {
    /// Creates the Job and whatever its script and files need, and stores what came of it.
    pub(crate) async fn create_job(
        &self,
        execution: &Execution,
        submission: &Submission,
        attempt: Attempt,
    ) -> Created {
        // Others go by it that after its claim nobody begins a creation.
        let dispatched_at = execution.dispatched_at.unwrap_or(execution.created_at);
        if attempt == Attempt::First && self.runtime.now() >= dispatched_at + CLAIM {
            return Created::Later;
        }
        let result = match self.ensure_job(execution, submission, attempt).await {
            Ok(uid) => self.created(execution, uid).await,
            Err(NotCreated::Foreign) => self.name_is_taken(execution).await,
            Err(NotCreated::Finished) => Ok(Created::Settled),
            Err(NotCreated::TooEarly) => self.too_early(execution).await,
            Err(NotCreated::Here(error)) => Err(error),
            Err(NotCreated::Error(error)) => self.not_created(execution, &error).await,
            Err(NotCreated::NoJob(error)) => {
                match self.cancel_uncreated(execution.id, &error, attempt).await {
                    Ok(false) => self.not_created(execution, &error).await,
                    canceled => canceled.map(|_| Created::Settled),
                }
            }
        };
        result.unwrap_or_else(|error| {
            let message = "the Job's creation is left to a later tick";
            let why = error.chain();
            self.report_of(Level::Warn, execution, message, &[("error", &why)]);
            Created::Later
        })
    }

    /// Stores the uid; a Job that came after the end is deleted again.
    async fn created(&self, execution: &Execution, uid: String) -> Result<Created, Error> {
        let exists = Observation::JobExists { uid: uid.clone() };
        if !self.meter.is_stored_regularly.get() && self.created_last(execution, &exists).await? {
            return Ok(Created::Settled);
        }
        match self
            .apply(execution.id, about(execution), &exists, None)
            .await?
        {
            Applied::Over | Applied::Unknown => {
                self.retire_job(self.job_of(execution, Some(&uid))).await?;
            }
            Applied::Finished | Applied::Retried | Applied::Changed | Applied::Nothing => {}
        }
        Ok(Created::Settled)
    }

    /// The same by whoever writes nothing after this, with what was measured, which is not worth a write of its own. Answers whether the
    /// record was still as it was claimed.
    async fn created_last(
        &self,
        execution: &Execution,
        exists: &Observation,
    ) -> Result<bool, Error> {
        let now = self.runtime.now();
        let Some(next) = domain::transition(execution, exists, now) else {
            return Ok(false);
        };
        let told = timeline::steps(execution, exists, &next, now);
        let step = Step::new(&next, &told);
        let tally = &self.meter.tally;
        let is_written = self.store.update_with_tally(step, tally).await? == Written::Updated;
        if is_written {
            self.announce(&next, &told, Also::Nothing);
        }
        Ok(is_written)
    }

    /// Creates or adopts the Job, and lets it run once all it needs is there. Answers its uid.
    async fn ensure_job(
        &self,
        execution: &Execution,
        submission: &Submission,
        attempt: Attempt,
    ) -> Result<String, NotCreated> {
        if execution.attempt > 1 && self.earlier_still_runs(execution).await? {
            return Err(NotCreated::TooEarly);
        }
        let mut spec = run_spec(execution, submission, &self.config.pods);
        spec.database = self.database().await?.to_owned();
        let payload = kubernetes::payload(&spec);
        let client = self.kubernetes_for(execution);
        let earlier = match attempt {
            Attempt::First => None,
            // Looked for first: a quota or a policy that speaks against another Job would hide that there is one.
            Attempt::Again => self.job_named(execution).await?,
        };
        let created = match earlier {
            Some(job) => Ok(job),
            None => client.create_job(&payload.job).await,
        };
        let job = match created {
            Err(error) if error.is_already_exists() => {
                client.get_job(&execution.job_name()).await?
            }
            Err(error) => return Err(NotCreated::NoJob(error)),
            Ok(job) => job,
        };
        if job.spec_digest.as_deref() != Some(submission.digest.as_str()) {
            return Err(NotCreated::Foreign);
        }
        let (uid, suspended) = (job.uid, job.suspended);
        if suspended {
            match self.store.get(execution.id).await.map_err(Error::from)? {
                Some(current)
                    if current.status != Status::Finished
                        && current.attempt == execution.attempt =>
                {
                    if current.cancel_requested_at.is_some() {
                        // It need not run any more; whoever cancels it deletes it.
                        return Ok(uid);
                    }
                }
                _ => {
                    self.retire_job(self.job_of(execution, Some(&uid))).await?;
                    return Err(NotCreated::Finished);
                }
            }
            for config_map in &payload.with_owner(&uid).config_maps {
                match client.create_config_map(config_map).await {
                    Err(error) if !error.is_already_exists() => return Err(error.into()),
                    _ => {}
                }
            }
            client.unsuspend_job(&execution.job_name()).await?;
        }
        Ok(uid)
    }

    /// Whether the script of an attempt before is known to run still; two never run at once. What is left of their
    /// Jobs is retired before, so that it comes to its end, and none of it can come late.
    async fn earlier_still_runs(&self, execution: &Execution) -> Result<bool, Error> {
        let first = self.first_unsettled(execution).await?;
        for earlier in (first..execution.attempt).rev() {
            if self.still_runs(execution, earlier).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// From which attempt on something may be left: when the last one that started was begun, nothing was left of those before it. One that
    /// did not start may have ended before anybody could see to that.
    async fn first_unsettled(&self, execution: &Execution) -> Result<u32, Error> {
        if execution.attempt <= 2 {
            return Ok(1);
        }
        let earlier = self.store.earlier_attempts(&[execution.id]).await?;
        let started = earlier.iter().filter(|(_, a)| a.started_at.is_some());
        Ok(started.map(|(_, a)| a.number).max().unwrap_or(1))
    }

    async fn still_runs(&self, execution: &Execution, earlier: u32) -> Result<bool, Error> {
        let id = execution.id;
        let left = JobRef {
            attempt: earlier,
            ..self.job_of(execution, None)
        };
        self.retire_job(left).await?;
        let name = domain::execution::job_name(id, earlier);
        let client = self.kubernetes_for(execution);
        let pods = client.pods_of_job(&name).await?;
        Ok(pods.iter().any(|pod| {
            pod.execution_id == Some(id.0)
                && pod.running_since.is_some()
                && pod.terminated.is_none()
        }))
    }

    /// A stranger's Job has its name. One that has started had a Job of its own, which is gone then: its uid was never stored,
    /// so nobody else looks for it.
    async fn name_is_taken(&self, execution: &Execution) -> Result<Created, Error> {
        let name = execution.job_name();
        let refused = Observation::Refused {
            reason: Reason::InvalidSpec,
            message: format!("a Job named {name} exists that is not this execution's"),
        };
        if self
            .apply(execution.id, about(execution), &refused, None)
            .await?
            == Applied::Nothing
        {
            let message = "its Job was replaced by another of the same name".to_owned();
            let gone = Observation::JobGone { message };
            self.apply(execution.id, about(execution), &gone, None)
                .await?;
        }
        Ok(Created::Settled)
    }

    /// Back to the queue, though the API server is as well as ever.
    async fn too_early(&self, execution: &Execution) -> Result<Created, Error> {
        let message = format!(
            "attempt {} starts when the pod of attempt {} has ended",
            execution.attempt,
            execution.attempt - 1
        );
        let wait = RETRY_AFTER_REFUSAL;
        self.postpone(execution, WaitingKind::Retry, &message, wait)
            .await?;
        Ok(Created::Settled)
    }
}

/// Why there is no uid.
enum NotCreated {
    /// A Job of that name exists and is not ours.
    Foreign,
    /// It, or its attempt, ended while its Job was asked for again.
    Finished,
    /// The script of the attempt before still runs.
    TooEarly,
    /// The API server said no to the Job, or nothing.
    NoJob(KubernetesError),
    /// The same to what else it needs.
    Error(KubernetesError),
    /// Something else went wrong, and nothing was decided.
    Here(Error),
}

impl From<Error> for NotCreated {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

impl From<KubernetesError> for NotCreated {
    fn from(error: KubernetesError) -> Self {
        Self::Error(error)
    }
}

/// What the Job is made of.
pub(crate) fn run_spec(
    execution: &Execution,
    submission: &Submission,
    rules: &PodRules,
) -> RunSpec {
    let t = &execution.timeouts;
    RunSpec {
        id: execution.id.0,
        attempt: execution.attempt,
        job_name: execution.job_name(),
        spec_digest: submission.digest.clone(),
        database: String::new(),
        image: submission.image.clone(),
        script: submission.script.clone(),
        interpreter: submission.interpreter.clone(),
        args: submission.args.clone(),
        env: submission.env.clone(),
        secret_env: BTreeMap::new(),
        files: submission.files.clone(),
        cpu: Some(submission.resources.cpu.to_string()),
        memory: Some(submission.resources.memory.to_string()),
        ephemeral_storage: submission
            .resources
            .ephemeral_storage
            .as_ref()
            .map(ToString::to_string),
        grace_seconds: t.grace_seconds,
        pod_deadline_seconds: u64::from(t.start_seconds)
            + u64::from(t.run_seconds)
            + u64::from(t.grace_seconds)
            + POD_DEADLINE_MARGIN_SECONDS,
        labels: submission.labels.clone(),
        rules: rules.clone(),
    }
}
