//! `/openapi.json`: the API as OpenAPI 3.1 describes it.
//!
//! Its shape stands in `openapi.json`; names out of closed sets and limits are put in from where the program has them. The
//! tests hold the rest to the routes, the readers of requests and the writers of answers, both ways.

use app::{DEFAULT_SECRET, DeliveryState, MAX_TTL_SECONDS, Platform};
use domain::{Action, Fault, Outcome, Reason, Retry, Role, Status, Timeouts};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};

use crate::answer::Reply;
use crate::limits;
use crate::problem::Kind;

/// With `"{{name}}"` where a value is to be put in.
const TEMPLATE: &str = include_str!("openapi.json");

/// `GET /openapi.json`.
pub fn get<P: Platform>() -> Reply<P> {
    Reply::text(StatusCode::OK, document())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
}

fn document() -> String {
    let mut text = TEMPLATE.to_owned();
    for (name, value) in names().into_iter().chain(numbers()) {
        text = text.replace(&format!("\"{{{{{name}}}}}\""), &value.to_string());
    }
    text
}

/// What is chosen out of closed sets.
fn names() -> Vec<(&'static str, Value)> {
    let outcomes = Outcome::ALL.map(Outcome::as_str);
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let mut faults = Vec::new();
    for fault in Reason::ALL.iter().filter_map(|reason| reason.fault()) {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    let faults: Vec<_> = faults.into_iter().map(Fault::as_str).collect();
    let problems = Kind::ALL.map(|kind| format!("/problems/{}", kind.parts().0));
    vec![
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("statuses", json!(Status::ALL.map(Status::as_str))),
        ("outcomes", json!(outcomes)),
        ("outcomesOrNull", or_null(&outcomes)),
        (
            "retriedOutcomes",
            json!(Retry::OUTCOMES.map(Outcome::as_str)),
        ),
        ("actions", json!(Action::ALL.map(Action::as_str))),
        ("roles", json!(Role::ALL.map(Role::as_str))),
        ("reasons", json!(reasons)),
        ("reasonsOrNull", or_null(&reasons)),
        ("faultsOrNull", or_null(&faults)),
        (
            "deliveryStates",
            json!(DeliveryState::ALL.map(DeliveryState::as_str)),
        ),
        ("problems", json!(problems)),
        ("defaultSecret", json!(DEFAULT_SECRET)),
    ]
}

fn or_null(names: &[&str]) -> Value {
    let nothing = std::iter::once(None);
    names.iter().copied().map(Some).chain(nothing).collect()
}

/// Limits and defaults.
fn numbers() -> Vec<(&'static str, Value)> {
    let clocks = Timeouts::default();
    vec![
        ("maxScriptBytes", json!(limits::MAX_SCRIPT_BYTES)),
        ("maxInterpreter", json!(limits::MAX_INTERPRETER)),
        ("maxArgs", json!(limits::MAX_ARGS)),
        ("maxEnv", json!(limits::MAX_ENV)),
        ("maxFiles", json!(limits::MAX_FILES)),
        ("maxLabels", json!(limits::MAX_LABELS)),
        ("maxLabelKeyChars", json!(limits::MAX_LABEL_KEY_CHARS)),
        ("maxLabelValueChars", json!(limits::MAX_LABEL_VALUE_CHARS)),
        ("maxRetries", json!(limits::MAX_RETRIES)),
        ("maxAttempts", json!(limits::MAX_RETRIES + 1)),
        ("minPriority", json!(-limits::MAX_PRIORITY)),
        ("maxPriority", json!(limits::MAX_PRIORITY)),
        ("maxTtlSeconds", json!(MAX_TTL_SECONDS)),
        ("maxQueueSeconds", json!(limits::MAX_QUEUE_SECONDS)),
        ("maxStartSeconds", json!(limits::MAX_START_SECONDS)),
        ("maxRunSeconds", json!(limits::MAX_RUN_SECONDS)),
        ("maxGraceSeconds", json!(limits::MAX_GRACE_SECONDS)),
        ("queueSeconds", json!(clocks.queue_seconds)),
        ("startSeconds", json!(clocks.start_seconds)),
        ("runSeconds", json!(clocks.run_seconds)),
        ("graceSeconds", json!(clocks.grace_seconds)),
        ("maxTokenNameChars", json!(limits::MAX_TOKEN_NAME_CHARS)),
        ("maxBatchItems", json!(limits::MAX_BATCH_ITEMS)),
        ("maxWaitSeconds", json!(limits::MAX_WAIT_SECONDS)),
        ("maxTickSeconds", json!(limits::MAX_TICK_SECONDS)),
        ("maxTailLines", json!(limits::MAX_TAIL_LINES)),
        ("maxSinceSeconds", json!(limits::MAX_SINCE_SECONDS)),
        ("maxPageItems", json!(limits::MAX_PAGE_ITEMS)),
        ("defaultPageItems", json!(limits::DEFAULT_PAGE_ITEMS)),
        (
            "maxIdempotencyKeyBytes",
            json!(limits::MAX_IDEMPOTENCY_KEY_BYTES),
        ),
    ]
}
