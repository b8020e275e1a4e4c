//! Deleting objects and collections.

use serde_json::{Value, json};

use super::routes::Place;
use super::{Request, Response};
use crate::cluster::Cluster;
use crate::gc::{self, Propagation};
use crate::object;
use crate::resources::Resource;
use crate::selectors::Selector;
use crate::status::{self, Failure};
use crate::storage::Key;

/// What a client of the real server is warned of when it deletes a Job without saying what becomes of its pods.
const ORPHAN_WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
or set propagationPolicy=Orphan to suppress this warning";

/// What a deletion asks for, from its body and query.
struct DeleteOptions {
    propagation: Option<Propagation>,
    grace_seconds: Option<i64>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

fn delete_options(request: &Request) -> Result<DeleteOptions, Failure> {
    let body: Value = if request.body.is_empty() {
        json!({})
    } else {
        serde_json::from_slice(&request.body).map_err(|error| {
            Failure::bad_request(format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        })?
    };
    let from_query =
        |name: &str| Some(request.parameter(name).to_owned()).filter(|text| !text.is_empty());
    let text = body["propagationPolicy"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| from_query("propagationPolicy"));
    let propagation = match text.as_deref() {
        None => None,
        Some("Background") => Some(Propagation::Background),
        Some("Foreground") => Some(Propagation::Foreground),
        Some("Orphan") => Some(Propagation::Orphan),
        Some(other) => {
            let cause = status::Cause::not_supported(
                "propagationPolicy",
                &json!(other),
                &["Foreground", "Background", "Orphan", "nil"],
            );
            return Err(Failure::invalid_options(
                "meta.k8s.io",
                "DeleteOptions",
                "",
                &cause,
            ));
        }
    };
    let grace_seconds = match body["gracePeriodSeconds"].as_i64() {
        Some(seconds) => Some(seconds),
        None => request.number("gracePeriodSeconds")?,
    };
    Ok(DeleteOptions {
        propagation,
        grace_seconds,
        uid: body["preconditions"]["uid"].as_str().map(str::to_owned),
        version: body["preconditions"]["resourceVersion"]
            .as_str()
            .map(str::to_owned),
        dry_run: request.dry_run()? || object::items(&body["dryRun"]).any(|d| d == "All"),
    })
}

/// Deletes one object.
pub fn one(cluster: &mut Cluster, key: &Key, request: &Request) -> Result<Response, Failure> {
    let options = delete_options(request)?;
    let old = cluster
        .get(key)
        .ok_or_else(|| Failure::not_found(key.resource, &key.name))?;
    check_preconditions(key, &old, &options)?;
    let now = cluster.now();
    let default = if key.resource == Resource::Job {
        Propagation::Orphan
    } else {
        Propagation::Background
    };
    let gone = options.dry_run
        || gc::delete(
            cluster,
            key,
            options.propagation.unwrap_or(default),
            options.grace_seconds,
            now,
        );
    let mut response = match cluster.get(key).filter(|_| !gone) {
        Some(left) => Response::json(200, &left),
        None if key.resource == Resource::Pod => Response::json(200, &old),
        None => Response::json(
            200,
            &status::deleted(key.resource, &key.name, object::uid(&old)),
        ),
    };
    if key.resource == Resource::Job && options.propagation.is_none() {
        response.warning = Some(ORPHAN_WARNING);
    }
    if key.resource == Resource::Namespace && !options.dry_run {
        empty_namespace(cluster, &key.name);
    }
    Ok(response)
}

fn check_preconditions(key: &Key, old: &Value, options: &DeleteOptions) -> Result<(), Failure> {
    let version = object::meta(old, "resourceVersion");
    let checks = [
        (
            "UID",
            &options.uid,
            object::uid(old),
            "deleted and then recreated",
        ),
        ("ResourceVersion", &options.version, version, "modified"),
    ];
    for (what, wanted, found, happened) in checks {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            let detail = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {happened}"
            );
            return Err(Failure::precondition(key.resource, &key.name, &detail));
        }
    }
    Ok(())
}

fn empty_namespace(cluster: &mut Cluster, namespace: &str) {
    let now = cluster.now();
    for resource in Resource::ALL.into_iter().filter(|r| r.namespaced()) {
        let keys: Vec<Key> = cluster
            .storage
            .list(resource, Some(namespace))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            gc::delete(cluster, &key, Propagation::Background, None, now);
        }
    }
}

/// Deletes the selected objects of a collection.
pub fn collection(
    cluster: &mut Cluster,
    place: &Place,
    request: &Request,
) -> Result<Response, Failure> {
    if place.namespace.is_none() {
        return Err(Failure::method_not_allowed());
    }
    let options = delete_options(request)?;
    let selector = Selector::parse(
        place.resource,
        request.parameter("labelSelector"),
        request.parameter("fieldSelector"),
    )?;
    let now = cluster.now();
    let chosen: Vec<(Key, Value)> = cluster
        .storage
        .list(place.resource, place.namespace.as_deref())
        .filter(|(_, object)| selector.matches(object))
        .map(|(key, object)| (key.clone(), (**object).clone()))
        .collect();
    let default = if place.resource == Resource::Job {
        Propagation::Orphan
    } else {
        Propagation::Background
    };
    for (key, _) in chosen.iter().filter(|_| !options.dry_run) {
        gc::delete(
            cluster,
            key,
            options.propagation.unwrap_or(default),
            options.grace_seconds,
            now,
        );
    }
    let items: Vec<Value> = chosen.into_iter().map(|(_, object)| object).collect();
    let version = cluster.storage.version().to_string();
    Ok(Response::json(
        200,
        &json!({
            "kind": format!("{}List", place.resource.kind()), "apiVersion": place.resource.api_version(),
            "metadata": {"resourceVersion": version}, "items": items,
        }),
    ))
}
