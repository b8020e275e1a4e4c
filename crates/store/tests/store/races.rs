//! Many connections at once, each doing whatever comes: what must hold of what they leave behind, and meanwhile.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use domain::transition::Observation;
use domain::{Entry, Execution, ExecutionId, transition};
use store::testing::ready;
use store::{Inserted, Redelivered, Settled, Sql, SqlError, Statement, StoredLog, Written};

use crate::support::*;

const WORKERS: u64 = 8;

/// Numbers that look random and come again with the same seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn new(seed: u64, worker: u64) -> Self {
        Self(seed ^ (worker + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % limit
    }
}

/// From the environment, else of this moment; printed, so that a failing run can be made again as far as threads allow.
fn seed() -> u64 {
    let seed = match std::env::var("EXECUTOR_TEST_SEED") {
        Ok(text) => text.parse().expect("EXECUTOR_TEST_SEED is a number"),
        Err(_) => {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(since.expect("after 1970").subsec_nanos())
        }
    };
    println!("EXECUTOR_TEST_SEED={seed}");
    seed
}

/// How many have a place.
pub const RUNNING: &str =
    "SELECT count(*) FROM executions WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED'";

/// What is watched while all go on.
struct Watch {
    place: Place,
    claimed: Mutex<BTreeSet<(ExecutionId, u64)>>,
    finished: AtomicU32,
    stale: AtomicU32,
    full: AtomicU32,
}

