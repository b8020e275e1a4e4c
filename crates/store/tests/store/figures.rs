//! Figures: counted with what they count, right over restarts and several instances, and never twice.

use domain::transition::Observation;
use domain::{Execution, Reason};
use store::testing::ready;
use store::{Figures, Settled, StoredLog, Written};

use crate::support::*;

fn figures(store: &Store) -> Figures {
    ready(store.figures()).expect("it reads")
}

#[test]
fn an_empty_store_has_none() {
    assert_eq!(figures(&memory()), Figures::default());
}

#[test]
fn gauges_tell_where_each_execution_is() {
    let store = memory();
    let first = insert(&store, &queued(0), 3);
    let second = insert(&store, &queued(1), 3);
    let third = insert(&store, &queued(2), 3);
    insert(&store, &queued(3), 3);
    insert(&store, &queued(4), 3);
    let before = figures(&store);
    assert_eq!(
        (
            before.queued,
            before.running,
            before.waiting,
            before.dispatched
        ),
        (5, 0, 2, 3)
    );
    assert_eq!(before.oldest_queued_at, Some(at(0)));

    for execution in [&first, &second] {
        step(&store, execution, Observation::Started { at: at(5) }, 5);
    }
    let during = figures(&store);
    assert_eq!(
        (
            during.queued,
            during.running,
            during.waiting,
            during.dispatched
        ),
        (3, 2, 2, 3)
    );
    assert_eq!(during.oldest_queued_at, Some(at(2)), "it does not run yet");

    finish(&store, &third, 0, 9);
    let after = figures(&store);
    assert_eq!(
        (after.queued, after.running, after.waiting, after.dispatched),
        (2, 2, 2, 2)
    );
    assert_eq!(after.oldest_queued_at, Some(at(3)));
    assert_eq!(
        (after.finished.as_slice(), after.kept()),
        (&[(Reason::Completed, 1)][..], 1)
    );
}

#[test]
fn an_end_is_counted_once_by_whom_it_is_stored() {
    let place = Place::new();
    let (one, other) = (file(&place), file(&place));
    let execution = insert(&one, &queued(0), PLENTY);
    let failed = insert(&other, &queued(1), PLENTY);
    finish(&one, &execution, 0, 3);
    // The other saw the same end, and comes too late with it.
    let late = ended(&execution, 0, 3);
    let written = ready(other.finish(&late, &StoredLog::default())).expect("it answers");
    assert_eq!(written, Written::Stale);
    finish(&other, &failed, 1, 3);
    drop((one, other));
    let expected = [(Reason::Completed, 1), (Reason::NonZeroExit, 1)];
    assert_eq!(figures(&file(&place)).finished, expected, "after a restart");
}

#[test]
fn what_is_forgotten_is_counted_by_its_cause_and_stays_counted() {
    let store = memory();
    let short = Execution {
        ttl_seconds: 1,
        ..queued(0)
    };
    let short = insert(&store, &short, PLENTY);
    let long = insert(&store, &queued(1), PLENTY);
    let stays = insert(&store, &queued(2), PLENTY);
    for execution in [&short, &long, &stays] {
        finish(&store, execution, 0, 3);
    }
    let unfinished = insert(&store, &queued(3), PLENTY);
    let forget = |execution: &Execution| {
        ready(store.forget(&ours(), execution.id, None)).expect("it answers")
    };
    assert_eq!(forget(&unfinished), Written::Stale);
    assert_eq!(forget(&long), Written::Updated);
    assert_eq!(forget(&long), Written::Missing);
    for _ in 0..2 {
        ready(store.forget_expired(at(2_000))).expect("it answers");
    }
    let figures = figures(&store);
    assert_eq!((figures.expired, figures.deleted), (1, 1));
    assert_eq!((figures.kept(), figures.dispatched), (1, 1));
    assert_eq!(figures.finished, [(Reason::Completed, 3)]);
}

#[test]
fn swept_jobs_and_pending_deliveries_are_counted() {
    let store = memory();
    for _ in 0..3 {
        ready(store.count_swept()).expect("it writes");
    }
    let execution = queued(0);
    let asked = with_webhook(&execution);
    insert_asked(&store, &execution, &asked, PLENTY, at(9));
    finish(&store, &get(&store, &execution), 0, 2);
    assert_eq!(figures(&store).swept, 3);
    assert_eq!(figures(&store).deliveries_pending, 1);
    let claims = ready(store.claim_deliveries(at(3), at(9), 5)).expect("it claims");
    assert_eq!(figures(&store).deliveries_pending, 1, "it is under way");
    ready(store.settle_delivery(&claims[0], &attempt(1), Settled::Delivered)).expect("it writes");
    assert_eq!(figures(&store).deliveries_pending, 0);
}

