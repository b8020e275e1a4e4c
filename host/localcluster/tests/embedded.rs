//! What only the embedded server has to do: tokens, forgotten history, restarts, clean ends, load.

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Api, Server, condition, container, job, name, pod_spec, signal, terminated, unique, wait,
};
use serde_json::json;

/// A server with a state folder of its own.
fn with_state(folder: &Path) -> Api {
    Api::embedded(Server::start(&[
        "--state-dir",
        folder.to_str().expect("text"),
    ]))
}

/// The processes whose command line names this text.
fn processes(text: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let lines = all.filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(format!(
            "{}: {}",
            entry.file_name().to_string_lossy(),
            String::from_utf8_lossy(&line).replace('\0', " ")
        ))
    });
    lines.filter(|line| line.contains(text)).collect()
}

fn wait_no_processes(text: &str) {
    wait(&format!("no process of {text}"), || {
        let left = processes(text);
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    });
}

#[test]
fn a_token_is_asked_for() {
    let server = Server::start(&["--runner", "simulated", "--token", "secret"]);
    let api = Api::embedded(server);
    let (status, answer) = api.call("GET", &api.path("pods", ""), None);
    assert_eq!(
        (status, &answer["reason"], &answer["message"]),
        (401, &json!("Unauthorized"), &json!("Unauthorized"))
    );
    let api = api.with_token("secret");
    assert_eq!(api.call("GET", &api.path("pods", ""), None).0, 200);
    let api = api.with_token("secret2");
    assert_eq!(api.call("GET", &api.path("pods", ""), None).0, 401);
}

