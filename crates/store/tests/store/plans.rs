//! How SQLite answers each hot statement: by an index in the order asked for, never by a whole table.

use std::cell::RefCell;

use domain::transition::Observation;
use domain::{Entry, Outcome, Reason, Status, transition};
use store::testing::ready;
use store::{
    BatchKey, Change, Cursor, Dialect, ExecutionStore, Filter, FollowedLog, Rows, Settled, Sql,
    SqlError, Statement, Step, StoredLog, Value,
};

use crate::support::*;

/// Keeps the statements that pass.
pub struct Recorder {
    pub inner: Database,
    pub seen: RefCell<Vec<Statement>>,
}

impl Sql for Recorder {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.seen.borrow_mut().push(statement.clone());
        self.inner.query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.seen.borrow_mut().extend(statements.clone());
        self.inner.transaction(statements).await
    }
}

impl Recorder {
    /// The steps of the plans of all statements seen since the last call.
    fn plans(&self) -> Vec<String> {
        let mut steps = Vec::new();
        for mut statement in self.seen.take() {
            statement.sql = format!("EXPLAIN QUERY PLAN {}", statement.sql).into();
            let plan = ready(self.inner.query(statement)).expect("it explains");
            for row in plan.rows {
                let Some(Value::Text(detail)) = row.last() else {
                    panic!("a step of a plan is text: {row:?}");
                };
                steps.push(detail.clone());
            }
        }
        steps
    }
}

const TABLES: [&str; 17] = [
    "rates",
    "tokens",
    "attempts",
    "attempt_logs",
    "followed_logs",
    "executions",
    "events",
    "payloads",
    "logs",
    "labels",
    "first",
    "other",
    "leases",
    "state",
    "webhooks",
    "deliveries",
    "delivery_attempts",
];

/// The plans use these indexes, sort nothing, and read no table from end to end.
#[track_caller]
fn check(store: &ExecutionStore<Recorder>, indexes: &[&str]) {
    let plans = store.sql().plans();
    assert!(!plans.is_empty() || indexes.is_empty(), "no plans");
    for step in &plans {
        assert!(!step.contains("TEMP B-TREE"), "it sorts: {plans:#?}");
        for table in TABLES {
            let scans = step == &format!("SCAN {table}");
            assert!(!scans, "it reads all of {table}: {plans:#?}");
        }
        // A whole index may be read only where it holds nothing but the answer, or is left at a LIMIT.
        if step.starts_with("SCAN executions USING") {
            let fitting = indexes.iter().any(|index| step.ends_with(index));
            assert!(fitting, "it reads all of an index: {plans:#?}");
        }
    }
    for index in indexes {
        let used = plans.iter().any(|step| step.contains(index));
        assert!(used, "{index} is not used: {plans:#?}");
    }
}

fn recorded() -> ExecutionStore<Recorder> {
    let store = sqlite();
    ExecutionStore::new(Recorder {
        inner: store.sql().clone(),
        seen: RefCell::default(),
    })
}

#[test]
fn one_execution_costs_the_same_however_many_there_are() {
    let store = recorded();
    let mut execution = queued(0);
    execution.labels.insert("a".into(), "1".into());
    let asked = submission(&execution);
    ready(store.insert(&execution, &asked, Some("k"), 5, at(9))).expect("it inserts");
    check(
        &store,
        &[
            "SEARCH counters USING PRIMARY KEY",
            "COVERING INDEX executions_queue",
            "executions_postponed (dispatched_at=? AND due_at<?)",
        ],
    );
    ready(store.insert(&queued(1), &asked, Some("k"), 5, at(9))).expect("it answers");
    check(
        &store,
        &[
            "executions_idempotency_key",
            "SEARCH counters USING PRIMARY KEY",
        ],
    );
    let dispatched = ready(store.get(execution.id))
        .expect("it reads")
        .expect("it is there");
    ready(store.submission(execution.id)).expect("it reads");
    let event = Observation::JobExists { uid: "u".into() };
    let next = transition(&dispatched, &event, at(1)).expect("it changes");
    assert_eq!(
        ready(store.update(&next)).expect("it writes"),
        store::Written::Updated
    );
    assert_eq!(
        ready(store.update(&next)).expect("it answers"),
        store::Written::Stale
    );
    let told = [Entry::once(
        at(2),
        "FailedScheduling",
        "scheduler",
        "no node",
    )];
    ready(store.add_events(execution.id, &told)).expect("it writes");
    ready(store.events(execution.id, 1, 9)).expect("it reads");
    let end = ended(&next, 0, 2);
    let log = StoredLog::default();
    assert_eq!(
        ready(store.finish(Step::new(&end, &told), &log)).expect("it writes"),
        store::Written::Updated
    );
    ready(store.log(execution.id)).expect("it reads");
    check(&store, &[]);
}

