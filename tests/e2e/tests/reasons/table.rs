//! One row for each cause, and the comparison with what came of it.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::{Client, Stack, not_applicable, wait_for};
use serde_json::{Value, json};

use crate::record::Recorder;

/// A container on two busy cores starts within this.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// What every script that runs on prints first.
pub const BEGUN: &str = "begun\n";

/// A reason, and what it says about outcome, fault and trying again: the contract, written down once more.
const REASONS: [(&str, &str, Option<&str>, bool); 18] = [
    ("Completed", "SUCCEEDED", None, false),
    ("NonZeroExit", "FAILED", Some("script"), false),
    ("OOMKilled", "FAILED", Some("script"), false),
    ("Signaled", "FAILED", Some("script"), false),
    ("RunTimeout", "FAILED", Some("script"), false),
    ("EphemeralStorageExceeded", "FAILED", Some("script"), false),
    ("ImageUnavailable", "ERROR", Some("request"), false),
    ("Unschedulable", "ERROR", Some("cluster"), true),
    ("InvalidSpec", "ERROR", Some("request"), false),
    ("QuotaExceeded", "ERROR", Some("cluster"), true),
    ("AdmissionDenied", "ERROR", Some("cluster"), false),
    ("QueueTimeout", "ERROR", Some("cluster"), true),
    ("StartTimeout", "ERROR", Some("cluster"), true),
    ("Evicted", "ERROR", Some("cluster"), true),
    ("NodeLost", "ERROR", Some("cluster"), false),
    ("JobDeleted", "ERROR", Some("cluster"), false),
    ("Lost", "ERROR", Some("platform"), false),
    ("CanceledByCaller", "CANCELED", None, false),
];

/// A cause, and what must come of it.
pub struct Case {
    /// In a few words; also the fixture's name.
    pub cause: &'static str,
    /// What is submitted.
    pub request: Value,
    /// What is done to it once it has printed [`BEGUN`].
    pub then: Option<fn(&Stack, &str)>,
    /// Why the embedded cluster has no such cause.
    pub only_real: Option<&'static str>,
    /// `reason` of the answer.
    pub reason: &'static str,
    /// What its message must have.
    pub words: &'static [&'static str],
    /// What must be left of the log.
    pub log: Kept,
    /// From the submission, or from what is done to it.
    pub within: Duration,
}

/// What must be left of a log.
pub enum Kept {
    /// All of it, and known to be all.
    Whole(&'static str),
    /// All that was written; whether that is all may not be known.
    Text(&'static str),
    /// Nothing more than this, and where something is missing, that is said.
    AtMost(&'static str),
}

/// A case of few words; the rest is filled in by its author.
pub fn case(cause: &'static str, reason: &'static str, request: Value) -> Case {
    Case {
        cause,
        request,
        then: None,
        only_real: None,
        reason,
        words: &[],
        log: Kept::Whole(""),
        within: Duration::from_secs(60),
    }
}

/// A small script, with more fields of the request.
pub fn small(script: &str, more: Value) -> Value {
    let mut request = json!({
        "script": script,
        "resources": { "cpu": "10m", "memory": "16Mi" },
        "timeouts": { "graceSeconds": 2 },
    });
    merge(&mut request, more);
    request
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A script that runs until it is ended.
pub fn endless() -> Value {
    small("echo begun; sleep 1000", json!({}))
}

/// Waits until the first tick has listed what there is, and follows it: of a pod that goes while nobody looks, no more can
/// be told than that it is gone.
pub fn is_at_work(stack: &Stack) {
    let client = stack.client();
    let id = client.submit(&small("true", json!({})));
    client.finished(&id, STARTS_WITHIN);
}

/// Waits until the script has printed its first line, and Executor has seen it run.
pub fn wait_until_begun(client: &Client, id: &str) {
    wait_for("the script's first line", STARTS_WITHIN, || {
        (client.log(id) == BEGUN.as_bytes()).then_some(())
    });
    wait_for("the script to be seen", STARTS_WITHIN, || {
        (client.execution(id)["status"] == "RUNNING").then_some(())
    });
}

/// Waits for one and checks it; gives what is wrong.
pub fn check(client: &Client, case: &Case, id: &str, since: Instant) -> Vec<String> {
    let execution = match client.try_finished(id, case.within) {
        Ok(execution) => execution,
        Err(e) => return vec![e],
    };
    println!(
        "{:6.1} s  {}: {} {}",
        since.elapsed().as_secs_f64(),
        case.cause,
        execution["reason"],
        execution["message"]
    );
    let row = REASONS.iter().find(|row| row.0 == case.reason);
    let (reason, outcome, fault, retryable) = row.expect("a reason of the contract");
    let mut wrong = Vec::new();
    for (field, expected) in [
        ("reason", json!(reason)),
        ("outcome", json!(outcome)),
        ("fault", json!(fault)),
        ("retryable", json!(retryable)),
    ] {
        if execution[field] != expected {
            wrong.push(format!(
                "{field} is {}, expected {expected}",
                execution[field]
            ));
        }
    }
    let message = execution["message"].as_str().unwrap_or_default();
    for words in case.words.iter().filter(|words| !message.contains(**words)) {
        wrong.push(format!("the message lacks {words:?}: {message:?}"));
    }
    let log = String::from_utf8_lossy(&client.log(id)).into_owned();
    let complete = execution["log"]["complete"] == true;
    let kept = match case.log {
        Kept::Whole(text) => log == text && complete,
        Kept::Text(text) => log == text,
        Kept::AtMost(text) => text.starts_with(&log) && (log == text || !complete),
    };
    if !kept {
        wrong.push(format!("the log is {log:?}, {}", execution["log"]));
    }
    wrong
}

/// Plays all of them at once.
///
/// # Panics
/// When one did not end as expected, with all that did not.
pub fn play(stack: &Stack, cases: &[Case]) {
    let recorder = Recorder::start(stack);
    is_at_work(stack);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for case in cases {
            if let (Some(why), false) = (case.only_real, stack.is_real()) {
                not_applicable(&format!("{} on the embedded cluster", case.cause), why);
                continue;
            }
            let (wrong, recorder) = (&wrong, &recorder);
            scope.spawn(move || {
                let client = stack.client();
                let mut since = Instant::now();
                let id = client.submit(&case.request);
                if let Some(then) = case.then {
                    wait_until_begun(&client, &id);
                    since = Instant::now();
                    then(stack, &id);
                }
                let found = check(&client, case, &id, since);
                if found.is_empty() {
                    recorder.keep(case, &id);
                } else {
                    let mut wrong = wrong.lock().expect("no check panics");
                    wrong.push(format!("{} ({id}): {found:#?}", case.cause));
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no check panics");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
