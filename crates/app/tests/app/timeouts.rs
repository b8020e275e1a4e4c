//! The three clocks, each with its own reason; what ended in time ended in time, however late we look.

use std::time::Duration;

use domain::{Reason, Status, Submission};
use serde_json::json;

use crate::support::{Bench, Effect, refusal, submission};

fn with_limits(queue: u32, start: u32, run: u32) -> Submission {
    let mut submission = submission();
    submission.timeouts.queue_seconds = queue;
    submission.timeouts.start_seconds = start;
    submission.timeouts.run_seconds = run;
    submission
}

#[test]
fn a_full_house_ends_the_queue_clock() {
    let bench = Bench::with_max_running(1);
    bench.script(60_000, 0, "");
    let first = bench.submit_and_dispatch(&submission());
    let second = bench.submit(&with_limits(5, 300, 600)).id;
    bench.tick(4);
    assert_eq!(bench.get(second).status, Status::Queued);
    bench.tick(3);
    let (execution, reason) = bench.finished(second);
    assert_eq!(reason, Reason::QueueTimeout);
    assert!(
        execution.log.expect("a summary").complete,
        "it never ran: that is all of it"
    );
    assert_eq!(bench.get(first).status, Status::Running);
    assert_eq!(bench.world.jobs_made.get(), 1);
}

#[test]
fn a_quota_that_stays_used_up_ends_the_queue_clock_with_its_name() {
    let bench = Bench::new();
    let quota = refusal(403, "Forbidden", "exceeded quota: runs, requested: pods=1");
    bench.world.fault("POST jobs", u32::MAX, quota);
    let id = bench.submit_and_dispatch(&with_limits(12, 300, 600));
    bench.tick(9);
    assert_eq!(bench.get(id).status, Status::Queued);
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::QuotaExceeded);
    assert!(
        execution
            .ending
            .expect("an ending")
            .message
            .contains("exceeded quota: runs")
    );
}

#[test]
fn an_api_server_that_stays_away_ends_the_queue_clock_too() {
    let bench = Bench::new();
    for what in ["POST jobs", "LIST jobs", "LIST pods", "WATCH pods"] {
        bench.world.fault(what, u32::MAX, Effect::NotSent);
    }
    let id = bench.submit_and_dispatch(&with_limits(12, 300, 600));
    bench.tick(9);
    assert_eq!(bench.get(id).status, Status::Queued);
    bench.tick(9);
    // Nothing was ever sent, or whatever was is to be asked for: then it ends once that is possible.
    bench.world.heal();
    bench.tick(3);
    let reason = bench.finished(id).1;
    assert!(
        matches!(reason, Reason::QueueTimeout | Reason::Completed),
        "{reason:?}"
    );
}

#[test]
fn a_container_that_does_not_start_ends_the_start_clock() {
    let bench = Bench::new();
    bench.world.script.replace(json!({"startMs": 600_000}));
    let id = bench.submit_and_dispatch(&with_limits(300, 5, 600));
    bench.tick(4);
    assert_eq!(bench.get(id).status, Status::Queued);
    bench.tick(4);
    let (execution, reason) = bench.finished(id);
    assert_eq!((reason, execution.started_at), (Reason::StartTimeout, None));
    assert!(bench.stored_log(id).complete);
    bench.assert_nothing_left();
}

#[test]
fn a_script_that_runs_too_long_is_ended_with_its_log_so_far() {
    let bench = Bench::new();
    bench.script(600_000, 0, "so far\n");
    let id = bench.submit_and_dispatch(&with_limits(300, 300, 5));
    bench.tick(4);
    assert_eq!(bench.get(id).status, Status::Running);
    bench.tick(4);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::RunTimeout);
    let ending = execution.ending.expect("an ending");
    assert_eq!(ending.exit_code, Some(143));
    assert!(ending.message.contains("within its grace"), "{ending:?}");
    let log = bench.stored_log(id);
    assert_eq!(log.head, b"so far\n");
    let kinds: Vec<String> = bench.kinds(id);
    assert_eq!(kinds[3..], ["Started", "TimedOut", "Stopping", "Finished"]);
    bench.assert_nothing_left();
}

#[test]
fn a_stubborn_script_is_timed_out_only_when_its_pod_is_gone() {
    let bench = Bench::new();
    let script = json!({"runMs": 600_000, "log": "so far\n", "ignoreTerm": true});
    bench.world.script.replace(script);
    let mut asked = with_limits(300, 300, 5);
    asked.timeouts.grace_seconds = 6;
    let id = bench.submit_and_dispatch(&asked);
    bench.tick(8);
    let execution = bench.get(id);
    assert_eq!(execution.status, Status::Running);
    assert_eq!(bench.world.names("pods").len(), 1);
    let waits = execution.waiting.expect("it says what it waits for");
    assert_eq!(waits.message, "its pod is being ended");
    assert!(
        !bench.cancel(id),
        "a cancel comes too late: it is being ended anyway"
    );
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::RunTimeout);
    assert!(execution.cancel_requested_at.is_some());
    let message = execution.ending.expect("an ending").message;
    assert!(message.contains("so it was killed"), "{message}");
    assert_eq!(bench.stored_log(id).head, b"so far\n");
    let ran = execution.finished_at.zip(execution.started_at);
    let seconds = ran.map(|(end, start)| end.duration_since(start).as_secs());
    assert!(
        seconds.is_some_and(|s| (10..14).contains(&s)),
        "5 s and 6 s of grace, not {seconds:?}"
    );
    bench.assert_nothing_left();
}

