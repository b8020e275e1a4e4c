//! What an acceptance costs without Executor: the same rows straight to a database, and the store's whole transaction natively.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::{Execution, ExecutionId, Resources, Retry, Submission, Tenant, Timeouts};
use jiff::{SignedDuration, Timestamp};
use rusqlite::params;
use store::ExecutionStore;
use store::sql::Sql;
use store::testing::ready;

use crate::database::{Connection, Database, WithStore};
use crate::load::{self, Load, Measured};

/// As long as Executor claims what it dispatches.
const CLAIM: SignedDuration = SignedDuration::from_secs(15);

/// As Executor would store a submission of that script.
pub fn submission(script: &str) -> Submission {
    Submission {
        script: script.to_owned(),
        interpreter: None,
        args: Vec::new(),
        image: "docker.io/library/busybox:1.37".to_owned(),
        resources: Resources {
            cpu: "10m".parse().expect("a quantity"),
            memory: "16Mi".parse().expect("a quantity"),
            ephemeral_storage: None,
        },
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        priority: 0,
        labels: BTreeMap::new(),
        ttl_seconds: 2_592_000,
        webhook: None,
        digest: "0123456789abcdef".repeat(4),
    }
}

fn new_id() -> ExecutionId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    ExecutionId::new(Timestamp::now(), random)
}

/// Inserts executions with their payloads: two rows, one commit, nothing else.
pub struct Floor {
    database: Database,
    insert: String,
    payload: String,
    /// Holds the only place, as in Executor's database.
    first: String,
}

impl Floor {
    /// Prepares it: the rows are those of a model that is stored first, with an id and a time of their own.
    pub fn new(database: Database, script: &str) -> Self {
        database.migrate();
        // The first is dispatched, as the one that keeps Executor's queue shut; the second waits, as all that follow.
        let first = insert_by_store(&database, script);
        let model = insert_by_store(&database, script);
        let mut connection = database.connect();
        connection.execute(&format!(
            "CREATE TABLE model AS SELECT * FROM executions WHERE id = '{model}';
             CREATE TABLE model_payload AS SELECT * FROM payloads WHERE execution_id = '{model}';"
        ));
        let columns = connection.columns("executions");
        let value = |column: &String| match &**column {
            "id" => "$1".to_owned(),
            "created_at" => "$2".to_owned(),
            other => other.to_owned(),
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let insert = format!(
            "INSERT INTO executions ({}) SELECT {} FROM model",
            columns.join(", "),
            values.join(", "),
        );
        let payload =
            "INSERT INTO payloads (execution_id, body) SELECT $1, body FROM model_payload";
        Self {
            database,
            insert,
            payload: payload.to_owned(),
            first,
        }
    }

    /// Forgets what was inserted.
    pub fn tidy(&self) {
        self.database.connect().forget_but(&self.first);
    }

    /// Does it for that long.
    pub fn run(&self, load: Load) -> Measured {
        load::run(
            load,
            || self.writer(),
            |writer, _| {
                writer.insert(&new_id().to_string(), Timestamp::now().as_microsecond());
                true
            },
        )
    }

    fn writer(&self) -> Writer<'_> {
        match self.database.connect() {
            Connection::Sqlite(connection) => Writer::Sqlite(self, connection),
            Connection::Postgres(mut client) => {
                let both = format!("WITH e AS ({}) {}", self.insert, self.payload);
                let types = [postgres::types::Type::TEXT, postgres::types::Type::INT8];
                let prepared = client.prepare_typed(&both, &types);
                Writer::Postgres(client, prepared.expect("PostgreSQL prepares it"))
            }
        }
    }

    /// The database, for whoever measures something else in it.
    pub fn database(&self) -> &Database {
        &self.database
    }
}

enum Writer<'a> {
    Sqlite(&'a Floor, rusqlite::Connection),
    Postgres(postgres::Client, postgres::Statement),
}

impl Writer<'_> {
    fn insert(&mut self, id: &str, created_at: i64) {
        match self {
            Self::Sqlite(floor, connection) => {
                let write = || -> rusqlite::Result<()> {
                    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
                    connection
                        .prepare_cached(&floor.insert)?
                        .execute(params![id, created_at])?;
                    connection
                        .prepare_cached(&floor.payload)?
                        .execute(params![id])?;
                    connection.prepare_cached("COMMIT")?.execute([])?;
                    Ok(())
                };
                write().expect("SQLite stores it");
            }
            Self::Postgres(client, statement) => {
                let stored = client.execute(statement, &[&id, &created_at]);
                stored.expect("PostgreSQL stores it");
            }
        }
    }
}

/// The store's own transaction, natively: what is left of an acceptance without the component and its host.
pub fn by_store(database: &Database, load: Load, script: &str) -> Measured {
    let submission = submission(script);
    // Stores are not sent between threads, so each caller opens its own.
    let open = || database.with_store(Inserter);
    load::run(load, open, |insert, _| {
        insert(&submission);
        true
    })
}

/// Stores one execution of that submission, and gives its id.
type Insert = Box<dyn Fn(&Submission) -> String>;

struct Inserter;

impl WithStore for Inserter {
    type Output = Insert;

    fn call<S: Sql + 'static>(self, store: ExecutionStore<S>) -> Insert {
        Box::new(move |submission| {
            let now = Timestamp::now();
            let execution = Execution::accepted(new_id(), now, &Tenant::default(), submission);
            let inserted = store.insert(&execution, submission, None, 1, now + CLAIM);
            ready(inserted).expect("the store takes it");
            execution.id.to_string()
        })
    }
}

fn insert_by_store(database: &Database, script: &str) -> String {
    database.with_store(Inserter)(&submission(script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::Kind;
    use std::time::Duration;

    #[test]
    fn floor_and_store_fill_the_tables_and_are_tidied() {
        let file = std::env::temp_dir().join(format!("benches-floor-{}.db", std::process::id()));
        let server = std::env::var("EXECUTOR_TEST_POSTGRES").is_ok();
        for kind in [Some(Kind::Sqlite), server.then_some(Kind::Postgres)] {
            let Some(kind) = kind else { continue };
            let floor = Floor::new(Database::new(kind, file.clone()), "exit 0");
            let load = Load {
                callers: 2,
                time: Duration::from_millis(200),
            };
            let count = |table: &str| {
                let query = format!("SELECT count(*) FROM {table}");
                floor.database().connect().number(&query)
            };
            let written = floor.run(load).latencies.len() as i64;
            assert!(written > 0);
            let stored = by_store(floor.database(), load, "exit 0").latencies.len() as i64;
            assert!(stored > 0);
            assert_eq!(count("executions"), 2 + written + stored);
            assert_eq!(count("payloads"), 2 + written + stored);
            floor.tidy();
            assert_eq!(count("executions"), 1);
        }
        for end in ["", "-wal", "-shm"] {
            // The last two go with the last connection.
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }
}
