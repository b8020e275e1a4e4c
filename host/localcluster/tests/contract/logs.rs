//! The log API.

use std::io::Read;

use serde_json::json;

use crate::api;
use crate::common::{Api, job, name, unique, wait};

/// Runs a script to its end; answers Job and pod.
fn run(script: &str) -> (String, String) {
    let job_name = unique("log");
    api().create("jobs", &job(&job_name, script));
    api().wait_ended(&job_name);
    let pod = name(&api().pods(&job_name)[0]);
    (job_name, pod)
}

#[test]
fn exact_bytes() {
    for (script, expected) in [
        ("true", b"".to_vec()),
        ("printf 'no newline'", b"no newline".to_vec()),
        ("printf 'a\\n\\nb\\n'", b"a\n\nb\n".to_vec()),
        (
            "printf '\\377\\376\\n\\000x\\n'",
            b"\xff\xfe\n\0x\n".to_vec(),
        ),
        ("printf 'caf\\303\\251\\n'", "café\n".as_bytes().to_vec()),
    ] {
        let (job_name, pod) = run(script);
        let log = wait(script, || {
            let log = api().log(&pod, "");
            if log == expected {
                Ok(log)
            } else {
                Err(String::from_utf8_lossy(&log).into_owned())
            }
        });
        assert_eq!(log, expected);
        api().delete("jobs", &job_name);
    }
}

#[test]
fn a_long_line_in_one_piece() {
    let (job_name, pod) = run("head -c 100000 /dev/zero | tr '\\0' x; echo; echo end");
    let log = api().log(&pod, "container=main");
    assert_eq!(log.len(), 100_005);
    assert!(log.ends_with(b"x\nend\n"));
    api().delete("jobs", &job_name);
}

#[test]
fn tail_limit_timestamps_since() {
    let (job_name, pod) = run("echo 1; echo 2; sleep 2; echo 3");
    let text = |query: &str| String::from_utf8(api().log(&pod, query)).expect("text");
    assert_eq!(text(""), "1\n2\n3\n");
    assert_eq!(text("tailLines=2"), "2\n3\n");
    assert_eq!(text("tailLines=0"), "");
    assert_eq!(text("limitBytes=3"), "1\n2");
    assert_eq!(text("tailLines=2&limitBytes=2"), "2\n");
    let stamped = text("timestamps=true");
    let lines: Vec<(&str, &str)> = stamped
        .lines()
        .map(|line| line.split_once(' ').expect("stamp"))
        .collect();
    assert_eq!(
        lines.iter().map(|(_, text)| *text).collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    assert!(
        lines
            .iter()
            .all(|(stamp, _)| stamp.len() == 30 && stamp.ends_with('Z')),
        "{stamped}"
    );
    assert!(lines.is_sorted());
    assert_eq!(text(&format!("sinceTime={}", lines[2].0)), "3\n");
    assert_eq!(text("sinceSeconds=3600"), "1\n2\n3\n");
    api().delete("jobs", &job_name);
}

#[test]
fn follow_streams_until_the_end() {
    let job_name = unique("follow");
    api().create("jobs", &job(&job_name, "echo one; while [ ! -e /tmp/never ]; do sleep 1; echo tick; [ $((n=n+1)) -ge 3 ] && break; done; printf last"));
    let pod = api().wait_pod(&job_name, "running", |pod| {
        let state = &pod["status"]["containerStatuses"][0]["state"];
        !state["running"].is_null() || !state["terminated"].is_null()
    });
    let response = api().send(
        "GET",
        &format!("{}/log?follow=true", api().path("pods", &name(&pod))),
        None,
        &[],
    );
    assert_eq!(response.status().as_u16(), 200);
    let mut reader = response.into_body().into_reader();
    let mut first = [0; 4];
    reader.read_exact(&mut first).expect("first line");
    assert_eq!(&first, b"one\n");
    let mut rest = String::new();
    reader.read_to_string(&mut rest).expect("rest");
    assert_eq!(rest, "tick\ntick\ntick\nlast");
    api().delete("jobs", &job_name);
}

#[test]
fn a_followed_log_has_the_last_words_of_a_job_that_is_deleted_in_the_foreground() {
    let job_name = unique("lastwords");
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.1; done";
    api().create("jobs", &job(&job_name, script));
    let pod = api().wait_pod(&job_name, "running", |pod| {
        !pod["status"]["containerStatuses"][0]["state"]["running"].is_null()
    });
    let pod = name(&pod);
    let target = format!("{}/log?follow=true", api().path("pods", &pod));
    let response = api().send("GET", &target, None, &[]);
    assert_eq!(response.status().as_u16(), 200);
    let mut reader = response.into_body().into_reader();
    let mut first = [0; 6];
    reader.read_exact(&mut first).expect("its first line");
    assert_eq!(&first, b"ready\n");
    let options = json!({"propagationPolicy": "Foreground"});
    let (status, _) = api().call("DELETE", &api().path("jobs", &job_name), Some(&options));
    assert_eq!(status, 200);
    let mut rest = String::new();
    reader
        .read_to_string(&mut rest)
        .expect("a log that ends well");
    assert_eq!(rest, "bye\n");
    api().wait_gone("jobs", &job_name);
    assert!(api().get("pods", &pod).is_none(), "the Job goes last");
}

#[test]
fn refusals() {
    let (job_name, pod) = run("true");
    let check = |api: &Api, query: &str, code: u16, message: &str| {
        let (status, answer) = api.call(
            "GET",
            &format!("{}/log?{query}", api.path("pods", &pod)),
            None,
        );
        assert_eq!(
            (status, answer["message"].as_str().unwrap_or_default()),
            (code, message),
            "{query}"
        );
    };
    check(
        api(),
        "container=other",
        400,
        &format!("container other is not valid for pod {pod}"),
    );
    check(
        api(),
        "tailLines=-1",
        422,
        &format!(
            "PodLogOptions \"{pod}\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
        ),
    );
    check(
        api(),
        "limitBytes=0",
        422,
        &format!(
            "PodLogOptions \"{pod}\" is invalid: limitBytes: Invalid value: 0: must be greater than 0"
        ),
    );
    check(
        api(),
        "sinceSeconds=0",
        422,
        &format!(
            "PodLogOptions \"{pod}\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0"
        ),
    );
    let (status, answer) = api().call("GET", &api().path("pods", "no-such-pod/log"), None);
    assert_eq!(
        (status, &answer["message"]),
        (404, &json!("pods \"no-such-pod\" not found"))
    );
    api().delete("jobs", &job_name);
}
