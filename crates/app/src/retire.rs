//! The Jobs of attempts that are over: deleted, or kept for a while so that their names stay taken.
//!
//! A request for a Job that was never answered may still arrive, as long after as TCP repeats it. While there is a Job of its
//! name it is a conflict; once there is none, it would start the script a second time. So where an execution's
//! creation is in doubt (`creation_in_doubt`), each Job of it is ended where it stands and deleted later, and where there is
//! none, one that never runs takes the name.

use domain::{Execution, execution};
use jiff::SignedDuration;
use kubernetes::{Client, JobObservation, Propagation, Transport};

use crate::apply::CAS_ATTEMPTS;
use crate::dispatch::run_spec;
use crate::namespaces::JobRef;
use crate::{App, Error, Platform, Runtime};

/// For how long a name is held. Linux repeats a segment for up to 924.6 s by default before it gives a connection up
/// (tcp(7), `tcp_retries2`).
pub(crate) const NAME_HELD: SignedDuration = SignedDuration::from_mins(20);

impl<P: Platform> App<P> {
    /// Deletes the Job of an attempt that is over, with its pod and its ConfigMaps; gone already is fine. Where its
    /// creation is in doubt, its pod is ended and its name stays taken for [`NAME_HELD`].
    ///
    /// It is where its execution says; one that nobody remembers is where it was seen.
    ///
    /// Where its uid is not known, the Job of that name is asked whether it is this execution's: a
    /// stranger's is never deleted.
    ///
    /// # Errors
    /// When the API server does not do it now; a later full list finds the Job again.
    pub(crate) async fn retire_job(&self, job: JobRef<'_>) -> Result<(), Error> {
        let record = self.store.get(job.id).await?;
        self.retire_job_of(record.as_ref(), job).await
    }

    /// The same right after this instance has stored the end, which has said what the store has: it need not be read again.
    ///
    /// # Errors
    /// As [`retire_job`](Self::retire_job).
    pub(crate) async fn retire_job_at_the_end(&self, job: JobRef<'_>) -> Result<(), Error> {
        match self.records.take_ended(job.id) {
            Some(ended) if ended.attempt == job.attempt => {
                self.retire_job_of(Some(&ended), job).await
            }
            _ => self.retire_job(job).await,
        }
    }

    async fn retire_job_of(
        &self,
        record: Option<&Execution>,
        job: JobRef<'_>,
    ) -> Result<(), Error> {
        let JobRef {
            namespace,
            id,
            attempt,
            uid,
        } = job;
        if let Some(execution) = record.filter(|record| record.creation_in_doubt) {
            return self.hold_name(execution, attempt, uid).await;
        }
        let name = execution::job_name(id, attempt);
        let client = match record {
            Some(record) => self.kubernetes_for(record),
            None => self.kubernetes_in(namespace),
        };
        let uid = match uid {
            Some(uid) => uid.to_owned(),
            None => match job_named(&client, &name).await? {
                Some(job) if job.execution_id == Some(id.0) => job.uid,
                _ => return Ok(()),
            },
        };
        let background = Propagation::Background;
        gone_is_fine(client.delete_job(&name, Some(&uid), background).await)
    }

    /// Sees to it that the Job of that attempt is there and runs nothing, until its name may be free. One that is known to
    /// have been there, and is gone, was held long enough.
    pub(crate) async fn hold_name(
        &self,
        execution: &Execution,
        attempt: u32,
        uid: Option<&str>,
    ) -> Result<(), Error> {
        let of = Execution {
            attempt,
            ..execution.clone()
        };
        for _ in 0..CAS_ATTEMPTS {
            let Some(job) = self.job_named(&of).await? else {
                if uid.is_none() {
                    self.take_name(&of).await?;
                }
                return Ok(());
            };
            if job.execution_id != Some(of.id.0) || job.deleted {
                return Ok(());
            }
            let now = self.runtime.now();
            let done = match job.name_held_until {
                Some(until) if now < until => Ok(()),
                Some(_) => {
                    let background = Propagation::Background;
                    return self.delete_job(&of, &job.uid, background).await;
                }
                None => {
                    let client = self.kubernetes_for(&of);
                    client.halt_job(&job, now + NAME_HELD).await
                }
            };
            match done {
                // Its controller wrote in between.
                Err(error) if error.is_conflict() => {}
                done => return gone_is_fine(done),
            }
        }
        Err(Error::Contended)
    }

    /// Creates a Job under the name of that attempt's that never runs. Answers whether the name was free.
    ///
    /// # Errors
    /// When the API server does not take it.
    pub(crate) async fn take_name(&self, of: &Execution) -> Result<bool, Error> {
        let Some(submission) = self.store.submission(of.id).await? else {
            return Ok(false);
        };
        let mut spec = run_spec(of, &submission, &self.config.pods);
        spec.database = self.database().await?.to_owned();
        let placeholder = kubernetes::placeholder(&spec, self.runtime.now() + NAME_HELD);
        match self.kubernetes_for(of).create_job(&placeholder).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the Job of the attempt that it is at, if it has that uid; gone already is fine.
    pub(crate) async fn delete_job(
        &self,
        of: &Execution,
        uid: &str,
        propagation: Propagation,
    ) -> Result<(), Error> {
        let client = self.kubernetes_for(of);
        let name = of.job_name();
        gone_is_fine(client.delete_job(&name, Some(uid), propagation).await)
    }

    /// From now on a request for a Job of that execution counts as one that may still arrive.
    pub(crate) async fn doubt_creation(&self, of: &Execution) -> Result<(), Error> {
        if of.is_dispatched() && of.job_uid.is_none() && !of.creation_in_doubt {
            self.store.doubt_creation(of.id).await?;
        }
        Ok(())
    }

    /// The Job that has the name of the attempt that it is at, if there is one.
    pub(crate) async fn job_named(&self, of: &Execution) -> Result<Option<JobObservation>, Error> {
        job_named(&self.kubernetes_of(of), &of.job_name()).await
    }
}

async fn job_named<T: Transport>(
    client: &Client<T>,
    name: &str,
) -> Result<Option<JobObservation>, Error> {
    match client.get_job(name).await {
        Ok(job) => Ok(Some(job)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A Job that is gone, or whose name another one has, needs nothing any more.
fn gone_is_fine(result: Result<(), kubernetes::Error>) -> Result<(), Error> {
    match result {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
        _ => Ok(()),
    }
}
