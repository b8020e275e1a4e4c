//! The protocol's messages as JSON, as far as one statement at a time needs them.
//!
//! Source: the specification of Hrana over HTTP, docs/HRANA_3_SPEC.md of tursodatabase/libsql (version 2 is the same here).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::bindings::spin::sqlite::sqlite::{QueryResult, RowResult, Value as SpinValue};

/// Servers leave out the padding, and take it or leave it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is sent at once on one stream.
#[derive(Serialize)]
pub struct Requests {
    baton: Option<String>,
    requests: [RequestOne; 1],
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum RequestOne {
    Execute { stmt: Statement },
    Close,
}

#[derive(Serialize)]
struct Statement {
    sql: String,
    args: Vec<Value>,
    want_rows: bool,
}

/// Integers are texts, since JSON's numbers are none to every reader.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Value {
    Null,
    Integer { value: String },
    Float { value: f64 },
    Text { value: String },
    Blob { base64: String },
}

/// What is answered at once.
#[derive(Deserialize)]
pub struct Answers {
    /// What the next requests of the stream have to show; none when it is closed.
    pub baton: Option<String>,
    /// Where they have to go, if elsewhere.
    pub base_url: Option<String>,
    /// One for each request.
    pub results: Vec<Answer>,
}

/// The answer to one request.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// It was done.
    Ok {
        /// What came of it.
        response: Response,
    },
    /// It was not.
    Error {
        /// Why.
        error: Refusal,
    },
}

/// What came of a request.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Response {
    /// Of a statement.
    Execute {
        /// Its rows and counts.
        result: StatementResult,
    },
    /// Of what nobody reads.
    #[serde(other)]
    Other,
}

/// Why the server did not do it.
#[derive(Deserialize)]
pub struct Refusal {
    /// The words, SQLite's own among them.
    pub message: String,
    /// Such as `SQLITE_CONSTRAINT_UNIQUE`.
    #[serde(default)]
    pub code: String,
}

/// The rows and counts of a statement.
#[derive(Deserialize)]
pub struct StatementResult {
    cols: Vec<Column>,
    rows: Vec<Vec<Value>>,
    /// How many rows it changed.
    pub affected_row_count: u64,
    last_insert_rowid: Option<String>,
}

#[derive(Deserialize)]
struct Column {
    name: Option<String>,
}

impl Requests {
    /// A statement on the stream that `baton` names, or on a new one.
    pub fn execute(baton: Option<String>, sql: String, parameters: Vec<SpinValue>) -> Requests {
        let stmt = Statement {
            sql,
            args: parameters.into_iter().map(to_server).collect(),
            want_rows: true,
        };
        Requests {
            baton,
            requests: [RequestOne::Execute { stmt }],
        }
    }

    /// The end of a stream.
    pub fn close(baton: String) -> Requests {
        Requests {
            baton: Some(baton),
            requests: [RequestOne::Close],
        }
    }
}

impl StatementResult {
    /// The rowid of the last row that was inserted on the stream, if the server tells.
    pub fn last_insert_rowid(&self) -> Option<i64> {
        self.last_insert_rowid.as_ref()?.parse().ok()
    }

    /// The rows as the guest gets them.
    ///
    /// # Errors
    /// A value breaks the protocol.
    pub fn into_rows(self) -> Result<QueryResult, String> {
        let row = |values: Vec<Value>| {
            let values = values.into_iter().map(from_server);
            values
                .collect::<Result<_, _>>()
                .map(|values| RowResult { values })
        };
        Ok(QueryResult {
            columns: self
                .cols
                .into_iter()
                .map(|column| column.name.unwrap_or_default())
                .collect(),
            rows: self.rows.into_iter().map(row).collect::<Result<_, _>>()?,
        })
    }
}

fn to_server(value: SpinValue) -> Value {
    match value {
        SpinValue::Null => Value::Null,
        SpinValue::Integer(value) => Value::Integer {
            value: value.to_string(),
        },
        SpinValue::Real(value) => Value::Float { value },
        SpinValue::Text(value) => Value::Text { value },
        SpinValue::Blob(bytes) => Value::Blob {
            base64: BASE64.encode(bytes),
        },
    }
}

fn from_server(value: Value) -> Result<SpinValue, String> {
    Ok(match value {
        Value::Null => SpinValue::Null,
        Value::Integer { value } => SpinValue::Integer(
            value
                .parse()
                .map_err(|error| format!("{value:?} is no integer: {error}"))?,
        ),
        Value::Float { value } => SpinValue::Real(value),
        Value::Text { value } => SpinValue::Text(value),
        Value::Blob { base64 } => SpinValue::Blob(
            BASE64
                .decode(base64)
                .map_err(|error| format!("a blob is no base64: {error}"))?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_written_as_the_protocol_says() {
        let parameters = vec![
            SpinValue::Integer(i64::MIN),
            SpinValue::Real(0.5),
            SpinValue::Text("t".to_owned()),
            SpinValue::Blob(vec![0, 255]),
            SpinValue::Null,
        ];
        let requests = Requests::execute(None, "SELECT 1".to_owned(), parameters);
        let expected = serde_json::json!({"baton": null, "requests": [{"type": "execute", "stmt": {
        "sql": "SELECT 1", "want_rows": true, "args": [
            {"type": "integer", "value": "-9223372036854775808"}, {"type": "float", "value": 0.5},
            {"type": "text", "value": "t"}, {"type": "blob", "base64": "AP8"}, {"type": "null"},
        ]}}]});
        assert_eq!(serde_json::to_value(requests).unwrap(), expected);
        let close = serde_json::to_value(Requests::close("b".to_owned())).unwrap();
        assert_eq!(
            close,
            serde_json::json!({"baton": "b", "requests": [{"type": "close"}]})
        );
    }

    #[test]
    fn an_answer_is_read_as_the_protocol_says() {
        let text = r#"{"baton": "b", "base_url": null, "results": [
            {"type": "ok", "response": {"type": "execute", "result": {
                "cols": [{"name": "a", "decltype": "TEXT"}, {"name": null}],
                "rows": [[{"type": "blob", "base64": "AP8="}, {"type": "float", "value": 3}]],
                "affected_row_count": 2, "last_insert_rowid": "7", "rows_read": 1}}},
            {"type": "ok", "response": {"type": "close"}},
            {"type": "error", "error": {"message": "m", "code": "c"}}]}"#;
        let mut answers: Answers = serde_json::from_str(text).unwrap();
        assert!(matches!(&answers.results[2], Answer::Error { error } if error.message == "m"));
        let Answer::Ok {
            response: Response::Execute { result },
        } = answers.results.remove(0)
        else {
            panic!("it is an answer to a statement")
        };
        assert_eq!(result.affected_row_count, 2);
        assert_eq!(result.last_insert_rowid(), Some(7));
        let rows = result.into_rows().unwrap();
        assert_eq!(rows.columns, ["a", ""]);
        let [SpinValue::Blob(bytes), SpinValue::Real(3.0)] = &rows.rows[0].values[..] else {
            panic!("{:?}", rows.rows)
        };
        assert_eq!(bytes, &[0, 255]);
    }
}
