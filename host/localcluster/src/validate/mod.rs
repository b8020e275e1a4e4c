//! Refuses what the real API server refuses, in its words, as far as clients of Jobs can see it.

pub mod data;
pub mod job;
pub mod names;
pub mod pod;
pub mod quantity;
pub mod schema;

use serde_json::{Value, json};

use crate::resources::Resource;
use crate::status::{Cause, Failure};

/// Most bytes of annotations, keys and values together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// Checks a new object.
pub fn create(resource: Resource, object: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    metadata(resource, object, &mut causes);
    match resource {
        Resource::Job => job::create(object, &mut causes),
        Resource::Pod => pod::spec("spec", &object["spec"], false, &mut causes),
        Resource::ConfigMap | Resource::Secret => data::check(object, &mut causes),
        Resource::Event | Resource::Namespace => {}
    }
    refuse(resource, object, &causes)
}

/// Checks a changed object against what it was.
pub fn update(resource: Resource, old: &Value, new: &Value) -> Result<(), Failure> {
    let mut causes = Vec::new();
    metadata(resource, new, &mut causes);
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if old["metadata"][field] != new["metadata"][field] {
            causes.push(Cause::invalid(
                format!("metadata.{field}"),
                &new["metadata"][field],
                "field is immutable",
            ));
        }
    }
    match resource {
        Resource::Job => job::update(old, new, &mut causes),
        Resource::Pod => pod::update(old, new, &mut causes),
        Resource::ConfigMap | Resource::Secret => {
            data::check(new, &mut causes);
            data::update(old, new, &mut causes);
        }
        Resource::Event | Resource::Namespace => {}
    }
    refuse(resource, new, &causes)
}

fn refuse(resource: Resource, object: &Value, causes: &[Cause]) -> Result<(), Failure> {
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Failure::invalid(
            resource,
            crate::object::name(object),
            causes,
        ))
    }
}

fn metadata(resource: Resource, object: &Value, causes: &mut Vec<Cause>) {
    let name = crate::object::name(object);
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        let errors = if resource == Resource::Namespace {
            names::label(name)
        } else {
            names::subdomain(name)
        };
        causes.extend(
            errors
                .iter()
                .map(|e| Cause::invalid("metadata.name", &json!(name), e)),
        );
    }
    names::labels("metadata.labels", &object["metadata"]["labels"], causes);
    let annotations = &object["metadata"]["annotations"];
    names::annotations("metadata.annotations", annotations, causes);
    let total: usize = annotations
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
        .sum();
    if total > MAX_ANNOTATION_BYTES {
        causes.push(Cause::too_long(
            "metadata.annotations",
            MAX_ANNOTATION_BYTES,
        ));
    }
    for (index, owner) in crate::object::items(&object["metadata"]["ownerReferences"]).enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().is_none_or(str::is_empty) {
                let detail = if field == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                let path = format!("metadata.ownerReferences[{index}].{field}");
                causes.push(Cause::invalid(
                    path,
                    &json!(owner[field].as_str().unwrap_or_default()),
                    detail,
                ));
            }
        }
    }
}
