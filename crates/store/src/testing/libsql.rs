//! A libSQL server behind [`Sql`], for tests: the small part of its HTTP protocol (Hrana 2) that the store needs.
//!
//! As Spin's libSQL does, a connection is one stream of the server: statements outside of a transaction are a request each,
//! a transaction is several on one stream, which the server ends when it waits too long for the next.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value as Json, json};

use crate::sql::{Dialect, Rows, Sql, SqlError, Statement, Value, run_in_turn};

/// Longer than the server lets a statement wait for the write lock.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// For so long others may have the lock, each for a moment, and a machine be busy.
const BUSY_LIMIT: Duration = Duration::from_secs(60);

/// The largest answer that is read, in bytes: a few logs.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;

/// A connection to a libSQL server. Clones share the connection.
#[derive(Clone)]
pub struct Libsql {
    agent: ureq::Agent,
    url: Rc<str>,
    /// Which of the server's databases it is.
    namespace: Rc<str>,
    /// Continues the stream of a transaction that has begun; the server gives another with each answer.
    baton: Rc<RefCell<Option<String>>>,
}

impl Libsql {
    /// The database of that name on the server of that URL, such as `http://localhost:8080`.
    pub fn open(url: &str, namespace: &str) -> Self {
        Self {
            agent: agent(),
            url: url.trim_end_matches('/').into(),
            namespace: namespace.into(),
            baton: Rc::default(),
        }
    }

    /// Makes a database of that name; the URL is that of the server's administration.
    ///
    /// # Errors
    /// When the server refuses it, or is not reached.
    pub fn create(admin_url: &str, namespace: &str) -> Result<(), SqlError> {
        let url = format!("{admin_url}/v1/namespaces/{namespace}/create");
        let answer = agent().post(url).send_json(json!({})).map_err(lost)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(SqlError::Other(format!("{status} for a new database"))),
        }
    }

    /// Runs statements, each ended by a semicolon, to prepare or to change what the store does not show.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn execute_batch(&self, sql: &str) -> Result<(), SqlError> {
        self.pipeline(&[json!({ "type": "sequence", "sql": sql })], true)?;
        Ok(())
    }

    /// Sends requests on the stream, and gives the result of each; the stream ends with them when it is to be closed.
    fn pipeline(&self, requests: &[Json], close: bool) -> Result<Vec<Json>, SqlError> {
        let mut requests = requests.to_vec();
        if close {
            requests.push(json!({ "type": "close" }));
        }
        let body = json!({ "baton": self.baton.take(), "requests": requests });
        let url = format!("{}/v2/pipeline", self.url);
        let request = self.agent.post(url);
        // The server goes by the first part of its own name.
        let host = format!("{}.localhost", self.namespace);
        let request = request.header("host", host);
        let mut answer = request.send_json(body).map_err(lost)?;
        let status = answer.status();
        let answer = answer.body_mut().with_config().limit(MAX_ANSWER_BYTES);
        if !status.is_success() {
            let text = answer.read_to_string().map_err(lost)?;
            // A stream that has waited too long is not known any more; what it had begun is rolled back.
            return Err(if text.contains("STREAM_EXPIRED") {
                SqlError::Busy(text)
            } else {
                SqlError::Unavailable(format!("{status}: {text}"))
            });
        }
        let answer: Json = answer.read_json().map_err(lost)?;
        *self.baton.borrow_mut() = answer["baton"].as_str().map(str::to_owned);
        let results = answer["results"].as_array().cloned().unwrap_or_default();
        results.into_iter().map(result).collect()
    }

    fn run(&self, statement: &Statement, close: bool) -> Result<Rows, SqlError> {
        let args: Vec<Json> = statement.params.iter().map(to_hrana).collect();
        let request = json!({
            "type": "execute",
            "stmt": { "sql": statement.sql, "args": args, "want_rows": true },
        });
        let results = self.pipeline(&[request], close)?;
        let result = results.first().map_or(&Json::Null, |r| &r["result"]);
        let list = |value: &Json| value.as_array().cloned().unwrap_or_default();
        let columns = list(&result["cols"]);
        let columns = columns
            .iter()
            .map(|c| c["name"].as_str().unwrap_or_default().to_owned());
        let rows = list(&result["rows"]).into_iter();
        let rows = rows.map(|row| list(&row).into_iter().map(from_hrana).collect());
        Ok(Rows {
            columns: columns.collect(),
            rows: rows.collect::<Result<_, _>>()?,
        })
    }

    fn control(&self, sql: &'static str, close: bool) -> Result<(), SqlError> {
        let statement = Statement {
            sql: sql.into(),
            params: Vec::new(),
            must_change: false,
        };
        self.run(&statement, close).map(|_| ())
    }
}

