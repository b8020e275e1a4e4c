//! Scheduler and kubelet in one: takes a pod from Pending to its end and reports each step as they do.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;
use crate::cluster::Cluster;
use crate::events::{self, Component};
use crate::gc;
use crate::job_controller::TRACKING;
use crate::object;
use crate::pod_spec;
use crate::pod_status;
use crate::runner::{Exit, News, PodStart, RunnerEvent};
use crate::storage::Key;
use crate::volumes::{self, Blocked};
use crate::watch::seconds_after;

/// The only node.
pub const NODE_NAME: &str = "localcluster";

/// Seconds between ErrImagePull and ImagePullBackOff.
const IMAGE_BACKOFF_SECONDS: i64 = 1;

/// Longest grace period of a shutdown of the server, in seconds.
const SHUTDOWN_GRACE_SECONDS: i64 = 2;

/// What a pod's containers are known to have done.
#[derive(Debug, Default)]
pub struct PodMemory {
    key: Option<Key>,
    containers: BTreeMap<String, (Option<Timestamp>, Option<Exit>)>,
    expected: usize,
    stop_sent: Option<i64>,
    shut_down: bool,
}

impl PodMemory {
    /// Whether a container may still run.
    pub fn running(&self) -> bool {
        self.containers
            .values()
            .filter(|(_, exit)| exit.is_some())
            .count()
            < self.expected
    }
}

/// What the runner is told once the objects are durable.
#[derive(Debug)]
pub enum Command {
    /// Start a pod.
    Start(Box<PodStart>),
    /// End a pod.
    Stop {
        /// Which.
        uid: String,
        /// Seconds until SIGKILL.
        grace_seconds: u64,
    },
    /// Remove what is left of a pod.
    Forget {
        /// Which.
        uid: String,
    },
}

/// The pod object with this UID is gone.
pub fn gone(cluster: &mut Cluster, uid: &str) {
    if let Some(memory) = cluster.pods.remove(uid) {
        if let Some(key) = memory.key {
            cluster.waiting.remove(&key);
        }
        cluster.commands.push(Command::Forget {
            uid: uid.to_owned(),
        });
    }
}

/// Brings one pod forward by one step.
pub fn reconcile(cluster: &mut Cluster, key: &Key, now: Timestamp) {
    let Some(pod) = cluster.get(key) else {
        cluster.waiting.remove(key);
        return;
    };
    if object::has_finalizer(&pod, TRACKING) && !has_controller(cluster, &pod) {
        cluster.change(key, |pod| {
            object::remove_finalizer(pod, TRACKING);
            true
        });
        return;
    }
    let uid = object::uid(&pod).to_owned();
    let known = cluster.pods.contains_key(&uid);
    if object::terminal(&pod) {
        if !known {
            // After a restart: its log may still be asked for, and its folder has to go with the object.
            cluster.pods.insert(
                uid,
                PodMemory {
                    key: Some(key.clone()),
                    ..PodMemory::default()
                },
            );
        }
        if object::deleting(&pod) {
            release(cluster, key);
        }
    } else if known {
        if object::deleting(&pod) {
            stop(cluster, key, &pod);
        }
    } else if pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        schedule(cluster, key, &pod, now);
    } else if cluster.runner.adopt(&uid, &pod_spec::container_names(&pod)) {
        remember(cluster, key, &pod);
    } else if object::deleting(&pod) {
        release(cluster, key);
    } else if !cluster.shutting_down {
        start(cluster, key, &pod, now);
    }
}

fn has_controller(cluster: &Cluster, pod: &Value) -> bool {
    object::items(&pod["metadata"]["ownerReferences"]).any(|owner| {
        owner["controller"] == true
            && owner["uid"]
                .as_str()
                .is_some_and(|uid| cluster.storage.by_uid(uid).is_some())
    })
}

/// Nothing runs any more: the deletion's grace is over.
fn release(cluster: &mut Cluster, key: &Key) {
    cluster.change(key, |pod| {
        let changed = pod["metadata"]["deletionGracePeriodSeconds"] != 0;
        gc::shorten_grace(pod, 0);
        changed
    });
    gc::remove_if_released(cluster, key);
}

