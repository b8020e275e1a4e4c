//! Pages: the last ones cost what the first ones do, however many records there are.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use domain::{Outcome, Reason, Status};
use jiff::Timestamp;
use rusqlite::StatementStatus;
use rusqlite::types::Value as SqliteValue;
use store::testing::ready;
use store::{Cursor, Dialect, ExecutionStore, Filter, Sql, Statement, Value};

use crate::plans::Recorder;
use crate::support::*;

/// Enough that a page at the end has some hundred before it. With EXECUTOR_TEST_RECORDS=1000000, in a release build,
/// the times that are printed are those of PERFORMANCE.md.
const RECORDS: i64 = 20_000;

/// As many as a page has by default.
const LIMIT: u32 = 50;

/// What the deep page may cost beyond the first one.
const MOST: f64 = 1.5;

/// So many records with labels: 97 of 100 are finished, one of them failed; one each is queued, starts and runs.
const ROWS: &str = "INSERT INTO executions (id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, \
     outcome, reason, message, image, cpu, memory, queue_seconds, start_seconds, run_seconds, grace_seconds, labels, deadline_at, digest) \
     SELECT '00000000-0000-7000-8000-' || substr('000000000000' || n, length('' || n) + 1, 12), 1, \
     CASE k WHEN 97 THEN 'QUEUED' WHEN 98 THEN 'QUEUED' WHEN 99 THEN 'RUNNING' ELSE 'FINISHED' END, n, \
     CASE WHEN k <> 97 THEN n END, CASE WHEN k <> 97 THEN 'uid' END, CASE WHEN k < 97 OR k = 99 THEN n END, \
     CASE WHEN k < 97 THEN n END, CASE WHEN k = 50 THEN 'FAILED' WHEN k < 97 THEN 'SUCCEEDED' END, \
     CASE WHEN k = 50 THEN 'NonZeroExit' WHEN k < 97 THEN 'Completed' END, CASE WHEN k < 97 THEN '' END, \
     'busybox:1.36', '250m', '128Mi', 86400, 300, 600, 10, '{}', CASE WHEN k >= 97 THEN n END, 'd' FROM numbers";

/// One label that all have, and one that every second has.
const LABELS: &str = "INSERT INTO labels (execution_id, name, value, execution_created_at) \
     SELECT id, 'all', 'yes', created_at FROM executions UNION ALL \
     SELECT id, 'half', '' || (created_at % 2), created_at FROM executions";

fn filled(place: &Place, records: i64) -> ExecutionStore<Recorder> {
    let store = file(place);
    let numbers = "WITH RECURSIVE counted (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT n + 1 FROM counted WHERE n < ";
    store.sql().execute(&format!(
        "CREATE TABLE numbers AS {numbers}{records}) SELECT n, n % 100 AS k FROM counted"
    ));
    store.sql().execute(ROWS);
    store.sql().execute(LABELS);
    if store.sql().dialect() == Dialect::Postgres {
        // As it does by itself.
        store.sql().execute("VACUUM ANALYZE executions, labels");
    }
    ExecutionStore::new(Recorder {
        inner: store.sql().clone(),
        seen: RefCell::default(),
    })
}

