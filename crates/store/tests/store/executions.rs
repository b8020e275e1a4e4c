//! Inserting, reading, compare-and-set, finishing.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use domain::transition::Observation;
use domain::{Execution, Status, Submission, Waiting, WaitingKind, transition};
use store::testing::ready;
use store::{
    Dialect, Inserted, MAX_ACCEPTED_POSITION, MAX_QUEUE_POSITION, Sql, SqlError, StoreError,
    StoredLog, Written,
};

use crate::support::*;

/// Text that has gone wrong somewhere before.
const ODD: &str = "'; DROP TABLE executions; -- \"?1 $1 %s\" \u{0} \r\n\t é 日本 🦀 \u{202e}";

#[test]
fn what_is_inserted_is_read_back() {
    let store = memory();
    let mut execution = queued(0);
    execution.labels = BTreeMap::from([(ODD.into(), ODD.into()), ("b".into(), String::new())]);
    execution.image = ODD.into();
    execution.priority = -100;
    execution.waiting = Some(Waiting {
        kind: WaitingKind::Concurrency,
        message: ODD.into(),
    });
    let submission = Submission {
        script: ODD.into(),
        interpreter: Some(vec![ODD.into(), String::new()]),
        args: vec![ODD.into(), String::new()],
        env: BTreeMap::from([("A".into(), ODD.into())]),
        files: BTreeMap::from([
            (ODD.into(), (0..=255).collect()),
            ("empty".into(), Vec::new()),
        ]),
        ..submission(&execution)
    };
    let inserted = ready(store.insert(&execution, &submission, Some(ODD), 0, at(1)));
    assert_eq!(
        inserted.expect("it inserts"),
        Inserted::New {
            execution: execution.clone(),
            queue_position: Some(1),
            may_run: false,
        }
    );
    if store.sql().dialect() == Dialect::Postgres {
        // It has no NUL character in texts. What is stored as JSON has it escaped.
        let kept = ODD.replace('\0', "\u{FFFD}");
        execution.image.clone_from(&kept);
        execution.waiting = Some(Waiting {
            kind: WaitingKind::Concurrency,
            message: kept,
        });
    }
    assert_eq!(get(&store, &execution), execution);
    let read = ready(store.submission(execution.id)).expect("it reads");
    assert_eq!(read, Some(submission));
}

#[test]
fn a_whole_life_is_read_back_at_each_step() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    assert_eq!(execution.dispatched_at, Some(at(0)));
    assert_eq!(execution.generation, 2);
    assert_eq!(
        execution.waiting.as_ref().map(|w| w.kind),
        Some(WaitingKind::Starting)
    );
    assert_eq!(get(&store, &execution), execution);
    let execution = step(
        &store,
        &execution,
        Observation::JobExists { uid: "u".into() },
        5,
    );
    assert_eq!(get(&store, &execution), execution);
    let execution = step(&store, &execution, Observation::Started { at: at(6) }, 7);
    assert_eq!(get(&store, &execution), execution);
    let execution = finish(&store, &execution, 42, 9);
    assert_eq!(execution.status, Status::Finished);
    assert_eq!(get(&store, &execution), execution);
}

#[test]
fn times_are_kept_to_the_microsecond() {
    let store = memory();
    let mut execution = queued(0);
    execution.created_at += jiff::SignedDuration::from_nanos(123_456_789);
    let stored = insert(&store, &execution, PLENTY);
    assert_eq!(stored.created_at.subsec_nanosecond(), 123_456_000);
    assert_eq!(get(&store, &stored), stored);
}

#[test]
fn an_unknown_id_is_nothing() {
    let store = memory();
    let id = queued(0).id;
    assert_eq!(ready(store.get(id)).expect("it reads"), None);
    assert_eq!(ready(store.submission(id)).expect("it reads"), None);
    assert_eq!(ready(store.log(id)).expect("it reads"), None);
}

#[test]
fn there_is_room_for_so_many_and_nobody_overtakes_the_queue() {
    let store = memory();
    let first = insert(&store, &queued(0), 2);
    let second = insert(&store, &queued(1), 2);
    let third = insert(&store, &queued(2), 2);
    let dispatched: Vec<bool> = [&first, &second, &third].map(|e| e.is_dispatched()).into();
    assert_eq!(dispatched, [true, true, false]);
    finish(&store, &first, 0, 5);
    // There is room again, but the third is in the queue.
    assert!(!insert(&store, &queued(6), 2).is_dispatched());
    assert!(!insert(&store, &queued(7), 0).is_dispatched());
}

