//! Retries: the step to the next attempt, what is kept of the one before, and its place in the queue.

use domain::transition::Observation;
use domain::{AttemptRecord, Execution, ExecutionId, Retry, Status, next_attempt, transition};
use store::testing::{Sqlite, ready};
use store::{StoredLog, Written};

use crate::support::*;

/// One that may be tried that often beyond the first time, as it is accepted.
fn retried(millis: i64, limit: u32) -> Execution {
    Execution {
        retry: Retry::of(limit, &Retry::OUTCOMES),
        ..queued(millis)
    }
}

/// The log that is stored of each attempt: it tells which.
fn log(attempt: u32) -> StoredLog {
    let head = format!("attempt {attempt}\n").into_bytes();
    StoredLog {
        bytes: head.len() as u64 + 7,
        head,
        lost_bytes: 7,
        ..StoredLog::default()
    }
}

/// The attempt ends and another one takes its place: the end, and what is stored.
fn fail(store: &Store, execution: &Execution, millis: i64) -> (Execution, Execution) {
    let ended = ended(execution, 1, millis);
    let next = next_attempt(execution, &ended, at(millis)).expect("another attempt");
    let written = ready(store.retry(&next, &ended, &log(execution.attempt)));
    assert_eq!(written.expect("it writes"), Written::Updated);
    (ended, next)
}

fn attempts(store: &Store, id: ExecutionId) -> Vec<AttemptRecord> {
    let read = ready(store.earlier_attempts(&[id])).expect("it reads");
    read.into_iter().map(|(_, attempt)| attempt).collect()
}

fn head_of(store: &Store, id: ExecutionId, attempt: u32) -> Option<Vec<u8>> {
    let log = ready(store.attempt_log(id, attempt)).expect("it reads");
    log.map(|log| log.head)
}

fn claim(store: &Store, millis: i64) -> Vec<Execution> {
    let claimed = ready(store.claim_queued(at(millis), at(millis + 9), PLENTY, 9));
    let claimed = claimed.expect("it claims").into_iter();
    claimed.map(|(execution, _)| execution).collect()
}

#[test]
fn every_attempt_is_kept_with_its_end_and_its_log() {
    let store = memory();
    let first = insert(&store, &retried(0, 2), PLENTY);
    let id = first.id;
    let (ended, second) = fail(&store, &first, 5);
    assert_eq!(get(&store, &first), second);
    let expected = AttemptRecord {
        log: Some(log(1).summary()),
        ..ended.current_attempt().expect("it was dispatched")
    };
    assert_eq!(attempts(&store, id), [expected.clone()]);
    assert_eq!(head_of(&store, id, 1), Some(log(1).head));
    assert_eq!(head_of(&store, id, 2), None);
    assert_eq!(ready(store.log(id)).expect("it reads"), None);

    let second = claim(&store, 2_000).remove(0);
    assert_eq!((second.attempt, second.status), (2, Status::Running));
    let last = finish(&store, &second, 0, 2_010);
    assert_eq!(get(&store, &first), last);
    assert_eq!(attempts(&store, id), [expected]);
    assert_eq!(head_of(&store, id, 1), Some(log(1).head));
    assert_eq!(head_of(&store, id, 2), Some(b"done\n".to_vec()));
    assert_eq!(head_of(&store, id, 3), None);
}

#[test]
fn the_step_is_stored_whole_or_not_at_all() {
    let store = memory();
    let first = insert(&store, &retried(0, 2), PLENTY);
    let ended = ended(&first, 1, 5);
    let next = next_attempt(&first, &ended, at(5)).expect("another attempt");
    // Somebody else is quicker.
    let known = step(
        &store,
        &first,
        Observation::JobExists { uid: "u".into() },
        4,
    );
    let written = ready(store.retry(&next, &ended, &log(1))).expect("it answers");
    assert_eq!(written, Written::Stale);
    assert_eq!(get(&store, &first), known);
    assert_eq!(attempts(&store, first.id), []);
    assert_eq!(head_of(&store, first.id, 1), None);
}

#[test]
fn a_log_that_a_stop_has_kept_goes_with_its_attempt() {
    let store = memory();
    let first = insert(&store, &retried(0, 2), PLENTY);
    let id = first.id;
    let kept = Execution {
        generation: first.generation + 1,
        ..first
    };
    let written = ready(store.stop(&kept, &log(9))).expect("it writes");
    assert_eq!(written, Written::Updated);
    assert_eq!(head_of(&store, id, 1), Some(log(9).head));
    fail(&store, &kept, 5);
    assert_eq!(head_of(&store, id, 1), Some(log(1).head));
    assert_eq!(ready(store.log(id)).expect("it reads"), None);
}

