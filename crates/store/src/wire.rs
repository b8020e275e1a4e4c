//! Statements and transactions over a connection to PostgreSQL as hosts give it.
//!
//! Hosts keep connections, and hand them out again with settings and locks of the session undone, but with the transaction of whoever
//! died in one: what is written on such a connection is never committed. That shows with the first statement, whose
//! answer says so (`Answer::in_transaction`), so that nothing is sent before it to make sure.

use crate::sent::{Answer, Sent};
use crate::sql::{Dialect, Rows, SqlError, Statement, Value, run_in_turn};

/// What PostgreSQL says to a BEGIN in a transaction that has read something, and to any statement in one that has failed, at the
/// beginning of the text that [`SqlError::from_sqlstate`] is given.
const IN_A_TRANSACTION: [&str; 2] = ["25001", "25P02"];

/// A connection to PostgreSQL, by what hosts offer.
pub trait Wire {
    /// A parameter as this one takes it.
    type Param;

    /// The parameter of that value.
    fn param(value: Value) -> Self::Param;

    /// Runs one statement that answers nothing.
    ///
    /// # Errors
    /// As [`SqlError::from_sqlstate`] tells them, with texts that begin with the code.
    fn execute(&self, sql: &str) -> Result<(), SqlError>;

    /// Runs one statement that answers with a row at least.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    fn query(&self, sql: &str, params: &[Self::Param]) -> Result<Rows, SqlError>;
}

/// What [`Sql::query`](crate::Sql::query) does.
///
/// # Errors
/// When the server does not do it.
pub fn query<W: Wire>(wire: &W, statement: Statement) -> Result<Rows, SqlError> {
    let params = params::<W>(statement.params);
    let sent = Sent::of(&statement.sql);
    match run(wire, &sent, &params) {
        Ok(answer) if !answer.in_transaction => Ok(answer.rows),
        Err(error) if !is_of_one_left_open(&error) => Err(error),
        // Undone with what it had got into, and done again by itself.
        Ok(_) | Err(_) => {
            roll_back(wire)?;
            run(wire, &sent, &params).map(|answer| answer.rows)
        }
    }
}

/// What [`Sql::transaction`](crate::Sql::transaction) does. After [`SqlError::Unavailable`] the connection is to be given up,
/// with what may be open on it.
///
/// # Errors
/// When the server does not do it.
pub fn transaction<W: Wire>(
    wire: &W,
    statements: Vec<Statement>,
) -> Result<Option<Vec<Rows>>, SqlError> {
    begin(wire)?;
    let run = |statement: Statement| {
        let params = params::<W>(statement.params);
        run(wire, &Sent::of(&statement.sql), &params).map(|answer| answer.rows)
    };
    let result = match run_in_turn(statements, run) {
        // When its answer is lost, nobody knows what became of it, and the error says so.
        Ok(Some(rows)) => wire.execute("COMMIT").map(|()| Some(rows)),
        other => other,
    };
    match result {
        Ok(Some(rows)) => Ok(Some(rows)),
        Err(SqlError::Unavailable(text)) => Err(SqlError::Unavailable(text)),
        other => roll_back(wire).and(other),
    }
}

fn params<W: Wire>(values: Vec<Value>) -> Vec<W::Param> {
    values.into_iter().map(W::param).collect()
}

fn run<W: Wire>(wire: &W, sent: &Sent<'_>, params: &[W::Param]) -> Result<Answer, SqlError> {
    match sent {
        Sent::Command(sql) => wire.execute(sql).map(|()| Answer::default()),
        Sent::Question(sql) => Answer::of(wire.query(sql, params)?),
    }
}

fn begin(wire: &impl Wire) -> Result<(), SqlError> {
    let begin = || wire.execute(Dialect::Postgres.begin());
    match begin() {
        Err(error) if is_of_one_left_open(&error) => {
            roll_back(wire)?;
            begin()
        }
        other => other,
    }
}

/// Where this fails, nobody knows what the connection is in.
fn roll_back(wire: &impl Wire) -> Result<(), SqlError> {
    wire.execute("ROLLBACK")
        .map_err(|error| SqlError::Unavailable(error.to_string()))
}

/// Whether a statement was refused, and did nothing, since a transaction was left open on its connection.
fn is_of_one_left_open(error: &SqlError) -> bool {
    let SqlError::Other(text) = error else {
        return false;
    };
    IN_A_TRANSACTION.iter().any(|code| text.starts_with(code))
}
