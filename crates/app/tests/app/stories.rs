//! Timelines: every step with its time, and what only Kubernetes events tell.

use app::Caller;
use domain::{Execution, ExecutionId, Reason, Status, WaitingKind};
use serde_json::json;

use crate::support::{Bench, Effect, refusal, submission};

const QUOTA: &str = "Error creating: pods \"x-abcde\" is forbidden: exceeded quota: runs, requested: pods=1, used: pods=5, \
                     limited: pods=5";
const POLICY: &str = "Error creating: pods \"x-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": \
                      runAsNonRoot != true";

/// Kind, source and count of each line.
fn story(bench: &Bench, id: ExecutionId) -> Vec<(String, String, u32)> {
    let events = bench.world.run(bench.app().events(&Caller::local(), id));
    let events = events.expect("the store answers").expect("it is there");
    let line = |e: app::Event| (e.entry.kind, e.entry.source, e.entry.count);
    events.into_iter().map(line).collect()
}

/// A dispatched execution whose Job, by an event about it, has no pod: its real one is taken away, and so is all that
/// tells of it.
fn without_pod(bench: &Bench, message: &str, count: u32) -> ExecutionId {
    bench.world.script.replace(json!({"startMs": 600_000}));
    let mut asked = submission();
    asked.timeouts.start_seconds = 60;
    let id = bench.submit_and_dispatch(&asked);
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": []});
    bench
        .world
        .fault("LIST pods", u32::MAX, Effect::Answer(200, pods));
    // Nothing is watched, since the real cluster behind this has a pod.
    bench
        .world
        .fault("WATCH pods", u32::MAX, Effect::Slow(3600));
    let event = json!({"type": "Warning", "reason": "FailedCreate", "message": message, "count": count,
        "firstTimestamp": "2026-09-21T14:13:21Z", "lastTimestamp": "2026-09-21T14:13:25Z",
        "source": {"component": "job-controller"}});
    let events = json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": [event]});
    bench
        .world
        .fault("LIST events", u32::MAX, Effect::Answer(200, events));
    id
}

fn waiting(execution: &Execution) -> (WaitingKind, &str) {
    let waiting = execution.waiting.as_ref().expect("a reason");
    (waiting.kind, waiting.message.as_str())
}

#[test]
fn an_ordinary_life_is_told_and_costs_no_request() {
    let bench = Bench::new();
    bench.script(700, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(9);
    bench.assert_ran_once(id, "hello\n");
    let told = story(&bench, id);
    let told: Vec<_> = told
        .iter()
        .map(|(k, s, c)| (k.as_str(), s.as_str(), *c))
        .collect();
    let expected = [
        ("Accepted", "executor", 1),
        ("Dispatched", "executor", 1),
        ("JobCreated", "api-server", 1),
        ("Started", "pod", 1),
        ("Finished", "pod", 1),
    ];
    assert_eq!(told, expected);
    assert_eq!(bench.world.count("LIST events"), 0);
}

#[test]
fn a_refused_creation_is_counted_in_the_timeline() {
    let bench = Bench::new();
    let quota = refusal(403, "Forbidden", "exceeded quota: runs, requested: pods=1");
    bench.world.fault("POST jobs", 3, quota);
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(9);
    bench.tick(9);
    bench.assert_ran_once(id, "");
    let told = story(&bench, id);
    assert!(
        told.contains(&("Postponed".to_owned(), "api-server".to_owned(), 3)),
        "{told:?}"
    );
    assert!(
        told.contains(&("Dispatched".to_owned(), "executor".to_owned(), 4)),
        "{told:?}"
    );
}

#[test]
fn a_quota_that_only_events_tell_of_is_waited_out_until_the_start_clock_ends() {
    let bench = Bench::new();
    let id = without_pod(&bench, QUOTA, 4);
    bench.tick(9);
    let execution = bench.get(id);
    assert_eq!(execution.status, Status::Queued);
    assert_eq!(waiting(&execution).0, WaitingKind::Quota);
    assert!(waiting(&execution).1.ends_with(QUOTA));
    let told = story(&bench, id);
    assert!(
        told.contains(&("FailedCreate".to_owned(), "job-controller".to_owned(), 4)),
        "{told:?}"
    );
    // The same again is no news.
    let generation = execution.generation;
    bench.tick(9);
    bench.tick(9);
    assert_eq!(
        (bench.get(id).generation, story(&bench, id)),
        (generation, told)
    );
    bench.world.pass(40);
    bench.tick(5);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::QuotaExceeded);
    assert!(execution.ending.expect("an ending").message.contains(QUOTA));
}

#[test]
fn a_policy_that_refuses_the_pod_is_not_waited_for_to_the_end_of_the_clock() {
    let bench = Bench::new();
    let id = without_pod(&bench, POLICY, 1);
    bench.tick(9);
    let execution = bench.get(id);
    assert_eq!(waiting(&execution).0, WaitingKind::Admission);
    bench.tick(9);
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::AdmissionDenied);
    let waited = execution
        .finished_at
        .expect("a time")
        .duration_since(execution.created_at);
    assert!((20..30).contains(&waited.as_secs()), "{waited}");
    bench.assert_nothing_left();
}

#[test]
fn a_start_clock_shorter_than_our_patience_still_asks_why() {
    let bench = Bench::new();
    let id = without_pod(&bench, POLICY, 1);
    bench.sql("UPDATE executions SET start_seconds = 3, deadline_at = dispatched_at + 3000000");
    bench.tick(6);
    assert_eq!(bench.finished(id).1, Reason::AdmissionDenied);
}

#[test]
fn without_the_right_to_read_events_everything_else_goes_on() {
    let bench = Bench::new();
    let id = without_pod(&bench, QUOTA, 1);
    let before = bench.world.count("LIST events");
    let forbidden = "events is forbidden: User \"x\" cannot list resource \"events\"";
    bench.world.heal();
    bench.world.fault(
        "LIST events",
        u32::MAX,
        refusal(403, "Forbidden", forbidden),
    );
    let report = bench.tick(9);
    assert_eq!(report.failures, 0);
    assert!(bench.world.count("LIST events") > before);
    assert_eq!(bench.get(id).status, Status::Queued);
}

#[test]
fn a_slow_start_is_told_with_the_clusters_events() {
    let bench = Bench::new();
    bench
        .world
        .script
        .replace(json!({"startMs": 8_000, "runMs": 100}));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(9);
    bench.tick(2);
    bench.assert_ran_once(id, "");
    let told = story(&bench, id);
    let at = |kind: &str| told.iter().position(|(k, ..)| k == kind);
    let created = at("SuccessfulCreate").unwrap_or_else(|| panic!("{told:?}"));
    assert!(created < at("Finished").expect("an end"), "{told:?}");
}
