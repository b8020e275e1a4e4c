//! Connections that somebody died on in a transaction, which hosts hand on as they are: PostgreSQL's alone.

use domain::transition::Observation;
use domain::{Entry, transition};
use store::testing::ready;
use store::{Dialect, Step, Written};

use crate::support::*;

/// How the transaction was left: just begun, with something read, with something written, and failed.
const LEFT: [(&str, bool); 4] = [
    ("", true),
    ("; SELECT 1", true),
    ("; UPDATE state SET value = 'lost'", true),
    ("; UPDATE state SET value = 'lost'; SELECT 1 / 0", false),
];

/// Leaves a transaction of the store's open on its connection.
fn leave_open(store: &Store, left: &str, works: bool) {
    let Database::Postgres(postgres) = store.sql() else {
        panic!("it is PostgreSQL");
    };
    let begin = Dialect::Postgres.begin();
    let result = postgres.execute_batch(&format!("{begin}{left}"));
    assert_eq!(result.is_ok(), works, "{left}: {result:?}");
}

#[test]
fn what_is_written_after_a_transaction_that_was_left_open_is_kept() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let (store, other) = (file(&place), file(&place));
    for (number, (left, works)) in (0..).zip(LEFT) {
        let state = |key: &str| ready(other.get_state(key)).expect("it reads");
        ready(store.set_state("before", "kept")).expect("it writes");

        // One statement.
        leave_open(&store, left, works);
        ready(store.set_state("after", left)).expect("it writes");
        assert_eq!(state("after").as_deref(), Some(left));
        assert_eq!(state("before").as_deref(), Some("kept"), "{left}");

        // One that reads.
        leave_open(&store, left, works);
        let read = ready(store.get_state("before")).expect("it reads");
        assert_eq!(read.as_deref(), Some("kept"), "{left}");

        // A transaction.
        let execution = insert(&other, &queued(number), PLENTY);
        leave_open(&store, left, works);
        ready(store.add_events(execution.id, &[Entry::once(at(1), "Told", "pod", "one")]))
            .expect("it writes");
        let events = ready(other.events(execution.id, 1, 9)).expect("it reads");
        let told = events.iter().filter(|event| event.entry.message == "one");
        assert_eq!(told.count(), 1, "{left}");
        assert_eq!(state("before").as_deref(), Some("kept"), "{left}");

        // A compare-and-set that finds another generation leaves none open.
        leave_open(&store, left, works);
        let observation = Observation::JobExists { uid: "u".into() };
        let next = transition(&execution, &observation, at(1)).expect("it changes");
        let lines = [Entry::once(at(2), "Told", "pod", "two")];
        for expected in [Written::Updated, Written::Stale] {
            let written = ready(store.update(Step::new(&next, &lines)));
            assert_eq!(written.expect("it answers"), expected, "{left}");
        }
        assert_eq!(get(&other, &execution), next);
    }
}

#[test]
fn where_it_cannot_be_told_nothing_is_done_twice() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let (store, other) = (file(&place), file(&place));
    store
        .sql()
        .execute("SET default_transaction_deferrable = on");
    let execution = insert(&store, &queued(0), PLENTY);
    assert_eq!(get(&other, &execution), execution);
    for message in ["one", "two"] {
        let told = [Entry::once(at(1), "Told", "pod", message)];
        ready(store.add_events(execution.id, &told)).expect("it writes");
    }
    let events = ready(other.events(execution.id, 0, 99)).expect("it reads");
    let counts: Vec<u32> = events.iter().map(|event| event.entry.count).collect();
    assert!(counts.iter().all(|count| *count == 1), "{events:?}");
}
