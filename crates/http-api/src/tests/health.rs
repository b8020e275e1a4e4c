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

#[test]
fn readiness_writes_no_more_than_once_a_second() {
    let service = Service::default();
    let looked = || {
        service.get("/readyz");
        let store = store::ExecutionStore::new(service.sqlite.clone());
        store::testing::ready(store.get_state("lastReadiness")).expect("it reads")
    };
    let first = looked();
    assert!(first.is_some());
    assert_eq!(looked(), first, "at once");
    service.clock.advance(1);
    let second = looked();
    assert_ne!(second, first);
    // A clock that was set back must not keep it from looking.
    let store = store::ExecutionStore::new(service.sqlite.clone());
    let future = "2999-01-01T00:00:00Z";
    store::testing::ready(store.set_state("lastReadiness", future)).expect("it writes");
    assert_ne!(looked().as_deref(), Some(future));
}

#[test]
fn a_tick_that_lasts_for_minutes_is_alive_while_it_renews_its_lease() {
    let service = Service::default();
    let tick = |answer: &super::service::Answer| answer.json()["checks"]["tick"]["ok"].clone();
    assert_eq!(tick(&service.get("/readyz")), false, "there was none");
    let store = store::ExecutionStore::new(service.sqlite.clone());
    for _ in 0..3 {
        service.clock.advance(29);
        let now = service.app.now();
        let until = now + std::time::Duration::from_secs(5);
        let lease = store::testing::ready(store.acquire_lease("tick", "a", now, until));
        assert!(lease.expect("it answers").is_some());
        assert_eq!(tick(&service.get("/readyz")), true);
    }
    service.clock.advance(31);
    assert_eq!(tick(&service.get("/readyz")), false, "it was killed");
}
