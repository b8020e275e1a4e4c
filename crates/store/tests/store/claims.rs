//! Taking work: from the queue, after a crash, and by deadlines.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use domain::transition::{Observation, waiting};
use domain::{Execution, ExecutionId, Status, Timeouts, WaitingKind, transition};
use store::testing::ready;
use store::{
    Dialect, ExecutionStore, MAX_CLAIMS, Rows, Sql, SqlError, Statement, StoreError, Written,
};

use crate::support::*;

fn ids<'a>(executions: impl IntoIterator<Item = &'a Execution>) -> Vec<ExecutionId> {
    executions.into_iter().map(|e| e.id).collect()
}

/// Claims at that time until 30 s later; the submissions must be the right ones.
fn claim(store: &Store, millis: i64, max_running: u32, limit: u32) -> Vec<Execution> {
    let claimed = ready(store.claim_queued(at(millis), at(millis + 30_000), max_running, limit));
    let checked = claimed
        .expect("it claims")
        .into_iter()
        .map(|(execution, asked)| {
            assert_eq!(asked, submission(&execution));
            execution
        });
    checked.collect()
}

/// As it is read back once somebody doubts its creation.
fn in_doubt(execution: Execution) -> Execution {
    Execution {
        creation_in_doubt: true,
        ..execution
    }
}

fn unconfirmed(store: &Store, millis: i64, limit: u32) -> Vec<Execution> {
    let claimed = ready(store.claim_unconfirmed(at(millis), at(millis + 30_000), limit));
    let checked = claimed
        .expect("it claims")
        .into_iter()
        .map(|(execution, asked)| {
            assert_eq!(asked, submission(&execution));
            execution
        });
    checked.collect()
}

#[test]
fn the_oldest_are_taken_as_far_as_there_is_room() {
    let store = memory();
    // Inserted in another order than accepted.
    let mut queue: Vec<_> = [3, 1, 4, 0, 2]
        .map(|n| insert(&store, &queued(n), 0))
        .into();
    queue.sort_by_key(|e| e.created_at);
    assert!(claim(&store, 10, 0, 9).is_empty());
    assert!(claim(&store, 10, 9, 0).is_empty());
    let taken = claim(&store, 10, 3, 2);
    assert_eq!(ids(&taken), ids(&queue[..2]));
    for (execution, before) in taken.iter().zip(&queue) {
        let expected = transition(before, &Observation::Dispatched, at(10));
        assert_eq!(Some(execution), expected.as_ref());
        assert_eq!(&get(&store, execution), execution);
    }
    assert_eq!(ids(&claim(&store, 11, 3, 9)), ids(&queue[2..3]));
    assert!(claim(&store, 12, 3, 9).is_empty());
    finish(&store, &taken[0], 0, 13);
    assert_eq!(ids(&claim(&store, 14, 3, 9)), ids(&queue[3..4]));
    assert_eq!(ids(&claim(&store, 15, PLENTY, 9)), ids(&queue[4..]));
    assert!(claim(&store, 16, PLENTY, 9).is_empty());
}

#[test]
fn the_highest_priority_goes_first_and_then_the_oldest() {
    let store = memory();
    let accept = |(millis, priority)| {
        let execution = Execution {
            priority,
            ..queued(millis)
        };
        insert(&store, &execution, 0)
    };
    let queue = [(0, 0), (1, -100), (2, 7), (3, 100), (4, 7), (5, 0), (6, -1)].map(accept);
    let expected = [3, 2, 4, 0, 5, 6, 1].map(|index: usize| &queue[index]);
    for (place, execution) in (1..).zip(expected) {
        assert_eq!(&get(&store, execution), execution);
        let position = ready(store.queue_position(execution)).expect("it counts");
        assert_eq!(position, Some(place), "{execution:?}");
    }
    assert_eq!(ids(&claim(&store, 10, 3, 9)), ids(expected[..3].to_vec()));
    let next = ready(store.queue_position(expected[3])).expect("it counts");
    assert_eq!(next, Some(1), "the others have left the queue");
    // What is accepted now takes a place before those who wait longer where it goes before them, and else waits too.
    let accept_now = |millis, priority, max_running| {
        let execution = Execution {
            priority,
            ..queued(millis)
        };
        insert(&store, &execution, max_running)
    };
    assert!(accept_now(20, 1, PLENTY).is_dispatched());
    let urgent = accept_now(21, 1, 0);
    let late = accept_now(22, 1, PLENTY);
    assert!(!late.is_dispatched(), "the queue is not overtaken");
    let rest: Vec<_> = [&urgent, &late]
        .into_iter()
        .chain(expected[3..].to_vec())
        .collect();
    assert_eq!(ids(&claim(&store, 30, PLENTY, 2)), ids(rest[..2].to_vec()));
    assert_eq!(ids(&claim(&store, 31, PLENTY, 9)), ids(rest[2..].to_vec()));
}

