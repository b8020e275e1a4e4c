//! Requests in, responses out, as values.

mod delete;
mod discovery;
mod read;
mod routes;
mod write;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::logs::LogCursor;
use crate::status::{Cause, Failure};
use crate::watch::WatchCursor;
use routes::Route;

/// Largest request body, in bytes, as the real server limits it.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query's parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The content type of the body.
    pub content_type: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request from its parts; `target` is path and query as they stand in the request line.
    pub fn new(method: &str, target: &str, content_type: Option<&str>, body: Vec<u8>) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(k, v)| (decode(k), decode(v)))
            .collect();
        let path = percent_encoding::percent_decode_str(path)
            .decode_utf8_lossy()
            .into_owned();
        Self {
            method: method.to_owned(),
            path,
            query,
            content_type: content_type.map(str::to_owned),
            body,
        }
    }

    /// The last value of a parameter; empty when missing.
    pub fn parameter(&self, name: &str) -> &str {
        self.query
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map_or("", |(_, value)| value)
    }

    /// Whether a parameter is true, as the real server reads it.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), "true" | "1")
            || (self.parameter(name).is_empty() && self.query.iter().any(|(k, _)| k == name))
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        let text = self.parameter(name);
        if text.is_empty() {
            return Ok(None);
        }
        let message = || {
            Failure::bad_request(format!(
                "strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        };
        text.parse().map(Some).map_err(|_| message())
    }

    /// Whether nothing is to be kept.
    pub fn dry_run(&self) -> Result<bool, Failure> {
        match self.parameter("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                let cause = Cause::not_supported("dryRun", &json!([other]), &["All"]);
                let kind = match self.method.as_str() {
                    "POST" => "CreateOptions",
                    "DELETE" => "DeleteOptions",
                    "PUT" => "UpdateOptions",
                    _ => "PatchOptions",
                };
                Err(Failure::invalid_options("meta.k8s.io", kind, "", &cause))
            }
        }
    }
}

/// One response.
#[derive(Debug)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// A `Warning` header's text, as the real server warns.
    pub warning: Option<&'static str>,
    /// The body.
    pub body: Body,
}

/// The body of a response.
pub enum Body {
    /// All at once.
    Bytes(Vec<u8>),
    /// A watch: ask [`Cluster::poll_watch`] for its events.
    Watch(Box<WatchCursor>),
    /// A log: ask [`LogCursor::poll`] for its bytes.
    Log(Box<LogCursor>),
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Bytes(bytes) => write!(formatter, "Bytes({})", String::from_utf8_lossy(bytes)),
            Body::Watch(cursor) => write!(formatter, "Watch({cursor:?})"),
            Body::Log(_) => write!(formatter, "Log"),
        }
    }
}

impl Response {
    fn json(status: u16, value: &Value) -> Self {
        let body = Body::Bytes(serde_json::to_vec(value).unwrap_or_default());
        Self {
            status,
            content_type: "application/json",
            warning: None,
            body,
        }
    }

    fn text(status: u16, text: &str) -> Self {
        let body = Body::Bytes(text.as_bytes().to_vec());
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            warning: None,
            body,
        }
    }

    /// The whole body as JSON; none for streams and text.
    pub fn value(&self) -> Option<Value> {
        match &self.body {
            Body::Bytes(bytes) => serde_json::from_slice(bytes).ok(),
            _ => None,
        }
    }
}

impl From<Failure> for Response {
    fn from(failure: Failure) -> Self {
        Response::json(failure.code, &failure.body)
    }
}

impl Cluster {
    /// Answers one request. Controllers do not run in here: call [`Cluster::tick`] after requests that change something.
    pub fn handle(&mut self, request: &Request) -> Response {
        self.storage.begin();
        let response = self.route(request).unwrap_or_else(Response::from);
        match self.storage.commit() {
            Ok(()) => response,
            Err(error) => Failure::internal(&error).into(),
        }
    }

    fn route(&mut self, request: &Request) -> Result<Response, Failure> {
        if request.body.len() > MAX_BODY_BYTES {
            return Err(Failure::too_large(MAX_BODY_BYTES));
        }
        let route = match routes::parse(&request.path) {
            Some(route) => route,
            None => return discovery::answer(request),
        };
        match (route, request.method.as_str()) {
            (Route::Collection(place), "GET") if request.flag("watch") => {
                read::watch(self, &place, request)
            }
            (Route::Collection(place), "GET") => read::list(self, &place, request),
            (Route::Collection(place), "POST") => write::create(self, &place, request),
            (Route::Collection(place), "DELETE") => delete::collection(self, &place, request),
            (Route::Object(key), "GET") if request.flag("watch") => {
                read::watch_one(self, &key, request)
            }
            (Route::Object(key), "GET") => read::get(self, &key, request),
            (Route::Object(key) | Route::Status(key), "PUT") => write::replace(self, &key, request),
            (Route::Object(key) | Route::Status(key), "PATCH") => write::patch(self, &key, request),
            (Route::Object(key), "DELETE") => delete::one(self, &key, request),
            (Route::Status(key), "GET") => read::get(self, &key, request),
            (Route::Log(key), "GET") => read::log(self, &key, request),
            (Route::Compact, "POST") => {
                self.compact();
                Ok(Response::text(200, "ok"))
            }
            _ => Err(Failure::method_not_allowed()),
        }
    }
}