#[test]
fn forgotten_history_is_410() {
    let api = Api::embedded(Server::start(&["--runner", "simulated"]));
    for index in 0..3 {
        api.create(
            "configmaps",
            &json!({"metadata": {"name": format!("m{index}")}}),
        );
    }
    let (_, first) = api.call(
        "GET",
        &format!("{}?limit=1", api.path("configmaps", "")),
        None,
    );
    let token = first["metadata"]["continue"].as_str().expect("more");
    let version = first["metadata"]["resourceVersion"]
        .as_str()
        .expect("version");
    api.create("configmaps", &json!({"metadata": {"name": "m3"}}));
    assert_eq!(api.call("POST", "/localcluster/compact", None).0, 200);
    let (status, answer) = api.call(
        "GET",
        &format!("{}?limit=1&continue={token}", api.path("configmaps", "")),
        None,
    );
    assert_eq!((status, &answer["reason"]), (410, &json!("Expired")));
    let again = answer["metadata"]["continue"].as_str().expect("a way on");
    let (status, page) = api.call(
        "GET",
        &format!("{}?continue={again}", api.path("configmaps", "")),
        None,
    );
    assert_eq!(
        (status, page["items"].as_array().expect("items").len()),
        (200, 3)
    );
    let mut watch = api.watch("configmaps", &format!("resourceVersion={version}"));
    let event = watch.next().expect("event");
    assert_eq!(
        (
            &event["type"],
            &event["object"]["code"],
            &event["object"]["reason"]
        ),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(watch.next().is_none());
}

#[test]
fn pods_survive_a_killed_server() {
    let folder = tempfile::tempdir().expect("folder");
    // Not in /tmp: pods have one of their own.
    let ledger = tempfile::Builder::new()
        .tempfile_in("/var/tmp")
        .expect("ledger");
    let mut api = with_state(folder.path());
    let note = |text: &str| format!("echo {text} >> {}", ledger.path().display());
    let long = job(
        "long",
        &format!("{}; echo begin; sleep 2; echo end; exit 5", note("long")),
    );
    let short = job(
        "short",
        &format!("{}; echo short; sleep 0.7; exit 6", note("short")),
    );
    let forever = job("forever", &format!("{}; sleep 1000", note("forever")));
    for object in [&long, &short, &forever] {
        api.create("jobs", object);
    }
    for job in ["long", "short", "forever"] {
        api.wait_pod(job, "running", |pod| pod["status"]["phase"] == "Running");
    }
    let version = api.list("pods", "").len();
    assert_eq!(version, 3);
    let (_, before) = api.call("GET", &api.path("pods", ""), None);
    api.server().child.kill().expect("kill -9");
    api.server().child.wait().expect("wait");
    wait("short ends while nobody looks", || {
        let status = fs::read_dir(folder.path().join("status"))
            .expect("status")
            .flatten();
        let ended = status
            .filter(|e| e.file_name().to_string_lossy().ends_with(".ended"))
            .count();
        if ended > 0 { Ok(()) } else { Err("not yet") }
    });
    let api = with_state(folder.path());
    let (_, after) = api.call("GET", &api.path("pods", ""), None);
    let number = |list: &serde_json::Value| {
        list["metadata"]["resourceVersion"]
            .as_str()
            .expect("version")
            .parse::<u64>()
            .expect("number")
    };
    assert!(number(&after) > number(&before));
    assert_eq!(api.wait_ended("short")["exitCode"], 6);
    assert_eq!(api.wait_ended("long")["exitCode"], 5);
    assert_eq!(api.job_log("long"), b"begin\nend\n");
    assert_eq!(api.job_log("short"), b"short\n");
    api.wait_condition("long", "Failed");
    api.delete("jobs", "forever");
    wait("forever gone", || {
        if api.pods("forever").is_empty() {
            Ok(())
        } else {
            Err("there")
        }
    });
    let mut lines: Vec<String> = fs::read_to_string(ledger.path())
        .expect("ledger")
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    assert_eq!(lines, ["forever", "long", "short"], "each started once");
}

#[test]
fn everything_a_script_started_ends_with_it() {
    let folder = tempfile::tempdir().expect("folder");
    let api = with_state(folder.path());
    let mark = unique("7777");
    // In the group, out of the group, out of the session, and twice forked.
    let script = format!(
        "sleep 1000 {mark} & setsid sh -c 'sleep 1000; : {mark}' & (setsid sh -c 'trap \"\" TERM HUP; sleep 1000; : {mark}' &) ; \
         nohup sh -c 'while true; do sleep 1; done; : {mark}' >/dev/null 2>&1 & sleep 0.3; echo done; exit 3"
    )
    .replace(&format!("sleep 1000 {mark}"), &format!("sh -c 'sleep 1000; : {mark}'"));
    let job_name = unique("children");
    api.create("jobs", &job(&job_name, &script));
    assert_eq!(api.wait_ended(&job_name)["exitCode"], 3);
    wait_no_processes(&mark);
    assert_eq!(api.job_log(&job_name), b"done\n");
}

#[test]
fn nothing_is_left_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder
        .path()
        .canonicalize()
        .expect("path")
        .display()
        .to_string();
    let mut api = with_state(folder.path());
    let running = unique("running");
    api.create(
        "jobs",
        &job(&running, "trap '' TERM; while true; do sleep 0.2; done"),
    );
    api.wait_pod(&running, "running", |pod| {
        pod["status"]["phase"] == "Running"
    });
    for index in 0..5 {
        let job_name = format!("{running}-{index}");
        api.create("jobs", &job(&job_name, "true"));
        api.wait_condition(&job_name, "Complete");
        api.delete("jobs", &job_name);
        api.wait_gone("jobs", &job_name);
    }
    wait("folders of deleted pods", || {
        let count = fs::read_dir(folder.path().join("pods"))
            .expect("pods")
            .count();
        if count == 1 {
            Ok(())
        } else {
            Err(format!("{count} folders"))
        }
    });
    let begin = Instant::now();
    assert!(api.server().terminate(), "a clean end");
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    wait_no_processes(&path);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounts.contains(&path), "{mounts}");
    // The pod that was running is told apart after the next start.
    let api = with_state(folder.path());
    let pod = api.wait_pod(&running, "ended", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["reason"], "Terminated");
    assert_eq!(
        pod["status"]["message"],
        "Pod was terminated in response to imminent node shutdown."
    );
    assert_eq!(terminated(&pod)["exitCode"], 137);
}

