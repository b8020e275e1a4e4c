//! The counters of what has a place and what waits for one: right after every step, however it came about.

use domain::transition::{Observation, waiting};
use domain::{Execution, Retry, WaitingKind, next_attempt, transition};
use store::testing::ready;
use store::{Inserted, InsertedBatch, Sql, Statement, StoredLog, Written};

use crate::races::{RUNNING, at_once};
use crate::support::*;

/// How many are dispatched, and on SQLite how many are queued: by the counters, and by counting.
#[track_caller]
fn check(store: &Store, dispatched: i64, queued: i64) {
    let number = |sql: &str| store.sql().number(sql);
    let counter = |label: &str| {
        number(&format!(
            "SELECT value FROM counters WHERE name = 'places' AND label = '{label}'"
        ))
    };
    let there = "FROM executions WHERE status <> 'FINISHED' AND dispatched_at IS";
    let really = (
        number(&format!("SELECT count(*) {there} NOT NULL")),
        number(&format!("SELECT count(*) {there} NULL")),
    );
    assert_eq!(really, (dispatched, queued), "what is there");
    let arrivals = match store.sql().dialect() {
        store::Dialect::Postgres => number("SELECT last_value FROM queue_arrivals"),
        _ => 0,
    };
    let counted = (counter("dispatched"), counter("queued") + arrivals);
    assert_eq!(counted, really, "what is counted");
}

fn postpone(store: &Store, execution: &Execution, millis: i64) -> Execution {
    let why = waiting(WaitingKind::Quota, "the quota is used up");
    let next = transition(execution, &Observation::Postponed(why), at(millis)).expect("it changes");
    let written = ready(store.postpone(&next, at(millis + 5))).expect("it answers");
    assert_eq!(written, Written::Updated);
    next
}

#[test]
fn every_step_is_counted() {
    let store = memory();
    check(&store, 0, 0);
    let first = insert(&store, &queued(0), 1);
    check(&store, 1, 0);
    let second = insert(&store, &queued(1), 1);
    check(&store, 1, 1);
    postpone(&store, &first, 2);
    check(&store, 0, 2);
    let claimed = ready(store.claim_queued(at(10), at(90), 9, 9)).expect("it claims");
    assert_eq!(claimed.len(), 2);
    check(&store, 2, 0);
    let uid = "u".to_owned();
    let first = step(
        &store,
        &claimed[0].0,
        Observation::JobExists { uid: uid.clone() },
        11,
    );
    check(&store, 2, 0);
    finish(&store, &first, 0, 12);
    check(&store, 1, 0);
    // Once more: it is finished.
    let late = ready(store.finish(&ended(&first, 0, 12), &StoredLog::default()));
    assert_eq!(late.expect("it answers"), Written::Stale);
    check(&store, 1, 0);
    assert_eq!(
        ready(store.forget(&ours(), first.id, None)).expect("it answers"),
        Written::Updated
    );
    check(&store, 1, 0);
    finish(&store, &get(&store, &second), 1, 13);
    check(&store, 0, 0);
}

#[test]
fn batches_retries_and_ends_in_the_queue_are_counted() {
    let store = memory();
    let retried = |n: i64| Execution {
        retry: Retry::of(1, &Retry::OUTCOMES),
        id: id(n, 7),
        ..queued(0)
    };
    let batch: Vec<_> = (0..5)
        .map(|n| {
            let execution = retried(n);
            let asked = submission(&execution);
            (execution, asked)
        })
        .collect();
    let InsertedBatch::New { executions } = insert_batch(&store, &batch, None, (3, 9), at(90))
    else {
        panic!("it is new");
    };
    check(&store, 3, 2);
    let end = ended(&executions[0], 1, 5);
    let next = next_attempt(&executions[0], &end, at(5)).expect("another attempt");
    let written = ready(store.retry(&next, &end, &StoredLog::default())).expect("it writes");
    assert_eq!(written, Written::Updated);
    check(&store, 2, 3);
    // Its clock runs out in the queue.
    let last = get(&store, &executions[4]);
    let (_, deadline) = last.deadline().expect("a clock");
    let ended = transition(&last, &Observation::DeadlinePassed, deadline).expect("it ends");
    let written = ready(store.finish(&ended, &StoredLog::default())).expect("it writes");
    assert_eq!(written, Written::Updated);
    check(&store, 2, 2);
    // By hand, as an operator may.
    store
        .sql()
        .execute("DELETE FROM executions WHERE status <> 'FINISHED' AND dispatched_at IS NOT NULL");
    check(&store, 0, 2);
}

