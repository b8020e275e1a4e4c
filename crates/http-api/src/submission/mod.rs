//! The body of `POST /executions`: checked whole, so that all its errors are told at once.

mod digest;
mod files;
mod image;
mod reader;
mod resources;
mod text;

use app::MAX_TTL_SECONDS;
use domain::{Resources, Submission, Timeouts};
use serde_json::Value;

use crate::limits::{
    MAX_GRACE_SECONDS, MAX_PRIORITY, MAX_QUEUE_SECONDS, MAX_RUN_SECONDS, MAX_START_SECONDS,
};
use crate::problem::{FieldError, Place};
use reader::{Object, Reader, kind_of};

/// What the configuration says about requests.
#[derive(Clone, Debug)]
pub struct Rules<'a> {
    /// The image where the request names none; always allowed.
    pub default_image: &'a str,
    /// Globs of the images that may be named; `*` alone allows every image.
    pub allowed_images: &'a [String],
    /// The most that one execution may ask for.
    pub max_resources: Resources,
    /// How long the record is kept after the end when the request does not say.
    pub ttl_seconds: u32,
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
    "priority",
    "labels",
    "ttlSeconds",
];

/// Fields of the contract that this version does not have.
const LATER_FIELDS: &[&str] = &["secretEnv", "retry", "webhook"];

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
];

/// Checks the whole body against the contract and the configuration.
///
/// # Errors
/// Every error there is, in the order of the fields; never an empty list.
pub fn parse_submission(body: Value, rules: &Rules<'_>) -> Result<Submission, Vec<FieldError>> {
    let digest = digest::of(&body);
    let mut reader = Reader::default();
    let members = match body {
        Value::Object(members) => members,
        other => {
            return Err(vec![FieldError {
                place: Place::Pointer(String::new()),
                detail: format!("must be an object, not {}", kind_of(&other)),
            }]);
        }
    };
    let mut object = Object::new(members, String::new());
    object.refuse_later(LATER_FIELDS, &mut reader);
    object.refuse_elsewhere(ELSEWHERE, &mut reader);
    object.refuse_unknown(FIELDS, &mut reader);
    let submission = Submission {
        script: text::script(&mut object, &mut reader),
        interpreter: text::interpreter(&mut object, &mut reader),
        args: text::args(&mut object, &mut reader),
        image: image::image(&mut object, rules, &mut reader),
        resources: resources::resources(&mut object, &rules.max_resources, &mut reader),
        env: text::env(&mut object, &mut reader),
        files: files::files(&mut object, &mut reader),
        timeouts: timeouts(&mut object, &mut reader),
        priority: priority(&mut object, &mut reader),
        labels: text::labels(&mut object, &mut reader),
        ttl_seconds: ttl_seconds(&mut object, rules, &mut reader),
        digest,
    };
    let errors = reader.into_errors();
    if errors.is_empty() {
        Ok(submission)
    } else {
        Err(errors)
    }
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
