//! Batches: all or none, as far as there is room, once for each key.

use domain::{Execution, Submission};
use store::testing::ready;
use store::{BatchKey, Filter, Inserted, InsertedBatch};

use crate::support::{self, *};

/// Executions accepted at that time, of these priorities, whose ids ascend; the numbers count on from `first`.
fn batch(millis: i64, first: u64, priorities: &[i32]) -> Vec<(Execution, Submission)> {
    let items = (first..).zip(priorities).map(|(number, priority)| {
        let mut execution = queued(millis);
        execution.id = id(millis, number);
        execution.priority = *priority;
        execution.labels.insert("batch".into(), first.to_string());
        let asked = submission(&execution);
        (execution, asked)
    });
    items.collect()
}

fn insert_batch(
    store: &Store,
    batch: &[(Execution, Submission)],
    key: Option<(&str, &str)>,
    max_running: u32,
) -> InsertedBatch {
    let key = key.map(|(key, digest)| BatchKey { key, digest });
    support::insert_batch(store, batch, key, (max_running, PLENTY), at(30_000))
}

#[track_caller]
fn new(inserted: InsertedBatch) -> Vec<Execution> {
    match inserted {
        InsertedBatch::New { executions } => executions,
        other => panic!("it is not new: {other:?}"),
    }
}

fn all(store: &Store) -> usize {
    let page = ready(store.list(&ours(), &Filter::default(), 100, None)).expect("it reads");
    page.items.len()
}

#[test]
fn what_there_is_room_for_is_dispatched_in_the_queues_order() {
    let store = memory();
    insert(&store, &queued(0), PLENTY);
    let batch = batch(1, 1, &[0, 5, 0, 5, -1]);
    let stored = new(insert_batch(&store, &batch, None, 4));
    let dispatched: Vec<bool> = stored.iter().map(Execution::is_dispatched).collect();
    assert_eq!(dispatched, [true, true, false, true, false]);
    for ((asked, submission), execution) in batch.iter().zip(&stored) {
        assert_eq!(asked.id, execution.id, "in its order");
        assert_eq!(&get(&store, execution), execution);
        let read = ready(store.submission(execution.id)).expect("it reads");
        assert_eq!(read.as_ref(), Some(submission));
    }
    for (execution, position) in [(2, 1), (4, 2)] {
        let found = ready(store.queue_position(&stored[execution])).expect("it counts");
        assert_eq!(found, Some(position));
    }
    let filter = Filter {
        labels: vec![("batch".into(), "1".into())],
        ..Filter::default()
    };
    let page = ready(store.list(&ours(), &filter, 100, None)).expect("it reads");
    assert_eq!(page.items.len(), 5);
    // They are claimed as single ones are, until then and no longer.
    assert!(
        ready(store.claim_unconfirmed(at(29_999), at(60_000), 9))
            .expect("it claims")
            .is_empty()
    );
    let again = ready(store.claim_unconfirmed(at(30_000), at(60_000), 9)).expect("it claims");
    assert_eq!(again.len(), 4);
}

#[test]
fn no_more_are_dispatched_than_one_caller_can_create() {
    let store = memory();
    let batch = batch(0, 1, &[0; 5]);
    let inserted = support::insert_batch(&store, &batch, None, (PLENTY, 2), at(9));
    let stored = new(inserted);
    let dispatched: Vec<bool> = stored.iter().map(Execution::is_dispatched).collect();
    assert_eq!(dispatched, [true, true, false, false, false]);
}

