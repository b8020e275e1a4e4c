//! The tick itself: its lease, its watch, what it leaves to the next one, and who looks at it.

use app::Caller;
use std::time::Duration;

use domain::{Reason, Status};

use crate::support::{Bench, Effect, refusal, submission};

const SECOND: Duration = Duration::from_secs(1);

/// More steps than a tick takes until it watches.
const MOST_STEPS_APART: usize = 40;

#[test]
fn a_second_tick_leaves_at_once_and_says_who_works() {
    let bench = Bench::new();
    let (first, second) = (bench.app(), bench.app());
    let (first, second, at) = bench.world.run(async {
        let late = async {
            let report = second.tick(9 * SECOND).await.expect("the store answers");
            (report, bench.world.now())
        };
        let begun = bench.world.now();
        let (first, (second, at)) = futures::join!(first.tick(9 * SECOND), late);
        (
            first.expect("the store answers"),
            second,
            at.duration_since(begun),
        )
    });
    assert!(first.leader && first.holder.is_none());
    assert!(!second.leader && second.holder.is_some());
    assert!(at.is_zero(), "it waited for {at}");
    assert!(bench.tick(1).leader, "the lease was given back");
}

#[test]
fn a_scheduled_tick_waits_a_little_for_the_one_before_it_but_ends_no_later() {
    for (busy, leads) in [(2 * SECOND, true), (20 * SECOND, false)] {
        let bench = Bench::new();
        let (first, second) = (bench.app(), bench.app());
        let (first, (second, took)) = bench.world.run(async {
            let late = async {
                let begun = bench.world.now();
                let report = second.scheduled_tick(9 * SECOND).await.expect("answers");
                (report, bench.world.now().duration_since(begun))
            };
            futures::join!(first.tick(busy), late)
        });
        assert!(first.expect("answers").leader);
        assert_eq!(second.leader, leads, "behind a tick of {busy:?}");
        assert_eq!(took.as_secs(), if leads { 9 } else { 3 });
    }
}

#[test]
fn the_lease_of_a_killed_tick_ends_by_itself() {
    let bench = Bench::new();
    bench.world.crash_after(12);
    assert!(
        bench
            .world
            .run_or_crash(bench.app().tick(9 * SECOND))
            .is_none()
    );
    bench.world.pass(4);
    assert!(
        !bench.tick(1).leader,
        "a holder that lives renews it within 5 s"
    );
    bench.world.pass(1);
    assert!(bench.tick(1).leader);
}

#[test]
fn a_long_tick_keeps_its_lease() {
    let bench = Bench::new();
    let (first, second) = (bench.app(), bench.app());
    let reports = bench.world.run(async {
        let others = async {
            let mut led = 0;
            for _ in 0..40 {
                led += u32::from(second.tick(SECOND).await.expect("answers").leader);
                app::Runtime::sleep(&bench.time(), SECOND).await;
            }
            led
        };
        futures::join!(first.tick(60 * SECOND), others)
    });
    assert!(reports.0.expect("answers").leader);
    assert_eq!(reports.1, 0, "how often another took it");
}

#[test]
fn a_tick_that_lost_its_lease_stops() {
    let bench = Bench::new();
    let app = bench.app();
    let begun = bench.world.now();
    let report = bench.world.run(async {
        let thief = async {
            app::Runtime::sleep(&bench.time(), 2 * SECOND).await;
            bench.sql("UPDATE leases SET holder = 'thief', expires_at = 9e18");
        };
        futures::join!(app.tick(60 * SECOND), thief).0
    });
    assert!(report.expect("answers").leader);
    let took = bench.world.now().duration_since(begun);
    assert!(took.as_secs() < 6, "it went on for {took}");
    assert_eq!(
        bench.state("podsResourceVersion"),
        "",
        "what it has seen is not to be relied on"
    );
}

#[test]
fn ticks_hand_on_the_watch_and_list_only_now_and_then() {
    let bench = Bench::new();
    assert!(bench.tick(1).listed);
    for _ in 0..3 {
        bench.world.pass(50);
        assert!(!bench.tick(1).listed);
    }
    bench.world.pass(300);
    assert!(bench.tick(1).listed, "the watch is a hint");
}

