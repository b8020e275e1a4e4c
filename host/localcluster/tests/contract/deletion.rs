//! Deleting: propagation, preconditions, grace, owners.

use serde_json::json;

use crate::api;
use crate::common::{condition, job, name, pod_spec, unique, wait};

fn running(job_name: &str, script: &str) -> String {
    api().create("jobs", &job(job_name, script));
    name(&api().wait_pod(job_name, "running", |pod| {
        !pod["status"]["containerStatuses"][0]["state"]["running"].is_null()
    }))
}

#[test]
fn background_takes_the_pods_along() {
    let job_name = unique("background");
    let pod = running(&job_name, "sleep 60");
    let body = json!({"propagationPolicy": "Background"});
    let (status, answer) = api().call("DELETE", &api().path("jobs", &job_name), Some(&body));
    assert_eq!(
        (status, &answer["kind"], &answer["status"]),
        (200, &json!("Status"), &json!("Success")),
        "{answer}"
    );
    assert_eq!(
        (&answer["details"]["name"], &answer["details"]["kind"]),
        (&json!(job_name), &json!("jobs"))
    );
    api().wait_gone("jobs", &job_name);
    api().wait_gone("pods", &pod);
}

#[test]
fn foreground_waits_for_the_pods() {
    let job_name = unique("foreground");
    let pod = running(&job_name, "trap '' TERM; while true; do sleep 0.1; done");
    let (status, answer) = api().call(
        "DELETE",
        &format!(
            "{}?propagationPolicy=Foreground",
            api().path("jobs", &job_name)
        ),
        None,
    );
    assert_eq!((status, &answer["kind"]), (200, &json!("Job")));
    assert!(answer["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        answer["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    assert!(api().get("jobs", &job_name).is_some() || api().get("pods", &pod).is_none());
    api().wait_gone("jobs", &job_name);
    assert!(api().get("pods", &pod).is_none());
}

#[test]
fn without_a_word_the_pods_stay() {
    let job_name = unique("orphan");
    api().create("jobs", &job(&job_name, "true"));
    api().wait_condition(&job_name, "Complete");
    let pod = name(&api().pods(&job_name)[0]);
    let (status, _) = api().call("DELETE", &api().path("jobs", &job_name), None);
    assert_eq!(status, 200);
    api().wait_gone("jobs", &job_name);
    let left = wait("released", || {
        let pod = api().get("pods", &pod).ok_or("gone")?;
        if pod["metadata"]["ownerReferences"].is_null() {
            Ok(pod)
        } else {
            Err("still owned")
        }
    });
    assert_eq!(name(&left), pod);
    api().delete("pods", &pod);
    api().wait_gone("pods", &pod);
}

#[test]
fn a_precondition_on_the_uid() {
    let map = unique("precondition");
    let created = api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"a": "b"}}),
    );
    let path = api().path("configmaps", &map);
    let (status, answer) = api().call(
        "DELETE",
        &path,
        Some(&json!({"preconditions": {"uid": "11111111-2222-4333-8444-555555555555"}})),
    );
    assert_eq!((status, &answer["reason"]), (409, &json!("Conflict")));
    let uid = created["metadata"]["uid"].as_str().expect("uid");
    let expected = format!(
        "Operation cannot be fulfilled on ConfigMap \"{map}\": the UID in the precondition (11111111-2222-4333-8444-555555555555) does \
         not match the UID in record ({uid}). The object might have been deleted and then recreated"
    );
    assert_eq!(answer["message"], expected);
    let (status, _) = api().call(
        "DELETE",
        &path,
        Some(&json!({"preconditions": {"uid": uid}})),
    );
    assert_eq!(status, 200);
    assert!(api().get("configmaps", &map).is_none());
    let (status, answer) = api().call("DELETE", &path, None);
    assert_eq!((status, &answer["reason"]), (404, &json!("NotFound")));
}

#[test]
fn dependents_follow_their_owner() {
    let job_name = unique("owner");
    let created = api().create("jobs", &job(&job_name, "true"));
    let map = unique("owned");
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "uid": created["metadata"]["uid"]}]);
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map, "ownerReferences": owner}, "data": {}}),
    );
    api().wait_condition(&job_name, "Complete");
    assert!(api().get("configmaps", &map).is_some());
    api().delete("jobs", &job_name);
    api().wait_gone("configmaps", &map);
}

#[test]
fn a_deleted_pod_fails_its_job() {
    let job_name = unique("poddeleted");
    let pod = running(
        &job_name,
        "trap 'echo bye; exit 0' TERM; while true; do sleep 0.1; done",
    );
    let (status, answer) = api().call("DELETE", &api().path("pods", &pod), None);
    assert_eq!((status, &answer["kind"]), (200, &json!("Pod")));
    assert_eq!(answer["metadata"]["deletionGracePeriodSeconds"], 2);
    let done = api().wait_condition(&job_name, "Failed");
    assert_eq!(
        condition(&done, "Failed").expect("it")["reason"],
        "BackoffLimitExceeded"
    );
    api().wait_gone("pods", &pod);
    api().delete("jobs", &job_name);
}

#[test]
fn a_shorter_grace_leaves_the_time_at_which_a_deletion_was_asked_for() {
    let job_name = unique("shortened");
    let pod = running(&job_name, "trap '' TERM; while true; do sleep 0.1; done");
    let delete = |grace: i64| {
        let target = format!("{}?gracePeriodSeconds={grace}", api().path("pods", &pod));
        let (status, pod) = api().call("DELETE", &target, None);
        assert_eq!(status, 200, "{pod}");
        let metadata = &pod["metadata"];
        assert_eq!(metadata["deletionGracePeriodSeconds"], grace, "{pod}");
        let by = metadata["deletionTimestamp"].as_str().expect("a time");
        by.parse::<jiff::Timestamp>().expect("a time") - jiff::SignedDuration::from_secs(grace)
    };
    let asked = delete(20);
    // Another second, so that a time counted from now would differ.
    wait("the next second", || {
        let now = jiff::Timestamp::now();
        let past = now.duration_since(asked) > jiff::SignedDuration::from_secs(2);
        past.then_some(()).ok_or(now)
    });
    assert_eq!(delete(3), asked);
    api().wait_gone("pods", &pod);
    api().delete("jobs", &job_name);
}

#[test]
fn a_pod_of_its_own_is_killed_after_its_grace() {
    let pod_name = unique("grace");
    let mut spec = pod_spec(&mut job(
        "x",
        "trap '' TERM; echo ready; while true; do sleep 0.1; done",
    ))
    .clone();
    spec["terminationGracePeriodSeconds"] = json!(1);
    api().create(
        "pods",
        &json!({"metadata": {"name": pod_name}, "spec": spec}),
    );
    wait("ready", || {
        let pod = api().get("pods", &pod_name).ok_or("gone")?;
        if pod["status"]["phase"] == "Running" {
            Ok(())
        } else {
            Err(pod["status"].to_string())
        }
    });
    let begin = std::time::Instant::now();
    api().call("DELETE", &api().path("pods", &pod_name), None);
    api().wait_gone("pods", &pod_name);
    assert!(begin.elapsed().as_millis() >= 900, "{:?}", begin.elapsed());
}
