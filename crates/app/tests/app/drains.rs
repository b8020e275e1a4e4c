//! Many that are worked on at once: what a drained execution costs the database, the figure that says how fast a queue drains, and that none
//! holds up the others.

use domain::{Reason, Status};

use crate::support::{Bench, submission};

/// How many are drained.
const QUEUED: usize = 50;

/// How many of them may run at once.
const RUNNING: u32 = 20;

/// How often the database may be asked for each, BEGIN and COMMIT counted. Written one by one it was 24 times.
const MOST_ASKED: f64 = 9.0;

/// How many commits there may be for each. Written one by one there were four.
const MOST_COMMITS: f64 = 2.0;

/// How often the database may be asked for each of many that end at once, all that a tick asks besides counted in. Read one by one it was
/// once more.
const MOST_ASKED_AT_ONCE: f64 = 2.7;

#[test]
fn a_drained_execution_costs_few_statements() {
    let mut bench = Bench::with_max_running(1);
    // It keeps the others in the queue.
    bench.script(3_600_000, 0, "");
    bench.submit_and_dispatch(&submission());
    let ids: Vec<_> = (0..QUEUED)
        .map(|_| bench.submit(&submission()).id)
        .collect();
    bench.script(100, 0, "hello\n");
    let spent = |bench: &Bench| (bench.world.asked.take(), bench.world.commits.take());
    // A list is no part of what is measured.
    bench.tick(1);
    spent(&bench);
    bench.tick(5);
    let idle = spent(&bench);
    bench.set_max_running(1 + RUNNING);
    let report = bench.tick(5);
    let drained = spent(&bench);
    assert_eq!(report.failures, 0, "{:?}", bench.world.lines);
    for id in &ids {
        assert_eq!(bench.finished(*id).1, Reason::Completed);
    }
    // What a tick asks while nothing happens is not the drain's.
    let of_each = |all: usize, idle: usize| all.saturating_sub(idle) as f64 / QUEUED as f64;
    let (asked, commits) = (of_each(drained.0, idle.0), of_each(drained.1, idle.1));
    println!("an execution drained: the database asked {asked} times, {commits} commits");
    assert!(asked > 1.0 && commits > 0.2, "it was counted");
    assert!(asked < MOST_ASKED, "{asked}");
    assert!(commits < MOST_COMMITS, "{commits}");
}

#[test]
fn what_happened_between_two_ticks_is_read_at_once() {
    let bench = Bench::new();
    bench.tick(1);
    bench.script(3_000, 0, "hello\n");
    let ids: Vec<_> = (0..QUEUED)
        .map(|_| bench.submit_and_dispatch(&submission()))
        .collect();
    bench.tick(1);
    bench.world.pass(4);
    bench.world.asked.take();
    let report = bench.tick(1);
    assert_eq!(report.finished as usize, QUEUED, "{:?}", bench.world.lines);
    let asked = bench.world.asked.take() as f64 / QUEUED as f64;
    println!("an execution that ended meanwhile: the database asked {asked} times");
    assert!(asked < MOST_ASKED_AT_ONCE, "{asked}");
    for id in ids {
        assert_eq!(bench.finished(id).1, Reason::Completed);
    }
}

#[test]
fn one_that_the_database_does_not_take_holds_up_no_other() {
    let bench = Bench::new();
    bench.tick(1);
    bench.sql(
        "CREATE TRIGGER refuses BEFORE INSERT ON logs WHEN length(NEW.head) > 6 \
         BEGIN SELECT RAISE(ABORT, 'too long for it'); END",
    );
    bench.script(1_000, 0, "hello\n");
    let mut ids: Vec<_> = (0..5)
        .map(|_| bench.submit_and_dispatch(&submission()))
        .collect();
    bench.script(1_000, 0, "hello to all\n");
    ids.insert(2, bench.submit_and_dispatch(&submission()));
    let report = bench.tick(5);
    assert_eq!(report.finished, 5, "{:?}", bench.world.lines);
    assert!(report.failures > 0, "it was refused");
    assert_eq!(bench.get(ids[2]).status, Status::Running);
    // Nothing is lost of it.
    bench.sql("DROP TRIGGER refuses");
    bench.tick(2);
    for id in ids {
        assert_eq!(bench.finished(id).1, Reason::Completed);
        let log = bench.stored_log(id);
        assert!(log.complete && log.head.starts_with(b"hello"));
    }
}
