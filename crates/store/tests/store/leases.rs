//! Leases and the small facts.

use std::sync::Barrier;
use std::thread;

use store::testing::ready;
use store::{Lease, LeaseRow, Spent};

use crate::support::*;

/// What one term has cost.
const TERM: Spent = Spent {
    terms: 1,
    micros: 9_950_000,
    statements: 120,
    requests: 7,
    watches: 1,
    failures: 2,
};

fn release(store: &Store, holder: &str, now: i64) {
    let released = ready(store.release_lease("tick", holder, at(now), &TERM));
    released.expect("it answers");
}

fn acquire(store: &Store, holder: &str, now: i64, expires: i64) -> Option<i64> {
    let lease = ready(store.acquire_lease("tick", holder, at(now), at(expires)));
    lease.expect("it answers").map(|Lease { fence }| fence)
}

#[test]
fn who_gives_it_back_notes_what_was_spent() {
    let store = memory();
    for now in [10, 20] {
        assert!(acquire(&store, "a", now, now + 5).is_some());
        release(&store, "a", now + 3);
    }
    acquire(&store, "b", 24, 30);
    release(&store, "a", 25);
    let row = ready(store.lease("tick"))
        .expect("it reads")
        .expect("it is there");
    let twice = Spent {
        terms: 2,
        micros: 19_900_000,
        statements: 240,
        requests: 14,
        watches: 2,
        failures: 4,
    };
    assert_eq!(
        row.spent, twice,
        "a had it twice, and b has not given it back"
    );
    assert_eq!(row.renewed_at, at(24));
}

#[test]
fn one_has_it_until_it_expires_or_is_given_back() {
    let store = memory();
    assert_eq!(ready(store.lease("tick")).expect("it reads"), None);
    assert_eq!(acquire(&store, "a", 0, 10), Some(1), "it is free");
    assert_eq!(acquire(&store, "b", 9, 19), None, "a has it");
    assert_eq!(acquire(&store, "a", 9, 19), Some(1), "a renews it");
    assert_eq!(acquire(&store, "b", 18, 28), None, "a has renewed it");
    let row = LeaseRow {
        holder: "a".into(),
        fence: 1,
        acquired_at: at(0),
        renewed_at: at(9),
        expires_at: at(19),
        spent: Spent::default(),
    };
    assert_eq!(ready(store.lease("tick")).expect("it reads"), Some(row));
    assert_eq!(acquire(&store, "b", 19, 29), Some(2), "it has expired");
    assert_eq!(acquire(&store, "a", 20, 30), None, "a has lost it");
    release(&store, "a", 20);
    assert_eq!(acquire(&store, "a", 20, 30), None, "it was not a's to give");
    release(&store, "b", 20);
    assert_eq!(acquire(&store, "a", 21, 31), Some(3), "b has given it back");
    assert_eq!(
        acquire(&store, "a", 40, 50),
        Some(4),
        "a had lost it, and takes it anew"
    );
    let row = ready(store.lease("tick"))
        .expect("it reads")
        .expect("it is there");
    assert_eq!((row.acquired_at, row.renewed_at), (at(40), at(40)));
    let other = ready(store.acquire_lease("other", "b", at(41), at(51)));
    assert_eq!(
        other.expect("it answers"),
        Some(Lease { fence: 1 }),
        "leases are apart"
    );
}

#[test]
fn of_many_at_once_exactly_one_gets_it() {
    const HOLDERS: usize = 4;
    const ROUNDS: i64 = 50;
    let place = Place::new();
    let barrier = Barrier::new(HOLDERS);
    let fences: Vec<Vec<Option<i64>>> = thread::scope(|scope| {
        let holder = |number: usize| {
            let (barrier, place) = (&barrier, &place);
            scope.spawn(move || {
                let store = file(place);
                let name = format!("holder {number}");
                let one = |round: i64| {
                    barrier.wait();
                    acquire(&store, &name, round * 10, round * 10 + 10)
                };
                (0..ROUNDS).map(one).collect()
            })
        };
        let holders: Vec<_> = (0..HOLDERS).map(holder).collect();
        holders
            .into_iter()
            .map(|h| h.join().expect("no panic"))
            .collect()
    });
    for (round, expected) in (0..).zip(1..=ROUNDS) {
        let got: Vec<i64> = fences.iter().filter_map(|f| f[round]).collect();
        assert_eq!(got, [expected], "round {round}");
    }
}

#[test]
fn small_facts_are_kept_and_replaced() {
    let store = memory();
    assert_eq!(ready(store.get_state("k")).expect("it reads"), None);
    for value in ["1", "", "'two' 🦀"] {
        ready(store.set_state("k", value)).expect("it writes");
        ready(store.set_state("other", "x")).expect("it writes");
        assert_eq!(
            ready(store.get_state("k")).expect("it reads").as_deref(),
            Some(value)
        );
    }
}

#[test]
fn several_facts_are_read_at_once() {
    let store = memory();
    ready(store.set_state("a", "1")).expect("it writes");
    ready(store.set_state("c", "")).expect("it writes");
    let facts = ready(store.get_states(["c", "b", "a"])).expect("it reads");
    assert_eq!(facts, [Some(String::new()), None, Some("1".to_owned())]);
}

#[test]
fn a_fact_is_written_by_the_holder_of_its_lease_alone() {
    let store = memory();
    let write = |holder, value| {
        ready(store.set_state_while_holding("tick", holder, "k", value)).expect("it answers")
    };
    assert!(!write("a", "0"), "nobody has it");
    acquire(&store, "a", 0, 10).expect("it is free");
    assert!(write("a", "1"));
    assert!(!write("b", "2"));
    // As long as nobody else has taken it, that is who has it.
    acquire(&store, "b", 20, 30).expect("it has expired");
    assert!(!write("a", "3"));
    assert!(write("b", "4"));
    assert_eq!(
        ready(store.get_state("k")).expect("it reads").as_deref(),
        Some("4")
    );
}
