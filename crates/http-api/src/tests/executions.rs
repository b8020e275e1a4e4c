//! `POST /executions`.

use std::cell::Cell;
use std::rc::Rc;

use app::StoredLog;
use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::service::{Service, Upload, finish};
use crate::limits::MAX_BODY_BYTES;

/// What clients of the older API send.
pub const SMALLEST: &str = r#"{"script":"echo Hello && sleep 1 && echo Done","resources":{"cpu":"250m","memory":"128Mi"}}"#;

#[test]
fn the_smallest_request_is_accepted_and_shown_whole() {
    let service = Service::default();
    let answer = service.post("/executions", SMALLEST);
    assert_eq!(answer.status, 201);
    let execution = answer.json();
    let id = execution["id"].as_str().expect("an id").to_owned();
    assert_eq!(
        answer.header("location"),
        Some(format!("/executions/{id}").as_str())
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(answer.text().starts_with(&format!(
        r#"{{"id":"{id}","status":"QUEUED","outcome":null,"#
    )));
    for member in [
        "outcome",
        "reason",
        "fault",
        "retryable",
        "message",
        "exitCode",
        "signal",
        "queuePosition",
        "startedAt",
        "finishedAt",
        "log",
    ] {
        assert_eq!(execution.get(member), Some(&json!(null)), "{member}");
    }
    assert_eq!(execution["createdAt"], "2026-01-31T12:00:00.000042Z");
    assert_eq!(
        execution["resources"],
        json!({"cpu": "250m", "memory": "128Mi", "ephemeralStorage": null})
    );
    assert_eq!(
        execution["timeouts"],
        json!({"queueSeconds": 86400, "startSeconds": 300, "runSeconds": 600, "graceSeconds": 10})
    );
    assert_eq!(execution["image"], "busybox:1.36");
    assert_eq!(execution["attempts"][0]["attempt"], 1);
    assert_eq!(
        execution["durations"],
        json!({"queueSeconds": 0.0, "startSeconds": null, "runSeconds": null})
    );
    let afterwards = answer
        .afterwards
        .expect("there is room, so its Job is created afterwards");
    assert_eq!(afterwards.accepted()[0].0.id.to_string(), id);
    futures::executor::block_on(afterwards.run(&service.app));
    assert_eq!(
        service.get(&format!("/executions/{id}")).json()["id"],
        id.as_str()
    );
}

#[test]
fn an_accept_asks_the_database_once() {
    let service = Service::default();
    service.accept(SMALLEST);
    assert!(service.asked() > 1, "the tables are made");
    // There is room for one more; the others wait, and are told where.
    for number in 2..5 {
        service.accept(SMALLEST);
        assert_eq!(service.asked(), 1, "{number}");
    }
    let batch = format!(r#"{{"executions":[{SMALLEST},{SMALLEST}]}}"#);
    let answer = service.post("/executions:batch", &batch);
    assert_eq!((answer.status, service.asked()), (201, 1), "{answer:?}");
    let answer = service.get("/executions?limit=1");
    assert_eq!((answer.status, service.asked()), (200, 1), "{answer:?}");
}

#[test]
fn what_has_no_room_waits_in_the_queue() {
    let service = Service::default();
    service.accept(SMALLEST);
    service.accept(SMALLEST);
    for position in 1..4 {
        let answer = service.post("/executions", SMALLEST);
        let execution = answer.json();
        assert_eq!(execution["queuePosition"], position, "{execution}");
        assert_eq!(
            (&execution["dispatchedAt"], &execution["attempts"]),
            (&json!(null), &json!([]))
        );
        assert!(execution["waitingFor"].is_string());
        assert!(answer.afterwards.is_none());
    }
}

#[test]
fn the_highest_priority_stands_first_in_the_queue() {
    let service = Service::with("max_running", "1");
    service.accept(SMALLEST);
    let accept = |priority: i32| {
        service.accept(&json!({"script": "true", "priority": priority}).to_string())
    };
    let (low, high, middle) = (accept(-5), accept(100), accept(0));
    for (id, priority, position) in [(&high, 100, 1), (&middle, 0, 2), (&low, -5, 3)] {
        let execution = service.get(&format!("/executions/{id}")).json();
        assert_eq!(
            (&execution["priority"], &execution["queuePosition"]),
            (&json!(priority), &json!(position))
        );
    }
}

#[test]
fn every_usual_content_type_is_taken() {
    let service = Service::with("max_running", "100");
    for content_type in [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=\"UTF-8\"",
        "application/vnd.executor+json",
        "application/x-www-form-urlencoded",
    ] {
        let answer = service.send(
            "POST",
            "/executions",
            &[("content-type", content_type)],
            SMALLEST,
        );
        assert_eq!(answer.status, 201, "{content_type}");
    }
}

#[test]
fn a_key_is_good_for_one_request() {
    let service = Service::default();
    let send = |key: &str, body: &str| {
        service.send("POST", "/executions", &[("idempotency-key", key)], body)
    };
    let first = send("k-1", SMALLEST);
    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (201, None)
    );
    // Another spelling of the same JSON is the same request.
    let again = send("k-1", &SMALLEST.replace(':', " : "));
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (200, Some("true"))
    );
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert!(again.afterwards.is_none());
    let conflict = send("k-1", r#"{"script":"something else"}"#);
    conflict.is_problem(409, "idempotency-conflict", "another body");
    assert_eq!(conflict.json()["executionId"], first.json()["id"]);
    assert_eq!(send("k-2", SMALLEST).status, 201);
    assert_eq!(
        service.get("/executions").json()["items"]
            .as_array()
            .expect("items")
            .len(),
        2
    );
}

#[test]
fn a_wait_ends_with_the_execution() {
    for (uri, headers, applied) in [
        ("/executions?wait=30", &[][..], "wait=30"),
        (
            "/executions",
            &[("prefer", "respond-async, Wait=\"20\"; x=y")][..],
            "wait=20",
        ),
        (
            "/executions",
            &[("prefer", "wait=99999999999")][..],
            "wait=60",
        ),
        ("/executions?wait=5", &[("prefer", "wait=20")][..], "wait=5"),
    ] {
        let service = Service::default();
        let (sqlite, clock) = (service.sqlite.clone(), service.clock.clone());
        service.at_sleep(3, move || {
            let id: String = sqlite
                .connection()
                .query_row("SELECT id FROM executions", [], |row| row.get(0))
                .expect("one execution");
            finish(
                &sqlite,
                &id,
                42,
                StoredLog::default(),
                app::Runtime::now(&clock),
            );
        });
        let answer = service.send("POST", uri, headers, SMALLEST);
        let execution = answer.json();
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("preference-applied"), Some(applied));
        assert_eq!(
            (
                &execution["status"],
                &execution["outcome"],
                &execution["exitCode"]
            ),
            (&json!("FINISHED"), &json!("FAILED"), &json!(42))
        );
        assert_eq!(execution["retryable"], false);
        assert_eq!(execution["attempts"][0]["reason"], "NonZeroExit");
        assert!(answer.afterwards.is_none());
    }
}

