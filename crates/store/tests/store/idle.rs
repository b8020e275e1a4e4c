//! What a tick costs the database while nothing changes: the same, however much is unfinished.

use std::cell::Cell;

use jiff::Timestamp;
use rusqlite::StatementStatus;
use rusqlite::types::Value as SqliteValue;
use store::testing::{Sqlite, ready};
use store::{Dialect, ExecutionStore, Rows, Sql, SqlError, Statement, Value};

use crate::plans::Recorder;
use crate::support::*;

/// How many are unfinished.
const SIZES: [i64; 3] = [100, 10_000, 100_000];

/// The first columns of the rows that are there, up to that of the number n.
const INTO: &str = "INSERT INTO executions (id, generation, status, created_at, dispatched_at, job_uid, started_at, \
     image, cpu, memory, queue_seconds, start_seconds, run_seconds, grace_seconds, labels, deadline_at, claim_until, \
     not_before, due_at, attempt, digest)";

/// In the queue, ready.
const READY: &str = "'QUEUED', n, NULL, NULL, NULL, 0, 0, 0, 1";
/// At work.
const RUNNING: &str = "'RUNNING', n, :now - 60000000, 'uid', :now - 50000000, 0, 0, 0, 1";
/// Waiting for its container, and asked about before.
const STARTING: &str = "'QUEUED', n, :now - 8500000, 'uid', NULL, 0, 0, 0, 1";
/// Its Job is just being created by somebody.
const CREATING: &str = "'QUEUED', n, :now - 1000, NULL, NULL, :now + 9000000, 0, 0, 1";
/// Waiting for a later attempt.
const RETRIED: &str = "'RUNNING', n, NULL, NULL, NULL, 0, :now + 9000000, :now + 9000000, 2";

/// The log of one that runs is followed.
const FOLLOWED: &str = "INSERT INTO followed_logs (execution_id, pod, pod_uid, head, head_is_closed, tail, bytes, stamp_bytes, \
     stamp_check) SELECT id, 'p', 'u', :none, 0, :none, 0, 0, 0 FROM executions WHERE started_at IS NOT NULL ORDER BY id LIMIT 1";

/// What a tick looks for, and how long `max_running` lets it: once where everything queues behind a full limit, once where nearly all may
/// run at once and do.
const STATES: [(&str, &[&str], bool); 2] = [
    ("full", &[READY, RUNNING, STARTING, CREATING, RETRIED], true),
    ("dispatched", &[RUNNING, STARTING, CREATING, RETRIED], false),
];

fn now() -> Timestamp {
    at(0)
}

/// Fills the database with so many, evenly of those kinds.
fn fill(database: &Database, kinds: &[&str], size: i64) {
    let count = i64::try_from(kinds.len()).expect("few");
    for (number, kind) in (0..).zip(kinds) {
        let numbers = match database.dialect() {
            Dialect::Postgres => format!("generate_series(1, {size}) AS numbers (n)"),
            _ => format!(
                "(WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {size}) \
                 SELECT n FROM numbers)"
            ),
        };
        let id = "'00000000-0000-7000-8000-' || substr(CAST(1000000000000 + n AS TEXT), 2)";
        let [
            status,
            created,
            dispatched,
            uid,
            started,
            claim,
            not_before,
            due,
            attempt,
        ] = kind
            .split(", ")
            .collect::<Vec<_>>()
            .try_into()
            .expect("nine columns");
        let row = format!(
            "{INTO} SELECT {id}, 1, {status}, {created}, {dispatched}, {uid}, {started}, 'i', '1', '1', 1, 1, 1, 1, '{{}}', \
             :now + 9000000, {claim}, {not_before}, {due}, {attempt}, 'd' FROM {numbers} WHERE n % {count} = {number}"
        );
        database.execute(&row.replace(":now", &now().as_microsecond().to_string()));
    }
    let none = match database.dialect() {
        Dialect::Postgres => "''",
        _ => "x''",
    };
    database.execute(&FOLLOWED.replace(":none", none));
}

/// Everything that a tick asks again and again.
fn look<S: Sql>(store: &ExecutionStore<S>, max_running: u32) {
    let (now, until) = (now(), at(15_000));
    let claimed = ready(store.claim_unconfirmed(now, until, 16)).expect("it looks");
    assert_eq!(claimed.len(), 0, "all are claimed");
    let claimed = ready(store.claim_queued(now, until, max_running, 16)).expect("it looks");
    assert_eq!(claimed.len(), 0, "there is no room, or nobody waits");
    assert_eq!(ready(store.due(now, 64)).expect("it looks").len(), 0);
    let stops = ready(store.claim_stops(now, until, 16)).expect("it looks");
    assert_eq!(stops.len(), 0);
    let deliveries = ready(store.claim_deliveries(now, until, 16)).expect("it looks");
    assert_eq!(deliveries.len(), 0);
    let spans = [(at(-7_500), at(-5_000)), (at(-12_500), at(-10_000))];
    let starting = ready(store.starting_since(&spans, 200)).expect("it looks");
    assert_eq!(starting.len(), 0, "none is to be asked about now");
    let in_use = ready(store.namespaces_in_use()).expect("it looks");
    assert_eq!(in_use.len(), 0, "all run where everybody's do");
    assert_eq!(ready(store.followed_ids(128)).expect("it looks").len(), 1);
    assert_eq!(ready(store.forget_expired(now)).expect("it looks"), 0);
    ready(store.get_state("podsResourceVersion")).expect("it reads");
}

