//! Pod specs.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{names, quantity};
use crate::object;
use crate::status::Cause;

/// Checks a pod spec at `path`; in a template the caller checks the restart policy.
pub fn spec(path: &str, spec: &Value, template: bool, causes: &mut Vec<Cause>) {
    let volumes = volumes(path, spec, causes);
    if spec["initContainers"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
    {
        causes.push(Cause::forbidden(
            format!("{path}.initContainers"),
            "localcluster runs no init containers",
        ));
    }
    containers(path, spec, &volumes, causes);
    if template {
        let policy = &spec["restartPolicy"];
        if !["Always", "OnFailure", "Never"].iter().any(|p| policy == p) {
            causes.push(Cause::not_supported(
                format!("{path}.restartPolicy"),
                policy,
                &["Always", "OnFailure", "Never"],
            ));
        }
    } else {
        match spec["restartPolicy"].as_str() {
            Some("Never") => {}
            Some("Always" | "OnFailure") | None => {
                let detail = "localcluster runs pods with restartPolicy Never only";
                causes.push(Cause::forbidden(format!("{path}.restartPolicy"), detail));
            }
            Some(_) => causes.push(Cause::not_supported(
                format!("{path}.restartPolicy"),
                &spec["restartPolicy"],
                &["Always", "Never", "OnFailure"],
            )),
        }
    }
    if spec["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|value| !(1..=i64::from(i32::MAX)).contains(&value))
    {
        let detail = "must be between 1 and 2147483647, inclusive";
        causes.push(Cause::invalid(
            format!("{path}.activeDeadlineSeconds"),
            &spec["activeDeadlineSeconds"],
            detail,
        ));
    }
    if spec["terminationGracePeriodSeconds"]
        .as_i64()
        .is_some_and(|value| value < 0)
    {
        let field = format!("{path}.terminationGracePeriodSeconds");
        causes.push(Cause::invalid(
            field,
            &spec["terminationGracePeriodSeconds"],
            "must be greater than or equal to 0",
        ));
    }
    names::labels(
        &format!("{path}.nodeSelector"),
        &spec["nodeSelector"],
        causes,
    );
}

fn volumes(path: &str, spec: &Value, causes: &mut Vec<Cause>) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (index, volume) in object::items(&spec["volumes"]).enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = volume["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if let Some(error) = names::label(name).first() {
            causes.push(Cause::invalid(format!("{path}.name"), &json!(name), error));
        } else if !seen.insert(name.to_owned()) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        let sources = ["configMap", "secret", "emptyDir", "projected"]
            .iter()
            .filter(|s| volume[**s].is_object())
            .count();
        if sources == 0 {
            causes.push(Cause::required(path.clone(), "must specify a volume type"));
        } else if sources > 1 {
            causes.push(Cause::forbidden(
                path.clone(),
                "may not specify more than 1 volume type",
            ));
        }
        if volume["secret"].is_object()
            && volume["secret"]["secretName"]
                .as_str()
                .is_none_or(str::is_empty)
        {
            causes.push(Cause::required(format!("{path}.secret.secretName"), ""));
        }
        if volume["configMap"].is_object()
            && volume["configMap"]["name"]
                .as_str()
                .is_none_or(str::is_empty)
        {
            causes.push(Cause::required(format!("{path}.configMap.name"), ""));
        }
        for source in ["configMap", "secret"] {
            for (item, entry) in object::items(&volume[source]["items"]).enumerate() {
                let target = entry["path"].as_str().unwrap_or_default();
                let field = format!("{path}.{source}.items[{item}].path");
                if target.starts_with('/') {
                    causes.push(Cause::invalid(
                        field,
                        &json!(target),
                        "must be a relative path",
                    ));
                } else if target.split('/').any(|part| part == "..") {
                    causes.push(Cause::invalid(
                        field,
                        &json!(target),
                        "must not contain '..'",
                    ));
                }
            }
        }
    }
    seen
}