#[test]
fn what_is_undone_is_not_counted() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    insert(&store, &queued(1), 0);
    let statement = |sql: &'static str, must_change| Statement {
        sql: sql.into(),
        params: Vec::new(),
        must_change,
    };
    let undone = ready(store.sql().transaction(vec![
        statement("UPDATE executions SET status = 'FINISHED'", false),
        statement(
            "UPDATE executions SET status = 'QUEUED' WHERE false RETURNING id",
            true,
        ),
    ]));
    assert_eq!(undone.expect("it answers"), None);
    check(&store, 1, 1);
    finish(&store, &execution, 0, 3);
    check(&store, 0, 1);
}

#[test]
fn wrong_counters_are_mended_by_counting() {
    let store = memory();
    insert(&store, &queued(0), PLENTY);
    for n in 1..4 {
        insert(&store, &queued(n), 0);
    }
    postpone(&store, &get(&store, &queued(0)), 2);
    for wrong in ["UPDATE counters SET value = 70", "DELETE FROM counters"] {
        store.sql().execute(wrong);
        ready(store.recount()).expect("it counts");
        check(&store, 0, 4);
    }
    ready(store.recount()).expect("it counts");
    check(&store, 0, 4);
}

#[test]
fn what_is_counted_anew_while_it_changes_is_right() {
    let place = Place::new();
    at_once(&place, |store, worker| {
        for round in 0..20 {
            if worker == 0 {
                ready(store.recount()).expect("it counts");
                continue;
            }
            let execution = Execution {
                id: id(round, worker),
                ..queued(round)
            };
            let stored = insert(store, &execution, PLENTY);
            if round % 2 == 0 {
                finish(store, &stored, 0, round);
            }
        }
        ready(store.claim_queued(at(60_000), at(90_000), PLENTY, 9)).expect("it claims");
    });
    let store = file(&place);
    let counter = |label: &str| {
        let read =
            format!("SELECT value FROM counters WHERE name = 'places' AND label = '{label}'");
        store.sql().number(&read)
    };
    assert_eq!(counter("dispatched"), store.sql().number(RUNNING));
    ready(store.recount()).expect("it counts");
    assert_eq!(counter("dispatched"), store.sql().number(RUNNING));
}

#[test]
fn a_full_queue_takes_no_more_until_somebody_leaves_it() {
    let store = Store::new(memory().sql().clone()).with_max_queued(2);
    let insert = |n: i64, key: &str| {
        let execution = queued(n);
        let asked = submission(&execution);
        ready(store.insert(&execution, &asked, Some(key), 0, at(9))).expect("it answers")
    };
    let batch = |from: i64, count: i64| {
        let executions = (from..from + count).map(queued);
        let batch: Vec<_> = executions.map(|e| (e.clone(), submission(&e))).collect();
        ready(store.insert_batch(&batch, None, 0, 9, at(9))).expect("it answers")
    };
    for (n, key) in [(0, "a"), (1, "b")] {
        assert!(matches!(insert(n, key), Inserted::New { .. }));
    }
    assert_eq!(insert(2, "c"), Inserted::QueueFull);
    assert_eq!(batch(3, 1), InsertedBatch::QueueFull);
    // What was accepted before is answered as ever.
    assert!(matches!(
        insert(0, "a"),
        Inserted::Existing {
            same_request: true,
            ..
        }
    ));
    check(&store, 0, 2);
    let claimed = ready(store.claim_queued(at(10), at(90), 1, 9)).expect("it claims");
    assert_eq!(claimed.len(), 1);
    assert_eq!(batch(3, 2), InsertedBatch::QueueFull, "all or none");
    check(&store, 1, 1);
    assert!(matches!(batch(3, 1), InsertedBatch::New { .. }));
    check(&store, 1, 2);
}
