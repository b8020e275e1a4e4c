//! The outbox of webhooks: written with the end, claimed by one, settled once, asked for again.

use domain::Execution;
use jiff::Timestamp;
use store::testing::ready;
use store::{Attempt, Claim, DeliveryState, MAX_DELIVERIES, Redelivered, Settled, Written};

use crate::support::*;

/// An execution that has a webhook, inserted at that time.
fn hooked(store: &Store, millis: i64) -> Execution {
    let execution = queued(millis);
    let asked = with_webhook(&execution);
    insert_asked(store, &execution, &asked, PLENTY, at(millis))
}

/// The same at its end, one millisecond later.
fn told(store: &Store, millis: i64) -> Execution {
    finish(store, &hooked(store, millis), 0, millis + 1)
}

fn claim(store: &Store, now: i64, until: i64) -> Vec<Claim> {
    ready(store.claim_deliveries(at(now), at(until), 10)).expect("it claims")
}

fn settle(store: &Store, claim: &Claim, settled: Settled) {
    let attempt = attempt(claim.attempt);
    ready(store.settle_delivery(claim, &attempt, settled)).expect("it writes");
}

/// Each delivery's state, time of the next attempt, and the numbers of its attempts.
fn deliveries(
    store: &Store,
    execution: &Execution,
) -> Vec<(DeliveryState, Option<Timestamp>, Vec<u32>)> {
    let deliveries = ready(store.deliveries(execution.id)).expect("it reads");
    for (expected, delivery) in (1..).zip(&deliveries) {
        assert_eq!(delivery.number, expected);
    }
    let numbers = |attempts: Vec<Attempt>| attempts.iter().map(|a| a.number).collect();
    deliveries
        .into_iter()
        .map(|d| (d.state, d.next_at, numbers(d.attempts)))
        .collect()
}

#[test]
fn a_submission_keeps_its_webhook() {
    let store = memory();
    let execution = hooked(&store, 0);
    let kept = ready(store.submission(execution.id)).expect("it reads");
    assert_eq!(kept, Some(with_webhook(&execution)));
}

#[test]
fn the_end_and_its_delivery_are_written_together_and_once() {
    let store = memory();
    let execution = hooked(&store, 0);
    assert_eq!(
        claim(&store, 9_999, 9_999),
        [],
        "nothing is told before the end"
    );
    let end = ended(&execution, 0, 1);
    let log = store::StoredLog::default();
    for expected in [Written::Updated, Written::Stale] {
        assert_eq!(
            ready(store.finish(&end, &log)).expect("it answers"),
            expected
        );
    }
    assert_eq!(deliveries(&store, &execution).len(), 1);
    // The cluster's clock may go before ours: the delivery is due all the same.
    let claims = claim(&store, -5_000, 0);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].execution_id, execution.id);
    assert_eq!((claims[0].delivery, claims[0].attempt), (1, 1));
    assert_eq!(
        Some(&claims[0].webhook),
        with_webhook(&execution).webhook.as_ref()
    );
    let shown = format!("{:?}", claims[0]);
    assert!(!shown.contains("example.org"), "{shown}");
}

#[test]
fn who_has_no_webhook_has_no_delivery() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    finish(&store, &execution, 0, 1);
    assert_eq!(claim(&store, 9_999, 9_999), []);
    assert_eq!(deliveries(&store, &execution), []);
    let asked = ready(store.redeliver(&ours(), execution.id, 1, at(2), None)).expect("it answers");
    assert_eq!(asked, Redelivered::Missing);
}

#[test]
fn a_delivery_is_claimed_by_one_until_the_claim_ends() {
    let place = Place::new();
    let (one, other) = (file(&place), file(&place));
    for millis in 0..5 {
        told(&one, millis * 10);
    }
    let first = ready(one.claim_deliveries(at(100), at(200), 3)).expect("it claims");
    assert_eq!(first.len(), 3);
    let second = claim(&other, 100, 200);
    assert_eq!(second.len(), 2);
    assert!(second.iter().all(|claim| !first.contains(claim)));
    assert_eq!(claim(&other, 199, 300), []);
    let again = claim(&other, 200, 300);
    assert_eq!(again.len(), 5, "whoever claimed them has died");
    assert!(again.iter().all(|claim| claim.attempt == 2));
}

#[test]
fn what_an_attempt_comes_to_is_kept() {
    let store = memory();
    let execution = told(&store, 0);
    let first = claim(&store, 10, 20).remove(0);
    settle(&store, &first, Settled::Again(at(50)));
    assert_eq!(
        deliveries(&store, &execution),
        [(DeliveryState::Pending, Some(at(50)), vec![1])]
    );
    assert_eq!(claim(&store, 49, 60), []);
    let second = claim(&store, 50, 60).remove(0);
    settle(&store, &second, Settled::Delivered);
    assert_eq!(
        deliveries(&store, &execution),
        [(DeliveryState::Delivered, None, vec![1, 2])]
    );
    assert_eq!(claim(&store, 9_999, 9_999), []);
    let kept = ready(store.deliveries(execution.id)).expect("it reads");
    assert_eq!(kept[0].attempts[0], attempt(1));
    assert_eq!(kept[0].created_at, at(1));
}

