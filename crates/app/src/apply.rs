//! Writing what was seen: compare-and-set, log before delete, delete after the outcome is stored.

use domain::{
    About, Execution, ExecutionId, Observation, Reason, Relevance, Status, next_attempt, timeline,
    transition,
};
use jiff::Timestamp;
use kubernetes::PodObservation;
use store::{Landed, Step, StoredLog, Written};

use crate::announce::Also;
use crate::logs::{better, has_log};
use crate::report::Level;
use crate::{App, Error, Platform, Runtime};

/// How often a write is tried again when another writer was quicker. Each loss means somebody else moved the
/// execution forward, and it has few steps to go.
pub(crate) const CAS_ATTEMPTS: u32 = 8;

/// What applying an observation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It moved the execution to `Finished`.
    Finished,
    /// It ended the attempt, and another one follows.
    Retried,
    /// It changed something else.
    Changed,
    /// Nothing was new.
    Nothing,
    /// It was finished before, or at least the attempt was.
    Over,
    /// There is no such execution, or none there.
    Unknown,
}

impl Applied {
    /// Whether it ended the attempt, so that its Job is to be deleted now.
    pub(crate) const fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Retried)
    }

    const fn is_written(self) -> bool {
        matches!(self, Self::Finished | Self::Retried | Self::Changed)
    }
}

/// The attempt that a record is at: what is seen or decided by it is about no other.
pub(crate) const fn about(execution: &Execution) -> About<'static> {
    About {
        attempt: execution.attempt,
        job_uid: None,
    }
}

/// The attempt that a pod belongs to, by its own words, and where it is.
pub(crate) fn about_pod(pod: &PodObservation) -> Seen<'_> {
    Seen {
        about: About {
            attempt: pod.attempt,
            job_uid: pod.job_uid.as_deref(),
        },
        namespace: Some(&pod.namespace),
    }
}

/// What an observation is about, and where it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    about: About<'a>,
    /// None where it was looked for in the execution's own.
    namespace: Option<&'a str>,
}

impl<'a> From<About<'a>> for Seen<'a> {
    fn from(about: About<'a>) -> Self {
        let namespace = None;
        Self { about, namespace }
    }
}

impl<P: Platform> App<P> {
    /// Applies an observation and writes the result, if the execution still is at the attempt that it is about. A terminal one
    /// is written together with the log, and only then the Job is deleted.
    ///
    /// # Errors
    /// When the store or the API server fails on the way; the same observation can be applied again.
    pub(crate) async fn apply(
        &self,
        id: ExecutionId,
        seen: impl Into<Seen<'_>>,
        observation: &Observation,
        pod: Option<&PodObservation>,
    ) -> Result<Applied, Error> {
        let seen = seen.into();
        self.writes.follow(id).await;
        let mut known = self.records.take(id);
        for _ in 0..=CAS_ATTEMPTS {
            let is_read = known.is_none();
            let current = match known.take() {
                None => self.read_record(id).await?,
                known => known,
            };
            let Some(current) = current else {
                return Ok(Applied::Unknown);
            };
            let applied = self.apply_to(current, seen, observation, pod).await?;
            // That nothing comes of it is to be said by what is stored. A start that waits longer tells so again.
            let is_sure = is_read
                || applied.is_some_and(Applied::is_written)
                || matches!(observation, Observation::Waiting(_));
            if let Some(applied) = applied.filter(|_| is_sure) {
                return Ok(applied);
            }
        }
        Err(Error::Contended)
    }

    fn is_where_it_runs(&self, execution: &Execution, seen: Seen<'_>) -> bool {
        seen.namespace
            .is_none_or(|namespace| namespace == self.namespace_of(execution))
    }

    /// Whether it was seen of the attempt that the execution is at.
    pub(crate) fn is_current(&self, execution: &Execution, seen: Seen<'_>) -> bool {
        self.is_where_it_runs(execution, seen)
            && execution.relevance(seen.about) == Relevance::Current
    }

