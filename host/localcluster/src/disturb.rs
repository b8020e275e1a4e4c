//! What a node does to a pod that nobody asked for, for simulations: evicting it, or getting lost with it.

use serde_json::json;

use crate::cluster::Cluster;
use crate::object;
use crate::pod_lifecycle::{self, Command};
use crate::resources::Resource;
use crate::storage::Key;

/// What happens to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Its node runs out of memory and kills it at once.
    Evicted,
    /// Its node is not heard of any more; its containers run on unseen.
    NodeLost,
}

impl Disturbance {
    /// Reason and message of the pod's status, as the kubelet and the node controller word them.
    const fn status(self) -> (&'static str, &'static str) {
        match self {
            Self::Evicted => (
                "Evicted",
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 64Mi.",
            ),
            Self::NodeLost => (
                "NodeLost",
                "Node localcluster which was running pod is unresponsive",
            ),
        }
    }
}

impl Cluster {
    /// Does that to the pod of that name; answers whether it is on its node and has not ended, so that it could be
    /// done. [`Cluster::tick`] is to be called then.
    pub fn disturb(&mut self, namespace: &str, pod: &str, what: Disturbance) -> bool {
        let key = Key::new(Resource::Pod, namespace, pod);
        let Some(pod) = self.get(&key) else {
            return false;
        };
        if object::terminal(&pod) || pod["spec"]["nodeName"].as_str().is_none_or(str::is_empty) {
            return false;
        }
        let (reason, message) = what.status();
        let uid = object::uid(&pod).to_owned();
        if what == Disturbance::Evicted && !self.pods.contains_key(&uid) {
            let now = self.now();
            pod_lifecycle::fail(self, &key, reason, message, now);
            return true;
        }
        // The kubelet says why before it kills.
        self.change(&key, |pod| {
            pod["status"]["reason"] = json!(reason);
            pod["status"]["message"] = json!(message);
            true
        });
        if what == Disturbance::Evicted {
            self.commands.push(Command::Stop {
                uid,
                grace_seconds: 0,
            });
        }
        true
    }
}
