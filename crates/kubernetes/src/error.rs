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
    /// 5xx: it cannot do it now. It may have been carried out all the same.
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
            410 => Self::Gone { message },
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
    message.contains(" cannot ")
        && (message.contains("User \"") || message.contains("cannot be accessed"))
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
mod tests {
    //! Which answer is which error, and what may follow from it.
    use super::*;

    fn status(code: u16, reason: &str, message: &str) -> Error {
        let body = format!(
            r#"{{"kind":"Status","status":"Failure","metadata":{{}},"code":{code},"reason":"{reason}","message":{message:?}}}"#
        );
        Error::refusal(code, None, body.as_bytes())
    }

    /// The variant's name, whether it is retryable, and whether it is definite.
    fn check(error: &Error, name: &str, retryable: bool, definite: bool) {
        let debug = format!("{error:?}");
        assert_eq!(debug.split([' ', '(', '{']).next(), Some(name), "{debug}");
        assert_eq!(
            (error.is_retryable(), error.is_definite()),
            (retryable, definite),
            "{debug}"
        );
    }

    #[test]
    fn the_reason_decides_where_it_is_known() {
        for (code, reason, name, retryable, definite) in [
            (400, "BadRequest", "BadRequest", false, true),
            (401, "Unauthorized", "Unauthorized", false, true),
            (403, "Forbidden", "Forbidden", false, true),
            (404, "NotFound", "NotFound", false, true),
            (409, "AlreadyExists", "AlreadyExists", false, false),
            (409, "Conflict", "Conflict", true, true),
            (410, "Expired", "Gone", false, true),
            (410, "Gone", "Gone", false, true),
            (413, "RequestEntityTooLarge", "RequestTooLarge", false, true),
            (422, "Invalid", "Invalid", false, true),
            (429, "TooManyRequests", "TooManyRequests", true, true),
            (500, "InternalError", "Unavailable", true, false),
            (500, "ServerTimeout", "Unavailable", true, false),
            (503, "ServiceUnavailable", "Unavailable", true, false),
            (504, "Timeout", "Unavailable", true, false),
            (405, "MethodNotAllowed", "Unexpected", false, true),
            // The reason outweighs a code that says something else.
            (500, "AlreadyExists", "AlreadyExists", false, false),
            (403, "NotFound", "NotFound", false, true),
        ] {
            check(&status(code, reason, "text"), name, retryable, definite);
        }
    }

    #[test]
    fn the_code_decides_where_the_reason_is_unknown_or_the_body_is_no_status() {
        for (code, name, retryable, definite) in [
            (301, "Unexpected", false, false),
            (400, "BadRequest", false, true),
            (401, "Unauthorized", false, true),
            (403, "Forbidden", false, true),
            (404, "NotFound", false, true),
            (409, "Conflict", true, true),
            (410, "Gone", false, true),
            (418, "Unexpected", false, true),
            (422, "Invalid", false, true),
            (429, "TooManyRequests", true, true),
            (500, "Unavailable", true, false),
            (502, "Unavailable", true, false),
            (504, "Unavailable", true, false),
        ] {
            check(
                &status(code, "SomethingNew", "text"),
                name,
                retryable,
                definite,
            );
            check(
                &Error::refusal(code, None, b"<h1>Bad gateway</h1>"),
                name,
                retryable,
                definite,
            );
            check(&Error::refusal(code, None, b""), name, retryable, definite);
            check(
                &Error::refusal(code, None, b"{}"),
                name,
                retryable,
                definite,
            );
        }
    }

    #[test]
    fn failures_without_an_answer_tell_whether_it_may_have_happened() {
        check(
            &TransportError::NotSent(String::new()).into(),
            "Transport",
            true,
            true,
        );
        check(
            &TransportError::Unknown(String::new()).into(),
            "Transport",
            true,
            false,
        );
        check(
            &Error::BodyTooLarge { limit_bytes: 1 },
            "BodyTooLarge",
            false,
            false,
        );
        check(&Error::BadInput(String::new()), "BadInput", false, true);
    }

    #[test]
    fn quota_permission_and_admission_are_told_apart() {
        for (message, quota, permission) in [
            (
                "jobs.batch \"x-1\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=9, limited: count/jobs.batch=9",
                true,
                false,
            ),
            (
                "jobs.batch \"x-1\" is forbidden: status unknown for quota: q, resources: count/jobs.batch",
                true,
                false,
            ),
            (
                "jobs.batch \"x-1\" is forbidden: failed quota: q: must specify limits.cpu for: script",
                false,
                false,
            ),
            (
                "jobs.batch is forbidden: User \"system:serviceaccount:runs:executor\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"runs\"",
                false,
                true,
            ),
            (
                "jobs.batch \"x-1\" is forbidden: unable to create new content in namespace runs because it is being terminated",
                false,
                false,
            ),
            (
                "admission webhook \"policy.example\" denied the request: no latest tag",
                false,
                false,
            ),
        ] {
            match status(403, "Forbidden", message) {
                Error::Forbidden {
                    is_quota,
                    is_permission,
                    ..
                } => assert_eq!((is_quota, is_permission), (quota, permission), "{message}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn patience_comes_from_the_header_or_the_body() {
        let body = br#"{"kind":"Status","code":429,"reason":"TooManyRequests","details":{"retryAfterSeconds":7}}"#;
        let after = |header| Error::refusal(429, header, body).retry_after();
        assert_eq!(after(None), Some(Duration::from_secs(7)));
        assert_eq!(
            after(Some(Duration::from_secs(3))),
            Some(Duration::from_secs(3))
        );
        assert_eq!(Error::refusal(503, None, b"{}").retry_after(), None);
    }

    #[test]
    fn each_cause_of_an_invalid_object_is_kept() {
        let body = br#"{"code":422,"reason":"Invalid","message":"Job \"x\" is invalid","details":{"name":"x","causes":[
            {"reason":"FieldValueInvalid","message":"bad quantity","field":"spec.template.spec.containers[0].resources.limits[cpu]"}]}}"#;
        let Error::Invalid { causes, .. } = Error::refusal(422, None, body) else {
            panic!("not invalid")
        };
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].reason, "FieldValueInvalid");
        assert!(causes[0].field.ends_with("limits[cpu]"));
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = Error::refusal(500, None, "é".repeat(5000).as_bytes());
        let Error::Unavailable { message, .. } = error else {
            panic!("not unavailable")
        };
        assert!(message.len() <= MESSAGE_LIMIT_BYTES + '…'.len_utf8());
        assert!(message.ends_with("é…"));
    }
}
