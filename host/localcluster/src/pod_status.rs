//! The status of a pod as the kubelet writes it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;
use crate::cluster::Cluster;
use crate::object;
use crate::runner::Exit;
use crate::storage::Key;

/// The state of one container: waiting, running or terminated.
pub fn state(uid: &str, name: &str, started: Option<Timestamp>, exit: Option<&Exit>) -> Value {
    match (started, exit) {
        (_, Some(exit)) => {
            let mut ended = json!({
                "exitCode": exit.code, "reason": exit.reason, "finishedAt": clock::seconds(exit.finished_at),
                "startedAt": started.or(exit.started_at).map(clock::seconds), "containerID": container_id(uid, name),
            });
            if !exit.message.is_empty() {
                ended["message"] = json!(exit.message);
            }
            json!({"terminated": ended})
        }
        (Some(at), None) => json!({"running": {"startedAt": clock::seconds(at)}}),
        (None, None) => json!({"waiting": {"reason": "ContainerCreating"}}),
    }
}

fn container_id(uid: &str, name: &str) -> String {
    format!("localcluster://{uid}/{name}")
}

/// Writes phase, conditions and container statuses; answers whether anything changed.
pub fn write(
    cluster: &mut Cluster,
    key: &Key,
    now: Timestamp,
    phase: &str,
    state: &dyn Fn(&str) -> Value,
) -> bool {
    cluster.change(key, |pod| {
        let before = pod["status"].clone();
        let statuses: Vec<Value> = object::items(&pod["spec"]["containers"])
            .map(|container| {
                container_status(
                    object::uid(pod),
                    container,
                    state(container["name"].as_str().unwrap_or_default()),
                )
            })
            .collect();
        let ready = statuses.iter().all(|status| status["ready"] == true);
        let status = &mut pod["status"];
        status["phase"] = json!(phase);
        object::default(status, "startTime", json!(clock::seconds(now)));
        object::default(status, "hostIP", json!("127.0.0.1"));
        status["containerStatuses"] = Value::Array(statuses);
        conditions(status, phase, ready, now);
        *status != before
    })
}

fn container_status(uid: &str, container: &Value, state: Value) -> Value {
    let running = !state["running"].is_null();
    let mut status = json!({
        "name": container["name"], "image": container["image"], "imageID": "", "lastState": {}, "ready": running,
        "started": running, "restartCount": 0, "state": state,
    });
    if status["state"]["waiting"].is_null() {
        status["containerID"] = json!(container_id(
            uid,
            container["name"].as_str().unwrap_or_default()
        ));
        status["imageID"] = container["image"].clone();
    }
    status
}

fn conditions(status: &mut Value, phase: &str, ready: bool, now: Timestamp) {
    let why = match phase {
        "Succeeded" => Some("PodCompleted"),
        "Failed" => Some("PodFailed"),
        _ if !ready => Some("ContainersNotReady"),
        _ => None,
    };
    let set = |status: &mut Value, kind: &str, value: bool, reason: Option<&str>| {
        let mut condition = json!({
            "type": kind, "status": if value { "True" } else { "False" },
            "lastProbeTime": null, "lastTransitionTime": clock::seconds(now),
        });
        if let Some(reason) = reason {
            condition["reason"] = json!(reason);
        }
        object::set_condition(status, condition);
    };
    set(
        status,
        "Initialized",
        true,
        why.filter(|_| phase == "Succeeded"),
    );
    set(status, "Ready", ready, why);
    set(status, "ContainersReady", ready, why);
}
