//! Retries: each attempt on its own, one at a time, whatever gets lost and whoever dies between them.

use std::time::Duration;

use app::{Caller, Log, LogOptions, View};
use domain::{ExecutionId, Outcome, Reason, Retry, Status, Submission, WaitingKind};
use serde_json::json;

use crate::support::{Bench, Effect, hooked_submission, retried_submission, submission};

/// More steps than a life with two attempts takes: a larger number is a loop that does not end.
const MOST_STEPS: u32 = 600;

/// So many ticks after a death everything is at its end, each past the claims of the one before.
const MOST_ROUNDS: u32 = 8;

/// How long the instance works that is going to die: both attempts, and the pause between them.
const TICK: Duration = Duration::from_secs(5);

const FAILS_ONCE: [(i64, i32, &str); 2] = [(600, 1, "first\n"), (600, 0, "second\n")];

fn view(bench: &Bench, id: ExecutionId) -> View {
    let view = bench.world.run(bench.app().get(&Caller::local(), id));
    view.expect("the store answers").expect("it is there")
}

/// The outcomes of all attempts before the one that it is at.
fn outcomes(view: &View) -> Vec<Outcome> {
    let ended = view.earlier.iter().map(|attempt| {
        let ending = attempt.ending.as_ref();
        ending.expect("it ended").outcome()
    });
    ended.collect()
}

fn log(bench: &Bench, id: ExecutionId, attempt: Option<u32>) -> Log<crate::support::Host> {
    let options = LogOptions {
        attempt,
        ..LogOptions::default()
    };
    let log = bench
        .world
        .run(bench.app().log(&Caller::local(), id, &options));
    log.expect("it is read").expect("it is there")
}

#[track_caller]
fn assert_log(bench: &Bench, id: ExecutionId, attempt: Option<u32>, expected: &str) {
    match log(bench, id, attempt) {
        Log::Stored(log) => {
            assert_eq!(String::from_utf8_lossy(&log.head), expected);
            assert!(log.complete);
        }
        _ => panic!("no stored log of attempt {attempt:?}"),
    }
}

/// Holds of every execution that failed once and then came to a good end.
#[track_caller]
fn assert_two_attempts(bench: &Bench, id: ExecutionId) {
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::Completed));
    assert_eq!(outcomes(&view(bench, id)), [Outcome::Failed]);
    assert_log(bench, id, Some(1), "first\n");
    assert_log(bench, id, Some(2), "second\n");
    assert_eq!(bench.world.starts(), 2, "how often a pod was started");
    bench.assert_nothing_left();
}

#[test]
fn it_is_tried_until_it_succeeds() {
    let bench = Bench::new();
    bench.attempts(&[
        (600, 1, "first\n"),
        (600, 2, "second\n"),
        (600, 0, "third\n"),
    ]);
    let submission = Submission {
        webhook: hooked_submission().webhook,
        ..retried_submission(5)
    };
    let id = bench.submit_and_dispatch(&submission);
    // The pauses before are 1 and 2 seconds.
    let report = bench.tick(9);
    assert_eq!((report.finished, report.failures), (1, 0));
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (3, Reason::Completed));
    let view = view(&bench, id);
    assert_eq!(outcomes(&view), [Outcome::Failed; 2]);
    let mut before = execution.created_at;
    for (number, attempt) in (1..).zip(&view.earlier) {
        assert_eq!(attempt.number, number);
        let times = [
            attempt.dispatched_at,
            attempt.started_at,
            attempt.finished_at,
        ];
        for time in times {
            let time = time.expect("it ran");
            assert!(time >= before, "{view:?}");
            before = time;
        }
        assert_eq!(attempt.log.map(|log| log.complete), Some(true));
    }
    assert!(execution.dispatched_at.expect("it was") > before);
    for (attempt, expected) in [(1, "first\n"), (2, "second\n"), (3, "third\n")] {
        assert_log(&bench, id, Some(attempt), expected);
    }
    assert_log(&bench, id, None, "third\n");
    assert_eq!((bench.world.jobs_made.get(), bench.world.starts()), (3, 3));
    assert_eq!(
        bench.world.received.borrow().len(),
        1,
        "told at the end alone"
    );
    bench.assert_nothing_left();
}

