//! The Job controller: makes pods, counts their ends once, and says how the Job ended.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::clock;
use crate::cluster::Cluster;
use crate::events::{self, Component};
use crate::gc::{self, Propagation};
use crate::object;
use crate::resources::Resource;
use crate::storage::Key;

/// Kept on each pod until its end is counted, so that a deletion cannot lose it.
pub const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// First pause before a failed pod is replaced, in seconds; doubles with each failure.
const BACKOFF_SECONDS: i64 = 10;

/// Longest pause before a failed pod is replaced, in seconds.
const MAX_BACKOFF_SECONDS: i64 = 600;

/// The pods of one Job, sorted by what they mean for it.
#[derive(Default)]
struct Pods {
    active: Vec<(Key, Arc<Value>)>,
    /// Each with whether it succeeded, if it counts.
    uncounted: Vec<(Key, Option<bool>)>,
    terminating: usize,
    ready: usize,
    last_failure: Option<Timestamp>,
}

/// Brings one Job forward.
pub fn reconcile(cluster: &mut Cluster, key: &Key, now: Timestamp) {
    let Some(job) = cluster.get(key) else { return };
    let pods = sort_pods(cluster, &job);
    if finished(&job) {
        release(cluster, &pods);
        return expire(cluster, key, &job, now);
    }
    let mut status = job["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let suspended = job["spec"]["suspend"] == true;
    count(&mut status, &pods);
    release(cluster, &pods);
    set_suspended(cluster, key, &job, &mut status, suspended, now);
    let failure = failure(cluster, key, &job, &status, suspended, now);
    let stopped = failure.is_some() || suspended || object::deleting(&job);
    let mut active = pods.active.len();
    if failure.is_some() || suspended {
        active -= delete_pods(cluster, key, &pods, now);
    }
    let done = !stopped && complete(&job, &status, active);
    if !stopped && !done {
        active += create_pods(cluster, key, &job, &status, &pods, now);
    }
    status["active"] = json!(active);
    status["ready"] = json!(pods.ready);
    status["terminating"] = json!(pods.terminating);
    if active == 0 {
        object::remove(&mut status, "active");
    }
    // The real controller marks the decision first, and the end once no pod is left.
    if let Some((reason, message)) = failure {
        add_condition(&mut status, "FailureTarget", reason, message, now);
        write(cluster, key, &status);
        if active == 0 && pods.terminating == 0 {
            add_condition(&mut status, "Failed", reason, message, now);
            events::record(
                cluster,
                key,
                Component::JobController,
                true,
                reason,
                message,
                now,
            );
        }
    } else if done {
        let (reason, message) = (
            "CompletionsReached",
            "Reached expected number of succeeded pods",
        );
        add_condition(&mut status, "SuccessCriteriaMet", reason, message, now);
        write(cluster, key, &status);
        add_condition(&mut status, "Complete", reason, message, now);
        status["completionTime"] = json!(clock::seconds(now));
        events::record(
            cluster,
            key,
            Component::JobController,
            false,
            "Completed",
            "Job completed",
            now,
        );
    }
    write(cluster, key, &status);
}

fn write(cluster: &mut Cluster, key: &Key, status: &Value) {
    cluster.change(key, |job| {
        let changed = job["status"] != *status;
        job["status"] = status.clone();
        changed
    });
}

fn add_condition(status: &mut Value, kind: &str, reason: &str, message: &str, now: Timestamp) {
    let time = clock::seconds(now);
    let condition = json!({
        "type": kind, "status": "True", "lastProbeTime": time, "lastTransitionTime": time, "reason": reason, "message": message,
    });
    object::set_condition(status, condition);
}

/// Whether a Job has its final condition.
pub fn finished(job: &Value) -> bool {
    object::condition_true(job, "Complete") || object::condition_true(job, "Failed")
}

fn sort_pods(cluster: &Cluster, job: &Value) -> Pods {
    let mut pods = Pods::default();
    let suspended = job["spec"]["suspend"] == true;
    for key in cluster
        .storage
        .owned_by(object::uid(job))
        .into_iter()
        .filter(|k| k.resource == Resource::Pod)
    {
        let Some(pod) = cluster.get(&key) else {
            continue;
        };
        let (terminal, deleting) = (object::terminal(&pod), object::deleting(&pod));
        let succeeded = object::phase(&pod) == "Succeeded";
        // A deleted pod counts as failed at once, or a pod that never reports its end would hold the Job for ever; that of
        // a suspended Job does not count.
        if object::has_finalizer(&pod, TRACKING) && (terminal || deleting) {
            let end = (!(suspended && deleting)).then_some(succeeded);
            pods.uncounted.push((key.clone(), end));
        }
        if terminal && !succeeded {
            let ended = object::items(&pod["status"]["containerStatuses"])
                .filter_map(|c| object::time(&c["state"]["terminated"]["finishedAt"]))
                .max();
            pods.last_failure = pods.last_failure.max(ended);
        }
        if deleting && !terminal {
            pods.terminating += 1;
        } else if !terminal {
            pods.ready += usize::from(object::condition_true(&pod, "Ready"));
            pods.active.push((key, pod));
        }
    }
    pods
}

/// Adds the ends that are not yet counted.
fn count(status: &mut Value, pods: &Pods) {
    for succeeded in pods
        .uncounted
        .iter()
        .filter_map(|(_, succeeded)| *succeeded)
    {
        let field = if succeeded { "succeeded" } else { "failed" };
        status[field] = json!(status[field].as_u64().unwrap_or(0) + 1);
    }
    object::default(status, "uncountedTerminatedPods", json!({}));
}

fn release(cluster: &mut Cluster, pods: &Pods) {
    for (pod, _) in &pods.uncounted {
        cluster.change(pod, |pod| {
            object::remove_finalizer(pod, TRACKING);
            true
        });
    }
}

fn set_suspended(
    cluster: &mut Cluster,
    key: &Key,
    job: &Value,
    status: &mut Value,
    suspended: bool,
    now: Timestamp,
) {
    let time = clock::seconds(now);
    let condition = |value: &str, reason: &str, message: &str| {
        json!({
            "type": "Suspended", "status": value, "lastProbeTime": time, "lastTransitionTime": time, "reason": reason, "message": message,
        })
    };
    if suspended {
        if object::set_condition(status, condition("True", "JobSuspended", "Job suspended")) {
            object::remove(status, "startTime");
            events::record(
                cluster,
                key,
                Component::JobController,
                false,
                "Suspended",
                "Job suspended",
                now,
            );
        }
    } else {
        if object::condition_true(job, "Suspended") {
            object::set_condition(status, condition("False", "JobResumed", "Job resumed"));
            events::record(
                cluster,
                key,
                Component::JobController,
                false,
                "Resumed",
                "Job resumed",
                now,
            );
        }
        object::default(status, "startTime", json!(time));
    }
}

/// Why the Job fails, if it does; sets the timer of its deadline otherwise.
fn failure(
    cluster: &mut Cluster,
    key: &Key,
    job: &Value,
    status: &Value,
    suspended: bool,
    now: Timestamp,
) -> Option<(&'static str, &'static str)> {
    let backoff = (
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    );
    let deadline_reason = (
        "DeadlineExceeded",
        "Job was active longer than specified deadline",
    );
    if let Some(earlier) =
        object::items(&status["conditions"]).find(|c| c["type"] == "FailureTarget")
    {
        return Some(if earlier["reason"] == backoff.0 {
            backoff
        } else {
            deadline_reason
        });
    }
    if status["failed"].as_i64().unwrap_or(0) > job["spec"]["backoffLimit"].as_i64().unwrap_or(6) {
        return Some(backoff);
    }
    let (Some(start), Some(limit)) = (
        object::time(&status["startTime"]),
        job["spec"]["activeDeadlineSeconds"].as_i64(),
    ) else {
        return None;
    };
    let deadline = crate::watch::seconds_after(start, limit);
    if suspended {
        None
    } else if deadline <= now {
        Some(deadline_reason)
    } else {
        cluster.wake_at(deadline, key);
        None
    }
}

fn complete(job: &Value, status: &Value, active: usize) -> bool {
    let succeeded = status["succeeded"].as_u64().unwrap_or(0);
    match job["spec"]["completions"].as_u64() {
        Some(completions) => succeeded >= completions,
        None => succeeded > 0 && active == 0,
    }
}

fn delete_pods(cluster: &mut Cluster, key: &Key, pods: &Pods, now: Timestamp) -> usize {
    for (pod, _) in &pods.active {
        events::record(
            cluster,
            key,
            Component::JobController,
            false,
            "SuccessfulDelete",
            &format!("Deleted pod: {}", pod.name),
            now,
        );
        gc::delete(cluster, pod, Propagation::Background, None, now);
    }
    pods.active.len()
}

fn create_pods(
    cluster: &mut Cluster,
    key: &Key,
    job: &Value,
    status: &Value,
    pods: &Pods,
    now: Timestamp,
) -> usize {
    let parallelism = job["spec"]["parallelism"].as_u64().unwrap_or(1);
    let wanted = match job["spec"]["completions"].as_u64() {
        Some(completions) => {
            parallelism.min(completions.saturating_sub(status["succeeded"].as_u64().unwrap_or(0)))
        }
        None if status["succeeded"].as_u64().unwrap_or(0) > 0 => 0,
        None => parallelism,
    } as usize;
    if wanted <= pods.active.len() {
        return 0;
    }
    let failures = status["failed"].as_i64().unwrap_or(0);
    if let Some(last) = pods.last_failure.filter(|_| failures > 0) {
        let pause = (BACKOFF_SECONDS << (failures - 1).min(10)).min(MAX_BACKOFF_SECONDS);
        let again = last
            .checked_add(SignedDuration::from_secs(pause))
            .unwrap_or(last);
        if again > now {
            cluster.wake_at(again, key);
            return 0;
        }
    }
    let missing = wanted - pods.active.len();
    for _ in 0..missing {
        create_pod(cluster, key, job, now);
    }
    missing
}

/// Longest part of a Job's name that a pod's name keeps: 63 less the dash and the suffix.
const MAX_NAME_BASE: usize = 57;

fn create_pod(cluster: &mut Cluster, key: &Key, job: &Value, now: Timestamp) {
    let base: String = format!("{}-", key.name)
        .chars()
        .take(MAX_NAME_BASE + 1)
        .collect();
    let name = loop {
        let name = format!("{base}{}", cluster.ids.suffix());
        if cluster
            .storage
            .get(&Key::new(Resource::Pod, &key.namespace, &name))
            .is_none()
        {
            break name;
        }
    };
    let template = &job["spec"]["template"];
    let mut metadata = json!({
        "name": name, "generateName": format!("{}-", key.name), "namespace": key.namespace, "uid": cluster.ids.uuid(),
        "creationTimestamp": clock::seconds(now), "generation": 1, "finalizers": [TRACKING],
        "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "Job", "name": key.name, "uid": object::uid(job),
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata[field] = template["metadata"][field].clone();
        }
    }
    let pod = json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": template["spec"],
        "status": {"phase": "Pending", "qosClass": crate::pod_spec::qos_class(&template["spec"])},
    });
    cluster
        .storage
        .put(&Key::new(Resource::Pod, &key.namespace, &name), pod);
    let message = format!("Created pod: {name}");
    events::record(
        cluster,
        key,
        Component::JobController,
        false,
        "SuccessfulCreate",
        &message,
        now,
    );
}

/// Deletes a finished Job once its `ttlSecondsAfterFinished` is over; in the foreground, as the real controller does.
fn expire(cluster: &mut Cluster, key: &Key, job: &Value, now: Timestamp) {
    let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"]
        .as_i64()
        .filter(|_| !object::deleting(job))
    else {
        return;
    };
    let finished = object::items(&job["status"]["conditions"])
        .filter(|c| (c["type"] == "Complete" || c["type"] == "Failed") && c["status"] == "True")
        .find_map(|c| object::time(&c["lastTransitionTime"]));
    let Some(finished) = finished else { return };
    let expires = crate::watch::seconds_after(finished, ttl);
    if expires > now {
        cluster.wake_at(expires, key);
    } else {
        gc::delete(cluster, key, Propagation::Foreground, None, now);
    }
}
