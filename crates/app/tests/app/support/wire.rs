//! The transport into the cluster in process, and the database that counts its statements.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use jiff::SignedDuration;
use kubernetes::{Body, Timeouts, Transport, TransportError};
use localcluster::logs::{LogCursor, LogPoll};
use localcluster::{Request, WatchCursor};
use serde_json::Value;
use store::testing::Sqlite;
use store::{Dialect, Rows, Sql, SqlError, Statement};

use super::fault::Effect;
use super::world::World;

/// Sends into the world's cluster.
pub struct Wire(pub Rc<World>);

impl Transport for Wire {
    type Body = WireBody;

    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        _timeouts: Timeouts,
    ) -> Result<http::Response<WireBody>, TransportError> {
        let world = &self.0;
        world.alive().await;
        if request.uri().host() != Some("cluster") {
            let (status, headers) = world.receive(request).await?;
            let mut response = answer(status, WireBody::new(world, Source::Bytes(None)));
            *response.headers_mut() = headers;
            return Ok(response);
        }
        let what = describe(&request);
        let placed = placed(&what, &request);
        world.requests.borrow_mut().push(what.clone());
        world.placed.borrow_mut().push(placed.clone());
        if let Some(traceparent) = request.headers().get("traceparent") {
            let text = traceparent.to_str().expect("ASCII").to_owned();
            world.traced.borrow_mut().push((what.clone(), text));
        }
        let mut cut = None;
        let mut lost = false;
        match world.take_fault(&what, &placed) {
            Some(Effect::NotSent) => return Err(TransportError::NotSent("refused".to_owned())),
            Some(Effect::Late) => {
                world.late.borrow_mut().push((what, request));
                return Err(TransportError::Unknown("reset".to_owned()));
            }
            Some(Effect::Vanished) => return Err(TransportError::Unknown("reset".to_owned())),
            Some(Effect::Answer(code, value)) => {
                let body = Bytes::from(value.to_string());
                return Ok(answer(
                    code,
                    WireBody::new(world, Source::Bytes(Some(body))),
                ));
            }
            Some(Effect::Log(text)) => {
                let body = WireBody::new(world, Source::Unended(Some(text.into())));
                return Ok(answer(200, body));
            }
            Some(Effect::Words(text)) => {
                let body = WireBody::new(world, Source::Bytes(Some(text.into())));
                return Ok(answer(200, body));
            }
            Some(Effect::Lost) => lost = true,
            Some(Effect::Cut(piece)) => cut = Some(piece),
            Some(Effect::Slow(seconds)) => world.sleep(seconds).await,
            None => {}
        }
        let response = self.carry_out(&what, request);
        world.stepped().await;
        if lost {
            return Err(TransportError::Unknown(
                "reset after it was sent".to_owned(),
            ));
        }
        let source = match response.body {
            localcluster::Body::Bytes(bytes) => Source::Bytes(Some(bytes.into())),
            localcluster::Body::Watch(cursor) => Source::Watch(cursor),
            localcluster::Body::Log(cursor) => Source::Log(cursor),
        };
        let mut body = WireBody::new(world, source);
        body.cut = cut;
        Ok(answer(response.status, body))
    }
}

impl World {
    /// What was on its way arrives, though its sender has given up; answers the status codes.
    pub fn deliver_late(self: &Rc<Self>) -> Vec<u16> {
        let late = self.late.take();
        let wire = Wire(self.clone());
        let arrive = |(what, request): (String, _)| wire.carry_out(&what, request).status;
        late.into_iter().map(arrive).collect()
    }
}

impl Wire {
    fn carry_out(&self, what: &str, request: http::Request<Vec<u8>>) -> localcluster::Response {
        let (head, mut body) = request.into_parts();
        if what == "POST jobs" {
            let mut job: Value = serde_json::from_slice(&body).expect("a Job in JSON");
            let label = &job["metadata"]["labels"][kubernetes::LABEL_ATTEMPT];
            let attempt = label.as_str().and_then(|text| text.parse::<usize>().ok());
            let script = match &*self.0.script.borrow() {
                Value::Array(scripts) => {
                    let last = scripts.len() - 1;
                    scripts[last.min(attempt.unwrap_or(1) - 1)].to_string()
                }
                script => script.to_string(),
            };
            job["spec"]["template"]["metadata"]["annotations"]["localcluster/simulate"] =
                Value::String(script);
            body = job.to_string().into_bytes();
        }
        let content_type = head
            .headers
            .get("content-type")
            .and_then(|v| v.to_str().ok());
        let target = head.uri.path_and_query().expect("a path").as_str();
        let mut request = Request::new(head.method.as_str(), target, content_type, body);
        if let Some(objects) = self.0.page.get() {
            let limits = request.query.iter_mut().filter(|(name, _)| name == "limit");
            limits.for_each(|(_, limit)| *limit = objects.to_string());
        }
        let response = self.0.cluster.borrow_mut().handle(&request);
        if what == "POST jobs" && response.status == 201 {
            self.0.jobs_made.set(self.0.jobs_made.get() + 1);
        }
        self.0.settle();
        response
    }
}