fn stop(cluster: &mut Cluster, key: &Key, pod: &Value) {
    let grace = pod["metadata"]["deletionGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30);
    let uid = object::uid(pod).to_owned();
    let Some(memory) = cluster.pods.get_mut(&uid) else {
        return;
    };
    if memory.stop_sent.is_some_and(|earlier| earlier <= grace) {
        return;
    }
    memory.stop_sent = Some(grace);
    cluster.commands.push(Command::Stop {
        uid,
        grace_seconds: grace.max(0) as u64,
    });
    let names = pod_spec::container_names(pod);
    let now = cluster.now();
    for name in names {
        events::record(
            cluster,
            key,
            Component::Kubelet,
            false,
            "Killing",
            &format!("Stopping container {name}"),
            now,
        );
    }
}

fn schedule(cluster: &mut Cluster, key: &Key, pod: &Value, now: Timestamp) {
    let time = clock::seconds(now);
    if let Some(message) = pod_spec::unschedulable(pod) {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
            "lastProbeTime": null, "lastTransitionTime": time,
        });
        if cluster.change(key, |pod| {
            object::set_condition(&mut pod["status"], condition)
        }) {
            events::record(
                cluster,
                key,
                Component::Scheduler,
                true,
                "FailedScheduling",
                &message,
                now,
            );
        }
        return;
    }
    cluster.change(key, |pod| {
        pod["spec"]["nodeName"] = json!(NODE_NAME);
        let condition = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": time});
        object::set_condition(&mut pod["status"], condition)
    });
    let message = format!(
        "Successfully assigned {}/{} to {NODE_NAME}",
        key.namespace, key.name
    );
    events::record(
        cluster,
        key,
        Component::Scheduler,
        false,
        "Scheduled",
        &message,
        now,
    );
}

fn remember(cluster: &mut Cluster, key: &Key, pod: &Value) {
    let expected = pod_spec::container_names(pod).len();
    let memory = PodMemory {
        key: Some(key.clone()),
        expected,
        ..PodMemory::default()
    };
    cluster.pods.insert(object::uid(pod).to_owned(), memory);
}

/// Starts a scheduled pod, or says what it waits for.
fn start(cluster: &mut Cluster, key: &Key, pod: &Value, now: Timestamp) {
    let started = object::time(&pod["status"]["startTime"]).unwrap_or(now);
    let deadline = pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .map(|seconds| seconds_after(started, seconds));
    if let Some(deadline) = deadline {
        if deadline <= now {
            fail(cluster, key, DEADLINE.0, DEADLINE.1, now);
            return;
        }
        cluster.wake_at(deadline, key);
    }
    let blocked = match volumes::resolve(cluster, pod, deadline) {
        Ok(ready) => {
            cluster.waiting.remove(key);
            let waiting = |_: &str| json!({"waiting": {"reason": "ContainerCreating"}});
            pod_status::write(cluster, key, now, "Pending", &waiting);
            for container in &ready.containers {
                let image = pod_spec::image(pod, &container.name);
                let pulled = format!("Container image {image:?} already present on machine");
                events::record(
                    cluster,
                    key,
                    Component::Kubelet,
                    false,
                    "Pulled",
                    &pulled,
                    now,
                );
                let created = format!("Created container: {}", container.name);
                events::record(
                    cluster,
                    key,
                    Component::Kubelet,
                    false,
                    "Created",
                    &created,
                    now,
                );
            }
            remember(cluster, key, pod);
            cluster.commands.push(Command::Start(Box::new(ready)));
            return;
        }
        Err(blocked) => blocked,
    };
    cluster.waiting.insert(key.clone());
    wait(cluster, key, pod, &blocked, now);
}

/// Shows what a pod waits for.
fn wait(cluster: &mut Cluster, key: &Key, pod: &Value, blocked: &Blocked, now: Timestamp) {
    let mut waiting = match blocked {
        Blocked::Mount(_) => json!({"reason": "ContainerCreating"}),
        Blocked::Config(message) => {
            json!({"reason": "CreateContainerConfigError", "message": message})
        }
        Blocked::InvalidImage(message) => json!({"reason": "InvalidImageName", "message": message}),
        Blocked::Image { message, .. } => json!({"reason": "ErrImagePull", "message": message}),
    };
    let (reason, message) = match blocked {
        Blocked::Mount(message) => ("FailedMount", message.clone()),
        Blocked::Config(message) => ("Failed", format!("Error: {message}")),
        Blocked::InvalidImage(message) => ("InspectFailed", message.clone()),
        Blocked::Image { image, message } => {
            let before = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
            if before.is_null() || before == "ContainerCreating" {
                cluster.wake_at(seconds_after(now, IMAGE_BACKOFF_SECONDS), key);
                (
                    "Failed",
                    format!("Failed to pull image {image:?}: {message}"),
                )
            } else {
                let message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
                waiting = json!({"reason": "ImagePullBackOff", "message": message});
                ("BackOff", format!("Back-off pulling image {image:?}"))
            }
        }
    };
    let state = |_: &str| json!({"waiting": waiting});
    if pod_status::write(cluster, key, now, "Pending", &state) {
        events::record(
            cluster,
            key,
            Component::Kubelet,
            true,
            reason,
            &message,
            now,
        );
    }
}

const DEADLINE: (&str, &str) = (
    "DeadlineExceeded",
    "Pod was active on the node longer than the specified deadline",
);
const SHUTDOWN: (&str, &str) = (
    "Terminated",
    "Pod was terminated in response to imminent node shutdown.",
);

