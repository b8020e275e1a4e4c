//! `GET /executions/{id}/logs`.

use app::StoredLog;

use super::service::Service;

const SCRIPT: &str = r#"{"script":"true"}"#;

fn finished() -> (Service, String) {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let log = StoredLog {
        head: b"one\ntwo\xff\n".to_vec(),
        tail: b"last".to_vec(),
        bytes: 1013,
        lost_bytes: 1000,
        complete: false,
    };
    service.finish(&id, 0, log);
    (service, format!("/executions/{id}/logs"))
}

#[test]
fn a_stored_log_is_shown_with_what_is_left_out() {
    let (service, uri) = finished();
    let answer = service.get(&uri);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.bytes,
        b"one\ntwo\xff\n[\xe2\x80\xa6 1000 bytes left out \xe2\x80\xa6]\nlast"
    );
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("x-content-type-options", "nosniff"),
        ("x-log-complete", "false"),
        ("x-log-lost-bytes", "1000"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    assert_eq!(
        service.get(&format!("{uri}?tail=1&follow=true")).text(),
        "last"
    );
    assert_eq!(service.get(&format!("{uri}?tail=0")).text(), "");
    assert_eq!(service.send("HEAD", &uri, &[], "").bytes, b"");
}

#[test]
fn a_stored_log_has_no_times() {
    let (service, uri) = finished();
    for query in ["timestamps=true", "sinceSeconds=60"] {
        let answer = service.get(&format!("{uri}?{query}"));
        answer.is_problem(409, "log-without-times", "only while it runs");
    }
    assert_eq!(service.get(&format!("{uri}?timestamps=false")).status, 200);
}

#[test]
fn before_the_start_there_is_nothing() {
    let service = Service::with("max_running", "1");
    service.accept(SCRIPT);
    let id = service.accept(SCRIPT);
    let answer = service.get(&format!("/executions/{id}/logs"));
    assert_eq!((answer.status, answer.text()), (200, ""));
    assert_eq!(answer.header("x-log-complete"), Some("false"));
}

#[test]
fn a_live_log_is_passed_on() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let label = kubernetes::LABEL_EXECUTION;
    let pods = format!(
        r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"1"}},"items":[{{"metadata":{{
        "name":"x-{id}-abcde","namespace":"runs","uid":"p","labels":{{"{label}":"{id}"}}}},
        "status":{{"phase":"Running","containerStatuses":[{{"name":"main","ready":true,"restartCount":0,"image":"x",
        "imageID":"x","state":{{"running":{{"startedAt":"2026-01-31T12:00:01Z"}}}}}}]}}}}]}}"#
    )
    .replace("\"main\"", &format!("{:?}", kubernetes::CONTAINER_NAME));
    *service.api_server.0.borrow_mut() = vec![
        (
            "GET /api/v1/namespaces/runs/pods/",
            200,
            "Hello\nand more\n".to_owned(),
        ),
        ("GET /api/v1/namespaces/runs/pods", 200, pods),
    ];
    let uri = format!("/executions/{id}/logs");
    for query in ["", "?follow=true", "?timestamps=true&sinceSeconds=5&tail=3"] {
        let answer = service.get(&format!("{uri}{query}"));
        assert_eq!((answer.status, answer.text()), (200, "Hello\nand more\n"));
        assert_eq!(answer.header("x-log-complete"), Some("false"));
        assert_eq!(answer.header("content-length"), None);
    }
    assert_eq!(service.send("HEAD", &uri, &[], "").bytes, b"");
    service.api_server.0.borrow_mut().clear();
    let answer = service.get(&uri);
    answer.is_problem(503, "unavailable", "");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.text().contains("refused") && answer.failure.is_some());
}
