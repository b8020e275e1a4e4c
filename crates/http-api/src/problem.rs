//! Errors as callers see them: problem details by RFC 9457, `application/problem+json`.

use app::Caller;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::limits::{MAX_ECHO_CHARS, MAX_LISTED_ERRORS};

/// The kinds of problems. Each has a stable `type`, `/problems/<slug>`, a title and a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body is no JSON object.
    InvalidJson,
    /// The body broke off.
    IncompleteBody,
    /// Something in the query is unknown or malformed.
    InvalidQuery,
    /// A header is malformed.
    InvalidHeader,
    /// What stands in the path for an id is no UUID.
    InvalidId,
    /// The bearer token is missing or wrong.
    Unauthorized,
    /// The caller is known, or needs no token, and may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It is there, but not for this method.
    MethodNotAllowed,
    /// The key was used for another request.
    IdempotencyConflict,
    /// It is finished, so that what was asked for can no longer be done.
    Finished,
    /// It is not finished, so that what was asked for cannot be done yet.
    NotFinished,
    /// So many deliveries of one execution are not kept.
    TooManyDeliveries,
    /// So many tokens are not kept.
    TooManyTokens,
    /// The stored log has no times to select or show.
    LogWithoutTimes,
    /// The body is over its limit.
    BodyTooLarge,
    /// The body is said to be something else than JSON in UTF-8.
    UnsupportedMediaType,
    /// The body is well-formed, but cannot be accepted.
    Validation,
    /// The API server would not take the Job.
    ClusterRefuses,
    /// As many executions wait as may.
    QueueFull,
    /// The tenant submits more than it may in a minute.
    RateLimited,
    /// A fault of Executor.
    Internal,
    /// A feature of the contract that this version does not have.
    NotImplemented,
    /// The store or the cluster does not answer just now.
    Unavailable,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 24] = [
        Self::InvalidJson,
        Self::IncompleteBody,
        Self::InvalidQuery,
        Self::InvalidHeader,
        Self::InvalidId,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::IdempotencyConflict,
        Self::Finished,
        Self::NotFinished,
        Self::TooManyDeliveries,
        Self::TooManyTokens,
        Self::LogWithoutTimes,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::Validation,
        Self::ClusterRefuses,
        Self::QueueFull,
        Self::RateLimited,
        Self::Internal,
        Self::NotImplemented,
        Self::Unavailable,
    ];

    /// The last part of `type`, the title and the status.
    #[rustfmt::skip] // One line for each kind reads as a table.
    pub const fn parts(self) -> (&'static str, &'static str, StatusCode) {
        match self {
            Self::InvalidJson => ("invalid-json", "The body is not valid JSON", StatusCode::BAD_REQUEST),
            Self::IncompleteBody => ("incomplete-body", "The body broke off", StatusCode::BAD_REQUEST),
            Self::InvalidQuery => ("invalid-query", "The query is not valid", StatusCode::BAD_REQUEST),
            Self::InvalidHeader => ("invalid-header", "A header is not valid", StatusCode::BAD_REQUEST),
            Self::InvalidId => ("invalid-id", "The id is not a UUID", StatusCode::BAD_REQUEST),
            Self::Unauthorized => ("unauthorized", "A valid bearer token is needed", StatusCode::UNAUTHORIZED),
            Self::Forbidden => ("forbidden", "This caller may not do this", StatusCode::FORBIDDEN),
            Self::NotFound => ("not-found", "Not found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::IdempotencyConflict => ("idempotency-conflict", "The Idempotency-Key belongs to another request", StatusCode::CONFLICT),
            Self::Finished => ("finished", "The execution is finished", StatusCode::CONFLICT),
            Self::NotFinished => ("not-finished", "The execution is not finished", StatusCode::CONFLICT),
            Self::TooManyDeliveries => ("too-many-deliveries", "The execution has too many deliveries", StatusCode::CONFLICT),
            Self::TooManyTokens => ("too-many-tokens", "There are too many tokens", StatusCode::CONFLICT),
            Self::LogWithoutTimes => ("log-without-times", "The stored log has no times", StatusCode::CONFLICT),
            Self::BodyTooLarge => ("body-too-large", "The body is too large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::UnsupportedMediaType => ("unsupported-media-type", "The body must be JSON in UTF-8", StatusCode::UNSUPPORTED_MEDIA_TYPE),
            Self::Validation => ("validation", "The request is not valid", StatusCode::UNPROCESSABLE_ENTITY),
            Self::ClusterRefuses => ("cluster-refuses", "The cluster would refuse it", StatusCode::UNPROCESSABLE_ENTITY),
            Self::QueueFull => ("queue-full", "The queue is full", StatusCode::TOO_MANY_REQUESTS),
            Self::RateLimited => ("rate-limited", "Too many submissions in a minute", StatusCode::TOO_MANY_REQUESTS),
            Self::Internal => ("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR),
            Self::NotImplemented => ("not-implemented", "Not supported yet", StatusCode::NOT_IMPLEMENTED),
            Self::Unavailable => ("unavailable", "Temporarily unavailable", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}

/// Where in the request an error is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the body: a JSON Pointer (RFC 6901); empty for the body as a whole.
    Pointer(String),
    /// In the query: the parameter's name.
    Parameter(String),
}

/// One thing that is wrong with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Where.
    pub place: Place,
    /// What, as the end of a sentence that starts with the place: "must be a string".
    pub detail: String,
}

/// A problem on its way to the caller.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<FieldError>,
    headers: Vec<(HeaderName, HeaderValue)>,
    caller: Option<Box<Caller>>,
    extra: Map<String, Value>,
}

impl Problem {
    /// A problem of that kind; `detail` is what a person needs to know of this one.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            caller: None,
            extra: Map::new(),
        }
    }

    /// A problem made of single errors; its detail counts them.
    pub fn of_errors(kind: Kind, errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [] => String::new(),
            [one] => match &one.place {
                Place::Pointer(place) | Place::Parameter(place) => {
                    format!("{} {}", quoted(place), one.detail)
                }
            },
            many => format!("{} errors, see `errors`.", many.len()),
        };
        Self {
            errors,
            ..Self::new(kind, detail)
        }
    }

    /// A feature of the contract that is not there yet.
    pub fn not_implemented(feature: &str) -> Self {
        Self::new(
            Kind::NotImplemented,
            format!("{feature} is not supported yet."),
        )
    }

    /// The same with one more header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same as an answer to that caller, of whom it is known who it is.
    pub fn of_caller(mut self, caller: Caller) -> Self {
        self.caller = Some(Box::new(caller));
        self
    }

    /// Where it refuses something for want of rights: the last part of its `type`, and who asked, if that is known.
    pub fn denial(&self) -> Option<(&'static str, Option<&Caller>)> {
        let denies = matches!(self.kind, Kind::Unauthorized | Kind::Forbidden);
        denies.then(|| (self.kind.parts().0, self.caller.as_deref()))
    }

    /// The same with one more member.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.extra.insert(name.to_owned(), value);
        self
    }

    /// Its kind.
    #[cfg(test)]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The answer; `instance` is the path of the request.
    pub fn into_response(self, instance: &str) -> Response<Vec<u8>> {
        let (slug, title, status) = self.kind.parts();
        let details = Details {
            r#type: type_of(slug),
            title,
            status: status.as_u16(),
            detail: &self.detail,
            instance: shortened(instance),
            errors: listed(&self.errors),
            extra: &self.extra,
        };
        // Strings and numbers always can be written as JSON; were they not, the status still tells.
        let mut response = Response::new(serde_json::to_vec(&details).unwrap_or_default());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.extend(self.headers.into_iter().map(|(n, v)| (Some(n), v)));
        response
    }
}

