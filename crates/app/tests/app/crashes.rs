//! An instance dies after each of its requests and statements in turn; whatever it left, the next ticks put right.

use app::Caller;
use std::time::Duration;

use domain::{ExecutionId, Submission};

use crate::support::{Bench, Effect, large_submission, submission};

/// How long the instance works that is going to die.
const TICK: Duration = Duration::from_secs(2);

/// More steps than one life of an execution takes: a larger number is a loop that does not end.
const MOST_STEPS: u32 = 400;

/// The whole life in one future: accepted, its Job created, watched until it is finished.
async fn life(bench: &Bench, submission: &Submission) {
    let app = bench.app();
    let accepted = app
        .submit(&Caller::local(), submission, Some("key"))
        .await
        .expect("the store answers");
    if let app::Submitted::New { execution, .. } | app::Submitted::Replayed(execution) = accepted {
        app.dispatch_submitted(&execution, submission).await;
    }
    app.tick(TICK).await.expect("the store answers");
}

fn only_id(bench: &Bench) -> Option<ExecutionId> {
    let page = bench.world.run(bench.app().list(
        &Caller::local(),
        &app::Filter::default(),
        10,
        None,
    ));
    let page = page.expect("the store answers");
    assert!(page.items.len() <= 1, "one key, one execution");
    page.items.first().map(|execution| execution.id)
}

/// Dies after every step in turn. Answers how many there were.
fn die_everywhere(submission: &Submission, prepare: impl Fn(&Bench)) -> u32 {
    for step in 1..MOST_STEPS {
        let bench = Bench::new();
        bench.script(600, 0, "hello\n");
        prepare(&bench);
        bench.world.crash_after(step);
        if bench.world.run_or_crash(life(&bench, submission)).is_some() {
            return step;
        }
        let accepted = only_id(&bench);
        // Twice past a claim and a lease: what was planned to go wrong may do so only now.
        for _ in 0..2 {
            bench.world.pass(16);
            for _ in 0..2 {
                assert!(bench.tick(3).leader, "after step {step}");
            }
        }
        let Some(id) = accepted else {
            assert_eq!(bench.world.jobs_made.get(), 0, "nothing was promised");
            continue;
        };
        println!(
            "died after step {step}: {:?}",
            bench.world.requests.borrow()
        );
        bench.assert_ran_once(id, "hello\n");
    }
    panic!("the life of an execution does not end");
}

#[test]
fn a_small_script_runs_once_wherever_an_instance_dies() {
    // With a full list, and going on with the watch of an earlier tick.
    for ticks_before in 0..2 {
        let steps = die_everywhere(&submission(), |bench| {
            for _ in 0..ticks_before {
                bench.tick(1);
            }
        });
        assert!(steps > 20, "only {steps} steps were tried");
    }
}

#[test]
fn a_large_script_runs_once_wherever_an_instance_dies() {
    let steps = die_everywhere(&large_submission(), |_| {});
    assert!(steps > 20, "only {steps} steps were tried");
}

#[test]
fn a_lost_reply_and_a_death_together_do_no_more_harm() {
    for what in ["POST jobs", "POST configmaps", "PATCH jobs", "DELETE jobs"] {
        die_everywhere(&large_submission(), |bench| {
            bench.world.fault(what, 1, Effect::Lost)
        });
    }
}

#[test]
fn a_creation_that_comes_after_the_end_makes_no_second_run() {
    // The first creation is still on its way when a second one is asked for, and arrives when all of that is over.
    for pause in [0, 15 * 60] {
        let bench = Bench::new();
        bench.script(3_000, 0, "hello\n");
        bench.world.fault("POST jobs", 1, Effect::Late);
        let id = bench.submit_and_dispatch(&submission());
        bench.world.pass(15);
        bench.tick(9);
        assert_eq!(bench.finished(id).1, domain::Reason::Completed);
        bench.world.pass(pause);
        bench.tick(3);
        assert_eq!(bench.world.deliver_late(), [409], "its name is taken");
        bench.assert_ran_once(id, "hello\n");
    }
}

#[test]
fn a_creation_that_comes_after_the_start_clock_starts_nothing() {
    let bench = Bench::new();
    bench.world.fault("POST jobs", 1, Effect::Late);
    let mut hurried = submission();
    hurried.timeouts.start_seconds = 5;
    let id = bench.submit_and_dispatch(&hurried);
    bench.world.pass(5);
    bench.tick(3);
    assert_eq!(bench.finished(id).1, domain::Reason::StartTimeout);
    assert_eq!(bench.world.deliver_late(), [409], "its name is taken");
    assert_eq!(bench.world.starts(), 0);
    bench.assert_nothing_left();
}
