//! What is sent twice is stored once.

use std::sync::Barrier;
use std::thread;

use domain::{Execution, Submission};
use store::testing::ready;
use store::{Inserted, SqlError, StoreError};

use crate::support::*;

#[test]
fn an_idempotency_key_gives_the_first_execution_again() {
    let store = memory();
    let first = queued(0);
    let asked = submission(&first);
    let insert = |execution: &Execution, submission: &Submission, key: Option<&str>| {
        ready(store.insert(execution, submission, key, PLENTY, at(9))).expect("it answers")
    };
    let Inserted::New {
        execution: stored, ..
    } = insert(&first, &asked, Some("k"))
    else {
        panic!("it is new");
    };
    let replay = Submission {
        digest: asked.digest.clone(),
        ..submission(&queued(1))
    };
    for (asked, same_request) in [(&replay, true), (&submission(&queued(1)), false)] {
        let expected = Inserted::Existing {
            execution: stored.clone(),
            same_request,
        };
        assert_eq!(insert(&queued(1), asked, Some("k")), expected);
    }
    // Nothing of the refused ones is left.
    assert_eq!(ready(store.get(queued(1).id)).expect("it reads"), None);
    assert_eq!(
        ready(store.submission(queued(1).id)).expect("it reads"),
        None
    );
    assert!(matches!(
        insert(&queued(1), &replay, Some("K")),
        Inserted::New { .. }
    ));
    assert!(matches!(
        insert(&queued(2), &replay, None),
        Inserted::New { .. }
    ));
    assert!(matches!(
        insert(&queued(3), &replay, None),
        Inserted::New { .. }
    ));
}

#[test]
fn of_two_inserts_with_one_key_exactly_one_is_new() {
    const ROUNDS: i64 = 50;
    let place = Place::new();
    let barrier = Barrier::new(2);
    let answers: Vec<Vec<Inserted>> = thread::scope(|scope| {
        let inserter = |number: u64| {
            let (barrier, place) = (&barrier, &place);
            scope.spawn(move || {
                let store = file(place);
                let one = |round: i64| {
                    let mut execution = queued(round);
                    execution.id = id(round, number);
                    let mut asked = submission(&execution);
                    asked.digest = "the same".into();
                    let key = format!("key {round}");
                    barrier.wait();
                    ready(store.insert(&execution, &asked, Some(&key), PLENTY, at(9)))
                        .expect("it answers")
                };
                (0..ROUNDS).map(one).collect()
            })
        };
        let inserters: Vec<_> = (0..2).map(inserter).collect();
        inserters
            .into_iter()
            .map(|i| i.join().expect("no panic"))
            .collect()
    });
    for (one, other) in answers[0].iter().zip(&answers[1]) {
        let (new, existing) = match (one, other) {
            (
                Inserted::New { execution: new, .. },
                Inserted::Existing {
                    execution,
                    same_request: true,
                },
            )
            | (
                Inserted::Existing {
                    execution,
                    same_request: true,
                },
                Inserted::New { execution: new, .. },
            ) => (new, execution),
            other => panic!("one is new, one is not: {other:?}"),
        };
        assert_eq!(new, existing);
    }
}

#[test]
fn an_id_is_stored_once() {
    let store = memory();
    insert(&store, &queued(0), PLENTY);
    let again = ready(store.insert(&queued(0), &submission(&queued(0)), None, PLENTY, at(1)));
    assert!(
        matches!(again, Err(StoreError::Sql(SqlError::Constraint(_)))),
        "{again:?}"
    );
}
