//! A PostgreSQL server behind [`Sql`], for tests.
//!
//! It behaves as Spin's PostgreSQL does where the store can see it: statements are prepared and their parameters
//! have to be of just the types that the server says; one connection per value, one statement per call. As for some Spins, no
//! answer may be without rows.

use std::cell::RefCell;
use std::rc::Rc;

use postgres::types::{FromSql, IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use postgres::{Client, Config, NoTls, Row};

use crate::sent::Sent;
use crate::sql::{Dialect, POSTGRES_OPTIONS, Rows, Sql, SqlError, Statement, Value};
use crate::wire::{self, Wire};

/// What tests look at plans with. The plan is that of the form in which the statement is sent.
const EXPLAIN: &str = "EXPLAIN ";

/// A connection to a schema of a PostgreSQL server. Clones share the connection.
#[derive(Clone)]
pub struct Postgres {
    client: Rc<RefCell<Client>>,
}

impl Postgres {
    /// Connects to the server of that URL or list of settings. The schema need not be there yet.
    ///
    /// # Errors
    /// When the server is not reached, or refuses it.
    pub fn open(address: &str, schema: &str) -> Result<Self, SqlError> {
        let mut config: Config = address
            .parse()
            .map_err(|e: postgres::Error| SqlError::Other(e.to_string()))?;
        config.options(&format!("{POSTGRES_OPTIONS} -c search_path={schema}"));
        let client = config.connect(NoTls).map_err(sql_error)?;
        let client = Rc::new(RefCell::new(client));
        Ok(Self { client })
    }

    /// Runs several statements at once, to prepare or to change what the store does not show.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn execute_batch(&self, sql: &str) -> Result<(), SqlError> {
        let mut client = self.client.borrow_mut();
        client.batch_execute(sql).map_err(sql_error)
    }

    /// The plan of a statement, before which options may stand in parentheses.
    fn explain(&self, explained: &str, params: &[Value]) -> Result<Rows, SqlError> {
        let options = match explained.strip_prefix('(') {
            Some(rest) => rest.find(") ").map_or(0, |end| end + "() ".len()),
            None => 0,
        };
        let (options, sql) = explained.split_at(options);
        let sql = match Sent::of(sql) {
            Sent::Command(command) => command.to_owned(),
            Sent::Question(question) => question.into_owned(),
        };
        Wire::query(self, &format!("{EXPLAIN}{options}{sql}"), params)
    }
}

impl Sql for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        match statement.sql.strip_prefix(EXPLAIN) {
            Some(explained) => self.explain(explained, &statement.params),
            None => wire::query(self, statement),
        }
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        wire::transaction(self, statements)
    }
}

impl Wire for Postgres {
    type Param = Value;

    fn param(value: Value) -> Value {
        value
    }

    fn execute(&self, sql: &str) -> Result<(), SqlError> {
        let mut client = self.client.borrow_mut();
        client.execute(sql, &[]).map(|_| ()).map_err(sql_error)
    }

    /// # Panics
    /// When the answer has no rows: some Spins would never return.
    fn query(&self, sql: &str, params: &[Value]) -> Result<Rows, SqlError> {
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(param).collect();
        let mut client = self.client.borrow_mut();
        let answer = client.query(sql, &params).map_err(sql_error)?;
        let first = answer.first();
        let first = first.unwrap_or_else(|| panic!("this answers with no rows: {sql}"));
        let columns = first.columns().iter().map(|c| c.name().to_owned());
        let columns = columns.collect();
        let rows: Result<_, _> = answer.iter().map(values).collect();
        let rows = rows.map_err(sql_error)?;
        Ok(Rows { columns, rows })
    }
}

/// A NULL of any type.
#[derive(Debug)]
struct AnyNull;

impl ToSql for AnyNull {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

fn param(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Null => &AnyNull,
        Value::Integer(number) => number,
        Value::Real(number) => number,
        Value::Text(text) => text,
        Value::Blob(bytes) => bytes,
    }
}

fn values(row: &Row) -> Result<Vec<Value>, postgres::Error> {
    let get = |(index, column): (usize, &postgres::Column)| match *column.type_() {
        Type::INT8 => value::<i64, _>(row, index, Value::Integer),
        Type::INT4 => value(row, index, |n: i32| i64::from(n).into()),
        Type::FLOAT8 => value::<f64, _>(row, index, Value::Real),
        Type::BYTEA => value::<Vec<u8>, _>(row, index, Value::Blob),
        // Whatever else there is is no text either, and an error.
        _ => value::<String, _>(row, index, Value::Text),
    };
    row.columns().iter().enumerate().map(get).collect()
}

fn value<'a, T: FromSql<'a>, F: FnOnce(T) -> Value>(
    row: &'a Row,
    index: usize,
    wrap: F,
) -> Result<Value, postgres::Error> {
    let value: Option<T> = row.try_get(index)?;
    Ok(value.map_or(Value::Null, wrap))
}

fn sql_error(error: postgres::Error) -> SqlError {
    match error.as_db_error() {
        Some(answer) => {
            let text = format!("{}: {}", answer.code().code(), answer.message());
            SqlError::from_sqlstate(answer.code().code(), text)
        }
        // What does not fit, as against a server that gave no answer.
        None if error.to_string().contains("serializing") => SqlError::Other(error.to_string()),
        None if error.to_string().contains("deserializing") => SqlError::Other(error.to_string()),
        None => SqlError::Unavailable(error.to_string()),
    }
}
