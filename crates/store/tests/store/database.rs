//! The databases that the tests run on: SQLite, and PostgreSQL instead where the environment names a server.

use std::sync::atomic::{AtomicU32, Ordering};

use store::testing::{Postgres, Sqlite, ready};
use store::{Dialect, ExecutionStore, Rows, Sql, SqlError, Statement, Value};

pub type Store = ExecutionStore<Database>;

/// The server's URL, from `tests/postgres/with-postgres.sh`.
const SERVER: &str = "EXECUTOR_TEST_POSTGRES";

/// A connection.
#[derive(Clone)]
pub enum Database {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Database {
    /// An empty SQLite in memory, also where the others are PostgreSQL: for what is SQLite's alone.
    pub fn sqlite() -> Self {
        Self::Sqlite(Sqlite::memory())
    }

    /// Runs statements that the store has none of.
    pub fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(sqlite) => sqlite.connection().execute_batch(sql).expect("it runs"),
            Self::Postgres(postgres) => postgres.execute_batch(sql).expect("it runs"),
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
        }
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.query(statement).await,
            Self::Postgres(postgres) => postgres.query(statement).await,
        }
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.transaction(statements).await,
            Self::Postgres(postgres) => postgres.transaction(statements).await,
        }
    }
}

/// A database of one test's own, for any number of connections: a file, or a schema of the server, which goes
/// with the server.
pub enum Place {
    Sqlite(tempfile::TempDir),
    Postgres { server: String, schema: String },
}

impl Place {
    /// An empty one.
    pub fn new() -> Self {
        match std::env::var(SERVER) {
            Ok(server) => Self::on(server),
            Err(std::env::VarError::NotPresent) => {
                Self::Sqlite(tempfile::tempdir().expect("a folder"))
            }
            Err(error) => panic!("{SERVER} is no URL: {error}"),
        }
    }

    /// An empty one on a PostgreSQL server, where there is one.
    pub fn postgres() -> Option<Self> {
        let place = Self::new();
        matches!(place, Self::Postgres { .. }).then_some(place)
    }

    fn on(server: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let schema = format!("test_{}_{number}", std::process::id());
        let place = Self::Postgres { server, schema };
        place
            .open()
            .execute(&format!("CREATE SCHEMA {}", place.schema()));
        place
    }

    fn schema(&self) -> &str {
        match self {
            Self::Sqlite(_) => "main",
            Self::Postgres { schema, .. } => schema,
        }
    }

    /// A connection of its own.
    pub fn open(&self) -> Database {
        match self {
            Self::Sqlite(folder) => Database::Sqlite(Sqlite::open(folder.path().join("db"))),
            Self::Postgres { server, schema } => {
                let connection = Postgres::open(server, schema).unwrap_or_else(|error| {
                    panic!("{SERVER} names no PostgreSQL that these tests can use: {error}")
                });
                Database::Postgres(connection)
            }
        }
    }
}