#[test]
fn the_place_in_the_queue_is_counted_from_one() {
    let store = memory();
    let running = insert(&store, &queued(0), 1);
    let waiting: Vec<_> = (1..4).map(|n| insert(&store, &queued(n), 1)).collect();
    let positions: Vec<_> = waiting
        .iter()
        .map(|e| ready(store.queue_position(e)).expect("it counts"))
        .collect();
    assert_eq!(positions, [Some(1), Some(2), Some(3)]);
    // It is told at once.
    let told = |n: i64, priority: i32| {
        let execution = Execution {
            priority,
            ..queued(n)
        };
        let inserted = ready(store.insert(&execution, &submission(&execution), None, 1, at(9)));
        match inserted.expect("it inserts") {
            Inserted::New { queue_position, .. } => queue_position,
            other => panic!("it is new: {other:?}"),
        }
    };
    assert_eq!(told(4, 0), Some(4));
    assert_eq!(told(5, 1), Some(1));
    assert_eq!(told(6, 0), Some(6));
    assert_eq!(
        ready(store.queue_position(&running)).expect("it counts"),
        None
    );
}

#[test]
fn a_place_far_back_in_the_queue_is_not_counted() {
    let store = memory();
    let most = u64::from(MAX_ACCEPTED_POSITION);
    for number in 1..=most + 1 {
        let execution = queued(i64::try_from(number).expect("a small number"));
        let inserted = ready(store.insert(&execution, &submission(&execution), None, 0, at(9)));
        let Inserted::New { queue_position, .. } = inserted.expect("it inserts") else {
            panic!("it is new")
        };
        assert_eq!(queue_position, (number <= most).then_some(number));
        let told = ready(store.queue_position(&execution)).expect("it counts");
        assert_eq!(told, Some(number), "it is counted for whoever asks");
    }
    let store = memory();
    let last = i64::from(MAX_QUEUE_POSITION);
    let batch: Vec<_> = (0..=last)
        .map(queued)
        .map(|execution| {
            let submission = submission(&execution);
            (execution, submission)
        })
        .collect();
    ready(store.insert_batch(&batch, None, 0, 0, at(9))).expect("it inserts");
    let [.., one_before, (beyond, _)] = &batch[..] else {
        panic!("there are more than two")
    };
    let position = |execution| ready(store.queue_position(execution)).expect("it counts");
    assert_eq!(position(&one_before.0), Some(u64::from(MAX_QUEUE_POSITION)));
    assert_eq!(position(beyond), None);
}

#[test]
fn a_compare_and_set_says_what_became_of_it() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let next = step(
        &store,
        &execution,
        Observation::JobExists { uid: "u".into() },
        1,
    );
    let again = transition(
        &execution,
        &Observation::JobExists {
            uid: "other".into(),
        },
        at(2),
    )
    .expect("it changes");
    assert_eq!(
        ready(store.update(&again)).expect("it answers"),
        Written::Stale
    );
    assert_eq!(get(&store, &execution), next);
    let mut unknown = next.clone();
    unknown.id = id(99, 99);
    assert_eq!(
        ready(store.update(&unknown)).expect("it answers"),
        Written::Missing
    );
    let mut skipping = next.clone();
    skipping.generation += 2;
    assert_eq!(
        ready(store.update(&skipping)).expect("it answers"),
        Written::Stale
    );
}

#[test]
fn what_is_finished_stays_as_it_is() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let finished = finish(&store, &execution, 0, 1);
    let mut next = finished.clone();
    next.generation += 1;
    next.status = Status::Running;
    next.ending = None;
    assert_eq!(
        ready(store.update(&next)).expect("it answers"),
        Written::Stale
    );
    let log = StoredLog::default();
    let mut next = ended(&execution, 1, 2);
    next.generation = finished.generation + 1;
    assert_eq!(
        ready(store.finish(&next, &log)).expect("it answers"),
        Written::Stale
    );
    assert_eq!(get(&store, &execution), finished);
}

