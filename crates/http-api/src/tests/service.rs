//! The API over a real SQLite in memory, an API server of a few lines, and a clock that sleeping moves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use app::{App, Config, Platform, Runtime, StoredLog};
use bytes::Bytes;
use domain::transition::ContainerEnd;
use domain::{Execution, ExecutionId, Observation, Status, transition};
use futures::executor::block_on;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use jiff::Timestamp;
use kubernetes::{Timeouts, Transport, TransportError};
use serde_json::Value;
use store::testing::{Sqlite, ready};
use store::{Dialect, ExecutionStore, Rows, Sql, SqlError, Statement, Written};

use crate::{Afterwards, Body, BodyReader, handle};

/// Everything here is fake but the database.
pub struct Fake;

impl Platform for Fake {
    type Transport = ApiServer;
    type Sql = Counted;
    type Runtime = Clock;
}

/// Counts what is asked of the database: on a server, each is a request or several.
#[derive(Clone)]
pub struct Counted {
    sqlite: Sqlite,
    asked: Rc<Cell<u32>>,
}

impl Sql for Counted {
    fn dialect(&self) -> Dialect {
        self.sqlite.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.asked.set(self.asked.get() + 1);
        self.sqlite.query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.asked.set(self.asked.get() + 1);
        self.sqlite.transaction(statements).await
    }
}

/// The beginning of a method with its path, and the status and body that answer it.
type Scripted = (&'static str, u16, String);

/// Answers by its script; where nothing of that fits, it cannot be reached.
#[derive(Clone, Default)]
pub struct ApiServer(pub Rc<RefCell<Vec<Scripted>>>);

impl Transport for ApiServer {
    type Body = Pieces;

    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Timeouts,
    ) -> Result<http::Response<Pieces>, TransportError> {
        let asked = format!("{} {}", request.method(), request.uri().path());
        let answers = self.0.borrow();
        let (_, status, body) = answers
            .iter()
            .find(|(beginning, _, _)| asked.starts_with(beginning))
            .ok_or_else(|| TransportError::NotSent("connection refused".to_owned()))?;
        let pieces = body.as_bytes().chunks(5).map(Bytes::copy_from_slice);
        let mut response = http::Response::new(Pieces(pieces.collect()));
        *response.status_mut() = StatusCode::from_u16(*status).expect("a status");
        Ok(response)
    }
}

/// A body in pieces.
pub struct Pieces(VecDeque<Bytes>);

impl kubernetes::Body for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        Ok(self.0.pop_front())
    }
}

/// What is done while somebody sleeps.
type Dream = Box<dyn FnOnce()>;

/// A clock that stands still but for sleeping.
#[derive(Clone)]
pub struct Clock {
    now: Rc<Cell<Timestamp>>,
    chance: Rc<Cell<u64>>,
    sleeps: Rc<Cell<u32>>,
    dreams: Rc<RefCell<Vec<(u32, Dream)>>>,
}

impl Clock {
    /// Lets so many seconds pass.
    pub fn advance(&self, seconds: u64) {
        self.now.set(self.now.get() + Duration::from_secs(seconds));
    }
}

impl Runtime for Clock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let mut slept = false;
        futures::future::poll_fn(move |context| {
            if slept {
                return Poll::Ready(());
            }
            slept = true;
            self.now.set(self.now.get() + duration);
            self.sleeps.set(self.sleeps.get() + 1);
            let due = |(sleep, _): &mut (u32, Dream)| *sleep <= self.sleeps.get();
            let dreams: Vec<_> = self.dreams.borrow_mut().extract_if(.., due).collect();
            dreams.into_iter().for_each(|(_, dream)| dream());
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let next = self.chance.get() + 1;
        self.chance.set(next);
        std::array::from_fn(|at| next.to_be_bytes()[at % 8])
    }

    fn log(&self, _: &str, _: &[(&str, &dyn Display)]) {}
}

/// A body that comes in pieces and may break off.
pub struct Upload {
    pub pieces: VecDeque<Bytes>,
    pub breaks: bool,
    pub read: Rc<Cell<usize>>,
}

impl BodyReader for Upload {
    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        match self.pieces.pop_front() {
            None if self.breaks => Err("connection reset".to_owned()),
            piece => {
                self.read
                    .set(self.read.get() + piece.as_ref().map_or(0, Bytes::len));
                Ok(piece)
            }
        }
    }
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    pub afterwards: Option<Afterwards>,
    pub failure: Option<String>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .map(|value| value.to_str().expect("ASCII"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("UTF-8")
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It is a whole problem of that status and kind, whose text contains the detail.
    #[track_caller]
    pub fn is_problem(&self, status: u16, slug: &str, detail: &str) {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
        assert_eq!(
            (problem["status"].as_u64(), self.status),
            (Some(status.into()), status),
            "{problem}"
        );
        for member in ["title", "detail", "instance"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member}: {problem}"
            );
        }
        assert!(self.text().contains(detail), "{detail} not in {problem}");
    }
}

/// The service with all that is under it.
pub struct Service {
    pub app: App<Fake>,
    pub api_server: ApiServer,
    pub clock: Clock,
    pub sqlite: Sqlite,
    asked: Rc<Cell<u32>>,
}

impl Default for Service {
    fn default() -> Self {
        Self::with("", "")
    }
}

impl Service {
    /// A service with one setting changed.
    pub fn with(variable: &str, value: &str) -> Self {
        Self::with_all(&[(variable, value)])
    }