#[test]
fn several_steps_at_once_cost_the_same_however_many_there_are() {
    let store = recorded();
    let ends = (0..3).map(|n| {
        let execution = queued(n);
        ready(store.insert(&execution, &submission(&execution), None, 5, at(9)))
            .expect("it inserts");
        let dispatched = ready(store.get(execution.id)).expect("it reads");
        ended(&dispatched.expect("it is there"), 0, 2)
    });
    let ends: Vec<_> = ends.collect();
    let told = [Entry::once(at(2), "Finished", "pod", "SUCCEEDED")];
    let log = StoredLog::default();
    let changes: Vec<_> = ends
        .iter()
        .map(|end| Change {
            step: Step::new(end, &told),
            log: Some(&log),
        })
        .collect();
    store.sql().seen.take();
    ready(store.write_all(&changes)).expect("it writes");
    // The timelines, the logs, what was followed, the deliveries, the counters, and the records.
    assert_eq!(store.sql().seen.borrow().len(), 6);
    let counts = |statement: &Statement| statement.sql.starts_with("INSERT INTO counters");
    // It sorts the few reasons that there are in the group.
    store.sql().seen.borrow_mut().retain(|s| !counts(s));
    assert_eq!(store.sql().seen.borrow().len(), 5);
    check(&store, &[]);
}

#[test]
fn a_retry_costs_the_same_however_many_there_are() {
    let store = recorded();
    let execution = domain::Execution {
        retry: domain::Retry::of(1, &domain::Retry::OUTCOMES),
        ..queued(0)
    };
    let asked = submission(&execution);
    ready(store.insert(&execution, &asked, None, 5, at(9))).expect("it inserts");
    let first = get_of(&store, &execution);
    store.sql().seen.take();
    let end = ended(&first, 1, 2);
    let next = domain::next_attempt(&first, &end, at(2)).expect("another attempt");
    assert_eq!(
        ready(store.retry(&next, &end, &StoredLog::default())).expect("it writes"),
        store::Written::Updated
    );
    assert_eq!(store.sql().seen.borrow().len(), 5);
    ready(store.attempt_log(execution.id, 1)).expect("it reads");
    check(&store, &["attempt_logs_1", "logs_1"]);
    ready(store.earlier_attempts(&[execution.id])).expect("it reads");
    check(&store, &[]);
    // The queue is read past it by the index alone.
    ready(store.insert(&queued(3), &asked, None, 5, at(9))).expect("it inserts");
    check(
        &store,
        &[
            "SEARCH counters USING PRIMARY KEY",
            "COVERING INDEX executions_queue",
            "executions_postponed (dispatched_at=? AND due_at<?)",
        ],
    );
}

#[test]
fn a_batch_reads_no_more_than_it_must() {
    let store = recorded();
    let batch: Vec<_> = (0..3)
        .map(|n| {
            let execution = queued(n);
            let asked = submission(&execution);
            (execution, asked)
        })
        .collect();
    let key = Some(BatchKey {
        key: "k",
        digest: "d",
    });
    ready(store.insert_batch(&batch, key, 5, 5, at(9))).expect("it inserts");
    // Rows, scripts, and what the timelines say of the acceptance; what dispatches, and what the timelines say of that.
    assert_eq!(store.sql().seen.borrow().len(), 3 + 2);
    check(
        &store,
        &[
            "SEARCH counters USING PRIMARY KEY",
            "COVERING INDEX executions_queue",
            "executions_postponed (dispatched_at=? AND due_at<?)",
        ],
    );
    ready(store.insert_batch(&batch, key, 5, 5, at(9))).expect("it answers");
    check(
        &store,
        &[
            "executions_idempotency_key (idempotency_key>? AND idempotency_key<?)",
            "SEARCH counters USING PRIMARY KEY",
            "COVERING INDEX executions_queue",
        ],
    );
}

