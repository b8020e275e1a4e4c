//! Migrations: again, at once, and cheap.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use store::testing::{Sqlite, ready};
use store::{
    Dialect, ExecutionStore, Inserted, InsertedBatch, Rows, Sql, SqlError, Statement, StoreError,
};

use crate::support::*;

#[test]
fn migrating_again_changes_nothing_and_costs_one_read() {
    let place = Place::new();
    let execution = insert(&file(&place), &queued(0), PLENTY);
    let store = ExecutionStore::new(Counting {
        inner: place.open(),
        calls: Cell::new(0),
        busy: Cell::new(0),
    });
    ready(store.migrate()).expect("it migrates");
    assert_eq!(store.sql().calls.get(), 1);
    assert_eq!(get(&file(&place), &execution), execution);
}

#[test]
fn the_file_is_in_wal_and_synchronous_stays_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(folder.path().join("db"));
    ready(Store::new(Database::Sqlite(sqlite.clone())).migrate()).expect("it migrates");
    let connection = sqlite.connection();
    let pragma = |name: &str| -> String {
        let sql = format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}");
        connection
            .query_row(&sql, [], |row| row.get(0))
            .expect("it reads")
    };
    assert_eq!(pragma("journal_mode"), "wal");
    assert_eq!(pragma("synchronous"), "2", "2 is FULL");
}

#[test]
fn many_at_once_migrate_one_file() {
    const PROCESSES: usize = 8;
    const ROUNDS: usize = 10;
    for round in 0..ROUNDS {
        let place = Place::new();
        let barrier = Barrier::new(PROCESSES);
        thread::scope(|scope| {
            for n in 0..PROCESSES {
                let (barrier, place) = (&barrier, &place);
                scope.spawn(move || {
                    let store = Store::new(place.open());
                    barrier.wait();
                    ready(store.migrate()).unwrap_or_else(|e| panic!("round {round}: {e:?}"));
                    insert(&store, &queued(i64::try_from(n).expect("small")), PLENTY);
                });
            }
        });
        let database = place.open();
        let executions = database.number("SELECT count(*) FROM executions");
        assert_eq!(usize::try_from(executions), Ok(PROCESSES));
        // Each step was made once: their numbers have no gap and stand once.
        let gap = "SELECT max(version) - min(version) + 1 - count(*) FROM schema_migrations";
        assert_eq!(database.number(gap), 0);
    }
}

#[test]
fn migrating_waits_for_a_slow_writer() {
    /// Longer than any number of tries that do not wait would take.
    const SLOW_COMMIT: Duration = Duration::from_millis(500);
    let place = Place::Sqlite(tempfile::tempdir().expect("a folder"));
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let other = place.open();
            let run = |sql| other.execute(sql);
            run("BEGIN IMMEDIATE; CREATE TABLE others (a TEXT)");
            barrier.wait();
            thread::sleep(SLOW_COMMIT);
            run("COMMIT");
        });
        barrier.wait();
        let store = file(&place);
        insert(&store, &queued(0), PLENTY);
    });
}

#[test]
fn what_was_stored_before_there_were_priorities_has_none() {
    let sqlite = Sqlite::memory();
    let first = include_str!("../../migrations/sqlite/0001_executions.sql");
    let connection = sqlite.connection();
    connection.execute_batch(first).expect("the first tables");
    let old = "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL); \
         INSERT INTO schema_migrations VALUES (1, 'executions')";
    connection.execute_batch(old).expect("their version");
    // As the first version wrote it: neither column nor member.
    let execution = queued(0);
    let id = execution.id.to_string();
    let row = "INSERT INTO executions (id, generation, status, created_at, image, cpu, memory, ephemeral_storage, \
         queue_seconds, start_seconds, run_seconds, grace_seconds, labels, deadline_at, digest) VALUES \
         (?1, 1, 'QUEUED', ?2, 'busybox:1.36', '250m', '128Mi', '1e9', 86400, 300, 600, 10, '{}', ?2, 'd')";
    let created_at = execution.created_at.as_microsecond();
    connection
        .execute(row, rusqlite::params![id, created_at])
        .expect("it inserts");
    let body = format!(
        "{{\"script\":\"echo {id}\",\"interpreter\":null,\"args\":[],\"image\":\"busybox:1.36\",\"cpu\":\"250m\",\
         \"memory\":\"128Mi\",\"ephemeral_storage\":\"1e9\",\"env\":{{}},\"files\":{{}},\"timeouts\":{{\
         \"queue_seconds\":86400,\"start_seconds\":300,\"run_seconds\":600,\"grace_seconds\":10}},\"labels\":{{}},\
         \"digest\":\"digest of {id}\"}}"
    );
    connection
        .execute("INSERT INTO payloads VALUES (?1, ?2)", [&id, &body])
        .expect("it inserts");
    let store = Store::new(Database::Sqlite(sqlite));
    ready(store.migrate()).expect("it migrates");
    assert_eq!(get(&store, &execution), execution);
    let claimed = ready(store.claim_queued(at(1), at(9), 1, 1)).expect("it claims");
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].1, submission(&execution));
}

