//! What tenants may have: places, a queue and a rate of their own, and their turns where several wait.

use std::collections::BTreeMap;

use domain::{Execution, Limits, Tenant};
use store::testing::ready;
use store::{Inserted, InsertedBatch, Limited};

use crate::support::*;

fn tenant(name: &str) -> Tenant {
    name.parse().expect("a name")
}

fn of(name: &str, execution: Execution) -> Execution {
    Execution {
        tenant: tenant(name),
        ..execution
    }
}

/// A store on which those tenants are limited.
fn limited(limits: &[(&str, Limits)]) -> Store {
    let limits = limits
        .iter()
        .map(|(name, limits)| (tenant(name), limits.clone()));
    Store::new(memory().sql().clone()).with_tenants(limits.collect::<BTreeMap<_, _>>())
}

fn running(most: u32) -> Limits {
    Limits {
        running: Some(most),
        ..Limits::default()
    }
}

/// Whose the next ones are, in their order: the first of the queues, with that many places in all.
fn turns(store: &Store, max_running: u32, limit: u32) -> String {
    let claimed = ready(store.claim_queued(at(60_000), at(90_000), max_running, limit));
    let names = claimed.expect("it claims").into_iter();
    let mut names: Vec<String> = names.map(|(e, _)| e.tenant.to_string()).collect();
    names.sort();
    names.concat()
}

#[test]
fn a_flood_of_one_tenant_leaves_the_others_their_turns() {
    let store = limited(&[]);
    for n in 0..40 {
        insert(&store, &of("a", queued(n)), 0);
    }
    insert(&store, &of("b", queued(50)), 0);
    insert(&store, &of("c", queued(51)), 0);
    insert(&store, &queued(52), 0);
    assert_eq!(turns(&store, 4, 9), "abcdefault");
    // All others are served, so it has what is left; what ends makes room for who has less.
    assert_eq!(turns(&store, 10, 9), "aaaaaa");
    for n in 60..64 {
        insert(&store, &of("b", queued(n)), 0);
    }
    assert_eq!(
        turns(&store, 12, 9),
        "bb",
        "it has one, the other has seven"
    );
    assert_eq!(turns(&store, 12, 9), "");
}

#[test]
fn within_a_tenant_the_order_of_its_queue_holds() {
    let store = limited(&[]);
    let rank = |priority: i32, n: i64| Execution {
        priority,
        ..of("a", queued(n))
    };
    for execution in [rank(0, 1), rank(5, 2), rank(5, 3)] {
        insert(&store, &execution, 0);
    }
    // Another's priority is no reason to wait.
    insert(&store, &of("b", queued(9)), 0);
    let position = |n: i64, name: &str| {
        let stored = get(&store, &of(name, queued(n)));
        ready(store.queue_position(&stored)).expect("it counts")
    };
    assert_eq!(position(1, "a"), Some(3));
    assert_eq!(position(9, "b"), Some(1), "others do not count");
    let claimed = ready(store.claim_queued(at(60_000), at(90_000), 2, 9)).expect("it claims");
    let mut ids: Vec<_> = claimed.into_iter().map(|(e, _)| e.id).collect();
    ids.sort();
    assert_eq!(ids, [id(2, 7), id(9, 7)]);
}

#[test]
fn a_tenant_has_no_more_places_than_it_may() {
    let store = limited(&[("a", running(2)), ("default", running(1))]);
    // At once, one by one and in a batch, as far as this database does that.
    let first = insert(&store, &of("a", queued(0)), PLENTY);
    assert!(first.is_dispatched());
    let batch: Vec<_> = (1..4)
        .map(|n| of("a", queued(n)))
        .map(|e| (e.clone(), submission(&e)))
        .collect();
    let InsertedBatch::New { executions } = insert_batch(&store, &batch, None, (PLENTY, 9), at(90))
    else {
        panic!("it is new");
    };
    assert_eq!(executions.iter().filter(|e| e.is_dispatched()).count(), 1);
    let waits = insert(&store, &of("a", queued(5)), PLENTY);
    assert!(!waits.is_dispatched());
    assert_eq!(turns(&store, PLENTY, 9), "");
    // What ends makes room for one.
    finish(&store, &first, 0, 9);
    assert_eq!(turns(&store, PLENTY, 9), "a");
    assert_eq!(turns(&store, PLENTY, 9), "");
    // Of the default tenant it is what others leave.
    for n in 10..13 {
        insert(&store, &queued(n), 0);
    }
    insert(&store, &of("b", queued(20)), PLENTY);
    assert_eq!(turns(&store, PLENTY, 9), "default");
    assert_eq!(turns(&store, PLENTY, 9), "");
}