/// The limit that is just reached, or that is far away.
fn limit(store: &Store, full: bool) -> u32 {
    let figures = ready(store.figures()).expect("it counts");
    let dispatched = u32::try_from(figures.dispatched).expect("few");
    if full { dispatched } else { 100_000 }
}

/// Counts the steps that SQLite's machine takes: one for each row or index entry that is looked at, and more.
struct Metered {
    inner: Sqlite,
    steps: Cell<i64>,
}

impl Metered {
    fn run(&self, statement: &Statement) -> Result<Rows, SqlError> {
        let params = statement.params.iter().map(|value| match value {
            Value::Null => SqliteValue::Null,
            Value::Integer(number) => SqliteValue::Integer(*number),
            Value::Real(number) => SqliteValue::Real(*number),
            Value::Text(text) => SqliteValue::Text(text.clone()),
            Value::Blob(bytes) => SqliteValue::Blob(bytes.clone()),
        });
        let connection = self.inner.connection();
        let mut prepared = connection.prepare(&statement.sql).expect("valid SQL");
        let mut answer = prepared
            .query(rusqlite::params_from_iter(params))
            .expect("it runs");
        while answer.next().expect("it runs").is_some() {}
        drop(answer);
        let steps = i64::from(prepared.get_status(StatementStatus::VmStep));
        self.steps.set(self.steps.get() + steps);
        drop(prepared);
        ready(self.inner.query(statement.clone()))
    }
}

impl Sql for Metered {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.run(&statement)
    }

    async fn transaction(&self, _: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        panic!("nothing is written while nothing changes")
    }
}

#[test]
fn on_sqlite_a_look_takes_as_many_steps_whatever_is_unfinished() {
    for (state, kinds, full) in STATES {
        let steps = SIZES.map(|size| {
            let store = sqlite();
            fill(store.sql(), kinds, size);
            let Database::Sqlite(inner) = store.sql().clone() else {
                unreachable!("it is SQLite");
            };
            let metered = ExecutionStore::new(Metered {
                inner,
                steps: Cell::new(0),
            });
            look(&metered, limit(&store, full));
            metered.sql().steps.get()
        });
        println!("{state}: {steps:?} steps for {SIZES:?}");
        let (least, most) = (steps.iter().min(), steps.iter().max());
        let (least, most) = (least.expect("three"), most.expect("three"));
        assert!(*least > 0, "it was counted");
        assert!(most * 10 <= least * 12, "{state}: {steps:?}");
    }
}

/// How many rows PostgreSQL's plans have looked at, by its own count.
fn rows(store: &ExecutionStore<Recorder>) -> i64 {
    let mut rows = 0.0;
    for mut statement in store.sql().seen.take() {
        statement.sql = format!(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {}",
            statement.sql
        )
        .into();
        let plan = ready(store.sql().inner.query(statement)).expect("it explains");
        for row in plan.rows {
            let Some(Value::Text(step)) = row.first() else {
                panic!("a step of a plan is text: {row:?}");
            };
            let number = |name: &str| -> Option<f64> {
                let (_, rest) = step.split_once(name)?;
                let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
                rest[..end.unwrap_or(rest.len())].parse().ok()
            };
            let scanned = number("actual rows=").filter(|_| step.contains("Scan"));
            rows += scanned.unwrap_or(0.0) * number("loops=").unwrap_or(1.0);
            rows += number("Rows Removed by Filter: ").unwrap_or(0.0);
            rows += number("Rows Removed by Index Recheck: ").unwrap_or(0.0);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a count of rows")]
    let rows = rows as i64;
    rows
}

#[test]
fn on_postgresql_a_look_reads_as_many_rows_whatever_is_unfinished() {
    for (state, kinds, full) in STATES {
        let mut counted = Vec::new();
        for size in SIZES {
            let Some(place) = Place::postgres() else {
                return;
            };
            let store = file(&place);
            // One statement that changes a counter a hundred thousand times would take hours.
            store
                .sql()
                .execute("ALTER TABLE executions DISABLE TRIGGER USER");
            fill(store.sql(), kinds, size);
            store
                .sql()
                .execute("ALTER TABLE executions ENABLE TRIGGER USER");
            ready(store.recount()).expect("it counts");
            // As it is in life: what is always small is never analyzed.
            store.sql().execute("ANALYZE executions");
            let recorded = ExecutionStore::new(Recorder {
                inner: store.sql().clone(),
                seen: std::cell::RefCell::default(),
            });
            look(&recorded, limit(&store, full));
            counted.push(rows(&recorded));
        }
        println!("{state}: {counted:?} rows for {SIZES:?}");
        // A hundred rows are so few that PostgreSQL reads them all rather than an index.
        assert!(counted[1] <= counted[0].max(20), "{state}: {counted:?}");
        assert!(
            counted[2] * 10 <= counted[1].max(20) * 12,
            "{state}: {counted:?}"
        );
    }
}
