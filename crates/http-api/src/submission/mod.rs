//! The body of `POST /executions`, or of many as a batch: checked whole, so that all its errors are told at once.

mod digest;
mod files;
mod image;
pub mod reader;
mod resources;
mod retry;
mod text;
mod webhook;

use app::{MAX_TTL_SECONDS, WebhookRules};
use domain::{Resources, Submission, Timeouts};
use serde_json::{Map, Value};

use crate::limits::{
    MAX_BATCH_ITEMS, MAX_GRACE_SECONDS, MAX_PRIORITY, MAX_QUEUE_SECONDS, MAX_RUN_SECONDS,
    MAX_START_SECONDS,
};
use crate::problem::FieldError;
use reader::{Object, Reader, child, kind_of};

/// What the configuration says about requests.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// The image where the request names none; always allowed.
    pub default_image: &'a str,
    /// Globs of the images that may be named; `*` alone allows every image.
    pub allowed_images: &'a [String],
    /// Of these, globs of what the caller's tenant may name; none where it may name all of them.
    pub tenant_images: Option<&'a [String]>,
    /// The most that one execution of the caller may ask for.
    pub max_resources: Resources,
    /// How long the record is kept after the end when the request does not say.
    pub ttl_seconds: u32,
    /// Whom webhooks may tell, and who signs.
    pub webhooks: &'a WebhookRules,
}

/// The fields of a request.
const FIELDS: &[&str] = &[
    "script",
    "interpreter",
    "args",
    "image",
    "resources",
    "env",
    "files",
    "timeouts",
    "retry",
    "priority",
    "labels",
    "ttlSeconds",
    "webhook",
];

/// Fields of the contract that this version does not have.
const LATER_FIELDS: &[&str] = &["secretEnv"];

/// Names that people put into the body, and where they belong.
const ELSEWHERE: &[(&str, &str)] = &[
    ("wait", "belongs in the query: ?wait=30"),
    ("dryRun", "belongs in the query: ?dryRun=true"),
    (
        "idempotencyKey",
        "belongs in a header: Idempotency-Key: <key>",
    ),
    ("cpu", "belongs under `resources`"),
    ("memory", "belongs under `resources`"),
    ("runSeconds", "belongs under `timeouts`"),
    ("webhookUrl", "belongs under `webhook`, as `url`"),
];

/// A batch as it was posted: valid, in its order.
#[derive(Debug)]
pub struct Batch {
    /// What is to be run.
    pub submissions: Vec<Submission>,
    /// Tells a replay of the whole batch from any other request.
    pub digest: String,
}

/// Checks the whole body against the contract and the configuration.
///
/// # Errors
/// Every error there is, in the order of the fields; never an empty list.
pub fn parse_submission(body: Value, rules: &Rules<'_>) -> Result<Submission, Vec<FieldError>> {
    let mut reader = Reader::default();
    let submission = submission(body, String::new(), rules, &mut reader);
    submission.ok_or_else(|| reader.into_errors())
}

/// The same of a whole batch, `{"executions": […]}`.
///
/// # Errors
/// Every error of every execution, in their order; never an empty list.
pub fn parse_batch(body: Value, rules: &Rules<'_>) -> Result<Batch, Vec<FieldError>> {
    let digest = digest::of(&body);
    let mut reader = Reader::default();
    let items = batch_items(body, &mut reader).unwrap_or_default();
    let submissions: Vec<_> = items
        .into_iter()
        .filter_map(|(pointer, item)| submission(item, pointer, rules, &mut reader))
        .collect();
    let errors = reader.into_errors();
    if errors.is_empty() {
        Ok(Batch {
            submissions,
            digest,
        })
    } else {
        Err(errors)
    }
}

/// The executions of a batch, each with the place it stands at.
fn batch_items(body: Value, reader: &mut Reader) -> Option<Vec<(String, Value)>> {
    let members = members(body, String::new(), reader)?;
    let mut object = Object::new(members, String::new());
    object.refuse_unknown(&["executions"], reader);
    let pointer = object.pointer("executions");
    let items = match object.take("executions") {
        Some(Value::Array(items)) => items,
        Some(other) => {
            let detail = format!("must be an array of executions, not {}", kind_of(&other));
            reader.add(pointer, detail);
            return None;
        }
        None => {
            reader.add(pointer, "is required");
            return None;
        }
    };
    if !(1..=MAX_BATCH_ITEMS).contains(&items.len()) {
        let detail = format!(
            "has {} executions; 1 to {MAX_BATCH_ITEMS} are allowed",
            items.len()
        );
        reader.add(pointer, detail);
        return None;
    }
    let place = |(at, item): (usize, Value)| (child(&pointer, &at.to_string()), item);
    Some(items.into_iter().enumerate().map(place).collect())
}

