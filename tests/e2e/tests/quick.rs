//! The three examples of the README, sent as `curl -d` sends them.

use std::time::Duration;

use e2e::{Answer, Shared, Stack};
use serde_json::Value;

/// As the README says: one call that waits for the outcome.
const PATH: &str = "/executions?wait=30";

fn run(body: &str) -> (Shared, Value) {
    let stack = Stack::shared();
    let client = stack.client();
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "*/*"),
    ];
    let answer: Answer = client
        .send("POST", PATH, &headers, Some(body.as_bytes()))
        .unwrap_or_else(|e| panic!("{e}"))
        .expect(201);
    let execution = answer.json();
    assert_eq!(execution["status"], "FINISHED", "{execution}");
    (stack, execution)
}

#[test]
fn about_to_fail() {
    let body =
        r#"{"script":"echo About to fail; exit 42","resources":{"cpu":"100m","memory":"64Mi"}}"#;
    let (stack, execution) = run(body);
    assert_eq!(execution["outcome"], "FAILED", "{execution}");
    assert_eq!(execution["exitCode"], 42, "{execution}");
    let id = execution["id"].as_str().expect("an id");
    assert_eq!(stack.client().log(id), b"About to fail\n");
}

#[test]
fn non_existing_command() {
    let body = r#"{"script":"non_existing_command","resources":{"cpu":"100m","memory":"64Mi"}}"#;
    let (stack, execution) = run(body);
    assert_eq!(execution["outcome"], "FAILED", "{execution}");
    assert_eq!(execution["exitCode"], 127, "{execution}");
    let id = execution["id"].as_str().expect("an id");
    let log = String::from_utf8_lossy(&stack.client().log(id)).into_owned();
    assert!(log.contains("non_existing_command"), "{log}");
}

#[test]
fn hello_and_done() {
    let body = r#"{"script":"echo Hello && sleep 1 && echo Done","resources":{"cpu":"250m","memory":"128Mi"}}"#;
    let (stack, execution) = run(body);
    assert_eq!(execution["outcome"], "SUCCEEDED", "{execution}");
    assert_eq!(execution["exitCode"], 0, "{execution}");
    let id = execution["id"].as_str().expect("an id");
    assert_eq!(stack.client().log(id), b"Hello\nDone\n");
    let again = stack.client().finished(id, Duration::from_secs(1));
    assert_eq!(again["finishedAt"], execution["finishedAt"]);
}
