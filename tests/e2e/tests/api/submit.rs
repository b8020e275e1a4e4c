//! `POST /executions` and `GET /executions/{id}`.

use std::time::{Duration, Instant};

use e2e::{Answer, Client};
use serde_json::{Value, json};

use crate::{ENDS_WITHIN, shared, unique};

/// Every field of an execution that the contract names.
const FIELDS: [&str; 19] = [
    "id",
    "status",
    "outcome",
    "createdAt",
    "reason",
    "fault",
    "retryable",
    "message",
    "exitCode",
    "signal",
    "waitingFor",
    "dispatchedAt",
    "startedAt",
    "finishedAt",
    "durations",
    "labels",
    "image",
    "resources",
    "log",
];

#[track_caller]
fn is_utc_with_microseconds(time: &Value) {
    let text = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let fraction = text.strip_suffix('Z').and_then(|t| t.split_once('.'));
    let digits = fraction.map_or("", |(_, digits)| digits);
    assert!(
        digits.len() == 6 && digits.bytes().all(|b| b.is_ascii_digit()),
        "{text} is not UTC with microseconds"
    );
}

#[test]
fn the_smallest_request_gets_the_smallest_answer() {
    let stack = shared();
    let body = r#"{"script":"echo Hello && sleep 1 && echo Done","resources":{"cpu":"250m","memory":"128Mi"}}"#;
    for content_type in [
        Some("application/json"),
        Some("application/json; charset=utf-8"),
        Some("application/x-www-form-urlencoded"),
        None,
    ] {
        let headers: Vec<_> = content_type
            .map(|c| ("content-type", c))
            .into_iter()
            .collect();
        let answer = stack
            .client()
            .send("POST", "/executions", &headers, Some(body.as_bytes()))
            .unwrap_or_else(|e| panic!("{e}"))
            .expect(201);
        assert_eq!(answer.json()["status"], "QUEUED", "{content_type:?}");
        let id = answer.id();
        assert_eq!(id.as_bytes().get(14), Some(&b'7'), "{id} is a UUID v7");
        assert_eq!(
            answer.header("location"),
            Some(&*format!("/executions/{id}"))
        );
        assert!(
            answer
                .header("content-type")
                .is_some_and(|t| t.starts_with("application/json"))
        );
    }
}

#[test]
fn resources_are_optional_and_their_defaults_are_shown() {
    let stack = shared();
    let answer = stack
        .client()
        .post_with("/executions", &[], &json!({ "script": "true" }));
    let execution = answer.expect(201).json();
    assert_eq!(execution["resources"]["cpu"], "500m", "{execution}");
    assert_eq!(execution["resources"]["memory"], "256Mi", "{execution}");
}

#[test]
fn an_execution_has_every_field_from_the_start_to_the_end() {
    let stack = shared();
    let client = stack.client();
    let body = json!({ "script": "sleep 1; exit 3", "labels": { "team": "fields" } });
    let queued = client
        .post_with("/executions", &[], &body)
        .expect(201)
        .json();
    for field in FIELDS {
        assert!(queued.get(field).is_some(), "{field} is missing: {queued}");
    }
    assert_eq!(queued["status"], "QUEUED");
    for field in [
        "outcome",
        "reason",
        "exitCode",
        "signal",
        "startedAt",
        "finishedAt",
    ] {
        assert!(queued[field].is_null(), "{field} before the end: {queued}");
    }
    is_utc_with_microseconds(&queued["createdAt"]);
    assert_eq!(queued["labels"], json!({ "team": "fields" }));

    let id = queued["id"].as_str().expect("an id");
    let end = client.finished(id, ENDS_WITHIN);
    for field in FIELDS {
        assert!(end.get(field).is_some(), "{field} is missing: {end}");
    }
    assert_eq!(end["outcome"], "FAILED", "{end}");
    assert_eq!(end["reason"], "NonZeroExit");
    assert_eq!(end["fault"], "script");
    assert_eq!(end["retryable"], false);
    assert_eq!(end["exitCode"], 3);
    assert!(
        end["signal"].is_null() && end["waitingFor"].is_null(),
        "{end}"
    );
    assert!(
        end["message"].as_str().is_some_and(|m| m.contains('3')),
        "{end}"
    );
    assert_eq!(
        end["log"],
        json!({ "bytes": 0, "lostBytes": 0, "complete": true })
    );
    let times = ["createdAt", "dispatchedAt", "startedAt", "finishedAt"];
    for pair in times.windows(2) {
        is_utc_with_microseconds(&end[pair[1]]);
        // The text form sorts as the times do, since all have the same length.
        assert!(
            end[pair[0]].as_str() <= end[pair[1]].as_str(),
            "{pair:?} {end}"
        );
    }
    let ran = end["durations"]["runSeconds"].as_f64().unwrap_or_default();
    assert!((0.5..20.0).contains(&ran), "{end}");
    for clock in ["queueSeconds", "startSeconds"] {
        assert!(
            end["durations"][clock].as_f64().is_some_and(|s| s >= 0.0),
            "{end}"
        );
    }
    assert_eq!(client.execution(id), end, "the end never changes");
}

