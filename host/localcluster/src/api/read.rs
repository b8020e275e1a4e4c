//! Get, list, watch and log.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::routes::Place;
use super::{Body, Request, Response};
use crate::cluster::Cluster;
use crate::logs::{LogCursor, LogOptions};
use crate::object;
use crate::pod_spec;
use crate::resources::Resource;
use crate::selectors::Selector;
use crate::status::Failure;
use crate::storage::Key;
use crate::watch::{self, WatchCursor};

/// One object, or 404. A namespace exists as soon as it is named.
pub fn get(cluster: &Cluster, key: &Key, _request: &Request) -> Result<Response, Failure> {
    if let Some(object) = cluster.get(key) {
        return Ok(Response::json(200, &object));
    }
    if key.resource == Resource::Namespace {
        return Ok(Response::json(200, &implicit_namespace(&key.name)));
    }
    Err(Failure::not_found(key.resource, &key.name))
}

/// A namespace nobody created.
pub fn implicit_namespace(name: &str) -> Value {
    json!({
        "kind": "Namespace", "apiVersion": "v1",
        "metadata": {"name": name, "uid": "", "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

fn selector(place: &Place, request: &Request) -> Result<Selector, Failure> {
    Selector::parse(
        place.resource,
        request.parameter("labelSelector"),
        request.parameter("fieldSelector"),
    )
}

fn version_parameter(request: &Request) -> Result<Option<u64>, Failure> {
    let text = request.parameter("resourceVersion");
    if text.is_empty() {
        return Ok(None);
    }
    let message = || {
        Failure::bad_request(format!(
            "Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
        ))
    };
    text.parse().map(Some).map_err(|_| message())
}

/// Where the next page begins: the version of the whole list, and the last key given.
struct Continue {
    version: Option<u64>,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        let value = json!({"v": "meta.k8s.io/v1", "rv": self.version.map_or(-1, |v| v as i64), "ns": self.namespace, "start": self.name});
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn decode(text: &str) -> Result<Self, Failure> {
        let message = || {
            Failure::bad_request(
                "continue key is not valid: illegal base64 data or unknown version",
            )
        };
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| message())?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| message())?;
        let version = value["rv"].as_i64().ok_or_else(message)?;
        let (Some(namespace), Some(name)) = (value["ns"].as_str(), value["start"].as_str()) else {
            return Err(message());
        };
        Ok(Self {
            version: u64::try_from(version).ok(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// A list, in pages when asked; all pages show the state of the first one's resourceVersion.
pub fn list(cluster: &Cluster, place: &Place, request: &Request) -> Result<Response, Failure> {
    let selector = selector(place, request)?;
    let limit = request
        .number("limit")?
        .filter(|l| *l > 0)
        .map_or(usize::MAX, |l| l as usize);
    let token = match request.parameter("continue") {
        "" => None,
        text => Some(Continue::decode(text)?),
    };
    let asked = version_parameter(request)?;
    if token.is_some() && asked.is_some_and(|version| version != 0) {
        return Err(Failure::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let current = cluster.storage.version();
    if let Some(asked) = asked
        && asked > current
    {
        return Err(Failure::too_large_version(asked, current));
    }
    let exact = asked.filter(|_| request.parameter("resourceVersionMatch") == "Exact");
    let version = token
        .as_ref()
        .map_or(exact, |token| token.version)
        .unwrap_or(current);
    let objects = match &token {
        Some(token) if token.version.is_some() => {
            state_at(cluster, place, version).ok_or_else(|| {
                let inconsistent = Continue {
                    version: None,
                    namespace: token.namespace.clone(),
                    name: token.name.clone(),
                };
                Failure::expired_continue(Some(inconsistent.encode()))
            })?
        }
        _ => state_at(cluster, place, version)
            .ok_or_else(|| Failure::too_old(version, cluster.storage.compacted()))?,
    };
    let after = token.map(|token| Key::new(place.resource, &token.namespace, &token.name));
    let mut rest = objects.iter().filter(|(key, object)| {
        after.as_ref().is_none_or(|after| *key > after) && selector.matches(object)
    });
    let page: Vec<(&Key, &Arc<Value>)> = rest.by_ref().take(limit).collect();
    let remaining = rest.count();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if remaining > 0
        && let Some((last, _)) = page.last()
    {
        let next = Continue {
            version: Some(version),
            namespace: last.namespace.clone(),
            name: last.name.clone(),
        };
        metadata["continue"] = json!(next.encode());
        if request.parameter("labelSelector").is_empty()
            && request.parameter("fieldSelector").is_empty()
        {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    Ok(write_list(
        place.resource,
        &metadata,
        page.into_iter().map(|(_, object)| object),
    ))
}

fn state_at(cluster: &Cluster, place: &Place, version: u64) -> Option<BTreeMap<Key, Arc<Value>>> {
    cluster
        .storage
        .list_at(place.resource, place.namespace.as_deref(), version)
}

/// Writes the list without copying its items; they carry no kind of their own, as in the real server's lists.
fn write_list<'a>(
    resource: Resource,
    metadata: &Value,
    items: impl Iterator<Item = &'a Arc<Value>>,
) -> Response {
    let mut out = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.kind(),
        resource.api_version()
    )
    .into_bytes();
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let fields = item
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| *name != "kind" && *name != "apiVersion");
        let fields: BTreeMap<&String, &Value> = fields.collect();
        // Writing JSON into memory cannot fail.
        let _ = serde_json::to_writer(&mut out, &fields);
    }
    out.extend_from_slice(b"]}");
    Response {
        status: 200,
        content_type: "application/json",
        warning: None,
        body: Body::Bytes(out),
    }
}

/// A watch of a collection.
pub fn watch(cluster: &Cluster, place: &Place, request: &Request) -> Result<Response, Failure> {
    let selector = selector(place, request)?;
    open_watch(cluster, place, selector, request)
}

/// A watch of one object.
pub fn watch_one(cluster: &Cluster, key: &Key, request: &Request) -> Result<Response, Failure> {
    let selector = Selector::parse(key.resource, "", &format!("metadata.name={}", key.name))?;
    let namespace = key.resource.namespaced().then(|| key.namespace.clone());
    open_watch(
        cluster,
        &Place {
            resource: key.resource,
            namespace,
        },
        selector,
        request,
    )
}

fn open_watch(
    cluster: &Cluster,
    place: &Place,
    selector: Selector,
    request: &Request,
) -> Result<Response, Failure> {
    let now = cluster.now();
    let seconds = request
        .number("timeoutSeconds")?
        .filter(|s| *s > 0)
        .unwrap_or(watch::DEFAULT_TIMEOUT_SECONDS);
    let ends = watch::seconds_after(now, seconds);
    let asked = version_parameter(request)?.filter(|version| *version > 0);
    let send_initial = match request.parameter("sendInitialEvents") {
        "" => asked.is_none(),
        flag => flag == "true",
    };
    let initial: Vec<Arc<Value>> = if send_initial {
        let all = cluster
            .storage
            .list(place.resource, place.namespace.as_deref());
        all.filter(|(_, object)| selector.matches(object))
            .map(|(_, object)| object.clone())
            .collect()
    } else {
        Vec::new()
    };
    let current = cluster.storage.version();
    let bookmarks = request.flag("allowWatchBookmarks");
    let cursor = WatchCursor {
        resource: place.resource,
        namespace: place.namespace.clone(),
        selector,
        version: if send_initial {
            current
        } else {
            asked.unwrap_or(current)
        },
        bookmarks,
        initial,
        mark_initial_end: bookmarks && request.parameter("sendInitialEvents") == "true",
        ends,
        next_bookmark: watch::next_bookmark(now, ends),
    };
    Ok(Response {
        status: 200,
        content_type: "application/json",
        warning: None,
        body: Body::Watch(Box::new(cursor)),
    })
}

/// A container's log.
pub fn log(cluster: &Cluster, key: &Key, request: &Request) -> Result<Response, Failure> {
    let pod = cluster
        .get(key)
        .ok_or_else(|| Failure::not_found(Resource::Pod, &key.name))?;
    let options = log_options(cluster, &key.name, request)?;
    let names = pod_spec::container_names(&pod);
    let container = match request.parameter("container") {
        "" if names.len() == 1 => names[0].clone(),
        "" => {
            let list = names.join(" ");
            let message = format!(
                "a container name must be specified for pod {}, choose one of: [{list}]",
                key.name
            );
            return Err(Failure::bad_request(message));
        }
        name if names.iter().any(|n| n == name) => name.to_owned(),
        name => {
            return Err(Failure::bad_request(format!(
                "container {name} is not valid for pod {}",
                key.name
            )));
        }
    };
    if request.flag("previous") {
        let message = format!(
            "previous terminated container {container:?} in pod {:?} not found",
            key.name
        );
        return Err(Failure::bad_request(message));
    }
    if let Some(source) = cluster.runner.log(object::uid(&pod), &container) {
        let body = Body::Log(Box::new(LogCursor::new(source, options)));
        return Ok(Response {
            status: 200,
            content_type: "text/plain",
            warning: None,
            body,
        });
    }
    if object::terminal(&pod) {
        return Ok(Response {
            status: 200,
            content_type: "text/plain",
            warning: None,
            body: Body::Bytes(Vec::new()),
        });
    }
    let status = object::items(&pod["status"]["containerStatuses"])
        .find(|status| status["name"] == container.as_str());
    let reason = status
        .and_then(|status| status["state"]["waiting"]["reason"].as_str())
        .unwrap_or("ContainerCreating");
    let why = match reason {
        "ErrImagePull" | "ImagePullBackOff" => {
            "is waiting to start: trying and failing to pull image".to_owned()
        }
        "InvalidImageName" => "is waiting to start: InvalidImageName".to_owned(),
        other => format!("is waiting to start: {other}"),
    };
    Err(Failure::bad_request(format!(
        "container {container:?} in pod {:?} {why}",
        key.name
    )))
}

fn log_options(cluster: &Cluster, pod: &str, request: &Request) -> Result<LogOptions, Failure> {
    let positive = |name: &str| -> Result<Option<u64>, Failure> {
        match request.number(name)? {
            Some(number) if number < 0 => Err(invalid_log_option(
                pod,
                name,
                number,
                "must be greater than or equal to 0",
            )),
            number => Ok(number.map(|n| n as u64)),
        }
    };
    let since_seconds = match request.number("sinceSeconds")? {
        Some(seconds) if seconds < 1 => {
            return Err(invalid_log_option(
                pod,
                "sinceSeconds",
                seconds,
                "must be greater than 0",
            ));
        }
        seconds => seconds,
    };
    let limit_bytes = match request.number("limitBytes")? {
        Some(bytes) if bytes < 1 => {
            return Err(invalid_log_option(
                pod,
                "limitBytes",
                bytes,
                "must be greater than 0",
            ));
        }
        bytes => bytes.map(|b| b as u64),
    };
    let since_time = match request.parameter("sinceTime") {
        "" => None,
        text => {
            let time: Timestamp = text
                .parse()
                .map_err(|_| Failure::bad_request(format!("parsing time {text:?} as RFC 3339")))?;
            // The real server passes whole seconds on to the kubelet.
            Some(Timestamp::from_second(time.as_second()).unwrap_or(time))
        }
    };
    let since = since_seconds
        .map(|seconds| watch::seconds_after(cluster.now(), -seconds))
        .or(since_time);
    Ok(LogOptions {
        follow: request.flag("follow"),
        tail_lines: positive("tailLines")?,
        limit_bytes,
        since,
        timestamps: request.flag("timestamps"),
    })
}

fn invalid_log_option(pod: &str, name: &str, value: i64, detail: &str) -> Failure {
    let cause = crate::status::Cause::invalid(name, &json!(value), detail);
    Failure::invalid_options("", "PodLogOptions", pod, &cause)
}