#[test]
fn a_preference_that_is_not_understood_is_ignored() {
    let service = Service::with("max_running", "100");
    for prefer in ["wait=soon", "respond-async", "wait=\"5"] {
        let answer = service.send("POST", "/executions", &[("prefer", prefer)], SMALLEST);
        assert_eq!(
            (answer.status, answer.header("preference-applied")),
            (201, None),
            "{prefer}"
        );
    }
    // The query is read strictly all the same.
    let answer = service.send(
        "POST",
        "/executions?wait=soon",
        &[("prefer", "wait=5")],
        SMALLEST,
    );
    answer.is_problem(400, "invalid-query", "wait");
}

#[test]
fn a_wait_ends_with_its_time() {
    let service = Service::default();
    let before = app::Runtime::now(&service.clock);
    let answer = service.post("/executions?wait=7", SMALLEST);
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (201, &json!("QUEUED"))
    );
    let waited = app::Runtime::now(&service.clock)
        .duration_since(before)
        .as_secs();
    assert!((7..9).contains(&waited), "{waited} s");
    assert!(
        answer.afterwards.is_none(),
        "the creation was tried beside the wait"
    );
    let answer = service.post("/executions?wait=0", SMALLEST);
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (201, Some("wait=0"))
    );
}

#[test]
fn large_and_broken_bodies_are_refused() {
    let service = Service::default();
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let twenty = || std::iter::repeat_n(piece.clone(), 20).collect();
    let upload = |length: Option<&str>, expect: bool, breaks: bool, pieces| {
        let read = Rc::new(Cell::new(0));
        let mut request = Request::post("/executions");
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        if expect {
            request = request.header("expect", "100-continue");
        }
        let body = Upload {
            pieces,
            breaks,
            read: read.clone(),
        };
        (
            service.send_body(request.body(body).expect("a request")),
            read.get(),
        )
    };
    // Heard out, so that the client reads the answer; by one who asks first, nothing.
    let (answer, read) = upload(Some("20971520"), false, false, twenty());
    answer.is_problem(413, "body-too-large", &MAX_BODY_BYTES.to_string());
    assert_eq!(read, 20 << 20);
    let (answer, read) = upload(None, false, false, twenty());
    answer.is_problem(413, "body-too-large", "");
    assert_eq!(read, 20 << 20);
    let (answer, read) = upload(Some("20971520"), true, false, twenty());
    answer.is_problem(413, "body-too-large", "");
    assert_eq!(read, 0);
    let (answer, _) = upload(Some("9000000000000000000"), false, true, twenty());
    answer.is_problem(413, "body-too-large", "");
    let endless = std::iter::repeat_n(piece.clone(), 1000).collect();
    let (answer, read) = upload(None, false, false, endless);
    answer.is_problem(413, "body-too-large", "");
    assert!(read < 40 << 20, "an endless body is not heard out");

    let half = || [Bytes::from_static(&SMALLEST.as_bytes()[..20])].into();
    upload(Some("91"), false, true, half()).0.is_problem(
        400,
        "incomplete-body",
        "before it was complete",
    );
    upload(Some("91"), false, false, half())
        .0
        .is_problem(400, "incomplete-body", "20 bytes");
    upload(None, false, false, half())
        .0
        .is_problem(400, "invalid-json", "EOF");
    upload(Some("x"), false, false, half())
        .0
        .is_problem(400, "invalid-header", "Content-Length");
    assert_eq!(service.get("/executions").json()["items"], json!([]));
    assert_eq!(
        service.post("/executions", SMALLEST).status,
        201,
        "and it goes on"
    );
}

