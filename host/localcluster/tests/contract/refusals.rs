//! What is refused, and in which words.

use serde_json::{Value, json};

use crate::api;
use crate::common::{container, job, name, pod_spec, unique};

/// Posts a Job changed by a function; answers status and `Status`.
fn post(change: impl FnOnce(&mut Value)) -> (u16, Value) {
    let mut object = job(&unique("refused"), "true");
    change(&mut object);
    let (status, answer) = api().call(
        "POST",
        &format!("{}?dryRun=All", api().path("jobs", "")),
        Some(&object),
    );
    (status, answer)
}

/// Expects 422 with these causes: field and the message's beginning.
fn check(what: &str, change: impl FnOnce(&mut Value), causes: &[(&str, &str)]) {
    let (status, answer) = post(change);
    assert_eq!(
        (status, &answer["reason"]),
        (422, &json!("Invalid")),
        "{what}: {answer}"
    );
    let found = answer["details"]["causes"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let shown: Vec<(&str, &str)> = found
        .iter()
        .map(|c| {
            (
                c["field"].as_str().unwrap_or_default(),
                c["message"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    for (field, message) in causes {
        let matches = shown
            .iter()
            .any(|(f, m)| f == field && m.starts_with(message));
        assert!(matches, "{what}: no {field}: {message} in {shown:#?}");
    }
    assert_eq!(shown.len(), causes.len(), "{what}: {shown:#?}");
    assert_eq!(
        (&answer["details"]["group"], &answer["details"]["kind"]),
        (&json!("batch"), &json!("Job"))
    );
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and \
end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

#[test]
fn names_and_labels() {
    let named = |text: &str| {
        let text = text.to_owned();
        move |object: &mut Value| object["metadata"]["name"] = json!(text)
    };
    check(
        "upper case",
        named("Upper"),
        &[(
            "metadata.name",
            &format!("Invalid value: \"Upper\": {SUBDOMAIN}"),
        )],
    );
    let label = |value: &str| {
        let value = value.to_owned();
        move |object: &mut Value| object["metadata"]["labels"] = json!({"a": value})
    };
    check(
        "label",
        label("b c"),
        &[(
            "metadata.labels",
            "Invalid value: \"b c\": a valid label must be an empty string or consist of",
        )],
    );
    check(
        "long label",
        label(&"x".repeat(64)),
        &[("metadata.labels", "Invalid value: \"xxxx")],
    );
    let key = |object: &mut Value| object["metadata"]["labels"] = json!({"a b": "c"});
    check(
        "label key",
        key,
        &[(
            "metadata.labels",
            "Invalid value: \"a b\": name part must consist of",
        )],
    );
}

#[test]
fn templates() {
    let at = |field: &str| format!("spec.template.spec.{field}");
    check(
        "no containers",
        |object| pod_spec(object)["containers"] = json!([]),
        &[(&at("containers"), "Required value")],
    );
    check(
        "no image",
        |object| container(object)["image"] = json!(""),
        &[(&at("containers[0].image"), "Required value")],
    );
    check(
        "no name",
        |object| container(object)["name"] = json!(""),
        &[(&at("containers[0].name"), "Required value")],
    );
    check(
        "bad name",
        |object| container(object)["name"] = json!("A"),
        &[(
            &at("containers[0].name"),
            "Invalid value: \"A\": a lowercase RFC 1123 label must consist of",
        )],
    );
    check(
        "restart policy",
        |object| pod_spec(object)["restartPolicy"] = json!("Always"),
        &[(
            &at("restartPolicy"),
            "Required value: valid values: \"OnFailure\", \"Never\"",
        )],
    );
    check(
        "unknown restart policy",
        |object| pod_spec(object)["restartPolicy"] = json!("Sometimes"),
        &[
            (
                &at("restartPolicy"),
                "Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ),
            (
                &at("restartPolicy"),
                "Unsupported value: \"Sometimes\": supported values: \"OnFailure\", \"Never\"",
            ),
        ],
    );
    check(
        "variable",
        |object| container(object)["env"] = json!([{"name": "a=b", "value": ""}]),
        &[(
            &at("containers[0].env[0].name"),
            "Invalid value: \"a=b\": a valid environment variable name must consist",
        )],
    );
    check(
        "mount without volume",
        |object| container(object)["volumeMounts"] = json!([{"name": "none", "mountPath": "/x"}]),
        &[(
            &at("containers[0].volumeMounts[0].name"),
            "Not found: \"none\"",
        )],
    );
    check(
        "request over limit",
        |object| {
            container(object)["resources"] =
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})
        },
        &[(
            &at("containers[0].resources.requests"),
            "Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        )],
    );
    check(
        "negative",
        |object| object["spec"]["backoffLimit"] = json!(-1),
        &[(
            "spec.backoffLimit",
            "Invalid value: -1: must be greater than or equal to 0",
        )],
    );
    check(
        "pod deadline",
        |object| pod_spec(object)["activeDeadlineSeconds"] = json!(0),
        &[(
            &at("activeDeadlineSeconds"),
            "Invalid value: 0: must be between 1 and 2147483647, inclusive",
        )],
    );
}

#[test]
fn wrong_types_and_quantities() {
    let bad = |what: &str, change: &dyn Fn(&mut Value), message: &str| {
        let (status, answer) = post(change);
        assert_eq!(
            (status, &answer["reason"]),
            (400, &json!("BadRequest")),
            "{what}: {answer}"
        );
        let found = answer["message"].as_str().expect("message");
        assert!(found.contains(message), "{what}: {found}");
    };
    let quantity = "Job in version \"v1\" cannot be handled as a Job: quantities must match the regular expression \
                    '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    bad(
        "quantity",
        &|object| container(object)["resources"] = json!({"limits": {"memory": "much"}}),
        quantity,
    );
    let number =
        "cannot unmarshal string into Go struct field JobSpec.spec.parallelism of type int32";
    bad(
        "parallelism",
        &|object| object["spec"]["parallelism"] = json!("one"),
        number,
    );
    bad(
        "kind",
        &|object| object["kind"] = json!("Pod"),
        "cannot be handled as a Job",
    );
    bad(
        "namespace",
        &|object| object["metadata"]["namespace"] = json!("another"),
        "the namespace of the provided object does not match the namespace sent on the request",
    );
}

#[test]
fn bodies() {
    let path = api().path("jobs", "");
    let (status, answer) = api().call_raw("POST", &path, Some("application/json"), b"{\"kind\":");
    assert_eq!(
        (status, &answer["reason"]),
        (400, &json!("BadRequest")),
        "{answer}"
    );
    let (status, answer) = api().call_raw("POST", &path, Some("text/csv"), b"a,b");
    assert_eq!(
        (status, &answer["reason"]),
        (415, &json!("UnsupportedMediaType")),
        "{answer}"
    );
    let (status, answer) = api().call("POST", &api().path("jobs", "some-name"), Some(&json!({})));
    assert_eq!(
        (status, &answer["reason"]),
        (405, &json!("MethodNotAllowed")),
        "{answer}"
    );
    assert_eq!(
        answer["message"],
        "the server does not allow this method on the requested resource"
    );
}

#[test]
fn sizes() {
    let big = |bytes: usize| json!({"metadata": {"name": unique("big")}, "data": {"a": "x".repeat(bytes)}});
    let path = api().path("configmaps", "");
    let (status, answer) = api().call("POST", &path, Some(&big((1 << 20) + 1)));
    assert_eq!(
        (status, &answer["reason"]),
        (422, &json!("Invalid")),
        "{answer}"
    );
    assert_eq!(
        answer["details"]["causes"][0]["reason"],
        "FieldValueTooLong"
    );
    let (status, answer) = api().call("POST", &path, Some(&big(4 << 20)));
    assert_eq!(
        (status, &answer["reason"]),
        (413, &json!("RequestEntityTooLarge")),
        "{answer}"
    );
    assert_eq!(
        answer["message"],
        "Request entity too large: limit is 3145728"
    );
    let most = big((1 << 20) - 10);
    api().create("configmaps", &most);
    api().delete("configmaps", &name(&most));
    let mut huge = job(&unique("huge"), "true");
    huge["spec"]["suspend"] = json!(true);
    container(&mut huge)["args"] = json!(["x".repeat(1_700_000)]);
    let (status, answer) = api().call("POST", &api().path("jobs", ""), Some(&huge));
    // Not what etcd says: the real server tries again without its own notes, and then refuses the labels it made the first time.
    assert_eq!(
        (status, &answer["reason"]),
        (422, &json!("Invalid")),
        "{answer}"
    );
    assert!(
        answer["message"]
            .as_str()
            .expect("message")
            .contains("`selector` not auto-generated"),
        "{answer}"
    );
    let spec = pod_spec(&mut huge).clone();
    let pod = json!({"metadata": {"name": unique("huge")}, "spec": spec});
    let (status, answer) = api().call("POST", &api().path("pods", ""), Some(&pod));
    assert_eq!(
        (status, &answer["message"]),
        (500, &json!("etcdserver: request is too large")),
        "{answer}"
    );
}

#[test]
fn what_cannot_change() {
    let job_name = unique("immutable");
    let mut object = job(&job_name, "true");
    object["spec"]["suspend"] = json!(true);
    api().create("jobs", &object);
    let path = api().path("jobs", &job_name);
    let (status, answer) = api().call("PATCH", &path, Some(&json!({"spec": {"completions": 2}})));
    assert_eq!(status, 422, "{answer}");
    assert_eq!(answer["details"]["causes"][0]["field"], "spec.completions");
    let message = answer["details"]["causes"][0]["message"]
        .as_str()
        .expect("message");
    assert!(message.ends_with("field is immutable"), "{message}");
    api().delete("jobs", &job_name);
    let map = unique("immutable");
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"a": "1"}, "immutable": true}),
    );
    let (status, answer) = api().call(
        "PATCH",
        &api().path("configmaps", &map),
        Some(&json!({"data": {"a": "2"}})),
    );
    assert_eq!(
        (status, &answer["details"]["causes"][0]["field"]),
        (422, &json!("data")),
        "{answer}"
    );
    api().delete("configmaps", &map);
}