#[test]
fn places_of_tenants_are_counted_anew() {
    let store = limited(&[("a", running(1))]);
    let first = insert(&store, &of("a", queued(0)), PLENTY);
    insert(&store, &of("a", queued(1)), PLENTY);
    for wrong in [
        "UPDATE counters SET value = 70 WHERE name = 'tenant dispatched'",
        "DELETE FROM counters WHERE name = 'tenant dispatched'",
    ] {
        store.sql().execute(wrong);
        ready(store.recount()).expect("it counts");
        assert_eq!(turns(&store, PLENTY, 9), "");
    }
    finish(&store, &first, 0, 9);
    store
        .sql()
        .execute("UPDATE counters SET value = 70 WHERE name = 'tenant dispatched'");
    ready(store.recount()).expect("it counts");
    assert_eq!(turns(&store, PLENTY, 9), "a");
}

#[test]
fn a_tenants_queue_takes_no_more_than_it_may() {
    let limits = Limits {
        queued: Some(2),
        ..Limits::default()
    };
    let store = limited(&[("a", limits)]);
    let insert = |execution: Execution, key: &str| {
        let asked = submission(&execution);
        ready(store.insert(&execution, &asked, Some(key), 0, at(9))).expect("it answers")
    };
    for (n, key) in [(0, "a"), (1, "b")] {
        assert!(matches!(
            insert(of("a", queued(n)), key),
            Inserted::New { .. }
        ));
    }
    let refused = insert(of("a", queued(2)), "c");
    assert_eq!(refused, Inserted::Limited(Limited::Queue(2)));
    let batch = [(of("a", queued(3)), submission(&queued(3)))];
    let refused = ready(store.insert_batch(&batch, None, 0, 9, at(9))).expect("it answers");
    assert_eq!(refused, InsertedBatch::Limited(Limited::Queue(2)));
    // Others are not concerned, and what was accepted before is answered as ever.
    assert!(matches!(
        insert(of("b", queued(4)), "c"),
        Inserted::New { .. }
    ));
    let again = insert(of("a", queued(0)), "a");
    assert!(matches!(again, Inserted::Existing { .. }));
    assert_eq!(turns(&store, 1, 9).len(), 1);
    assert_eq!(turns(&store, 2, 9).len(), 1);
    assert!(matches!(
        insert(of("a", queued(5)), "d"),
        Inserted::New { .. }
    ));
}

#[test]
fn a_rate_is_a_minutes_worth_that_comes_back_steadily() {
    let limits = Limits {
        per_minute: Some(6),
        ..Limits::default()
    };
    let store = limited(&[("a", limits)]);
    let insert = |n: i64| {
        let execution = of("a", queued(n));
        let asked = submission(&execution);
        ready(store.insert(&execution, &asked, None, 0, at(9))).expect("it answers")
    };
    let batch = |n: i64, count: i64| {
        let executions = (n..n + count).map(|n| {
            of(
                "a",
                Execution {
                    created_at: at(n),
                    ..queued(n)
                },
            )
        });
        let batch: Vec<_> = executions.map(|e| (e.clone(), submission(&e))).collect();
        ready(store.insert_batch(&batch, None, 0, 9, at(9))).expect("it answers")
    };
    let is_new = |n: i64| matches!(insert(n), Inserted::New { .. });
    assert!((0..5).all(is_new));
    let limited = |wait_seconds| Limited::Rate {
        per_minute: 6,
        wait_seconds,
    };
    assert_eq!(
        batch(10, 2),
        InsertedBatch::Limited(limited(10)),
        "all or none"
    );
    // On PostgreSQL what is refused for the rate takes nothing from it either.
    assert!(is_new(20));
    assert_eq!(insert(21), Inserted::Limited(limited(10)));
    assert_eq!(insert(9_000), Inserted::Limited(limited(1)));
    assert!(is_new(10_021));
    assert_eq!(insert(10_022), Inserted::Limited(limited(10)));
    // Longer silence saves up no more than a minute's worth.
    assert!((0..6).all(|n| is_new(3_600_000 + n)));
    assert_eq!(insert(3_600_006), Inserted::Limited(limited(10)));
    // More than that at once never fits.
    assert_eq!(batch(9_000_000, 7), InsertedBatch::Limited(limited(10)));
    let other = of("b", queued(9_000_010));
    let asked = submission(&other);
    let other = ready(store.insert(&other, &asked, None, 0, at(9))).expect("it answers");
    assert!(matches!(other, Inserted::New { .. }));
}
