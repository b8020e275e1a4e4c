//! Event objects, as controllers and the kubelet record them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::clock;
use crate::cluster::Cluster;
use crate::object;
use crate::resources::Resource;
use crate::storage::Key;

/// Who records.
#[derive(Debug, Clone, Copy)]
pub enum Component {
    /// The Job controller.
    JobController,
    /// The scheduler.
    Scheduler,
    /// The kubelet.
    Kubelet,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Component::JobController => "job-controller",
            Component::Scheduler => "default-scheduler",
            Component::Kubelet => "kubelet",
        }
    }
}

/// Records one event about an object; an equal one before is counted up instead.
pub fn record(
    cluster: &mut Cluster,
    about: &Key,
    who: Component,
    warning: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let Some(object) = cluster.get(about) else {
        return;
    };
    let same = warning.then(|| {
        cluster
            .storage
            .list(Resource::Event, Some(&about.namespace))
            .find(|(_, e)| {
                e["involvedObject"]["uid"] == object["metadata"]["uid"]
                    && e["reason"] == reason
                    && e["message"] == message
            })
            .map(|(key, _)| key.clone())
    });
    if let Some(key) = same.flatten() {
        cluster.change(&key, |event| {
            event["count"] = json!(event["count"].as_u64().unwrap_or(1) + 1);
            event["lastTimestamp"] = json!(clock::seconds(now));
            true
        });
        return;
    }
    let name = format!("{}.{}", about.name, cluster.ids.hex());
    let key = Key::new(Resource::Event, &about.namespace, &name);
    let mut involved = json!({
        "kind": about.resource.kind(), "namespace": about.namespace, "name": about.name, "uid": object::uid(&object),
        "apiVersion": about.resource.api_version(), "resourceVersion": object::meta(&object, "resourceVersion"),
    });
    if matches!(who, Component::Kubelet)
        && let Some(container) = object["spec"]["containers"][0]["name"]
            .as_str()
            .filter(|_| reason != "FailedMount")
    {
        involved["fieldPath"] = json!(format!("spec.containers{{{container}}}"));
    }
    let mut source = json!({"component": who.name()});
    if matches!(who, Component::Kubelet) {
        source["host"] = json!(crate::pod_lifecycle::NODE_NAME);
    }
    let time = clock::seconds(now);
    let event: Value = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": about.namespace, "uid": cluster.ids.uuid(), "creationTimestamp": time},
        "involvedObject": involved, "reason": reason, "message": message, "source": source,
        "firstTimestamp": time, "lastTimestamp": time, "count": 1, "type": if warning { "Warning" } else { "Normal" },
        "eventTime": null, "reportingComponent": who.name(), "reportingInstance": "",
    });
    cluster.storage.put(&key, event);
}
