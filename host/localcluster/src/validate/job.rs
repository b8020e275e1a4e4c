//! Jobs.

use serde_json::{Value, json};

use super::{names, pod};
use crate::status::Cause;

/// Checks a new Job.
pub fn create(job: &Value, causes: &mut Vec<Cause>) {
    let spec = &job["spec"];
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
    ] {
        if spec[field].as_i64().is_some_and(|value| value < 0) {
            causes.push(Cause::invalid(
                format!("spec.{field}"),
                &spec[field],
                "must be greater than or equal to 0",
            ));
        }
    }
    let name = crate::object::name(job);
    if name.len() > 63 {
        causes.push(Cause::invalid(
            "spec.template.labels",
            &json!(name),
            "must be no more than 63 characters",
        ));
    }
    let template = &spec["template"];
    names::labels(
        "spec.template.labels",
        &template["metadata"]["labels"],
        causes,
    );
    names::annotations(
        "spec.template.annotations",
        &template["metadata"]["annotations"],
        causes,
    );
    pod::spec("spec.template.spec", &template["spec"], true, causes);
    let policy = &template["spec"]["restartPolicy"];
    if policy == "Always" || policy.as_str().is_none_or(str::is_empty) {
        let detail = "valid values: \"OnFailure\", \"Never\"";
        causes.push(Cause::required("spec.template.spec.restartPolicy", detail));
    } else if policy != "Never" && policy != "OnFailure" {
        causes.push(Cause::not_supported(
            "spec.template.spec.restartPolicy",
            policy,
            &["OnFailure", "Never"],
        ));
    }
}

/// Checks a changed Job: what its pods are made of cannot change.
pub fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    create(new, causes);
    let never_started = old["status"]["startTime"].is_null();
    for field in [
        "completions",
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
    ] {
        let scheduling = field == "template" && never_started && old["spec"]["suspend"] == true;
        if old["spec"][field] != new["spec"][field] && !scheduling {
            causes.push(Cause::invalid(
                format!("spec.{field}"),
                &new["spec"][field],
                "field is immutable",
            ));
        }
    }
}