    /// A service with those settings changed.
    pub fn with_all(changed: &[(&str, &str)]) -> Self {
        let config = Config::read(|name| {
            let other = changed.iter().find(|(variable, _)| *variable == name);
            let text = match name {
                _ if other.is_some() => other.map_or("", |(_, value)| *value),
                "kube_url" => "http://127.0.0.1:1",
                "kube_namespace" => "runs",
                "default_image" => "busybox:1.36",
                "allowed_images" => "docker.io/*",
                "max_cpu" => "4",
                "max_memory" => "8Gi",
                "max_ephemeral_storage" => "16Gi",
                "max_running" => "2",
                "max_queued" => "1000",
                "ttl_seconds" => "3600",
                "audit_retention_days" => "90",
                "kubernetes_events" => "none",
                "tick_budget_seconds" => "0.2",
                "pod_profile" => "restricted",
                "pod_user" => "65532:65532",
                _ => "",
            };
            Some(text.to_owned())
        });
        let clock = Clock {
            now: Rc::new(Cell::new(
                "2026-01-31T12:00:00.000042Z".parse().expect("a time"),
            )),
            chance: Rc::default(),
            sleeps: Rc::default(),
            dreams: Rc::default(),
        };
        let (api_server, sqlite) = (ApiServer::default(), Sqlite::memory());
        let config = config.expect("good settings");
        let asked = Rc::default();
        let counted = Counted {
            sqlite: sqlite.clone(),
            asked: Rc::clone(&asked),
        };
        let app = App::new(config, counted, api_server.clone(), clock.clone());
        Self {
            app,
            api_server,
            clock,
            sqlite,
            asked,
        }
    }

    /// How often the database was asked for something since the last call.
    pub fn asked(&self) -> u32 {
        self.asked.take()
    }

    /// Sends a request made by hand.
    #[track_caller]
    pub fn send_body<B: BodyReader>(&self, mut request: Request<B>) -> Answer {
        // As the host says of who calls on this machine.
        let address = HeaderValue::from_static("127.0.0.1:50000");
        let headers = request.headers_mut();
        headers.entry("spin-client-addr").or_insert(address);
        let reply = block_on(handle(&self.app, request));
        let (parts, body) = reply.response.into_parts();
        let mut bytes = Vec::new();
        match body {
            Body::Full(all) => bytes.extend_from_slice(&all),
            Body::Live(mut live) => {
                while let Some(chunk) = block_on(live.chunk(&self.app)).expect("a whole log") {
                    bytes.extend_from_slice(&chunk);
                }
            }
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
            afterwards: reply.afterwards,
            failure: reply.failure,
        }
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Some(Bytes::copy_from_slice(body.as_ref()));
        self.send_body(request.body(body).expect("a request"))
    }

    #[track_caller]
    pub fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, &[], "")
    }

    #[track_caller]
    pub fn post(&self, uri: &str, body: &str) -> Answer {
        self.send("POST", uri, &[], body)
    }

    /// Accepts one execution, and gives its id.
    #[track_caller]
    pub fn accept(&self, body: &str) -> String {
        let answer = self.post("/executions", body);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    }

    /// Does this when the n-th sleep from now begins.
    pub fn at_sleep(&self, n: u32, dream: impl FnOnce() + 'static) {
        let at = self.clock.sleeps.get() + n;
        self.clock.dreams.borrow_mut().push((at, Box::new(dream)));
    }

    /// Lets it run, or its next attempt, to that exit code, with that log, as a tick would.
    pub fn finish(&self, id: &str, exit_code: i32, log: StoredLog) {
        finish(&self.sqlite, id, exit_code, log, self.clock.now.get());
    }
}

/// The same for those who have no service in their hands.
pub fn finish(sqlite: &Sqlite, id: &str, exit_code: i32, log: StoredLog, now: Timestamp) {
    let store = ExecutionStore::new(sqlite.clone());
    let id: ExecutionId = id.parse().expect("an id");
    let mut execution = ready(store.get(id)).expect("a store").expect("known");
    let start = Timestamp::max(now, execution.created_at);
    let end = ContainerEnd {
        exit_code,
        signal: None,
        out_of_memory: false,
        start_error: false,
        message: String::new(),
        started_at: Some(start),
        finished_at: Some(start),
    };
    for observation in [
        Observation::Dispatched,
        Observation::JobExists {
            uid: "u".to_owned(),
        },
        Observation::Started { at: start },
        Observation::Ended(end),
    ] {
        let Some(mut next) = transition(&execution, &observation, start) else {
            continue;
        };
        if let Some(again) = domain::next_attempt(&execution, &next, start) {
            let written = ready(store.retry(&again, &next, &log)).expect("a store");
            assert_eq!(written, Written::Updated);
            return;
        }
        if next.status == Status::Finished {
            next.log = Some(domain::LogSummary {
                bytes: log.bytes,
                lost_bytes: log.lost_bytes,
                complete: log.complete,
            });
            assert_eq!(
                ready(store.finish(&next, &log)).expect("a store"),
                Written::Updated
            );
        } else {
            assert_eq!(
                ready(store.update(&next)).expect("a store"),
                Written::Updated
            );
        }
        execution = next;
    }
    assert_eq!(execution.status, Status::Finished);
}

/// The record as the store has it.
pub fn stored(sqlite: &Sqlite, id: &str) -> Execution {
    let store = ExecutionStore::new(sqlite.clone());
    let id = id.parse().expect("an id");
    ready(store.get(id)).expect("a store").expect("known")
}