#[test]
fn eight_at_once_keep_the_limit_and_do_nothing_twice() {
    const MAX_RUNNING: u32 = 5;
    const STEPS: usize = 120;
    let seed = seed();
    let watch = Watch {
        place: Place::new(),
        claimed: Mutex::default(),
        finished: AtomicU32::new(0),
        stale: AtomicU32::new(0),
        full: AtomicU32::new(0),
    };
    let barrier = Barrier::new(usize::try_from(WORKERS).expect("small") + 1);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (watch, barrier) = (&watch, &barrier);
                scope.spawn(move || {
                    let store = file(&watch.place);
                    let mut chance = Chance::new(seed, number);
                    let mut mine = Vec::new();
                    barrier.wait();
                    for step in 0..STEPS {
                        act(
                            watch,
                            &store,
                            &mut chance,
                            &mut mine,
                            (number, step),
                            MAX_RUNNING,
                        );
                    }
                })
            })
            .collect();
        let watcher = scope.spawn(|| {
            let database = file(&watch.place).sql().clone();
            barrier.wait();
            while !done.load(Ordering::SeqCst) {
                let running = database.number(RUNNING);
                assert!(running <= i64::from(MAX_RUNNING), "{running} run at once");
                if running == i64::from(MAX_RUNNING) {
                    watch.full.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let results: Vec<_> = workers.into_iter().map(|w| w.join()).collect();
        done.store(true, Ordering::SeqCst);
        watcher.join().expect("the limit holds");
        for result in results {
            result.expect("no panic");
        }
    });
    check(&watch);
}

/// One worker's next deed.
fn act(
    watch: &Watch,
    store: &Store,
    chance: &mut Chance,
    mine: &mut Vec<Execution>,
    (worker, step): (u64, usize),
    max_running: u32,
) {
    let millis = i64::try_from(step).expect("small");
    match chance.below(6) {
        0 | 1 => {
            let execution = Execution {
                id: id(millis, worker),
                ..queued(millis)
            };
            let asked = with_webhook(&execution);
            let stored = insert_asked(store, &execution, &asked, max_running, at(90_000));
            if stored.is_dispatched() {
                take(watch, mine, stored);
            }
        }
        2 | 3 => {
            let until = at(90_000);
            let claimed = ready(store.claim_queued(at(millis + 1_000), until, max_running, 3));
            for (execution, _) in claimed.expect("it claims") {
                take(watch, mine, execution);
            }
        }
        4 => tell(store, mine, chance),
        _ => {
            if mine.is_empty() {
                return;
            }
            let execution = mine.swap_remove(chance.below(mine.len()));
            let now = ready(store.get(execution.id)).expect("it reads");
            let next = ended(&now.expect("it is there"), 0, millis);
            let written = ready(store.finish(&next, &StoredLog::default()));
            assert_eq!(written.expect("it answers"), Written::Updated);
            watch.finished.fetch_add(1, Ordering::SeqCst);
            let again = ready(store.finish(&next, &StoredLog::default()));
            assert_eq!(again.expect("it answers"), Written::Stale);
            watch.stale.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What one dispatch gives, one worker gets.
fn take(watch: &Watch, mine: &mut Vec<Execution>, execution: Execution) {
    let key = (execution.id, execution.generation);
    let mut claimed = watch.claimed.lock().expect("nobody panicked");
    assert!(claimed.insert(key), "{key:?} is given twice");
    drop(claimed);
    mine.push(execution);
}

/// Somebody tells of an execution that runs.
fn tell(store: &Store, mine: &[Execution], chance: &mut Chance) {
    let Some(execution) = mine.first() else {
        return;
    };
    let message = ["no node", "no room"][chance.below(2)];
    let told = [Entry::once(at(2), "FailedScheduling", "scheduler", message)];
    ready(store.add_events(execution.id, &told)).expect("it writes");
}

/// What they leave behind.
fn check(watch: &Watch) {
    let store = file(&watch.place);
    let finished = watch.finished.load(Ordering::SeqCst);
    assert!(finished > 0, "something came to its end");
    let full = watch.full.load(Ordering::SeqCst);
    assert!(full > 0, "the limit was reached");
    let figures = ready(store.figures()).expect("it reads");
    let counted: u64 = figures.finished.iter().map(|(_, count)| count).sum();
    assert_eq!(counted, u64::from(finished), "each end is counted once");
    let number = |sql: &str| store.sql().number(sql);
    assert_eq!(
        number("SELECT count(*) FROM deliveries"),
        i64::from(finished)
    );
    let places = "SELECT value FROM counters WHERE name = 'places' AND label = 'dispatched'";
    assert_eq!(
        number(places),
        number(RUNNING),
        "what is dispatched is counted"
    );
    // Each dispatch is told of once, and numbers have no gaps.
    let dispatches = watch.claimed.lock().expect("nobody panicked").len();
    assert_eq!(
        number("SELECT count(*) FROM events WHERE kind = 'Dispatched'"),
        i64::try_from(dispatches).expect("small")
    );
    assert_eq!(
        number(
            "SELECT count(*) FROM (SELECT 1 FROM events GROUP BY execution_id \
             HAVING max(sequence) <> count(*)) AS gaps"
        ),
        0
    );
}

/// Runs that on eight connections, all beginning at once, and gives what each came to.
pub fn at_once<T: Send>(place: &Place, run: impl Fn(&Store, u64) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(usize::try_from(WORKERS).expect("small"));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (barrier, run) = (&barrier, &run);
                scope.spawn(move || {
                    let store = file(place);
                    barrier.wait();
                    run(&store, number)
                })
            })
            .collect();
        let results = workers.into_iter().map(|w| w.join().expect("no panic"));
        results.collect()
    })
}

#[test]
fn of_eight_inserts_with_one_key_one_is_new_and_the_others_get_it() {
    let place = Place::new();
    let ids = at_once(&place, |store, worker| {
        let one = |round: i64| {
            let execution = Execution {
                id: id(round, worker),
                ..queued(round)
            };
            let asked = domain::Submission {
                digest: "the same".into(),
                ..submission(&execution)
            };
            let key = format!("key {round}");
            match ready(store.insert(&execution, &asked, Some(&key), PLENTY, at(9))) {
                Ok(Inserted::New { execution, .. }) => (execution.id, true),
                Ok(Inserted::Existing {
                    execution,
                    same_request: true,
                }) => (execution.id, false),
                other => panic!("round {round}: {other:?}"),
            }
        };
        (0..20).map(one).collect::<Vec<_>>()
    });
    for round in 0..20 {
        let answers: Vec<_> = ids.iter().map(|answers| answers[round]).collect();
        let new = answers.iter().filter(|(_, new)| *new).count();
        assert_eq!(new, 1, "round {round}");
        let ids: BTreeSet<_> = answers.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids.len(), 1, "round {round}");
    }
}

