//! The life of Jobs and their pods.

use serde_json::json;

use crate::api;
use crate::common::{condition, container, job, name, pod_spec, terminated, unique, wait, waiting};

#[test]
fn a_job_that_succeeds() {
    let job_name = unique("ok");
    let created = api().create("jobs", &job(&job_name, "echo Hello; exit 0"));
    assert!(
        created["metadata"]["uid"].is_string()
            && created["metadata"]["resourceVersion"].is_string()
    );
    assert_eq!(created["spec"]["completionMode"], "NonIndexed");
    let ended = api().wait_ended(&job_name);
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(0), &json!("Completed"))
    );
    assert!(
        ended["startedAt"].is_string()
            && ended["finishedAt"].is_string()
            && ended["containerID"].is_string()
    );
    let pod = api().wait_pod(&job_name, "succeeded", |pod| {
        pod["status"]["phase"] == "Succeeded"
    });
    let labels = &pod["metadata"]["labels"];
    for label in ["batch.kubernetes.io/job-name", "job-name"] {
        assert_eq!(labels[label], job_name.as_str());
    }
    for label in ["batch.kubernetes.io/controller-uid", "controller-uid"] {
        assert_eq!(labels[label], created["metadata"]["uid"]);
    }
    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["uid"], &owner["controller"]),
        (&json!("Job"), &created["metadata"]["uid"], &json!(true))
    );
    let suffix = name(&pod)
        .strip_prefix(&format!("{job_name}-"))
        .expect("prefix")
        .to_owned();
    assert_eq!(suffix.len(), 5);
    assert_eq!(api().job_log(&job_name), b"Hello\n");
    let done = api().wait_condition(&job_name, "Complete");
    assert_eq!(
        condition(&done, "SuccessCriteriaMet").expect("first")["status"],
        "True"
    );
    assert_eq!(
        condition(&done, "Complete").expect("then")["reason"],
        "CompletionsReached"
    );
    assert_eq!(done["status"]["succeeded"], 1);
    assert!(done["status"]["active"].is_null() && done["status"]["failed"].is_null());
    assert!(
        done["status"]["startTime"].is_string() && done["status"]["completionTime"].is_string()
    );
    api().delete("jobs", &job_name);
}

#[test]
fn a_job_that_fails() {
    let job_name = unique("fail");
    api().create("jobs", &job(&job_name, "echo About to fail; exit 42"));
    let ended = api().wait_ended(&job_name);
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(42), &json!("Error"))
    );
    assert!(ended["signal"].is_null());
    let done = api().wait_condition(&job_name, "Failed");
    let failed = condition(&done, "Failed").expect("condition");
    assert_eq!(failed["reason"], "BackoffLimitExceeded");
    assert_eq!(
        failed["message"],
        "Job has reached the specified backoff limit"
    );
    assert_eq!(
        condition(&done, "FailureTarget").expect("first")["reason"],
        "BackoffLimitExceeded"
    );
    assert_eq!(done["status"]["failed"], 1);
    assert_eq!(api().job_log(&job_name), b"About to fail\n");
    api().delete("jobs", &job_name);
}

/// Runs a script and checks its exit code.
fn check_exit(script: &str, code: i32) {
    let job_name = unique("exit");
    api().create("jobs", &job(&job_name, script));
    let ended = api().wait_ended(&job_name);
    assert_eq!(ended["exitCode"], code, "{script}: {ended}");
    assert_eq!(
        ended["reason"],
        if code == 0 { "Completed" } else { "Error" },
        "{script}"
    );
    assert!(ended["signal"].is_null(), "{script}");
    api().delete("jobs", &job_name);
}

#[test]
fn exit_codes_and_signals() {
    for (script, code) in [
        ("exit 1", 1),
        ("exit 127", 127),
        ("exit 255", 255),
        ("non_existing_command", 127),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
        ("sh -c 'kill -9 $$'; exit $?", 137),
        ("exec sh -c 'kill -USR1 $$'", 138),
        ("[ $$ -ne 1 ]", 0),
    ] {
        check_exit(script, code);
    }
}

#[test]
fn a_program_that_does_not_exist() {
    let job_name = unique("missing");
    let mut object = job(&job_name, "");
    container(&mut object)["command"] = json!(["no-such-program"]);
    api().create("jobs", &object);
    let pod = api().wait_pod(&job_name, "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    let ended = terminated(&pod);
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(128), &json!("StartError")),
        "{ended}"
    );
    let message = ended["message"].as_str().expect("message");
    assert!(
        message.contains("exec: \"no-such-program\": executable file not found in $PATH"),
        "{message}"
    );
    api().wait_condition(&job_name, "Failed");
    api().delete("jobs", &job_name);
}

