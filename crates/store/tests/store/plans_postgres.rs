//! How PostgreSQL answers each hot statement once there are many rows: by an index in the order asked for.

use std::cell::RefCell;

use domain::transition::Observation;
use domain::{Entry, Execution, Limits, Outcome, Reason, Retry, Status, next_attempt, transition};
use store::testing::ready;
use store::{
    BatchKey, Change, Cursor, ExecutionStore, Filter, Inserted, InsertedBatch, Landed, Sql, Step,
    StoredLog, Value, Written,
};

use crate::plans::Recorder;
use crate::support::*;

/// Enough that a scan of the table costs more than any index; most are finished, as in life.
const ROWS: &str = "INSERT INTO executions (id, generation, status, created_at, dispatched_at, job_uid, started_at, \
     finished_at, outcome, reason, message, image, cpu, memory, queue_seconds, start_seconds, run_seconds, \
     grace_seconds, labels, deadline_at, claim_until, digest, idempotency_key, cancel_requested_at) \
     SELECT '00000000-0000-7000-8000-' || lpad(n::TEXT, 12, '0'), 1, CASE WHEN k < 90 THEN 'FINISHED' WHEN k < 94 THEN 'RUNNING' ELSE 'QUEUED' END, \
     n, CASE WHEN k < 97 THEN n END, CASE WHEN k < 96 THEN 'uid' END, CASE WHEN k < 94 THEN n END, \
     CASE WHEN k < 90 THEN n END, CASE WHEN k < 90 THEN 'SUCCEEDED' END, CASE WHEN k < 90 THEN 'Completed' END, \
     CASE WHEN k < 90 THEN '' END, 'i', '1', '1', 1, 1, 1, 1, '{}', CASE WHEN k >= 90 THEN n END, n, 'd', 'key' || n, \
     CASE WHEN k = 93 THEN n END FROM (SELECT n, n % 100 AS k FROM generate_series(1, 20000) AS n) AS rows_of_it";

/// Some of those that wait do so for a time that is far away: of an index that is empty a planner takes any.
const POSTPONED: &str = "UPDATE executions SET due_at = created_at + 9000000000000000, not_before = created_at + 9000000000000000 \
     WHERE dispatched_at IS NULL AND created_at % 100 = 97";

const LABELS: &str = "INSERT INTO labels (execution_id, name, value, execution_created_at) \
     SELECT id, name, (created_at % 100)::TEXT, created_at FROM executions, (VALUES ('a'), ('b')) AS names (name)";

const DELIVERIES: &str = "INSERT INTO deliveries (execution_id, number, state, created_at, next_at) \
     SELECT id, 1, 'PENDING', 0, CASE WHEN created_at % 500 = 0 THEN created_at END FROM executions WHERE status = 'FINISHED'";

fn recorded(place: &Place) -> ExecutionStore<Recorder> {
    let store = file(place);
    for sql in [ROWS, POSTPONED, LABELS, DELIVERIES, "ANALYZE"] {
        store.sql().execute(sql);
    }
    ExecutionStore::new(Recorder {
        inner: store.sql().clone(),
        seen: RefCell::default(),
    })
}

/// The statements since the last call use these indexes, sort nothing and read no table from end to end.
#[track_caller]
fn check(store: &ExecutionStore<Recorder>, indexes: &[&str]) {
    let plans = check_scans(store, indexes);
    let sorts = plans.iter().any(|step| step.contains("Sort  ("));
    assert!(!sorts, "it sorts: {plans:#?}");
}

/// They use these indexes and read no table from end to end; gives their plans.
#[track_caller]
fn check_scans(store: &ExecutionStore<Recorder>, indexes: &[&str]) -> Vec<String> {
    let mut plans = Vec::new();
    for mut statement in store.sql().seen.take() {
        if statement.sql.contains("advisory") || statement.sql.starts_with("INSERT INTO events") {
            continue;
        }
        statement.sql = format!("EXPLAIN {}", statement.sql).into();
        let plan = ready(store.sql().inner.query(statement)).expect("it explains");
        for row in plan.rows {
            match row.into_iter().next() {
                Some(Value::Text(step)) => plans.push(step),
                other => panic!("a step of a plan is text: {other:?}"),
            }
        }
    }
    for step in &plans {
        for table in ["executions", "labels", "deliveries", "payloads"] {
            let scans = step.contains(&format!("Seq Scan on {table}"));
            assert!(!scans, "it reads all of {table}: {plans:#?}");
        }
    }
    for index in indexes {
        let used = plans.iter().any(|step| step.contains(index));
        assert!(used, "{index} is not used: {plans:#?}");
    }
    plans
}

