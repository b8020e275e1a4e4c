//! The request of one attempt, as a value.

use domain::Webhook;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderName, Method, Request};
use jiff::Timestamp;

use super::rules::WebhookRules;
use crate::View;
use crate::wire::ExecutionJson;

/// The message's id: the same over all attempts, so that a receiver can tell what it has had.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");

/// When this attempt was made, in seconds since 1970.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");

/// One signature for each key, separated by blanks.
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Which trace the message belongs to (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("executor/", env!("CARGO_PKG_VERSION")));

/// Tells that end to that receiver, as a part of that trace. What is finished does not change, so every attempt has the same body.
///
/// # Errors
/// The configuration does not allow it any more; the text says why, without the URL.
pub(super) fn build(
    view: &View,
    webhook: &Webhook,
    rules: &WebhookRules,
    now: Timestamp,
    traceparent: &str,
) -> Result<Request<Vec<u8>>, String> {
    let uri = rules
        .check_url(&webhook.url)
        .map_err(|why| format!("the URL {why}"))?;
    let keys = rules
        .keys(&webhook.secret_ref)
        .ok_or_else(|| format!("the secret `{}` is not configured", webhook.secret_ref))?;
    let body = serde_json::to_vec(&ExecutionJson::of(view))
        .map_err(|error| format!("the message cannot be written: {error}"))?;
    let id = view.execution.id.to_string();
    let timestamp = now.as_second();
    let signature = keys.sign(&id, timestamp, &body);
    Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, AGENT)
        .header(WEBHOOK_ID, id)
        .header(WEBHOOK_TIMESTAMP, timestamp)
        .header(WEBHOOK_SIGNATURE, signature)
        .header(TRACEPARENT, traceparent)
        .body(body)
        .map_err(|error| format!("the request cannot be made: {error}"))
}