#[test]
fn a_timeout_holds_wherever_a_tick_dies() {
    /// More steps than a tick takes that ends one: a larger number is a loop that does not end.
    const MOST_STEPS: u32 = 300;
    for step in 1..MOST_STEPS {
        let bench = Bench::new();
        bench.script(600_000, 0, "so far\n");
        let id = bench.submit_and_dispatch(&with_limits(300, 300, 2));
        bench.tick(1);
        bench.world.crash_after(step);
        let app = bench.app();
        let tick = app.tick(Duration::from_secs(6));
        let done = bench.world.run_or_crash(tick).is_some();
        bench.world.crash_after(u32::MAX);
        if !done {
            bench.world.pass(16);
            bench.tick(6);
            bench.tick(3);
        }
        let (execution, reason) = bench.finished(id);
        assert_eq!(reason, Reason::RunTimeout, "step {step}: {execution:?}");
        assert_eq!(bench.stored_log(id).head, b"so far\n", "step {step}");
        assert_eq!(bench.world.jobs_made.get(), 1);
        bench.assert_nothing_left();
        if done {
            assert!(step > 20, "only {step} steps were tried");
            return;
        }
    }
    panic!("a tick does not end");
}

#[test]
fn a_job_that_goes_by_itself_while_its_time_is_over_is_no_timeout() {
    // Started, but its Job's uid was never stored, and then somebody deleted it.
    let bench = Bench::new();
    bench.script(600_000, 0, "");
    let id = bench.submit_and_dispatch(&with_limits(300, 300, 5));
    bench.tick(1);
    bench.sql("UPDATE executions SET job_uid = NULL, claim_until = 9e17");
    let jobs = "/apis/batch/v1/namespaces/runs/jobs";
    let target = format!("{jobs}/{}", bench.get(id).job_name());
    bench.world.fault("WATCH pods", u32::MAX, Effect::NotSent);
    bench.world.fault("LIST jobs", u32::MAX, Effect::NotSent);
    bench.world.ask(
        "DELETE",
        &target,
        &json!({"propagationPolicy": "Background"}),
    );
    bench.world.pass(5);
    bench.tick(3);
    assert_eq!(bench.finished(id).1, Reason::JobDeleted);
}

#[test]
fn what_ended_in_time_is_no_timeout_however_late_we_look() {
    for seen_running in [true, false] {
        let bench = Bench::new();
        bench.script(4_000, 42, "done\n");
        let id = bench.submit_and_dispatch(&with_limits(300, 3, 5));
        if seen_running {
            bench.tick(1);
        }
        bench.world.pass(120);
        // The watch is slow to come, so that the clocks are looked at first.
        bench.world.fault("WATCH pods", 9, Effect::Slow(2));
        bench.world.fault("LIST jobs", 9, Effect::Slow(2));
        bench.tick(9);
        let (execution, reason) = bench.finished(id);
        assert_eq!(reason, Reason::NonZeroExit, "seen running: {seen_running}");
        assert_eq!(execution.ending.expect("an ending").exit_code, Some(42));
        assert_eq!(bench.stored_log(id).head, b"done\n");
        bench.assert_nothing_left();
    }
}

#[test]
fn a_start_in_time_that_is_seen_late_is_no_start_timeout() {
    let bench = Bench::new();
    bench.script(30_000, 0, "done\n");
    let id = bench.submit_and_dispatch(&with_limits(300, 3, 600));
    bench.world.pass(10);
    bench.world.fault("LIST jobs", 9, Effect::Slow(2));
    bench.tick(4);
    assert_eq!(bench.get(id).status, Status::Running);
    bench.world.pass(30);
    bench.tick(3);
    bench.assert_ran_once(id, "done\n");
}

#[test]
fn a_deadline_waits_until_the_cluster_can_be_asked() {
    let bench = Bench::new();
    bench.script(4_000, 0, "done\n");
    let id = bench.submit_and_dispatch(&with_limits(300, 300, 5));
    bench.tick(1);
    for what in ["LIST pods", "LIST jobs", "WATCH pods"] {
        bench.world.fault(what, u32::MAX, Effect::Vanished);
    }
    bench.world.pass(60);
    bench.tick(5);
    assert_eq!(
        bench.get(id).status,
        Status::Running,
        "nobody knows, so nothing is decided"
    );
    bench.world.heal();
    bench.tick(5);
    bench.assert_ran_once(id, "done\n");
}

#[test]
fn a_strangers_job_of_the_same_name_says_nothing_and_stays() {
    let bench = Bench::new();
    bench.world.script.replace(json!({"startMs": 600_000}));
    let id = bench.submit_and_dispatch(&with_limits(300, 5, 600));
    let name = bench.get(id).job_name();
    let jobs = "/apis/batch/v1/namespaces/runs/jobs";
    bench.world.ask(
        "DELETE",
        &format!("{jobs}/{name}"),
        &json!({"propagationPolicy": "Background"}),
    );
    bench.world.pass(1);
    let stranger = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template":
        {"spec": {"restartPolicy": "Never", "containers": [{"name": "script", "image": "alpine:3"}]}}}});
    let (status, _) = bench.world.ask("POST", jobs, &stranger);
    assert_eq!(status, 201);
    // Only the clock asks for it, by its name.
    bench.world.fault("LIST jobs", u32::MAX, Effect::NotSent);
    bench.tick(8);
    assert_eq!(bench.finished(id).1, Reason::StartTimeout);
    assert_eq!(bench.world.names("jobs"), [name]);
}