#[test]
fn the_timeline_tells_of_each_attempt() {
    let bench = Bench::new();
    bench.attempts(&FAILS_ONCE);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(5);
    assert_two_attempts(&bench, id);
    let events = bench.world.run(bench.app().events(&Caller::local(), id));
    let events = events.expect("the store answers").expect("it is there");
    let told = events.iter().map(|event| {
        let later = event.entry.message.starts_with("attempt 2");
        (event.entry.kind.as_str(), later)
    });
    let mut told: Vec<_> = told.collect();
    // Its container may be seen running before the answer to the creation is.
    told[6..9].sort_unstable();
    let expected = [
        ("Accepted", false),
        ("Dispatched", false),
        ("JobCreated", false),
        ("Started", false),
        ("AttemptEnded", false),
        ("RetryScheduled", true),
        ("Dispatched", true),
        ("JobCreated", true),
        ("Started", true),
        ("Finished", true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn after_the_last_attempt_its_end_is_the_end() {
    let bench = Bench::new();
    bench.script(600, 3, "");
    let id = bench.submit_and_dispatch(&retried_submission(2));
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (3, Reason::NonZeroExit));
    assert_eq!(bench.world.starts(), 3);
    bench.assert_nothing_left();
}

#[test]
fn a_script_that_fails_is_not_tried_again_where_only_errors_are() {
    let bench = Bench::new();
    bench.script(600, 3, "");
    let id = bench.submit_and_dispatch(&Submission {
        retry: Retry::of(2, &[Outcome::Error]),
        ..submission()
    });
    bench.tick(5);
    assert_eq!(bench.finished(id).0.attempt, 1);
    assert_eq!(bench.world.starts(), 1);
}

#[test]
fn what_never_ran_is_tried_again_too_and_stays_queued() {
    let bench = Bench::new();
    let id = bench.submit_and_dispatch(&Submission {
        image: "No/Image//Name".to_owned(),
        ..retried_submission(1)
    });
    bench.tick(1);
    let waits = bench.get(id);
    assert_eq!((waits.status, waits.attempt), (Status::Queued, 2));
    bench.tick(4);
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::ImageUnavailable));
    assert_eq!(outcomes(&view(&bench, id)), [Outcome::Error]);
    assert_eq!(bench.world.starts(), 0);
    bench.assert_nothing_left();
}

#[test]
fn the_pause_is_shown_and_what_has_run_stays_running() {
    let bench = Bench::new();
    bench.attempts(&FAILS_ONCE);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(1);
    let waits = bench.get(id);
    assert_eq!((waits.status, waits.attempt), (Status::Running, 2));
    assert_eq!((waits.dispatched_at, waits.started_at), (None, None));
    let waiting = waits.waiting.expect("it says why");
    assert_eq!(waiting.kind, WaitingKind::Retry);
    assert!(
        waiting.message.starts_with("attempt 2 of 2 starts at "),
        "{waiting:?}"
    );
    // Meanwhile its log is that of what has run, and of the next there is none.
    assert_log(&bench, id, None, "first\n");
    assert!(matches!(log(&bench, id, Some(2)), Log::NotYet));
    assert!(matches!(
        log(&bench, id, Some(3)),
        Log::NoAttempt { last: 2 }
    ));
    bench.tick(4);
    assert_two_attempts(&bench, id);
}

