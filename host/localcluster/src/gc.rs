//! Deletion: grace, finalizers, owners and dependents.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::clock;
use crate::cluster::Cluster;
use crate::object;
use crate::resources::Resource;
use crate::storage::Key;

/// The finalizer of a deletion that waits for the dependents.
pub const FOREGROUND: &str = "foregroundDeletion";

/// The finalizer of a deletion that first lets the dependents go.
pub const ORPHAN: &str = "orphan";

/// What becomes of dependents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted after the owner.
    Background,
    /// They are deleted before the owner.
    Foreground,
    /// They stay.
    Orphan,
}

/// Deletes an object as far as grace and finalizers allow; answers whether it is gone at once.
pub fn delete(
    cluster: &mut Cluster,
    key: &Key,
    propagation: Propagation,
    grace_seconds: Option<i64>,
    now: Timestamp,
) -> bool {
    let Some(object) = cluster.get(key) else {
        return true;
    };
    let grace = grace_for(&object, key, grace_seconds);
    let finalizer = match propagation {
        Propagation::Background => None,
        Propagation::Foreground => Some(FOREGROUND),
        // Only an object that may own something has to let go of it.
        Propagation::Orphan => {
            (!cluster.storage.owned_by(object::uid(&object)).is_empty()).then_some(ORPHAN)
        }
    };
    if grace == 0 && finalizer.is_none() && object::finalizers(&object).is_empty() {
        cluster.storage.remove(key);
        return true;
    }
    let deadline = now
        .checked_add(SignedDuration::from_secs(grace))
        .unwrap_or(now);
    cluster.change(key, |object| {
        let before = object.clone();
        if let Some(finalizer) = finalizer {
            object::add_finalizer(object, finalizer);
        }
        if object::deleting(object) {
            shorten_grace(object, grace);
        } else {
            let metadata = &mut object["metadata"];
            metadata["deletionTimestamp"] = json!(clock::seconds(deadline));
            metadata["deletionGracePeriodSeconds"] = json!(grace);
        }
        *object != before
    });
    cluster.storage.get(key).is_none()
}

/// Makes the grace of a deletion under way as short as that; the time at which it was asked for stays (`BeforeDelete` in
/// Kubernetes' `registry/rest/delete.go`).
pub fn shorten_grace(object: &mut Value, grace: i64) {
    let metadata = &mut object["metadata"];
    let earlier = metadata["deletionGracePeriodSeconds"].as_i64();
    let earlier = earlier.unwrap_or_default();
    if let Some(by) = object::time(&metadata["deletionTimestamp"]).filter(|_| grace < earlier) {
        let by = by - SignedDuration::from_secs(earlier - grace);
        metadata["deletionTimestamp"] = json!(clock::seconds(by));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
    }
}

/// Seconds a deletion waits: only a pod that is on a node and has not ended does.
fn grace_for(object: &Value, key: &Key, asked: Option<i64>) -> i64 {
    if key.resource != Resource::Pod
        || object::terminal(object)
        || object["spec"]["nodeName"]
            .as_str()
            .is_none_or(str::is_empty)
    {
        return 0;
    }
    asked
        .or(object["spec"]["terminationGracePeriodSeconds"].as_i64())
        .unwrap_or(30)
        .max(0)
}

/// Removes an object whose deletion waits for nothing any more.
pub fn remove_if_released(cluster: &mut Cluster, key: &Key) {
    let Some(object) = cluster.storage.get(key) else {
        return;
    };
    let free = object::deleting(object) && object::finalizers(object).is_empty();
    if free
        && object["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or(0)
            == 0
    {
        cluster.storage.remove(key);
    }
}

/// Looks after one object's owners and dependents.
pub fn reconcile(cluster: &mut Cluster, key: &Key, now: Timestamp) {
    let Some(object) = cluster.get(key) else {
        return;
    };
    let owners: Vec<String> = object::items(&object["metadata"]["ownerReferences"])
        .filter_map(|o| o["uid"].as_str().map(str::to_owned))
        .collect();
    if !owners.is_empty()
        && !object::deleting(&object)
        && owners
            .iter()
            .all(|uid| cluster.storage.by_uid(uid).is_none())
    {
        delete(cluster, key, Propagation::Background, None, now);
        return;
    }
    if !object::deleting(&object) {
        return;
    }
    let uid = object::uid(&object).to_owned();
    if object::has_finalizer(&object, ORPHAN) {
        for dependent in cluster.storage.owned_by(&uid) {
            cluster.change(&dependent, |dependent| release_from(dependent, &uid));
        }
        cluster.change(key, |object| {
            object::remove_finalizer(object, ORPHAN);
            true
        });
    } else if object::has_finalizer(&object, FOREGROUND) {
        let mut blocked = false;
        for dependent in cluster.storage.owned_by(&uid) {
            let Some(state) = cluster.get(&dependent) else {
                continue;
            };
            let blocks = object::items(&state["metadata"]["ownerReferences"])
                .any(|owner| owner["uid"] == uid.as_str() && owner["blockOwnerDeletion"] == true);
            let gone = if object::deleting(&state) {
                false
            } else {
                delete(cluster, &dependent, Propagation::Background, None, now)
            };
            blocked |= blocks && !gone;
        }
        if !blocked {
            cluster.change(key, |object| {
                object::remove_finalizer(object, FOREGROUND);
                true
            });
        }
    }
}

fn release_from(dependent: &mut serde_json::Value, uid: &str) -> bool {
    let Some(list) = dependent["metadata"]["ownerReferences"].as_array_mut() else {
        return false;
    };
    list.retain(|owner| owner["uid"] != uid);
    if list.is_empty() {
        object::remove(&mut dependent["metadata"], "ownerReferences");
    }
    true
}