/// Ends a pod that never started.
pub fn fail(cluster: &mut Cluster, key: &Key, reason: &str, message: &str, now: Timestamp) {
    cluster.waiting.remove(key);
    cluster.change(key, |pod| {
        pod["status"]["phase"] = json!("Failed");
        pod["status"]["reason"] = json!(reason);
        pod["status"]["message"] = json!(message);
        object::default(&mut pod["status"], "startTime", json!(clock::seconds(now)));
        true
    });
}

/// Ends a pod because the server shuts down.
pub fn shut_down(cluster: &mut Cluster, key: &Key, now: Timestamp) {
    let Some(pod) = cluster.get(key) else { return };
    if object::terminal(&pod) || pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
        return;
    }
    let uid = object::uid(&pod).to_owned();
    let Some(memory) = cluster.pods.get_mut(&uid) else {
        return fail(cluster, key, SHUTDOWN.0, SHUTDOWN.1, now);
    };
    memory.shut_down = true;
    let grace = pod["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap_or(30)
        .clamp(0, SHUTDOWN_GRACE_SECONDS);
    cluster.commands.push(Command::Stop {
        uid,
        grace_seconds: grace as u64,
    });
}

/// Takes in what the runner tells.
pub fn runner_event(cluster: &mut Cluster, event: RunnerEvent, now: Timestamp) {
    let Some(memory) = cluster.pods.get_mut(&event.uid) else {
        return;
    };
    let Some(key) = memory.key.clone() else {
        return;
    };
    let entry = memory
        .containers
        .entry(event.container.clone())
        .or_default();
    match event.news {
        News::Started(at) => {
            let first = entry.0.replace(at).is_none();
            show_containers(cluster, &key, &event.uid, now, None);
            if first {
                let message = format!("Started container {}", event.container);
                events::record(
                    cluster,
                    &key,
                    Component::Kubelet,
                    false,
                    "Started",
                    &message,
                    now,
                );
            }
        }
        News::Ended(exit) => {
            if entry.1.is_some() {
                return;
            }
            entry.0 = entry.0.or(exit.started_at);
            if exit.reason == "StartError" {
                let message = format!("Error: {}", exit.message);
                events::record(
                    cluster,
                    &key,
                    Component::Kubelet,
                    true,
                    "Failed",
                    &message,
                    now,
                );
            }
            ended(cluster, &key, (&event.uid, &event.container), exit, now);
        }
    }
}

/// First the container's end, then, once all have ended, the pod's: the real kubelet shows them apart.
fn ended(
    cluster: &mut Cluster,
    key: &Key,
    (uid, container): (&str, &str),
    exit: Exit,
    now: Timestamp,
) {
    let Some(memory) = cluster.pods.get_mut(uid) else {
        return;
    };
    if let Some(entry) = memory.containers.get_mut(container) {
        entry.1 = Some(exit);
    }
    show_containers(cluster, key, uid, now, None);
    let Some(memory) = cluster.pods.get(uid) else {
        return;
    };
    if memory.running() {
        return;
    }
    let exits: Vec<&Exit> = memory
        .containers
        .values()
        .filter_map(|(_, exit)| exit.as_ref())
        .collect();
    let why = if exits.iter().any(|exit| exit.deadline_exceeded) {
        Some(DEADLINE)
    } else if memory.shut_down {
        Some(SHUTDOWN)
    } else {
        None
    };
    let failed = why.is_some() || exits.iter().any(|exit| exit.code != 0);
    let phase = if failed { "Failed" } else { "Succeeded" };
    show_containers(cluster, key, uid, now, Some((phase, why)));
}

type End = (&'static str, Option<(&'static str, &'static str)>);

/// Writes the containers' states as remembered, and the pod's end if there is one.
fn show_containers(cluster: &mut Cluster, key: &Key, uid: &str, now: Timestamp, end: Option<End>) {
    let Some(memory) = cluster.pods.get(uid) else {
        return;
    };
    let states: BTreeMap<String, Value> = memory
        .containers
        .iter()
        .map(|(name, (started, exit))| {
            (
                name.clone(),
                pod_status::state(uid, name, *started, exit.as_ref()),
            )
        })
        .collect();
    let any_ran = memory.containers.values().any(|(started, exit)| {
        started.is_some() && exit.as_ref().is_none_or(|e| e.reason != "StartError")
    });
    let phase = end.map_or(if any_ran { "Running" } else { "Pending" }, |(phase, _)| {
        phase
    });
    let creating = json!({"waiting": {"reason": "ContainerCreating"}});
    let show = |name: &str| {
        states
            .get(name)
            .cloned()
            .unwrap_or_else(|| creating.clone())
    };
    pod_status::write(cluster, key, now, phase, &show);
    if let Some((_, Some((reason, message)))) = end {
        cluster.change(key, |pod| {
            pod["status"]["reason"] = json!(reason);
            pod["status"]["message"] = json!(message);
            true
        });
    }
}