#[test]
fn a_cancel_in_the_pause_ends_it_at_once() {
    let bench = Bench::new();
    bench.attempts(&FAILS_ONCE);
    // Whoever stored the first end did not get to delete its Job.
    bench.world.fault("DELETE jobs", 9, Effect::NotSent);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(1);
    assert_eq!(bench.get(id).attempt, 2);
    assert_eq!(bench.world.names("jobs").len(), 1);
    bench.world.heal();
    assert!(bench.cancel(id), "there is a Job to be deleted");
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::CanceledByCaller));
    bench.world.run(bench.app().carry_out_cancel(id));
    bench.assert_nothing_left();
    assert_eq!(bench.world.starts(), 1);
    assert_log(&bench, id, None, "first\n");
}

#[test]
fn after_a_cancel_of_a_later_attempt_no_other_follows() {
    let bench = Bench::new();
    bench.attempts(&[(600, 1, "first\n"), (60_000, 1, "second\n")]);
    let id = bench.submit_and_dispatch(&retried_submission(3));
    bench.tick(4);
    let running = bench.get(id);
    assert!(
        running.started_at.is_some() && running.attempt == 2,
        "{running:?}"
    );
    assert!(bench.cancel(id));
    bench.world.run(bench.app().carry_out_cancel(id));
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::CanceledByCaller));
    bench.tick(9);
    assert_eq!(bench.world.starts(), 2);
    bench.assert_nothing_left();
}

#[test]
fn what_ran_too_long_is_tried_again_once_it_is_gone() {
    let bench = Bench::new();
    bench.attempts(&[(60_000, 1, "first\n"), (600, 0, "second\n")]);
    let mut submission = retried_submission(1);
    submission.timeouts.run_seconds = 3;
    let id = bench.submit_and_dispatch(&submission);
    for _ in 0..3 {
        bench.tick(5);
    }
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::Completed));
    let first = view(&bench, id).earlier.remove(0);
    let ending = first.ending.expect("it ended");
    assert_eq!(ending.reason, Reason::RunTimeout);
    match log(&bench, id, Some(1)) {
        Log::Stored(log) => assert_eq!(String::from_utf8_lossy(&log.head), "first\n"),
        _ => panic!("no stored log"),
    }
    assert_eq!(bench.world.starts(), 2);
    bench.assert_nothing_left();
}

#[test]
fn what_is_left_of_an_earlier_attempt_changes_nothing_and_is_deleted() {
    let bench = Bench::new();
    bench.attempts(&[(600, 1, "first\n"), (20_000, 0, "second\n")]);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    // The first attempt's Job and its ended pod stay, though the second begins.
    bench
        .world
        .fault("DELETE jobs", u32::MAX, refused_as_gone());
    bench.tick(4);
    let running = bench.get(id);
    assert!(
        running.started_at.is_some() && running.attempt == 2,
        "{running:?}"
    );
    assert_eq!(bench.world.names("jobs").len(), 2, "the fault has fired");
    // Now a full list sees the pods of both.
    bench.world.heal();
    bench.world.compact();
    bench.tick(2);
    assert_eq!(bench.get(id).generation, running.generation);
    assert_eq!(bench.world.names("jobs"), [running.job_name()]);
    bench.world.pass(20);
    bench.tick(3);
    assert_two_attempts(&bench, id);
}

#[test]
fn the_next_attempt_waits_until_the_job_of_the_one_before_is_deleted() {
    let bench = Bench::new();
    bench.attempts(&FAILS_ONCE);
    bench.world.fault("DELETE jobs", u32::MAX, Effect::Vanished);
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(9);
    let waits = bench.get(id);
    assert_eq!((waits.attempt, waits.job_uid), (2, None));
    assert_eq!(bench.world.jobs_made.get(), 1);
    bench.world.heal();
    bench.world.pass(16);
    bench.tick(3);
    assert_two_attempts(&bench, id);
}

/// What somebody else's deletion a moment before would have it answer; here it is not true.
fn refused_as_gone() -> Effect {
    crate::support::refusal(404, "NotFound", "jobs.batch \"x\" not found")
}

