//! What a pod says, as an observation of the execution. Pure.

use domain::transition::{STARTING, waiting};
use domain::{ContainerEnd, Observation, Reason, Waiting, WaitingKind};
use kubernetes::{PodObservation, Terminated};

/// What the pod tells about its execution; none where it tells nothing new.
pub(crate) fn observation(pod: &PodObservation) -> Option<Observation> {
    if let Some(ended_by_cluster) = ended_by_cluster(pod) {
        return Some(ended_by_cluster);
    }
    if let Some(terminated) = &pod.terminated {
        return Some(Observation::Ended(container_end(terminated)));
    }
    if let Some(at) = pod.running_since {
        return Some(Observation::Started { at });
    }
    if pod.deleted {
        // It goes without having run; its end is seen when it is gone.
        return None;
    }
    why_it_waits(pod)
}

/// The pod was ended from outside: its container's exit code then says nothing about the script, unless
/// the script had ended well before.
fn ended_by_cluster(pod: &PodObservation) -> Option<Observation> {
    let succeeded = pod.terminated.as_ref().is_some_and(|t| t.exit_code == 0);
    if succeeded {
        return None;
    }
    if let Some(broken_off) = pod.terminated.as_ref().and_then(start_broken_off) {
        return Some(broken_off);
    }
    let message = pod.pod_message.clone().unwrap_or_default();
    let over = pod.terminated.is_some() || pod.phase == "Failed";
    let failed = |reason, message| Some(Observation::PodFailed { reason, message });
    match pod.pod_reason.as_deref() {
        Some("DeadlineExceeded") if over => {
            let reason = if pod.terminated.is_some() || pod.running_since.is_some() {
                Reason::RunTimeout
            } else {
                Reason::StartTimeout
            };
            return failed(reason, format!("the pod's deadline passed: {message}"));
        }
        Some("Evicted") if over && is_over_its_own_storage(&message) => {
            return failed(Reason::EphemeralStorageExceeded, message);
        }
        Some("NodeLost") => return failed(Reason::NodeLost, message),
        Some(
            "Evicted" | "Terminated" | "NodeShutdown" | "Shutdown" | "Preempting" | "NodeAffinity",
        ) if over => {
            return failed(
                Reason::Evicted,
                format!("the node ended the pod: {message}"),
            );
        }
        _ => {}
    }
    if pod.terminated.as_ref().and_then(|t| t.reason.as_deref()) == Some("ContainerStatusUnknown") {
        // The kubelet lost its container and made up the exit code 137.
        let message =
            "the node lost track of the container; how the script ended cannot be known".to_owned();
        return failed(Reason::Lost, message);
    }
    if let (Some(disruption), true) = (&pod.disruption, over) {
        if pod.terminated.is_none() && pod.node.is_some() && is_garbage_collection(disruption) {
            return failed(
                Reason::NodeLost,
                format!(
                    "the cluster gave up its node, where the script may still run: {disruption}"
                ),
            );
        }
        return failed(
            Reason::Evicted,
            format!("the cluster ended the pod: {disruption}"),
        );
    }
    if pod.deleted && pod.terminated.is_some() {
        let message = "its pod was deleted by somebody while the script ran".to_owned();
        return Some(Observation::JobGone { message });
    }
    if pod.phase == "Failed" && pod.terminated.is_none() {
        let Some(reason) = &pod.pod_reason else {
            // So a kubelet begins that has restarted and misses the container; it had been running.
            let message =
                "the pod failed and nothing tells how its container ended, or whether it ran";
            return failed(Reason::Lost, message.to_owned());
        };
        return failed(
            Reason::Evicted,
            format!("the pod failed before its container ran ({reason}): {message}"),
        );
    }
    None
}

/// The kubelet went away, or lost its patience, while the runtime was starting the container: the kubelet that comes after
/// it reports a start that failed, which is nobody's doing who asked for it.
fn start_broken_off(terminated: &Terminated) -> Option<Observation> {
    let said = terminated.message.as_deref().unwrap_or_default();
    let broken_off = [
        "context canceled",
        "context deadline exceeded",
        "ttrpc: closed",
        "failed to start shim",
    ];
    if !is_start_error(terminated) || !broken_off.iter().any(|words| said.contains(words)) {
        return None;
    }
    // Creating it does not run it yet; starting it may have.
    let (reason, message) = if said.contains("failed to create containerd task") {
        let message =
            format!("the node broke off the start of its container, and nothing ran: {said}");
        (Reason::Evicted, message)
    } else {
        let message = format!(
            "the node broke off the start of its container, and it cannot be known whether it ran: {said}"
        );
        (Reason::Lost, message)
    };
    Some(Observation::PodFailed { reason, message })
}

fn is_start_error(terminated: &Terminated) -> bool {
    let reason = terminated.reason.as_deref().unwrap_or_default();
    matches!(
        reason,
        "StartError" | "ContainerCannotRun" | "RunContainerError"
    )
}

/// The pod garbage collector removes what belongs to a node that is gone, and asks no kubelet.
fn is_garbage_collection(disruption: &str) -> bool {
    disruption.starts_with("PodGC") || disruption == "DeletionByPodGC"
}

/// The kubelet's ways to say that a pod went over a limit of its own; a node that is low on storage is not the
/// script's doing, though its message names the storage too.
fn is_over_its_own_storage(message: &str) -> bool {
    !message.contains("The node was low on resource")
        && (message.contains("ephemeral") || message.contains("EmptyDir volume"))
}

pub(crate) fn container_end(terminated: &Terminated) -> ContainerEnd {
    let reason = terminated.reason.as_deref().unwrap_or_default();
    ContainerEnd {
        exit_code: terminated.exit_code,
        signal: terminated.signal,
        out_of_memory: reason == "OOMKilled",
        start_error: is_start_error(terminated),
        message: if reason == "Completed" || reason == "Error" {
            // The fallback to the log's end would repeat what the log says.
            String::new()
        } else {
            terminated.message.clone().unwrap_or_default()
        },
        started_at: terminated.started_at,
        finished_at: terminated.finished_at,
    }
}

fn why_it_waits(pod: &PodObservation) -> Option<Observation> {
    if let Some(message) = &pod.unschedulable {
        let message = format!("no node can take it: {message}");
        return Some(Observation::Waiting(Waiting {
            kind: WaitingKind::Unschedulable,
            message,
        }));
    }
    let Some(why) = &pod.waiting else {
        return Some(Observation::Waiting(waiting(
            WaitingKind::Starting,
            STARTING,
        )));
    };
    let said = why.message.as_deref().unwrap_or_default();
    let message = if said.is_empty() {
        why.reason.clone()
    } else {
        format!("{}: {said}", why.reason)
    };
    let kind = match why.reason.as_str() {
        "InvalidImageName" => {
            return Some(Observation::CannotStart {
                reason: Reason::ImageUnavailable,
                message,
            });
        }
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError" => WaitingKind::Image,
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            WaitingKind::Config
        }
        _ => {
            return Some(Observation::Waiting(waiting(
                WaitingKind::Starting,
                STARTING,
            )));
        }
    };
    Some(Observation::Waiting(Waiting { kind, message }))
}

#[cfg(test)]
#[path = "observe_tests.rs"]
pub(crate) mod tests;