/// The schema as version 10 left it, without the triggers that came then.
fn version_10(place: &Place) -> Store {
    let sqlite = [
        include_str!("../../migrations/sqlite/0001_executions.sql"),
        include_str!("../../migrations/sqlite/0002_priority.sql"),
        include_str!("../../migrations/sqlite/0003_cancel_and_expiry.sql"),
        include_str!("../../migrations/sqlite/0004_webhooks.sql"),
        include_str!("../../migrations/sqlite/0005_events.sql"),
        include_str!("../../migrations/sqlite/0006_retries.sql"),
        include_str!("../../migrations/sqlite/0007_run_timeouts.sql"),
        include_str!("../../migrations/sqlite/0008_counters.sql"),
        include_str!("../../migrations/sqlite/0009_followed_logs.sql"),
        include_str!("../../migrations/sqlite/0010_creation_in_doubt.sql"),
    ];
    let postgres = [include_str!(
        "../../migrations/postgres/0010_executions.sql"
    )];
    let database = place.open();
    let steps: &[&str] = match database.dialect() {
        Dialect::Postgres => &postgres,
        _ => &sqlite,
    };
    for step in steps {
        database.execute(step);
    }
    database.execute(
        "CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL)",
    );
    database.execute("INSERT INTO schema_migrations (version, name) VALUES (10, 'version 10')");
    Store::new(database)
}

#[test]
fn an_older_schema_is_brought_up_to_date_before_anything_is_accepted() {
    let newest = memory()
        .sql()
        .number("SELECT max(version) FROM schema_migrations");
    assert!(newest > 10, "there are later steps");
    let batch = [(queued(0), submission(&queued(0)))];
    let accept: [&dyn Fn(&Store); 2] = [
        &|store| {
            let (execution, asked) = &batch[0];
            let inserted = ready(store.insert(execution, asked, None, 0, at(9)));
            assert!(matches!(inserted, Ok(Inserted::New { .. })), "{inserted:?}");
        },
        &|store| {
            let inserted = ready(store.insert_batch(&batch, None, 0, 0, at(9)));
            assert!(
                matches!(inserted, Ok(InsertedBatch::New { .. })),
                "{inserted:?}"
            );
        },
    ];
    for accept in accept {
        let place = Place::new();
        let store = version_10(&place);
        accept(&store);
        let version = store
            .sql()
            .number("SELECT max(version) FROM schema_migrations");
        assert_eq!(version, newest);
        // Counted by the triggers that were not there, and once.
        assert_eq!(ready(store.figures()).expect("it reads").waiting, 1);
        assert_eq!(get(&store, &queued(0)), queued(0));
    }
}

#[test]
fn whoever_reads_first_finds_the_tables() {
    let place = Place::new();
    let store = Store::new(place.open());
    assert_eq!(ready(store.get(id(0, 0))).expect("it reads"), None);
    ready(store.ping()).expect("they are there");
    let place = Place::new();
    let store = version_10(&place);
    assert_eq!(ready(store.figures()).expect("it reads").waiting, 0);
}

#[test]
fn what_no_step_brings_is_told() {
    let store = memory();
    store.sql().execute("DROP TABLE state");
    let error = ready(store.get_state("k")).expect_err("it is gone");
    assert!(
        matches!(error, StoreError::Sql(SqlError::Schema(_))),
        "{error:?}"
    );
    assert!(!error.is_transient(), "{error:?}");
}

#[test]
fn ping_needs_the_tables() {
    let place = Place::new();
    let store = Store::new(place.open());
    ready(store.ping()).expect_err("there are none");
    ready(store.migrate()).expect("it migrates");
    ready(store.ping()).expect("they are there");
}

#[test]
fn a_newer_schema_is_left_as_it_is() {
    let store = memory();
    let newer = "INSERT INTO schema_migrations (version, name) VALUES (1000, 'later')";
    store.sql().execute(newer);
    ready(store.migrate()).expect("it migrates");
    insert(&store, &queued(0), PLENTY);
}

/// Counts calls, and is busy for so many of them.
struct Counting {
    inner: Database,
    calls: Cell<u32>,
    busy: Cell<u32>,
}

impl Counting {
    fn call(&self) -> Result<(), SqlError> {
        self.calls.set(self.calls.get() + 1);
        let busy = self.busy.get();
        self.busy.set(busy.saturating_sub(1));
        if busy > 0 {
            return Err(SqlError::Busy("locked".into()));
        }
        Ok(())
    }
}

impl Sql for Counting {
    fn dialect(&self) -> Dialect {
        self.inner.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.call()?;
        self.inner.query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.call()?;
        self.inner.transaction(statements).await
    }
}

#[test]
fn a_busy_database_is_asked_a_few_times_and_then_said_to_be_busy() {
    let store = ExecutionStore::new(Counting {
        inner: memory().sql().clone(),
        calls: Cell::new(0),
        busy: Cell::new(2),
    });
    ready(store.set_state("k", "v")).expect("the third try does it");
    assert_eq!(store.sql().calls.replace(0), 3);
    store.sql().busy.set(3);
    let error = ready(store.set_state("k", "v")).expect_err("it is busy");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(store.sql().calls.get(), 3);
}
