//! Pods as Kubernetes reports them, and what each tells of its execution.

use std::time::Duration;

use domain::transition::transition;
use domain::{Execution, ExecutionId, Resources, Status, Timeouts};
use jiff::Timestamp;
use kubernetes::Waiting as PodWaiting;

use super::*;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).expect("a time")
}

/// A pod that is scheduled and otherwise says nothing.
fn pending() -> PodObservation {
    PodObservation {
        namespace: "runs".to_owned(),
        name: "x-1-abcde".to_owned(),
        uid: "u".to_owned(),
        resource_version: "7".to_owned(),
        job_name: Some("x-1".to_owned()),
        job_uid: Some("j".to_owned()),
        execution_id: None,
        attempt: 1,
        phase: "Pending".to_owned(),
        scheduled: Some(true),
        unschedulable: None,
        waiting: None,
        running_since: None,
        terminated: None,
        pod_reason: None,
        pod_message: None,
        disruption: None,
        deleted: false,
        delete_by: None,
        node: Some("n1".to_owned()),
    }
}

fn waits_for(reason: &str, message: Option<&str>) -> PodObservation {
    let (reason, message) = (reason.to_owned(), message.map(str::to_owned));
    PodObservation {
        waiting: Some(PodWaiting { reason, message }),
        ..pending()
    }
}

fn running() -> PodObservation {
    PodObservation {
        phase: "Running".to_owned(),
        running_since: Some(time(1)),
        ..pending()
    }
}

fn ended(exit_code: i32, reason: &str) -> PodObservation {
    PodObservation {
        phase: if exit_code == 0 {
            "Succeeded"
        } else {
            "Failed"
        }
        .to_owned(),
        terminated: Some(Terminated {
            exit_code,
            reason: Some(reason.to_owned()),
            started_at: Some(time(1)),
            finished_at: Some(time(5)),
            ..Terminated::default()
        }),
        ..pending()
    }
}

/// A pod that the cluster failed, with whatever its container said.
fn failed(pod: PodObservation, reason: &str, message: &str) -> PodObservation {
    PodObservation {
        phase: "Failed".to_owned(),
        pod_reason: Some(reason.to_owned()),
        pod_message: Some(message.to_owned()),
        ..pod
    }
}

fn disrupted(pod: PodObservation, words: &str) -> PodObservation {
    PodObservation {
        disruption: Some(words.to_owned()),
        ..pod
    }
}

fn deleted(pod: PodObservation) -> PodObservation {
    PodObservation {
        deleted: true,
        ..pod
    }
}

/// An execution whose Job has been made.
pub(crate) fn dispatched() -> Execution {
    let quantity = |text: &str| text.parse().expect("a quantity");
    Execution {
        id: ExecutionId::new(time(0), [7; 10]),
        tenant: domain::Tenant::default(),
        namespace: None,
        generation: 3,
        status: Status::Queued,
        created_at: time(0),
        attempt: 1,
        due_at: time(0),
        dispatched_at: Some(time(0)),
        job_uid: Some("j".to_owned()),
        started_at: None,
        cancel_requested_at: None,
        creation_in_doubt: false,
        timed_out_at: None,
        trace: None,
        origin: None,
        stopping_since: None,
        finished_at: None,
        ending: None,
        waiting: None,
        image: "alpine:3".to_owned(),
        resources: Resources {
            cpu: quantity("1"),
            memory: quantity("1Gi"),
            ephemeral_storage: None,
        },
        timeouts: Timeouts::default(),
        retry: domain::Retry::default(),
        priority: 0,
        labels: std::collections::BTreeMap::new(),
        ttl_seconds: 3600,
        log: None,
    }
}

/// What the execution is after this pod was seen.
fn after(pod: &PodObservation) -> Execution {
    let now = dispatched();
    let seen = observation(pod);
    seen.and_then(|seen| transition(&now, &seen, time(9)))
        .unwrap_or(now)
}

#[track_caller]
fn check_end(pod: &PodObservation, reason: Reason, exit_code: Option<i32>, words: &str) {
    let execution = after(pod);
    let ending = execution
        .ending
        .unwrap_or_else(|| panic!("not ended by {pod:?}"));
    assert_eq!(
        (ending.reason, ending.exit_code),
        (reason, exit_code),
        "{pod:?}"
    );
    assert!(
        ending.message.contains(words),
        "{words:?} is not in {:?}",
        ending.message
    );
}