#[test]
fn suspend_and_resume() {
    let job_name = unique("suspended");
    let mut object = job(&job_name, "echo resumed");
    object["spec"]["suspend"] = json!(true);
    api().create("jobs", &object);
    let suspended = api().wait_condition(&job_name, "Suspended");
    assert!(suspended["status"]["startTime"].is_null());
    assert!(api().pods(&job_name).is_empty());
    let (status, patched) = api().call(
        "PATCH",
        &api().path("jobs", &job_name),
        Some(&json!({"spec": {"suspend": false}})),
    );
    assert_eq!((status, &patched["spec"]["suspend"]), (200, &json!(false)));
    let done = api().wait_condition(&job_name, "Complete");
    assert_eq!(
        condition(&done, "Suspended").expect("condition")["status"],
        "False"
    );
    assert_eq!(
        condition(&done, "Suspended").expect("condition")["reason"],
        "JobResumed"
    );
    api().delete("jobs", &job_name);
}

#[test]
fn a_halted_job_ends_its_pod_and_keeps_its_name() {
    let job_name = unique("halted");
    let object = job(&job_name, "echo begun; sleep 600");
    api().create("jobs", &object);
    api().wait_pod(&job_name, "running", |pod| {
        pod["status"]["phase"] == "Running"
    });
    let path = api().path("jobs", &job_name);
    let halt = |version: &str| {
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "spec": {"suspend": true, "parallelism": 0},
        });
        api().call("PATCH", &path, Some(&patch)).0
    };
    // Its controller may be writing.
    let version = wait("halted", || {
        let job = api().get("jobs", &job_name).ok_or("gone")?;
        let version = job["metadata"]["resourceVersion"].as_str();
        let version = version.ok_or("no version")?.to_owned();
        match halt(&version) {
            200 => Ok(version),
            status => Err(status.to_string()),
        }
    });
    let halted = api().wait_condition(&job_name, "Suspended");
    let status = &halted["status"];
    assert!(
        status["active"].is_null() && status["failed"].is_null(),
        "{halted}"
    );
    wait("no pod", || match api().pods(&job_name) {
        pods if pods.is_empty() => Ok(()),
        pods => Err(json!(pods).to_string()),
    });
    let (status, _) = api().call("POST", &api().path("jobs", ""), Some(&object));
    assert_eq!(status, 409, "its name is taken");
    // Somebody's late wish to let it go on starts nothing.
    let resume = json!({"spec": {"suspend": false}});
    assert_eq!(api().call("PATCH", &path, Some(&resume)).0, 200);
    wait("resumed", || {
        let job = api().get("jobs", &job_name).ok_or("gone")?;
        match condition(&job, "Suspended") {
            Some(suspended) if suspended["status"] == "False" => Ok(()),
            _ => Err(job.to_string()),
        }
    });
    assert!(api().pods(&job_name).is_empty());
    assert_eq!(halt(&version), 409, "it has changed since");
    api().delete("jobs", &job_name);
}

#[test]
fn a_pod_deadline() {
    let job_name = unique("deadline");
    let mut object = job(&job_name, "echo before; sleep 60");
    pod_spec(&mut object)["activeDeadlineSeconds"] = json!(2);
    api().create("jobs", &object);
    let pod = api().wait_pod(&job_name, "failed", |pod| {
        pod["status"]["phase"] == "Failed"
    });
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    assert_eq!(
        pod["status"]["message"],
        "Pod was active on the node longer than the specified deadline"
    );
    let ended = terminated(&pod);
    assert!(
        ended["exitCode"] == 143 || ended["exitCode"] == 137,
        "{ended}"
    );
    assert_eq!(api().job_log(&job_name), b"before\n");
    assert_eq!(
        condition(&api().wait_condition(&job_name, "Failed"), "Failed").expect("it")["reason"],
        "BackoffLimitExceeded"
    );
    api().delete("jobs", &job_name);
}

#[test]
fn a_job_deadline() {
    let job_name = unique("jobdeadline");
    let mut object = job(&job_name, "sleep 60");
    object["spec"]["activeDeadlineSeconds"] = json!(2);
    api().create("jobs", &object);
    let done = api().wait_condition(&job_name, "Failed");
    let failed = condition(&done, "Failed").expect("condition");
    assert_eq!(failed["reason"], "DeadlineExceeded");
    assert_eq!(
        failed["message"],
        "Job was active longer than specified deadline"
    );
    // The Job's deadline deletes its pods, and their logs with them.
    wait("pods gone", || {
        if api().pods(&job_name).is_empty() {
            Ok(())
        } else {
            Err("there are pods")
        }
    });
    api().delete("jobs", &job_name);
}

#[test]
fn time_to_live() {
    let job_name = unique("ttl");
    let mut object = job(&job_name, "true");
    object["spec"]["ttlSecondsAfterFinished"] = json!(0);
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api().create("jobs", &object);
    let held = wait("deletion", || {
        let job = api()
            .get("jobs", &job_name)
            .ok_or("gone in spite of the finalizer")?;
        if job["metadata"]["deletionTimestamp"].is_string() {
            Ok(job)
        } else {
            Err("not yet deleted")
        }
    });
    assert!(
        held["metadata"]["finalizers"]
            .to_string()
            .contains("example.com/hold")
    );
    wait("pods gone", || {
        if api().pods(&job_name).is_empty() {
            Ok(())
        } else {
            Err("there are pods")
        }
    });
    let (status, _) = api().call(
        "PATCH",
        &api().path("jobs", &job_name),
        Some(&json!({"metadata": {"finalizers": null}})),
    );
    assert_eq!(status, 200);
    api().wait_gone("jobs", &job_name);
}