#[test]
fn a_store_that_fails_is_our_fault_and_not_shown() {
    let service = Service::default();
    service.get("/executions");
    service
        .sqlite
        .connection()
        .execute_batch("DROP TABLE executions")
        .expect("dropped");
    let answer = service.post("/executions", SMALLEST);
    assert!(matches!(answer.status, 500 | 503), "{answer:?}");
    assert!(!answer.text().contains("no such table"), "{answer:?}");
    assert!(
        answer
            .failure
            .expect("for the log")
            .contains("no such table")
    );
}

#[test]
fn the_trace_of_a_request_is_kept_if_it_is_well_formed() {
    let callers = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let service = Service::default();
    let accept = |headers: &[(&str, &str)]| {
        let answer = service.send("POST", "/executions", headers, r#"{"script":"true"}"#);
        assert_eq!(answer.status, 201, "{answer:?}");
        let id = answer.json()["id"].as_str().expect("an id").to_owned();
        super::service::stored(&service.sqlite, &id)
            .trace
            .map(|trace| trace.to_string())
    };
    assert_eq!(
        accept(&[("traceparent", callers)]).as_deref(),
        Some(callers)
    );
    assert_eq!(accept(&[]), None, "that was another request's");
    assert_eq!(accept(&[("traceparent", "00-0-0-0")]), None);
    assert_eq!(
        accept(&[("traceparent", callers), ("traceparent", callers)]),
        None
    );
}
