//! A libSQL server behind `spin:sqlite`: each connection of a guest is one stream of the Hrana protocol over HTTP, as in Spin.
//!
//! Spin has the crate `libsql` for it, which brings an HTTP stack of its own (hyper 0.14) and a parser of SQL. This is the little of
//! the protocol that is needed, on the HTTP client that devhost has already. The errors have the words of that crate, since guests
//! have nothing else to tell them apart by.

mod hrana;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::bindings::spin::sqlite::sqlite::{Error, QueryResult, Value};
use crate::connector::{CONNECT_TIMEOUT, Connector};
use crate::sqlite::RESULT_LIMIT_BYTES;
use crate::tls::TlsConfigs;

/// How long a connection to the server may take to come about. Spin waits for as long as TCP does.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a statement may take, with everything. Spin waits for ever; here nothing is to hang.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Where the protocol's requests go, below the server's URL.
const PIPELINE: &str = "/v2/pipeline";

/// One server of the runtime configuration.
pub struct Server {
    url: String,
    authorization: HeaderValue,
    client: Client<Connector, Full<Bytes>>,
}

impl Server {
    /// The server at `url`, to which `token` is shown. It is not called yet.
    ///
    /// # Errors
    /// The URL is not one of HTTP, or the token cannot be sent.
    pub fn new(url: &str, token: &str) -> Result<Server> {
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "the url {url:?} does not start with \"http://\" or \"https://\""
        );
        let mut authorization = HeaderValue::from_str(&format!("Bearer {token}"))
            .context("the token has characters that no token has")?;
        authorization.set_sensitive(true);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .build(Connector::new(TlsConfigs::default()));
        Ok(Server {
            url: url.trim_end_matches('/').to_owned(),
            authorization,
            client,
        })
    }

    /// Sends requests of one stream to `url`, which is the server's own or what it named instead.
    async fn send(&self, url: &str, requests: &hrana::Requests) -> Result<hrana::Answers, Error> {
        let body = serde_json::to_vec(requests).map_err(|error| no_answer("json", &error))?;
        let request = Request::post(format!("{url}{PIPELINE}"))
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(|error| no_answer("http", &error))?;
        let exchange = CONNECT_TIMEOUT.scope(CONNECT_LIMIT, self.exchange(request));
        let (status, body) = timeout(ANSWER_LIMIT, exchange)
            .await
            .map_err(|_| in_words("http", &format!("no answer in {ANSWER_LIMIT:?}")))??;
        if status != StatusCode::OK {
            let body = String::from_utf8_lossy(&body);
            return Err(in_words("api", &format!("status={status}, body={body}")));
        }
        serde_json::from_slice(&body).map_err(|error| no_answer("json", &error))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), Error> {
        let response = self.client.request(request).await;
        let (head, body) = response
            .map_err(|error| no_answer("http", &error))?
            .into_parts();
        let body = Limited::new(body, RESULT_LIMIT_BYTES).collect().await;
        let body = body.map_err(|error| no_answer("http", &*error))?;
        Ok((head.status, body.to_bytes()))
    }
}

/// A guest's connection. Its transaction lives on the server, which forgets it when nothing comes for some seconds.
pub struct Stream {
    server: Arc<Server>,
    url: String,
    /// What the server knows the stream by, once there is one. Where an answer is lost it stays, so that all that follows fails:
    /// on a new stream, the rest of a transaction would be committed bit by bit.
    baton: Option<String>,
    changes: u64,
    last_insert_rowid: i64,
}

impl Stream {
    /// A stream that begins with its first statement.
    pub fn new(server: Arc<Server>) -> Stream {
        Stream {
            url: server.url.clone(),
            server,
            baton: None,
            changes: 0,
            last_insert_rowid: 0,
        }
    }

    /// How many rows the last statement changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The rowid of the last row that was inserted, 0 before the first.
    pub fn last_insert_rowid(&self) -> i64 {
        self.last_insert_rowid
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// The server refuses it or is not reached; `Io` with the words.
    pub async fn execute(
        &mut self,
        statement: String,
        parameters: Vec<Value>,
    ) -> Result<QueryResult, Error> {
        let requests = hrana::Requests::execute(self.baton.clone(), statement, parameters);
        let answers = self.server.send(&self.url, &requests).await?;
        self.baton = answers.baton;
        if let Some(url) = answers.base_url {
            self.url = url.trim_end_matches('/').to_owned();
        }
        match answers.results.into_iter().next() {
            Some(hrana::Answer::Ok {
                response: hrana::Response::Execute { result },
            }) => {
                self.changes = result.affected_row_count;
                if let Some(rowid) = result.last_insert_rowid() {
                    self.last_insert_rowid = rowid;
                }
                result
                    .into_rows()
                    .map_err(|reason| in_words("json", &reason))
            }
            Some(hrana::Answer::Error { error }) => Err(in_words(
                "cursor",
                &format!(
                    "error at step 0: (error code: {}) `{}`",
                    error.code, error.message
                ),
            )),
            _ => Err(in_words("json", "the server gave no result")),
        }
    }
}

impl Drop for Stream {
    /// Has the server close it, which rolls back what was not committed.
    fn drop(&mut self) {
        let (Some(baton), Ok(runtime)) = (self.baton.take(), Handle::try_current()) else {
            return;
        };
        let (server, url) = (Arc::clone(&self.server), std::mem::take(&mut self.url));
        runtime.spawn(async move {
            // A server that does not hear it closes the stream some seconds later.
            let _ = server.send(&url, &hrana::Requests::close(baton)).await;
        });
    }
}

/// An error and its causes in words.
fn no_answer(kind: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    in_words(kind, &words)
}

fn in_words(kind: &str, words: &str) -> Error {
    Error::Io(format!("Hrana: `{kind} error: `{words}``"))
}