#[test]
fn the_reconcilers_statements_are_read_from_indexes() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = recorded(&place);
    let all = at(0);
    let earlier = jiff::Timestamp::from_microsecond(9).expect("a time");
    let execution = queued(0);
    ready(store.insert(&execution, &submission(&execution), Some("k"), 50, all))
        .expect("it inserts");
    // Nothing is dispatched: 600 run.
    let accepted = [execution.clone()];
    ready(store.claim_accepted(&accepted, all, all, 50, 1)).expect("it claims");
    assert_eq!(store.sql().seen.borrow().len(), 2, "it is seen at once");
    check(&store, &["executions_queue", "executions_postponed"]);
    ready(store.queue_position(&execution)).expect("it counts");
    check(&store, &["executions_queue"]);
    // Nothing is claimed: 600 run.
    ready(store.claim_queued(all, all, 50, 5)).expect("it claims");
    check(&store, &["executions_queue", "executions_postponed"]);
    ready(store.claim_unconfirmed(jiff::Timestamp::UNIX_EPOCH, all, 5)).expect("it claims");
    check(&store, &["executions_unconfirmed"]);
    ready(store.claim_stops(jiff::Timestamp::UNIX_EPOCH, all, 5)).expect("it claims");
    check(&store, &["executions_stopping"]);
    ready(store.due(all, 5)).expect("it reads");
    check(&store, &["executions_deadline"]);
    ready(store.unfinished_dispatched(EVERYONES, Some(execution.id), None, 5)).expect("it reads");
    check(&store, &["executions_dispatched"]);
    ready(store.unfinished_dispatched(EVERYONES, None, Some(execution.id), 5)).expect("it reads");
    check(&store, &["executions_dispatched"]);
    ready(store.unfinished_dispatched(of_its_own(), None, None, 5)).expect("it reads");
    check(&store, &["executions_elsewhere"]);
    ready(store.namespaces_in_use()).expect("it reads");
    check(&store, &["executions_elsewhere"]);
    let ids: Vec<_> = (0..500).map(|n| queued(n).id).collect();
    ready(store.get_many(&ids)).expect("it reads");
    check(&store, &["executions_pkey"]);
    ready(store.starting_since(&[(jiff::Timestamp::UNIX_EPOCH, earlier), (earlier, all)], 5))
        .expect("it reads");
    check(&store, &["executions_starting"]);
    ready(store.forget_expired(jiff::Timestamp::UNIX_EPOCH)).expect("it answers");
    check(&store, &["executions_expiry"]);
    ready(store.claim_deliveries(jiff::Timestamp::UNIX_EPOCH, all, 5)).expect("it claims");
    check(&store, &["deliveries_next"]);
    ready(store.figures()).expect("it reads");
    check(&store, &["executions_status", "deliveries_next"]);
}

#[test]
fn several_steps_at_once_are_one_statement_that_reads_indexes() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = recorded(&place);
    let told = [Entry::once(at(2), "Finished", "pod", "SUCCEEDED")];
    let log = StoredLog::default();
    let ends: Vec<_> = (0..16)
        .map(|n| {
            let execution = queued(n);
            let asked = with_webhook(&execution);
            ready(store.insert(&execution, &asked, None, PLENTY, at(9))).expect("it inserts");
            let next = transition(&execution, &Observation::Dispatched, at(1)).expect("it changes");
            let written = ready(store.update(&next)).expect("it writes");
            assert_eq!(written, Written::Updated);
            ended(&next, 0, 2)
        })
        .collect();
    let changes: Vec<_> = ends
        .iter()
        .map(|end| Change {
            step: Step::new(end, &told),
            log: Some(&log),
        })
        .collect();
    store.sql().seen.take();
    let landed = ready(store.write_all(&changes)).expect("it writes");
    assert!(!landed.contains(&Landed::NotStored), "{landed:?}");
    assert_eq!(store.sql().seen.borrow().len(), 1);
    // It may sort what is given, which is little.
    check_scans(&store, &["executions_pkey"]);
}

