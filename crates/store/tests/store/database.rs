//! The databases that the tests run on: SQLite, and PostgreSQL or libSQL instead where the environment names a server.

use std::sync::atomic::{AtomicU32, Ordering};

use store::testing::{Libsql, Postgres, Sqlite, ready};
use store::{Dialect, ExecutionStore, Rows, Sql, SqlError, Statement, Value};

pub type Store = ExecutionStore<Database>;

/// The server's URL, from `tests/postgres/with-postgres.sh`.
const POSTGRES: &str = "EXECUTOR_TEST_POSTGRES";

/// The server's URL, and that of its administration, from `tests/libsql/with-libsql.sh`.
const LIBSQL: &str = "EXECUTOR_TEST_LIBSQL";
const LIBSQL_ADMIN: &str = "EXECUTOR_TEST_LIBSQL_ADMIN";

/// A connection.
#[derive(Clone)]
pub enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
    Libsql(Libsql),
}

impl Database {
    /// An empty SQLite in memory, whatever the others are: for what is SQLite's alone.
    pub fn sqlite() -> Self {
        Self::Sqlite(Sqlite::memory())
    }

    /// Runs statements that the store has none of.
    pub fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(sqlite) => sqlite.connection().execute_batch(sql).expect("it runs"),
            Self::Postgres(postgres) => postgres.execute_batch(sql).expect("it runs"),
            Self::Libsql(libsql) => libsql.execute_batch(sql).expect("it runs"),
        }
    }

    /// The number that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        let statement = Statement {
            sql: sql.to_owned().into(),
            params: Vec::new(),
            must_change: false,
        };
        let answer = ready(self.query(statement)).expect("it reads");
        match answer.rows[..] {
            [ref row] => match row[..] {
                [Value::Integer(number)] => number,
                _ => panic!("{sql}: it is no number: {row:?}"),
            },
            _ => panic!("{sql}: it is not one row"),
        }
    }
}

impl Sql for Database {
    fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(sqlite) => sqlite.dialect(),
            Self::Postgres(postgres) => postgres.dialect(),
            Self::Libsql(libsql) => libsql.dialect(),
        }
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.query(statement).await,
            Self::Postgres(postgres) => postgres.query(statement).await,
            Self::Libsql(libsql) => libsql.query(statement).await,
        }
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.transaction(statements).await,
            Self::Postgres(postgres) => postgres.transaction(statements).await,
            Self::Libsql(libsql) => libsql.transaction(statements).await,
        }
    }
}

/// A database of one test's own, for any number of connections: a file, or a schema or database of the server, which
/// goes with the server.
pub enum Place {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, schema: String },
    Libsql { server: String, namespace: String },
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        if let Some(server) = variable(POSTGRES) {
            return Self::on_postgres(server);
        }
        match variable(LIBSQL) {
            Some(server) => Self::on_libsql(server),
            None => Self::Sqlite(tempfile::tempdir().expect("a folder")),
        }
    }

    /// An empty one on a PostgreSQL server, where there is one.
    pub fn postgres() -> Option<Self> {
        variable(POSTGRES).map(Self::on_postgres)
    }

    fn on_postgres(server: String) -> Self {
        let schema = name();
        let place = Self::Postgres {
            server,
            schema: schema.clone(),
        };
        place.open().execute(&format!("CREATE SCHEMA {schema}"));
        place
    }

    fn on_libsql(server: String) -> Self {
        let namespace = name();
        let admin = variable(LIBSQL_ADMIN).expect("both URLs are there, or none");
        Libsql::create(&admin, &namespace).expect("it makes a database");
        Self::Libsql { server, namespace }
    }

    /// A connection of its own.
    pub fn open(&self) -> Database {
        match self {
            Self::Sqlite(folder) => Database::Sqlite(Sqlite::open(folder.path().join("db"))),
            Self::Postgres { server, schema } => {
                let connection = Postgres::open(server, schema).unwrap_or_else(|error| {
                    panic!("{POSTGRES} names no PostgreSQL that these tests can use: {error}")
                });
                Database::Postgres(connection)
            }
            Self::Libsql { server, namespace } => Database::Libsql(Libsql::open(server, namespace)),
        }
    }
}

fn variable(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(server) => Some(server),
        Err(std::env::VarError::NotPresent) => None,
        Err(error) => panic!("{name} is no URL: {error}"),
    }
}

/// One that no other test has.
fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test_{}_{number}", std::process::id())
}
