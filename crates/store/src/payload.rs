//! Submissions as JSON: the form of `payloads.body`.
//!
//! The structs are the stored form and nothing else. A field that is not known is an error: it
//! means something that this version would not do.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Quantity, Resources, Retry, Submission, Timeouts, Webhook};
use serde::{Deserialize, Serialize};

use crate::StoreError;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    script: String,
    interpreter: Option<Vec<String>>,
    args: Vec<String>,
    image: String,
    cpu: String,
    memory: String,
    ephemeral_storage: Option<String>,
    env: BTreeMap<String, String>,
    /// The contents in base64, by path.
    files: BTreeMap<String, String>,
    timeouts: Clocks,
    /// Absent where it is 0, as in all rows of before there were priorities.
    #[serde(default, skip_serializing_if = "is_zero")]
    priority: i32,
    /// Absent where there are none, as in rows of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<Retries>,
    labels: BTreeMap<String, String>,
    /// Absent in what was accepted before it could be said.
    #[serde(default = "first_ttl_seconds")]
    ttl_seconds: u32,
    /// Absent where none was asked for, as in rows of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    webhook: Option<Hook>,
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hook {
    url: String,
    secret_ref: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Retries {
    limit: u32,
    on_error: bool,
    on_failed: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clocks {
    queue_seconds: u32,
    start_seconds: u32,
    run_seconds: u32,
    grace_seconds: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// What the migration that brought the column has set.
const fn first_ttl_seconds() -> u32 {
    2_592_000
}

/// The JSON of a submission.
pub(crate) fn encode(submission: &Submission) -> String {
    let Submission {
        script,
        interpreter,
        args,
        image,
        resources,
        env,
        files,
        timeouts,
        retry,
        priority,
        labels,
        ttl_seconds,
        webhook,
        digest,
    } = submission.clone();
    let Timeouts {
        queue_seconds,
        start_seconds,
        run_seconds,
        grace_seconds,
    } = timeouts;
    let body = Body {
        script,
        interpreter,
        args,
        image,
        cpu: resources.cpu.as_str().to_owned(),
        memory: resources.memory.as_str().to_owned(),
        ephemeral_storage: resources
            .ephemeral_storage
            .as_ref()
            .map(|q| q.as_str().to_owned()),
        env,
        files: files
            .into_iter()
            .map(|(path, bytes)| (path, STANDARD.encode(bytes)))
            .collect(),
        timeouts: Clocks {
            queue_seconds,
            start_seconds,
            run_seconds,
            grace_seconds,
        },
        priority,
        retry: (retry != Retry::default()).then_some(Retries {
            limit: retry.limit,
            on_error: retry.on_error,
            on_failed: retry.on_failed,
        }),
        labels,
        ttl_seconds,
        webhook: webhook.map(|Webhook { url, secret_ref }| Hook { url, secret_ref }),
        digest,
    };
    // Strings, numbers and maps by string always are JSON.
    serde_json::to_string(&body).unwrap_or_default()
}

/// The submission of the execution with that id.
pub(crate) fn decode(id: &str, text: &str) -> Result<Submission, StoreError> {
    let corrupt = |problem: String| StoreError::Corrupt {
        place: format!("payloads.body of \"{id}\""),
        problem,
    };
    // Where it is wrong, but not the error's own text: that may quote a script.
    let body: Body = serde_json::from_str(text).map_err(|e| {
        let (kind, line, column) = (e.classify(), e.line(), e.column());
        corrupt(format!("{kind:?} error at line {line}, column {column}"))
    })?;
    let quantity = |text: &str| {
        text.parse::<Quantity>()
            .map_err(|e| corrupt(format!("\"{text}\" {e}")))
    };
    let mut files = BTreeMap::new();
    for (path, content) in body.files {
        let bytes = STANDARD
            .decode(content)
            .map_err(|e| corrupt(format!("the file {path}: {e}")))?;
        files.insert(path, bytes);
    }
    Ok(Submission {
        script: body.script,
        interpreter: body.interpreter,
        args: body.args,
        image: body.image,
        resources: Resources {
            cpu: quantity(&body.cpu)?,
            memory: quantity(&body.memory)?,
            ephemeral_storage: body
                .ephemeral_storage
                .as_deref()
                .map(quantity)
                .transpose()?,
        },
        env: body.env,
        files,
        timeouts: Timeouts {
            queue_seconds: body.timeouts.queue_seconds,
            start_seconds: body.timeouts.start_seconds,
            run_seconds: body.timeouts.run_seconds,
            grace_seconds: body.timeouts.grace_seconds,
        },
        retry: body.retry.map_or_else(Retry::default, |retry| Retry {
            limit: retry.limit,
            on_error: retry.on_error,
            on_failed: retry.on_failed,
        }),
        priority: body.priority,
        labels: body.labels,
        ttl_seconds: body.ttl_seconds,
        webhook: body
            .webhook
            .map(|Hook { url, secret_ref }| Webhook { url, secret_ref }),
        digest: body.digest,
    })
}
