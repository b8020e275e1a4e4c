//! Cancels: the request, who carries it out, the log kept before the deletion.

use domain::transition::Observation;
use domain::{Execution, Status, transition};
use store::testing::ready;
use store::{StoredLog, Written};

use crate::support::*;

fn log(text: &str) -> StoredLog {
    StoredLog {
        head: text.into(),
        bytes: text.len() as u64,
        ..StoredLog::default()
    }
}

fn running(store: &Store, millis: i64) -> Execution {
    let dispatched = insert(store, &queued(millis), PLENTY);
    let uid = "u".to_owned();
    step(store, &dispatched, Observation::JobExists { uid }, 1)
}

fn canceled(store: &Store, execution: &Execution, claim_until: i64) -> Execution {
    let next = transition(execution, &Observation::CancelRequested, at(2)).expect("it changes");
    let written = ready(store.request_cancel(&next, at(claim_until))).expect("it writes");
    assert_eq!(written, Written::Updated);
    next
}

#[test]
fn a_cancel_has_one_worker_at_a_time() {
    let store = memory();
    let first = canceled(&store, &running(&store, 0), 100);
    running(&store, 5);
    let claim = |now: i64| ready(store.claim_stops(at(now), at(now + 100), 9)).expect("claims");
    assert_eq!(claim(99), [], "its first worker has it");
    assert_eq!(claim(100), std::slice::from_ref(&first));
    assert_eq!(claim(100), []);
    ready(store.release_stop(first.id, at(101))).expect("it writes");
    assert_eq!(claim(101).len(), 1);
    assert_eq!(get(&store, &first), first, "claims change no generation");
    assert_eq!(
        ready(store.due(at(i64::from(u32::MAX)), 9))
            .expect("it reads")
            .len(),
        1
    );
    finish(&store, &first, 0, 9);
    assert_eq!(claim(1_000_000), []);
}

#[test]
fn what_ran_too_long_is_taken_up_like_a_cancel() {
    let store = memory();
    let late = 10_000_000;
    let running = running(&store, 0);
    let running = step(&store, &running, Observation::Started { at: at(3) }, 3);
    let next = step(&store, &running, Observation::DeadlinePassed, late);
    assert_eq!(next.timed_out_at, Some(at(late)));
    assert_eq!(get(&store, &running), next);
    assert_eq!(ready(store.due(at(2 * late), 9)).expect("it reads"), []);
    let claim = |now: i64| ready(store.claim_stops(at(now), at(now + 100), 9)).expect("claims");
    assert_eq!(claim(late), [next.clone()]);
    assert_eq!(claim(late), []);
    // A cancel that comes now changes nobody's claim.
    let asked = step(&store, &next, Observation::CancelRequested, late + 1);
    assert_eq!(claim(late + 99), []);
    assert_eq!(claim(late + 100), [asked]);
}

#[test]
fn nobody_creates_the_job_of_a_canceled_one_again() {
    let store = memory();
    let dispatched = insert(&store, &queued(0), PLENTY);
    let late = at(1_000_000);
    canceled(&store, &dispatched, 100);
    assert_eq!(
        ready(store.claim_unconfirmed(late, late, 9)).expect("it claims"),
        []
    );
}

#[test]
fn the_log_of_a_stop_is_there_before_the_end_and_gives_way_to_a_better_one() {
    let store = memory();
    let execution = canceled(&store, &running(&store, 0), 100);
    let next = transition(&execution, &Observation::Stopping, at(3)).expect("it changes");
    assert_eq!(
        ready(store.stop(&next, &log("so far\n"))).expect("it writes"),
        Written::Updated
    );
    assert_eq!(
        ready(store.stop(&next, &log("late\n"))).expect("it answers"),
        Written::Stale
    );
    let stopping = get(&store, &execution);
    assert_eq!(
        (stopping.status, stopping.stopping_since),
        (Status::Queued, Some(at(3)))
    );
    assert_eq!(stopping.log.expect("its sizes").bytes, 7);
    let kept = || {
        ready(store.log(execution.id))
            .expect("it reads")
            .expect("a log")
    };
    assert_eq!(kept().head, b"so far\n");
    let end = Observation::Stopped { end: None };
    let next = transition(&stopping, &end, at(4)).expect("it ends");
    let all = StoredLog {
        complete: true,
        ..log("so far\nbye\n")
    };
    assert_eq!(
        ready(store.finish(&next, &all)).expect("it writes"),
        Written::Updated
    );
    assert_eq!(kept(), all);
}