#[test]
fn two_attempts_never_run_at_once() {
    let bench = Bench::new();
    bench.world.script.replace(json!([
        {"runMs": 60_000, "exitCode": 0, "log": "first\n", "ignoreTerm": true},
        {"runMs": 600, "exitCode": 0, "log": "second\n"},
    ]));
    let id = bench.submit_and_dispatch(&retried_submission(1));
    bench.tick(2);
    let path = format!(
        "/apis/batch/v1/namespaces/runs/jobs/{}",
        bench.get(id).job_name()
    );
    let background = json!({"propagationPolicy": "Background"});
    assert_eq!(bench.world.ask("DELETE", &path, &background).0, 200);
    // The Job is gone, and its pod runs on for the grace of 10 s.
    bench.world.compact();
    bench.tick(3);
    let waits = bench.get(id);
    assert_eq!((waits.attempt, waits.dispatched_at), (2, None));
    let waiting = waits.waiting.expect("it says why");
    assert_eq!(
        (waiting.kind, waiting.message.as_str()),
        (
            WaitingKind::Retry,
            "attempt 2 starts when the pod of attempt 1 has ended"
        )
    );
    assert_eq!(bench.world.starts(), 1);
    bench.world.pass(12);
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!((execution.attempt, reason), (2, Reason::Completed));
    assert_eq!(outcomes(&view(&bench, id)), [Outcome::Error]);
    assert_eq!(bench.world.starts(), 2);
    bench.assert_nothing_left();
}

/// The whole life in one future: accepted, its first Job created, watched until it is finished.
async fn life(bench: &Bench, submission: &Submission) {
    let app = bench.app();
    let accepted = app.submit(&Caller::local(), submission, Some("key")).await;
    let accepted = accepted.expect("the store answers");
    if let app::Submitted::New { execution, .. } | app::Submitted::Replayed(execution) = accepted {
        app.dispatch_submitted(&execution, submission).await;
    }
    app.tick(TICK).await.expect("the store answers");
}

fn only_id(bench: &Bench) -> Option<ExecutionId> {
    let (listing, all) = (bench.app(), app::Filter::default());
    let page = bench
        .world
        .run(listing.list(&Caller::local(), &all, 10, None));
    let page = page.expect("the store answers");
    page.items.first().map(|execution| execution.id)
}

/// Dies after every so manieth step in turn. Answers how many there were.
fn die_everywhere(every: usize, prepare: impl Fn(&Bench)) -> u32 {
    let submission = retried_submission(1);
    for step in (1..MOST_STEPS).step_by(every) {
        let bench = Bench::new();
        bench.attempts(&FAILS_ONCE);
        prepare(&bench);
        bench.world.crash_after(step);
        if bench
            .world
            .run_or_crash(life(&bench, &submission))
            .is_some()
        {
            return step;
        }
        let Some(id) = only_id(&bench) else {
            continue;
        };
        // Past a claim and a lease, again and again: each attempt may need it.
        for _ in 0..MOST_ROUNDS {
            bench.world.pass(16);
            assert!(bench.tick(2).leader, "after step {step}");
            let is_over = bench.get(id).status == Status::Finished;
            if is_over && bench.world.names("jobs").is_empty() {
                break;
            }
        }
        println!(
            "died after step {step}: {:?}",
            bench.world.requests.borrow()
        );
        assert_two_attempts(&bench, id);
    }
    panic!("the life of an execution does not end");
}

#[test]
fn each_attempt_runs_once_wherever_an_instance_dies() {
    let steps = die_everywhere(1, |_| {});
    assert!(steps > 40, "only {steps} steps were tried");
}

#[test]
fn a_lost_reply_and_a_death_together_do_no_more_harm() {
    for what in ["POST jobs", "PATCH jobs"] {
        die_everywhere(5, |bench| bench.world.fault(what, 2, Effect::Lost));
    }
}
