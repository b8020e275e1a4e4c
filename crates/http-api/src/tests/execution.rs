//! `GET /executions/{id}`.

use app::StoredLog;
use serde_json::json;

use super::service::{Service, finish, stored};

const SCRIPT: &str = r#"{"script":"true","labels":{"a":"b"}}"#;

#[test]
fn every_member_of_a_finished_one_is_told() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let log = StoredLog {
        head: b"x\n".to_vec(),
        bytes: 2,
        complete: true,
        ..StoredLog::default()
    };
    service.finish(&id, 137, log);
    let answer = service.get(&format!("/executions/{id}"));
    assert_eq!(answer.status, 200);
    let time = json!("2026-01-31T12:00:00.000042Z");
    let execution = answer.json();
    assert_eq!(
        execution,
        json!({
            "id": id, "status": "FINISHED", "outcome": "FAILED", "createdAt": time, "reason": "Signaled",
            "fault": "script", "retryable": false, "message": execution["message"], "exitCode": 137, "signal": 9,
            "waitingFor": null, "queuePosition": null, "dispatchedAt": time, "startedAt": time, "cancelRequestedAt": null, "finishedAt": time,
            "expiresAt": "2026-01-31T13:00:00.000042Z",
            "durations": {"queueSeconds": 0.0, "startSeconds": 0.0, "runSeconds": 0.0},
            "attempts": [{
                "attempt": 1, "outcome": "FAILED", "reason": "Signaled", "fault": "script", "retryable": false,
                "message": execution["message"], "exitCode": 137, "signal": 9, "dispatchedAt": time, "startedAt": time,
                "finishedAt": time, "log": {"bytes": 2, "lostBytes": 0, "complete": true},
            }],
            "labels": {"a": "b"}, "image": "busybox:1.36",
            "resources": {"cpu": "500m", "memory": "256Mi", "ephemeralStorage": null},
            "timeouts": {"queueSeconds": 86400, "startSeconds": 300, "runSeconds": 600, "graceSeconds": 10},
            "retry": {"limit": 0, "on": ["ERROR"]}, "priority": 0,
            "log": {"bytes": 2, "lostBytes": 0, "complete": true},
        })
    );
}

#[test]
fn an_entity_tag_saves_the_body_until_something_changes() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}");
    let first = service.get(&uri);
    let tag = first.header("etag").expect("a tag").to_owned();
    assert_eq!(
        tag,
        format!("W/\"{}\"", stored(&service.sqlite, &id).generation)
    );
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    for value in [
        tag.clone(),
        format!("\"x\", {tag}"),
        tag.replace("W/", ""),
        "*".to_owned(),
    ] {
        let same = service.send("GET", &uri, &[("if-none-match", &value)], "");
        assert_eq!(
            (same.status, same.bytes.len(), same.header("etag")),
            (304, 0, Some(tag.as_str()))
        );
        assert_eq!(same.header("content-type"), None);
    }
    service.finish(&id, 0, StoredLog::default());
    let changed = service.send("GET", &uri, &[("if-none-match", &tag)], "");
    assert_eq!(
        (changed.status, &changed.json()["outcome"]),
        (200, &json!("SUCCEEDED"))
    );
}

#[test]
fn a_place_in_the_queue_is_part_of_the_tag() {
    let service = Service::with("max_running", "1");
    let first = service.accept(SCRIPT);
    let (second, third) = (service.accept(SCRIPT), service.accept(SCRIPT));
    let uri = format!("/executions/{third}");
    let tag = service.get(&uri).header("etag").expect("a tag").to_owned();
    assert_eq!(tag, "W/\"1-2\"");
    service.finish(&first, 0, StoredLog::default());
    service.finish(&second, 0, StoredLog::default());
    assert_eq!(
        service
            .send("GET", &uri, &[("if-none-match", &tag)], "")
            .status,
        200
    );
}

#[test]
fn a_wait_comes_before_the_comparison() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}?wait=10");
    let tag = service
        .get(&format!("/executions/{id}"))
        .header("etag")
        .expect("a tag")
        .to_owned();
    let same = service.send("GET", &uri, &[("if-none-match", &tag)], "");
    assert_eq!(
        (same.status, same.header("preference-applied")),
        (304, Some("wait=10"))
    );
    let (sqlite, clock, of) = (service.sqlite.clone(), service.clock.clone(), id.clone());
    service.at_sleep(2, move || {
        finish(
            &sqlite,
            &of,
            0,
            StoredLog::default(),
            app::Runtime::now(&clock),
        )
    });
    let changed = service.send("GET", &uri, &[("if-none-match", &tag)], "");
    assert_eq!(
        (changed.status, &changed.json()["status"]),
        (200, &json!("FINISHED"))
    );
}

#[test]
fn a_preferred_wait_is_waited_for() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}");
    let before = app::Runtime::now(&service.clock);
    let answer = service.send("GET", &uri, &[("prefer", "respond-async, wait=3")], "");
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (200, Some("wait=3"))
    );
    let waited = app::Runtime::now(&service.clock).duration_since(before);
    assert_eq!(waited.as_secs(), 3);
    let answer = service.send("GET", &uri, &[("prefer", "wait=long")], "");
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (200, None)
    );
}

#[test]
fn head_has_the_headers_only() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}");
    let (get, head) = (service.get(&uri), service.send("HEAD", &uri, &[], ""));
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert_eq!(head.header("etag"), get.header("etag"));
    assert_eq!(
        get.header("content-length"),
        Some(get.bytes.len().to_string().as_str())
    );
    assert_eq!(service.send("HEAD", "/executions/x", &[], "").status, 400);
}

#[test]
fn upper_case_ids_are_ids() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let answer = service.get(&format!("/executions/{}", id.to_uppercase()));
    assert_eq!(answer.json()["id"], id.as_str());
}

#[test]
fn only_a_finished_one_can_be_deleted_and_then_its_key_is_free() {
    let service = Service::default();
    let post = || service.send("POST", "/executions", &[("idempotency-key", "k")], SCRIPT);
    let id = post().json()["id"].as_str().expect("an id").to_owned();
    let uri = format!("/executions/{id}");
    let delete = || service.send("DELETE", &uri, &[], "");
    delete().is_problem(409, "not-finished", "cancel");
    assert_eq!(service.get(&uri).status, 200);
    service.finish(&id, 0, StoredLog::default());
    let gone = delete();
    assert_eq!((gone.status, gone.bytes.len()), (204, 0));
    assert_eq!(
        (gone.header("content-length"), gone.header("content-type")),
        (None, None)
    );
    for uri in [&uri, &format!("{uri}/logs")] {
        service.get(uri).is_problem(404, "not-found", &id);
    }
    delete().is_problem(404, "not-found", &id);
    let again = post();
    assert_eq!(again.status, 201);
    assert_ne!(again.json()["id"], id.as_str());
}
