//! Logs that the node rotates while the script runs: kept whole, or said not to be; never silently short.

use std::time::Duration;

use domain::ExecutionId;
use serde_json::{Value, json};

use crate::support::{Bench, Effect, submission};

/// What is kept of a log's beginning and of its end, in bytes, as the API promises.
const KEPT_BYTES: usize = 1 << 20;

/// A script that writes numbered lines for 40 s, and the log that this makes.
struct Writer {
    writes: Vec<Value>,
    all: String,
}

impl Writer {
    /// So many writes, each of so many lines.
    fn new(writes: usize, lines: usize) -> Self {
        let mut all = String::new();
        let write = |n: usize| {
            let text: String = (0..lines)
                .map(|m| format!("line {}\n", n * lines + m))
                .collect();
            all.push_str(&text);
            json!({"atMs": n * 40_000 / writes, "log": text})
        };
        let writes = (0..writes).map(write).collect();
        Self { writes, all }
    }

    fn script(&self, rotations: &[i64]) -> Value {
        json!({"runMs": 41_000, "writes": self.writes, "rotateMs": rotations})
    }
}

/// Its log is what the script wrote, with nothing missing that is not said to be.
#[track_caller]
fn assert_honest(bench: &Bench, id: ExecutionId, all: &str) -> bool {
    let log = bench.stored_log(id);
    let all = all.as_bytes();
    assert!(all.starts_with(&log.head), "the head is the beginning");
    if log.complete {
        assert_eq!(log.lost_bytes, 0);
        assert!([log.head, log.tail].concat() == all, "it is not complete");
        return true;
    }
    assert!(all.ends_with(&log.tail), "the tail is the end");
    let missing = all.len() - log.head.len() - log.tail.len();
    assert!(log.lost_bytes > 0, "{missing} bytes are missing silently");
    assert!(log.lost_bytes <= missing as u64, "a lower bound");
    false
}

/// Numbers that look like chance, from a seed.
fn chance(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

#[test]
fn whoever_follows_from_the_start_loses_nothing_by_rotation() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..6 {
        println!("round {round}, seed {seed:#x}");
        let writer = Writer::new(80, 5);
        let rotations: Vec<i64> = (0..5)
            .map(|_| (chance(&mut seed) % 40_000) as i64)
            .collect();
        let bench = Bench::new();
        bench.world.script.replace(writer.script(&rotations));
        let id = bench.submit_and_dispatch(&submission());
        // Ticks as the cron has them: a moment lies between two.
        for _ in 0..6 {
            bench.tick(8);
        }
        bench.finished(id);
        let log = bench.stored_log(id);
        // A rotation between two ticks hides at most what was written since the one before.
        if !assert_honest(&bench, id, &writer.all) {
            println!("{} of {} bytes are lost", log.lost_bytes, writer.all.len());
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_rotation_while_it_is_followed_costs_nothing_at_all() {
    let writer = Writer::new(80, 5);
    let bench = Bench::new();
    bench
        .world
        .script
        .replace(writer.script(&[9_000, 17_500, 30_100]));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(45);
    assert_eq!(bench.world.count("GET log"), 1, "it is read once");
    bench.assert_ran_once(id, &writer.all);
}

#[test]
fn a_log_goes_on_from_tick_to_tick() {
    let writer = Writer::new(80, 5);
    let bench = Bench::new();
    // Before the first tick's end, and long before the others'.
    bench.world.script.replace(writer.script(&[3_000]));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(5);
    for _ in 0..8 {
        bench.world.pass(1);
        bench.tick(5);
    }
    bench.assert_ran_once(id, &writer.all);
}

#[test]
fn what_was_rotated_away_between_two_ticks_is_marked() {
    let writer = Writer::new(80, 5);
    let bench = Bench::new();
    bench.world.script.replace(writer.script(&[12_250]));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(10);
    bench.world.pass(5);
    bench.tick(30);
    bench.finished(id);
    assert!(
        !assert_honest(&bench, id, &writer.all),
        "it cannot be complete"
    );
    let log = bench.stored_log(id);
    assert!(log.head.ends_with(b"\n") && log.tail.starts_with(b"line "));
    assert!(log.tail.len() > writer.all.len() / 2);
    bench.assert_nothing_left();
}

#[test]
fn a_stream_that_breaks_goes_on_where_it_was() {
    let writer = Writer::new(80, 5);
    for cut in [1, 2, 9] {
        let bench = Bench::new();
        bench.world.script.replace(writer.script(&[]));
        bench.world.fault("GET log", 3, Effect::Cut(cut));
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(45);
        assert!(bench.world.all_faults_fired());
        bench.assert_ran_once(id, &writer.all);
    }
}

#[test]
fn a_tick_that_dies_loses_nothing_that_the_node_still_has() {
    let writer = Writer::new(80, 5);
    for rotation in [None, Some(7_000)] {
        let bench = Bench::new();
        let rotations: Vec<i64> = rotation.into_iter().collect();
        bench.world.script.replace(writer.script(&rotations));
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(4);
        let end = bench.world.now() + jiff::SignedDuration::from_secs(5);
        let app = bench.app();
        let dies = app.tick(Duration::from_secs(30));
        assert!(bench.world.run_until(dies, end).is_none());
        bench.world.pass(6);
        bench.tick(35);
        bench.finished(id);
        let complete = assert_honest(&bench, id, &writer.all);
        assert_eq!(complete, rotation.is_none(), "rotated at {rotation:?}");
    }
}

#[test]
fn of_a_long_log_head_and_tail_are_kept_across_rotations() {
    // Each write is one line many times: annotations have no room for as much text.
    const LINES: usize = 60_000;
    let line = |n: usize| format!("line of write {n}\n");
    let write = |n: usize| json!({"atMs": n * 5_000, "log": line(n), "repeat": LINES});
    let writer = Writer {
        writes: (0..8).map(write).collect(),
        all: (0..8).map(|n| line(n).repeat(LINES)).collect(),
    };
    assert!(writer.all.len() > 4 * KEPT_BYTES);
    let bench = Bench::new();
    bench
        .world
        .script
        .replace(writer.script(&[6_000, 21_000, 36_000]));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(45);
    bench.finished(id);
    let log = bench.stored_log(id);
    let all = writer.all.as_bytes();
    assert!(log.head == all[..KEPT_BYTES]);
    assert!(log.tail == all[all.len() - KEPT_BYTES..]);
    assert_eq!(log.lost_bytes as usize, all.len() - 2 * KEPT_BYTES);
    assert_eq!(log.bytes as usize, all.len());
}

#[test]
fn last_words_are_kept_after_a_cancel_and_after_a_timeout() {
    for cancels in [true, false] {
        let writer = Writer::new(80, 5);
        let bench = Bench::new();
        let mut script = writer.script(&[2_000]);
        script["lastWords"] = "bye\n".into();
        bench.world.script.replace(script);
        let mut asked = submission();
        asked.timeouts.run_seconds = if cancels { 600 } else { 8 };
        let id = bench.submit_and_dispatch(&asked);
        bench.tick(6);
        if cancels {
            bench.cancel(id);
            bench.world.pass(15);
        }
        bench.tick(9);
        bench.finished(id);
        let log = bench.stored_log(id);
        assert!(log.head.starts_with(b"line 0\nline 1\n"));
        assert!(log.head.ends_with(b"\nbye\n"), "cancels: {cancels}");
        let written = &log.head[..log.head.len() - 4];
        assert!(writer.all.as_bytes().starts_with(written));
        assert!(log.complete, "cancels: {cancels}");
        bench.assert_nothing_left();
    }
}
