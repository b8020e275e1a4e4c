//! Opens outbound connections: names to addresses, TCP without delay of small writes, and TLS.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error;

use crate::tls::TlsConfigs;

tokio::task_local! {
    /// How long the request that is being sent may wait for a new TCP connection. The pooled client has no parameter
    /// for it, and calls the connector within the task of the request.
    pub static CONNECT_TIMEOUT: Duration;
}

/// Makes connections for the pooled client, with the TLS settings of one component.
#[derive(Clone)]
pub struct Connector(Arc<TlsConfigs>);

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// The name has no address, or cannot be one.
    Dns(String),
    /// Nobody answered in time.
    Timeout,
    /// The other side, or the way there, said no.
    Refused(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
}

impl ConnectError {
    /// The error as the guest sees it: the same codes as Spin's.
    pub fn to_wasi(&self) -> Error {
        match self {
            Self::Dns(reason) => {
                crate::log::line(
                    "devhost",
                    &format!("an outbound name has no address: {reason}"),
                );
                Error::DnsError {
                    rcode: Some("address not available".to_owned()),
                    info_code: Some(0),
                }
            }
            Self::Timeout => Error::ConnectionTimeout,
            Self::Refused(_) => Error::ConnectionRefused,
            Self::Tls(error) => {
                crate::log::line(
                    "devhost",
                    &format!("an outbound TLS handshake failed: {error}"),
                );
                Error::TlsProtocolError
            }
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(reason) => write!(f, "no address: {reason}"),
            Self::Timeout => f.write_str("no connection in time"),
            Self::Refused(error) | Self::Tls(error) => write!(f, "no connection: {error}"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl Connector {
    /// A connector with these TLS settings.
    pub fn new(tls: TlsConfigs) -> Connector {
        Connector(Arc::new(tls))
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Stream>, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = Arc::clone(&self.0);
        // Read here and not inside the future: the client may finish a connection in a task of its own.
        let limit = CONNECT_TIMEOUT.get();
        Box::pin(async move { connect(&uri, &tls, limit).await.map(TokioIo::new) })
    }
}

async fn connect(uri: &Uri, tls: &TlsConfigs, limit: Duration) -> Result<Stream, ConnectError> {
    let secure = uri.scheme() == Some(&http::uri::Scheme::HTTPS);
    let host = uri.host().unwrap_or_default();
    let bare_host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let addresses: Vec<_> = tokio::net::lookup_host((bare_host, port))
        .await
        .map_err(|error| ConnectError::Dns(format!("{bare_host}: {error}")))?
        .collect();
    let tcp = timeout(limit, TcpStream::connect(&*addresses))
        .await
        .map_err(|_| ConnectError::Timeout)?
        .map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => {
                ConnectError::Dns("address not available".to_owned())
            }
            _ => ConnectError::Refused(error),
        })?;
    tcp.set_nodelay(true).map_err(ConnectError::Refused)?;
    if !secure {
        return Ok(Stream::Plain(tcp));
    }
    let name = ServerName::try_from(bare_host.to_owned())
        .map_err(|_| ConnectError::Dns("invalid dns name".to_owned()))?;
    let stream = TlsConnector::from(tls.for_host(bare_host))
        .connect(name, tcp)
        .await
        .map_err(ConnectError::Tls)?;
    Ok(Stream::Secure(Box::new(stream)))
}

/// One outbound connection.
pub enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS over TCP.
    Secure(Box<TlsStream<TcpStream>>),
}

/// Calls the same method on whichever stream it is.
macro_rules! on_either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => $call,
            Stream::Secure($stream) => $call,
        }
    };
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Stream::Plain(tcp) => tcp.connected(),
            Stream::Secure(tls) => {
                let (tcp, session) = tls.get_ref();
                if session.alpn_protocol() == Some(b"h2") {
                    tcp.connected().negotiated_h2()
                } else {
                    tcp.connected()
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => Pin::new(stream).poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Secure(tls) => tls.is_write_vectored(),
        }
    }
}
