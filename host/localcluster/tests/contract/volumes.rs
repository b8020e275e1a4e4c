//! Volumes and environment.

use serde_json::{Value, json};

use crate::api;
use crate::common::{container, job, name, pod_spec, unique, wait, waiting};

fn run(object: &Value, code: i32) -> String {
    let job_name = name(object);
    api().create("jobs", object);
    let ended = api().wait_ended(&job_name);
    let log = String::from_utf8_lossy(&api().job_log(&job_name)).into_owned();
    assert_eq!(ended["exitCode"], code, "{ended} {log}");
    api().delete("jobs", &job_name);
    log
}

#[test]
fn scripts_and_files_at_absolute_paths() {
    let map = unique("files");
    let data = json!({"script": "#!/bin/sh\necho \"$0\" \"$@\"; pwd; cat /workspace/data.txt; cat sub/deep.txt\n", "data": "text\n", "bin": ""});
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": data, "binaryData": {"raw": "/wAK"}}),
    );
    let job_name = unique("volumes");
    let mut object = job(&job_name, "");
    pod_spec(&mut object)["volumes"] = json!([
        {"name": "script", "configMap": {"name": map, "items": [{"key": "script", "path": "script"}], "defaultMode": 0o555}},
        {"name": "files", "configMap": {"name": map}},
        {"name": "workspace", "emptyDir": {}},
    ]);
    let main = container(&mut object);
    main["volumeMounts"] = json!([
        {"name": "script", "mountPath": "/executor"},
        {"name": "workspace", "mountPath": "/workspace"},
        {"name": "files", "mountPath": "/workspace/data.txt", "subPath": "data"},
        {"name": "files", "mountPath": "/workspace/sub/deep.txt", "subPath": "data"},
    ]);
    main["workingDir"] = json!("/workspace");
    main["command"] = json!(["/executor/script", "a b", "c"]);
    assert_eq!(
        run(&object, 0),
        "/executor/script a b c\n/workspace\ntext\ntext\n"
    );
    api().delete("configmaps", &map);
}

#[test]
fn config_maps_are_read_only_and_the_workspace_is_not() {
    let map = unique("readonly");
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"a": "b"}}),
    );
    let job_name = unique("readonly");
    let script = "echo x > /files/a && echo wrote; touch /files/new && echo made; echo y > /workspace/f && cat /workspace/f; \
                  echo z > /tmp/t && cat /tmp/t; ls /files";
    let mut object = job(&job_name, &format!("({script}) 2>/dev/null"));
    pod_spec(&mut object)["volumes"] = json!([{"name": "files", "configMap": {"name": map}}, {"name": "workspace", "emptyDir": {}}]);
    container(&mut object)["volumeMounts"] = json!([{"name": "files", "mountPath": "/files"}, {"name": "workspace", "mountPath": "/workspace"}]);
    assert_eq!(run(&object, 0), "y\nz\na\n");
    api().delete("configmaps", &map);
}

#[test]
fn a_restricted_pod_writes_to_its_own_folders() {
    let map = unique("restricted");
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"a": "given\n"}}),
    );
    let job_name = unique("restricted");
    let script = "cat sub/a; echo x > sub/a && echo wrote; echo y > sub/b && cat /workspace/sub/b; echo z > /tmp/t && cat /tmp/t; \
                  echo \"$HOME\"";
    let mut object = job(&job_name, &format!("({script}) 2>/dev/null"));
    let pod = pod_spec(&mut object);
    pod["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    pod["tolerations"] = json!([{"key": "runs", "operator": "Exists"}]);
    let scratch = |name: &str| json!({"name": name, "emptyDir": {"sizeLimit": "64Mi"}});
    let files = json!({"name": "files", "configMap": {"name": map, "defaultMode": 0o555}});
    pod["volumes"] = json!([scratch("workspace"), scratch("tmp"), files]);
    let main = container(&mut object);
    main["securityContext"] = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": 65_532,
        "runAsGroup": 65_532,
    });
    main["env"] = json!([{"name": "HOME", "value": "/workspace"}]);
    main["workingDir"] = json!("/workspace");
    main["volumeMounts"] = json!([
        {"name": "workspace", "mountPath": "/workspace"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "workspace", "mountPath": "/workspace/sub", "subPath": "sub"},
        {"name": "files", "mountPath": "/workspace/sub/a", "subPath": "a", "readOnly": true},
    ]);
    main["resources"]["requests"]["ephemeral-storage"] = json!("0");
    main["resources"]["limits"]["ephemeral-storage"] = json!("64Mi");
    assert_eq!(run(&object, 0), "given\ny\nz\n/workspace\n");
    api().delete("configmaps", &map);
}

