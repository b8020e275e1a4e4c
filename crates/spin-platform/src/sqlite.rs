//! SQL on Spin's SQLite.

use std::cell::Cell;
use std::time::{Duration, Instant};

use spin_sdk::sqlite3::{Connection, Error as SpinError, Value as SpinValue};
use store::{Dialect, Rows, Sql, SqlError, Statement, Value, run_in_turn};

/// So long SQLite waits for the write lock before it gives up. It asks ever more seldom, after a quarter of a second ten times a
/// second, and then who has waited longest comes last; so it begins anew soon. That costs little: hosts keep what they have compiled.
const ASKED_FOR: Duration = Duration::from_millis(60);

/// So long the write lock is waited for in all, as hosts do by themselves.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// One connection to the default database. Statements on it run one at a time, since the host's calls block;
/// a transaction has no await inside, so that other tasks of the instance cannot get in between.
pub struct SpinSqlite {
    connection: Connection,
    /// Whether it was told how long to wait. Who only reads need not say so.
    is_told: Cell<bool>,
}

impl SpinSqlite {
    /// Opens the database named `default`.
    ///
    /// # Errors
    /// When the host does not give it to this component.
    pub fn open() -> Result<Self, SqlError> {
        Connection::open_default()
            .map(|connection| Self {
                connection,
                is_told: Cell::new(false),
            })
            .map_err(error)
    }

    fn execute(&self, sql: &str, params: &[SpinValue]) -> Result<Rows, SqlError> {
        let result = self.connection.execute(sql, params).map_err(error)?;
        let rows = result
            .rows
            .into_iter()
            .map(|row| row.values.into_iter().map(value).collect())
            .collect();
        Ok(Rows {
            columns: result.columns,
            rows,
        })
    }

    fn run(&self, statement: Statement) -> Result<Rows, SqlError> {
        let params: Vec<SpinValue> = statement.params.into_iter().map(parameter).collect();
        self.execute(&statement.sql, &params)
    }

    /// Runs one that needs the write lock, and is nothing without it.
    fn lock_and_run(&self, sql: &str, params: &[SpinValue]) -> Result<Rows, SqlError> {
        if !self.is_told.replace(true) {
            // A libSQL server waits by its own rules, and need not take it.
            let millis = ASKED_FOR.as_millis();
            let _ = self.execute(&format!("PRAGMA busy_timeout = {millis}"), &[]);
        }
        let begun = Instant::now();
        loop {
            let asked = Instant::now();
            match self.execute(sql, params) {
                // What is refused without a wait would be refused again at once.
                Err(SqlError::Busy(_))
                    if asked.elapsed() >= ASKED_FOR / 2 && begun.elapsed() < LOCK_PATIENCE => {}
                result => return result,
            }
        }
    }
}

impl Sql for SpinSqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        if !writes(&statement.sql) {
            return self.run(statement);
        }
        let params: Vec<SpinValue> = statement.params.into_iter().map(parameter).collect();
        self.lock_and_run(&statement.sql, &params)
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        // IMMEDIATE takes the write lock first: a later upgrade of a read lock would fail at once instead of waiting.
        self.lock_and_run(self.dialect().begin(), &[])?;
        match run_in_turn(statements, |s| self.run(s)) {
            Ok(Some(rows)) => match self.execute("COMMIT", &[]) {
                Ok(_) => Ok(Some(rows)),
                Err(error) => self.roll_back().and(Err(error)),
            },
            Ok(None) => self.roll_back().map(|()| None),
            Err(error) => self.roll_back().and(Err(error)),
        }
    }
}

impl SpinSqlite {
    /// SQLite may have rolled back by itself, after a full disk for one; that there is nothing to roll back is fine.
    fn roll_back(&self) -> Result<(), SqlError> {
        match self.execute("ROLLBACK", &[]) {
            Err(SqlError::Other(text)) if text.contains("no transaction is active") => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Whether it needs the write lock. What it writes is bound, and not in its text.
fn writes(sql: &str) -> bool {
    let verbs = ["INSERT INTO ", "UPDATE ", "DELETE FROM "];
    verbs.iter().any(|verb| sql.contains(verb))
}

fn parameter(value: Value) -> SpinValue {
    match value {
        Value::Null => SpinValue::Null,
        Value::Integer(i) => SpinValue::Integer(i),
        Value::Real(r) => SpinValue::Real(r),
        Value::Text(t) => SpinValue::Text(t),
        Value::Blob(b) => SpinValue::Blob(b),
    }
}

fn value(value: SpinValue) -> Value {
    match value {
        SpinValue::Null => Value::Null,
        SpinValue::Integer(i) => Value::Integer(i),
        SpinValue::Real(r) => Value::Real(r),
        SpinValue::Text(t) => Value::Text(t),
        SpinValue::Blob(b) => Value::Blob(b),
    }
}

/// What a libSQL server says when others want to write and a transaction goes on for more than 5 s, and when nothing came on a
/// connection for 10 s: what was begun is rolled back.
const GIVEN_UP: [&str; 2] = ["Transaction timed out", "stream has expired"];

/// How messages about a libSQL server that is not reached begin, and what is in those about one that is not well.
const AWAY: [&str; 3] = ["http error", "status=502", "status=503"];

/// Spin hands on the messages of SQLite (sqlite3.h, result codes) and libSQL; only they tell busy and full apart from the rest.
fn error(error: SpinError) -> SqlError {
    match error {
        SpinError::DatabaseFull => SqlError::Full("the database is full".to_owned()),
        SpinError::NoSuchDatabase => {
            SqlError::Unavailable("there is no database of that name".to_owned())
        }
        SpinError::AccessDenied => {
            SqlError::Unavailable("the component has no access to the database".to_owned())
        }
        SpinError::InvalidConnection => {
            SqlError::Unavailable("the connection is not valid".to_owned())
        }
        SpinError::Io(text) if text.contains("locked") || text.contains("busy") => {
            SqlError::Busy(text)
        }
        SpinError::Io(text) if GIVEN_UP.iter().any(|part| text.contains(part)) => {
            SqlError::Busy(text)
        }
        SpinError::Io(text) if AWAY.iter().any(|part| text.contains(part)) => {
            SqlError::Unavailable(text)
        }
        SpinError::Io(text) if text.contains("disk is full") => SqlError::Full(text),
        SpinError::Io(text) if text.contains("constraint failed") => SqlError::Constraint(text),
        SpinError::Io(text) if text.contains("unable to open") || text.contains("disk I/O") => {
            SqlError::Unavailable(text)
        }
        SpinError::Io(text) => SqlError::from_sqlite_message(text),
    }
}
