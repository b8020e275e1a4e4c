//! What the errors of Spin's PostgreSQL mean to the store.

use spin_sdk::pg4::{PgError, QueryError};
use store::SqlError;

/// What a text without PostgreSQL's code says where the statement and its values do not fit, by the client's names for it and by
/// its sentences. Any other such text is about the connection: it closed, or the server spoke nonsense.
const MISFITS: [&str; 8] = [
    "kind: ToSql",
    "kind: FromSql",
    "kind: Column",
    "kind: Parameters",
    "kind: Encode",
    "serializing",
    "exceeds limit",
    "PostgreSQL type",
];

/// What an error of a statement means.
pub fn sql_error(error: PgError) -> SqlError {
    match error {
        PgError::QueryFailed(QueryError::DbError(answer)) => {
            answered(&answer.code, &answer.message)
        }
        PgError::QueryFailed(QueryError::Text(text)) => of_text(text),
        PgError::ConnectionFailed(text) => SqlError::Unavailable(text),
        PgError::BadParameter(text)
        | PgError::ValueConversionFailed(text)
        | PgError::Other(text) => SqlError::Other(text),
    }
}

/// PostgreSQL's own answer. Its message is in one language and names tables, never values; its details do.
fn answered(code: &str, message: &str) -> SqlError {
    SqlError::from_sqlstate(code, format!("{code}: {message}"))
}

/// Spin 4 gives the errors of statements that were begun as a text: the record with the code and the message, as Rust prints it.
fn of_text(text: String) -> SqlError {
    let code = quoted(&text, " code: \"").filter(|code| {
        code.len() == 5
            && code
                .bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    });
    match code {
        Some(code) => {
            let (_, rest) = text.split_once(" code: \"").unwrap_or_default();
            answered(code, quoted(rest, " message: \"").unwrap_or_default())
        }
        None if MISFITS.iter().any(|misfit| text.contains(misfit)) => SqlError::Other(text),
        None => SqlError::Unavailable(text),
    }
}

/// What stands between that beginning and the next quotation mark. Quotation marks inside of texts are printed with a backslash,
/// so that no beginning is found in there, and a text that has one ends at the backslash before it.
fn quoted<'a>(text: &'a str, beginning: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(beginning)?;
    let (inside, _) = rest.split_once('"')?;
    Some(inside.trim_end_matches('\\'))
}

#[cfg(test)]
mod tests {
    //! Errors as Spin gives them.
    use super::*;

    #[test]
    fn a_code_in_a_text_counts() {
        // As Spin 4.1 prints a unique violation while rows are read.
        let text = "Error::QueryFailed(QueryError::DbError(DbError { as-text: \"Error { kind: Db, cause: Some(DbError { \
                    severity: \\\"ERROR\\\", code: SqlState(E23505), message: \\\"duplicate key\\\" }) }\", \
                    severity: \"ERROR\", code: \"23505\", message: \"duplicate key value violates \\\"x\\\"\", \
                    detail: Some(\"Key (k)=(secret) already exists.\"), extras: [] }))";
        let expected = "23505: duplicate key value violates ";
        assert_eq!(
            sql_error(PgError::QueryFailed(QueryError::Text(text.to_owned()))),
            SqlError::Constraint(expected.to_owned())
        );
    }

    #[test]
    fn a_text_without_a_code_is_about_the_connection_or_about_values() {
        for (text, lost) in [
            ("Error { kind: Closed, cause: None }", true),
            ("connection closed", true),
            ("Error { kind: Io, cause: Some(Os { code: 104 }) }", true),
            ("Error { kind: UnexpectedMessage, cause: None }", true),
            ("Error { kind: ToSql(3), cause: Some(WrongType {}) }", false),
            ("error deserializing column 0", false),
            ("query result exceeds limit of 134217728 bytes", false),
        ] {
            let error = sql_error(PgError::QueryFailed(QueryError::Text(text.to_owned())));
            assert_eq!(matches!(error, SqlError::Unavailable(_)), lost, "{text}");
            assert_eq!(matches!(error, SqlError::Other(_)), !lost, "{text}");
        }
    }
}
