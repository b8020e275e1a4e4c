//! Errors of tokio-postgres as the guest sees them: what PostgreSQL said with its code, all else in words.

use std::error::Error as _;

use tokio_postgres::error::DbError as Said;

use crate::bindings::spin::postgres::postgres::{DbError, Error, QueryError};

/// A statement that failed, or whose answer did not come.
pub fn query_failed(error: &tokio_postgres::Error) -> Error {
    let Some(said) = error.as_db_error() else {
        return text(in_words(error));
    };
    Error::QueryFailed(QueryError::DbError(DbError {
        as_text: in_words(error),
        severity: said.severity().to_owned(),
        code: said.code().code().to_owned(),
        message: said.message().to_owned(),
        detail: said.detail().map(str::to_owned),
        extras: extras(said),
    }))
}

/// A failure that PostgreSQL did not tell of itself.
pub fn text(text: String) -> Error {
    Error::QueryFailed(QueryError::Text(text))
}

/// The error and its causes, in one line.
pub fn in_words(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

/// What else PostgreSQL said, under the names that Spin gives it.
fn extras(said: &Said) -> Vec<(String, String)> {
    let line = said.line().map(|line| line.to_string());
    let fields = [
        ("column", said.column()),
        ("constraint", said.constraint()),
        ("routine", said.routine()),
        ("hint", said.hint()),
        ("table", said.table()),
        ("datatype", said.datatype()),
        ("schema", said.schema()),
        ("file", said.file()),
        ("line", line.as_deref()),
        ("where_", said.where_()),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect()
}
