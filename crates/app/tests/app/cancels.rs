//! Cancels: with proof, with the log up to then, whatever gets lost and whoever dies on the way.

use std::time::Duration;

use app::{Caller, Canceled, Runtime};
use domain::{ExecutionId, Outcome, Reason, Status};
use serde_json::json;

use crate::support::{Bench, Effect, large_submission, refusal, submission};

/// More steps than a cancel takes: a larger number is a loop that does not end.
const MOST_STEPS: u32 = 200;

const SECOND: Duration = Duration::from_secs(1);

/// A bench with one execution that runs for that long.
fn running(run_ms: i64) -> (Bench, ExecutionId) {
    let bench = Bench::new();
    bench.script(run_ms, 0, "so far\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(2);
    assert_eq!(bench.get(id).status, Status::Running);
    (bench, id)
}

fn carry_out(bench: &Bench, id: ExecutionId) {
    bench.world.run(bench.app().carry_out_cancel(id));
}

#[track_caller]
fn assert_canceled(bench: &Bench, id: ExecutionId, log: &str) {
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::CanceledByCaller, "{execution:?}");
    let stored = bench.stored_log(id);
    assert_eq!(String::from_utf8_lossy(&stored.head), log);
    assert_eq!(execution.log.expect("a summary").bytes, stored.bytes);
    bench.assert_nothing_left();
}

#[test]
fn the_instance_that_took_it_carries_it_out() {
    let (bench, id) = running(60_000);
    bench.world.requests.take();
    assert!(bench.cancel(id));
    assert!(!bench.cancel(id), "somebody has it already");
    carry_out(&bench, id);
    let first = |what: &str| bench.world.requests.borrow().iter().position(|r| r == what);
    assert!(
        first("GET log") < first("DELETE jobs"),
        "the log comes first"
    );
    assert_eq!(bench.world.names("pods"), Vec::<String>::new());
    assert_canceled(&bench, id, "so far\n");
    let execution = bench.get(id);
    assert!(execution.finished_at >= execution.cancel_requested_at);
    match bench.world.run(bench.app().cancel(&Caller::local(), id)) {
        Ok(Canceled::Finished(finished)) => assert_eq!(finished, execution),
        other => panic!("it is finished: {other:?}"),
    }
}

#[test]
fn a_stubborn_script_is_canceled_only_when_its_pod_is_gone() {
    let bench = Bench::new();
    let script = json!({"runMs": 600_000, "log": "so far\n", "ignoreTerm": true});
    bench.world.script.replace(script);
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(2);
    bench.cancel(id);
    let app = bench.app();
    bench.world.run(async {
        let look = async {
            for _ in 0..8 {
                bench.time().sleep(SECOND).await;
                assert_eq!(bench.world.names("pods").len(), 1);
                let view = app
                    .get(&Caller::local(), id)
                    .await
                    .expect("the store answers");
                let execution = view.expect("it is there").execution;
                assert_eq!(execution.status, Status::Running);
                assert!(execution.waiting.is_some(), "it says what it waits for");
            }
        };
        futures::join!(app.carry_out_cancel(id), look)
    });
    assert_canceled(&bench, id, "so far\n");
    let execution = bench.get(id);
    let asked = execution.cancel_requested_at.expect("it was asked for");
    let took = execution
        .finished_at
        .expect("it ended")
        .duration_since(asked);
    assert!(
        took.as_secs() >= 9,
        "its grace of 10 s is its own, not {took}"
    );
}

#[test]
fn a_tick_carries_out_what_nobody_works_on() {
    let (bench, id) = running(600_000);
    let other = bench.submit_and_dispatch(&submission());
    bench.cancel(id);
    bench.tick(2);
    assert_eq!(bench.get(id).status, Status::Running, "its instance has it");
    bench.world.pass(15);
    let report = bench.tick(3);
    assert_eq!((report.failures, report.finished), (0, 1));
    assert_eq!(bench.get(other).status, Status::Running);
    bench.cancel(other);
    carry_out(&bench, other);
    assert_canceled(&bench, id, "so far\n");
    assert_canceled(&bench, other, "so far\n");
}

#[test]
fn a_cancel_holds_wherever_an_instance_dies() {
    for step in 1..MOST_STEPS {
        let (bench, id) = running(600_000);
        bench.world.crash_after(step);
        let app = bench.app();
        let done = bench.world.run_or_crash(async {
            app.cancel(&Caller::local(), id)
                .await
                .expect("the store answers");
            app.carry_out_cancel(id).await;
        });
        bench.world.crash_after(u32::MAX);
        if done.is_some() {
            assert!(step > 8, "only {step} steps were tried");
            return assert_canceled(&bench, id, "so far\n");
        }
        let asked = bench.get(id).cancel_requested_at.is_some();
        bench.world.pass(16);
        bench.tick(5);
        bench.tick(5);
        if asked {
            assert_canceled(&bench, id, "so far\n");
        } else {
            assert_eq!(
                bench.get(id).status,
                Status::Running,
                "nobody was promised it"
            );
        }
    }
    panic!("a cancel does not end");
}

