//! The small trait that a database is reached through, and the values that pass it.

use std::borrow::{Borrow, Cow};

/// A database's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A whole number; booleans are 0 and 1, times are microseconds since 1970.
    Integer(i64),
    /// A fraction.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl Value {
    /// Moves it out, and leaves nothing in its place.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Null)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Integer(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One SQL statement with its parameters, in the order of their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// The text: exactly one statement, in the dialect of the [`Sql`] that it is for.
    pub sql: Cow<'static, str>,
    /// The values of the placeholders 1, 2, 3, …
    pub params: Vec<Value>,
    /// In a transaction: when this statement gives back no row, everything is rolled back and the
    /// answer is none. Such a statement has a RETURNING clause, so no count of changes is needed.
    pub must_change: bool,
}

/// What a statement gives back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The names of the columns; the store goes by position and does not read them.
    pub columns: Vec<String>,
    /// The rows, each with one value per column.
    pub rows: Vec<Vec<Value>>,
}

/// Why the database did not do it. The text is the database's own, and for operators only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// Locked by others for too long; nothing was changed, trying again may do it.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// No space is left.
    #[error("the database is full: {0}")]
    Full(String),
    /// Not reached, or its answer was lost: what was asked for may have been done.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// It has not the table, the column, the function or the index that a statement names; nothing was changed. As a rule its schema is that of an
    /// earlier version.
    #[error("the database's schema is another: {0}")]
    Schema(String),
    /// A constraint of the schema was hurt; nothing was changed.
    #[error("a constraint of the database refuses it: {0}")]
    Constraint(String),
    /// Anything else, such as a permission that is missing.
    #[error("the database refuses it: {0}")]
    Other(String),
}

impl SqlError {
    /// What happened, without the database's own words.
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::Busy(_) => "the database is busy",
            Self::Full(_) => "the database is full",
            Self::Unavailable(_) => "the database cannot be reached",
            Self::Schema(_) => "the database's schema is another",
            Self::Constraint(_) => "a constraint of the database refuses it",
            Self::Other(_) => "the database refuses it",
        }
    }

    /// What PostgreSQL's error code (SQLSTATE, five characters) means here, with its text. Every adapter
    /// tells errors apart by this.
    pub fn from_sqlstate(code: &str, text: String) -> Self {
        match code {
            // Serialization failure, deadlock, and a wait for a lock or a statement that took too long: rolled back.
            "40001" | "40P01" | "55P03" | "57014" => Self::Busy(text),
            "53100" => Self::Full(text),
            // A statement or a transaction of which nobody knows, a connection's end by the server, and a server that only reads:
            // a standby, until it takes over.
            "40003" | "25P03" | "25P04" | "25006" => Self::Unavailable(text),
            // Connections, resources (too many connections for one), operators' interventions, and the system below.
            _ if ["08", "53", "57P", "58"]
                .iter()
                .any(|class| code.starts_with(class)) =>
            {
                Self::Unavailable(text)
            }
            _ if code.starts_with("23") => Self::Constraint(text),
            // No such table, no such column, no such function, and no unique index of that kind for an ON CONFLICT.
            "42P01" | "42703" | "42883" | "42P10" => Self::Schema(text),
            _ => Self::Other(text),
        }
    }

    /// What a message of SQLite means here that is about the statement. Every adapter tells these apart by it.
    pub fn from_sqlite_message(text: String) -> Self {
        if LACKING.iter().any(|part| text.contains(part)) {
            Self::Schema(text)
        } else {
            Self::Other(text)
        }
    }
}

/// What SQLite says where the schema has not what a statement names.
const LACKING: [&str; 4] = [
    "no such table",
    "no such column",
    "has no column named",
    "ON CONFLICT clause does not match",
];

/// What every connection to PostgreSQL is opened with, as its `options`: nobody waits longer for a lock than SQLite's
/// host does, and what a holder of locks that is gone has begun is rolled back soon, in milliseconds; and a transaction that was
/// left open shows (`sent.rs`).
pub const POSTGRES_OPTIONS: &str = "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000 \
     -c default_transaction_deferrable=off";

/// What kind of SQL a database speaks. What differs between them is here, in `turns.rs` and in `migrations/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite from 3.38 on (STRICT tables, RETURNING, UPDATE FROM, functions of JSON), and libSQL.
    Sqlite,
    /// PostgreSQL from 14 on. Parameters are BIGINT, DOUBLE PRECISION, TEXT and BYTEA, and NULLs of any type; answers may
    /// have INTEGERs too. Texts hold no NUL character there, so it is replaced.
    Postgres,
}