#[test]
fn waiting_by_query_and_by_header() {
    let stack = shared();
    let client = stack.client();
    let quick = json!({ "script": "exit 4" });
    let by_query = client
        .post_with("/executions?wait=30", &[], &quick)
        .expect(201);
    assert_eq!(by_query.json()["status"], "FINISHED", "{}", by_query.text());
    assert_eq!(by_query.json()["exitCode"], 4);
    let by_header = client
        .post_with("/executions", &[("prefer", "wait=30")], &quick)
        .expect(201);
    assert_eq!(
        by_header.json()["status"],
        "FINISHED",
        "{}",
        by_header.text()
    );
    let applied = by_header.header("preference-applied");
    assert!(
        applied.is_some_and(|a| a.contains("wait=30")),
        "{applied:?}"
    );

    let id = client.submit(&json!({ "script": "sleep 3; exit 5" }));
    let end = client
        .get_with(&format!("/executions/{id}"), &[("prefer", "wait=40")])
        .expect(200);
    assert_eq!(end.json()["status"], "FINISHED", "{}", end.text());
    assert!(
        end.header("preference-applied")
            .is_some_and(|a| a.contains("wait=40"))
    );
}

#[test]
fn a_wait_that_runs_out_answers_with_what_is() {
    let stack = shared();
    let client = stack.client();
    let started = Instant::now();
    let answer = client.post_with("/executions?wait=1", &[], &json!({ "script": "sleep 6" }));
    let answer = answer.expect(201);
    assert_ne!(answer.json()["status"], "FINISHED", "{}", answer.text());
    let took = started.elapsed();
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(4)).contains(&took),
        "{took:?}"
    );
    let zero = client
        .get(&format!("/executions/{}?wait=0", answer.id()))
        .expect(200);
    assert_ne!(zero.json()["status"], "FINISHED", "{}", zero.text());
}

#[test]
fn etags_tell_what_is_known_already() {
    let stack = shared();
    let client = stack.client();
    let id = client.submit(&json!({ "script": "sleep 2" }));
    let path = format!("/executions/{id}");
    let first = client.get(&path).expect(200);
    let early = first.header("etag").unwrap_or_default().to_owned();
    assert!(
        early.starts_with("W/\"") && early.ends_with('"'),
        "{early:?} is a weak tag"
    );
    client.finished(&id, ENDS_WITHIN);
    let last = client
        .get_with(&path, &[("if-none-match", &early)])
        .expect(200);
    let late = last.header("etag").unwrap_or_default().to_owned();
    assert_ne!(early, late, "the generation moved on");
    for known in [late.clone(), format!("\"x\", {late}"), "*".to_owned()] {
        let answer = client
            .get_with(&path, &[("if-none-match", &known)])
            .expect(304);
        assert!(answer.body.is_empty(), "{}", answer.text());
        assert_eq!(answer.header("etag"), Some(&*late));
    }
}

fn keyed(client: &Client, key: &str, body: &Value) -> Answer {
    client.post_with("/executions", &[("idempotency-key", key)], body)
}

#[test]
fn an_idempotency_key_names_one_execution() {
    let stack = shared();
    let client = stack.client();
    let key = unique("key");
    let first = keyed(
        &client,
        &key,
        &json!({ "script": "exit 7", "labels": { "a": "1" } }),
    )
    .expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    // Not the bytes count but what they say.
    let text = r#"{ "labels": {"a":"1"}, "script": "exit 7" }"#;
    let headers = [
        ("idempotency-key", key.as_str()),
        ("content-type", "application/json"),
    ];
    let again = client
        .send("POST", "/executions", &headers, Some(text.as_bytes()))
        .unwrap_or_else(|e| panic!("{e}"))
        .expect(200);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.id(), first.id());
    let other = keyed(&client, &key, &json!({ "script": "exit 8" })).expect(409);
    assert_eq!(
        other.header("content-type"),
        Some("application/problem+json"),
        "{}",
        other.text()
    );
    client.finished(&first.id(), ENDS_WITHIN);
    let after = keyed(
        &client,
        &key,
        &json!({ "script": "exit 7", "labels": { "a": "1" } }),
    )
    .expect(200);
    assert_eq!(
        after.json()["exitCode"],
        7,
        "a replay shows the execution as it is"
    );
}

#[test]
fn one_key_from_many_callers_at_once_names_one_execution() {
    const CALLERS: usize = 8;
    let stack = shared();
    let key = unique("race");
    let body = json!({ "script": "true" });
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| scope.spawn(|| keyed(&stack.client(), &key, &body)))
            .collect();
        callers
            .into_iter()
            .map(|c| c.join().expect("an answer"))
            .collect()
    });
    let ids: std::collections::BTreeSet<String> = answers.iter().map(Answer::id).collect();
    let created = answers.iter().filter(|a| a.status == 201).count();
    let replayed = answers.iter().filter(|a| a.status == 200).count();
    assert_eq!((ids.len(), created, replayed), (1, 1, CALLERS - 1));
}
