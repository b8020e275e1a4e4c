//! Bad input of every kind gets the right 4xx problem, and the service goes on.

mod bodies;
mod fields;
mod http;
mod queries;
mod reserved;

use std::time::Duration;

use e2e::{Answer, Shared, Stack};
use serde_json::json;

/// All tables together have at least so many cases.
const CASES_AT_LEAST: usize = 70;

/// The parts of a problem that every one must have, beside its status.
const PROBLEM_TEXTS: [&str; 4] = ["type", "title", "detail", "instance"];

fn shared() -> Shared {
    Stack::shared()
}

/// Whether the answer is a problem with one of these statuses, whose words name all of `mentions`.
fn check_problem(answer: &Answer, statuses: &[u16], mentions: &[&str]) -> Result<(), String> {
    let text = answer.text();
    if !statuses.contains(&answer.status) {
        return Err(format!(
            "answers {}, expected {statuses:?}: {text}",
            answer.status
        ));
    }
    if answer.header("content-type") != Some("application/problem+json") {
        return Err(format!(
            "content-type is {:?}: {text}",
            answer.header("content-type")
        ));
    }
    let Ok(problem) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
        return Err(format!("is no JSON: {text}"));
    };
    for part in PROBLEM_TEXTS {
        if problem[part].as_str().is_none_or(str::is_empty) {
            return Err(format!("has no {part}: {text}"));
        }
    }
    if problem["status"] != answer.status {
        return Err(format!(
            "says status {}, is {}",
            problem["status"], answer.status
        ));
    }
    let words = format!("{}{}", problem["detail"], problem["errors"]);
    match mentions.iter().find(|mention| !words.contains(**mention)) {
        Some(missing) => Err(format!("does not mention {missing:?}: {text}")),
        None => Ok(()),
    }
}

/// Prints and counts what went wrong in one table, then lets the service prove that it goes on.
#[track_caller]
fn finish(table: &str, cases: usize, wrong: &[String]) {
    println!("{table}: {cases} cases");
    for line in wrong {
        println!("  {line}");
    }
    let answer = shared().client().post_with(
        "/executions?wait=30",
        &[],
        &json!({ "script": "echo still here; exit 6", "resources": { "cpu": "10m" } }),
    );
    let answer = answer.expect(201);
    assert_eq!(
        answer.json()["exitCode"],
        6,
        "the service goes on: {}",
        answer.text()
    );
    assert!(
        wrong.is_empty(),
        "{table}: {} of {cases} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn there_are_enough_cases() {
    let count = fields::invalid().len()
        + bodies::malformed().len()
        + http::cases().len()
        + queries::cases().len()
        + reserved::cases().len();
    assert!(count >= CASES_AT_LEAST, "only {count} cases");
}

#[test]
fn memory_and_time_stay_bounded_under_many_large_bodies() {
    // Twenty bodies of 20 MB at a time would be 400 MB if they were all kept.
    const LARGE: usize = 20_000_000;
    let stack = shared();
    let body = vec![b'x'; LARGE];
    let authority = stack.client().authority().to_owned();
    let started = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let request = e2e::raw::post(&[], &body);
                let answer = e2e::raw::exchange(&authority, &request, false);
                assert_eq!(answer.map(|a| a.status), Some(413));
            });
        }
    });
    assert!(
        started.elapsed() < Duration::from_secs(60),
        "{:?}",
        started.elapsed()
    );
}
