//! The small trait that a database is reached through, and the values that pass it.

use std::borrow::Cow;

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
    /// A constraint of the schema was hurt; nothing was changed.
    #[error("a constraint of the database refuses it: {0}")]
    Constraint(String),
    /// Anything else, such as a missing table.
    #[error("the database refuses it: {0}")]
    Other(String),
}

/// What kind of SQL a database speaks. What differs between them is here and in `migrations/`.
///
/// The next one, PostgreSQL, brings its placeholders (`$1`, with casts where types cannot be told),
/// its `BEGIN`, its own migrations (`BYTEA`, `BIGINT`), and a lock before the two statements that
/// count what runs (inserting and claiming), which SQLite serializes by its single writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite from 3.37 on (STRICT tables, RETURNING, UPDATE FROM), and libSQL.
    Sqlite,
}

impl Dialect {
    /// How a transaction that will write begins. SQLite must take the write lock at once: going
    /// from reading to writing later fails whenever somebody else has written meanwhile.
    pub const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
        }
    }

    /// The placeholder of the parameter with that number, counted from 1.
    pub(crate) fn placeholder(self, number: usize) -> String {
        match self {
            Self::Sqlite => format!("?{number}"),
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

/// Puts a statement together: its text, and its parameters with the placeholders of the dialect.
pub(crate) struct Builder {
    dialect: Dialect,
    sql: String,
    params: Vec<Value>,
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
        self.params.push(value.into());
        self.sql
            .push_str(&self.dialect.placeholder(self.params.len()));
        self
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
        Statement {
            sql: Cow::Owned(self.sql),
            params: self.params,
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