impl Dialect {
    /// How a transaction that will write begins. SQLite must take the write lock at once: going
    /// from reading to writing later fails whenever somebody else has written meanwhile.
    pub const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            // Each statement sees what was committed before it. The level is said since a server may have another default; the
            // last word makes no difference at that level but shows where one was left open (`sent.rs`).
            Self::Postgres => "BEGIN ISOLATION LEVEL READ COMMITTED DEFERRABLE",
        }
    }

    /// What stands before the number of a placeholder, and behind it.
    const fn placeholder(self, value: &Value) -> (&'static str, &'static str) {
        match self {
            Self::Sqlite => ("?", ""),
            // PostgreSQL takes a parameter's type from the place where it stands, and tells drivers; where the place says
            // nothing or INTEGER, the value that comes would be refused.
            Self::Postgres => match value {
                // Takes the type of its place.
                Value::Null => ("$", ""),
                Value::Integer(_) => ("$", "::BIGINT"),
                Value::Real(_) => ("$", "::DOUBLE PRECISION"),
                Value::Text(_) => ("$", "::TEXT"),
                Value::Blob(_) => ("$", "::BYTEA"),
            },
        }
    }

    /// The value as this database can hold it.
    pub(crate) fn fitting(self, value: Value) -> Value {
        match value {
            Value::Text(text) => match self.held(&text) {
                Cow::Owned(held) => Value::Text(held),
                Cow::Borrowed(_) => Value::Text(text),
            },
            value => value,
        }
    }

    /// The text as this database can hold it.
    pub(crate) fn held(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Postgres if text.contains('\0') => text.replace('\0', "\u{FFFD}").into(),
            _ => text.into(),
        }
    }

    /// The function that gives the largest of its arguments.
    pub(crate) const fn greatest(self) -> &'static str {
        match self {
            Self::Sqlite => "max",
            Self::Postgres => "greatest",
        }
    }
}

/// A connection to a database. One per component instance; the futures need not be `Send`.
///
/// An implementation must not let another call of the same connection come between the `BEGIN`
/// and the `COMMIT` of [`transaction`](Sql::transaction): with the synchronous calls of Spin's host
/// that holds when it awaits nothing in between, also when several tasks share the connection.
#[expect(
    async_fn_in_trait,
    reason = "components have one thread, so nobody needs Send futures"
)]
pub trait Sql {
    /// The dialect that statements must be written in.
    fn dialect(&self) -> Dialect;

    /// Runs one statement, which commits by itself.
    async fn query(&self, statement: Statement) -> Result<Rows, SqlError>;

    /// Runs all statements or none, begun by [`Dialect::begin`], and gives the rows of each.
    ///
    /// Gives none, with everything rolled back, when a statement that
    /// [must change](Statement::must_change) something gave back no row. On an error everything is
    /// rolled back too, before the error is returned: also when it came from the `COMMIT`.
    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError>;
}

/// What an implementation of [`Sql::transaction`] does between its `BEGIN` and its end: runs one statement after the other and
/// gives the rows of each; none as soon as one that [must change](Statement::must_change) something gave back no row.
///
/// # Errors
/// The first error of `run`; nothing is run after it.
pub fn run_in_turn<S: Borrow<Statement>>(
    statements: impl IntoIterator<Item = S>,
    mut run: impl FnMut(S) -> Result<Rows, SqlError>,
) -> Result<Option<Vec<Rows>>, SqlError> {
    let mut answers = Vec::new();
    for statement in statements {
        let must_change = statement.borrow().must_change;
        let rows = run(statement)?;
        if must_change && rows.rows.is_empty() {
            return Ok(None);
        }
        answers.push(rows);
    }
    Ok(Some(answers))
}

impl<S: Sql> Sql for &S {
    fn dialect(&self) -> Dialect {
        (**self).dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        (**self).query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        (**self).transaction(statements).await
    }
}

/// About as long is a placeholder, in bytes.
const PLACEHOLDER: usize = 12;

/// Puts a statement together: its text, and its parameters. They are numbered when it is done, so that one can be made a
/// part of another.
pub(crate) struct Builder {
    dialect: Dialect,
    /// The text without its placeholders.
    sql: String,
    /// The values, each with the place of its placeholder in the text, in bytes.
    params: Vec<(usize, Value)>,
}