#[test]
fn what_gets_lost_on_the_way_is_asked_for_again() {
    let unreadable = refusal(500, "InternalError", "dial tcp: connection refused");
    for what in ["GET log", "DELETE jobs", "LIST pods", "GET jobs"] {
        for effect in [
            Effect::NotSent,
            Effect::Lost,
            Effect::Vanished,
            unreadable.clone(),
        ] {
            println!("{what} {effect:?}");
            let (bench, id) = running(600_000);
            bench.cancel(id);
            bench.world.fault(what, 4, effect);
            carry_out(&bench, id);
            for _ in 0..4 {
                bench.tick(5);
            }
            assert!(bench.world.all_faults_fired());
            assert_canceled(&bench, id, "so far\n");
        }
    }
}

#[test]
fn a_cluster_out_of_reach_is_named_and_decides_nothing() {
    let (bench, id) = running(600_000);
    bench.cancel(id);
    for what in ["LIST pods", "LIST jobs", "GET jobs", "WATCH pods"] {
        bench.world.fault(what, u32::MAX, Effect::NotSent);
    }
    carry_out(&bench, id);
    // Far beyond the run clock, which does not run any more.
    bench.world.pass(1_000);
    bench.tick(5);
    let execution = bench.get(id);
    assert_eq!(execution.status, Status::Running);
    let waiting = execution.waiting.expect("it says what it waits for");
    assert!(waiting.message.contains("cannot be asked"), "{waiting:?}");
    bench.world.heal();
    bench.tick(5);
    let reason = bench.finished(id).1;
    assert!(
        matches!(reason, Reason::CanceledByCaller | Reason::Completed),
        "{reason:?}"
    );
    bench.assert_nothing_left();
}

#[test]
fn what_ended_by_itself_has_its_own_outcome() {
    let (bench, id) = running(5_000);
    bench.cancel(id);
    bench.world.pass(20);
    bench.tick(5);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::Completed);
    assert!(execution.cancel_requested_at.is_some());
    bench.assert_ran_once(id, "so far\n");
}

#[test]
fn a_cancel_that_races_with_the_end_is_honest() {
    let mut outcomes = Vec::new();
    for tenths in 0..50 {
        let bench = Bench::new();
        bench.script(2_500, 0, "so far\n");
        let id = bench.submit(&submission());
        let app = bench.app();
        bench.world.run(async {
            let asked = submission();
            let dispatch = app.dispatch_submitted(&id, &asked);
            let cancel = async {
                bench
                    .time()
                    .sleep(Duration::from_millis(tenths * 100))
                    .await;
                let canceled = app
                    .cancel(&Caller::local(), id.id)
                    .await
                    .expect("the store answers");
                if let Canceled::Accepted { .. } = canceled {
                    app.carry_out_cancel(id.id).await;
                }
            };
            let other = bench.app();
            let tick = async { other.tick(8 * SECOND).await.expect("the store answers") };
            futures::join!(dispatch, cancel, tick)
        });
        let (execution, reason) = bench.finished(id.id);
        let ending = execution.ending.expect("an ending");
        match reason.outcome() {
            Outcome::Succeeded => assert_eq!(ending.exit_code, Some(0)),
            Outcome::Canceled => assert_ne!(execution.cancel_requested_at, None),
            other => panic!("after {tenths} tenths: {other:?} {ending:?}"),
        }
        if execution.started_at.is_some() {
            assert_eq!(bench.stored_log(id.id).head, b"so far\n", "{tenths} tenths");
        }
        assert!(bench.world.jobs_made.get() <= 1);
        bench.assert_nothing_left();
        outcomes.push(reason.outcome());
    }
    for outcome in [Outcome::Succeeded, Outcome::Canceled] {
        assert!(outcomes.contains(&outcome), "{outcome:?} never came");
    }
}

#[test]
fn a_creation_whose_reply_was_lost_is_found_and_ended() {
    let bench = Bench::new();
    bench.script(600_000, 0, "so far\n");
    bench.world.fault("POST jobs", 1, Effect::Lost);
    let id = bench.submit_and_dispatch(&submission());
    assert_eq!(bench.get(id).job_uid, None);
    bench.cancel(id);
    carry_out(&bench, id);
    assert_canceled(&bench, id, "so far\n");
    assert_eq!(bench.world.jobs_made.get(), 1);
}

