//! SQL on Spin's PostgreSQL.
//!
//! The host keeps at most 64 connections for each component, and whoever asks for one more waits, for as long as it
//! takes. Ticks and followers of logs live long, so an instance has one connection at most, and only while it works: it is
//! opened when a statement needs it and given back when none did for a moment (`Keeper`). While a statement runs the whole
//! instance waits, so who has a connection is never waiting for another.

mod error;
mod keeper;

pub use keeper::Keeper;

use std::cell::{Cell, RefCell};

use spin_sdk::pg4::{Connection, DbValue, ParameterValue, PgError};
use store::wire::{self, Wire};
use store::{Dialect, Rows, Sql, SqlError, Statement, Value};

use crate::address::Address;
use error::sql_error;

thread_local! {
    /// The connection of this instance, while it has one. An instance has one thread, and one database.
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
    /// How often it was used.
    static USES: Cell<u64> = const { Cell::new(0) };
}

/// A PostgreSQL database, over whatever connection the instance has at the moment. A transaction has no await inside, so that
/// other tasks of the instance cannot get in between.
pub struct SpinPostgres {
    address: Address,
}

impl SpinPostgres {
    /// The database at that address. Nothing is opened yet.
    pub const fn new(address: Address) -> Self {
        Self { address }
    }

    /// Does something with the instance's connection, or with a new one. A connection that failed as such is given up,
    /// so that the next statement has another. Nothing is done again here: what was sent may have been done.
    fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, SqlError>,
    ) -> Result<T, SqlError> {
        let connection = match CONNECTION.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let result = work(&connection);
        if !matches!(result, Err(SqlError::Unavailable(_))) {
            CONNECTION.set(Some(connection));
            USES.set(USES.get().wrapping_add(1));
        }
        result
    }

    fn open(&self) -> Result<Connection, SqlError> {
        Connection::open(self.address.as_str()).map_err(|error| self.not_opened(error))
    }

    /// Whatever the reason: nothing was sent, and the next try may succeed.
    fn not_opened(&self, error: PgError) -> SqlError {
        let text = match error {
            PgError::ConnectionFailed(text)
            | PgError::BadParameter(text)
            | PgError::ValueConversionFailed(text)
            | PgError::Other(text) => text,
            PgError::QueryFailed(_) => sql_error(error).to_string(),
        };
        let text = self.address.hide_in(&text);
        SqlError::Unavailable(if text.contains("not permitted") {
            format!("the variable database_hosts does not allow it: {text}")
        } else {
            text
        })
    }
}

impl Sql for SpinPostgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.with(|connection| wire::query(&Host(connection), statement))
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.with(|connection| wire::transaction(&Host(connection), statements))
    }
}

/// A connection, as the store uses it.
struct Host<'a>(&'a Connection);

impl Wire for Host<'_> {
    type Param = ParameterValue;

    fn param(value: Value) -> ParameterValue {
        match value {
            Value::Null => ParameterValue::DbNull,
            Value::Integer(i) => ParameterValue::Int64(i),
            Value::Real(r) => ParameterValue::Floating64(r),
            Value::Text(t) => ParameterValue::Str(t),
            Value::Blob(b) => ParameterValue::Binary(b),
        }
    }

    fn execute(&self, sql: &str) -> Result<(), SqlError> {
        self.0.execute(sql, &[]).map(|_| ()).map_err(sql_error)
    }

    fn query(&self, sql: &str, params: &[ParameterValue]) -> Result<Rows, SqlError> {
        let answer = self.0.query(sql, params).map_err(sql_error)?;
        let rows = answer
            .rows
            .into_iter()
            .map(|row| row.into_iter().map(value).collect())
            .collect::<Result<_, _>>()?;
        let columns = answer.columns.into_iter().map(|column| column.name);
        Ok(Rows {
            columns: columns.collect(),
            rows,
        })
    }
}

/// Gives the connection back to the host, if the instance has one.
fn give_back() {
    drop(CONNECTION.take());
}

/// Whether the instance has a connection, and how often it used one.
fn in_use() -> Option<u64> {
    CONNECTION.with_borrow(Option::is_some).then(|| USES.get())
}

fn value(value: DbValue) -> Result<Value, SqlError> {
    Ok(match value {
        DbValue::DbNull => Value::Null,
        DbValue::Boolean(b) => b.into(),
        DbValue::Int8(i) => i64::from(i).into(),
        DbValue::Int16(i) => i64::from(i).into(),
        DbValue::Int32(i) => i64::from(i).into(),
        DbValue::Int64(i) => i.into(),
        DbValue::Floating32(r) => Value::Real(r.into()),
        DbValue::Floating64(r) => Value::Real(r),
        DbValue::Str(t) => t.into(),
        DbValue::Binary(b) => b.into(),
        // No statement of the store answers with anything else; the value itself is nobody's business.
        _ => {
            let text = "a column has a type that the store does not use";
            return Err(SqlError::Other(text.to_owned()));
        }
    })
}

#[cfg(test)]
mod tests {
    //! Values on their way there and back.
    use super::*;

    #[test]
    fn every_value_comes_back_as_what_it_was() {
        for (given, stored) in [
            (Value::Null, DbValue::DbNull),
            (Value::Integer(i64::MIN), DbValue::Int64(i64::MIN)),
            (Value::Real(0.5), DbValue::Floating64(0.5)),
            (Value::Text("ä".to_owned()), DbValue::Str("ä".to_owned())),
            (Value::Blob(vec![0, 255]), DbValue::Binary(vec![0, 255])),
        ] {
            let sent = format!("{:?}", Host::param(given.clone()));
            let sent = sent.trim_start_matches("ParameterValue::").to_owned();
            let stored_as = format!("{stored:?}");
            assert_eq!(sent, stored_as.trim_start_matches("DbValue::"));
            assert_eq!(value(stored), Ok(given));
        }
    }

    #[test]
    fn smaller_types_are_taken_and_unknown_ones_refused() {
        assert_eq!(value(DbValue::Boolean(true)), Ok(Value::Integer(1)));
        assert_eq!(value(DbValue::Int32(-7)), Ok(Value::Integer(-7)));
        assert_eq!(value(DbValue::Int16(7)), Ok(Value::Integer(7)));
        let refused = value(DbValue::Decimal("secret".to_owned()));
        assert!(
            matches!(&refused, Err(SqlError::Other(text)) if !text.contains("secret")),
            "{refused:?}"
        );
    }
}
