//! What can go wrong with a request, told apart as far as callers must act differently.

use std::time::Duration;

use crate::transport::TransportError;
use crate::wire;

/// A message longer than this is cut, in bytes: it ends in records and logs, where more helps nobody.
const MESSAGE_LIMIT_BYTES: usize = 2048;

/// A request failed. Messages are the API server's own words; none holds a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// 401: the token is missing, wrong or expired.
    #[error("the API server does not accept the credentials: {message}")]
    Unauthorized {
        /// The API server's words.
        message: String,
    },
    /// 403: not allowed, by a role, a quota or an admission rule.
    #[error("the API server forbids it: {message}")]
    Forbidden {
        /// The API server's words.
        message: String,
        /// A ResourceQuota is used up (or not counted yet): the same request may be allowed later.
        is_quota: bool,
        /// The account's roles lack the permission: an operator has to act.
        is_permission: bool,
    },
    /// 404: there is no such object, or its namespace is missing.
    #[error("not found: {message}")]
    NotFound {
        /// The API server's words.
        message: String,
    },
    /// 409 on a create: an object of that name is there.
    #[error("it exists already: {message}")]
    AlreadyExists {
        /// The API server's words.
        message: String,
    },
    /// 409 otherwise: the object is not as the request presumes (a precondition, a racing write, also of a quota).
    #[error("the request conflicts with the object's state: {message}")]
    Conflict {
        /// The API server's words.
        message: String,
    },
    /// 410: that resource version or continue token is too old; list anew.
    #[error("too old: {message}")]
    Gone {
        /// The API server's words.
        message: String,
        /// Gives the pages from that place on as they are now, where it was a continue token that is too old.
        continue_token: Option<String>,
    },
    /// 422: the object breaks a rule of the API.
    #[error("invalid: {message}")]
    Invalid {
        /// The API server's words, all causes in one text.
        message: String,
        /// Each broken rule.
        causes: Vec<Cause>,
    },
    /// 400: the request makes no sense to the server; also what admission webhooks answer when they deny, and
    /// the log of a container that has not started.
    #[error("the API server rejects the request: {message}")]
    BadRequest {
        /// The API server's words.
        message: String,
    },
    /// 413: the request's body has more bytes than the server takes.
    #[error("the request is too large for the API server: {message}")]
    RequestTooLarge {
        /// The API server's words.
        message: String,
    },
    /// 429: it asks for patience. It has done nothing.
    #[error("the API server asks for patience: {message}")]
    TooManyRequests {
        /// The API server's words.
        message: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// 5xx, or words of the node's own in place of a log: it cannot do it now. It may have been carried out all the same.
    #[error("the API server cannot do it now ({code}): {message}")]
    Unavailable {
        /// The HTTP status code.
        code: u16,
        /// The API server's words.
        message: String,
        /// How long it wants to be left alone, if it says so.
        retry_after: Option<Duration>,
    },
    /// A status code that none of the others covers.
    #[error("unexpected answer {code}: {message}")]
    Unexpected {
        /// The HTTP status code.
        code: u16,
        /// The API server's words.
        message: String,
    },
    /// No answer, or not all of it.
    #[error("the API server gave no full answer")]
    Transport(#[from] TransportError),
    /// The answer has more bytes than this kind of answer can reasonably have.
    #[error("the answer has more than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit_bytes: usize,
    },
    /// The answer is not what the API promises.
    #[error("the answer cannot be read")]
    Malformed(#[source] serde_json::Error),
    /// The request could not be built; nothing was sent.
    #[error("the request cannot be built: {0}")]
    BadInput(String),
}

/// One rule that an object breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field's path, as in `spec.template.spec.containers[0].image`.
    pub field: String,
    /// Which kind of rule, as in `FieldValueInvalid`.
    pub reason: String,
    /// What is wrong, in words.
    pub message: String,
}

