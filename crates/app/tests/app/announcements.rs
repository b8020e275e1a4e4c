//! Kubernetes Events: what the cluster is told of a Job, and that nothing waits for it.

use app::Caller;
use domain::{ExecutionId, Reason};
use serde_json::json;

use crate::support::{Bench, Effect, refusal, retried_submission, submission};

/// Type, reason and message of what we told of its Jobs, in the order of their names.
fn told(bench: &Bench, id: ExecutionId) -> Vec<(String, String, String)> {
    let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let events = bench.world.list("events").into_iter();
    let ours = events.filter(|event| event["source"]["component"] == "executor");
    let mut all: Vec<_> = ours
        .filter(|event| text(&event["involvedObject"]["name"]).contains(&id.to_string()))
        .map(|event| {
            assert!(event["involvedObject"]["uid"].is_string());
            let name = text(&event["metadata"]["name"]);
            let of = (text(&event["type"]), text(&event["reason"]));
            (name, (of.0, of.1, text(&event["message"])))
        })
        .collect();
    all.sort();
    all.into_iter().map(|(_, event)| event).collect()
}

fn reasons(bench: &Bench, id: ExecutionId) -> Vec<String> {
    told(bench, id)
        .into_iter()
        .map(|(_, reason, _)| reason)
        .collect()
}

#[test]
fn an_ordinary_life_is_told_where_all_is_to_be_and_costs_nothing_otherwise() {
    for (steps, expected) in [
        ("none", &[][..]),
        ("notable", &[]),
        ("all", &["JobCreated", "Started", "Finished"]),
    ] {
        let mut bench = Bench::new();
        bench.announce(steps);
        bench.script(700, 0, "hello\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(9);
        bench.assert_ran_once(id, "hello\n");
        assert_eq!(reasons(&bench, id), expected, "{steps}");
        assert_eq!(bench.world.count("POST events"), expected.len(), "{steps}");
        for (kind, reason, message) in told(&bench, id) {
            assert_eq!(kind, "Normal");
            match reason.as_str() {
                "JobCreated" => {
                    let whose =
                        format!("the execution {id} of the tenant default, submitted by local");
                    assert!(message.contains(&whose), "{message}");
                }
                "Finished" => {
                    assert!(message.starts_with("SUCCEEDED (Completed)"), "{message}");
                    assert!(
                        message.contains("its log of 6 bytes is stored"),
                        "{message}"
                    );
                }
                _ => {}
            }
        }
    }
}

#[test]
fn bad_ends_and_attempts_are_told_as_warnings() {
    let mut bench = Bench::new();
    bench.announce("notable");
    bench.attempts(&[(500, 3, "no\n"), (500, 4, "no\n")]);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(9);
    bench.tick(9);
    assert_eq!(bench.finished(id).1, Reason::NonZeroExit);
    let all = told(&bench, id);
    let has = |kind: &str, reason: &str, part: &str| {
        let found = all
            .iter()
            .any(|(k, r, message)| k == kind && r == reason && message.contains(part));
        assert!(found, "{kind} {reason} {part}: {all:?}");
    };
    has("Warning", "AttemptEnded", "FAILED (NonZeroExit)");
    has("Normal", "RetryScheduled", "");
    has("Warning", "Finished", "FAILED (NonZeroExit)");
    assert_eq!(all.len(), 3, "{all:?}");
}

#[test]
fn who_canceled_it_is_told() {
    let mut bench = Bench::new();
    bench.announce("notable");
    bench.script(60_000, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(3);
    let app = bench.app();
    let canceled = bench.world.run(app.cancel(&Caller::local(), id));
    canceled.expect("the store answers");
    bench.world.run(app.carry_out_cancel(id));
    assert_eq!(bench.finished(id).1, Reason::CanceledByCaller);
    assert_eq!(
        reasons(&bench, id),
        ["CancelRequested", "Stopping", "Finished"]
    );
    assert!(told(&bench, id)[0].2.ends_with(", by local"));
}

#[test]
fn what_is_told_twice_or_refused_changes_nothing() {
    let conflict = refusal(409, "AlreadyExists", "events \"x\" already exists");
    let forbidden = refusal(
        403,
        "Forbidden",
        "events is forbidden: cannot create resource \"events\"",
    );
    let busy = refusal(429, "TooManyRequests", "too many requests");
    for (effect, most) in [
        (conflict, 3),
        // Then this instance sends none for a while.
        (forbidden, 2),
        (busy, 2),
        (Effect::Vanished, 2),
        (Effect::Slow(3600), 3),
    ] {
        let mut bench = Bench::new();
        bench.announce("all");
        bench.script(700, 0, "hello\n");
        bench.world.fault("POST events", u32::MAX, effect);
        let id = bench.submit_and_dispatch(&submission());
        let report = bench.tick(9);
        assert_eq!((report.finished, report.failures), (1, 0));
        bench.assert_ran_once(id, "hello\n");
        let sent = bench.world.count("POST events");
        assert!((1..=most).contains(&sent), "{sent}");
        assert_eq!(told(&bench, id), []);
    }
}

#[test]
fn our_own_words_do_not_explain_why_it_waits() {
    let mut bench = Bench::new();
    bench.announce("all");
    bench
        .world
        .script
        .replace(json!({"startMs": 8_000, "runMs": 100}));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(9);
    bench.tick(2);
    bench.assert_ran_once(id, "");
    assert!(bench.world.count("LIST events") > 0, "it was asked why");
    let story = bench.kinds(id);
    assert!(story.contains(&"SuccessfulCreate".to_owned()), "{story:?}");
    let created = story.iter().filter(|kind| *kind == "JobCreated");
    assert_eq!(created.count(), 1, "{story:?}");
}
