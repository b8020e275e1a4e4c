//! `wasi:http/outgoing-handler`: which requests may leave, pooled connections, timeouts, and errors as Spin reports them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Interval, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::allowed_hosts::AllowedHosts;
use crate::connector::{CONNECT_TIMEOUT, ConnectError, Connector};
use crate::tls::TlsConfigs;

/// What a timeout is when the guest sets none: Spin's value.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// Tokio's intervals must be longer than nothing, so a timeout of zero becomes this.
const SHORTEST_INTERVAL: Duration = Duration::from_nanos(1);

/// The outbound side of one component, shared by all its instances.
pub struct Outbound {
    component: Arc<str>,
    allowed: Arc<AllowedHosts>,
    client: Client<Connector, WasiBody>,
}

/// [`Outbound`] as one instance holds it.
pub struct OutboundHooks(pub Arc<Outbound>);

type SendResult = Result<(
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<()>> + Send>,
)>;

impl Outbound {
    /// The outbound side of `component`; with `pooling`, connections are kept for later requests to the same place.
    pub fn new(
        component: Arc<str>,
        allowed: Arc<AllowedHosts>,
        tls: TlsConfigs,
        pooling: bool,
    ) -> Outbound {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new());
        if !pooling {
            builder.pool_max_idle_per_host(0);
        }
        Outbound {
            component,
            allowed,
            client: builder.build(Connector::new(tls)),
        }
    }

    fn check(&self, uri: &Uri) -> Result<()> {
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        if self.allowed.allows(scheme, host, uri.port_u16()) {
            return Ok(());
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        crate::log::line(
            "devhost",
            &format!(
                "{} asked for {scheme}://{authority}, which its allowed_outbound_hosts do not allow",
                self.component
            ),
        );
        Err(Error::HttpRequestDenied)
    }

    async fn send(
        &self,
        mut request: http::Request<WasiBody>,
        options: RequestOptions,
    ) -> SendResult {
        self.check(request.uri())?;
        // The client writes `host` itself for HTTP/1.1, and over HTTP/2 some servers refuse it.
        request.headers_mut().remove(http::header::HOST);
        let connect = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        // The clock of the first byte runs from here, so it includes the connecting: as in Spin.
        let response = CONNECT_TIMEOUT.scope(connect, self.client.request(request));
        let response = timeout(first_byte, response)
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .map_err(|error| self.explain(&error))?;
        let response = response.map(|body| TimedBody::new(body, between_bytes).boxed_unsync());
        // The client's own tasks move the bytes: there is nothing more to drive.
        Ok((response, Box::new(async { Ok(()) })))
    }

    fn explain(&self, error: &hyper_util::client::legacy::Error) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut words = Vec::new();
        while let Some(error) = cause {
            if let Some(known) = error.downcast_ref::<ConnectError>() {
                return known.to_wasi();
            }
            words.push(error.to_string());
            cause = error.source();
        }
        crate::log::line(
            "devhost",
            &format!(
                "{}: an outbound request failed: {}",
                self.component,
                words.join(": ")
            ),
        );
        Error::HttpProtocolError
    }
}

impl WasiHttpHooks for OutboundHooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _response_error: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        let outbound = Arc::clone(&self.0);
        Box::new(async move { outbound.send(request, options.unwrap_or_default()).await })
    }
}

/// A response body that fails when the next bytes take too long.
struct TimedBody {
    body: Incoming,
    between_bytes: Interval,
}

impl TimedBody {
    fn new(body: Incoming, between_bytes: Duration) -> TimedBody {
        let mut between_bytes = tokio::time::interval(between_bytes.max(SHORTEST_INTERVAL));
        between_bytes.reset();
        TimedBody {
            body,
            between_bytes,
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.between_bytes.reset();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Error::from(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.between_bytes.poll_tick(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
