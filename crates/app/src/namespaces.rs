//! Where executions run: each in the namespace that it was accepted for, or in the one of all whose tenants have none of their own.

use domain::{Execution, ExecutionId, Namespace};
use kubernetes::{Client, JobObservation, PodObservation};

use crate::meter::Metered;
use crate::{App, Caller, Platform};

/// The Job of an attempt, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobRef<'a> {
    /// Where it is; what its execution says goes before this.
    pub namespace: &'a str,
    /// The execution that it is of.
    pub id: ExecutionId,
    /// The attempt that it is of.
    pub attempt: u32,
    /// Its uid, if that is known.
    pub uid: Option<&'a str>,
}

impl<'a> JobRef<'a> {
    /// That of a pod.
    pub fn of_pod(id: ExecutionId, pod: &'a PodObservation) -> Self {
        Self {
            namespace: &pod.namespace,
            id,
            attempt: pod.attempt,
            uid: pod.job_uid.as_deref(),
        }
    }

    /// One that was seen.
    pub fn seen(id: ExecutionId, job: &'a JobObservation) -> Self {
        Self {
            namespace: &job.namespace,
            id,
            attempt: job.attempt,
            uid: Some(&job.uid),
        }
    }
}

impl<P: Platform> App<P> {
    /// The namespace of that execution's Jobs.
    pub(crate) fn namespace_of<'a>(&'a self, execution: &'a Execution) -> &'a str {
        self.name_of(execution.namespace.as_ref())
    }

    /// The name of one that is stored: none is that of all.
    pub(crate) fn name_of<'a>(&'a self, stored: Option<&'a Namespace>) -> &'a str {
        stored.map_or(&self.config.kube_namespace, Namespace::as_str)
    }

    /// What is to be accepted of that caller, with the namespace in which its tenant's scripts run now.
    pub(crate) fn placed(&self, caller: &Caller, execution: Execution) -> Execution {
        let namespace = self.config.callers.namespace(&caller.tenant);
        execution.in_namespace(namespace.cloned())
    }

    /// The Job of the attempt that the execution is at.
    pub(crate) fn job_of<'a>(
        &'a self,
        execution: &'a Execution,
        uid: Option<&'a str>,
    ) -> JobRef<'a> {
        JobRef {
            namespace: self.namespace_of(execution),
            id: execution.id,
            attempt: execution.attempt,
            uid,
        }
    }

    /// The way to the API server for requests about that namespace.
    pub(crate) fn kubernetes_in(&self, namespace: &str) -> Client<&Metered<P>> {
        self.kubernetes.within(namespace)
    }

    /// The same about that execution's.
    pub(crate) fn kubernetes_of(&self, execution: &Execution) -> Client<&Metered<P>> {
        self.kubernetes_in(self.namespace_of(execution))
    }

    /// The same for requests that are part of its trace.
    pub(crate) fn kubernetes_for(&self, execution: &Execution) -> Client<&Metered<P>> {
        let client = self.kubernetes_of(execution);
        client.traced(&self.traceparent(execution))
    }
}
