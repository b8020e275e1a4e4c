//! What a Pod says, as a plain value.
//!
//! The end of a script is read from the container's state `terminated`: with restartPolicy Never and one container
//! of ours it is final, and it is there a second or two before the pod's phase or the Job's conditions say so.

use jiff::Timestamp;
use uuid::Uuid;

use crate::job::CONTAINER_NAME;
use crate::wire;

/// A Pod as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodObservation {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version of this state.
    pub resource_version: String,
    /// The Job that it belongs to.
    pub job_name: Option<String>,
    /// That Job's uid.
    pub job_uid: Option<String>,
    /// The execution that its label names; none on a pod that is not ours.
    pub execution_id: Option<Uuid>,
    /// The attempt that its label names; the first where it names none.
    pub attempt: u32,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Whether it has a node; none while the scheduler has not looked.
    pub scheduled: Option<bool>,
    /// What the scheduler says, while it finds no node.
    pub unschedulable: Option<String>,
    /// Why the script's container has not started.
    pub waiting: Option<Waiting>,
    /// Since when the script's container runs, by the node's clock.
    pub running_since: Option<Timestamp>,
    /// How the script's container ended.
    pub terminated: Option<Terminated>,
    /// Why the pod as a whole ended, as in `Evicted`, `DeadlineExceeded` or `NodeLost`.
    pub pod_reason: Option<String>,
    /// The same in words.
    pub pod_message: Option<String>,
    /// The cluster ended it, or is about to (drain, preemption, taint, pod garbage collection): why, in words.
    pub disruption: Option<String>,
    /// It is being deleted.
    pub deleted: bool,
    /// When it is to be gone then: its grace ends.
    pub delete_by: Option<Timestamp>,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// Why a container has not started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// One word, as in `ContainerCreating` or `ImagePullBackOff`.
    pub reason: String,
    /// In words.
    pub message: Option<String>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terminated {
    /// 0 to 255; 128 + n for signal n.
    pub exit_code: i32,
    /// The signal, where the runtime tells it apart.
    pub signal: Option<i32>,
    /// One word, as in `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: Option<String>,
    /// The last lines of the log after a failure, or what the runtime says.
    pub message: Option<String>,
    /// When it started, by the node's clock; none when it never ran.
    pub started_at: Option<Timestamp>,
    /// When it ended, by the node's clock.
    pub finished_at: Option<Timestamp>,
}

