//! The thin shell: HTTP/1.1 in front of a [`Cluster`], streams for watches and logs, and a timer for the controllers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::StatusCode;
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WARNING};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::api::{Body, MAX_BODY_BYTES, Request, Response};
use crate::cluster::Cluster;
use crate::logs::{LogCursor, LogPoll};
use crate::runner::process::Wake;
use crate::status::Failure;
use crate::watch::WatchCursor;

/// Pieces of a stream waiting for a slow reader; the reader holds only itself up.
const STREAM_PIECES: usize = 4;

/// Bytes over the limit of a body that are read only to be polite.
const MAX_DROPPED_BYTES: usize = 64 * 1024 * 1024;

/// Longest wait for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster shared by connections, and the ways to wake what waits for it.
pub struct Server {
    cluster: Mutex<Cluster>,
    token: Option<String>,
    work: watch::Sender<u64>,
    changed: watch::Sender<u64>,
    logs: watch::Sender<u64>,
}

/// Wakes a server that may not exist yet; given to the runner before the cluster is built on it.
#[derive(Clone)]
pub struct Waker {
    work: watch::Sender<u64>,
    logs: watch::Sender<u64>,
}

impl Default for Waker {
    fn default() -> Self {
        Self {
            work: watch::Sender::new(0),
            logs: watch::Sender::new(0),
        }
    }
}

impl Waker {
    /// Wakes whoever waits for this.
    pub fn wake(&self, what: Wake) {
        let channel = if what == Wake::News {
            &self.work
        } else {
            &self.logs
        };
        channel.send_modify(|count| *count += 1);
    }
}

type Stream = StreamBody<tokio_stream::Pieces>;

impl Server {
    /// Serves this cluster; with a token, only to those who show it.
    pub fn new(cluster: Cluster, token: Option<String>, waker: Waker) -> Arc<Self> {
        Arc::new(Self {
            cluster: Mutex::new(cluster),
            token,
            work: waker.work,
            changed: watch::Sender::new(0),
            logs: waker.logs,
        })
    }

    /// The cluster, for the time of one step.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells each time something in the cluster changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Lets the controllers work once; answers when they want to again.
    pub fn tick(&self) -> Option<Timestamp> {
        let mut cluster = self.cluster();
        let before = *self.changed.borrow();
        let next = match cluster.tick() {
            Ok(next) => next,
            Err(error) => {
                eprintln!("localcluster: {error}");
                None
            }
        };
        let version = cluster.version();
        drop(cluster);
        if version != before {
            self.changed.send_replace(version);
        }
        next
    }

