//! `POST /executions:batch`.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::executions::SMALLEST;
use super::service::{Answer, Service, Upload};
use crate::limits::{MAX_BATCH_BODY_BYTES, MAX_BATCH_ITEMS, MAX_LISTED_ERRORS};

const URI: &str = "/executions:batch";

fn post(service: &Service, executions: &Value) -> Answer {
    service.post(URI, &json!({"executions": executions}).to_string())
}

/// As many executions as that, told apart by a label.
fn some(items: usize) -> Value {
    let one = |n: usize| json!({"script": "true", "labels": {"n": n.to_string()}});
    (0..items).map(one).collect()
}

fn count(service: &Service) -> i64 {
    let sql = "SELECT count(*) FROM executions";
    let row = service
        .sqlite
        .connection()
        .query_row(sql, [], |row| row.get(0));
    row.expect("it counts")
}

/// The pointers of a refusal.
fn pointers(answer: &Answer) -> Vec<String> {
    let problem = answer.json();
    let errors = problem["errors"].as_array().expect("errors").iter();
    errors
        .map(|error| error["pointer"].as_str().expect("a pointer").to_owned())
        .collect()
}

#[test]
fn each_has_the_answer_of_a_single_one_in_order() {
    let service = Service::default();
    let answer = post(&service, &some(4));
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("location"), None);
    let body = answer.json();
    let results = body["executions"].as_array().expect("results");
    assert_eq!(results.len(), 4);
    let single = service.post("/executions", SMALLEST).json();
    for (n, result) in results.iter().enumerate() {
        let names = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .expect("an object")
                .keys()
                .cloned()
                .collect()
        };
        assert_eq!(names(result), names(&single));
        assert_eq!(result["labels"]["n"], n.to_string(), "in its order");
        assert_eq!(result["status"], "QUEUED");
        assert_eq!(
            result["dispatchedAt"].is_string(),
            n < 2,
            "there is room for two"
        );
        assert_eq!(result["queuePosition"], json!(null));
        let id = result["id"].as_str().expect("an id");
        let mut shown = service.get(&format!("/executions/{id}")).json();
        assert_eq!(
            shown["queuePosition"],
            if n < 2 { json!(null) } else { json!(n - 1) }
        );
        shown["queuePosition"] = json!(null);
        assert_eq!(&shown, result);
    }
    let afterwards = answer.afterwards.expect("Jobs to create");
    let ids: Vec<_> = afterwards
        .accepted()
        .iter()
        .map(|(e, _)| e.id.to_string())
        .collect();
    assert_eq!(
        ids,
        [results[0]["id"].as_str(), results[1]["id"].as_str()].map(|id| id.expect("an id"))
    );
    futures::executor::block_on(afterwards.run(&service.app));
}

#[test]
fn one_invalid_item_refuses_all_and_every_error_is_told() {
    let service = Service::default();
    let answer = post(
        &service,
        &json!([
            {"script": "true"},
            {"script": " ", "scirpt": 1},
            7,
            {"env": {"A/B": "x"}, "timeouts": {"runSeconds": 0}},
            {"script": "true", "idempotencyKey": "k", "files": {"a~b/": 1}},
        ]),
    );
    answer.is_problem(422, "validation", "did you mean `script`?");
    assert_eq!(
        pointers(&answer),
        [
            "/executions/1/scirpt",
            "/executions/1/script",
            "/executions/2",
            "/executions/3/script",
            "/executions/3/env/A~1B",
            "/executions/3/timeouts/runSeconds",
            "/executions/4/idempotencyKey",
            "/executions/4/files/a~0b~1",
            "/executions/4/files/a~0b~1",
        ]
    );
    let many: Value = (0..MAX_BATCH_ITEMS).map(|_| json!({})).collect();
    let answer = post(&service, &many);
    answer.is_problem(422, "validation", "500 errors");
    assert_eq!(pointers(&answer).len(), MAX_LISTED_ERRORS + 1);
    assert!(answer.text().contains("has 400 more errors"));
    service.get("/executions");
    assert_eq!(count(&service), 0, "nothing was accepted");
}

#[test]
fn the_largest_number_is_taken_and_no_more() {
    let service = Service::with("max_running", "1000");
    let answer = post(&service, &some(MAX_BATCH_ITEMS + 1));
    answer.is_problem(422, "validation", "501 executions; 1 to 500");
    assert_eq!(pointers(&answer), ["/executions"]);
    let answer = post(&service, &some(MAX_BATCH_ITEMS));
    assert_eq!(answer.status, 201);
    assert_eq!(count(&service), 500);
    let afterwards = answer.afterwards.expect("Jobs to create");
    assert_eq!(
        afterwards.accepted().len(),
        100,
        "the tick creates the others"
    );
}

#[test]
fn a_batch_may_be_as_large_as_its_own_limit() {
    let service = Service::default();
    let send = |bytes: usize| {
        let piece = Bytes::from(vec![b' '; bytes]);
        let read = Rc::new(Cell::new(0));
        let body = Upload {
            pieces: [
                piece,
                Bytes::from_static(br#"{"executions":[{"script":"true"}]}"#),
            ]
            .into(),
            breaks: false,
            read,
        };
        service.send_body(Request::post(URI).body(body).expect("a request"))
    };
    let rest = br#"{"executions":[{"script":"true"}]}"#.len();
    send(MAX_BATCH_BODY_BYTES + 1 - rest).is_problem(
        413,
        "body-too-large",
        &MAX_BATCH_BODY_BYTES.to_string(),
    );
    assert_eq!(send(MAX_BATCH_BODY_BYTES - rest).status, 201);
}

#[test]
fn a_key_is_good_for_one_batch() {
    let service = Service::default();
    let send = |uri: &str, body: &str| service.send("POST", uri, &[("idempotency-key", "k")], body);
    let body = json!({"executions": some(3)}).to_string();
    let first = send(URI, &body);
    assert_eq!(
        (first.status, first.header("idempotent-replayed")),
        (201, None)
    );
    let ids = |answer: &Answer| -> Vec<Value> {
        let body = answer.json();
        let results = body["executions"].as_array().expect("results").iter();
        results.map(|result| result["id"].clone()).collect()
    };
    // Another spelling of the same JSON is the same batch.
    let again = send(URI, &body.replace(':', " : "));
    assert_eq!(
        (again.status, again.header("idempotent-replayed")),
        (200, Some("true"))
    );
    assert!(again.afterwards.is_none());
    assert_eq!(ids(&again), ids(&first));
    for (uri, body) in [
        (URI, json!({"executions": some(2)}).to_string()),
        ("/executions", SMALLEST.to_owned()),
    ] {
        let conflict = send(uri, &body);
        conflict.is_problem(409, "idempotency-conflict", "another body");
        assert_eq!(conflict.json()["executionId"], ids(&first)[0]);
    }
    assert_eq!(count(&service), 3);
    // What was deleted since has no result.
    let gone = ids(&first)[1].as_str().expect("an id").to_owned();
    let delete = "DELETE FROM executions WHERE id = ?1";
    let deleted = service.sqlite.connection().execute(delete, [&gone]);
    assert_eq!(deleted, Ok(1));
    let again = send(URI, &body).json();
    assert_eq!(again["executions"][0]["id"], ids(&first)[0]);
    assert_eq!(again["executions"][1], json!(null));
    assert_eq!(again["executions"][2]["id"], ids(&first)[2]);
}