impl From<wire::Pod> for PodObservation {
    fn from(pod: wire::Pod) -> Self {
        let (mut metadata, status) = (pod.metadata, pod.status);
        let labels = metadata.labels.take().unwrap_or_default();
        let owners = metadata.owner_references.take().unwrap_or_default();
        let job = owners.into_iter().find(|owner| owner.kind == "Job");
        let (job_name, job_uid) = job.map(|owner| (owner.name, owner.uid)).unzip();
        let mut conditions = status.conditions.unwrap_or_default();
        let scheduled = conditions.iter_mut().find(|c| c.r#type == "PodScheduled");
        let (scheduled, unschedulable) = match scheduled {
            Some(condition) if condition.status == "True" => (Some(true), None),
            Some(condition) if condition.status == "False" => (Some(false), Some(words(condition))),
            _ => (None, None),
        };
        let disruption = conditions
            .iter_mut()
            .find(|c| c.r#type == "DisruptionTarget" && c.status == "True")
            .map(words);
        let state = status
            .container_statuses
            .unwrap_or_default()
            .into_iter()
            .find(|container| container.name == CONTAINER_NAME)
            .map(|container| container.state)
            .unwrap_or_default();
        Self {
            job_name,
            job_uid,
            execution_id: labels.execution_id(),
            attempt: labels.attempt(),
            deleted: metadata.deletion_timestamp.is_some(),
            delete_by: metadata.deletion_timestamp,
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            phase: status.phase,
            scheduled,
            unschedulable,
            waiting: state.waiting.map(|w| Waiting {
                reason: w.reason.unwrap_or_default(),
                message: w.message,
            }),
            running_since: state.running.and_then(|running| running.started_at),
            terminated: state.terminated.map(Terminated::from),
            pod_reason: status.reason,
            pod_message: status.message,
            disruption,
            node: pod.spec.node_name,
        }
    }
}

impl From<wire::ContainerTerminated> for Terminated {
    fn from(state: wire::ContainerTerminated) -> Self {
        Self {
            exit_code: state.exit_code,
            signal: state.signal.filter(|signal| *signal != 0),
            reason: state.reason,
            message: state.message,
            started_at: state.started_at.and_then(known),
            finished_at: state.finished_at.and_then(known),
        }
    }
}

/// A container that never ran is said to have done so in 1970.
fn known(time: Timestamp) -> Option<Timestamp> {
    (time > Timestamp::UNIX_EPOCH).then_some(time)
}

/// The condition's message, or its reason where it has none.
fn words(condition: &mut wire::Condition) -> String {
    condition
        .message
        .take()
        .filter(|message| !message.is_empty())
        .or_else(|| condition.reason.take())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    //! Pods as the API server writes them, at each step of their life.
    use super::*;

    const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn observe(status: &str) -> PodObservation {
        let json = format!(
            r#"{{"metadata":{{"name":"x-1-abcde","uid":"u","resourceVersion":"7","labels":{{"executor.dev/execution":"{ID}",
                "job-name":"x-1"}},"ownerReferences":[{{"kind":"Job","name":"x-1","uid":"j1","controller":true}}]}},
               "spec":{{"nodeName":"n1","containers":[{{"name":"script"}}]}},"status":{status}}}"#
        );
        serde_json::from_str::<wire::Pod>(&json)
            .expect("a Pod")
            .into()
    }

    fn container(state: &str) -> PodObservation {
        observe(&format!(
            r#"{{"phase":"Running","containerStatuses":[
                {{"name":"sidecar","state":{{"running":{{"startedAt":"2020-01-01T00:00:00Z"}}}}}},
                {{"name":"script","ready":false,"restartCount":0,"state":{state},"lastState":{{}}}}]}}"#
        ))
    }

    #[test]
    fn a_new_pod_says_little() {
        let pod = observe(r#"{"phase":"Pending"}"#);
        assert_eq!(
            (pod.job_name.as_deref(), pod.job_uid.as_deref()),
            (Some("x-1"), Some("j1"))
        );
        assert_eq!(
            pod.execution_id.map(|id| id.to_string()).as_deref(),
            Some(ID)
        );
        assert_eq!(
            (
                pod.scheduled,
                pod.waiting,
                pod.running_since,
                pod.terminated
            ),
            (None, None, None, None)
        );
        assert_eq!(pod.node.as_deref(), Some("n1"));
        assert!(!pod.deleted);
        assert_eq!(pod.attempt, 1);
        let json = r#"{"metadata":{"labels":{"executor.dev/attempt":"2"}}}"#;
        let pod: PodObservation = serde_json::from_str::<wire::Pod>(json)
            .expect("a Pod")
            .into();
        assert_eq!(pod.attempt, 2);
    }

    #[test]
    fn the_scheduler_is_quoted() {
        let pod = observe(
            r#"{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable",
                "message":"0/1 nodes are available: 1 Insufficient cpu."}]}"#,
        );
        assert_eq!(pod.scheduled, Some(false));
        assert_eq!(
            pod.unschedulable.as_deref(),
            Some("0/1 nodes are available: 1 Insufficient cpu.")
        );
        let pod = observe(
            r#"{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"True"}]}"#,
        );
        assert_eq!((pod.scheduled, pod.unschedulable), (Some(true), None));
    }

    #[test]
    fn the_states_of_the_scripts_container_are_told_apart() {
        let pod = container(
            r#"{"waiting":{"reason":"ImagePullBackOff","message":"Back-off pulling image"}}"#,
        );
        assert_eq!(pod.waiting.expect("waits").reason, "ImagePullBackOff");
        let pod = container(r#"{"running":{"startedAt":"2026-01-02T03:04:05Z"}}"#);
        assert_eq!(
            pod.running_since,
            Some("2026-01-02T03:04:05Z".parse().expect("a time"))
        );
        let pod = container(
            r#"{"terminated":{"exitCode":137,"signal":0,"reason":"OOMKilled","startedAt":"2026-01-02T03:04:05Z",
                "finishedAt":"2026-01-02T03:04:06Z","containerID":"containerd://1"}}"#,
        );
        let end = pod.terminated.expect("ended");
        assert_eq!(
            (end.exit_code, end.signal, end.reason.as_deref()),
            (137, None, Some("OOMKilled"))
        );
        assert!(end.started_at < end.finished_at);
        assert_eq!(pod.running_since, None);
    }

    #[test]
    fn a_container_that_never_ran_has_no_times() {
        let pod = container(
            r#"{"terminated":{"exitCode":128,"reason":"StartError","message":"no such file","startedAt":"1970-01-01T00:00:00Z",
                "finishedAt":"2026-01-02T03:04:06Z"}}"#,
        );
        let end = pod.terminated.expect("ended");
        assert_eq!(end.started_at, None);
        assert!(end.finished_at.is_some());
    }

    #[test]
    fn a_pod_ended_by_the_cluster_says_why() {
        let pod = observe(
            r#"{"phase":"Failed","reason":"Evicted","message":"The node was low on resource: memory.","conditions":[
                {"type":"DisruptionTarget","status":"True","reason":"TerminationByKubelet","message":""}]}"#,
        );
        assert_eq!(pod.pod_reason.as_deref(), Some("Evicted"));
        assert!(pod.pod_message.expect("words").contains("memory"));
        assert_eq!(pod.disruption.as_deref(), Some("TerminationByKubelet"));
    }
}