#[test]
fn a_killed_supervisor_is_noticed() {
    let folder = tempfile::tempdir().expect("folder");
    let api = with_state(folder.path());
    let job_name = unique("supervisor");
    let pod = {
        api.create("jobs", &job(&job_name, "sleep 1000"));
        api.wait_pod(&job_name, "running", |pod| {
            pod["status"]["phase"] == "Running"
        })
    };
    let uid = pod["metadata"]["uid"].as_str().expect("uid");
    let claim = fs::read_to_string(folder.path().join("pods").join(uid).join("main/claimed"))
        .expect("claim");
    signal(
        claim
            .split(' ')
            .next()
            .expect("pid")
            .parse()
            .expect("number"),
        "KILL",
    );
    let ended = api.wait_ended(&job_name);
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(137), &json!("ContainerStatusUnknown"))
    );
    wait_no_processes(uid);
}

#[test]
fn much_output() {
    let api = Api::embedded(Server::start(&[]));
    let job_name = unique("much");
    api.create(
        "jobs",
        &job(
            &job_name,
            "head -c 62914560 /dev/zero | tr '\\0' 'y' | fold -w 99; echo end",
        ),
    );
    assert_eq!(api.wait_ended(&job_name)["exitCode"], 0);
    let log = api.job_log(&job_name);
    assert_eq!(log.len(), 62_914_560 + 62_914_560 / 99 + "end\n".len());
    assert!(
        log.ends_with(b"yend\n"),
        "{:?}",
        String::from_utf8_lossy(&log[log.len() - 20..])
    );
    let pod = name(&api.pods(&job_name)[0]);
    let last = format!("{}end\n", "y".repeat(62_914_560 % 99));
    assert_eq!(String::from_utf8_lossy(&api.log(&pod, "tailLines=1")), last);
}

