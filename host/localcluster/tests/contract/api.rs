//! Create, read, patch, dry run, conflicts.

use serde_json::json;

use crate::api;
use crate::common::{job, name, unique};

#[test]
fn health_and_version() {
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(api().call("GET", path, None), (200, json!("ok")), "{path}");
    }
    let (status, version) = api().call("GET", "/version", None);
    assert_eq!((status, &version["major"]), (200, &json!("1")));
    let (status, group) = api().call("GET", "/apis/batch/v1", None);
    assert_eq!((status, &group["groupVersion"]), (200, &json!("batch/v1")));
}

#[test]
fn dry_run_keeps_nothing() {
    let job_name = unique("dry");
    let path = format!("{}?dryRun=All", api().path("jobs", ""));
    let (status, answer) = api().call("POST", &path, Some(&job(&job_name, "true")));
    assert_eq!((status, name(&answer)), (201, job_name.clone()));
    assert!(api().get("jobs", &job_name).is_none());
    let (status, _) = api().call(
        "POST",
        &path,
        Some(&json!({"metadata": {"name": "Bad_Name"}})),
    );
    assert_eq!(status, 422);
    let (status, _) = api().call(
        "POST",
        &format!("{}?dryRun=Some", api().path("jobs", "")),
        Some(&job(&job_name, "true")),
    );
    assert_eq!(status, 422);
    // What a Job mounts can be tried with the uid that its own trial gave, though nothing has that uid.
    let map = unique("dry");
    let owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "uid": answer["metadata"]["uid"]});
    let object = json!({"metadata": {"name": map, "ownerReferences": [owner]}, "data": {"a": "b"}});
    let plain = api().path("configmaps", "");
    let path = format!("{plain}?dryRun=All");
    let (status, answer) = api().call("POST", &path, Some(&object));
    assert_eq!((status, name(&answer)), (201, map.clone()));
    assert!(api().get("configmaps", &map).is_none());
    api().create("configmaps", &json!({"metadata": {"name": map}}));
    let (status, answer) = api().call("POST", &path, Some(&object));
    assert_eq!((status, &answer["reason"]), (409, &json!("AlreadyExists")));
    api().delete("configmaps", &map);
}

#[test]
fn a_taken_name() {
    let map = unique("taken");
    let object = json!({"metadata": {"name": map}, "data": {}});
    api().create("configmaps", &object);
    let (status, answer) = api().call("POST", &api().path("configmaps", ""), Some(&object));
    assert_eq!((status, &answer["reason"]), (409, &json!("AlreadyExists")));
    assert_eq!(
        answer["message"],
        format!("configmaps \"{map}\" already exists")
    );
    assert_eq!(
        answer["details"],
        json!({"name": map, "kind": "configmaps"})
    );
    api().delete("configmaps", &map);
    let job_name = unique("taken");
    let mut object = job(&job_name, "true");
    object["spec"]["suspend"] = json!(true);
    api().create("jobs", &object);
    let (status, answer) = api().call("POST", &api().path("jobs", ""), Some(&object));
    assert_eq!(
        (status, &answer["message"]),
        (
            409,
            &json!(format!("jobs.batch \"{job_name}\" already exists"))
        )
    );
    assert_eq!(
        answer["details"],
        json!({"name": job_name, "group": "batch", "kind": "jobs"})
    );
    api().delete("jobs", &job_name);
}

#[test]
fn an_unknown_name() {
    let (status, answer) = api().call("GET", &api().path("jobs", "no-such-job"), None);
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "jobs.batch \"no-such-job\" not found",
        "reason": "NotFound", "details": {"name": "no-such-job", "group": "batch", "kind": "jobs"}, "code": 404,
    });
    assert_eq!((status, answer), (404, expected));
    let (status, answer) = api().call(
        "PATCH",
        &api().path("pods", "no-such-pod"),
        Some(&json!({})),
    );
    assert_eq!(
        (status, &answer["message"]),
        (404, &json!("pods \"no-such-pod\" not found"))
    );
    let (status, answer) = api().call("GET", "/apis/nothing.example/v1/things", None);
    assert_eq!(status, 404, "{answer}");
}

#[test]
fn patches_and_conflicts() {
    let map = unique("patch");
    let created = api().create(
        "configmaps",
        &json!({"metadata": {"name": map, "labels": {"a": "1"}}, "data": {"x": "1"}}),
    );
    let path = api().path("configmaps", &map);
    let patch = json!({"metadata": {"labels": {"b": "2"}, "annotations": {"c": "3"}, "finalizers": ["example.com/hold"]}, "data": {"x": null}});
    let (status, patched) = api().call("PATCH", &path, Some(&patch));
    assert_eq!(status, 200, "{patched}");
    assert_eq!(patched["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    assert_ne!(
        patched["metadata"]["resourceVersion"],
        created["metadata"]["resourceVersion"]
    );
    assert_eq!(patched["metadata"]["uid"], created["metadata"]["uid"]);
    let stale = json!({"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "data": {"y": "1"}});
    let (status, answer) = api().call("PATCH", &path, Some(&stale));
    assert_eq!((status, &answer["reason"]), (409, &json!("Conflict")));
    let expected = format!(
        "Operation cannot be fulfilled on configmaps \"{map}\": the object has been modified; please apply your changes to the latest \
         version and try again"
    );
    assert_eq!(answer["message"], expected);
    let (status, strategic) = api().call_raw(
        "PATCH",
        &path,
        Some("application/strategic-merge-patch+json"),
        br#"{"metadata":{"labels":{"a":null}}}"#,
    );
    assert_eq!(
        (status, &strategic["metadata"]["labels"]),
        (200, &json!({"b": "2"}))
    );
    let (status, answer) = api().call("DELETE", &path, None);
    assert_eq!(status, 200, "{answer}");
    assert!(
        api().get("configmaps", &map).expect("held")["metadata"]["deletionTimestamp"].is_string()
    );
    let (status, _) = api().call(
        "PATCH",
        &path,
        Some(&json!({"metadata": {"finalizers": []}})),
    );
    assert_eq!(status, 200);
    assert!(api().get("configmaps", &map).is_none());
}

#[test]
fn generated_names() {
    let created = api().create(
        "configmaps",
        &json!({"metadata": {"generateName": "generated-"}}),
    );
    let suffix = name(&created)
        .strip_prefix("generated-")
        .expect("prefix")
        .to_owned();
    assert!(
        suffix.len() == 5 && suffix.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{suffix}"
    );
    api().delete("configmaps", &name(&created));
}