fn containers(path: &str, spec: &Value, volumes: &BTreeSet<String>, causes: &mut Vec<Cause>) {
    let path = format!("{path}.containers");
    if object::items(&spec["containers"]).next().is_none() {
        causes.push(Cause::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (index, container) in object::items(&spec["containers"]).enumerate() {
        let path = format!("{path}[{index}]");
        let name = container["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if let Some(error) = names::label(name).first() {
            causes.push(Cause::invalid(format!("{path}.name"), &json!(name), error));
        } else if !seen.insert(name) {
            causes.push(Cause::duplicate(format!("{path}.name"), &json!(name)));
        }
        let image = container["image"].as_str().unwrap_or_default();
        if image.is_empty() {
            causes.push(Cause::required(format!("{path}.image"), ""));
        } else if image.trim() != image {
            causes.push(Cause::invalid(
                format!("{path}.image"),
                &json!(image),
                "must not have leading or trailing whitespace",
            ));
        }
        let policy = &container["imagePullPolicy"];
        if !["Always", "IfNotPresent", "Never"]
            .iter()
            .any(|p| policy == p)
        {
            causes.push(Cause::not_supported(
                format!("{path}.imagePullPolicy"),
                policy,
                &["Always", "IfNotPresent", "Never"],
            ));
        }
        environment(&path, container, causes);
        mounts(&path, container, volumes, causes);
        resources(&path, container, causes);
    }
}

fn environment(path: &str, container: &Value, causes: &mut Vec<Cause>) {
    for (index, variable) in object::items(&container["env"]).enumerate() {
        let path = format!("{path}.env[{index}]");
        let name = variable["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else {
            causes.extend(
                names::variable(name)
                    .iter()
                    .map(|e| Cause::invalid(format!("{path}.name"), &json!(name), e)),
            );
        }
        let has_value = variable["value"].as_str().is_some_and(|v| !v.is_empty());
        if variable["valueFrom"].is_object() && has_value {
            causes.push(Cause::invalid(
                format!("{path}.valueFrom"),
                &json!(""),
                "may not be specified when `value` is not empty",
            ));
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            if variable["valueFrom"][reference].is_object()
                && variable["valueFrom"][reference]["key"]
                    .as_str()
                    .is_none_or(str::is_empty)
            {
                causes.push(Cause::required(
                    format!("{path}.valueFrom.{reference}.key"),
                    "",
                ));
            }
        }
    }
}

fn mounts(path: &str, container: &Value, volumes: &BTreeSet<String>, causes: &mut Vec<Cause>) {
    let mut seen = BTreeSet::new();
    for (index, mount) in object::items(&container["volumeMounts"]).enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let name = mount["name"].as_str().unwrap_or_default();
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name"), ""));
        } else if !volumes.contains(name) {
            causes.push(Cause::not_found(format!("{path}.name"), &json!(name)));
        }
        let target = mount["mountPath"].as_str().unwrap_or_default();
        if target.is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath"), ""));
        } else if !seen.insert(target) {
            causes.push(Cause::invalid(
                format!("{path}.mountPath"),
                &json!(target),
                "must be unique",
            ));
        }
        let sub_path = mount["subPath"].as_str().unwrap_or_default();
        if sub_path.starts_with('/') {
            causes.push(Cause::invalid(
                format!("{path}.subPath"),
                &json!(sub_path),
                "must be a relative path",
            ));
        } else if sub_path.split('/').any(|part| part == "..") {
            causes.push(Cause::invalid(
                format!("{path}.subPath"),
                &json!(sub_path),
                "must not contain '..'",
            ));
        }
    }
}

fn resources(path: &str, container: &Value, causes: &mut Vec<Cause>) {
    let resources = &container["resources"];
    for kind in ["limits", "requests"] {
        for (name, value) in resources[kind].as_object().into_iter().flatten() {
            let field = format!("{path}.resources.{kind}[{name}]");
            let standard = ["cpu", "memory", "ephemeral-storage"].contains(&name.as_str())
                || name.starts_with("hugepages-")
                || name.contains('/');
            if !standard {
                let detail = "must be a standard resource type or fully qualified";
                causes.push(Cause::invalid(field.clone(), &json!(name), detail));
            }
            if quantity::of(value).is_some_and(|amount| amount < 0.0) {
                causes.push(Cause::invalid(
                    field,
                    value,
                    "must be greater than or equal to 0",
                ));
            }
        }
    }
    for (name, request) in resources["requests"].as_object().into_iter().flatten() {
        let limit = &resources["limits"][name];
        if let (Some(asked), Some(most)) = (quantity::of(request), quantity::of(limit))
            && asked > most
        {
            let shown = limit.as_str().unwrap_or_default();
            let detail = format!("must be less than or equal to {name} limit of {shown}");
            causes.push(Cause::invalid(
                format!("{path}.resources.requests"),
                request,
                &detail,
            ));
        }
    }
}

/// Checks a changed pod: only little of its spec may change.
pub fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let reduced = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for container in spec
            .get_mut("containers")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            object::remove(container, "image");
        }
        for field in [
            "activeDeadlineSeconds",
            "tolerations",
            "terminationGracePeriodSeconds",
        ] {
            object::remove(&mut spec, field);
        }
        spec
    };
    if reduced(old) != reduced(new) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
                      `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
                      `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
        causes.push(Cause::forbidden("spec", detail));
    }
}
