//! The HTTP trigger: a server of HTTP/1.1 that gives each request a fresh instance of its component.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::instance::{Guest, InstanceState};
use crate::log;
use crate::routes::{Route, Routes};

/// Answered by the host itself, as Spin does.
const HEALTH_PATH: &str = "/.well-known/spin/health";

/// After a failed accept (too many open files, say) the server waits this long for things to get better.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// One component behind routes.
pub struct HttpGuest {
    guest: Arc<Guest>,
    pre: ProxyPre<InstanceState>,
}

/// Everything that requests share.
pub struct HttpTrigger {
    routes: Routes<Arc<HttpGuest>>,
    instances: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl HttpGuest {
    /// Checks that the component can answer HTTP.
    ///
    /// # Errors
    /// It does not export `wasi:http/incoming-handler` 0.2.
    pub fn new(guest: Arc<Guest>) -> Result<HttpGuest> {
        let pre = ProxyPre::new(guest.pre().clone())
            .map_err(anyhow::Error::from)
            .with_context(|| format!("component {:?} has no HTTP handler", guest.id))?;
        Ok(HttpGuest { guest, pre })
    }
}

impl HttpTrigger {
    /// A trigger with these routes. `instances` bounds how many run at once, `tasks` knows which still run.
    pub fn new(
        routes: Routes<Arc<HttpGuest>>,
        instances: Arc<Semaphore>,
        tasks: TaskTracker,
    ) -> HttpTrigger {
        HttpTrigger {
            routes,
            instances,
            tasks,
        }
    }

    /// Serves until `stop`; requests that run then go on as tasks.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => {
                    let connection =
                        Arc::clone(&self).serve_connection(stream, client, stop.clone());
                    self.tasks.spawn(connection);
                }
                Err(error) => {
                    log::line("devhost", &format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        stop: CancellationToken,
    ) {
        // A socket that has just gone fails here, and its connection right after.
        let _ = stream.set_nodelay(true);
        let used = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request| {
            used.store(true, Ordering::Relaxed);
            let trigger = Arc::clone(&self);
            async move { Ok::<_, Infallible>(trigger.answer(request, client).await) }
        });
        let mut connection =
            std::pin::pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            // A client that goes away is no concern of ours.
            _ = connection.as_mut() => return,
            () = stop.cancelled() => {}
        }
        // Hyper would wait for the first request of a connection that was opened ahead of need.
        if used.load(Ordering::Relaxed) {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: SocketAddr,
    ) -> Response<WasiBody> {
        let path = request.uri().path().to_owned();
        if path == HEALTH_PATH {
            return plain(StatusCode::OK, "OK");
        }
        let Some((route, rest)) = self.routes.find(&path) else {
            return plain(StatusCode::NOT_FOUND, "");
        };
        let method = request.method().clone();
        let request = with_spin_headers(request, route, rest, client);
        match self.run(&route.target, request).await {
            Ok(response) => response,
            Err(error) => {
                let text = format!(
                    "{} {method} {path} failed: {error:#}",
                    route.target.guest.id
                );
                log::line("devhost", &text);
                plain(StatusCode::INTERNAL_SERVER_ERROR, "")
            }
        }
    }

    /// Runs one instance until it answers. It goes on afterwards, as a task of its own, until the guest returns.
    async fn run(
        &self,
        target: &Arc<HttpGuest>,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>> {
        let permit = Arc::clone(&self.instances)
            .try_acquire_owned()
            .map_err(|_| anyhow!("too many instances run at once"))?;
        let (sender, receiver) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        let target = Arc::clone(target);
        self.tasks.spawn(async move {
            let _permit = permit;
            let answered = Arc::new(AtomicBool::new(false));
            let result = handle(&target, request, sender, &answered).await;
            let unsaid = match result {
                Err(error) if answered.load(Ordering::Acquire) => Some(error),
                // Below, somebody waits for this, unless the client has gone without an answer.
                result => end_sender.send(result).err().and_then(Result::err),
            };
            if let Some(error) = unsaid {
                let text = format!(
                    "{} failed after its answer started, or without a client: {error:#}",
                    target.guest.id
                );
                log::line("devhost", &text);
            }
        });
        match receiver.await {
            Ok(response) => response.context("the guest answered with an error"),
            Err(_) => match end.await {
                Ok(Ok(())) => Err(anyhow!("the guest returned without an answer")),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(anyhow!("the instance panicked")),
            },
        }
    }
}

type Answer = std::result::Result<
    Response<WasiBody>,
    wasmtime_wasi_http::p2::bindings::http::types::ErrorCode,
>;

async fn handle(
    target: &HttpGuest,
    request: Request<Incoming>,
    answer: oneshot::Sender<Answer>,
    answered: &Arc<AtomicBool>,
) -> Result<()> {
    let mut store = target.guest.new_store();
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(Scheme::Http, request)?;
    let answered = Arc::clone(answered);
    let answer = store
        .data_mut()
        .http()
        .new_response_outparam_from_callback(move |response| {
            answered.store(true, Ordering::Release);
            // A client that did not wait for the answer does not stop the guest.
            let _ = answer.send(response);
        })?;
    let proxy = target.pre.instantiate_async(&mut store).await?;
    proxy
        .wasi_http_incoming_handler()
        .call_handle(&mut store, request, answer)
        .await?;
    Ok(())
}

/// Adds the headers by which Spin tells a guest about its route and caller, and takes away what is between two hops.
fn with_spin_headers<T>(
    mut request: Request<Incoming>,
    route: &Route<T>,
    rest: &str,
    client: SocketAddr,
) -> Request<Incoming> {
    let host = match request.headers().get(HOST) {
        Some(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
        // HTTP/1.0 has none, and WASI needs one.
        None => {
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_static("localhost"));
            "localhost".to_owned()
        }
    };
    let target = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let prefix = if route.prefix.is_empty() {
        "/"
    } else {
        &route.prefix
    };
    let values = [
        ("spin-full-url", format!("http://{host}{target}")),
        ("spin-path-info", rest.to_owned()),
        ("spin-matched-route", route.pattern.clone()),
        ("spin-base-path", "/".to_owned()),
        ("spin-raw-component-route", route.pattern.clone()),
        ("spin-component-route", prefix.to_owned()),
        ("spin-client-addr", client.to_string()),
    ];
    let headers = request.headers_mut();
    headers.remove(CONNECTION);
    for (name, value) in values {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    request
}

fn plain(status: StatusCode, text: &'static str) -> Response<WasiBody> {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
