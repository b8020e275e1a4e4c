//! `/healthz`, `/executions/health` and `/readyz`.

use serde_json::json;

use super::service::Service;

#[test]
fn a_living_process_says_so() {
    let service = Service::default();
    for uri in ["/healthz", "/executions/health"] {
        let answer = service.get(uri);
        assert_eq!((answer.status, answer.text()), (200, "ok\n"));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
}

#[test]
fn readiness_names_what_fails() {
    let service = Service::default();
    let answer = service.get("/readyz");
    assert_eq!(answer.status, 503);
    let readiness = answer.json();
    assert_eq!(readiness["status"], "not ready");
    assert_eq!(
        readiness["checks"]["store"],
        json!({"ok": true, "detail": null})
    );
    for check in ["kubernetes", "tick"] {
        assert_eq!(readiness["checks"][check]["ok"], false);
        assert!(
            readiness["checks"][check]["detail"].is_string(),
            "{readiness}"
        );
    }
}
