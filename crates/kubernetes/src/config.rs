//! Where the API server is and who asks, and what every request has because of that.

use std::fmt;

use http::header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use kube_core::request::Request;

use crate::error::Error;
use crate::transport::TransportError;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("executor/", env!("CARGO_PKG_VERSION")));

/// Reads the file of that path, as text, or says why it cannot.
pub type ReadFile = fn(&str) -> Result<String, String>;

/// Where the API server is, and who asks.
#[derive(Clone)]
pub struct ClientConfig {
    base_url: String,
    namespace: String,
    token: Token,
    traceparent: Option<HeaderValue>,
}

/// Where the bearer token comes from.
#[derive(Clone)]
enum Token {
    /// The way to the API server authenticates by itself.
    None,
    /// It does not change.
    Fixed(String),
    /// It is read for every request, as its file is written anew while we run.
    File { path: String, read: ReadFile },
}

/// W3C's Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl ClientConfig {
    /// The API server at `base_url` (`scheme://host:port`, a path in front of the API's own is kept), the namespace
    /// of all objects, and the bearer token, if the way there does not authenticate by itself.
    pub fn new(
        base_url: impl Into<String>,
        namespace: impl Into<String>,
        token: Option<String>,
    ) -> Self {
        let mut base_url = base_url.into();
        base_url.truncate(base_url.trim_end_matches('/').len());
        // A token read from a file often ends with a newline.
        let token = token
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        Self {
            base_url,
            namespace: namespace.into(),
            token: token.map_or(Token::None, Token::Fixed),
            traceparent: None,
        }
    }

    /// The same with that header on every request; text that no header can carry is left out.
    pub(crate) fn with_traceparent(self, traceparent: &str) -> Self {
        Self {
            traceparent: HeaderValue::from_str(traceparent).ok(),
            ..self
        }
    }

    /// The same for the objects of that namespace.
    #[must_use]
    pub fn with_namespace(self, namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            ..self
        }
    }

    /// The same with a token that is read from that file, by that function, for every request.
    #[must_use]
    pub fn with_token_file(mut self, path: impl Into<String>, read: ReadFile) -> Self {
        let path = path.into();
        self.token = Token::File { path, read };
        self
    }

    /// The token as it is now.
    pub(crate) fn token(&self) -> Result<Option<String>, Error> {
        let (path, read) = match &self.token {
            Token::None => return Ok(None),
            Token::Fixed(token) => return Ok(Some(token.clone())),
            Token::File { path, read } => (path, read),
        };
        let not_sent = |why: &str| {
            let message = format!("the token cannot be read from {path}: {why}");
            Error::Transport(TransportError::NotSent(message))
        };
        let token = read(path).map_err(|why| not_sent(&why))?;
        match token.trim() {
            "" => Err(not_sent("it is empty")),
            token => Ok(Some(token.to_owned())),
        }
    }

    /// Whether another look may give another token.
    pub(crate) fn token_may_change(&self) -> bool {
        matches!(self.token, Token::File { .. })
    }

    /// The namespace of all objects.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The path of a kind's objects in the namespace.
    pub(crate) fn objects(&self, group: &str, kind: &str) -> Result<Request, Error> {
        let namespace = checked(&self.namespace)?;
        Ok(Request::new(format!(
            "/{group}/namespaces/{namespace}/{kind}"
        )))
    }

    /// Makes the URI absolute, and adds the headers that every request has.
    pub(crate) fn complete(
        &self,
        request: http::Request<Vec<u8>>,
        accept: HeaderValue,
        token: Option<&str>,
    ) -> Result<http::Request<Vec<u8>>, Error> {
        let (mut head, body) = request.into_parts();
        // The builder writes `?` in front of every query, even an empty one, and `&` in front of every pair.
        let query = head.uri.query().unwrap_or_default().trim_start_matches('&');
        let mark = if query.is_empty() { "" } else { "?" };
        let uri = format!("{}{}{mark}{query}", self.base_url, head.uri.path());
        head.uri = uri
            .parse()
            .map_err(|_| Error::BadInput("the API server's URL is none".to_owned()))?;
        head.headers.insert(ACCEPT, accept);
        head.headers.insert(USER_AGENT, AGENT);
        if let Some(traceparent) = &self.traceparent {
            head.headers.insert(TRACEPARENT, traceparent.clone());
        }
        if let Some(token) = token {
            head.headers.insert(AUTHORIZATION, bearer(token)?);
        }
        Ok(http::Request::from_parts(head, body))
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("base_url", &self.base_url)
            .field("namespace", &self.namespace)
            .field("token", &self.token)
            .finish()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("…"),
            Self::File { path, .. } => write!(f, "in {path}"),
        }
    }
}

/// The header's value, which no log shows.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
        Error::BadInput("the token has characters that no header can have".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A name that goes into a path or a selector as it is: what Kubernetes allows needs no escaping, and
/// anything else must not reach another path.
pub(crate) fn checked(name: &str) -> Result<&str, Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if !name.is_empty() && name.bytes().all(allowed) && name.as_bytes()[0].is_ascii_alphanumeric() {
        Ok(name)
    } else {
        Err(Error::BadInput(format!("{name:?} is no name of an object")))
    }
}
