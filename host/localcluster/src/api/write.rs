//! Create, replace, patch and delete.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::routes::Place;
use super::{Request, Response};
use crate::clock;
use crate::cluster::Cluster;
use crate::gc;
use crate::object;
use crate::patch;
use crate::pod_spec;
use crate::resources::Resource;
use crate::status::{Cause, Failure};
use crate::storage::Key;
use crate::validate::{self, schema};

/// Most bytes of one stored object: etcd refuses requests over 1.5 MiB.
const MAX_OBJECT_BYTES: usize = 1536 * 1024;

/// Content types of whole objects.
const OBJECT_TYPES: [&str; 4] = [
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/cbor",
];

/// Longest part of a `generateName` that a name keeps.
const MAX_GENERATED_BASE: usize = 58;

/// Reads the object of a body, checked for kind and types.
fn read_object(request: &Request, resource: Resource) -> Result<Value, Failure> {
    let kind = resource.kind();
    match request
        .content_type
        .as_deref()
        .map(|t| t.split(';').next().unwrap_or_default().trim())
    {
        None | Some("" | "application/json") => {}
        Some(_) => return Err(Failure::unsupported_media_type(&OBJECT_TYPES)),
    }
    let unreadable = |why: String| {
        Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why}"
        ))
    };
    let object: Value = serde_json::from_slice(&request.body).map_err(|error| {
        unreadable(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    if !object.is_object() {
        return Err(unreadable(
            "couldn't get version/kind; json parse error: json: cannot unmarshal into Go value"
                .to_owned(),
        ));
    }
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let found = object["kind"].as_str().unwrap_or_default();
    if (!version.is_empty() && version != resource.api_version())
        || (!found.is_empty() && found != kind)
    {
        if found == kind {
            let message = format!(
                "the API version in the data ({version}) does not match the expected API version ({})",
                resource.api_version()
            );
            return Err(Failure::bad_request(message));
        }
        let message = format!("{found} in version {version:?} cannot be handled as a {kind}");
        return Err(Failure::bad_request(message));
    }
    let mut object = object;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(resource.api_version());
    schema::check(resource, &object)?;
    object::default(&mut object, "metadata", json!({}));
    Ok(object)
}

/// Creates an object.
pub fn create(
    cluster: &mut Cluster,
    place: &Place,
    request: &Request,
) -> Result<Response, Failure> {
    let dry_run = request.dry_run()?;
    let resource = place.resource;
    if resource.namespaced() && place.namespace.is_none() {
        return Err(Failure::method_not_allowed());
    }
    let mut object = read_object(request, resource)?;
    if let Some(namespace) = &place.namespace {
        let given = object::namespace(&object);
        if !given.is_empty() && given != namespace {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        object["metadata"]["namespace"] = json!(namespace);
    }
    complete(cluster, resource, &mut object);
    validate::create(resource, &object)?;
    let key = Key::new(
        resource,
        place.namespace.as_deref().unwrap_or_default(),
        object::name(&object),
    );
    if cluster.storage.get(&key).is_some() {
        return Err(Failure::already_exists(resource, &key.name));
    }
    check_new_size(resource, &object)?;
    if dry_run {
        return Ok(Response::json(201, &object));
    }
    let stored = cluster.storage.put(&key, object);
    Ok(Response::json(201, &stored))
}

fn check_size(object: &Value) -> Result<(), Failure> {
    if object.to_string().len() > MAX_OBJECT_BYTES {
        return Err(Failure::storage_refused("etcdserver: request is too large"));
    }
    Ok(())
}

/// As [`check_size`], but for what the real server does with a Job: it tries again without its own notes, finds the labels it made
/// itself the first time, and refuses those.
fn check_new_size(resource: Resource, object: &Value) -> Result<(), Failure> {
    let result = check_size(object);
    if result.is_ok() || resource != Resource::Job {
        return result;
    }
    let causes = [Cause::invalid(
        "spec.selector",
        &object["spec"]["selector"],
        "`selector` not auto-generated",
    )];
    Err(Failure::invalid(resource, object::name(object), &causes))
}

/// Fills in what the server sets: name, UID, time, defaults.
fn complete(cluster: &mut Cluster, resource: Resource, object: &mut Value) {
    let suffix = cluster.ids.suffix();
    let uid = cluster.ids.uuid();
    let metadata = &mut object["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty)
        && let Some(base) = metadata["generateName"]
            .as_str()
            .filter(|base| !base.is_empty())
    {
        let base: String = base.chars().take(MAX_GENERATED_BASE).collect();
        metadata["name"] = json!(format!("{base}{suffix}"));
    }
    for field in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
        "managedFields",
    ] {
        object::remove(metadata, field);
    }
    metadata["uid"] = json!(uid);
    metadata["creationTimestamp"] = json!(clock::seconds(cluster.clock.now()));
    match resource {
        Resource::Job => complete_job(object, &uid),
        Resource::Pod => {
            object::default(object, "spec", json!({}));
            pod_spec::default_pod(&mut object["spec"]);
            object["metadata"]["generation"] = json!(1);
            object["status"] =
                json!({"phase": "Pending", "qosClass": pod_spec::qos_class(&object["spec"])});
        }
        Resource::Secret => move_string_data(object),
        Resource::Namespace => {
            let name = object::name(object).to_owned();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        Resource::ConfigMap | Resource::Event => {}
    }
}

fn complete_job(job: &mut Value, uid: &str) {
    let name = object::name(job).to_owned();
    job["metadata"]["generation"] = json!(1);
    job["status"] = json!({});
    object::default(job, "spec", json!({}));
    let spec = &mut job["spec"];
    if spec["completions"].is_null() && spec["parallelism"].is_null() {
        spec["completions"] = json!(1);
    }
    object::default(spec, "parallelism", json!(1));
    object::default(spec, "backoffLimit", json!(6));
    object::default(spec, "completionMode", json!("NonIndexed"));
    object::default(spec, "suspend", json!(false));
    object::default(spec, "manualSelector", json!(false));
    object::default(spec, "podReplacementPolicy", json!("TerminatingOrFailed"));
    spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    object::default(spec, "template", json!({}));
    let template = &mut spec["template"];
    object::default(template, "metadata", json!({}));
    for (label, value) in [
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", uid),
        ("job-name", &name),
    ] {
        template["metadata"]["labels"][label] = json!(value);
    }
    object::default(template, "spec", json!({}));
    pod_spec::default_pod(&mut template["spec"]);
}

fn move_string_data(secret: &mut Value) {
    object::default(secret, "type", json!("Opaque"));
    let Some(Value::Object(texts)) = secret
        .as_object_mut()
        .and_then(|map| map.remove("stringData"))
    else {
        return;
    };
    for (key, text) in texts {
        secret["data"][key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}

/// Replaces an object.
pub fn replace(cluster: &mut Cluster, key: &Key, request: &Request) -> Result<Response, Failure> {
    let new = read_object(request, key.resource)?;
    if object::name(&new) != key.name {
        let message = format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(&new),
            key.name
        );
        return Err(Failure::bad_request(message));
    }
    let old = cluster
        .get(key)
        .ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
    store_change(cluster, key, &old, new, request)
}

/// Patches an object.
pub fn patch(cluster: &mut Cluster, key: &Key, request: &Request) -> Result<Response, Failure> {
    let types = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    let apply = match request
        .content_type
        .as_deref()
        .map(|t| t.split(';').next().unwrap_or_default().trim())
    {
        Some("application/merge-patch+json") => patch::merge,
        Some("application/strategic-merge-patch+json") => patch::strategic,
        _ => return Err(Failure::unsupported_media_type(&types)),
    };
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}")))?;
    if !body.is_object() {
        return Err(Failure::bad_request(
            "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
        ));
    }
    let old = cluster
        .get(key)
        .ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
    let mut new = (*old).clone();
    apply(&mut new, &body);
    schema::check(key.resource, &new)?;
    store_change(cluster, key, &old, new, request)
}

fn store_change(
    cluster: &mut Cluster,
    key: &Key,
    old: &Value,
    mut new: Value,
    request: &Request,
) -> Result<Response, Failure> {
    let resource = key.resource;
    let given = object::meta(&new, "resourceVersion");
    if !given.is_empty() && given != object::meta(old, "resourceVersion") {
        let detail = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Failure::conflict(resource, &key.name, detail));
    }
    object::default(&mut new, "metadata", json!({}));
    let given = object::uid(&new);
    if !given.is_empty() && given != object::uid(old) {
        let detail = format!(
            "Precondition failed: UID in precondition: {given}, UID in object meta: {}",
            object::uid(old)
        );
        return Err(Failure::conflict(resource, &key.name, &detail));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match &old["metadata"][field] {
            Value::Null => object::remove(&mut new["metadata"], field),
            value => new["metadata"][field] = value.clone(),
        }
    }
    // The status belongs to the controllers here, so that no client can contradict them.
    if matches!(resource, Resource::Job | Resource::Pod) {
        new["status"] = old["status"].clone();
    }
    if resource == Resource::Secret {
        move_string_data(&mut new);
    }
    validate::update(resource, old, &new)?;
    check_size(&new)?;
    if old["spec"] != new["spec"]
        && let Some(generation) = old["metadata"]["generation"].as_u64()
    {
        new["metadata"]["generation"] = json!(generation + 1);
    }
    if request.dry_run()? || *old == new {
        return Ok(Response::json(200, &new));
    }
    let stored = cluster.storage.put(key, new);
    gc::remove_if_released(cluster, key);
    Ok(Response::json(200, &stored))
}
