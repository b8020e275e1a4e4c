//! `POST /executions`, and the table of what is refused anywhere.

use std::cell::Cell;
use std::rc::Rc;

use app::StoredLog;
use bytes::Bytes;
use http::Request;
use serde_json::json;

use super::service::{Service, Upload, finish};
use crate::limits::MAX_BODY_BYTES;

/// What clients of the older API send.
const SMALLEST: &str = r#"{"script":"echo Hello && sleep 1 && echo Done","resources":{"cpu":"250m","memory":"128Mi"}}"#;

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
    assert_eq!(execution["attempts"][0]["number"], 1);
    assert_eq!(
        execution["durations"],
        json!({"queueSeconds": 0.0, "startSeconds": null, "runSeconds": null})
    );
    let afterwards = answer
        .afterwards
        .expect("there is room, so its Job is created afterwards");
    assert_eq!(afterwards.execution.id.to_string(), id);
    futures::executor::block_on(afterwards.run(&service.app));
    assert_eq!(
        service.get(&format!("/executions/{id}")).json()["id"],
        id.as_str()
    );
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
fn bad_requests_get_their_problems() {
    let service = Service::default();
    let long = "k".repeat(256);
    let text = [("content-type", "text/plain")];
    let latin = [("content-type", "application/json; charset=iso-8859-1")];
    let zipped = [("content-encoding", "gzip")];
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let logs = format!("/executions/{id}/logs");
    let events = [("accept", "text/event-stream")];
    let resumed = [("last-event-id", "7")];
    let cancel = format!("/executions/{id}/cancel");
    let one = format!("/executions/{id}");
    type Case<'a> = (
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a str,
        u16,
        &'a str,
        &'a str,
    );
    let cases: &[Case] = &[
        ("POST", "/executions", &[], "", 400, "invalid-json", "empty"),
        ("POST", "/executions", &[], "{", 400, "invalid-json", "EOF"),
        (
            "POST",
            "/executions",
            &[],
            "[]",
            422,
            "validation",
            "The body must be an object",
        ),
        (
            "POST",
            "/executions",
            &[],
            "{}",
            422,
            "validation",
            "`/script` is required",
        ),
        (
            "POST",
            "/executions",
            &[],
            r#"{"script":"x","scirpt":1}"#,
            422,
            "validation",
            "did you mean `script`?",
        ),
        (
            "POST",
            "/executions",
            &[],
            r#"{"script":"x","retry":{}}"#,
            422,
            "validation",
            "not supported yet",
        ),
        (
            "POST",
            "/executions",
            &text,
            SMALLEST,
            415,
            "unsupported-media-type",
            "application/json",
        ),
        (
            "POST",
            "/executions",
            &latin,
            SMALLEST,
            415,
            "unsupported-media-type",
            "iso-8859-1",
        ),
        (
            "POST",
            "/executions",
            &zipped,
            SMALLEST,
            415,
            "unsupported-media-type",
            "gzip",
        ),
        (
            "POST",
            "/executions",
            &[("content-type", "multipart/form-data")],
            "",
            415,
            "unsupported-media-type",
            "",
        ),
        (
            "POST",
            "/executions",
            &[("content-type", "+json")],
            "",
            415,
            "unsupported-media-type",
            "",
        ),
        (
            "POST",
            "/executions",
            &[("idempotency-key", "")],
            SMALLEST,
            400,
            "invalid-header",
            "1 to 255",
        ),
        (
            "POST",
            "/executions",
            &[("idempotency-key", &long)],
            SMALLEST,
            400,
            "invalid-header",
            "1 to 255",
        ),
        (
            "POST",
            "/executions",
            &[("idempotency-key", "a b")],
            SMALLEST,
            400,
            "invalid-header",
            "visible",
        ),
        (
            "POST",
            "/executions",
            &[("idempotency-key", "é")],
            SMALLEST,
            400,
            "invalid-header",
            "ASCII",
        ),
        (
            "POST",
            "/executions",
            &[("idempotency-key", "a"), ("idempotency-key", "a")],
            SMALLEST,
            400,
            "invalid-header",
            "once",
        ),
        (
            "POST",
            "/executions",
            &[("prefer", "wait=soon")],
            SMALLEST,
            400,
            "invalid-header",
            "wait",
        ),
        (
            "POST",
            "/executions",
            &[("prefer", "wait=-1")],
            SMALLEST,
            400,
            "invalid-header",
            "wait",
        ),
        (
            "POST",
            "/executions?wait=61",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "from 0 to 60",
        ),
        (
            "POST",
            "/executions?wait=",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "from 0 to 60",
        ),
        (
            "POST",
            "/executions?wait=+1",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "from 0 to 60",
        ),
        (
            "POST",
            "/executions?wait=1.5",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "from 0 to 60",
        ),
        (
            "POST",
            "/executions?wait=1&wait=1",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "more than once",
        ),
        (
            "POST",
            "/executions?Wait=1",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "did you mean `wait`?",
        ),
        (
            "POST",
            "/executions?%zz=1",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "percent-encoded",
        ),
        (
            "POST",
            "/executions?wait=%ff",
            &[],
            SMALLEST,
            400,
            "invalid-query",
            "percent-encoded",
        ),
        (
            "POST",
            "/executions?dryRun=true",
            &[],
            SMALLEST,
            501,
            "not-implemented",
            "dryRun",
        ),
        (
            "POST",
            "/executions:batch",
            &[],
            "{}",
            501,
            "not-implemented",
            ":batch",
        ),
        (
            "PUT",
            "/executions",
            &[],
            SMALLEST,
            405,
            "method-not-allowed",
            "GET, HEAD, POST",
        ),
        (
            "DELETE",
            "/executions",
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD, POST",
        ),
        (
            "OPTIONS",
            "/executions",
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD, POST",
        ),
        (
            "BREW",
            "/executions",
            &[],
            "",
            405,
            "method-not-allowed",
            "BREW",
        ),
        (
            "GET",
            "/executions?limit=0",
            &[],
            "",
            400,
            "invalid-query",
            "from 1 to 200",
        ),
        (
            "GET",
            "/executions?limit=201",
            &[],
            "",
            400,
            "invalid-query",
            "from 1 to 200",
        ),
        (
            "GET",
            "/executions?limit=ten",
            &[],
            "",
            400,
            "invalid-query",
            "from 1 to 200",
        ),
        (
            "GET",
            "/executions?status=queued",
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `QUEUED`?",
        ),
        (
            "GET",
            "/executions?status=",
            &[],
            "",
            400,
            "invalid-query",
            "QUEUED, RUNNING, FINISHED",
        ),
        (
            "GET",
            "/executions?outcome=SUCCESS",
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `SUCCEEDED`?",
        ),
        (
            "GET",
            "/executions?reason=OomKilled",
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `OOMKilled`?",
        ),
        (
            "GET",
            "/executions?label=a",
            &[],
            "",
            400,
            "invalid-query",
            "name=value",
        ),
        (
            "GET",
            "/executions?label==b",
            &[],
            "",
            400,
            "invalid-query",
            "name=value",
        ),
        (
            "GET",
            "/executions?labels=a=b",
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `label`?",
        ),
        (
            "GET",
            "/executions?createdAfter=yesterday",
            &[],
            "",
            400,
            "invalid-query",
            "RFC 3339",
        ),
        (
            "GET",
            "/executions?createdBefore=2026-02-30T00:00:00Z",
            &[],
            "",
            400,
            "invalid-query",
            "RFC 3339",
        ),
        (
            "GET",
            "/executions?createdAfter=2026-01-01T00:00:00+02:00",
            &[],
            "",
            400,
            "invalid-query",
            "%2B",
        ),
        (
            "GET",
            "/executions?cursor=x",
            &[],
            "",
            400,
            "invalid-query",
            "`next`",
        ),
        (
            "GET",
            "/executions?cursor=",
            &[],
            "",
            400,
            "invalid-query",
            "`next`",
        ),
        (
            "GET",
            "/executions?wait=1",
            &[],
            "",
            400,
            "invalid-query",
            "no known query parameter",
        ),
        (
            "GET",
            "/executions?limit=0&status=x&y=1",
            &[],
            "",
            400,
            "invalid-query",
            "3 errors",
        ),
        ("GET", "/executions/1", &[], "", 400, "invalid-id", "UUID"),
        (
            "GET",
            "/executions/01890a5dac96774bbcceb302099a8057",
            &[],
            "",
            400,
            "invalid-id",
            "UUID",
        ),
        ("GET", "/executions/%00", &[], "", 400, "invalid-id", "UUID"),
        (
            "GET",
            "/executions/1/logs",
            &[],
            "",
            400,
            "invalid-id",
            "UUID",
        ),
        ("GET", &one, &[], "", 404, "not-found", id),
        ("GET", &logs, &[], "", 404, "not-found", id),
        (
            "GET",
            &format!("{one}?wait=x"),
            &[],
            "",
            400,
            "invalid-query",
            "wait",
        ),
        (
            "GET",
            &format!("{one}?verbose=1"),
            &[],
            "",
            400,
            "invalid-query",
            "verbose",
        ),
        (
            "GET",
            &format!("{logs}?tail=-1"),
            &[],
            "",
            400,
            "invalid-query",
            "tail",
        ),
        (
            "GET",
            &format!("{logs}?tail=4294967296"),
            &[],
            "",
            400,
            "invalid-query",
            "tail",
        ),
        (
            "GET",
            &format!("{logs}?sinceSeconds=0"),
            &[],
            "",
            400,
            "invalid-query",
            "sinceSeconds",
        ),
        (
            "GET",
            &format!("{logs}?follow=yes"),
            &[],
            "",
            400,
            "invalid-query",
            "true or false",
        ),
        (
            "GET",
            &format!("{logs}?timestamps"),
            &[],
            "",
            400,
            "invalid-query",
            "true or false",
        ),
        (
            "GET",
            &format!("{logs}?tails=1"),
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `tail`?",
        ),
        (
            "GET",
            &logs,
            &events,
            "",
            501,
            "not-implemented",
            "text/event-stream",
        ),
        (
            "GET",
            &logs,
            &resumed,
            "",
            501,
            "not-implemented",
            "text/event-stream",
        ),
        (
            "POST",
            &logs,
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD",
        ),
        (
            "POST",
            &one,
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD",
        ),
        (
            "PATCH",
            &one,
            &[],
            "{}",
            405,
            "method-not-allowed",
            "GET, HEAD",
        ),
        ("DELETE", &one, &[], "", 501, "not-implemented", "DELETE"),
        ("POST", &cancel, &[], "", 501, "not-implemented", "cancel"),
        (
            "GET",
            &format!("{one}/events"),
            &[],
            "",
            501,
            "not-implemented",
            "events",
        ),
        (
            "GET",
            &format!("{one}/deliveries"),
            &[],
            "",
            501,
            "not-implemented",
            "deliveries",
        ),
        (
            "GET",
            &format!("{one}/log"),
            &[],
            "",
            404,
            "not-found",
            "nothing",
        ),
        (
            "GET",
            "/metrics",
            &[],
            "",
            501,
            "not-implemented",
            "metrics",
        ),
        (
            "GET",
            "/openapi.json",
            &[],
            "",
            501,
            "not-implemented",
            "openapi",
        ),
        ("GET", "/", &[], "", 404, "not-found", "nothing"),
        ("GET", "/executions/", &[], "", 404, "not-found", "nothing"),
        (
            "GET",
            "/internal/tick",
            &[],
            "",
            405,
            "method-not-allowed",
            "POST",
        ),
        (
            "POST",
            "/internal/tick?budgetSeconds=301",
            &[],
            "",
            400,
            "invalid-query",
            "from 0 to 300",
        ),
        (
            "POST",
            "/internal/tick?budget=1",
            &[],
            "",
            400,
            "invalid-query",
            "did you mean `budgetSeconds`?",
        ),
        (
            "POST",
            "/readyz",
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD",
        ),
        (
            "POST",
            "/executions/health",
            &[],
            "",
            405,
            "method-not-allowed",
            "GET, HEAD",
        ),
    ];
    for (method, uri, headers, body, status, slug, detail) in cases {
        println!("{method} {uri} {headers:?}");
        let answer = service.send(method, uri, headers, body);
        answer.is_problem(*status, slug, detail);
        let path = uri.split('?').next().expect("a path");
        assert_eq!(answer.json()["instance"], path);
        assert_eq!(answer.header("allow").is_some(), *status == 405);
    }
    assert_eq!(
        service.get("/executions").json()["items"],
        json!([]),
        "nothing was accepted"
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