fn members(value: Value, pointer: String, reader: &mut Reader) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        other => {
            let detail = format!("must be an object, not {}", kind_of(&other));
            reader.add(pointer, detail);
            None
        }
    }
}

/// The submission that stands there; none where any of it is wrong, which is noted.
fn submission(
    value: Value,
    pointer: String,
    rules: &Rules<'_>,
    reader: &mut Reader,
) -> Option<Submission> {
    let before = reader.count();
    let digest = digest::of(&value);
    let mut object = Object::new(members(value, pointer.clone(), reader)?, pointer);
    object.refuse_later(LATER_FIELDS, reader);
    object.refuse_elsewhere(ELSEWHERE, reader);
    object.refuse_unknown(FIELDS, reader);
    let submission = Submission {
        script: text::script(&mut object, reader),
        interpreter: text::interpreter(&mut object, reader),
        args: text::args(&mut object, reader),
        image: image::image(&mut object, rules, reader),
        resources: resources::resources(&mut object, &rules.max_resources, reader),
        env: text::env(&mut object, reader),
        files: files::files(&mut object, reader),
        timeouts: timeouts(&mut object, reader),
        retry: retry::retry(&mut object, reader),
        priority: priority(&mut object, reader),
        labels: text::labels(&mut object, reader),
        ttl_seconds: ttl_seconds(&mut object, rules, reader),
        webhook: webhook::webhook(&mut object, rules.webhooks, reader),
        digest,
    };
    (reader.count() == before).then_some(submission)
}

fn timeouts(object: &mut Object, reader: &mut Reader) -> Timeouts {
    let mut timeouts = Timeouts::default();
    let Some(mut given) = object.object("timeouts", reader) else {
        return timeouts;
    };
    for (name, least, most, place) in [
        (
            "queueSeconds",
            1,
            MAX_QUEUE_SECONDS,
            &mut timeouts.queue_seconds,
        ),
        (
            "startSeconds",
            1,
            MAX_START_SECONDS,
            &mut timeouts.start_seconds,
        ),
        ("runSeconds", 1, MAX_RUN_SECONDS, &mut timeouts.run_seconds),
        (
            "graceSeconds",
            0,
            MAX_GRACE_SECONDS,
            &mut timeouts.grace_seconds,
        ),
    ] {
        if let Some(value) = given.take(name) {
            match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(seconds) if (least..=most).contains(&seconds) => *place = seconds,
                _ => reader.add(
                    given.pointer(name),
                    format!("must be a whole number of seconds from {least} to {most}"),
                ),
            }
        }
    }
    let known = ["queueSeconds", "startSeconds", "runSeconds", "graceSeconds"];
    given.refuse_unknown(&known, reader);
    timeouts
}

/// `priority`: the same distance up and down from what nobody has asked for.
fn priority(object: &mut Object, reader: &mut Reader) -> i32 {
    let Some(value) = object.take("priority") else {
        return 0;
    };
    let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
    let priority = number.filter(|n| (-MAX_PRIORITY..=MAX_PRIORITY).contains(n));
    priority.unwrap_or_else(|| {
        let detail = format!("must be a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}");
        reader.add(object.pointer("priority"), detail);
        0
    })
}

fn ttl_seconds(object: &mut Object, rules: &Rules<'_>, reader: &mut Reader) -> u32 {
    let Some(value) = object.take("ttlSeconds") else {
        return rules.ttl_seconds;
    };
    let seconds = value.as_u64().and_then(|n| u32::try_from(n).ok());
    seconds
        .filter(|seconds| *seconds <= MAX_TTL_SECONDS)
        .unwrap_or_else(|| {
            let detail = format!("must be a whole number of seconds from 0 to {MAX_TTL_SECONDS}");
            reader.add(object.pointer("ttlSeconds"), detail);
            rules.ttl_seconds
        })
}
