//! Histograms: what instances measured, added up in the database.

use std::time::Duration;

use domain::transition;
use domain::transition::Observation;
use store::testing::ready;
use store::{Measure, Tally, Timing, Written};

use crate::support::*;

fn timings(store: &Store) -> Vec<(Measure, String, Timing)> {
    let mut all = ready(store.timings()).expect("it reads");
    all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    all
}

fn timing(total: u64, micros: u64, buckets: &[(usize, u64)]) -> Timing {
    let mut timing = Timing {
        total,
        micros,
        ..Timing::default()
    };
    for (bucket, count) in buckets {
        timing.buckets[*bucket] = *count;
    }
    timing
}

#[test]
fn what_several_instances_measured_is_added_up() {
    let store = memory();
    assert_eq!(timings(&store), []);
    let (one, other) = (Tally::default(), Tally::default());
    one.observe(Measure::Queue, "", Duration::from_millis(100));
    one.observe(Measure::Queue, "", Duration::from_millis(101));
    one.observe(Measure::Request, "create 201", Duration::from_micros(3));
    other.observe(Measure::Queue, "", Duration::from_secs(99_999));
    for tally in [&one, &other, &one] {
        ready(store.flush(tally)).expect("it writes");
        assert!(tally.is_empty());
    }
    let expected = [
        (
            Measure::Queue,
            String::new(),
            // The last is beyond every bucket.
            timing(3, 99_999_201_000, &[(0, 1), (1, 1)]),
        ),
        (
            Measure::Request,
            "create 201".into(),
            timing(1, 3, &[(0, 1)]),
        ),
    ];
    assert_eq!(timings(&store), expected);
}

#[test]
fn what_goes_with_a_step_is_stored_with_it_or_kept() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let tally = Tally::default();
    tally.observe(Measure::Request, "create 201", Duration::from_millis(4));
    let exists = Observation::JobExists { uid: "u".into() };
    let next = transition(&execution, &exists, at(1)).expect("it changes");
    let write = || ready(store.update_with_tally(&next, &tally)).expect("it answers");
    assert_eq!(write(), Written::Updated);
    assert!(tally.is_empty());
    assert_eq!(get(&store, &execution), next);
    tally.observe(Measure::Request, "create 201", Duration::from_millis(6));
    assert_eq!(write(), Written::Stale);
    assert!(!tally.is_empty(), "it is not stored yet");
    assert_eq!(timings(&store)[0].2, timing(1, 4_000, &[(0, 1)]));
    ready(store.flush(&tally)).expect("it writes");
    assert_eq!(timings(&store)[0].2, timing(2, 10_000, &[(0, 1), (1, 1)]));
}

#[test]
fn what_cannot_be_stored_is_kept() {
    let store = memory();
    let tally = Tally::default();
    tally.observe(Measure::Run, "", Duration::from_secs(2));
    store.sql().execute("ALTER TABLE timings RENAME TO hidden");
    ready(store.flush(&tally)).expect_err("there is no table");
    assert!(!tally.is_empty());
    store.sql().execute("ALTER TABLE hidden RENAME TO timings");
    ready(store.flush(&tally)).expect("it writes");
    assert_eq!(
        timings(&store),
        [(Measure::Run, String::new(), timing(1, 2_000_000, &[(3, 1)]))]
    );
}

#[test]
fn what_a_newer_version_measures_is_left_out() {
    let store = memory();
    store.sql().execute(
        "INSERT INTO timings VALUES ('later', '', 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)",
    );
    assert_eq!(timings(&store), []);
}
