//! The databases that figures are about: Executor's own, to fill and to empty it, and floors beside it.
//!
//! What is written here goes past Executor on purpose: a million records are made by the database out of one real one, and
//! a floor is what the same rows cost without Executor.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use postgres::{Client, NoTls};
use store::sql::Sql;
use store::testing::{Postgres, Sqlite, ready};
use store::{ExecutionStore, SqlError};

/// How long a caller waits for a lock of SQLite, which gives it to whoever asks at the right moment: of 32 callers one may go
/// without for more than the five seconds of Spin's host, and a figure is not to end with it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(60);

/// Rows that one transaction forgets. Each that was queued changes one counter's row, and PostgreSQL goes through all of a transaction's own
/// states of a row to come to the last: 70,000 at once took minutes.
const FORGOTTEN_AT_ONCE: u32 = 1_000;

/// Where a PostgreSQL is, if there is one; `tests/postgres/with-postgres.sh` starts one and sets it.
const POSTGRES_VARIABLE: &str = "EXECUTOR_TEST_POSTGRES";

/// The schema of PostgreSQL that tables are in when nobody says otherwise.
const SCHEMA: &str = "public";

/// Digits of a UUID that are counted; the others are those of a UUID version 7 of some day in 2022.
const ID_PREFIX: &str = "01800000-0000-7000-8000-";

/// Which database Executor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file in the state folder.
    Sqlite,
    /// A server.
    Postgres,
}

impl Kind {
    /// Those that can be measured here: PostgreSQL where there is a server.
    pub fn all() -> Vec<Self> {
        match postgres_url() {
            Some(_) => vec![Self::Sqlite, Self::Postgres],
            None => vec![Self::Sqlite],
        }
    }

    /// Its name in the groups.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// The same for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

fn postgres_url() -> Option<String> {
    std::env::var(POSTGRES_VARIABLE)
        .ok()
        .filter(|url| !url.is_empty())
}

/// A database for Executor's tables.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A database of a server, by its URL.
    Postgres(String),
}

/// A connection to it.
pub enum Connection {
    /// To a file.
    Sqlite(rusqlite::Connection),
    /// To a server.
    Postgres(Client),
}

impl Database {
    /// A new one without tables: a file of that path, or a database on the server.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn new(kind: Kind, file: PathBuf) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        match (kind, postgres_url()) {
            (Kind::Postgres, Some(url)) => {
                let number = COUNT.fetch_add(1, Ordering::Relaxed);
                let name = format!("bench_{}_{number}", std::process::id());
                let mut client = Client::connect(&url, NoTls).expect("PostgreSQL answers");
                let made = client.batch_execute(&format!("CREATE DATABASE {name}"));
                made.unwrap_or_else(|e| panic!("{name}: {e}"));
                let (server, _) = url.rsplit_once('/').expect("the URL names a database");
                Self::Postgres(format!("{server}/{name}"))
            }
            _ => Self::Sqlite(file),
        }
    }

    /// Makes Executor's tables in it.
    ///
    /// # Panics
    /// When that fails.
    pub fn migrate(&self) {
        self.with_store(Migrate);
    }

    /// Its URL, where it is on a server.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(url) => Some(url),
        }
    }

    /// A new connection.
    ///
    /// # Panics
    /// When there is none to be had.
    pub fn connect(&self) -> Connection {
        match self {
            Self::Sqlite(path) => {
                let open = rusqlite::Connection::open(path);
                let connection = open.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let waits = connection.busy_timeout(BUSY_TIMEOUT);
                waits.expect("SQLite takes a busy timeout");
                Connection::Sqlite(connection)
            }
            Self::Postgres(url) => {
                Connection::Postgres(Client::connect(url, NoTls).expect("PostgreSQL answers"))
            }
        }
    }

    /// Does that with a store over a new connection.
    pub fn with_store<T: WithStore>(&self, work: T) -> T::Output {
        match self {
            Self::Sqlite(path) => work.call(ExecutionStore::new(Sqlite::open(path))),
            Self::Postgres(url) => {
                let sql: Result<Postgres, SqlError> = Postgres::open(url, SCHEMA);
                work.call(ExecutionStore::new(sql.expect("PostgreSQL answers")))
            }
        }
    }
}

/// Something done with a store, whatever its database.
pub trait WithStore {
    /// What comes of it.
    type Output;

    /// Does it.
    fn call<S: Sql + 'static>(self, store: ExecutionStore<S>) -> Self::Output;
}

struct Migrate;

impl WithStore for Migrate {
    type Output = ();

    fn call<S: Sql>(self, store: ExecutionStore<S>) {
        ready(store.migrate()).expect("the tables are made");
    }
}

impl Connection {
    /// Runs statements without parameters.
    ///
    /// # Panics
    /// When one fails.
    pub fn execute(&mut self, sql: &str) {
        let result = match self {
            Self::Sqlite(connection) => connection.execute_batch(sql).map_err(|e| e.to_string()),
            Self::Postgres(client) => client.batch_execute(sql).map_err(|e| e.to_string()),
        };
        result.unwrap_or_else(|e| panic!("{e} in {sql}"));
    }

    /// The number that a query gives.
    ///
    /// # Panics
    /// When it gives none.
    pub fn number(&mut self, sql: &str) -> i64 {
        let result = match self {
            Self::Sqlite(connection) => connection
                .query_row(sql, [], |row| row.get(0))
                .map_err(|e| e.to_string()),
            Self::Postgres(client) => client
                .query_one(sql, &[])
                .and_then(|row| row.try_get(0))
                .map_err(|e| e.to_string()),
        };
        result.unwrap_or_else(|e| panic!("{e} in {sql}"))
    }