/// The `type` of a kind of problem, by its last part.
pub fn type_of(slug: &str) -> String {
    format!("/problems/{slug}")
}

/// The members of RFC 9457 in its order, then our own.
#[derive(Serialize)]
struct Details<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Value>,
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// The first errors in full, and one line that counts the others.
fn listed(errors: &[FieldError]) -> Vec<Value> {
    let mut list: Vec<Value> = errors
        .iter()
        .take(MAX_LISTED_ERRORS)
        .map(|error| match &error.place {
            Place::Pointer(pointer) => json!({"pointer": pointer, "detail": error.detail}),
            Place::Parameter(name) => json!({"parameter": name, "detail": error.detail}),
        })
        .collect();
    let more = errors.len().saturating_sub(MAX_LISTED_ERRORS);
    if more > 0 {
        list.push(json!({"pointer": "", "detail": format!("has {more} more errors")}));
    }
    list
}

/// Text of the request, safe to repeat: cut, and without control characters.
pub fn shortened(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(MAX_ECHO_CHARS).map(clean).collect();
    if short.len() < text.len() && text.chars().nth(MAX_ECHO_CHARS).is_some() {
        short.push('…');
    }
    short
}

/// The place as it begins the detail; the body as a whole has no name.
fn quoted(place: &str) -> String {
    if place.is_empty() {
        "The body".to_owned()
    } else {
        format!("`{place}`")
    }
}

/// Names this alike by Jaro and Winkler are taken for one another: `SUCCESS` and `SUCCEEDED` are, `env` and `end` are not.
const ALIKE: f64 = 0.84;

/// The known name that is meant most likely.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.chars().count() > MAX_ECHO_CHARS {
        return None;
    }
    let lower = name.to_lowercase();
    let score = |candidate: &str| {
        let other = candidate.to_lowercase();
        let distance = strsim::osa_distance(&lower, &other);
        let starts = lower.len() > 2 && (lower.starts_with(&other) || other.starts_with(&lower));
        let alike = strsim::jaro_winkler(&lower, &other) >= ALIKE;
        (starts || alike || distance <= 1 + other.len() / 4).then_some(distance)
    };
    known
        .into_iter()
        .filter_map(|candidate| score(candidate).map(|s| (s, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// What is said of an unknown name: the nearest known one, or all.
pub fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!(
            "is no known {what}; did you mean `{near}`? Known: {}",
            known.join(", ")
        ),
        None => format!("is no known {what}; known: {}", known.join(", ")),
    }
}