fn answer(code: u16, body: WireBody) -> http::Response<WireBody> {
    let response = http::Response::builder().status(code);
    response.body(body).expect("a status code")
}

/// What a request is, in two words.
fn describe(request: &http::Request<Vec<u8>>) -> String {
    let path: Vec<&str> = request.uri().path().split('/').collect();
    let query = request.uri().query().unwrap_or_default();
    let kinds = ["jobs", "pods", "configmaps", "events"];
    let Some(at) = path.iter().position(|part| kinds.contains(part)) else {
        return format!("{} {}", request.method(), path[1]);
    };
    match (request.method().as_str(), path.len() - at - 1) {
        ("POST", 0) if query.contains("dryRun=All") => format!("TRY {}", path[at]),
        ("GET", 0) if query.contains("watch=") => format!("WATCH {}", path[at]),
        ("GET", 0) => format!("LIST {}", path[at]),
        ("GET", 2) => "GET log".to_owned(),
        (method, _) => format!("{method} {}", path[at]),
    }
}

/// The same, and in which namespace.
fn placed(what: &str, request: &http::Request<Vec<u8>>) -> String {
    let mut path = request.uri().path().split('/');
    match path.find(|part| *part == "namespaces") {
        Some(_) => format!("{what} in {}", path.next().unwrap_or_default()),
        None => what.to_owned(),
    }
}

enum Source {
    Bytes(Option<Bytes>),
    Unended(Option<Bytes>),
    Watch(Box<WatchCursor>),
    Log(Box<LogCursor>),
}

/// The body of an answer, live where it is a watch.
pub struct WireBody {
    world: Rc<World>,
    source: Source,
    cut: Option<u32>,
}

impl WireBody {
    fn new(world: &Rc<World>, source: Source) -> Self {
        let world = world.clone();
        let cut = None;
        Self { world, source, cut }
    }

    async fn piece(&mut self) -> Option<Bytes> {
        let world = self.world.clone();
        world.alive().await;
        let source = &mut self.source;
        poll_fn(|context| match source {
            Source::Bytes(bytes) => Poll::Ready(bytes.take()),
            Source::Unended(bytes) => match bytes.take() {
                Some(bytes) => Poll::Ready(Some(bytes)),
                None => {
                    world.park(world.now() + SignedDuration::from_secs(1), context);
                    Poll::Pending
                }
            },
            Source::Log(cursor) => match cursor.poll().expect("a log in memory") {
                LogPoll::Data(bytes) => Poll::Ready(Some(bytes.into())),
                LogPoll::End => Poll::Ready(None),
                LogPoll::Wait => {
                    world.park(world.now() + SignedDuration::from_secs(1), context);
                    Poll::Pending
                }
            },
            Source::Watch(cursor) => {
                let poll = world.cluster.borrow().poll_watch(cursor);
                let frames = poll.frames();
                if poll.done {
                    let last = (!frames.is_empty()).then(|| frames.into());
                    *source = Source::Bytes(None);
                    return Poll::Ready(last);
                }
                if !frames.is_empty() {
                    return Poll::Ready(Some(frames.into()));
                }
                world.park(poll.next, context);
                Poll::Pending
            }
        })
        .await
    }
}

impl Body for WireBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        if self.cut == Some(0) {
            return Err(TransportError::Unknown("broken off".to_owned()));
        }
        let piece = self.piece().await;
        let Some(left) = &mut self.cut else {
            return Ok(piece);
        };
        *left -= 1;
        let half = |bytes: Bytes| bytes.slice(..bytes.len() / 2);
        match piece {
            piece if *left > 0 => Ok(piece),
            Some(piece) => Ok(Some(half(piece))),
            None => Err(TransportError::Unknown("broken off at the end".to_owned())),
        }
    }
}

/// A database in memory: each statement can be the last one, or fail.
pub struct Database {
    /// The world that it is in.
    pub world: Rc<World>,
    /// What it keeps, shared by all apps of a test.
    pub sqlite: Sqlite,
}

impl Database {
    fn check(&self) -> Result<(), SqlError> {
        if self.world.database_down.get() {
            return Err(SqlError::Unavailable("down".to_owned()));
        }
        Ok(())
    }

    fn count(&self, asked: usize, commits: bool) {
        let World {
            asked: before,
            commits: kept,
            ..
        } = &*self.world;
        before.set(before.get() + asked);
        kept.set(kept.get() + usize::from(commits));
    }
}

impl Sql for Database {
    fn dialect(&self) -> Dialect {
        self.sqlite.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        self.world.alive().await;
        self.check()?;
        self.count(1, !statement.sql.starts_with("SELECT"));
        let answer = self.sqlite.query(statement).await;
        self.world.stepped().await;
        answer
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        self.world.alive().await;
        self.check()?;
        // With BEGIN and COMMIT.
        self.count(statements.len() + 2, true);
        let answer = self.sqlite.transaction(statements).await;
        self.world.stepped().await;
        answer
    }
}