    /// The columns of a table.
    pub fn columns(&mut self, table: &str) -> Vec<String> {
        let result: Result<Vec<String>, String> = match self {
            Self::Sqlite(connection) => connection
                .prepare(&format!("SELECT * FROM {table} LIMIT 0"))
                .map(|statement| {
                    statement
                        .column_names()
                        .into_iter()
                        .map(str::to_owned)
                        .collect()
                })
                .map_err(|e| e.to_string()),
            Self::Postgres(client) => client
                .prepare(&format!("SELECT * FROM {table} LIMIT 0"))
                .map(|statement| {
                    statement
                        .columns()
                        .iter()
                        .map(|c| c.name().to_owned())
                        .collect()
                })
                .map_err(|e| e.to_string()),
        };
        result.unwrap_or_else(|e| panic!("{e} of {table}"))
    }

    /// Makes so many copies of an execution with all that belongs to it, accepted one microsecond after the other, all
    /// after it. Some columns of the copies may have other values: SQL over `n`, which counts from `from`.
    pub fn copy(&mut self, id: &str, from: u32, count: u32, others: &[(&str, &str)]) {
        let digits = match self {
            Self::Sqlite(_) => "printf('%012x', n)",
            Self::Postgres(_) => "lpad(to_hex(n), 12, '0')",
        };
        let new_id = format!("'{ID_PREFIX}' || {digits}");
        let created_at = "t.created_at + n";
        let usual = [
            ("id", &*new_id),
            ("execution_id", &*new_id),
            ("created_at", created_at),
        ];
        let tables = [
            ("executions", "id"),
            ("payloads", "execution_id"),
            ("logs", "execution_id"),
        ];
        let last = from + count - 1;
        let mut sql = "BEGIN;".to_owned();
        for (table, key) in tables {
            let columns = self.columns(table);
            let values: Vec<String> = columns
                .iter()
                .map(|column| {
                    let mut known = others.iter().chain(&usual);
                    let known = known.find(|(name, _)| name == column);
                    known.map_or_else(|| format!("t.{column}"), |(_, sql)| (*sql).to_owned())
                })
                .collect();
            sql += &format!(
                "INSERT INTO {table} ({}) WITH RECURSIVE series (n) AS \
                 (SELECT {from} UNION ALL SELECT n + 1 FROM series WHERE n < {last}) \
                 SELECT {} FROM series CROSS JOIN (SELECT * FROM {table} WHERE {key} = '{id}') AS t;",
                columns.join(", "),
                values.join(", "),
            );
        }
        self.execute(&(sql + "COMMIT"));
    }

    /// Forgets every execution but that one.
    pub fn forget_but(&mut self, id: &str) {
        for (table, key) in [
            ("executions", "id"),
            ("payloads", "execution_id"),
            ("labels", "execution_id"),
            ("events", "execution_id"),
            ("logs", "execution_id"),
        ] {
            let others = format!(
                "SELECT {key} FROM {table} WHERE {key} <> '{id}' LIMIT {FORGOTTEN_AT_ONCE}"
            );
            while self.number(&format!("SELECT count(*) FROM ({others}) AS others")) > 0 {
                self.execute(&format!("DELETE FROM {table} WHERE {key} IN ({others})"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::submission;
    use domain::{Execution, ExecutionId, Tenant};
    use store::Filter;

    struct InsertOne(ExecutionId);

    impl WithStore for InsertOne {
        type Output = ();

        fn call<S: Sql>(self, store: ExecutionStore<S>) {
            let now = jiff::Timestamp::from_second(1_700_000_000).expect("a time");
            let submission = submission("exit 0");
            let execution = Execution::accepted(self.0, now, &Tenant::default(), &submission);
            ready(store.insert(&execution, &submission, None, 1, now)).expect("stored");
        }
    }

    struct Count;

    impl WithStore for Count {
        type Output = usize;

        fn call<S: Sql>(self, store: ExecutionStore<S>) -> usize {
            let page = ready(store.list(&Tenant::default(), &Filter::default(), 100, None))
                .expect("readable");
            for item in &page.items {
                let submission = ready(store.submission(item.id)).expect("readable");
                assert_eq!(submission.expect("there").script, "exit 0");
            }
            page.items.len()
        }
    }

    fn copies_are_good(kind: Kind, file: PathBuf) {
        let database = Database::new(kind, file);
        database.migrate();
        let id = ExecutionId::new(jiff::Timestamp::now(), [7; 10]);
        database.with_store(InsertOne(id));
        let mut connection = database.connect();
        connection.copy(&id.to_string(), 1, 20, &[("rank", "n % 3")]);
        connection.copy(&id.to_string(), 21, 10, &[]);
        assert_eq!(database.with_store(Count), 31);
        let ranked = "SELECT count(*) FROM executions WHERE rank = 1";
        assert_eq!(connection.number(ranked), 7);
        connection.forget_but(&id.to_string());
        assert_eq!(database.with_store(Count), 1);
    }

    #[test]
    fn copies_are_executions_as_good_as_their_model() {
        let path = std::env::temp_dir().join(format!("benches-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        copies_are_good(Kind::Sqlite, path.join("copies.db"));
        // Where a server is given.
        if postgres_url().is_some() {
            copies_are_good(Kind::Postgres, PathBuf::new());
        }
        std::fs::remove_dir_all(&path).expect("the folder goes");
    }
}
