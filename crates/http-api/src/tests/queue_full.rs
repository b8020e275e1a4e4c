//! A queue that is full: refused at once, kept nothing of, and taken again when there is room.

use serde_json::json;

use super::service::Service;

const SMALLEST: &str = r#"{"script":"true"}"#;

/// Two have a place by default, and three may wait.
fn full() -> (Service, Vec<String>) {
    let service = Service::with("max_queued", "3");
    let accepted: Vec<String> = (0..5).map(|_| service.accept(SMALLEST)).collect();
    (service, accepted)
}

fn stored(service: &Service) -> usize {
    let list = service.get("/executions?limit=200").json();
    list["items"].as_array().expect("a list").len()
}

#[test]
fn beyond_the_limit_nothing_is_kept_and_the_caller_is_told_when_to_come_again() {
    let (service, accepted) = full();
    let batch = json!({"executions": [{"script": "true"}]}).to_string();
    for (path, body) in [("/executions", SMALLEST), ("/executions:batch", &batch)] {
        let answer = service.post(path, body);
        assert_eq!(answer.status, 429, "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert_eq!(answer.json()["type"], "/problems/queue-full");
        assert!(answer.afterwards.is_none());
    }
    assert_eq!(stored(&service), 5);
    let waiting = service.get(&format!("/executions/{}", accepted[4])).json();
    assert_eq!(waiting["queuePosition"], 3);
    // One that leaves the queue makes room for one.
    let cancel = service.post(&format!("/executions/{}/cancel", accepted[4]), "");
    assert_eq!(cancel.status, 202);
    assert_eq!(service.post("/executions", SMALLEST).status, 201);
    assert_eq!(service.post("/executions", SMALLEST).status, 429);
}

#[test]
fn a_batch_is_taken_as_a_whole_or_not() {
    let service = Service::with("max_queued", "3");
    let batch = |items: usize| {
        let items = vec![json!({"script": "true"}); items];
        service.post(
            "/executions:batch",
            &json!({"executions": items}).to_string(),
        )
    };
    assert_eq!(
        batch(4).status,
        429,
        "though two of them would have a place"
    );
    assert_eq!(stored(&service), 0);
    assert_eq!(batch(3).status, 201);
    assert_eq!(batch(2).status, 201, "one waits of the first three");
    assert_eq!(batch(1).status, 429);
    assert_eq!(stored(&service), 5);
}

#[test]
fn what_was_accepted_before_is_answered_though_the_queue_is_full() {
    let service = Service::with("max_queued", "3");
    let key = [("idempotency-key", "k")];
    let first = service.send("POST", "/executions", &key, SMALLEST);
    let batch_key = [("idempotency-key", "b")];
    let batch = json!({"executions": [{"script": "true"}]}).to_string();
    let first_batch = service.send("POST", "/executions:batch", &batch_key, &batch);
    assert_eq!((first.status, first_batch.status), (201, 201));
    for _ in 0..3 {
        service.accept(SMALLEST);
    }
    assert_eq!(service.post("/executions", SMALLEST).status, 429);
    let again = service.send("POST", "/executions", &key, SMALLEST);
    assert_eq!(
        (again.status, &again.json()["id"]),
        (200, &first.json()["id"])
    );
    let again = service.send("POST", "/executions:batch", &batch_key, &batch);
    assert_eq!(again.status, 200);
    let other = r#"{"script":"false"}"#;
    assert_eq!(service.send("POST", "/executions", &key, other).status, 409);
    let new = service.send("POST", "/executions", &[("idempotency-key", "n")], SMALLEST);
    assert_eq!(new.status, 429);
    assert!(new.header("idempotent-replayed").is_none());
}