#[test]
fn a_claim_that_ran_out_decides_nothing_but_what_was_taken_is_delivered() {
    let store = memory();
    let execution = told(&store, 0);
    let late = claim(&store, 10, 20).remove(0);
    let now = claim(&store, 20, 30).remove(0);
    settle(&store, &late, Settled::Failed);
    assert_eq!(
        deliveries(&store, &execution),
        [(DeliveryState::Pending, Some(at(30)), vec![1])]
    );
    settle(&store, &late, Settled::Delivered);
    settle(&store, &now, Settled::Again(at(90)));
    assert_eq!(
        deliveries(&store, &execution),
        [(DeliveryState::Delivered, None, vec![1, 2])]
    );
}

#[test]
fn a_further_delivery_replaces_the_pending_one() {
    let store = memory();
    let execution = told(&store, 0);
    let failed = claim(&store, 10, 20).remove(0);
    settle(&store, &failed, Settled::Failed);
    for number in [2, 7] {
        let asked = ready(store.redeliver(&ours(), execution.id, number, at(30), None))
            .expect("it answers");
        assert_eq!(asked, Redelivered::Missing, "there is no delivery {number}");
    }
    for (of, expected) in [(1, 2), (2, 3), (1, 4)] {
        let asked =
            ready(store.redeliver(&ours(), execution.id, of, at(30), None)).expect("it answers");
        assert_eq!(asked, Redelivered::Pending(expected));
    }
    let states: Vec<_> = deliveries(&store, &execution)
        .into_iter()
        .map(|d| d.0)
        .collect();
    assert_eq!(
        states,
        [
            DeliveryState::Failed,
            DeliveryState::Replaced,
            DeliveryState::Replaced,
            DeliveryState::Pending
        ]
    );
    let claims = claim(&store, 30, 40);
    assert_eq!(claims.len(), 1);
    assert_eq!((claims[0].delivery, claims[0].attempt), (4, 1));
}

#[test]
fn deliveries_have_a_limit() {
    let store = memory();
    let execution = told(&store, 0);
    for number in 2..=MAX_DELIVERIES {
        let asked =
            ready(store.redeliver(&ours(), execution.id, 1, at(30), None)).expect("it answers");
        assert_eq!(asked, Redelivered::Pending(number));
    }
    let asked = ready(store.redeliver(&ours(), execution.id, 1, at(30), None)).expect("it answers");
    assert_eq!(asked, Redelivered::TooMany);
    let all = deliveries(&store, &execution);
    assert_eq!(all.len() as u32, MAX_DELIVERIES);
    let last = all.last().expect("the last");
    assert_eq!(
        last.0,
        DeliveryState::Pending,
        "the refusal changed nothing"
    );
}

#[test]
fn a_batch_has_webhooks_too() {
    let store = memory();
    let (one, other) = (queued(0), queued(1));
    let batch = [
        (one.clone(), with_webhook(&one)),
        (other.clone(), submission(&other)),
    ];
    insert_batch(&store, &batch, None, (5, 5), at(9));
    finish(&store, &get(&store, &one), 0, 10);
    finish(&store, &get(&store, &other), 0, 10);
    let claims = claim(&store, 20, 30);
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].execution_id, one.id);
}

#[test]
fn what_is_still_to_be_told_is_kept_beyond_its_time() {
    let store = memory();
    let execution = Execution {
        ttl_seconds: 0,
        ..queued(0)
    };
    let asked = with_webhook(&execution);
    let execution = insert_asked(&store, &execution, &asked, PLENTY, at(0));
    finish(&store, &execution, 0, 1);
    let forget = || ready(store.forget_expired(at(9_000))).expect("it answers");
    assert_eq!(forget(), 0);
    let first = claim(&store, 10, 20).remove(0);
    assert_eq!(forget(), 0, "it is being told");
    settle(&store, &first, Settled::Delivered);
    assert_eq!(forget(), 1);
}

#[test]
fn nothing_of_a_forgotten_one_is_left() {
    let store = memory();
    let execution = told(&store, 0);
    let first = claim(&store, 10, 20).remove(0);
    settle(&store, &first, Settled::Again(at(30)));
    let second = claim(&store, 30, 40).remove(0);
    let forgotten = ready(store.forget(&ours(), execution.id, None)).expect("it answers");
    assert_eq!(forgotten, Written::Updated);
    settle(&store, &second, Settled::Delivered);
    for table in ["webhooks", "deliveries", "delivery_attempts"] {
        let sql = format!("SELECT count(*) FROM {table}");
        assert_eq!(store.sql().number(&sql), 0, "{table}");
    }
    assert_eq!(claim(&store, 9_999, 9_999), []);
}