#[test]
fn one_call_takes_no_more_than_its_limit() {
    let store = memory();
    for n in 0..i64::from(MAX_CLAIMS) + 1 {
        insert(&store, &queued(n), 0);
    }
    let taken = claim(&store, 100, PLENTY, PLENTY);
    assert_eq!(taken.len(), usize::try_from(MAX_CLAIMS).expect("small"));
    assert_eq!(claim(&store, 100, PLENTY, PLENTY).len(), 1);
}

#[test]
fn what_is_postponed_waits_in_the_queue_for_its_time() {
    let store = memory();
    let first = insert(&store, &queued(0), PLENTY);
    let why = waiting(WaitingKind::Quota, "the quota is used up");
    let next = transition(&first, &Observation::Postponed(why), at(1)).expect("it changes");
    let stale = ready(store.postpone(&first, at(500))).expect("it answers");
    assert_eq!(stale, Written::Stale);
    let written = ready(store.postpone(&next, at(500))).expect("it answers");
    assert_eq!(written, Written::Updated);
    assert_eq!(get(&store, &next), next);
    assert!(
        unconfirmed(&store, 100_000, 9).is_empty(),
        "it is no longer dispatched"
    );
    let second = insert(&store, &queued(2), PLENTY);
    assert!(!second.is_dispatched(), "the queue is not overtaken");
    assert_eq!(ids(&claim(&store, 499, PLENTY, 9)), [second.id]);
    assert_eq!(ids(&claim(&store, 500, PLENTY, 9)), [first.id]);
}

#[test]
fn a_dispatch_without_a_job_is_taken_over_when_its_claim_runs_out() {
    let store = memory();
    let at_once = insert(&store, &queued(0), 1);
    insert(&store, &queued(1), 1);
    let claimed = claim(&store, 1_000, 2, 1).remove(0);
    assert!(unconfirmed(&store, 29_999, 9).is_empty());
    let (at_once, claimed) = (in_doubt(at_once), in_doubt(claimed));
    // The insert claimed until 30 s after its acceptance, the claim until 31 s.
    assert_eq!(unconfirmed(&store, 30_000, 9), [at_once.clone()]);
    assert_eq!(unconfirmed(&store, 31_000, 9), [claimed.clone()]);
    assert!(
        unconfirmed(&store, 31_000, 9).is_empty(),
        "both are claimed again"
    );
    assert_eq!(
        unconfirmed(&store, 100_000, 1),
        [at_once.clone()],
        "the longest unclaimed first"
    );
    assert_eq!(unconfirmed(&store, 100_000, 9), [claimed.clone()]);
    // A change that tells nothing about the Job leaves the claim as it is.
    let why = waiting(WaitingKind::ApiServer, "it does not answer");
    let claimed = step(&store, &claimed, Observation::Waiting(why), 100_001);
    assert!(unconfirmed(&store, 100_002, 9).is_empty());
    // Neither one with a Job nor a finished one is ever taken.
    step(
        &store,
        &at_once,
        Observation::JobExists { uid: "u".into() },
        100_003,
    );
    finish(&store, &claimed, 0, 100_004);
    assert!(unconfirmed(&store, 900_000, 9).is_empty());
}

#[test]
fn going_back_to_the_queue_ends_the_claim() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let why = waiting(WaitingKind::Quota, "the quota is used up");
    let next = step(&store, &execution, Observation::Postponed(why), 1);
    let next = step(&store, &next, Observation::Dispatched, 2);
    assert_eq!(unconfirmed(&store, 3, 9), [in_doubt(next)]);
}

#[test]
fn a_creation_in_doubt_stays_so() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    assert!(!get(&store, &execution).creation_in_doubt);
    ready(store.doubt_creation(execution.id)).expect("it writes");
    // By somebody who read the record before.
    let why = waiting(WaitingKind::Quota, "the quota is used up");
    let next = transition(&execution, &Observation::Postponed(why), at(1)).expect("it changes");
    let written = ready(store.postpone(&next, at(1))).expect("it answers");
    assert_eq!(written, Written::Updated);
    assert_eq!(get(&store, &next), in_doubt(next.clone()));
    assert!(claim(&store, 2, PLENTY, 9)[0].creation_in_doubt);
}

/// Which statement of a claim dispatches, where one is woken before.
const WRITES_AT: u32 = 5;

/// Lets others act before the statement that dispatches.
struct Between<F: Fn()> {
    inner: Database,
    statements: Cell<u32>,
    others: F,
}

