//! What is shown of an execution with several attempts.

use app::StoredLog;
use serde_json::{Value, json};

use super::service::Service;

const SCRIPT: &str = r#"{"script":"true","retry":{"limit":2,"on":["FAILED"]}}"#;
const EVENTS: [(&str, &str); 2] = [("accept", "text/event-stream"), ("last-event-id", "")];

fn log(text: &str) -> StoredLog {
    StoredLog {
        head: text.into(),
        bytes: text.len() as u64,
        complete: true,
        ..StoredLog::default()
    }
}

/// One whose first attempt has failed, and its URI.
fn failed_once() -> (Service, String, String) {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    service.finish(&id, 1, log("first\nattempt\n"));
    let uri = format!("/executions/{id}");
    (service, id, uri)
}

/// The data of the last event, and the ids of all.
fn events(text: &str) -> (Value, Vec<String>) {
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let last = field("data: ").pop().expect("an event");
    (serde_json::from_str(&last).expect("JSON"), field("id: "))
}

#[test]
fn between_two_attempts_it_says_what_comes() {
    let (service, id, uri) = failed_once();
    let shown = service.get(&uri).json();
    let time = json!("2026-01-31T12:00:00.000042Z");
    let message = "attempt 2 of 3 starts at 2026-01-31T12:00:01Z: attempt 1 ended NonZeroExit";
    for (member, expected) in [
        ("status", json!("RUNNING")),
        ("outcome", Value::Null),
        ("reason", Value::Null),
        ("waitingFor", json!(message)),
        ("queuePosition", Value::Null),
        ("dispatchedAt", Value::Null),
        ("startedAt", Value::Null),
        ("finishedAt", Value::Null),
        ("log", Value::Null),
        ("retry", json!({"limit": 2, "on": ["FAILED"]})),
    ] {
        assert_eq!(shown[member], expected, "{member}");
    }
    let attempts = json!([{
        "attempt": 1, "outcome": "FAILED", "reason": "NonZeroExit", "fault": "script", "retryable": false,
        "message": "the script ended with exit code 1", "exitCode": 1, "signal": null, "dispatchedAt": time,
        "startedAt": time, "finishedAt": time, "log": {"bytes": 14, "lostBytes": 0, "complete": true},
    }]);
    assert_eq!(shown["attempts"], attempts);
    let listed = service.get("/executions").json();
    assert_eq!(listed["items"][0]["attempts"], attempts);
    // The last attempt's end is the execution's.
    service.finish(&id, 0, log("second\n"));
    let shown = service.get(&uri).json();
    assert_eq!(shown["outcome"], "SUCCEEDED");
    let told = shown["attempts"].as_array().expect("an array");
    let told: Vec<_> = told
        .iter()
        .map(|a| (&a["attempt"], &a["outcome"]))
        .collect();
    let (one, two) = (json!(1), json!(2));
    let (failed, succeeded) = (json!("FAILED"), json!("SUCCEEDED"));
    assert_eq!(told, [(&one, &failed), (&two, &succeeded)]);
}

#[test]
fn a_cancel_in_the_pause_shows_all_attempts() {
    let (service, _, uri) = failed_once();
    let answer = service.post(&format!("{uri}/cancel"), "");
    assert_eq!(answer.status, 202);
    let shown = answer.json();
    assert_eq!(
        (&shown["status"], &shown["outcome"]),
        (&json!("FINISHED"), &json!("CANCELED"))
    );
    assert_eq!(shown["durations"]["queueSeconds"], 0.0);
    assert_eq!(shown["attempts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn each_attempt_has_its_log() {
    let (service, id, uri) = failed_once();
    let get = |query: &str| service.get(&format!("{uri}/logs{query}"));
    for query in ["", "?attempt=1", "?attempt=1&follow=true"] {
        assert_eq!(get(query).text(), "first\nattempt\n", "{query}");
    }
    let waits = get("?attempt=2");
    assert_eq!((waits.status, waits.text()), (200, ""));
    assert_eq!(waits.header("x-log-complete"), Some("false"));
    get("?attempt=3").is_problem(404, "not-found", "2 attempts");
    for query in ["?attempt=0", "?attempt=12", "?attempt=x"] {
        get(query).is_problem(400, "invalid-query", "from 1 to 11");
    }
    service.finish(&id, 0, log("second\n"));
    for query in ["", "?attempt=2", "?follow=true"] {
        assert_eq!(get(query).text(), "second\n", "{query}");
    }
    assert_eq!(get("?attempt=1&tail=1").text(), "attempt\n");
}

#[test]
fn a_followed_attempt_ends_with_word_of_the_next() {
    let (service, id, uri) = failed_once();
    let of = |attempt: u32| format!("{uri}/logs?attempt={attempt}");
    let answer = service.send("GET", &of(1), &EVENTS, "");
    let (end, ids) = events(answer.text());
    assert_eq!(end["status"], "RUNNING", "another attempt comes");
    assert_eq!(end["attempts"][0]["outcome"], "FAILED");
    assert!(!ids[0].contains(':'), "{ids:?}");
    service
        .send("GET", &of(3), &EVENTS, "")
        .is_problem(404, "not-found", "2 attempts");

    service.finish(&id, 0, log("second\nattempt\n"));
    let plain = format!("{uri}/logs");
    let answer = service.send("GET", &plain, &EVENTS, "");
    let (end, ids) = events(answer.text());
    assert_eq!(end["outcome"], "SUCCEEDED");
    assert!(ids.iter().all(|id| id.starts_with("2:")), "{ids:?}");
    // An id tells which attempt was being read, whatever is on now.
    for (attempt, rest) in [(1, "data: attempt\n"), (2, "data: attempt\n")] {
        let answer = service.send("GET", &of(attempt), &EVENTS, "");
        let (_, ids) = events(answer.text());
        let resume = [EVENTS[0], ("last-event-id", ids[0].as_str())];
        let resumed = service.send("GET", &plain, &resume, "");
        assert!(!resumed.text().contains("event: gap"), "{}", resumed.text());
        assert!(resumed.text().contains(rest), "{}", resumed.text());
        assert_eq!(events(resumed.text()).1, ids[1..]);
    }
    for id in ["1:6-81218953", "0:6-81218953", "x:6-81218953", "2:"] {
        let resume = [EVENTS[0], ("last-event-id", id)];
        let answer = service.send("GET", &plain, &resume, "");
        answer.is_problem(400, "invalid-header", "Last-Event-ID");
    }
}