    /// Runs controllers and timers for ever.
    pub async fn run_controllers(self: Arc<Self>) {
        let mut work = self.work.subscribe();
        loop {
            work.borrow_and_update();
            let next = self.tick();
            let pause = async {
                match next {
                    Some(at) => tokio::time::sleep(until(at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = pause => {}
                changed = work.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Accepts connections for ever.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let Ok((socket, _)) = listener.accept().await else {
                continue;
            };
            // Small answers must not wait for a delayed acknowledgement.
            let _ = socket.set_nodelay(true);
            let server = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let server = server.clone();
                    async move { Ok::<_, Infallible>(server.answer(request).await) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT);
                // A client that went away is no news.
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> hyper::Response<Either<Full<Bytes>, Stream>> {
        let response = match self.read(request).await {
            Ok(request) => {
                let response = self.cluster().handle(&request);
                if request.method != "GET" {
                    self.tick();
                    self.work.send_modify(|count| *count += 1);
                }
                response
            }
            Err(failure) => failure.into(),
        };
        self.write(response)
    }

    async fn read(&self, request: hyper::Request<Incoming>) -> Result<Request, Failure> {
        let (head, body) = request.into_parts();
        let given = head
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if let Some(token) = &self.token
            && given.strip_prefix("Bearer ") != Some(token)
        {
            return Err(Failure::unauthorized());
        }
        let body = read_body(body).await?;
        let content_type = head
            .headers
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        Ok(Request::new(
            head.method.as_str(),
            target,
            content_type,
            body,
        ))
    }

    fn write(self: &Arc<Self>, response: Response) -> hyper::Response<Either<Full<Bytes>, Stream>> {
        let body = match response.body {
            Body::Bytes(bytes) => Either::Left(Full::new(Bytes::from(bytes))),
            Body::Watch(cursor) => {
                let (sender, stream) = tokio_stream::channel(STREAM_PIECES);
                tokio::spawn(self.clone().stream_watch(*cursor, sender));
                Either::Right(StreamBody::new(stream))
            }
            Body::Log(cursor) => {
                let (sender, stream) = tokio_stream::channel(STREAM_PIECES);
                tokio::spawn(self.clone().stream_log(*cursor, sender));
                Either::Right(StreamBody::new(stream))
            }
        };
        let mut answer = hyper::Response::new(body);
        *answer.status_mut() =
            StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        answer.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static(response.content_type),
        );
        if response.status == StatusCode::PAYLOAD_TOO_LARGE.as_u16() {
            // The rest of the body is not read, so the connection is of no further use.
            answer
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(warning) = response
            .warning
            .and_then(|text| HeaderValue::from_str(&format!("299 - \"{text}\"")).ok())
        {
            answer.headers_mut().insert(WARNING, warning);
        }
        answer
    }

    async fn stream_watch(self: Arc<Self>, mut cursor: WatchCursor, sender: mpsc::Sender<Bytes>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let poll = self.cluster().poll_watch(&mut cursor);
            let frames = poll.frames();
            if !frames.is_empty() && sender.send(Bytes::from(frames)).await.is_err() {
                return;
            }
            if poll.done {
                return;
            }
            if poll.more {
                continue;
            }
            tokio::select! {
                () = sender.closed() => return,
                () = tokio::time::sleep(until(poll.next)) => {}
                result = changed.changed() => if result.is_err() { return },
            }
        }
    }

    async fn stream_log(self: Arc<Self>, cursor: LogCursor, sender: mpsc::Sender<Bytes>) {
        let mut grown = self.logs.subscribe();
        let mut cursor = Some(cursor);
        loop {
            grown.borrow_and_update();
            let Some(mut reader) = cursor.take() else {
                return;
            };
            // Reading a large log from a disk must not hold other connections up.
            let step = tokio::task::spawn_blocking(move || {
                let poll = reader.poll();
                (reader, poll)
            });
            let Ok((reader, poll)) = step.await else {
                return;
            };
            cursor = Some(reader);
            match poll {
                Ok(LogPoll::Data(data)) => {
                    if sender.send(Bytes::from(data)).await.is_err() {
                        return;
                    }
                }
                Ok(LogPoll::Wait) => tokio::select! {
                    () = sender.closed() => return,
                    result = grown.changed() => if result.is_err() { return },
                },
                Ok(LogPoll::End) => return,
                Err(error) => return eprintln!("localcluster: reading a log: {error}"),
            }
        }
    }
}

/// Reads a body up to its limit. What is over it is still taken in, so that the client gets to read the refusal.
async fn read_body(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut dropped = 0;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::bad_request(format!("reading the body: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if dropped > 0 || bytes.len() + data.len() > MAX_BODY_BYTES {
            dropped += data.len();
        } else {
            bytes.extend_from_slice(&data);
        }
        if dropped > MAX_DROPPED_BYTES {
            break;
        }
    }
    if dropped > 0 {
        Err(Failure::too_large(MAX_BODY_BYTES))
    } else {
        Ok(bytes)
    }
}

fn until(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}

/// The receiving end of a channel as a stream of body frames.
mod tokio_stream {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::{Bytes, Frame, Infallible, mpsc};

    /// Frames of one response.
    pub struct Pieces(mpsc::Receiver<Bytes>);

    /// A channel whose receiver is a body.
    pub fn channel(pieces: usize) -> (mpsc::Sender<Bytes>, Pieces) {
        let (sender, receiver) = mpsc::channel(pieces);
        (sender, Pieces(receiver))
    }

    impl futures_core::Stream for Pieces {
        type Item = Result<Frame<Bytes>, Infallible>;

        fn poll_next(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Self::Item>> {
            self.0
                .poll_recv(context)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
        }
    }
}