impl Builder {
    pub(crate) const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            sql: String::new(),
            params: Vec::new(),
        }
    }

    /// Adds text as it is. Never a caller's: those are bound.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.sql.push_str(text);
        self
    }

    /// Adds a placeholder with its value.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        let value = self.dialect.fitting(value.into());
        self.params.push((self.sql.len(), value));
        self
    }

    /// Adds all of another.
    pub(crate) fn part(mut self, other: Self) -> Self {
        let before = self.sql.len();
        self.sql.push_str(&other.sql);
        let params = other.params.into_iter();
        self.params
            .extend(params.map(|(place, value)| (before + place, value)));
        self
    }

    /// Adds text where the database is PostgreSQL.
    pub(crate) fn postgres(self, text: &str) -> Self {
        match self.dialect {
            Dialect::Sqlite => self,
            Dialect::Postgres => self.text(text),
        }
    }

    /// The dialect that it is written in.
    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Adds something for each item, with commas between.
    pub(crate) fn commas<T>(
        mut self,
        items: impl IntoIterator<Item = T>,
        mut add: impl FnMut(Self, T) -> Self,
    ) -> Self {
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.sql.push_str(", ");
            }
            self = add(self, item);
        }
        self
    }

    pub(crate) fn statement(self) -> Statement {
        let mut sql = String::with_capacity(self.sql.len() + PLACEHOLDER * self.params.len());
        let mut params = Vec::with_capacity(self.params.len());
        let mut done = 0;
        for (number, (place, value)) in (1_usize..).zip(self.params) {
            let (before, behind) = self.dialect.placeholder(&value);
            sql.push_str(&self.sql[done..place]);
            sql.push_str(before);
            sql.push_str(&number.to_string());
            sql.push_str(behind);
            params.push(value);
            done = place;
        }
        sql.push_str(&self.sql[done..]);
        Statement {
            sql: Cow::Owned(sql),
            params,
            must_change: false,
        }
    }

    /// A statement that rolls its transaction back when it gives back no row.
    pub(crate) fn must_change(self) -> Statement {
        Statement {
            must_change: true,
            ..self.statement()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_postgresql_say_their_types() {
        let statement = Builder::new(Dialect::Postgres)
            .text("SELECT ")
            .commas(
                [Value::Null, 1_i64.into(), "a\0b".into(), vec![0_u8].into()],
                |b, value| b.bind(value),
            )
            .statement();
        assert_eq!(statement.sql, "SELECT $1, $2::BIGINT, $3::TEXT, $4::BYTEA");
        assert_eq!(
            statement.params[2],
            "a\u{FFFD}b".into(),
            "it holds no NUL in a text"
        );
        let statement = Builder::new(Dialect::Sqlite).bind("a\0b").statement();
        assert_eq!(
            (statement.sql.as_ref(), &statement.params[..]),
            ("?1", &["a\0b".into()][..])
        );
    }

    #[test]
    fn parameters_are_numbered_when_all_parts_are_there() {
        let part = |value: i64| Builder::new(Dialect::Sqlite).text("b = ").bind(value);
        let statement = Builder::new(Dialect::Sqlite)
            .text("a = ")
            .bind(1_i64)
            .text(" AND ")
            .part(part(2))
            .part(Builder::new(Dialect::Sqlite).bind(3_i64).text(" OR "))
            .part(part(4))
            .text(" AND c")
            .statement();
        assert_eq!(statement.sql, "a = ?1 AND b = ?2?3 OR b = ?4 AND c");
        assert_eq!(statement.params, [1, 2, 3, 4].map(|n: i64| n.into()));
    }

    #[test]
    fn codes_of_postgresql_are_told_apart() {
        let text = || String::from("text");
        for (code, expected) in [
            ("40001", SqlError::Busy(text())),
            ("40P01", SqlError::Busy(text())),
            ("55P03", SqlError::Busy(text())),
            ("53100", SqlError::Full(text())),
            ("57P01", SqlError::Unavailable(text())),
            ("57P03", SqlError::Unavailable(text())),
            ("08006", SqlError::Unavailable(text())),
            ("25006", SqlError::Unavailable(text())),
            ("53200", SqlError::Unavailable(text())),
            ("53300", SqlError::Unavailable(text())),
            ("58030", SqlError::Unavailable(text())),
            ("23505", SqlError::Constraint(text())),
            ("42P01", SqlError::Schema(text())),
            ("42703", SqlError::Schema(text())),
            ("42501", SqlError::Other(text())),
        ] {
            assert_eq!(SqlError::from_sqlstate(code, text()), expected, "{code}");
        }
    }
}
