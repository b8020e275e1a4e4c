//! A native SQLite behind [`Sql`], for tests; a PostgreSQL, with the feature `testing-postgres`; and a libSQL, with `testing-libsql`.
//!
//! The SQLite behaves as Spin's SQLite does where the store can see it: the same busy timeout, one
//! connection per value, one statement per call.

use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode};

#[cfg(feature = "testing-libsql")]
mod libsql;
#[cfg(feature = "testing-postgres")]
mod postgres;

#[cfg(feature = "testing-libsql")]
pub use libsql::Libsql;
#[cfg(feature = "testing-postgres")]
pub use postgres::Postgres;

use crate::sql::{Dialect, Rows, Sql, SqlError, Statement, Value, run_in_turn};

/// Spin's, which is the default of rusqlite.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// As many statements are kept prepared: more than the store has. Simulations would parse the same text again and again.
const PREPARED_STATEMENTS: usize = 128;

/// A connection to an SQLite database. Clones share the connection.
#[derive(Clone)]
pub struct Sqlite {
    connection: Rc<Connection>,
}

impl Sqlite {
    /// Opens the file of that path, or makes it.
    ///
    /// # Panics
    /// When SQLite cannot.
    pub fn open(path: impl AsRef<Path>) -> Self {
        Self::of(Connection::open(path))
    }

    /// Opens a new database in memory, which is gone with the last clone.
    ///
    /// # Panics
    /// When SQLite cannot.
    pub fn memory() -> Self {
        Self::of(Connection::open_in_memory())
    }

    fn of(connection: rusqlite::Result<Connection>) -> Self {
        let connection = connection.expect("SQLite opens the database");
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .expect("SQLite takes a busy timeout");
        connection.set_prepared_statement_cache_capacity(PREPARED_STATEMENTS);
        Self {
            connection: Rc::new(connection),
        }
    }

    /// The connection itself, to prepare or to look at what the store does not show.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    fn run(&self, statement: &Statement) -> Result<Rows, SqlError> {
        let run = || -> rusqlite::Result<Rows> {
            let mut prepared = self.connection.prepare_cached(&statement.sql)?;
            let columns: Vec<String> = prepared
                .column_names()
                .into_iter()
                .map(str::to_owned)
                .collect();
            let params = rusqlite::params_from_iter(statement.params.iter().map(to_sqlite));
            let mut answer = prepared.query(params)?;
            let mut rows = Vec::new();
            while let Some(row) = answer.next()? {
                let values = (0..columns.len()).map(|i| Ok(from_sqlite(row.get_ref(i)?)));
                rows.push(values.collect::<rusqlite::Result<_>>()?);
            }
            Ok(Rows { columns, rows })
        };
        run().map_err(sql_error)
    }

    fn control(&self, sql: &str) -> Result<(), SqlError> {
        self.connection.execute_batch(sql).map_err(sql_error)
    }
}

impl Sql for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.run(&statement)
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.control(self.dialect().begin())?;
        let result = match run_in_turn(&statements, |s| self.run(s)) {
            Ok(Some(answers)) => self.control("COMMIT").map(|()| Some(answers)),
            other => other,
        };
        if !matches!(result, Ok(Some(_))) && !self.connection.is_autocommit() {
            self.control("ROLLBACK")?;
        }
        result
    }
}

/// The result of a future that waits for nothing, as all of a store over the databases of this module are: their
/// calls return when all is done.
///
/// # Panics
/// When it does wait.
pub fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a store over a database of tests waits for nothing"),
    }
}

fn to_sqlite(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Null => ValueRef::Null,
        Value::Integer(number) => ValueRef::Integer(*number),
        Value::Real(number) => ValueRef::Real(*number),
        Value::Text(text) => ValueRef::Text(text.as_bytes()),
        Value::Blob(bytes) => ValueRef::Blob(bytes),
    })
}

fn from_sqlite(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Real(number) => Value::Real(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

fn sql_error(error: rusqlite::Error) -> SqlError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => SqlError::Busy(text),
        Some(ErrorCode::DiskFull) => SqlError::Full(text),
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => SqlError::Unavailable(text),
        Some(ErrorCode::ConstraintViolation) => SqlError::Constraint(text),
        _ => SqlError::from_sqlite_message(text),
    }
}