impl<F: Fn()> Sql for Between<F> {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.statements.set(self.statements.get() + 1);
        if self.statements.get() == WRITES_AT {
            (self.others)();
        }
        self.inner.query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.statements.set(self.statements.get() + 1);
        if self.statements.get() == WRITES_AT {
            (self.others)();
        }
        self.inner.transaction(statements).await
    }
}

#[test]
fn room_that_was_seen_and_is_gone_is_not_used() {
    let store = memory();
    let first = insert(&store, &queued(0), 1);
    let why = waiting(WaitingKind::Quota, "the quota is used up");
    let next = transition(&first, &Observation::Postponed(why), at(1)).expect("it changes");
    let written = ready(store.postpone(&next, at(500))).expect("it answers");
    assert_eq!(written, Written::Updated);
    let second = insert(&store, &queued(2), 1);
    // Somebody who saw the first before its time takes the second.
    let take = format!(
        "UPDATE executions SET dispatched_at = 1, generation = 2 WHERE id = '{}'",
        second.id
    );
    let late = ExecutionStore::new(Between {
        inner: store.sql().clone(),
        statements: Cell::new(0),
        others: || store.sql().execute(&take),
    });
    let claimed = ready(late.claim_queued(at(500), at(900), 1, 9)).expect("it answers");
    assert_eq!(late.sql().statements.get(), WRITES_AT);
    assert_eq!(claimed, []);
    assert_eq!(get(&store, &first), next);
}

#[test]
fn no_two_claimers_get_the_same_and_the_limit_holds() {
    const CLAIMERS: usize = 4;
    const EXECUTIONS: usize = 120;
    const MAX_RUNNING: u32 = 7;
    // Longer than any database takes on a busy machine: who waits for one that has failed is to fail too.
    const LIMIT: Duration = Duration::from_secs(240);
    let place = Place::new();
    let store = file(&place);
    for n in 0..EXECUTIONS {
        insert(&store, &queued(i64::try_from(n).expect("small")), 0);
    }
    let barrier = Barrier::new(CLAIMERS);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let taken: Vec<Vec<ExecutionId>> = thread::scope(|scope| {
        let claimer = |_| {
            let (barrier, place, done) = (&barrier, &place, &done);
            scope.spawn(move || {
                let store = file(place);
                let mut mine = Vec::new();
                barrier.wait();
                let begun = Instant::now();
                while done.load(std::sync::atomic::Ordering::SeqCst) < EXECUTIONS {
                    assert!(begun.elapsed() < LIMIT, "another has given up");
                    let claimed = claim(&store, 1_000, MAX_RUNNING, 3);
                    assert!(running(&store) <= MAX_RUNNING);
                    for execution in &claimed {
                        finish(&store, execution, 0, 2_000);
                        done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    mine.extend(ids(&claimed));
                }
                mine
            })
        };
        let claimers: Vec<_> = (0..CLAIMERS).map(claimer).collect();
        claimers
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .collect()
    });
    let all: Vec<ExecutionId> = taken.concat();
    assert_eq!(all.len(), EXECUTIONS);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), EXECUTIONS);
}

fn running(store: &Store) -> u32 {
    let count = "SELECT count(*) FROM executions \
         WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED'";
    u32::try_from(store.sql().number(count)).expect("small")
}

#[test]
fn inserts_at_once_do_not_go_over_the_limit() {
    const INSERTERS: u64 = 4;
    const EACH: i64 = 20;
    const MAX_RUNNING: u32 = 9;
    let place = Place::new();
    let barrier = Barrier::new(usize::try_from(INSERTERS).expect("small"));
    let dispatched: usize = thread::scope(|scope| {
        let inserter = |number: u64| {
            let (barrier, place) = (&barrier, &place);
            scope.spawn(move || {
                let store = file(place);
                barrier.wait();
                let one = |n: i64| {
                    let mut execution = queued(n);
                    execution.id = id(n, number);
                    insert(&store, &execution, MAX_RUNNING).is_dispatched()
                };
                (0..EACH).map(one).filter(|d| *d).count()
            })
        };
        let inserters: Vec<_> = (0..INSERTERS).map(inserter).collect();
        inserters
            .into_iter()
            .map(|i| i.join().expect("no panic"))
            .sum()
    });
    let limit = usize::try_from(MAX_RUNNING).expect("small");
    let store = file(&place);
    // PostgreSQL leaves those that come while another is being dispatched in the queue.
    match store.sql().dialect() {
        Dialect::Postgres => assert!(dispatched <= limit, "{dispatched}"),
        _ => assert_eq!(dispatched, limit),
    }
    let claimed = claim(&store, 1_000, MAX_RUNNING, PLENTY).len();
    assert_eq!(dispatched + claimed, limit);
    assert_eq!(running(&store), MAX_RUNNING);
}

