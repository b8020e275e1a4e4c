//! The queue while it drains: a steady flow, as far as the API server wants it.

use std::time::Duration;

use domain::{ExecutionId, Reason};
use jiff::SignedDuration;

use crate::support::{Bench, Effect, refusal, submission};

const SECOND: Duration = Duration::from_secs(1);

/// As many in the queue as told and one before them, which runs for an hour; from then on two hundred may run.
fn queued(count: usize) -> (Bench, Vec<ExecutionId>) {
    let mut bench = Bench::with_max_running(1);
    bench.script(3_600_000, 0, "");
    bench.submit_and_dispatch(&submission());
    let queued = (0..count).map(|_| bench.submit(&submission()).id);
    let queued = queued.collect();
    assert_eq!(bench.world.jobs_made.get(), 1);
    bench.set_max_running(200);
    (bench, queued)
}

/// Runs a tick of that many seconds; answers how many Jobs were asked for by half that time, and how many in all.
fn asked_for(bench: &Bench, seconds: u32) -> (usize, usize) {
    let before = bench.world.count("POST jobs");
    let app = bench.app();
    let half = async {
        app::Runtime::sleep(&bench.time(), SECOND * seconds / 2).await;
        bench.world.count("POST jobs") - before
    };
    let both = async { futures::join!(app.tick(SECOND * seconds), half) };
    let (report, half) = bench.world.run(both);
    assert!(report.expect("answers").leader);
    (half, bench.world.count("POST jobs") - before)
}

#[test]
fn as_many_are_in_flight_as_may_be_and_no_batch_waits_for_its_slowest() {
    let (bench, _) = queued(140);
    bench.world.fault("POST jobs", 140, Effect::Slow(2));
    // Four to see whether the API server takes any; then 64 are in flight at most, and 32 at least.
    let (half, all) = asked_for(&bench, 12);
    assert!((4 + 2 * 32..=4 + 2 * 64).contains(&half), "{half} in 6 s");
    assert_eq!(all, 140);

    let (bench, _) = queued(40);
    bench.world.fault("POST jobs", 1, Effect::Slow(6));
    assert_eq!(
        asked_for(&bench, 8),
        (40, 40),
        "one is slow, the others are not"
    );
    assert_eq!(bench.world.jobs_made.get(), 41);
}

#[test]
fn an_end_makes_room_at_once() {
    let bench = Bench::with_max_running(1);
    bench.script(1_000, 0, "");
    let ids: Vec<_> = (0..5)
        .map(|_| bench.submit_and_dispatch(&submission()))
        .collect();
    bench.tick(9);
    let dispatched = ids.iter().map(|id| {
        assert_eq!(bench.finished(*id).1, Reason::Completed);
        bench.get(*id).dispatched_at.expect("it ran")
    });
    let dispatched: Vec<_> = dispatched.collect();
    for pair in dispatched.windows(2) {
        let apart = pair[1].duration_since(pair[0]);
        assert!(apart < SignedDuration::from_millis(1_100), "{dispatched:?}");
    }
}

#[test]
fn an_api_server_that_asks_for_patience_is_left_alone_for_as_long() {
    let (bench, queued) = queued(30);
    let Effect::Answer(code, mut body) = refusal(429, "TooManyRequests", "slow down") else {
        unreachable!("a refusal is an answer")
    };
    body["details"]["retryAfterSeconds"] = 5.into();
    let patience = Effect::Answer(code, body);
    bench.world.fault("POST jobs", 4, patience);
    assert_eq!(asked_for(&bench, 9), (4, 4 + 30));
    assert!(bench.world.all_faults_fired());
    for id in queued {
        assert!(bench.get(id).job_uid.is_some());
    }
}

#[test]
fn an_api_server_that_takes_nothing_gets_one_probe_a_second() {
    let (bench, _) = queued(60);
    bench.world.fault("POST jobs", u32::MAX, Effect::NotSent);
    let (half, all) = asked_for(&bench, 10);
    // Less than twice the four that are tried first.
    assert!((4..=7 + 5).contains(&half), "{half} in 5 s");
    assert!((9..=7 + 10).contains(&all), "{all} in 10 s");
    // It is back: at once all that wait.
    bench.world.heal();
    assert_eq!(asked_for(&bench, 4).0, 60);
}

#[test]
fn what_only_some_are_refused_for_does_not_hold_up_the_others() {
    let (bench, _) = queued(60);
    let quota = "jobs.batch \"x\" is forbidden: exceeded quota: runs, requested: count/jobs.batch=1, \
                 used: count/jobs.batch=5, limited: count/jobs.batch=5";
    bench
        .world
        .fault("POST jobs", 3, refusal(403, "Forbidden", quota));
    let (half, all) = asked_for(&bench, 2);
    assert_eq!((half, all), (60, 60), "three come again after 5 s");
    assert_eq!(bench.world.jobs_made.get(), 1 + 57);
}