#[test]
fn environment() {
    let (map, secret) = (unique("env"), unique("env"));
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"key": "from map"}}),
    );
    let created = api().create(
        "secrets",
        &json!({"metadata": {"name": secret}, "stringData": {"key": "from secret"}}),
    );
    assert_eq!(created["data"]["key"], "ZnJvbSBzZWNyZXQ=");
    assert!(created["stringData"].is_null());
    let job_name = unique("env");
    let mut object = job(
        &job_name,
        "echo \"$PLAIN|$REF|$MAP|$SECRET|$POD|$EXPANDED|$NONE\"; echo \"$HOSTNAME\"; env | grep -c SURELY_OF_THE_HOST",
    );
    let reference = |name: &str| json!({"name": name, "key": "key"});
    container(&mut object)["env"] = json!([
        {"name": "PLAIN", "value": "a \"b\" $c\né"},
        {"name": "REF", "value": "x$(PLAIN)y"},
        {"name": "MAP", "valueFrom": {"configMapKeyRef": reference(&map)}},
        {"name": "SECRET", "valueFrom": {"secretKeyRef": reference(&secret)}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['job-name']"}}},
        {"name": "EXPANDED", "value": "$(UNKNOWN) $$(PLAIN)"},
        {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "surely-missing", "key": "key", "optional": true}}},
    ]);
    api().create("jobs", &object);
    api().wait_ended(&job_name);
    let pod = name(&api().pods(&job_name)[0]);
    let log = String::from_utf8(api().log(&pod, "")).expect("text");
    let plain = "a \"b\" $c\né";
    assert_eq!(
        log,
        format!(
            "{plain}|x{plain}y|from map|from secret|{job_name}|$(UNKNOWN) $(PLAIN)|\n{pod}\n0\n"
        )
    );
    api().delete("jobs", &job_name);
    api().delete("configmaps", &map);
    api().delete("secrets", &secret);
}

#[test]
fn a_missing_volume_is_waited_for() {
    let (job_name, map) = (unique("latemap"), unique("latemap"));
    let mut object = job(&job_name, "cat /files/a");
    pod_spec(&mut object)["volumes"] = json!([{"name": "files", "configMap": {"name": map}}]);
    container(&mut object)["volumeMounts"] = json!([{"name": "files", "mountPath": "/files"}]);
    api().create("jobs", &object);
    let pod = api().wait_pod(&job_name, "creating", |pod| {
        waiting(pod) == "ContainerCreating"
    });
    let event = wait("FailedMount", || {
        let events = api().list(
            "events",
            &format!("fieldSelector=involvedObject.name={}", name(&pod)),
        );
        events
            .into_iter()
            .find(|e| e["reason"] == "FailedMount")
            .ok_or("no such event")
    });
    // What follows differs on a real node while its cache is not yet filled.
    let message = event["message"].as_str().expect("message");
    assert!(
        message.starts_with("MountVolume.SetUp failed for volume \"files\" : "),
        "{message}"
    );
    api().create(
        "configmaps",
        &json!({"metadata": {"name": map}, "data": {"a": "late\n"}}),
    );
    let ended = api().wait_ended(&job_name);
    assert_eq!(ended["exitCode"], 0);
    assert_eq!(api().job_log(&job_name), b"late\n");
    api().delete("jobs", &job_name);
    api().delete("configmaps", &map);
}

#[test]
fn a_missing_variable_is_a_config_error() {
    let job_name = unique("noenv");
    let mut object = job(&job_name, "true");
    let reference = json!({"name": "surely-missing", "key": "key"});
    container(&mut object)["env"] =
        json!([{"name": "A", "valueFrom": {"configMapKeyRef": reference}}]);
    api().create("jobs", &object);
    let pod = api().wait_pod(&job_name, "config error", |pod| {
        waiting(pod) == "CreateContainerConfigError"
    });
    let message = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(message, "configmap \"surely-missing\" not found");
    assert_eq!(pod["status"]["phase"], "Pending");
    api().delete("jobs", &job_name);
}