impl Sql for Libsql {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        patiently(|| self.run(&statement, true))
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        patiently(|| self.try_transaction(&statements))
    }
}

impl Libsql {
    fn try_transaction(&self, statements: &[Statement]) -> Result<Option<Vec<Rows>>, SqlError> {
        self.control(self.dialect().begin(), false)?;
        let result = match run_in_turn(statements, |s| self.run(s, false)) {
            Ok(Some(answers)) => self.control("COMMIT", true).map(|()| Some(answers)),
            other => other,
        };
        // A stream that is closed, or not known any more, is rolled back with it.
        if !matches!(result, Ok(Some(_))) && self.baton.borrow().is_some() {
            self.pipeline(&[], true)?;
        }
        result
    }
}

/// Does it again while others have the lock, as SQLite in the process waits for it: the server gives up after some seconds, which on a busy
/// machine is soon. Nothing was done by what it has refused.
fn patiently<T>(mut work: impl FnMut() -> Result<T, SqlError>) -> Result<T, SqlError> {
    let begun = Instant::now();
    loop {
        match work() {
            Err(SqlError::Busy(_)) if begun.elapsed() < BUSY_LIMIT => {}
            other => return other,
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(ANSWER_TIMEOUT))
        .http_status_as_error(false)
        .build();
    ureq::Agent::new_with_config(config)
}

fn lost(error: ureq::Error) -> SqlError {
    SqlError::Unavailable(error.to_string())
}

fn result(answer: Json) -> Result<Json, SqlError> {
    if answer["type"] == "ok" {
        return Ok(answer["response"].clone());
    }
    let (code, text) = (&answer["error"]["code"], &answer["error"]["message"]);
    let code = code.as_str().unwrap_or_default();
    let text = format!("{code}: {}", text.as_str().unwrap_or_default());
    Err(match code {
        _ if code.starts_with("SQLITE_BUSY") || code.starts_with("SQLITE_LOCKED") => {
            SqlError::Busy(text)
        }
        _ if code.starts_with("SQLITE_CONSTRAINT") => SqlError::Constraint(text),
        "SQLITE_FULL" => SqlError::Full(text),
        "SQLITE_IOERR" | "SQLITE_CANTOPEN" => SqlError::Unavailable(text),
        // The server has ended a transaction that lasted too long, and rolled it back.
        _ if code.contains("TIMEOUT") || text.contains("timed out") => SqlError::Busy(text),
        _ => SqlError::from_sqlite_message(text),
    })
}

fn to_hrana(value: &Value) -> Json {
    match value {
        Value::Null => json!({ "type": "null" }),
        // As text: JSON's numbers do not hold 64 bits everywhere.
        Value::Integer(number) => json!({ "type": "integer", "value": number.to_string() }),
        Value::Real(number) => json!({ "type": "float", "value": number }),
        Value::Text(text) => json!({ "type": "text", "value": text }),
        Value::Blob(bytes) => json!({ "type": "blob", "base64": STANDARD_NO_PAD.encode(bytes) }),
    }
}

fn from_hrana(value: Json) -> Result<Value, SqlError> {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let odd = || {
        SqlError::Other(format!(
            "the server's answer has a value of the type {}",
            value["type"]
        ))
    };
    match value["type"].as_str() {
        Some("null") => Ok(Value::Null),
        Some("integer") => text("value").parse().map(Value::Integer).map_err(|_| odd()),
        Some("float") => value["value"].as_f64().map(Value::Real).ok_or_else(odd),
        Some("text") => Ok(Value::Text(text("value"))),
        Some("blob") => {
            let base64 = text("base64");
            let bytes = STANDARD_NO_PAD.decode(base64.trim_end_matches('='));
            bytes.map(Value::Blob).map_err(|_| odd())
        }
        _ => Err(odd()),
    }
}
