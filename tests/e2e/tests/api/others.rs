//! Health, readiness and the tick.

use std::time::Duration;

use e2e::{TICK_TOKEN, wait_for};
use serde_json::json;

use crate::{ENDS_WITHIN, shared};

#[test]
fn health_in_three_depths() {
    let stack = shared();
    let client = stack.client();
    let health = client.get("/executions/health").expect(200);
    assert!(
        health
            .header("content-type")
            .is_some_and(|t| t.starts_with("text/plain"))
    );
    client.get("/healthz").expect(200);
    // The first tick may not have been yet.
    wait_for("/readyz to be 200", Duration::from_secs(30), || {
        (client.get("/readyz").status == 200).then_some(())
    });
}

#[test]
fn metrics_count_what_ended() {
    let stack = shared();
    let client = stack.client();
    let counted = |reason: &str| {
        let answer = client.get("/metrics").expect(200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let label = format!("reason=\"{reason}\"}} ");
        let text = answer.text();
        let line = text
            .lines()
            .find(|line| line.starts_with("executor_finished_total{") && line.contains(&label));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("no {label}in {text}"))
    };
    // Other tests of this suite end otherwise, at the same time.
    let before = counted("NonZeroExit");
    let id = client.submit(&json!({ "script": "exit 9", "resources": { "cpu": "10m" } }));
    client.finished(&id, ENDS_WITHIN);
    assert!(counted("NonZeroExit") > before);
}

#[test]
fn the_api_describes_itself() {
    let stack = shared();
    let document = stack.client().get("/openapi.json").expect(200).json();
    assert_eq!(document["openapi"], "3.1.1");
    assert!(document["paths"]["/openapi.json"]["get"].is_object());
}

#[test]
fn the_tick_needs_its_token_and_says_whether_it_led() {
    let stack = shared();
    let client = stack.client();
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", TICK_TOKEN)],
    ] {
        let answer = client.send("POST", "/internal/tick", &headers, Some(b""));
        let answer = answer.unwrap_or_else(|e| panic!("{e}")).expect(401);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    let authorization = format!("Bearer {TICK_TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = client.send("POST", "/internal/tick", &headers, Some(b""));
    let answer = answer.unwrap_or_else(|e| panic!("{e}")).expect(200);
    assert!(answer.json()["leader"].is_boolean(), "{}", answer.text());
}

#[test]
fn every_answer_of_an_unknown_route_is_a_problem() {
    let stack = shared();
    let answer = stack.client().get("/nothing/here").expect(404);
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(answer.json()["status"], 404);
}
