//! What is under the use cases here: an SQLite in memory that forgets each input, an API server of a few lines, and a clock that
//! sleeping moves. All of it is the same for the same input.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use kubernetes::{Job, Timeouts, TransportError};
use serde_json::Value;
use store::testing::{Sqlite, ready};
use store::{Dialect, Rows, Sql, SqlError, Statement};

/// When everything happens, until somebody sleeps.
pub const NOW: &str = "2026-01-31T12:00:00.000042Z";

/// A future that waits longer than this for nothing but our clock never ends, in steps.
const MAX_STEPS: u32 = 100_000;

/// The largest request that etcd takes, in bytes: nothing that is accepted may need a larger one.
const MAX_OBJECT_BYTES: usize = 3 << 19;

/// Everything is fake but the database.
pub struct Fake;

impl app::Platform for Fake {
    type Transport = ApiServer;
    type Sql = Undone;
    type Runtime = Clock;
}

/// A database within one transaction, which is rolled back when the last clone is gone.
#[derive(Clone)]
pub struct Undone(Rc<Open>);

struct Open {
    sqlite: Sqlite,
    stays: bool,
}

impl Undone {
    /// Begins that transaction; what stays is committed all the same.
    pub fn begin(sqlite: &Sqlite, stays: bool) -> Self {
        control(sqlite, "BEGIN");
        let sqlite = sqlite.clone();
        Self(Rc::new(Open { sqlite, stays }))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        control(&self.sqlite, if self.stays { "COMMIT" } else { "ROLLBACK" });
    }
}

fn control(sqlite: &Sqlite, sql: &str) {
    let done = sqlite.connection().execute_batch(sql);
    done.expect("SQLite begins and ends transactions");
}

impl Sql for Undone {
    fn dialect(&self) -> Dialect {
        self.0.sqlite.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.0.sqlite.query(statement).await
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        let sqlite = &self.0.sqlite;
        control(sqlite, "SAVEPOINT one");
        let result = store::run_in_turn(statements, |s| ready(sqlite.query(s)));
        if !matches!(result, Ok(Some(_))) {
            control(sqlite, "ROLLBACK TO one");
        }
        control(sqlite, "RELEASE one");
        result
    }
}

/// An API server with no object in it that takes all that is created. It looks at what it is sent.
#[derive(Clone, Default)]
pub struct ApiServer {
    /// The Jobs that were created.
    pub jobs: Rc<RefCell<Vec<Job>>>,
}

impl kubernetes::Transport for ApiServer {
    type Body = Pieces;

    async fn send(
        &self,
        request: Request<Vec<u8>>,
        _: Timeouts,
    ) -> Result<Response<Pieces>, TransportError> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        assert!(path.starts_with('/') && body.len() <= MAX_OBJECT_BYTES);
        let (status, answer) = match parts.method {
            Method::POST | Method::PATCH => {
                let object: Value = serde_json::from_slice(&body).expect("objects are JSON");
                if path.ends_with("/jobs") {
                    let job = serde_json::from_value(object.clone()).expect("a Job");
                    self.jobs.borrow_mut().push(job);
                }
                (201, with_uid(object).to_string())
            }
            _ if path == "/readyz" => (200, "ok".to_owned()),
            _ if path.ends_with("/jobs")
                || path.ends_with("/pods")
                || path.ends_with("/events") =>
            {
                let list = r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#;
                (200, list.to_owned())
            }
            _ => {
                let status = r#"{"kind":"Status","code":404,"reason":"NotFound"}"#;
                (404, status.to_owned())
            }
        };
        let mut response = Response::new(Pieces::of(&[answer.as_bytes()], false));
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        Ok(response)
    }
}

fn with_uid(mut object: Value) -> Value {
    object["metadata"]["uid"] = "u".into();
    object
}

/// A body in pieces, which ends well or breaks off.
#[derive(Default)]
pub struct Pieces {
    pieces: VecDeque<Bytes>,
    breaks: bool,
}

impl Pieces {
    pub fn of(pieces: &[&[u8]], breaks: bool) -> Self {
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        Self {
            pieces: pieces.collect(),
            breaks,
        }
    }
}

impl kubernetes::Body for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        match self.pieces.pop_front() {
            None if self.breaks => Err(TransportError::Unknown("broken off".to_owned())),
            piece => Ok(piece),
        }
    }
}

impl http_api::BodyReader for Pieces {
    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        match self.pieces.pop_front() {
            None if self.breaks => Err("broken off".to_owned()),
            piece => Ok(piece),
        }
    }
}

/// A clock that stands still but for sleeping.
#[derive(Clone)]
pub struct Clock {
    now: Rc<Cell<Timestamp>>,
    chance: Rc<Cell<u64>>,
}

impl Clock {
    /// A clock, and the beginning of its chances.
    pub fn new(chance: u64) -> Self {
        Self {
            now: Rc::new(Cell::new(NOW.parse().expect("a time"))),
            chance: Rc::new(Cell::new(chance)),
        }
    }
}

impl app::Runtime for Clock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let mut slept = false;
        std::future::poll_fn(move |_| {
            if slept {
                return Poll::Ready(());
            }
            slept = true;
            self.now.set(self.now.get() + duration);
            Poll::Pending
        })
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let next = self.chance.get() + 1;
        self.chance.set(next);
        std::array::from_fn(|at| next.to_be_bytes()[at % 8])
    }

    fn log(&self, _: &str, fields: &[(&str, &dyn Display)]) {
        for (_, field) in fields {
            // What is written must be writable.
            let _ = field.to_string();
        }
    }
}

/// What comes of a future that waits for nothing but our clock.
///
/// # Panics
/// When it does not end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    run_for(future, MAX_STEPS).expect("it ends")
}

/// The same; none where it has not ended after so many steps.
pub fn run_for<T>(future: impl Future<Output = T>, steps: u32) -> Option<T> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..steps {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return Some(value);
        }
    }
    None
}