#[test]
fn the_next_attempt_waits_its_pause_and_takes_its_place_by_age() {
    let store = memory();
    let old = insert(&store, &retried(0, 1), 1);
    let (_, again) = fail(&store, &old, 5);
    assert_eq!(again.due_at, at(1_005));
    let position = ready(store.queue_position(&again)).expect("it counts");
    assert_eq!(position, None);
    // It neither counts as running nor stands in anybody's way while it pauses.
    let claim_until = at(99);
    let younger = queued(50);
    let asked = submission(&younger);
    let younger = insert_asked(&store, &younger, &asked, 1, claim_until);
    assert!(younger.dispatched_at.is_some(), "there was room");
    finish(&store, &younger, 0, 60);
    let batch = [(queued(70), submission(&queued(70)))];
    let inserted = insert_batch(&store, &batch, None, (1, 1), claim_until);
    let store::InsertedBatch::New { executions } = inserted else {
        panic!("it is new");
    };
    assert!(executions[0].dispatched_at.is_some(), "there was room");
    finish(&store, &executions[0], 0, 80);
    assert_eq!(claim(&store, 1_004), []);
    // Once it is due it is the oldest, and new ones wait behind it.
    let latest = queued(1_010);
    let asked = submission(&latest);
    let latest = insert_asked(&store, &latest, &asked, 9, at(1_020));
    assert_eq!(latest.dispatched_at, None);
    let claimed = claim(&store, 1_011);
    let ids: Vec<_> = claimed.iter().map(|e| e.id).collect();
    assert_eq!(ids, [old.id, latest.id]);
    assert_eq!(claimed[0].dispatched_at, Some(at(1_011)));
    assert_eq!(get(&store, &old), claimed[0]);
}

#[test]
fn a_later_attempt_that_does_not_start_is_asked_about_like_a_first_one() {
    let store = memory();
    let first = insert(&store, &retried(0, 1), PLENTY);
    fail(&store, &first, 5);
    let second = claim(&store, 2_000).remove(0);
    let second = step(
        &store,
        &second,
        Observation::JobExists { uid: "u".into() },
        2_001,
    );
    assert_eq!(second.status, Status::Running);
    let starting = || ready(store.starting_since(&[(at(0), at(9_000))], 9)).expect("it reads");
    assert_eq!(starting(), [second.clone()]);
    step(
        &store,
        &second,
        Observation::Started { at: at(2_002) },
        2_002,
    );
    assert_eq!(starting(), []);
}

#[test]
fn its_clocks_are_due_like_those_of_others() {
    let store = memory();
    let first = insert(&store, &retried(0, 1), PLENTY);
    let (_, again) = fail(&store, &first, 5);
    let (_, deadline) = again.deadline().expect("a clock");
    let due = |at| ready(store.due(at, 9)).expect("it reads");
    assert_eq!(due(deadline - jiff::SignedDuration::from_millis(1)), []);
    assert_eq!(due(deadline), [again.clone()]);
    let ended = transition(&again, &Observation::DeadlinePassed, deadline).expect("it ends");
    let written = ready(store.finish(&ended, &StoredLog::default())).expect("it writes");
    assert_eq!(written, Written::Updated);
    assert_eq!(attempts(&store, first.id).len(), 1);
}

#[test]
fn attempts_of_several_are_read_at_once_and_forgotten_with_theirs() {
    let store = memory();
    let [one, other] = [0, 1].map(|millis| insert(&store, &retried(millis, 2), PLENTY));
    fail(&store, &one, 5);
    fail(&store, &other, 5);
    for execution in claim(&store, 2_000) {
        let (_, again) = fail(&store, &execution, 2_001);
        assert_eq!(again.attempt, 3);
    }
    let ids = [other.id, one.id, id(9, 9)];
    let read = || ready(store.earlier_attempts(&ids)).expect("it reads");
    let numbers: Vec<_> = read().iter().map(|(id, a)| (*id, a.number)).collect();
    assert_eq!(
        numbers,
        [(one.id, 1), (one.id, 2), (other.id, 1), (other.id, 2)]
    );
    assert_eq!(ready(store.earlier_attempts(&[])).expect("it reads"), []);
    let third = claim(&store, 9_000).remove(0);
    finish(&store, &third, 0, 9_001);
    assert_eq!(
        ready(store.forget(&ours(), third.id, None)).expect("it answers"),
        Written::Updated
    );
    let left: Vec<_> = read().into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [other.id, other.id]);
    assert_eq!(head_of(&store, one.id, 1), None);
    assert_eq!(head_of(&store, other.id, 1), Some(log(1).head));
}

#[test]
fn what_was_stored_before_there_were_retries_has_none() {
    let sqlite = Sqlite::memory();
    let connection = sqlite.connection();
    for text in [
        include_str!("../../migrations/sqlite/0001_executions.sql"),
        include_str!("../../migrations/sqlite/0002_priority.sql"),
        include_str!("../../migrations/sqlite/0003_cancel_and_expiry.sql"),
        include_str!("../../migrations/sqlite/0004_webhooks.sql"),
        include_str!("../../migrations/sqlite/0005_events.sql"),
        "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL); \
         INSERT INTO schema_migrations VALUES (1, 'executions'), (2, 'priority'), \
         (3, 'cancel and expiry'), (4, 'webhooks'), (5, 'events')",
    ] {
        connection.execute_batch(text).expect("valid SQL");
    }
    let execution = queued(0);
    let row = "INSERT INTO executions (id, generation, status, created_at, image, cpu, memory, ephemeral_storage, \
         queue_seconds, start_seconds, run_seconds, grace_seconds, labels, deadline_at, digest) VALUES \
         (?1, 1, 'QUEUED', ?2, 'busybox:1.36', '250m', '128Mi', '1e9', 86400, 300, 600, 10, '{}', ?2, 'd')";
    let created_at = execution.created_at.as_microsecond();
    let id = execution.id.to_string();
    connection
        .execute(row, rusqlite::params![id, created_at])
        .expect("it inserts");
    let store = Store::new(Database::Sqlite(sqlite));
    ready(store.migrate()).expect("it migrates");
    assert_eq!(get(&store, &execution), execution);
    assert_eq!(attempts(&store, execution.id), []);
    assert_eq!(
        ready(store.queue_position(&execution)).expect("it counts"),
        Some(1)
    );
}
