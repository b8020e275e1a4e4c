//! `Status` answers, worded as the real API server words them.

use serde_json::{Value, json};

use crate::resources::Resource;

/// One reason why an object is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub reason: &'static str,
    /// What is wrong, without the field's name.
    pub message: String,
    /// The field's path, such as `spec.template.spec.containers[0].name`.
    pub field: String,
}

impl Cause {
    /// A value that is not allowed, shown as the server shows it (strings quoted, the rest as JSON).
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: with_detail(format!("Invalid value: {value}"), detail),
            field: field.into(),
        }
    }

    /// A missing value.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueRequired",
            message: with_detail("Required value".to_owned(), detail),
            field: field.into(),
        }
    }

    /// A value outside a closed set.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[&str]) -> Self {
        let list = supported
            .iter()
            .map(|s| format!("{s:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        Self {
            reason: "FieldValueNotSupported",
            message: format!("Unsupported value: {value}: supported values: {list}"),
            field: field.into(),
        }
    }

    /// A value that appears twice.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            message: format!("Duplicate value: {value}"),
            field: field.into(),
        }
    }

    /// A reference to something that does not exist in the same object.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueNotFound",
            message: format!("Not found: {value}"),
            field: field.into(),
        }
    }

    /// A value that may not be given.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self {
            reason: "FieldValueForbidden",
            message: with_detail("Forbidden".to_owned(), detail),
            field: field.into(),
        }
    }

    /// A value that is too long, in bytes.
    pub fn too_long(field: impl Into<String>, limit: usize) -> Self {
        Self {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {limit} bytes"),
            field: field.into(),
        }
    }
}

fn with_detail(text: String, detail: &str) -> String {
    if detail.is_empty() {
        text
    } else {
        format!("{text}: {detail}")
    }
}

/// A refused request: the HTTP status code and the `Status` object of its body.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The HTTP status code.
    pub code: u16,
    /// The `Status` object. Boxed: failures are rare and results travel by value.
    pub body: Box<Value>,
}

impl Failure {
    fn new(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Self {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message.into(),
        });
        if !reason.is_empty() {
            body["reason"] = json!(reason);
        }
        if let Some(details) = details {
            body["details"] = details;
        }
        body["code"] = json!(code);
        Self {
            code,
            body: Box::new(body),
        }
    }

    /// The message of the `Status`.
    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    /// 404 for a named object.
    pub fn not_found(resource: Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified_plural());
        Self::new(
            404,
            "NotFound",
            message,
            Some(named(resource, name, resource.plural())),
        )
    }

    /// 404 for a path that is no resource.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
            Some(json!({})),
        )
    }

    /// 409 for a name that is taken.
    pub fn already_exists(resource: Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified_plural());
        Self::new(
            409,
            "AlreadyExists",
            message,
            Some(named(resource, name, resource.plural())),
        )
    }

    /// 409 for a precondition or resourceVersion that does not hold.
    pub fn conflict(resource: Resource, name: &str, detail: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {detail}",
            resource.qualified_plural()
        );
        Self::new(
            409,
            "Conflict",
            message,
            Some(named(resource, name, resource.plural())),
        )
    }

    /// 409 for a deletion whose precondition does not hold; the real server names the kind here, not the resource.
    pub fn precondition(resource: Resource, name: &str, detail: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {detail}",
            resource.qualified_kind()
        );
        Self::new(
            409,
            "Conflict",
            message,
            Some(named(resource, name, resource.kind())),
        )
    }

    /// 422 with every cause.
    pub fn invalid(resource: Resource, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> = causes
            .iter()
            .map(|c| {
                format!(
                    "{}: {}",
                    if c.field.is_empty() { "[]" } else { &c.field },
                    c.message
                )
            })
            .collect();
        let list = if texts.len() == 1 {
            texts[0].clone()
        } else {
            format!("[{}]", texts.join(", "))
        };
        let message = format!("{} {name:?} is invalid: {list}", resource.qualified_kind());
        let mut details = named(resource, name, resource.kind());
        details["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": if c.field.is_empty() { "[]" } else { &c.field }}))
            .collect();
        Self::new(422, "Invalid", message, Some(details))
    }

    /// 422 for options that are no object of the cluster, such as those of a deletion or a log.
    pub fn invalid_options(group: &str, kind: &str, name: &str, cause: &Cause) -> Self {
        let qualified = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        let message = format!(
            "{qualified} {name:?} is invalid: {}: {}",
            cause.field, cause.message
        );
        let cause = json!({"reason": cause.reason, "message": cause.message, "field": cause.field});
        let mut details = json!({"kind": kind, "causes": [cause]});
        for (field, value) in [("name", name), ("group", group)] {
            if !value.is_empty() {
                details[field] = json!(value);
            }
        }
        Self::new(422, "Invalid", message, Some(details))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message, None)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized", None)
    }

    /// 403 for an object that admission refuses.
    pub fn forbidden(resource: Resource, name: &str, detail: &str) -> Self {
        let message = format!(
            "{} {name:?} is forbidden: {detail}",
            resource.qualified_plural()
        );
        Self::new(
            403,
            "Forbidden",
            message,
            Some(named(resource, name, resource.plural())),
        )
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
            Some(json!({})),
        )
    }

    /// 410 for a list that cannot be continued consistently; the token continues inconsistently, as the real one offers.
    pub fn expired_continue(token: Option<String>) -> Self {
        let mut failure = Self::new(410, "Expired", EXPIRED_CONTINUE, None);
        if let Some(token) = token {
            failure.body["metadata"]["continue"] = json!(token);
        }
        failure
    }

    /// 410 for a resourceVersion older than the history kept.
    pub fn too_old(requested: u64, oldest: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {requested} ({oldest})"),
            None,
        )
    }

    /// 504 for a resourceVersion that does not exist yet.
    pub fn too_large_version(requested: u64, current: u64) -> Self {
        let message =
            format!("Timeout: Too large resource version: {requested}, current: {current}");
        let details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}], "retryAfterSeconds": 1,
        });
        Self::new(504, "Timeout", message, Some(details))
    }

    /// 413 for a request body over `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        Self::new(
            413,
            "RequestEntityTooLarge",
            format!("Request entity too large: limit is {limit}"),
            None,
        )
    }

    /// 415 for a body of another content type.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message, None)
    }

    /// 500 as etcd's refusals are passed on, without a reason.
    pub fn storage_refused(message: &str) -> Self {
        Self::new(500, "", message, None)
    }

    /// 500.
    pub fn internal(message: &str) -> Self {
        let details = json!({"causes": [{"message": message}]});
        Self::new(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
            Some(details),
        )
    }
}

const EXPIRED_CONTINUE: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the \
provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
returned and now may show up in the list.";

fn named(resource: Resource, name: &str, kind: &str) -> Value {
    let mut details = json!({"name": name});
    if !resource.group().is_empty() {
        details["group"] = json!(resource.group());
    }
    details["kind"] = json!(kind);
    details
}

/// The `Status` of a deletion that took effect at once.
pub fn deleted(resource: Resource, name: &str, uid: &str) -> Value {
    let mut details = named(resource, name, resource.plural());
    details["uid"] = json!(uid);
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