#[test]
fn a_watch_that_is_too_old_is_replaced_by_a_list() {
    let bench = Bench::new();
    bench.tick(1);
    bench.script(500, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.world.pass(5);
    bench.world.compact();
    let report = bench.tick(3);
    assert!(report.listed);
    assert_eq!(report.failures, 0, "{:?}", bench.world.lines);
    bench.assert_ran_once(id, "hello\n");

    // The same as the answer's status instead of an event.
    let id = bench.submit_and_dispatch(&submission());
    bench.world.fault(
        "WATCH pods",
        1,
        refusal(410, "Expired", "too old resource version"),
    );
    assert!(bench.tick(3).listed);
    assert_eq!(bench.finished(id).1, Reason::Completed);
}

#[test]
fn a_watch_that_breaks_anywhere_loses_nothing() {
    for piece in 1..=6 {
        let bench = Bench::new();
        bench.tick(1);
        bench.script(1500, 0, "hello\n");
        bench.world.fault("WATCH pods", 1, Effect::Cut(piece));
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(6);
        bench.assert_ran_once(id, "hello\n");
    }
}

#[test]
fn a_tick_that_failed_at_something_makes_the_next_one_list() {
    let bench = Bench::new();
    bench.tick(1);
    assert!(!bench.tick(1).listed);
    bench.script(500, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.world.fault("GET log", u32::MAX, Effect::NotSent);
    bench.tick(2);
    bench.world.heal();
    assert!(bench.tick(2).listed);
    bench.assert_ran_once(id, "hello\n");
}

#[test]
fn a_database_that_fails_for_a_while_loses_nothing() {
    let bench = Bench::new();
    bench.script(2_000, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    let app = bench.app();
    let report = bench.world.run(async {
        let trouble = async {
            app::Runtime::sleep(&bench.time(), SECOND).await;
            bench.world.database_down.set(true);
            app::Runtime::sleep(&bench.time(), 4 * SECOND).await;
            bench.world.database_down.set(false);
        };
        futures::join!(app.tick(9 * SECOND), trouble).0
    });
    assert!(report.expect("answers").failures > 0);
    bench.tick(1);
    bench.assert_ran_once(id, "hello\n");
}

#[test]
fn writers_at_the_same_time_lose_none_of_what_they_saw() {
    // The instance that accepted it writes the Job's uid while the tick writes what its pod does, each so many steps
    // after the other.
    for steps in 0..MOST_STEPS_APART {
        let bench = Bench::new();
        bench.tick(1);
        bench.script(500, 0, "hello\n");
        let execution = bench.submit(&submission());
        let (instance, tick) = (bench.app(), bench.app());
        bench.world.run(async {
            let submission = submission();
            let creation = async {
                for _ in 0..steps {
                    bench.world.let_others().await;
                }
                instance.dispatch_submitted(&execution, &submission).await;
            };
            let ((), report) = futures::join!(creation, tick.tick(2 * SECOND));
            assert_eq!(report.expect("answers").failures, 0);
        });
        let (end, reason) = bench.finished(execution.id);
        assert_eq!(reason, Reason::Completed);
        assert!(end.job_uid.is_some(), "after {steps} steps: {end:?}");
        assert!(end.started_at.is_some());
        bench.assert_ran_once(execution.id, "hello\n");
    }
}

#[test]
fn readiness_says_which_part_does_not_work() {
    let bench = Bench::new();
    let ready = |bench: &Bench| bench.world.run(bench.app().readiness());
    let young = ready(&bench);
    assert!(young.store.is_ok() && young.kubernetes.is_ok() && !young.is_ready());
    assert!(young.tick.expect_err("none ran").contains("no tick"));
    bench.tick(1);
    assert!(ready(&bench).is_ready());
    bench.world.pass(29);
    assert!(ready(&bench).is_ready());
    bench.world.pass(3);
    let stale = ready(&bench);
    assert!(stale.store.is_ok() && stale.kubernetes.is_ok());
    assert!(stale.tick.expect_err("stale").contains("32 s ago"));
    bench.tick(1);
    bench.world.fault("GET readyz", 1, Effect::NotSent);
    let cut_off = ready(&bench);
    assert!(cut_off.store.is_ok() && cut_off.tick.is_ok());
    assert!(
        cut_off
            .kubernetes
            .expect_err("not sent")
            .contains("refused")
    );
    bench.world.fault(
        "GET readyz",
        1,
        refusal(401, "Unauthorized", "Unauthorized"),
    );
    assert!(
        ready(&bench)
            .kubernetes
            .expect_err("401")
            .contains("credentials")
    );
    bench.world.database_down.set(true);
    let no_store = ready(&bench);
    assert!(no_store.kubernetes.is_ok());
    assert!(no_store.store.expect_err("down").contains("down"));
}

#[test]
fn a_wait_ends_with_the_execution_or_at_its_limit() {
    let bench = Bench::new();
    bench.script(2_000, 0, "");
    let id = bench.submit_and_dispatch(&submission());
    let (waiter, ticker) = (bench.app(), bench.app());
    let begun = bench.world.now();
    let seen = bench
        .world
        .run(waiter.wait_until_finished(&Caller::local(), id, SECOND))
        .expect("answers");
    assert_eq!(bench.world.now().duration_since(begun).as_millis(), 1000);
    assert_ne!(seen.expect("there").execution.status, Status::Finished);
    let begun = bench.world.now();
    let (took, seen) = bench.world.run(async {
        let wait = async {
            let seen = waiter
                .wait_until_finished(&Caller::local(), id, 60 * SECOND)
                .await;
            (bench.world.now().duration_since(begun), seen)
        };
        futures::join!(wait, ticker.tick(5 * SECOND)).0
    });
    let seen = seen.expect("answers").expect("there");
    assert_eq!(seen.execution.status, Status::Finished);
    assert!(
        took.as_millis() <= 1_300,
        "a fifth of a second after its end at most: {took}"
    );
    let begun = bench.world.now();
    bench
        .world
        .run(waiter.wait_until_finished(&Caller::local(), id, 60 * SECOND))
        .expect("answers");
    assert!(bench.world.now().duration_since(begun).is_zero());
}