#[test]
fn what_keeps_a_pod_from_starting() {
    let cases = [
        ("Busybox:!", "InvalidImageName"),
        ("registry.invalid/does-not-exist:1", "ErrImagePull"),
    ];
    for (image, reason) in cases {
        let job_name = unique("image");
        let mut object = job(&job_name, "true");
        container(&mut object)["image"] = json!(image);
        api().create("jobs", &object);
        let pod = api().wait_pod(&job_name, reason, |pod| {
            waiting(pod) == reason || waiting(pod) == "ImagePullBackOff"
        });
        assert_eq!(pod["status"]["phase"], "Pending");
        if reason == "ErrImagePull" {
            api().wait_pod(&job_name, "back-off", |pod| {
                waiting(pod) == "ImagePullBackOff"
            });
        }
        api().delete("jobs", &job_name);
    }
    let job_name = unique("unschedulable");
    let mut object = job(&job_name, "true");
    pod_spec(&mut object)["nodeSelector"] = json!({"example.com/nowhere": "true"});
    api().create("jobs", &object);
    let pod = api().wait_pod(&job_name, "unschedulable", |pod| {
        condition(pod, "PodScheduled").is_some()
    });
    let scheduled = condition(&pod, "PodScheduled").expect("condition");
    assert_eq!(
        (&scheduled["status"], &scheduled["reason"]),
        (&json!("False"), &json!("Unschedulable"))
    );
    assert!(
        scheduled["message"]
            .as_str()
            .expect("message")
            .starts_with("0/1 nodes are available: 1 node(s) didn't match")
    );
    api().delete("jobs", &job_name);
}

#[test]
fn last_words() {
    let job_name = unique("words");
    api().create(
        "jobs",
        &job(
            &job_name,
            "printf 'my last words' > /dev/termination-log; exit 3",
        ),
    );
    assert_eq!(api().wait_ended(&job_name)["message"], "my last words");
    api().delete("jobs", &job_name);
    let job_name = unique("words");
    let mut object = job(&job_name, "echo one; echo two; exit 3");
    container(&mut object)["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    api().create("jobs", &object);
    assert_eq!(api().wait_ended(&job_name)["message"], "one\ntwo\n");
    api().delete("jobs", &job_name);
}

#[test]
fn whoever_made_a_job_can_tell_of_it() {
    let job_name = unique("told");
    let created = api().create("jobs", &job(&job_name, "true"));
    let uid = created["metadata"]["uid"].as_str().expect("uid");
    let namespace = created["metadata"]["namespace"]
        .as_str()
        .expect("namespace");
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": format!("{job_name}.2.0"), "namespace": namespace},
        "involvedObject": {"apiVersion": "batch/v1", "kind": "Job", "namespace": namespace, "name": job_name, "uid": uid},
        "type": "Warning", "reason": "TimedOut", "message": "it has run for too long", "count": 1,
        "firstTimestamp": "2026-01-31T12:00:00Z", "lastTimestamp": "2026-01-31T12:00:00Z",
        "source": {"component": "executor"}, "reportingComponent": "executor", "reportingInstance": "",
    });
    api().create("events", &event);
    // The same once more is the same.
    let (status, refused) = api().call("POST", &api().path("events", ""), Some(&event));
    assert_eq!((status, &refused["reason"]), (409, &json!("AlreadyExists")));
    let events = api().list("events", &format!("fieldSelector=involvedObject.uid={uid}"));
    let told: Vec<_> = events
        .iter()
        .filter(|event| event["source"]["component"] == "executor")
        .map(|event| event["message"].clone())
        .collect();
    assert_eq!(told, ["it has run for too long"]);
    api().delete("jobs", &job_name);
}

#[test]
fn events_tell_the_story() {
    let job_name = unique("events");
    let created = api().create("jobs", &job(&job_name, "true"));
    api().wait_condition(&job_name, "Complete");
    let uid = created["metadata"]["uid"].as_str().expect("uid");
    wait("the Job's events", || {
        let events = api().list("events", &format!("fieldSelector=involvedObject.uid={uid}"));
        let reasons: Vec<_> = events
            .iter()
            .map(|e| e["reason"].as_str().unwrap_or_default())
            .collect();
        if ["SuccessfulCreate", "Completed"]
            .iter()
            .all(|r| reasons.contains(r))
        {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        }
    });
    let pod = name(&api().pods(&job_name)[0]);
    wait("the pod's events", || {
        let events = api().list(
            "events",
            &format!("fieldSelector=involvedObject.name={pod}"),
        );
        let reasons: Vec<_> = events
            .iter()
            .map(|e| e["reason"].as_str().unwrap_or_default())
            .collect();
        if ["Scheduled", "Pulled", "Created", "Started"]
            .iter()
            .all(|r| reasons.contains(r))
        {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        }
    });
    api().delete("jobs", &job_name);
}
