//! What a submission may say about how it is queued, ended, tried again and kept.

use domain::{Outcome, Retry};
use serde_json::json;

use super::submission::{check, check_field, submit};
use crate::limits::*;

#[test]
fn timeouts_are_refused() {
    check_field("timeouts", json!(600), "/timeouts", "must be an object");
    for (name, value, detail) in [
        ("queueSeconds", json!(0), "from 1 to 604800"),
        ("queueSeconds", json!(604_801), "from 1 to 604800"),
        ("startSeconds", json!("300"), "whole number"),
        ("startSeconds", json!(86_401), "from 1 to 86400"),
        ("runSeconds", json!(-1), "from 1 to 604800"),
        ("runSeconds", json!(1.5), "whole number"),
        ("runSeconds", json!(1e3), "whole number"),
        (
            "runSeconds",
            json!(18_446_744_073_709_551_615_u64),
            "whole number",
        ),
        ("runSeconds", json!([1]), "whole number"),
        ("graceSeconds", json!(3_601), "from 0 to 3600"),
        ("graceSeconds", json!(false), "whole number"),
        ("runseconds", json!(1), "did you mean `runSeconds`?"),
        ("run", json!(1), "did you mean `runSeconds`?"),
        ("idleSeconds", json!(1), "no known field"),
    ] {
        check_field(
            "timeouts",
            json!({name: value}),
            &format!("/timeouts/{name}"),
            detail,
        );
    }
}

#[test]
fn labels_are_refused() {
    check_field("labels", json!("a=b"), "/labels", "must be an object");
    for (name, value, detail) in [
        ("a", json!(1), "must be a string"),
        ("a", json!(null), "not null"),
        ("", json!("x"), "visible characters"),
        ("a b", json!("x"), "visible characters"),
        ("a=b", json!("x"), "without `=`"),
        ("a", json!("\u{7}"), "control characters"),
        (
            "a",
            json!("v".repeat(MAX_LABEL_VALUE_CHARS + 1)),
            "at most 256",
        ),
    ] {
        check_field(
            "labels",
            json!({name: value}),
            &format!("/labels/{name}"),
            detail,
        );
    }
    let many: serde_json::Map<_, _> = (0..=MAX_LABELS)
        .map(|i| (format!("l{i}"), json!("")))
        .collect();
    check_field("labels", many.into(), "/labels", "at most 16");
}

#[test]
fn records_are_kept_as_long_as_asked_for_or_configured() {
    for (value, seconds) in [
        (json!(null), 3600),
        (json!(0), 0),
        (json!(app::MAX_TTL_SECONDS), app::MAX_TTL_SECONDS),
    ] {
        let submission = submit(json!({"script": "true", "ttlSeconds": value})).expect("valid");
        assert_eq!(submission.ttl_seconds, seconds);
    }
    for wrong in [
        json!(-1),
        json!(app::MAX_TTL_SECONDS + 1),
        json!("1"),
        json!(1.5),
    ] {
        check_field(
            "ttlSeconds",
            wrong,
            "/ttlSeconds",
            "whole number of seconds from 0 to",
        );
    }
}

#[test]
fn priorities_reach_as_far_up_as_down() {
    for priority in [-MAX_PRIORITY, -1, 0, 1, MAX_PRIORITY] {
        let submission = submit(json!({"script": "true", "priority": priority})).expect("valid");
        assert_eq!(submission.priority, priority);
    }
    let absent = submit(json!({"script": "true", "priority": null})).expect("valid");
    assert_eq!(absent.priority, 0);
    for wrong in [
        json!(MAX_PRIORITY + 1),
        json!(-MAX_PRIORITY - 1),
        json!(u64::MAX),
        json!(0.5),
        json!("7"),
        json!([7]),
        json!(true),
    ] {
        check_field(
            "priority",
            wrong,
            "/priority",
            "whole number from -100 to 100",
        );
    }
}

#[test]
fn retries_are_off_unless_asked_for() {
    for (asked, expected) in [
        (json!(null), Retry::default()),
        (json!({}), Retry::default()),
        (json!({"limit": 0}), Retry::of(0, &[Outcome::Error])),
        (
            json!({"limit": MAX_RETRIES}),
            Retry::of(10, &[Outcome::Error]),
        ),
        (
            json!({"limit": 2, "on": ["FAILED"]}),
            Retry::of(2, &[Outcome::Failed]),
        ),
        (
            json!({"limit": 2, "on": ["FAILED", "ERROR"]}),
            Retry::of(2, &Retry::OUTCOMES),
        ),
    ] {
        let submission = submit(json!({"script": "true", "retry": asked})).expect("valid");
        assert_eq!(submission.retry, expected, "{asked}");
    }
}

#[test]
fn what_is_wrong_with_retries_is_told_at_once() {
    for (value, pointer, detail) in [
        (json!(3), "/retry", "must be an object, not a number"),
        (json!({"limit": 11}), "/retry/limit", "from 0 to 10"),
        (json!({"limit": 1.5}), "/retry/limit", "from 0 to 10"),
        (json!({"limit": "2"}), "/retry/limit", "from 0 to 10"),
        (json!({"limit": true}), "/retry/limit", "from 0 to 10"),
        (json!({"on": "ERROR"}), "/retry/on", "not a string"),
        (json!({"on": []}), "/retry/on", "at least one"),
        (
            json!({"on": ["ERROR", "FAILED", "ERROR"]}),
            "/retry/on",
            "at most 2",
        ),
        (
            json!({"on": ["ERROR", "ERROR"]}),
            "/retry/on/1",
            "more than once",
        ),
        (json!({"on": ["CANCELED"]}), "/retry/on/0", "`CANCELED`"),
        (json!({"on": ["error"]}), "/retry/on/0", "ERROR"),
        (json!({"on": [null]}), "/retry/on/0", "not null"),
        (json!({"limits": 2}), "/retry/limits", "`limit`"),
    ] {
        check_field("retry", value, pointer, detail);
    }
    let all = json!({"limit": -1, "on": ["SUCCEEDED", 7], "backoff": 1});
    check(
        json!({"script": "true", "retry": all}),
        &[
            ("/retry/limit", "from 0 to 10"),
            ("/retry/on/0", "`SUCCEEDED`"),
            ("/retry/on/1", "not a number"),
            ("/retry/backoff", "no known field"),
        ],
    );
}