impl Error {
    /// Whether the same request may well succeed in a moment. A used-up quota is not: see `is_quota`.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyRequests { .. }
                | Self::Unavailable { .. }
                | Self::Transport(_)
                | Self::Conflict { .. }
        )
    }

    /// Whether the request surely had no effect: it was refused, or never sent. For
    /// [`AlreadyExists`](Self::AlreadyExists) this is false, since an earlier try of the same request may have
    /// made what exists.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Conflict { .. }
            | Self::Gone { .. }
            | Self::Invalid { .. }
            | Self::BadRequest { .. }
            | Self::RequestTooLarge { .. }
            | Self::TooManyRequests { .. }
            | Self::Transport(TransportError::NotSent(_))
            | Self::BadInput(_) => true,
            Self::Unexpected { code, .. } => (400..500).contains(code),
            Self::AlreadyExists { .. }
            | Self::Unavailable { .. }
            | Self::Transport(TransportError::Unknown(_))
            | Self::BodyTooLarge { .. }
            | Self::Malformed(_) => false,
        }
    }

    /// Whether there is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether an object of that name was there before.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }

    /// Whether the object is not as the request presumes.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// Whether the resource version is too old.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    /// Whether the API server makes nothing of a request that it would have understood once: of a continue token, that it is
    /// too old, or that no server of its version has made it.
    pub fn is_refused_place(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::BadRequest { .. })
    }

    /// Where a list goes on whose continue token is too old, if the API server says so: what changed since its first page may be
    /// in the rest of it or not.
    pub fn continue_token(&self) -> Option<&str> {
        match self {
            Self::Gone { continue_token, .. } => continue_token.as_deref(),
            _ => None,
        }
    }

    /// Whether a ResourceQuota stands in the way.
    pub fn is_quota(&self) -> bool {
        matches!(self, Self::Forbidden { is_quota: true, .. })
    }

    /// How long the API server wants to be left alone, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Unavailable { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// The error of a refusal: by the reason in its body, by its status code where the reason is none that is
    /// known (a proxy's answer has no such body).
    pub(crate) fn refusal(code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        match serde_json::from_slice::<wire::Status>(body) {
            Ok(status) => Self::from_status(status, code, retry_after),
            Err(_) => {
                let message = String::from_utf8_lossy(body).trim().to_owned();
                Self::from_status(
                    wire::Status {
                        message,
                        ..Default::default()
                    },
                    code,
                    retry_after,
                )
            }
        }
    }

    /// The error of a `Status` object; `code` is that of the answer it came in, if it came as one.
    pub(crate) fn from_status(
        status: wire::Status,
        code: u16,
        retry_after: Option<Duration>,
    ) -> Self {
        let code = if status.code == 0 { code } else { status.code };
        let message = cut(status.message);
        let details = status.details.unwrap_or_default();
        let seconds = details.retry_after_seconds.filter(|seconds| *seconds > 0);
        let retry_after = retry_after.or(seconds.map(|s| Duration::from_secs(s.into())));
        match condition(&status.reason).unwrap_or(code) {
            400 => Self::BadRequest { message },
            401 => Self::Unauthorized { message },
            403 => Self::Forbidden {
                is_quota: is_quota(&message),
                is_permission: is_permission(&message),
                message,
            },
            404 => Self::NotFound { message },
            409 if status.reason == "AlreadyExists" => Self::AlreadyExists { message },
            409 => Self::Conflict { message },
            410 => Self::Gone {
                message,
                continue_token: status.metadata.and_then(|metadata| metadata.next()),
            },
            413 => Self::RequestTooLarge { message },
            422 => Self::Invalid {
                message,
                causes: causes(details.causes),
            },
            429 => Self::TooManyRequests {
                message,
                retry_after,
            },
            500.. => Self::Unavailable {
                code,
                message,
                retry_after,
            },
            _ => Self::Unexpected { code, message },
        }
    }
}

/// The code that a known reason stands for; it outweighs the answer's own code.
fn condition(reason: &str) -> Option<u16> {
    Some(match reason {
        "BadRequest" => 400,
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "NotFound" => 404,
        "MethodNotAllowed" => 405,
        "NotAcceptable" => 406,
        "AlreadyExists" | "Conflict" => 409,
        "Gone" | "Expired" => 410,
        "RequestEntityTooLarge" => 413,
        "UnsupportedMediaType" => 415,
        "Invalid" => 422,
        "TooManyRequests" => 429,
        "InternalError" | "ServerTimeout" | "StorageReadError" => 500,
        "ServiceUnavailable" => 503,
        "Timeout" => 504,
        _ => return None,
    })
}

/// The quota controller's three ways to say that there is no room now. That a quota wants a resource which the
/// Job does not name ("must specify") is another thing: waiting does not help.
fn is_quota(message: &str) -> bool {
    [
        "exceeded quota:",
        "status unknown for quota:",
        "insufficient quota to",
    ]
    .iter()
    .any(|text| message.contains(text))
}

/// The authorizer's way to say that a role is missing.
fn is_permission(message: &str) -> bool {
    ["User \"", "\" cannot ", " resource \""]
        .iter()
        .all(|text| message.contains(text))
}

fn causes(causes: Option<Vec<wire::StatusCause>>) -> Vec<Cause> {
    let cause = |c: wire::StatusCause| Cause {
        field: c.field,
        reason: c.reason,
        message: cut(c.message),
    };
    causes.unwrap_or_default().into_iter().map(cause).collect()
}

/// Cuts a message at the limit, between two characters.
fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT_BYTES {
        message.truncate(message.floor_char_boundary(MESSAGE_LIMIT_BYTES));
        message.push('…');
    }
    message
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
