//! Inserting, reading, compare-and-set, finishing.

use std::collections::BTreeMap;

use domain::transition::Observation;
use domain::{Status, Submission, Waiting, WaitingKind};
use store::Inserted;
use store::testing::ready;

use crate::support::*;

/// Text that has gone wrong somewhere before.
const ODD: &str = "'; DROP TABLE executions; -- \"?1 $1 %s\" \u{0} \r\n\t é 日本 🦀 \u{202e}";

#[test]
fn what_is_inserted_is_read_back() {
    let store = memory();
    let mut execution = queued(0);
    execution.labels = BTreeMap::from([(ODD.into(), ODD.into()), ("b".into(), String::new())]);
    execution.image = ODD.into();
    execution.waiting = Some(Waiting {
        kind: WaitingKind::Concurrency,
        message: ODD.into(),
    });
    let submission = Submission {
        script: ODD.into(),
        interpreter: Some(vec![ODD.into(), String::new()]),
        args: vec![ODD.into(), String::new()],
        env: BTreeMap::from([("A".into(), ODD.into())]),
        files: BTreeMap::from([
            (ODD.into(), (0..=255).collect()),
            ("empty".into(), Vec::new()),
        ]),
        ..submission(&execution)
    };
    let inserted = ready(store.insert(&execution, &submission, Some(ODD), 0, at(1)));
    assert_eq!(
        inserted.expect("it inserts"),
        Inserted::New {
            execution: execution.clone()
        }
    );
    assert_eq!(get(&store, &execution), execution);
    let read = ready(store.submission(execution.id)).expect("it reads");
    assert_eq!(read, Some(submission));
}

#[test]
fn a_whole_life_is_read_back_at_each_step() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    assert_eq!(execution.dispatched_at, Some(at(0)));
    assert_eq!(execution.generation, 2);
    assert_eq!(
        execution.waiting.as_ref().map(|w| w.kind),
        Some(WaitingKind::Starting)
    );
    assert_eq!(get(&store, &execution), execution);
    let execution = step(
        &store,
        &execution,
        Observation::JobExists { uid: "u".into() },
        5,
    );
    assert_eq!(get(&store, &execution), execution);
    let execution = step(&store, &execution, Observation::Started { at: at(6) }, 7);
    assert_eq!(get(&store, &execution), execution);
    let execution = finish(&store, &execution, 42, 9);
    assert_eq!(execution.status, Status::Finished);
    assert_eq!(get(&store, &execution), execution);
}

#[test]
fn times_are_kept_to_the_microsecond() {
    let store = memory();
    let mut execution = queued(0);
    execution.created_at += jiff::SignedDuration::from_nanos(123_456_789);
    let stored = insert(&store, &execution, PLENTY);
    assert_eq!(stored.created_at.subsec_nanosecond(), 123_456_000);
    assert_eq!(get(&store, &stored), stored);
}
