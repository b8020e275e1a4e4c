//! Health, version and discovery: enough for clients that ask before they act, such as kubectl.

use serde_json::{Value, json};

use super::{Request, Response};
use crate::resources::Resource;
use crate::status::Failure;

/// The version this server behaves like.
const MINOR: &str = "34";

pub fn answer(request: &Request) -> Result<Response, Failure> {
    let path = request.path.trim_end_matches('/');
    let known = match path {
        "/healthz" | "/livez" | "/readyz" => Some(Response::text(200, "ok")),
        "/version" => Some(Response::json(200, &version())),
        "/api" => Some(Response::json(
            200,
            &json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}),
        )),
        "/apis" => Some(Response::json(
            200,
            &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [batch()]}),
        )),
        "/apis/batch" => Some(Response::json(200, &batch())),
        "/api/v1" => Some(Response::json(200, &resources("v1", ""))),
        "/apis/batch/v1" => Some(Response::json(200, &resources("batch/v1", "batch"))),
        _ => None,
    };
    match known {
        Some(response) if request.method == "GET" => Ok(response),
        Some(_) => Err(Failure::method_not_allowed()),
        None => Err(Failure::no_such_path()),
    }
}

fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "gitVersion": format!("v1.{MINOR}.0+localcluster"), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc", "platform": "linux/amd64",
    })
}

fn batch() -> Value {
    let version = json!({"groupVersion": "batch/v1", "version": "v1"});
    json!({"kind": "APIGroup", "apiVersion": "v1", "name": "batch", "versions": [version], "preferredVersion": version})
}

fn resources(group_version: &str, group: &str) -> Value {
    let mut list = Vec::new();
    for resource in Resource::ALL.into_iter().filter(|r| r.group() == group) {
        let entry = |name: String, verbs: &[&str]| {
            json!({
                "name": name, "singularName": resource.kind().to_lowercase(), "namespaced": resource.namespaced(),
                "kind": resource.kind(), "verbs": verbs,
            })
        };
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        list.push(entry(resource.plural().to_owned(), &verbs));
        if resource == Resource::Pod {
            list.push(entry("pods/log".to_owned(), &["get"]));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list})
}