#[test]
fn of_eight_writers_of_one_generation_one_wins() {
    let place = Place::new();
    let store = file(&place);
    for round in 0..20 {
        let execution = insert(&store, &queued(round), PLENTY);
        let written = at_once(&place, |store, worker| {
            let uid = format!("uid {worker}");
            let observation = Observation::JobExists { uid };
            let next = transition(&execution, &observation, at(round)).expect("it changes");
            (ready(store.update(&next)).expect("it answers"), next)
        });
        let won: Vec<_> = written
            .iter()
            .filter(|(written, _)| *written == Written::Updated)
            .collect();
        assert_eq!(won.len(), 1, "round {round}");
        assert_eq!(get(&store, &execution), won[0].1);
    }
}

#[test]
fn a_lease_has_one_holder_and_its_fence_only_grows() {
    const EACH: i64 = 40;
    let place = Place::new();
    let held = at_once(&place, |store, worker| {
        let holder = format!("holder {worker}");
        let one = |round: i64| {
            let (now, expires) = (at(round * 10), at(round * 10 + 10));
            let lease = ready(store.acquire_lease("tick", &holder, now, expires));
            lease
                .expect("it answers")
                .map(|lease| (lease.fence, holder.clone()))
        };
        (0..EACH).filter_map(one).collect::<Vec<_>>()
    });
    // One fence is one holder's, and each holder sees it grow.
    let mut all: Vec<_> = held.iter().flatten().cloned().collect();
    all.sort();
    all.dedup();
    for pair in all.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{pair:?} share a fence");
    }
    for mine in &held {
        assert!(mine.is_sorted(), "{mine:?}");
    }
    assert!(!all.is_empty());
}

#[test]
fn no_two_of_eight_take_over_the_same() {
    const EXECUTIONS: i64 = 60;
    let place = Place::new();
    let store = file(&place);
    for n in 0..EXECUTIONS {
        let execution = queued(n);
        let asked = with_webhook(&execution);
        let stored = insert_asked(&store, &execution, &asked, PLENTY, at(9));
        if n % 2 == 0 {
            let next = transition(&stored, &Observation::CancelRequested, at(n));
            let written = ready(store.request_cancel(&next.expect("it changes"), at(9)));
            assert_eq!(written.expect("it answers"), Written::Updated);
        }
        if n % 3 == 0 {
            finish(&store, &get(&store, &execution), 0, n);
        }
    }
    let (now, until) = (at(1_000), at(9_000));
    let taken = at_once(&place, |store, _| {
        let mut mine = Vec::new();
        loop {
            let before = mine.len();
            let unconfirmed = ready(store.claim_unconfirmed(now, until, 3)).expect("it claims");
            mine.extend(unconfirmed.iter().map(|(e, _)| ("create", e.id)));
            let stops = ready(store.claim_stops(now, until, 3)).expect("it claims");
            mine.extend(stops.iter().map(|e| ("stop", e.id)));
            let deliveries = ready(store.claim_deliveries(now, until, 3)).expect("it claims");
            mine.extend(deliveries.iter().map(|c| ("tell", c.execution_id)));
            for claim in &deliveries {
                let settled = Settled::Again(until);
                ready(store.settle_delivery(claim, &attempt(claim.attempt), settled))
                    .expect("it writes");
            }
            if mine.len() == before {
                return mine;
            }
        }
    });
    let all: Vec<_> = taken.concat();
    let once: BTreeSet<_> = all.iter().collect();
    assert_eq!(all.len(), once.len(), "something is taken twice");
    let of = |what: &str| all.iter().filter(|(kind, _)| *kind == what).count();
    // Of 60: every third is told, every second of the others is stopped, the rest is created.
    assert_eq!((of("tell"), of("stop"), of("create")), (20, 20, 20));
}

#[test]
fn of_deliveries_asked_for_at_once_one_is_pending() {
    let place = Place::new();
    let store = file(&place);
    let execution = queued(0);
    let asked = with_webhook(&execution);
    let execution = insert_asked(&store, &execution, &asked, PLENTY, at(9));
    finish(&store, &execution, 0, 1);
    let numbers = at_once(&place, |store, _| {
        match ready(store.redeliver(&ours(), execution.id, 1, at(2), None)).expect("it answers") {
            Redelivered::Pending(number) => number,
            other => panic!("{other:?}"),
        }
    });
    let numbers: BTreeSet<_> = numbers.into_iter().collect();
    assert_eq!(numbers, (2..=9).collect());
    let pending = "SELECT count(*) FROM deliveries WHERE next_at IS NOT NULL";
    assert_eq!(store.sql().number(pending), 1);
}