#[test]
fn no_two_claimers_take_over_the_same() {
    const CLAIMERS: usize = 4;
    const EXECUTIONS: usize = 100;
    let place = Place::new();
    let store = file(&place);
    for n in 0..EXECUTIONS {
        insert(&store, &queued(i64::try_from(n).expect("small")), PLENTY);
    }
    let barrier = Barrier::new(CLAIMERS);
    let taken: Vec<Vec<ExecutionId>> = thread::scope(|scope| {
        let claimer = |_| {
            let (barrier, place) = (&barrier, &place);
            scope.spawn(move || {
                let store = file(place);
                let mut mine = Vec::new();
                barrier.wait();
                loop {
                    let claimed = unconfirmed(&store, 100_000, 3);
                    if claimed.is_empty() {
                        return mine;
                    }
                    mine.extend(ids(&claimed));
                }
            })
        };
        let claimers: Vec<_> = (0..CLAIMERS).map(claimer).collect();
        claimers
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .collect()
    });
    let all: Vec<ExecutionId> = taken.concat();
    assert_eq!(all.len(), EXECUTIONS);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), EXECUTIONS);
}

#[test]
fn what_is_due_comes_in_the_order_of_the_deadlines() {
    let store = memory();
    let with_queue_seconds = |millis, queue_seconds| {
        let mut execution = queued(millis);
        execution.timeouts = Timeouts {
            queue_seconds,
            start_seconds: 20,
            run_seconds: 100,
            grace_seconds: 1,
        };
        execution
    };
    let late = insert(&store, &with_queue_seconds(0, 50), 0);
    let early = insert(&store, &with_queue_seconds(1, 10), 0);
    let middle = insert(&store, &with_queue_seconds(2, 30), 0);
    let due = |millis, limit| ready(store.due(at(millis), limit)).expect("it reads");
    assert!(due(10_000, 9).is_empty());
    assert_eq!(due(10_001, 9), [early.clone()]);
    assert_eq!(
        due(60_000, 9),
        [early.clone(), middle.clone(), late.clone()]
    );
    assert_eq!(due(60_000, 2), [early.clone(), middle.clone()]);
    // Each change sets the clock that runs then.
    let taken = claim(&store, 5_000, 1, 1).remove(0);
    assert_eq!(taken.id, late.id);
    assert_eq!(due(25_000, 9), [early.clone(), taken.clone()]);
    let taken = step(
        &store,
        &taken,
        Observation::Started { at: at(6_000) },
        6_000,
    );
    assert_eq!(due(105_999, 9), [early.clone(), middle.clone()]);
    assert_eq!(due(106_000, 9), [early, middle, taken.clone()]);
    finish(&store, &taken, 0, 7_000);
    assert_eq!(due(200_000, 9).len(), 2);
}

#[test]
fn unfinished_ones_with_a_job_come_in_pages_by_id() {
    let store = memory();
    let mut known = Vec::new();
    for n in 0..5 {
        let execution = insert(&store, &queued(n), 5);
        if n != 1 {
            let uid = format!("uid {n}");
            known.push(step(&store, &execution, Observation::JobExists { uid }, n));
        }
    }
    insert(&store, &queued(9), 5);
    let upto = |after, upto, limit| {
        ready(store.unfinished_dispatched(EVERYONES, after, upto, limit)).expect("it reads")
    };
    let page = |after, limit| upto(after, None, limit);
    assert_eq!(page(None, 9), known);
    assert_eq!(page(None, 2), known[..2]);
    assert_eq!(page(Some(known[1].id), 2), known[2..]);
    assert!(page(Some(known[3].id), 2).is_empty());
    assert_eq!(upto(None, Some(known[2].id), 9), known[..3]);
    assert_eq!(upto(Some(known[0].id), Some(known[2].id), 9), known[1..3]);
    assert_eq!(upto(Some(known[2].id), Some(known[1].id), 9), []);
    finish(&store, &known[0], 0, 20);
    assert_eq!(page(None, 9), known[1..]);
    assert!(page(None, 9).iter().all(|e| e.status != Status::Finished));
}

#[test]
fn an_unreadable_row_does_not_stop_the_others() {
    let store = memory();
    let bad = insert(&store, &queued(0), 0);
    let good = insert(&store, &queued(1), 0);
    let change = format!(
        "UPDATE payloads SET body = '{{}}' WHERE execution_id = '{}'",
        bad.id
    );
    store.sql().execute(&change);
    assert_eq!(ids(&claim(&store, 2, PLENTY, 9)), [good.id]);
    // Alone, it is told.
    step(
        &store,
        &get(&store, &good),
        Observation::JobExists { uid: "u".into() },
        3,
    );
    let alone = ready(store.claim_unconfirmed(at(90_000), at(99_000), 9));
    assert!(
        matches!(alone, Err(StoreError::Corrupt { .. })),
        "{alone:?}"
    );
}
