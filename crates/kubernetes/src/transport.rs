//! The one way out: whoever can send an HTTP request implements [`Transport`].

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

/// How long each stage of one request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, name lookup and TLS included.
    pub connect: Duration,
    /// From the request being sent until the head of the answer.
    pub first_byte: Duration,
    /// From any part of the answer's body until the next.
    pub between_bytes: Duration,
}

/// A call to an API server in reach connects in milliseconds; two seconds allow for one lost packet.
const CONNECT: Duration = Duration::from_secs(2);

/// The API server answers ordinary calls in milliseconds; after five seconds it is as good as down.
const FIRST_BYTE: Duration = Duration::from_secs(5);

/// A page of a list arrives in many pieces, from a loaded server with pauses.
const BETWEEN_BYTES: Duration = Duration::from_secs(10);

/// Bookmarks come about once a minute even when nothing happens; longer silence is a dead connection.
const WATCH_BETWEEN_BYTES: Duration = Duration::from_secs(90);

/// The server ends a watch at its timeout, give or take; this is the giving.
const WATCH_GRACE: Duration = Duration::from_secs(5);

/// The API server asks the kubelet first, which opens the file: slower than a call of its own.
const LOG_FIRST_BYTE: Duration = Duration::from_secs(10);

/// A script may be silent for hours; the kubelet itself drops idle streams after four.
const FOLLOW_BETWEEN_BYTES: Duration = Duration::from_secs(4 * 3600);

impl Timeouts {
    /// For an ordinary call.
    pub const CALL: Self = Self {
        connect: CONNECT,
        first_byte: FIRST_BYTE,
        between_bytes: BETWEEN_BYTES,
    };

    /// For reading a log as far as it goes now.
    pub const LOG: Self = Self {
        connect: CONNECT,
        first_byte: LOG_FIRST_BYTE,
        between_bytes: BETWEEN_BYTES,
    };

    /// For following a log. Its head may wait for the first line: not every server sends it earlier.
    pub const FOLLOW: Self = Self {
        connect: CONNECT,
        first_byte: FOLLOW_BETWEEN_BYTES,
        between_bytes: FOLLOW_BETWEEN_BYTES,
    };

    /// For a watch that the server ends after `timeout`.
    pub fn watch(timeout: Duration) -> Self {
        let between_bytes = timeout.saturating_add(WATCH_GRACE).min(WATCH_BETWEEN_BYTES);
        Self {
            connect: CONNECT,
            first_byte: FIRST_BYTE,
            between_bytes,
        }
    }
}

/// Sends HTTP requests to the API server.
///
/// An implementation sets `content-length` (and `host`, where its protocol wants one) from what it is
/// given, follows no redirect and repeats nothing: what to do after a failure is the caller's to decide.
pub trait Transport {
    /// The body of an answer, read piece by piece.
    type Body: Body;

    /// Sends the request, whose URI is absolute, and gives the answer once its head has arrived. An answer of
    /// any status code is an answer.
    ///
    /// # Errors
    /// [`TransportError`], when no answer arrived.
    fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeouts: Timeouts,
    ) -> impl Future<Output = Result<http::Response<Self::Body>, TransportError>>;
}

impl<T: Transport> Transport for &T {
    type Body = T::Body;

    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeouts: Timeouts,
    ) -> Result<http::Response<Self::Body>, TransportError> {
        (**self).send(request, timeouts).await
    }
}

/// The body of an answer.
pub trait Body {
    /// The next bytes; none at the end. A future that is dropped before it is ready loses no bytes.
    ///
    /// # Errors
    /// [`TransportError::Unknown`], when the body breaks off before its end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, TransportError>>;
}

/// No answer, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Refused, name not found, connect timeout: the request surely had no effect.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The request went out and no full answer came back: it may have been carried out.
    #[error("the request was sent, but no full answer came back: {0}")]
    Unknown(String),
}