#[test]
fn a_record_forgotten_by_many_is_counted_once() {
    let place = Place::new();
    let store = file(&place);
    for n in 0..20 {
        let execution = Execution {
            ttl_seconds: 1,
            ..queued(n)
        };
        let execution = insert(&store, &execution, PLENTY);
        finish(&store, &execution, 0, n);
    }
    let one_by_one = |store: &Store, n: i64| {
        u64::from(
            ready(store.forget(&ours(), id(n, 7), None)).expect("it answers") == Written::Updated,
        )
    };
    let (expired, deleted): (Vec<u64>, Vec<u64>) = at_once(&place, |store, worker| {
        if worker % 2 == 0 {
            let expired = ready(store.forget_expired(at(60_000))).expect("it answers");
            (u64::from(expired), 0)
        } else {
            (0, (0..20).map(|n| one_by_one(store, n)).sum())
        }
    })
    .into_iter()
    .unzip();
    let figures = ready(store.figures()).expect("it reads");
    assert_eq!(figures.expired, expired.iter().sum::<u64>());
    assert_eq!(figures.deleted, deleted.iter().sum::<u64>());
    assert_eq!(figures.expired + figures.deleted, 20);
}

#[test]
fn different_things_told_at_once_are_all_told() {
    let place = Place::new();
    let execution = insert(&file(&place), &queued(0), PLENTY);
    at_once(&place, |store, worker| {
        for n in 0..10 {
            let message = format!("{worker} says {n}");
            let told = [Entry::once(at(2), "FailedScheduling", "scheduler", message)];
            ready(store.add_events(execution.id, &told)).expect("it writes");
        }
    });
    let events = ready(file(&place).events(execution.id, 0, 999)).expect("it reads");
    let told: Vec<_> = events
        .iter()
        .filter(|e| e.entry.kind == "FailedScheduling")
        .collect();
    assert_eq!(told.len(), 80);
    assert!(told.iter().all(|e| e.entry.count == 1));
}

#[test]
fn what_is_read_of_a_log_while_its_end_is_stored_is_not_left_behind() {
    let place = Place::new();
    let store = file(&place);
    for round in 0..20 {
        let execution = insert(&store, &queued(round), PLENTY);
        let next = ended(&execution, 0, round);
        at_once(&place, |store, worker| {
            if worker == 0 {
                let written = ready(store.finish(&next, &StoredLog::default()));
                assert_eq!(written.expect("it answers"), Written::Updated);
            } else {
                let log = store::FollowedLog {
                    bytes: worker,
                    ..store::FollowedLog::default()
                };
                ready(store.save_followed(&[(execution.id, log)])).expect("it writes");
            }
        });
        let left = ready(store.followed_ids(9)).expect("it reads");
        assert_eq!(left, [], "round {round}");
    }
}

#[test]
fn whoever_waits_for_a_lock_is_told_so_and_a_holder_that_is_gone_lets_go() {
    /// What `POSTGRES_OPTIONS` gives a waiter and a holder, and as much again for a slow machine.
    const LIMIT: Duration = Duration::from_secs(30);
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let execution = insert(&store, &queued(0), PLENTY);
    let holder = place.open();
    let change = "UPDATE executions SET not_before = 1";
    holder.execute(&format!("BEGIN; {change}"));
    let begun = Instant::now();
    let waits = Statement {
        sql: change.into(),
        params: Vec::new(),
        must_change: false,
    };
    let error = ready(store.sql().query(waits)).expect_err("it is locked");
    assert!(matches!(error, SqlError::Busy(_)), "{error:?}");
    // The holder says nothing more, as if its machine had gone. Tries follow each other until the server drops it.
    finish(&store, &execution, 0, 1);
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    let probe = Statement {
        sql: "SELECT 1".into(),
        params: Vec::new(),
        must_change: false,
    };
    let error = ready(holder.query(probe)).expect_err("it was dropped");
    assert!(matches!(error, SqlError::Unavailable(_)), "{error:?}");
}