/// What the last statement costs by the database's own count: SQLite's steps, PostgreSQL's pages.
fn work(store: &ExecutionStore<Recorder>) -> f64 {
    let statement = store.sql().seen.take().pop().expect("a statement");
    let work = match &store.sql().inner {
        Database::Sqlite(sqlite) => {
            let mut prepared = sqlite.connection().prepare(&statement.sql).expect("SQL");
            let params = statement.params.into_iter().map(|value| match value {
                Value::Integer(number) => SqliteValue::Integer(number),
                Value::Text(text) => SqliteValue::Text(text),
                other => panic!("no filter has {other:?}"),
            });
            let mut rows = prepared
                .query(rusqlite::params_from_iter(params))
                .expect("it reads");
            while rows.next().expect("it reads").is_some() {}
            drop(rows);
            prepared.get_status(StatementStatus::VmStep)
        }
        server => {
            let sql = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {}", statement.sql).into();
            let plan = ready(server.query(Statement { sql, ..statement })).expect("it explains");
            let lines = plan
                .rows
                .into_iter()
                .filter_map(|row| match row.into_iter().next() {
                    Some(Value::Text(line)) => Some(line),
                    _ => None,
                });
            let lines: Vec<String> = lines.collect();
            // The first line is the whole statement's: `Buffers: shared hit=12 read=3`.
            let buffers = lines.iter().find(|line| line.contains("Buffers: shared"));
            let buffers = buffers.unwrap_or_else(|| panic!("it counts: {lines:#?}"));
            let counts = buffers
                .split([' ', '='])
                .filter_map(|word| word.parse::<i32>().ok());
            counts.sum()
        }
    };
    f64::from(work)
}

fn cursor(number: i64) -> Cursor {
    let id = format!("00000000-0000-7000-8000-{number:012}");
    Cursor {
        created_at: Timestamp::from_microsecond(number).expect("a time"),
        id: id.parse().expect("an id"),
    }
}

/// The time that most runs take, at least.
fn median(run: impl Fn()) -> Duration {
    let mut times: Vec<Duration> = (0..41)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_deep_page_costs_what_the_first_one_does() {
    let records = match std::env::var("EXECUTOR_TEST_RECORDS") {
        Ok(text) => text.parse().expect("EXECUTOR_TEST_RECORDS is a number"),
        Err(_) => RECORDS,
    };
    let place = Place::new();
    if matches!(place, Place::Libsql { .. }) {
        // SQLite's plans over the network: nothing new, and no count of its steps.
        return;
    }
    let store = filled(&place, records);
    let get = |number: i64| ready(store.get(cursor(number).id)).expect("it reads");
    let mut gets = Vec::new();
    for number in [1, records / 2, records] {
        assert!(get(number).is_some());
        gets.push(work(&store));
        println!(
            "get {number} of {records}: {:?}",
            median(|| drop(get(number)))
        );
    }
    assert!(gets.iter().all(|get| *get <= gets[0] * MOST), "{gets:?}");

    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let none = Filter::default;
    let filters = [
        none(),
        Filter {
            status: Some(Status::Finished),
            ..none()
        },
        Filter {
            outcome: Some(Outcome::Failed),
            ..none()
        },
        Filter {
            reason: Some(Reason::Completed),
            ..none()
        },
        Filter {
            labels: vec![label("all", "yes")],
            ..none()
        },
        Filter {
            labels: vec![label("half", "0")],
            ..none()
        },
        Filter {
            labels: vec![label("all", "yes"), label("half", "1")],
            ..none()
        },
        Filter {
            labels: vec![label("all", "yes")],
            status: Some(Status::Finished),
            ..none()
        },
        Filter {
            labels: vec![label("all", "yes")],
            status: Some(Status::Running),
            ..none()
        },
        Filter {
            labels: vec![label("half", "1")],
            status: Some(Status::Queued),
            ..none()
        },
    ];
    for filter in filters {
        let page = |after: Option<Cursor>| {
            let page = ready(store.list(&ours(), &filter, LIMIT, after)).expect("it reads");
            assert_eq!(page.items.len(), LIMIT as usize, "{filter:?}");
        };
        page(None);
        let first = work(&store);
        let first_time = median(|| page(None));
        for deep in [records * 3 / 4, records / 2] {
            page(Some(cursor(deep)));
            let work = work(&store);
            let time = median(|| page(Some(cursor(deep))));
            println!(
                "{filter:?} after {deep}: {time:?}, the first page {first_time:?}; work {work} to {first}"
            );
            assert!(
                work <= first * MOST,
                "{filter:?} after {deep}: {work} to {first}"
            );
        }
    }
}