#[test]
fn the_number_of_statements_is_as_small_as_it_can_be() {
    let store = recorded();
    let count = |expected: usize| assert_eq!(store.sql().seen.take().len(), expected);
    let execution = queued(0);
    ready(store.insert(&execution, &submission(&execution), None, 0, at(9))).expect("it inserts");
    count(1);
    ready(store.claim_queued(at(1), at(9), 5, 5)).expect("it claims");
    count(5);
    ready(store.claim_queued(at(1), at(9), 5, 5)).expect("it claims");
    count(2);
    ready(store.claim_unconfirmed(at(1), at(9), 5)).expect("it claims");
    count(1);
    ready(store.claim_unconfirmed(at(10), at(19), 5)).expect("it claims");
    count(2);
    let execution = ready(store.get(execution.id))
        .expect("it reads")
        .expect("it is there");
    count(1);
    let event = Observation::JobExists { uid: "u".into() };
    let next = transition(&execution, &event, at(1)).expect("it changes");
    assert_eq!(
        ready(store.update(&next)).expect("it writes"),
        store::Written::Updated
    );
    count(1);
    let end = ended(&next, 0, 2);
    let log = StoredLog::default();
    assert_eq!(
        ready(store.finish(&end, &log)).expect("it writes"),
        store::Written::Updated
    );
    // The row, its log, what was read of that before, the delivery to its webhook, and one more that counts the end.
    count(5);
}

#[test]
fn the_reconcilers_statements_cost_what_they_answer() {
    let store = recorded();
    let execution = queued(0);
    ready(store.insert(&execution, &submission(&execution), None, 0, at(9))).expect("it inserts");
    store.sql().seen.take();
    ready(store.queue_position(&execution)).expect("it counts");
    check(
        &store,
        &["executions_queue (dispatched_at=? AND tenant=? AND (rank,created_at,id)<(?,?,?))"],
    );
    ready(store.claim_queued(at(1), at(9), 5, 5)).expect("it claims");
    check(
        &store,
        &[
            "executions_queue",
            "COVERING INDEX executions_postponed (dispatched_at=? AND due_at<?)",
            "SEARCH counters USING PRIMARY KEY",
        ],
    );
    ready(store.claim_unconfirmed(at(10), at(19), 5)).expect("it claims");
    check(&store, &["executions_unconfirmed (claim_until<?)"]);
    ready(store.followed_ids(5)).expect("it reads");
    ready(store.followed(execution.id)).expect("it reads");
    let followed = [(execution.id, FollowedLog::default())];
    ready(store.save_followed(&followed)).expect("it writes");
    check(&store, &["sqlite_autoindex_followed_logs"]);
    ready(store.due(at(1), 5)).expect("it reads");
    check(&store, &["executions_deadline (deadline_at<?)"]);
    ready(store.claim_stops(at(1), at(9), 5)).expect("it claims");
    check(&store, &["executions_stopping (cancel_claim_until<?)"]);
    ready(store.release_stop(execution.id, at(1))).expect("it writes");
    ready(store.forget_expired(at(1))).expect("it answers");
    check(&store, &["executions_expiry (status=? AND <expr><?)"]);
    assert_eq!(
        ready(store.forget(&ours(), execution.id, None)).expect("it answers"),
        store::Written::Stale
    );
    check(&store, &[]);
    let upto = Some(execution.id);
    ready(store.unfinished_dispatched(EVERYONES, None, upto, 5)).expect("it reads");
    check(&store, &["executions_dispatched (id>? AND id<?)"]);
    ready(store.unfinished_dispatched(of_its_own(), None, upto, 5)).expect("it reads");
    check(
        &store,
        &["executions_elsewhere (namespace=? AND id>? AND id<?)"],
    );
    ready(store.namespaces_in_use()).expect("it reads");
    check(
        &store,
        &["executions_elsewhere", "executions_elsewhere (namespace>?)"],
    );
    ready(store.get_many(&[execution.id])).expect("it reads");
    check(&store, &["sqlite_autoindex_executions_1 (id=?)"]);
    ready(store.get_states(["a", "b"])).expect("it reads");
    check(&store, &["SEARCH state USING PRIMARY KEY"]);
    ready(store.set_state_while_holding("tick", "me", "a", "1")).expect("it answers");
    check(&store, &["SEARCH leases USING PRIMARY KEY"]);
    ready(store.starting_since(&[(at(0), at(2)), (at(5), at(9))], 5)).expect("it reads");
    check(
        &store,
        &["executions_starting (started_at=? AND dispatched_at>? AND dispatched_at<?)"],
    );
    ready(store.acquire_lease("tick", "a", at(0), at(9))).expect("it answers");
    ready(store.lease("tick")).expect("it reads");
    let spent = store::Spent::default();
    ready(store.release_lease("tick", "a", at(1), &spent)).expect("it writes");
    ready(store.set_state("k", "v")).expect("it writes");
    ready(store.get_state("k")).expect("it reads");
    check(&store, &[]);
}

