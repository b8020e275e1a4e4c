//! `POST /executions:batch` and `?dryRun=true`.

use e2e::Client;
use serde_json::{Value, json};

use crate::{ENDS_WITHIN, shared, unique};

/// The executions with that label, newest first.
fn labelled(client: &Client, label: &str) -> Vec<Value> {
    let page = client.get(&format!("/executions?label=test={label}&limit=200"));
    page.expect(200).json()["items"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[test]
fn a_batch_runs_and_is_accepted_once() {
    let stack = shared();
    let client = stack.client();
    let label = unique("batch");
    let item = |code: u32| json!({ "script": format!("exit {code}"), "labels": { "test": label }, "priority": 1 });
    let batch = json!({ "executions": (0..20).map(item).collect::<Vec<_>>() });
    let headers = [("idempotency-key", &*label)];
    let first = client
        .post_with("/executions:batch", &headers, &batch)
        .expect(201)
        .json();
    let results = first["executions"].as_array().expect("results");
    assert_eq!(results.len(), 20);
    for (code, result) in results.iter().enumerate() {
        let id = result["id"].as_str().expect("an id");
        let end = client.finished(id, ENDS_WITHIN);
        assert_eq!(end["exitCode"], code, "in the batch's order: {end}");
        assert_eq!(end["priority"], 1);
    }
    let again = client
        .post_with("/executions:batch", &headers, &batch)
        .expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let again = again.json();
    for (result, before) in again["executions"]
        .as_array()
        .expect("results")
        .iter()
        .zip(results)
    {
        assert_eq!(result["id"], before["id"]);
        assert_eq!(result["status"], "FINISHED");
    }
    let other = json!({ "executions": [item(0)] });
    client
        .post_with("/executions:batch", &headers, &other)
        .expect(409);
    assert_eq!(labelled(&client, &label).len(), 20);
}

#[test]
fn one_invalid_item_refuses_the_whole_batch() {
    let stack = shared();
    let client = stack.client();
    let label = unique("refused");
    let good = json!({ "script": "true", "labels": { "test": label } });
    let batch =
        json!({ "executions": [good, { "script": "" }, good, { "script": "true", "image": "?" }] });
    let refused = client
        .post_with("/executions:batch", &[], &batch)
        .expect(422)
        .json();
    let pointers: Vec<&str> = refused["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .filter_map(|error| error["pointer"].as_str())
        .collect();
    assert_eq!(pointers, ["/executions/1/script", "/executions/3/image"]);
    assert_eq!(labelled(&client, &label), Vec::<Value>::new());
}

#[test]
fn a_trial_shows_what_would_be_and_keeps_nothing() {
    let stack = shared();
    let client = stack.client();
    let label = unique("trial");
    // Small enough for the Job alone, and large enough for a ConfigMap.
    for script in [
        "exit 3".to_owned(),
        format!("exit 3\n#{}", "x".repeat(100_000)),
    ] {
        let body = json!({ "script": script, "labels": { "test": label } });
        let answer = client
            .post_with("/executions?dryRun=true", &[], &body)
            .expect(200);
        assert_eq!(answer.header("location"), None);
        let shown = answer.json();
        assert_eq!(
            (&shown["id"], &shown["status"]),
            (&json!(null), &json!("QUEUED"))
        );
        assert!(shown["resources"]["cpu"].is_string(), "{shown}");
    }
    assert_eq!(labelled(&client, &label), Vec::<Value>::new());
}