#[test]
fn a_container_that_ended_by_itself_tells_by_its_code() {
    for (code, word, reason) in [
        (0, "Completed", Reason::Completed),
        (42, "Error", Reason::NonZeroExit),
        (127, "Error", Reason::NonZeroExit),
        (255, "Error", Reason::NonZeroExit),
        (137, "Error", Reason::Signaled),
        (139, "Error", Reason::Signaled),
        (137, "OOMKilled", Reason::OOMKilled),
        // The memory cgroup kills one process of several, and the shell answers with a code of its own.
        (1, "OOMKilled", Reason::OOMKilled),
    ] {
        check_end(&ended(code, word), reason, Some(code), &code.to_string());
        // The container's state is there a second or two before the pod's phase follows.
        let early = PodObservation {
            phase: "Running".to_owned(),
            ..ended(code, word)
        };
        check_end(&early, reason, Some(code), &code.to_string());
    }
    let execution = after(&ended(42, "Error"));
    assert_eq!(
        (execution.started_at, execution.finished_at),
        (Some(time(1)), Some(time(6) - Duration::from_micros(1)))
    );
}

#[test]
fn a_command_that_could_not_be_started_never_ran() {
    let message =
        "failed to create containerd task: exec: \"/nope\": stat /nope: no such file or directory";
    for word in ["StartError", "ContainerCannotRun"] {
        let mut pod = ended(128, word);
        let end = pod.terminated.as_mut().expect("ended");
        end.started_at = None;
        end.message = Some(message.to_owned());
        check_end(&pod, Reason::InvalidSpec, Some(128), message);
        assert_eq!(after(&pod).started_at, None);
    }
}

#[test]
fn a_start_that_the_node_broke_off_is_not_the_requests_fault() {
    let start_error = |message: &str| {
        let mut pod = ended(128, "StartError");
        let end = pod.terminated.as_mut().expect("ended");
        end.started_at = None;
        end.message = Some(message.to_owned());
        pod
    };
    // As a kubelet said that was killed while it started containers.
    let created =
        "failed to create containerd task: failed to create shim task: context canceled: unknown";
    check_end(&start_error(created), Reason::Evicted, None, "nothing ran");
    let no_shim = "failed to create containerd task: failed to start shim: start failed: : signal: killed: unknown";
    check_end(&start_error(no_shim), Reason::Evicted, None, "nothing ran");
    let started = "failed to start containerd task \"script\": context deadline exceeded: unknown";
    check_end(&start_error(started), Reason::Lost, None, "cannot be known");
}

#[test]
fn a_container_that_the_kubelet_lost_has_no_exit_code() {
    check_end(
        &ended(137, "ContainerStatusUnknown"),
        Reason::Lost,
        None,
        "cannot be known",
    );
}

#[test]
fn a_deleted_pod_says_nothing_about_the_script_unless_it_had_succeeded() {
    check_end(
        &deleted(ended(143, "Error")),
        Reason::JobDeleted,
        None,
        "deleted by somebody",
    );
    check_end(
        &deleted(ended(137, "Error")),
        Reason::JobDeleted,
        None,
        "deleted by somebody",
    );
    check_end(
        &deleted(ended(0, "Completed")),
        Reason::Completed,
        Some(0),
        "exit code 0",
    );
    assert_eq!(
        after(&deleted(running())).status,
        Status::Running,
        "it is still being ended"
    );
    assert_eq!(
        observation(&deleted(waits_for("ContainerCreating", None))),
        None
    );
}

#[test]
fn an_eviction_is_the_clusters_doing_and_storage_the_scripts() {
    let memory = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi. \
                  Container script was using 70Mi, request is 64Mi, has larger consumption of memory.";
    for pod in [
        pending(),
        ended(137, "Error"),
        ended(137, "ContainerStatusUnknown"),
    ] {
        check_end(
            &failed(pod, "Evicted", memory),
            Reason::Evicted,
            None,
            "low on resource: memory",
        );
    }
    for message in [
        "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
        "Container script exceeded its local ephemeral storage limit \"10Mi\". ",
        "Usage of EmptyDir volume \"tmp\" exceeds the limit \"10Mi\". ",
    ] {
        let pod = failed(ended(137, "Error"), "Evicted", message);
        check_end(&pod, Reason::EphemeralStorageExceeded, None, message.trim());
    }
    let node = "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 900Mi. ";
    check_end(
        &failed(pending(), "Evicted", node),
        Reason::Evicted,
        None,
        "low on resource",
    );
    // The kubelet has decided, and the container still runs: its end is awaited.
    let early = PodObservation {
        phase: "Running".to_owned(),
        ..failed(running(), "Evicted", memory)
    };
    assert_eq!(after(&early).status, Status::Running);
    // It was done before it was evicted.
    check_end(
        &failed(ended(0, "Completed"), "Evicted", memory),
        Reason::Completed,
        Some(0),
        "",
    );
}