#[test]
fn simulated_pods() {
    let api = Api::embedded(Server::start(&["--runner", "simulated"]));
    let mut object = job("sim", "");
    object["spec"]["template"]["metadata"] = json!({"annotations": {"localcluster/simulate": r#"{"startMs":20,"runMs":30,"exitCode":9,"log":"said\n"}"#}});
    api.create("jobs", &object);
    assert_eq!(api.wait_ended("sim")["exitCode"], 9);
    assert_eq!(api.job_log("sim"), b"said\n");
    let failed = api.wait_condition("sim", "Failed");
    assert_eq!(
        condition(&failed, "Failed").expect("it")["reason"],
        "BackoffLimitExceeded"
    );
}

#[test]
fn five_hundred_jobs_from_sixteen_callers() {
    let folder = tempfile::tempdir().expect("folder");
    let api = with_state(folder.path());
    let each = 32;
    std::thread::scope(|scope| {
        for caller in 0..16 {
            let api = &api;
            scope.spawn(move || {
                for index in 0..each {
                    api.create(
                        "jobs",
                        &job(
                            &format!("many-{caller}-{index}"),
                            &format!("exit {}", index % 3),
                        ),
                    );
                }
            });
        }
    });
    wait("all finished", || {
        let jobs = api.list("jobs", "");
        let finished = |kind: &str| jobs.iter().filter(|j| condition(j, kind).is_some()).count();
        let (complete, failed) = (finished("Complete"), finished("Failed"));
        if complete + failed == 16 * each {
            Ok(())
        } else {
            Err(format!("{complete} complete, {failed} failed"))
        }
    });
    for pod in api.list("pods", "") {
        let index: usize = pod["metadata"]["labels"]["job-name"]
            .as_str()
            .expect("label")
            .rsplit('-')
            .next()
            .expect("index")
            .parse()
            .expect("n");
        assert_eq!(terminated(&pod)["exitCode"], index % 3, "{pod}");
    }
    assert_eq!(api.list("pods", "").len(), 16 * each);
}

#[test]
fn a_deadline_holds_without_a_server() {
    let folder = tempfile::tempdir().expect("folder");
    let mut api = with_state(folder.path());
    let mut object = job("late", "sleep 1000");
    pod_spec(&mut object)["activeDeadlineSeconds"] = json!(2);
    container(&mut object)["name"] = json!("other");
    api.create("jobs", &object);
    api.wait_pod("late", "running", |pod| pod["status"]["phase"] == "Running");
    api.server().child.kill().expect("kill -9");
    api.server().child.wait().expect("wait");
    wait_no_processes(
        &folder
            .path()
            .canonicalize()
            .expect("path")
            .display()
            .to_string(),
    );
    let api = with_state(folder.path());
    let pod = api.wait_pod("late", "failed", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
}

#[test]
fn signals_that_the_server_ignores_end_scripts_all_the_same() {
    // CHLD too: who ignores it is never told that a child ended.
    let server = Server::start_ignoring("HUP INT QUIT USR1 CHLD", &[]);
    let api = Api::embedded(server);
    for (signal, code) in [("HUP", 129), ("INT", 130), ("QUIT", 131), ("USR1", 138)] {
        let name = signal.to_lowercase();
        api.create(
            "jobs",
            &job(&name, &format!("sh -c 'kill -{signal} $$; sleep 1000'")),
        );
        let ended = api.wait_ended(&name);
        assert_eq!(ended["exitCode"], code, "{signal}: {ended}");
    }
}

/// Runs a mounted script under one isolation; answers its log.
fn run_isolated(isolation: &str) -> String {
    let folder = tempfile::tempdir().expect("folder");
    let state = folder.path().to_str().expect("text");
    let api = Api::embedded(Server::start(&[
        "--state-dir",
        state,
        "--isolation",
        isolation,
    ]));
    let mark = unique("8888");
    let script = format!(
        "#!/bin/sh\necho made > made; cat made; cat /executor/script | head -n 1; \
         (setsid sh -c 'sleep 1000; : {mark}' &); ls; echo $#; exit 3\n"
    );
    api.create(
        "configmaps",
        &json!({"metadata": {"name": "s"}, "data": {"script": script}}),
    );
    let mut object = job("isolated", "");
    pod_spec(&mut object)["volumes"] = json!([
        {"name": "s", "configMap": {"name": "s", "defaultMode": 0o555}}, {"name": "w", "emptyDir": {}},
    ]);
    let main = container(&mut object);
    main["volumeMounts"] =
        json!([{"name": "s", "mountPath": "/executor"}, {"name": "w", "mountPath": "/workspace"}]);
    main["workingDir"] = json!("/workspace");
    main["command"] = json!(["/executor/script", "a"]);
    api.create("jobs", &object);
    let ended = api.wait_ended("isolated");
    let log = String::from_utf8_lossy(&api.job_log("isolated")).into_owned();
    assert_eq!(ended["exitCode"], 3, "{isolation}: {ended} {log}");
    wait_no_processes(&mark);
    log
}

#[test]
fn every_isolation_this_machine_allows() {
    // User namespaces may be forbidden; the two others always work for root.
    assert_eq!(run_isolated("namespaces"), "made\n#!/bin/sh\nmade\n1\n");
    // Paths inside a script are not rewritten, only those of the command.
    let log = run_isolated("rewrite");
    // Here processes are ended one by one: a shell may still tell that its child was killed.
    let said = log.strip_suffix("Killed\n").unwrap_or(&log);
    assert!(
        said.starts_with("made\n") && said.ends_with("made\n1\n"),
        "{log}"
    );
}