#[test]
fn a_creation_that_may_be_on_its_way_comes_to_nothing() {
    let bench = Bench::new();
    bench.world.fault("POST jobs", 1, Effect::Late);
    let id = bench.submit_and_dispatch(&submission());
    bench.cancel(id);
    carry_out(&bench, id);
    assert_eq!(bench.finished(id).1, Reason::CanceledByCaller);
    assert_eq!(bench.world.deliver_late(), [409], "its name is taken");
    assert_eq!(bench.world.starts(), 0);
    assert_canceled(&bench, id, "");
}

#[test]
fn a_creation_that_may_be_on_its_way_is_waited_for_where_its_name_cannot_be_taken() {
    let bench = Bench::new();
    bench.world.fault("POST jobs", 1, Effect::Vanished);
    let quota = refusal(
        403,
        "Forbidden",
        "jobs.batch is forbidden: exceeded quota: q",
    );
    bench.world.fault("POST jobs", 1000, quota);
    let id = bench.submit_and_dispatch(&submission());
    bench.cancel(id);
    carry_out(&bench, id);
    bench.world.pass(20);
    bench.tick(9);
    assert_eq!(bench.get(id).status, Status::Queued, "nobody can know yet");
    assert!(bench.get(id).waiting.is_some());
    bench.world.pass(60);
    bench.tick(3);
    assert_canceled(&bench, id, "");
    assert_eq!(bench.world.jobs_made.get(), 0);
}

#[test]
fn an_instance_that_sleeps_through_a_cancel_creates_nothing_afterwards() {
    let bench = Bench::new();
    let execution = bench.submit(&submission());
    bench.cancel(execution.id);
    bench.world.pass(90);
    bench.tick(3);
    assert_canceled(&bench, execution.id, "");
    let asleep = bench.app();
    bench
        .world
        .run(asleep.dispatch_submitted(&execution, &submission()));
    assert_eq!(bench.world.starts(), 0);
}

#[test]
fn a_cancel_before_the_creation_starts_no_pod_where_that_can_be_helped() {
    // Nothing was created: that ends it.
    let bench = Bench::new();
    let execution = bench.submit(&submission());
    bench.cancel(execution.id);
    bench.world.fault("POST jobs", 1, Effect::NotSent);
    let dispatch = |asked| {
        bench
            .world
            .run(bench.app().dispatch_submitted(&execution, asked))
    };
    dispatch(&submission());
    assert_canceled(&bench, execution.id, "");
    // A Job that is created suspended is never unsuspended.
    let bench = Bench::new();
    let execution = bench.submit(&large_submission());
    bench.cancel(execution.id);
    let dispatch = bench.app();
    bench
        .world
        .run(dispatch.dispatch_submitted(&execution, &large_submission()));
    carry_out(&bench, execution.id);
    assert_canceled(&bench, execution.id, "");
    assert_eq!((bench.world.jobs_made.get(), bench.world.starts()), (1, 0));
}

#[test]
fn a_pod_that_does_not_go_is_told_of_and_given_up_in_the_end() {
    let (bench, id) = running(600_000);
    let pods = "/api/v1/namespaces/runs/pods";
    let path = format!("{pods}/{}", bench.world.names("pods")[0]);
    let hold = |finalizers: serde_json::Value| {
        let (_, mut pod) = bench.world.ask("GET", &path, &serde_json::Value::Null);
        pod["metadata"]["finalizers"] = finalizers;
        let (code, answer) = bench.world.ask("PUT", &path, &pod);
        assert_eq!(code, 200, "{answer}");
    };
    hold(json!(["example.com/held"]));
    bench.cancel(id);
    carry_out(&bench, id);
    bench.world.pass(30);
    bench.tick(5);
    let execution = bench.get(id);
    assert_eq!(execution.status, Status::Running);
    let message = execution
        .waiting
        .expect("it says what it waits for")
        .message;
    assert!(
        message.contains("has not confirmed the end of the pod"),
        "{message}"
    );
    bench.world.pass(500);
    bench.tick(5);
    assert_eq!(bench.get(id).status, Status::Running, "too early");
    bench.world.pass(100);
    bench.tick(5);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::NodeLost);
    let message = execution.ending.expect("an ending").message;
    assert!(message.contains("may still run there"), "{message}");
    assert_eq!(bench.stored_log(id).head, b"so far\n");
    hold(json!([]));
    bench.tick(5);
    bench.assert_nothing_left();
}