#[test]
fn what_ended_before_there_were_counters_is_counted_by_the_migration() {
    let store = sqlite();
    let execution = insert(&store, &queued(0), PLENTY);
    finish(&store, &execution, 0, 3);
    let failed = insert(&store, &queued(1), PLENTY);
    finish(&store, &failed, 7, 3);
    // As an older version left it: neither the table nor its version.
    let undo = "DROP TABLE counters; DELETE FROM schema_migrations WHERE name = 'counters'";
    store.sql().execute(undo);
    // The steps after it only add, and are not made again.
    let step = include_str!("../../migrations/sqlite/0008_counters.sql");
    store.sql().execute(step);
    let expected = [(Reason::Completed, 1), (Reason::NonZeroExit, 1)];
    assert_eq!(figures(&store).finished, expected);
}

#[test]
fn names_of_a_newer_version_are_left_out() {
    let store = memory();
    let newer = "INSERT INTO counters VALUES ('forgotten', 'Unheard', 5), ('other', '', 6)";
    store.sql().execute(newer);
    assert_eq!(figures(&store), Figures::default());
}

#[test]
fn everything_accepted_and_every_dispatch_is_counted() {
    let store = memory();
    let first = insert(&store, &queued(0), 2);
    let second = insert(&store, &queued(1), 2);
    insert(&store, &queued(2), 2);
    let batch: Vec<_> = (3..6)
        .map(|n| (queued(n), submission(&queued(n))))
        .collect();
    insert_batch(&store, &batch, None, (3, 9), at(9));
    finish(&store, &first, 0, 5);
    let forgotten = ready(store.forget(&first.tenant, first.id, None)).expect("it answers");
    assert_eq!(forgotten, Written::Updated);
    let before = figures(&store);
    assert_eq!(
        (before.accepted, before.dispatches),
        (6, 2),
        "the third waits, and those behind it"
    );

    // Back into the queue, and out of it again.
    let postponed = Observation::Postponed(domain::Waiting {
        kind: domain::WaitingKind::Quota,
        message: "none left".into(),
    });
    let back = domain::transition(&second, &postponed, at(6)).expect("it changes");
    let written = ready(store.postpone(&back, at(6))).expect("it writes");
    assert_eq!(written, Written::Updated);
    let claimed = ready(store.claim_queued(at(7), at(99), 2, 9)).expect("it claims");
    assert_eq!(claimed.len(), 2);
    let after = figures(&store);
    assert_eq!((after.accepted, after.dispatches), (6, 4));
}

#[test]
fn who_is_refused_since_the_queue_is_full_is_counted() {
    let store = memory().with_max_queued(2);
    for n in 0..2 {
        insert(&store, &queued(n), 0);
    }
    for n in 2..5 {
        let execution = queued(n);
        let asked = submission(&execution);
        let refused = ready(store.insert(&execution, &asked, None, 0, at(9)));
        assert_eq!(refused.expect("it answers"), store::Inserted::QueueFull);
    }
    let batch = [(queued(6), submission(&queued(6)))];
    let refused = ready(store.insert_batch(&batch, None, 0, 0, at(9)));
    assert_eq!(
        refused.expect("it answers"),
        store::InsertedBatch::QueueFull
    );
    let figures = figures(&store);
    assert_eq!((figures.refused, figures.accepted), (4, 2));
}

#[test]
fn attempts_at_webhooks_are_counted_by_what_became_of_the_delivery() {
    let store = memory();
    let execution = queued(0);
    insert_asked(&store, &execution, &with_webhook(&execution), PLENTY, at(9));
    finish(&store, &get(&store, &execution), 0, 2);
    for (number, settled) in [
        (1, Settled::Again(at(4))),
        (2, Settled::Again(at(4))),
        (3, Settled::Failed),
    ] {
        let claims = ready(store.claim_deliveries(at(5), at(9), 5)).expect("it claims");
        let attempt = attempt(number);
        let settled = store.settle_delivery(&claims[0], &attempt, settled);
        ready(settled).expect("it writes");
    }
    assert_eq!(figures(&store).webhook_attempts, [0, 2, 1]);
}
