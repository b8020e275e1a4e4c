//! What others do in the cluster: strangers delete, replace and leave things, nodes evict pods and get lost.

use localcluster::Disturbance;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::rows::short;
use crate::world::{Harm, NAMESPACE, collection};

/// An execution of which nobody has a record.
const UNKNOWN: &str = "01980000-0000-7000-8000-000000000000";

impl Driver {
    /// One of ours, at the moment.
    fn victim(&self, kind: &str) -> Option<Value> {
        let strangers = self.world.strangers.borrow();
        let mut ours = self.world.list(kind);
        ours.retain(|object| !strangers.iter().any(|uid| belongs(object, uid)));
        if ours.is_empty() {
            return None;
        }
        let at = self.world.chance.borrow_mut().below(ours.len());
        ours.into_iter().nth(at)
    }

    /// Notes what happens to that one; answers its name and its Job's.
    fn note_harm(&self, kind: &str, victim: &Value, harm: Harm) -> Option<String> {
        let name = victim["metadata"]["name"].as_str()?.to_owned();
        let job = match kind {
            "pods" => name.rsplit_once('-')?.0.to_owned(),
            _ => name.clone(),
        };
        let status = &victim["status"];
        self.world
            .note(&format!("  {}: {harm:?}, {status}", short(&job)));
        let mut harmed = self.world.harmed.borrow_mut();
        let worst = harmed.get(&job).copied().unwrap_or(harm).max(harm);
        harmed.insert(job, worst);
        Some(name)
    }

    /// Somebody deletes one.
    pub fn delete_one(&self, kind: &str, policy: &str) -> Option<Value> {
        let victim = self.victim(kind)?;
        let name = self.note_harm(kind, &victim, Harm::Deleted)?;
        let options = json!({"propagationPolicy": policy});
        let target = format!("{}/{name}", collection(namespace(&victim), kind));
        self.world.ask("DELETE", &target, &options);
        Some(victim)
    }

    /// A stranger's Job takes the name of one of ours. It ends well at once, as ours may not have.
    pub fn replace_job(&self) {
        let Some(victim) = self.delete_one("jobs", "Background") else {
            return;
        };
        let metadata = json!({"name": victim["metadata"]["name"], "namespace": namespace(&victim)});
        self.strangers_job(metadata, Value::Null);
    }

    /// A node does that to a pod of ours.
    pub fn disturb(&self, what: Disturbance) {
        let Some(pod) = self.victim("pods") else {
            return;
        };
        let harm = match what {
            Disturbance::Evicted => Harm::Evicted,
            Disturbance::NodeLost => Harm::NodeLost,
        };
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        if self.world.disturb(namespace(&pod), name, what) {
            self.note_harm("pods", &pod, harm);
            self.world.settle();
        }
    }

    /// A Job without its record: this database's own is to be swept, another's is not.
    pub fn leave_orphan(&self, ours: bool) {
        let database = if ours {
            let Some(database) = self.world.state("database") else {
                return;
            };
            database
        } else {
            "another".to_owned()
        };
        let number = self.world.chance.borrow_mut().number() & 0xffff_ffff_ffff;
        let id = format!("{}{number:012x}", &UNKNOWN[..24]);
        let labels =
            json!({"app.kubernetes.io/managed-by": "executor", "executor.dev/execution": id});
        let metadata = json!({"name": format!("x-{id}"), "labels": labels,
            "annotations": {"executor.dev/database": database, "executor.dev/spec-digest": "0"}});
        let uid = self.strangers_job(metadata, labels);
        if ours && let Some(uid) = uid {
            self.world
                .strangers
                .borrow_mut()
                .retain(|other| *other != uid);
        }
    }

    /// Makes a Job that is none of ours, with pods that have those labels. Answers its uid.
    fn strangers_job(&self, metadata: Value, labels: Value) -> Option<String> {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {"template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "script", "image": "alpine:3"}]}}}});
        let target = collection(namespace(&job), "jobs");
        let (_, made) = self.world.ask("POST", &target, &job);
        let uid = made["metadata"]["uid"].as_str()?.to_owned();
        self.world.strangers.borrow_mut().push(uid.clone());
        Some(uid)
    }
}

/// Where it is, or is to be.
fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"]
        .as_str()
        .unwrap_or(NAMESPACE)
}

/// Whether it is the object with that uid, or one of its own.
pub fn belongs(object: &Value, uid: &str) -> bool {
    let metadata = &object["metadata"];
    metadata["uid"] == uid || metadata["ownerReferences"][0]["uid"] == uid
}
