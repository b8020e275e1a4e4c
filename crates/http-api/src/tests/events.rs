//! `GET /executions/{id}/events`, and the log as server-sent events.

use app::StoredLog;
use serde_json::{Value, json};

use super::service::{Service, finish};

const SCRIPT: &str = r#"{"script":"true"}"#;
const EVENTS: [(&str, &str); 1] = [("accept", "text/event-stream")];

/// Name, id and data of each event; comments and `retry` are passed over, as the HTML standard has it.
fn parse(text: &str) -> Vec<(String, String, String)> {
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let (mut name, mut id, mut data) = ("message", "", Vec::new());
        for line in block.split('\n') {
            match line.split_once(": ").expect("a field") {
                ("event", value) => name = value,
                ("id", value) => id = value,
                ("data", value) => data.push(value),
                ("retry" | "", _) => {}
                other => panic!("{other:?}"),
            }
        }
        if !data.is_empty() {
            events.push((name.to_owned(), id.to_owned(), data.join("\n")));
        }
    }
    events
}

fn finished(log: StoredLog) -> (Service, String) {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    service.finish(&id, 0, log);
    (service, format!("/executions/{id}"))
}

fn log(head: &[u8], lost: u64, tail: &[u8]) -> StoredLog {
    StoredLog {
        head: head.to_vec(),
        tail: tail.to_vec(),
        bytes: (head.len() + tail.len()) as u64 + lost,
        lost_bytes: lost,
        complete: lost == 0,
    }
}

#[test]
fn a_timeline_tells_when_and_by_whom() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}/events");
    let answer = service.get(&uri);
    assert_eq!(answer.status, 200);
    let time = json!("2026-01-31T12:00:00.000042Z");
    let items = answer.json()["items"].clone();
    assert_eq!(
        items[0],
        json!({"sequence": 1, "at": time, "type": "Accepted", "message": "it is accepted and stored",
            "source": "executor", "count": 1, "lastAt": time})
    );
    assert_eq!(
        (items[1]["type"].as_str(), items.as_array().map(Vec::len)),
        (Some("Dispatched"), Some(2))
    );
    // The place to go on from means something to a reader of events only.
    assert_eq!(
        service
            .send("GET", &uri, &[("last-event-id", "x")], "")
            .json()["items"],
        items
    );
    assert_eq!(service.send("HEAD", &uri, &[], "").bytes, b"");
}

#[test]
fn a_followed_timeline_ends_with_the_outcome() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let (sqlite, of) = (service.sqlite.clone(), id.clone());
    let now = service.app.now();
    service.at_sleep(4, move || {
        finish(&sqlite, &of, 42, StoredLog::default(), now)
    });
    let uri = format!("/executions/{id}/events");
    let answer = service.send("GET", &uri, &EVENTS, "");
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("content-length"), None);
    let events = parse(answer.text());
    let told: Vec<_> = events
        .iter()
        .map(|(n, i, _)| (n.as_str(), i.as_str()))
        .collect();
    assert_eq!(told, [("message", "1"), ("message", "2"), ("end", "2.end")]);
    let first: Value = serde_json::from_str(&events[0].2).expect("JSON");
    assert_eq!(first["type"], "Accepted");
    let end: Value = serde_json::from_str(&events[2].2).expect("JSON");
    assert_eq!(
        (&end["id"], &end["outcome"]),
        (&json!(id), &json!("FAILED"))
    );

    let resumed = service.send("GET", &uri, &[EVENTS[0], ("last-event-id", "1")], "");
    assert_eq!(parse(resumed.text()), events[1..]);
    let over = service.send("GET", &uri, &[EVENTS[0], ("last-event-id", "2.end")], "");
    assert_eq!((over.status, over.bytes.len()), (204, 0));
    for id in ["x", "-1", "01", "1 ", "4294967296"] {
        let answer = service.send("GET", &uri, &[EVENTS[0], ("last-event-id", id)], "");
        answer.is_problem(400, "invalid-header", "Last-Event-ID");
    }
}

#[test]
fn a_silent_stream_is_kept_alive() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let (sqlite, of) = (service.sqlite.clone(), id.clone());
    let now = service.app.now();
    service.at_sleep(60, move || {
        finish(&sqlite, &of, 0, log(b"one\n", 0, b""), now)
    });
    let answer = service.send("GET", &format!("/executions/{id}/logs"), &EVENTS, "");
    assert!(
        answer.text().starts_with("retry: 1000\n\n"),
        "{}",
        answer.text()
    );
    let events = parse(answer.text());
    assert_eq!((events.len(), events[0].2.as_str()), (2, "one"));
}

#[test]
fn each_line_of_a_log_is_an_event_and_the_end_too() {
    let text = b"one\n\nthree\r\n10%\r20%\nbad \xff\nlast";
    let (service, one) = finished(log(text, 0, b""));
    let uri = format!("{one}/logs?follow=true");
    let answer = service.send("GET", &uri, &EVENTS, "");
    let events = parse(answer.text());
    let data: Vec<_> = events.iter().map(|(_, _, d)| d.as_str()).collect();
    assert_eq!(
        data[..6],
        ["one", "", "three", "10%\n20%", "bad \u{fffd}", "last"]
    );
    let (name, id, end) = &events[6];
    let end: Value = serde_json::from_str(end).expect("JSON");
    assert_eq!(
        (name.as_str(), &end["outcome"]),
        ("end", &json!("SUCCEEDED"))
    );
    assert!(id.ends_with(".end"));
    for (index, (_, id, _)) in events.iter().enumerate() {
        let resumed = service.send("GET", &uri, &[EVENTS[0], ("last-event-id", id)], "");
        match resumed.status {
            204 => assert_eq!(index, 6),
            _ => assert_eq!(parse(resumed.text()), events[index + 1..], "{id}"),
        }
    }
    let head = service.send("HEAD", &uri, &EVENTS, "");
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}

#[test]
fn what_is_lost_or_unknown_is_an_event_of_its_own() {
    let (service, one) = finished(log(b"one\ntwo\n", 1000, b"last\n"));
    let uri = format!("{one}/logs");
    let events = parse(service.send("GET", &uri, &EVENTS, "").text());
    let told: Vec<_> = events
        .iter()
        .map(|(n, _, d)| (n.as_str(), d.as_str()))
        .collect();
    assert_eq!(
        told[..4],
        [
            ("message", "one"),
            ("message", "two"),
            ("lost", "{\"lostBytes\":1000}"),
            ("message", "last")
        ]
    );
    let resumed = service.send(
        "GET",
        &uri,
        &[EVENTS[0], ("last-event-id", &events[2].1)],
        "",
    );
    assert_eq!(parse(resumed.text()), events[3..]);
    let foreign = service.send(
        "GET",
        &uri,
        &[EVENTS[0], ("last-event-id", "4-00000000")],
        "",
    );
    let events = parse(foreign.text());
    assert_eq!((events[0].0.as_str(), events[1].2.as_str()), ("gap", "one"));
}

#[test]
fn a_long_line_comes_in_parts() {
    let line = "x".repeat(app::MAX_LINE_BYTES + 5);
    let (service, one) = finished(log(format!("{line}\nend\n").as_bytes(), 0, b""));
    let events = parse(
        service
            .send("GET", &format!("{one}/logs"), &EVENTS, "")
            .text(),
    );
    let names: Vec<_> = events.iter().map(|(n, _, _)| n.as_str()).collect();
    assert_eq!(names, ["part", "message", "message", "end"]);
    assert_eq!(format!("{}{}", events[0].2, events[1].2), line);
}