#[test]
fn the_pods_deadline_is_the_run_clock_or_the_start_clock() {
    let message = "Pod was active on the node longer than the specified deadline";
    let ran = failed(ended(137, "Error"), "DeadlineExceeded", message);
    check_end(&ran, Reason::RunTimeout, None, message);
    let never_ran = failed(pending(), "DeadlineExceeded", message);
    check_end(&never_ran, Reason::StartTimeout, None, message);
    let waited = failed(
        waits_for("ImagePullBackOff", None),
        "DeadlineExceeded",
        message,
    );
    check_end(&waited, Reason::StartTimeout, None, message);
    // The kubelet fails the pod at once and reports the container's end a moment later.
    let dying = failed(running(), "DeadlineExceeded", message);
    check_end(&dying, Reason::RunTimeout, None, message);
}

#[test]
fn a_disruption_tells_once_the_container_ended() {
    let words = "Eviction API: evicting";
    check_end(
        &disrupted(ended(143, "Error"), words),
        Reason::Evicted,
        None,
        words,
    );
    check_end(
        &deleted(disrupted(ended(143, "Error"), words)),
        Reason::Evicted,
        None,
        words,
    );
    assert_eq!(
        after(&deleted(disrupted(running(), words))).status,
        Status::Running
    );
    check_end(
        &disrupted(ended(0, "Completed"), words),
        Reason::Completed,
        Some(0),
        "",
    );
    // Pod garbage collection, after the node's object is gone: the container's last state stays as it was.
    let pod = PodObservation {
        phase: "Failed".to_owned(),
        ..disrupted(running(), "PodGC: node no longer exists")
    };
    check_end(&pod, Reason::NodeLost, None, "PodGC");
    // It never had one, so nothing can run anywhere.
    let pod = PodObservation {
        phase: "Failed".to_owned(),
        node: None,
        ..disrupted(pending(), "PodGC: unscheduled pod terminating")
    };
    check_end(&pod, Reason::Evicted, None, "PodGC");
}

#[test]
fn a_node_that_shuts_down_or_is_lost_says_so() {
    let message = "Pod was terminated in response to imminent node shutdown.";
    let pod = failed(ended(143, "Error"), "Terminated", message);
    check_end(
        &disrupted(pod, "node shutdown"),
        Reason::Evicted,
        None,
        message,
    );
    let message = "Node n1 which was running pod x-1-abcde is unresponsive";
    let lost = PodObservation {
        phase: "Running".to_owned(),
        ..failed(running(), "NodeLost", message)
    };
    check_end(&lost, Reason::NodeLost, None, message);
}

#[test]
fn a_pod_that_failed_without_its_container_says_why_as_far_as_it_knows() {
    let refused = failed(
        pending(),
        "OutOfcpu",
        "Node didn't have enough resource: cpu",
    );
    check_end(&refused, Reason::Evicted, None, "OutOfcpu");
    let silent = PodObservation {
        phase: "Failed".to_owned(),
        ..waits_for("ContainerCreating", None)
    };
    check_end(&silent, Reason::Lost, None, "nothing tells");
}

#[test]
fn what_it_waits_for_is_told_apart_in_the_clusters_words() {
    for (word, kind) in [
        ("ErrImagePull", WaitingKind::Image),
        ("ImagePullBackOff", WaitingKind::Image),
        ("ErrImageNeverPull", WaitingKind::Image),
        ("CreateContainerConfigError", WaitingKind::Config),
        ("CreateContainerError", WaitingKind::Config),
    ] {
        let waiting = after(&waits_for(word, Some("says the kubelet")))
            .waiting
            .expect("waits");
        assert_eq!(
            (waiting.kind, waiting.message),
            (kind, format!("{word}: says the kubelet"))
        );
    }
    let bare = after(&waits_for("ImagePullBackOff", None))
        .waiting
        .expect("waits");
    assert_eq!(bare.message, "ImagePullBackOff");
    for pod in [
        pending(),
        waits_for("ContainerCreating", None),
        waits_for("PodInitializing", None),
    ] {
        let waiting = after(&pod).waiting.expect("waits");
        assert_eq!(
            (waiting.kind, waiting.message.as_str()),
            (WaitingKind::Starting, STARTING)
        );
    }
    let words = "0/3 nodes are available: 3 Insufficient cpu.";
    let unschedulable = PodObservation {
        scheduled: Some(false),
        unschedulable: Some(words.to_owned()),
        node: None,
        ..pending()
    };
    let waiting = after(&unschedulable).waiting.expect("waits");
    assert_eq!(waiting.kind, WaitingKind::Unschedulable);
    assert!(waiting.message.contains(words));
}

#[test]
fn a_name_that_is_no_image_name_is_not_waited_for() {
    let message = "Failed to apply default image tag \"A:b:c\": couldn't parse image name";
    let pod = waits_for("InvalidImageName", Some(message));
    check_end(&pod, Reason::ImageUnavailable, None, message);
}

#[test]
fn a_container_that_runs_has_started() {
    let execution = after(&running());
    assert_eq!(
        (execution.status, execution.started_at),
        (Status::Running, Some(time(2) - Duration::from_micros(1)))
    );
}