#[test]
fn of_two_writers_of_one_generation_exactly_one_wins() {
    const ROUNDS: usize = 50;
    const WRITERS: usize = 4;
    let place = Place::new();
    let mut current = insert(&file(&place), &queued(0), PLENTY);
    let rounds: Vec<_> = (0..ROUNDS)
        .map(|round| {
            let mut next = current.clone();
            next.generation += 1 + u64::try_from(round).expect("small");
            next
        })
        .collect();
    let barrier = Barrier::new(WRITERS);
    let won: Vec<Vec<Written>> = thread::scope(|scope| {
        let writer = |name: usize| {
            let (rounds, barrier, place) = (&rounds, &barrier, &place);
            scope.spawn(move || {
                let store = file(place);
                rounds
                    .iter()
                    .map(|next| {
                        let mut next = next.clone();
                        next.job_uid = Some(format!("writer {name}"));
                        barrier.wait();
                        ready(store.update(&next)).expect("it answers")
                    })
                    .collect()
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        writers
            .into_iter()
            .map(|w| w.join().expect("no panic"))
            .collect()
    });
    for round in 0..ROUNDS {
        let updated = won.iter().filter(|w| w[round] == Written::Updated).count();
        assert_eq!(updated, 1, "round {round}");
    }
    current.generation += u64::try_from(ROUNDS).expect("small");
    assert_eq!(get(&file(&place), &current).generation, current.generation);
}

#[test]
fn the_end_and_its_log_are_stored_together() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let log = StoredLog {
        head: (0..=255).collect(),
        tail: vec![0; 1_000_000],
        bytes: 5_000_000,
        lost_bytes: 3_999_744,
        complete: false,
    };
    let next = ended(&execution, 42, 3);
    assert_eq!(ready(store.log(execution.id)).expect("it reads"), None);
    assert_eq!(
        ready(store.finish(&next, &log)).expect("it writes"),
        Written::Updated
    );
    assert_eq!(
        ready(store.log(execution.id)).expect("it reads"),
        Some(log.clone())
    );
    assert_eq!(get(&store, &execution).log, Some(log.summary()));
    assert_eq!(
        ready(store.finish(&next, &log)).expect("it answers"),
        Written::Stale
    );
    let mut unknown = next;
    unknown.id = id(99, 99);
    assert_eq!(
        ready(store.finish(&unknown, &log)).expect("it answers"),
        Written::Missing
    );
}

#[test]
fn when_the_log_cannot_be_stored_neither_is_the_end() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let (refuse, allow) = match store.sql().dialect() {
        Dialect::Postgres => (
            "ALTER TABLE logs ADD CONSTRAINT refuse CHECK (head IS NULL)",
            "ALTER TABLE logs DROP CONSTRAINT refuse",
        ),
        _ => (
            "CREATE TRIGGER refuse BEFORE INSERT ON logs BEGIN SELECT RAISE(ABORT, 'full'); END",
            "DROP TRIGGER refuse",
        ),
    };
    store.sql().execute(refuse);
    let next = ended(&execution, 0, 3);
    let error = ready(store.finish(&next, &StoredLog::default())).expect_err("it is refused");
    assert!(
        matches!(error, StoreError::Sql(SqlError::Constraint(_))),
        "{error:?}"
    );
    assert!(!error.is_transient());
    assert_eq!(get(&store, &execution), execution);
    // The connection goes on, and so does the execution.
    store.sql().execute(allow);
    finish(&store, &execution, 0, 3);
}

#[test]
fn what_is_not_understood_is_an_error_that_names_it() {
    let cases = [
        ("status = 'PAUSED'", "executions.status", "PAUSED"),
        ("status = 'FINISHED'", "executions.reason", "FINISHED"),
        ("waiting_kind = 'Mood'", "executions.waiting_kind", "Mood"),
        (
            "reason = 'Bored', outcome = 'FAILED'",
            "executions.reason",
            "Bored",
        ),
        (
            "reason = 'Completed', outcome = 'FAILED'",
            "executions.outcome",
            "Completed",
        ),
        ("cpu = 'much'", "executions.cpu", "much"),
        ("labels = 'none'", "executions.labels", "line 1"),
        ("generation = -1", "executions.generation", "-1"),
        ("attempt = -1", "executions.attempt", "-1"),
        ("retry_on = 'MOOD'", "executions.retry_on", "MOOD"),
        (
            "queue_seconds = 5000000000",
            "executions.queue_seconds",
            "5000000000",
        ),
        (
            "created_at = 9223372036854775807",
            "executions.created_at",
            "9223372036854775807",
        ),
    ];
    for (change, place_part, problem_part) in cases {
        let store = memory();
        let execution = insert(&store, &queued(0), PLENTY);
        let change = format!("UPDATE executions SET {change}");
        store.sql().execute(&change);
        match ready(store.get(execution.id)) {
            Err(StoreError::Corrupt { place, problem }) => {
                assert!(place.contains(place_part), "{change}: {place}");
                assert!(
                    place.contains(&execution.id.to_string()),
                    "{change}: {place}"
                );
                assert!(problem.contains(problem_part), "{change}: {problem}");
            }
            other => panic!("{change}: {other:?}"),
        }
    }
}

#[test]
fn an_unreadable_submission_is_an_error_without_its_script() {
    let store = memory();
    let execution = insert(&store, &queued(0), PLENTY);
    let bodies = ["", "{\"script\":[\"secret\"]}", "{\"secret\":1}"];
    for body in bodies {
        let change = format!("UPDATE payloads SET body = '{body}'");
        store.sql().execute(&change);
        let error = ready(store.submission(execution.id)).expect_err("it is unreadable");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_trace_is_kept_with_its_execution() {
    let store = memory();
    let trace =
        domain::TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert!(trace.is_some());
    let traced = insert(&store, &queued(0).in_trace(trace), PLENTY);
    assert_eq!(get(&store, &traced).trace, trace);
    let batch: Vec<_> = [trace, None]
        .into_iter()
        .zip(1..)
        .map(|(trace, n)| (queued(n).in_trace(trace), submission(&queued(n))))
        .collect();
    insert_batch(&store, &batch, None, (PLENTY, 9), at(99));
    for (execution, _) in &batch {
        assert_eq!(get(&store, execution).trace, execution.trace);
    }
    let changed = step(
        &store,
        &get(&store, &traced),
        domain::Observation::CancelRequested,
        7,
    );
    assert_eq!(get(&store, &changed).trace, trace, "a step keeps it");
}