#[test]
fn each_step_of_a_life_is_one_statement_that_reads_indexes() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = recorded(&place);
    let one = |indexes: &[&str]| {
        assert_eq!(store.sql().seen.borrow().len(), 1);
        check(&store, indexes);
    };
    // It goes before all that wait.
    let mut execution = Execution {
        priority: 100,
        retry: Retry::of(1, &Retry::OUTCOMES),
        ..queued(0)
    };
    execution.labels.insert("a".into(), "1".into());
    let asked = with_webhook(&execution);
    let inserted = ready(store.insert(&execution, &asked, Some("k"), PLENTY, at(9)));
    let Ok(Inserted::New { execution, .. }) = inserted else {
        panic!("it is new: {inserted:?}");
    };
    assert!(!execution.is_dispatched(), "that is the next step");
    one(&[]);
    let accepted = [execution];
    let taken = ready(store.claim_accepted(&accepted, at(1), at(9), PLENTY, 1));
    let dispatched = taken.expect("it claims").remove(0);
    // A look, the turn, and the dispatch.
    assert_eq!(store.sql().seen.borrow().len(), 3);
    check(
        &store,
        &[
            "executions_queue",
            "executions_postponed",
            "executions_pkey",
        ],
    );

    let told = |text: &str| [Entry::once(at(2), "Waiting", "pod", text)];
    let uid = || Observation::JobExists { uid: "u".into() };
    let existing = transition(&dispatched, &uid(), at(1)).expect("it changes");
    let [one_line] = told("one");
    let [other_line] = told("other");
    let lines = [one_line, other_line];
    let written = ready(store.update(Step::new(&existing, &lines)));
    assert_eq!(written.expect("it writes"), Written::Updated);
    one(&["executions_pkey"]);
    let end = ended(&existing, 1, 2);
    let log = StoredLog::default();
    let next = next_attempt(&existing, &end, at(2)).expect("another attempt");
    let written = ready(store.retry(Step::new(&next, &told("three")), &end, &log));
    assert_eq!(written.expect("it writes"), Written::Updated);
    one(&["executions_pkey"]);
    let again = transition(&next, &Observation::Dispatched, at(5_000)).expect("it changes");
    assert_eq!(
        ready(store.update(&again)).expect("it writes"),
        Written::Updated
    );
    one(&["executions_pkey"]);
    let end = ended(&again, 0, 6_000);
    let written = ready(store.finish(Step::new(&end, &told("four")), &log));
    assert_eq!(written.expect("it writes"), Written::Updated);
    one(&["executions_pkey"]);

    let key = Some(BatchKey {
        key: "b",
        digest: "d",
    });
    let batch: Vec<_> = (1..=500)
        .map(|n| {
            let mut execution = queued(n);
            execution.labels.insert("n".into(), n.to_string());
            let asked = with_webhook(&execution);
            (execution, asked)
        })
        .collect();
    let inserted = ready(store.insert_batch(&batch, key, PLENTY, PLENTY, at(9)));
    assert!(matches!(inserted, Ok(InsertedBatch::New { .. })));
    one(&[]);
}

/// The plans within a function are made once, and kept: here while there is nothing in the tables.
#[test]
fn what_is_accepted_reads_indexes_by_plans_of_before_there_were_many() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let limits = Limits {
        queued: Some(1_000_000),
        per_minute: Some(1_000_000),
        ..Limits::default()
    };
    let store = file(&place)
        .with_max_queued(1_000_000)
        .with_tenants([(ours(), limits)].into());
    let accept = |number: i64| {
        let key = format!("k{number}");
        let execution = Execution {
            priority: 100,
            ..queued(number)
        };
        let asked = with_webhook(&execution);
        let inserted = ready(store.insert(&execution, &asked, Some(&key), 0, at(9)));
        assert!(matches!(inserted, Ok(Inserted::New { .. })), "{inserted:?}");
        let execution = queued(100 + number);
        let batch = [(execution.clone(), submission(&execution))];
        let key = Some(BatchKey {
            key: &format!("b{number}"),
            digest: "d",
        });
        let inserted = ready(store.insert_batch(&batch, key, 0, 0, at(9)));
        assert!(
            matches!(inserted, Ok(InsertedBatch::New { .. })),
            "{inserted:?}"
        );
    };
    (0..8).for_each(accept);
    store.sql().execute(ROWS);
    let count = |what: &str| {
        store.sql().number(&format!(
            "SELECT coalesce(sum({what}), 0)::BIGINT FROM pg_stat_xact_user_tables WHERE schemaname = current_schema() \
             AND relname IN ('executions', 'labels', 'payloads', 'events', 'counters', 'rates', 'schema_migrations')"
        ))
    };
    // Within a transaction the server tells at once what was done, and nothing is passed on meanwhile.
    store.sql().execute("BEGIN");
    let counts = || ["n_tup_ins", "seq_scan", "idx_tup_fetch"].map(count);
    let before = counts();
    accept(8);
    let after = counts();
    let [inserted, scans, fetched] = [0, 1, 2].map(|at| after[at] - before[at]);
    assert_eq!(inserted, 2 * 3, "it sees what is done");
    assert_eq!(scans, 0, "it reads no table from end to end");
    // What the tenant has queued is counted, 600, twice.
    assert!(fetched < 3_000, "{fetched} of 20,000 rows");
    store.sql().execute("COMMIT");
}

#[test]
fn each_list_is_read_from_an_index_in_its_order() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = recorded(&place);
    let none = Filter::default;
    let label = |name: &str| (name.to_owned(), "7".to_owned());
    let cases = [
        (none(), "executions_created"),
        (
            Filter {
                status: Some(Status::Running),
                ..none()
            },
            "executions_status",
        ),
        (
            Filter {
                outcome: Some(Outcome::Failed),
                ..none()
            },
            "executions_outcome",
        ),
        (
            Filter {
                reason: Some(Reason::Lost),
                ..none()
            },
            "executions_reason",
        ),
        (
            Filter {
                labels: vec![label("a")],
                ..none()
            },
            "labels_value",
        ),
        (
            Filter {
                labels: vec![label("a")],
                status: Some(Status::Finished),
                ..none()
            },
            "labels_value",
        ),
    ];
    let cursor = Cursor {
        created_at: jiff::Timestamp::from_microsecond(9_000).expect("a time"),
        id: id(5, 5),
    };
    for (filter, index) in cases {
        for after in [None, Some(cursor)] {
            ready(store.list(&ours(), &filter, 50, after)).expect("it reads");
            check(&store, &[index]);
        }
    }
}
