//! `GET /executions/{id}/logs`: live, afterwards, and its tail.

use e2e::wait_for;
use serde_json::json;

use crate::{ENDS_WITHIN, shared};

#[test]
fn a_log_is_there_before_the_end_and_after_it() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "echo early; sleep 5; echo late" }));
    let path = format!("/executions/{id}/logs");
    wait_for("the first line of a running script", ENDS_WITHIN, || {
        let answer = client.get(&path).expect(200);
        (answer.body == b"early\n").then_some(())
    });
    let execution = client.execution(&id);
    assert_ne!(
        execution["status"], "FINISHED",
        "the log came with the end only: {execution}"
    );
    client.finished(&id, ENDS_WITHIN);
    let after = client.get(&path).expect(200);
    assert_eq!(after.text(), "early\nlate\n");
    assert_eq!(
        after.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(after.header("x-log-complete"), Some("true"));
    assert_eq!(after.header("x-log-lost-bytes"), Some("0"));
}

#[test]
fn a_log_before_the_start_is_empty_and_not_complete() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "sleep 2" }));
    let answer = client.get(&format!("/executions/{id}/logs")).expect(200);
    assert!(answer.body.is_empty(), "{}", answer.text());
    assert_eq!(answer.header("x-log-complete"), Some("false"));
    client.finished(&id, ENDS_WITHIN);
}

#[test]
fn tail_gives_the_last_lines() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "seq 1 50; printf unfinished" }));
    client.finished(&id, ENDS_WITHIN);
    let tail = |n: &str| {
        client
            .get(&format!("/executions/{id}/logs?tail={n}"))
            .expect(200)
            .text()
    };
    assert_eq!(tail("1"), "unfinished");
    assert_eq!(tail("3"), "49\n50\nunfinished");
    assert_eq!(tail("0"), "");
    assert_eq!(tail("1000").lines().count(), 51);
}

#[test]
fn tail_of_a_running_script() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "seq 1 50; sleep 5" }));
    wait_for("the tail of a running script", ENDS_WITHIN, || {
        let answer = client
            .get(&format!("/executions/{id}/logs?tail=2"))
            .expect(200);
        (answer.body == b"49\n50\n").then_some(())
    });
    assert_ne!(client.execution(&id)["status"], "FINISHED");
}

/// Id and data of each event, without the last one, which is named `end`.
fn lines(text: &str) -> Vec<(String, String)> {
    let events = text.split("\n\n").filter(|event| event.contains("id: "));
    let field = |event: &str, name: &str| {
        let mut fields = event.split('\n').filter_map(|line| line.strip_prefix(name));
        fields.next().unwrap_or_default().to_owned()
    };
    let mut events: Vec<_> = events.collect();
    let end = events.pop().expect("an end");
    assert!(end.starts_with("event: end\n"), "{end}");
    let lines = events
        .iter()
        .map(|event| (field(event, "id: "), field(event, "data: ")));
    lines.collect()
}

#[test]
fn a_followed_log_goes_on_after_every_line() {
    let stack = shared();
    let client = stack.client();
    let script = "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.3; done";
    let id = client.submit(&json!({ "script": script }));
    let path = format!("/executions/{id}/logs");
    let events = ("accept", "text/event-stream");
    let live = client.get_with(&path, &[events]).expect(200);
    assert_eq!(live.header("content-type"), Some("text/event-stream"));
    let live = lines(&live.text());
    let text: Vec<_> = live.iter().map(|(_, data)| data.as_str()).collect();
    assert_eq!(
        text,
        ["line 1", "line 2", "line 3", "line 4", "line 5", "line 6"]
    );
    client.finished(&id, ENDS_WITHIN);
    for (index, (id, _)) in live.iter().enumerate() {
        let resumed = client.get_with(&path, &[events, ("last-event-id", id)]);
        assert_eq!(lines(&resumed.expect(200).text()), live[index + 1..]);
    }
    let timeline = client
        .get(&format!("/executions/{id}/events"))
        .expect(200)
        .json();
    let items = timeline["items"].as_array().expect("items");
    assert_eq!(items[0]["type"], "Accepted");
    assert_eq!(items[items.len() - 1]["type"], "Finished", "{timeline}");
}