#[test]
fn without_room_and_behind_others_all_of_it_waits() {
    let store = memory();
    let stored = new(insert_batch(&store, &batch(0, 1, &[0, 0]), None, 0));
    assert!(!stored.iter().any(Execution::is_dispatched));
    let stored = new(insert_batch(&store, &batch(1, 3, &[0, 0]), None, PLENTY));
    assert!(
        !stored.iter().any(Execution::is_dispatched),
        "the queue is not overtaken"
    );
    // What is before all others in the queue need not wait for them, as far as no other is in between.
    let mixed = new(insert_batch(&store, &batch(2, 5, &[100, -1]), None, PLENTY));
    assert!(!mixed.iter().any(Execution::is_dispatched));
    let urgent = new(insert_batch(&store, &batch(3, 7, &[101, 101]), None, 1));
    let dispatched: Vec<bool> = urgent.iter().map(Execution::is_dispatched).collect();
    assert_eq!(dispatched, [true, false]);
    let taken = ready(store.claim_queued(at(4), at(9), PLENTY, 9)).expect("it claims");
    let taken: Vec<_> = taken
        .into_iter()
        .map(|(execution, _)| execution.id)
        .collect();
    let expected = [
        id(3, 8),
        id(2, 5),
        id(0, 1),
        id(0, 2),
        id(1, 3),
        id(1, 4),
        id(2, 6),
    ];
    assert_eq!(taken, expected);
}

#[test]
fn a_batch_that_fails_in_its_middle_leaves_nothing() {
    let store = memory();
    let mut batch = batch(0, 1, &[0; 5]);
    batch[3].0.id = batch[1].0.id;
    ready(store.insert_batch(&batch, None, PLENTY, PLENTY, at(9))).expect_err("one id twice");
    assert_eq!(all(&store), 0);
    let rows = "SELECT (SELECT count(*) FROM payloads) + (SELECT count(*) FROM labels)";
    assert_eq!(store.sql().number(rows), 0);
}

#[test]
fn a_key_is_good_for_one_batch() {
    let store = memory();
    let first = batch(0, 1, &[0; 12]);
    let stored = new(insert_batch(&store, &first, Some(("k", "d")), 3));
    let again = insert_batch(&store, &batch(9, 50, &[0; 12]), Some(("k", "d")), 3);
    let executions = stored.iter().cloned().map(Some).collect();
    assert_eq!(again, InsertedBatch::Replayed { executions });
    let other = insert_batch(&store, &batch(9, 50, &[0; 12]), Some(("k", "e")), 3);
    assert_eq!(other, InsertedBatch::Conflict { id: stored[0].id });
    // Nor for a single one, or for a batch what a single one has.
    let single = queued(20);
    let inserted = ready(store.insert(&single, &submission(&single), Some("k"), 3, at(9)));
    match inserted.expect("it answers") {
        Inserted::Existing {
            execution,
            same_request,
        } => {
            assert_eq!((execution.id, same_request), (stored[0].id, false));
        }
        other => panic!("{other:?}"),
    }
    ready(store.insert(&single, &submission(&single), Some("s"), 3, at(9))).expect("it inserts");
    let taken = insert_batch(&store, &batch(30, 60, &[0; 2]), Some(("s", "d")), 3);
    assert_eq!(taken, InsertedBatch::Conflict { id: single.id });
    // Keys that begin alike are others.
    for (number, key) in (100..).step_by(10).zip(["k!", "k1", "kk", "K", "k!1"]) {
        new(insert_batch(
            &store,
            &batch(40, number, &[0; 2]),
            Some((key, "d")),
            3,
        ));
    }
    assert_eq!(all(&store), 12 + 1 + 10);
    let again = insert_batch(&store, &batch(50, 200, &[0; 12]), Some(("k", "d")), 3);
    assert!(matches!(again, InsertedBatch::Replayed { .. }), "{again:?}");
}

#[test]
fn a_key_lasts_as_long_as_any_of_its_batch() {
    let store = memory();
    let stored = new(insert_batch(
        &store,
        &batch(0, 1, &[0; 3]),
        Some(("k", "d")),
        3,
    ));
    let delete = |execution: &Execution| {
        let sql = format!("DELETE FROM executions WHERE id = '{}'", execution.id);
        store.sql().execute(&sql);
    };
    delete(&stored[0]);
    delete(&stored[1]);
    let again = insert_batch(&store, &batch(9, 50, &[0; 3]), Some(("k", "d")), 3);
    let executions = vec![None, None, Some(stored[2].clone())];
    assert_eq!(again, InsertedBatch::Replayed { executions });
    delete(&stored[2]);
    let anew = insert_batch(&store, &batch(9, 50, &[0; 3]), Some(("k", "d")), 3);
    assert_eq!(new(anew).len(), 3);
}