#[test]
fn figures_are_read_from_indexes() {
    let store = recorded();
    let figures = ready(store.figures()).expect("it reads");
    assert_eq!(figures.waiting, 0);
    assert_eq!(store.sql().seen.borrow().len(), 1, "all of one moment");
    // The only table is that of the counters: a row for each reason and each cause.
    check(
        &store,
        &[
            "SEARCH counters USING PRIMARY KEY (name=? AND label=?)",
            "COVERING INDEX executions_status (status=?)",
            "COVERING INDEX deliveries_next (next_at>?)",
        ],
    );
    ready(store.count_swept()).expect("it writes");
    check(&store, &[]);
}

#[test]
fn webhooks_cost_what_they_answer() {
    let store = recorded();
    let execution = queued(0);
    let asked = with_webhook(&execution);
    ready(store.insert(&execution, &asked, None, 5, at(9))).expect("it inserts");
    let end = ended(&get_of(&store, &execution), 0, 2);
    let log = StoredLog::default();
    assert_eq!(
        ready(store.finish(&end, &log)).expect("it writes"),
        store::Written::Updated
    );
    store.sql().seen.take();
    let claims = ready(store.claim_deliveries(at(3), at(9), 5)).expect("it claims");
    check(&store, &["deliveries_next (next_at<?)"]);
    ready(store.claim_deliveries(at(3), at(9), 5)).expect("it looks");
    assert_eq!(store.sql().seen.borrow().len(), 1, "nothing is written");
    check(&store, &["COVERING INDEX deliveries_next (next_at<?)"]);
    ready(store.settle_delivery(&claims[0], &attempt(1), Settled::Again(at(5))))
        .expect("it writes");
    ready(store.redeliver(&ours(), execution.id, 1, at(4), None)).expect("it writes");
    ready(store.deliveries(execution.id)).expect("it reads");
    check(&store, &[]);
}

fn get_of(store: &ExecutionStore<Recorder>, execution: &domain::Execution) -> domain::Execution {
    let stored = ready(store.get(execution.id)).expect("it reads");
    stored.expect("it is there")
}

#[test]
fn each_list_is_read_from_an_index_in_its_order() {
    let store = recorded();
    let none = Filter::default;
    let label = |name: &str| (name.to_owned(), "1".to_owned());
    let cases = [
        (none(), "executions_created (tenant=?"),
        (
            Filter {
                created_after: Some(at(0)),
                created_before: Some(at(9)),
                ..none()
            },
            "executions_created (tenant=?",
        ),
        (
            Filter {
                status: Some(Status::Running),
                ..none()
            },
            "executions_status_of (tenant=? AND status=?",
        ),
        (
            Filter {
                outcome: Some(Outcome::Failed),
                ..none()
            },
            "executions_outcome (tenant=? AND outcome=?",
        ),
        (
            Filter {
                reason: Some(Reason::Lost),
                ..none()
            },
            "executions_reason (tenant=? AND reason=?",
        ),
        (
            Filter {
                labels: vec![label("a")],
                ..none()
            },
            "labels_value (execution_tenant=? AND name=? AND value=?",
        ),
        (
            Filter {
                labels: vec![label("a"), label("b")],
                status: Some(Status::Finished),
                ..none()
            },
            "labels_value (execution_tenant=? AND name=? AND value=?",
        ),
        // There are few of these, however many have the labels.
        (
            Filter {
                labels: vec![label("a"), label("b")],
                status: Some(Status::Queued),
                ..none()
            },
            "executions_status_of (tenant=? AND status=?",
        ),
    ];
    let cursor = Cursor {
        created_at: at(5),
        id: id(5, 5),
    };
    for (filter, index) in cases {
        for after in [None, Some(cursor)] {
            ready(store.list(&ours(), &filter, 50, after)).expect("it reads");
            check(&store, &[index]);
        }
    }
}
