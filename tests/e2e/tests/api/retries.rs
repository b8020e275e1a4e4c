//! `retry`: attempts one after the other, each with its own end and log.

use serde_json::{Value, json};

use crate::{ENDS_WITHIN, shared};

fn outcomes(execution: &Value) -> Vec<(u64, String)> {
    let attempts = execution["attempts"].as_array().expect("attempts");
    let told = attempts.iter().map(|attempt| {
        let outcome = attempt["outcome"].as_str().unwrap_or_default();
        (attempt["attempt"].as_u64().unwrap_or(0), outcome.to_owned())
    });
    told.collect()
}

#[test]
fn a_script_that_fails_twice_succeeds_at_its_third_attempt() {
    let stack = shared();
    let client = stack.client();
    let script =
        "echo attempt $EXECUTOR_ATTEMPT of $EXECUTOR_ID; [ $EXECUTOR_ATTEMPT -ge 3 ] || exit 7";
    let id = client.submit(&json!({
        "script": script, "retry": {"limit": 5, "on": ["FAILED"]}
    }));
    let execution = client.finished(&id, ENDS_WITHIN);
    assert_eq!(execution["outcome"], "SUCCEEDED", "{execution}");
    let expected = [(1, "FAILED"), (2, "FAILED"), (3, "SUCCEEDED")];
    let expected = expected.map(|(attempt, outcome)| (attempt, outcome.to_owned()));
    assert_eq!(outcomes(&execution), expected, "{execution}");
    for attempt in &execution["attempts"].as_array().expect("attempts")[..2] {
        assert_eq!(attempt["exitCode"], 7, "{execution}");
    }
    for attempt in 1..=3 {
        let path = format!("/executions/{id}/logs?attempt={attempt}");
        let log = client.get(&path).expect(200).text();
        assert_eq!(log, format!("attempt {attempt} of {id}\n"));
    }
    let log = client.get(&format!("/executions/{id}/logs")).expect(200);
    assert_eq!(log.text(), format!("attempt 3 of {id}\n"));
    client
        .get(&format!("/executions/{id}/logs?attempt=4"))
        .expect(404);
}

#[test]
fn a_failure_is_no_error_and_is_retried_only_where_that_is_asked_for() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "exit 7", "retry": {"limit": 2} }));
    let execution = client.finished(&id, ENDS_WITHIN);
    assert_eq!(outcomes(&execution), [(1, "FAILED".to_owned())]);
}