    /// The same, to the record as it is given; none where another generation is stored.
    async fn apply_to(
        &self,
        current: Execution,
        seen: Seen<'_>,
        observation: &Observation,
        pod: Option<&PodObservation>,
    ) -> Result<Option<Applied>, Error> {
        // Whoever may write to another namespace gives a pod there any label: it is no news of this execution.
        if !self.is_where_it_runs(&current, seen) {
            return Ok(Some(Applied::Unknown));
        }
        if current.status == Status::Finished {
            return Ok(Some(Applied::Over));
        }
        match current.relevance(seen.about) {
            Relevance::Current => {}
            Relevance::Past => return Ok(Some(Applied::Over)),
            Relevance::Foreign => return Ok(Some(Applied::Nothing)),
        }
        let now = self.runtime.now();
        let Some(next) = transition(&current, observation, now) else {
            self.records.keep(current);
            return Ok(Some(Applied::Nothing));
        };
        let (written, applied) = if next.status == Status::Finished {
            let mut log = self.log_at_the_end(&current, &next, pod).await?;
            if current.log.is_some() {
                // Its Job's deletion was decided before, and its log kept: there may be none left to read.
                let kept = self.store.log(current.id).await?.unwrap_or_default();
                log = better(kept, log);
            }
            self.store_end(&current, observation, &next, &log, now)
                .await?
        } else {
            let told = timeline::steps(&current, observation, &next, now);
            let written = match self.write(&next, &told, None).await? {
                Landed::Stored { .. } => {
                    self.announce(&next, &told, Also::Nothing);
                    Written::Updated
                }
                Landed::NotStored => Written::Stale,
            };
            (written, Applied::Changed)
        };
        Ok(match written {
            Written::Updated => Some(applied),
            Written::Stale => None,
            Written::Missing => Some(Applied::Unknown),
        })
    }

    /// Stores how the attempt `ended`: as the execution's end, or with the next attempt in its place. Of one that is gone it says no more
    /// than that another generation is stored.
    pub(crate) async fn store_end(
        &self,
        current: &Execution,
        observation: &Observation,
        ended: &Execution,
        log: &StoredLog,
        now: Timestamp,
    ) -> Result<(Written, Applied), Error> {
        let (written, applied, told) = match next_attempt(current, ended, now) {
            None => {
                let told = timeline::steps(current, observation, ended, now);
                let written = match self.write(ended, &told, Some(log)).await? {
                    Landed::Stored { .. } => Written::Updated,
                    Landed::NotStored => Written::Stale,
                };
                (written, Applied::Finished, told)
            }
            Some(next) => {
                let told = timeline::steps_to_retry(current, observation, ended, &next, now);
                let step = Step::new(&next, &told);
                let written = self.store.retry(step, ended, log).await?;
                (written, Applied::Retried, told)
            }
        };
        if written == Written::Updated {
            self.announce(ended, &told, Also::Log(log));
            self.log_ended(ended, applied);
        }
        Ok((written, applied))
    }

    /// The log of an execution that ends now. One that never ran has an empty log, and that is all of it.
    async fn log_at_the_end(
        &self,
        current: &Execution,
        next: &Execution,
        pod: Option<&PodObservation>,
    ) -> Result<StoredLog, Error> {
        let Some(pod) = pod.filter(|pod| has_log(pod)) else {
            return Ok(StoredLog {
                complete: never_ran(next),
                ..StoredLog::default()
            });
        };
        // By something that stays the same however often we try: an outcome without an end of the container
        // has the time of each try for its own. Such a one is waited for until its clock has run out.
        let end = pod.terminated.as_ref().and_then(|t| t.finished_at);
        let clock = current.deadline().map(|(_, at)| at);
        let clock = clock.or(current.stop_wanted_at());
        let since = end.into_iter().chain(clock).min();
        let log = self.whole_log(current, pod, since).await?;
        // What a script writes after this, until it is killed, is not seen.
        Ok(StoredLog {
            complete: log.complete && pod.terminated.is_some(),
            ..log
        })
    }

    /// What is done once an outcome is stored.
    pub(crate) fn log_finished(&self, execution: &Execution) {
        self.log_ended(execution, Applied::Finished);
    }

    fn log_ended(&self, execution: &Execution, applied: Applied) {
        self.drop_follower(execution.id);
        self.measure_end(execution);
        let reason = execution
            .ending
            .as_ref()
            .map_or("", |ending| ending.reason.as_str());
        let what = match applied {
            Applied::Retried => "an attempt ended and is retried",
            _ => "finished",
        };
        self.report_of(Level::Info, execution, what, &[("reason", &reason)]);
    }
}

/// Whether it surely has not run, so that an empty log is all of it. A start that was not seen proves little where what
/// went was not seen to its end either.
fn never_ran(finished: &Execution) -> bool {
    let ending = finished.ending.as_ref().map(|ending| ending.reason);
    let unseen = matches!(
        ending,
        Some(Reason::JobDeleted | Reason::NodeLost | Reason::Lost)
    );
    finished.started_at.is_none() && !unseen
}
