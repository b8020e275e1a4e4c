//! Jobs and ConfigMaps as the JSON that the API server gets.

use k8s_openapi::api::core::v1::Toleration;
use serde_json::{Value, json};

use super::*;
use crate::rules::PodProfile;

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn spec(script: &str) -> RunSpec {
    RunSpec {
        id: Uuid::parse_str(ID).expect("an id"),
        attempt: 1,
        job_name: format!("x-{ID}"),
        spec_digest: "d1".to_owned(),
        image: "busybox:1.36".to_owned(),
        script: script.to_owned(),
        cpu: Some("250m".to_owned()),
        memory: Some("128Mi".to_owned()),
        grace_seconds: 10,
        pod_deadline_seconds: 1000,
        ..RunSpec::default()
    }
}

/// The environment that every restricted script has.
fn own_env() -> [Value; 3] {
    [
        json!({"name": "EXECUTOR_ID", "value": ID}),
        json!({"name": "EXECUTOR_ATTEMPT", "value": "1"}),
        json!({"name": "HOME", "value": "/workspace"}),
    ]
}

fn value(object: &impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("JSON")
}

/// The Job, its container and its ConfigMaps, as JSON.
fn made(spec: &RunSpec) -> (Value, Value, Vec<Value>) {
    let payload = payload(spec);
    let job = value(&payload.job);
    let container = job["spec"]["template"]["spec"]["containers"][0].clone();
    (
        job,
        container,
        payload.config_maps.iter().map(value).collect(),
    )
}

#[test]
fn a_plain_script_is_all_in_the_job() {
    let metadata = json!({
        "labels": {"app.kubernetes.io/managed-by": "executor", "executor.dev/execution": ID},
        "annotations": {"executor.dev/spec-digest": "d1"},
    });
    let mut named = metadata.clone();
    named["name"] = json!(format!("x-{ID}"));
    let (job, _, config_maps) = made(&spec("echo About to fail; exit 42"));
    assert_eq!(
        job,
        json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": named,
            "spec": {
                "parallelism": 1,
                "completions": 1,
                "backoffLimit": 0,
                "ttlSecondsAfterFinished": 604_800,
                "template": {
                    "metadata": metadata,
                    "spec": {
                        "restartPolicy": "Never",
                        "activeDeadlineSeconds": 1000,
                        "terminationGracePeriodSeconds": 10,
                        "automountServiceAccountToken": false,
                        "enableServiceLinks": false,
                        "shareProcessNamespace": true,
                        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
                        "volumes": [{"name": "workspace", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                        "containers": [{
                            "name": "script",
                            "image": "busybox:1.36",
                            "imagePullPolicy": "IfNotPresent",
                            "command": ["/bin/sh", "-c", "echo About to fail; exit 42", "script"],
                            "env": own_env(),
                            "workingDir": "/workspace",
                            "resources": {
                                "requests": {"cpu": "250m", "memory": "128Mi"},
                                "limits": {"cpu": "250m", "memory": "128Mi"},
                            },
                            "securityContext": {
                                "allowPrivilegeEscalation": false,
                                "capabilities": {"drop": ["ALL"]},
                                "readOnlyRootFilesystem": true,
                                "runAsNonRoot": true,
                                "runAsUser": 65_532,
                                "runAsGroup": 65_532,
                            },
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "volumeMounts": [
                                {"name": "workspace", "mountPath": "/workspace"},
                                {"name": "tmp", "mountPath": "/tmp"},
                            ],
                        }],
                    },
                },
            },
        })
    );
    assert!(config_maps.is_empty());
}

#[test]
fn a_script_with_a_shebang_is_a_file_that_is_run() {
    let spec = RunSpec {
        args: vec!["-v".to_owned()],
        ..spec("#!/usr/bin/env python3\nprint(1)\n")
    };
    let (job, container, config_maps) = made(&spec);
    assert_eq!(job["spec"]["suspend"], json!(true));
    assert_eq!(container["command"], json!(["/executor/script", "-v"]));
    assert_eq!(
        container["volumeMounts"][2],
        json!({"name": "script", "mountPath": "/executor", "readOnly": true})
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["volumes"][2],
        json!({"name": "script", "configMap": {"name": format!("x-{ID}-script"), "defaultMode": 0o555}})
    );
    assert_eq!(config_maps.len(), 1);
    assert_eq!(
        config_maps[0],
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": format!("x-{ID}-script"),
                "labels": {"app.kubernetes.io/managed-by": "executor", "executor.dev/execution": ID},
                "annotations": {"executor.dev/spec-digest": "d1"},
            },
            "immutable": true,
            "data": {"script": "#!/usr/bin/env python3\nprint(1)\n"},
        })
    );
}

#[test]
fn an_interpreter_gets_the_file_and_the_arguments() {
    let interpreter = Some(vec!["python3".to_owned(), "-u".to_owned()]);
    let spec = RunSpec {
        interpreter,
        args: vec!["a b".to_owned()],
        ..spec("#!/bin/false\nprint(1)")
    };
    let (_, container, config_maps) = made(&spec);
    assert_eq!(
        container["command"],
        json!(["python3", "-u", "/executor/script", "a b"])
    );
    assert_eq!(config_maps.len(), 1);
}

#[test]
fn only_what_sh_takes_as_an_argument_is_inline() {
    let long = "#".repeat(INLINE_SCRIPT_LIMIT_BYTES);
    for (script, inline) in [
        ("true", true),
        (" -x", true),
        (long.as_str(), true),
        (&format!("{long}#"), false),
        ("-x", false),
        ("+x", false),
        ("echo \0", false),
    ] {
        let (job, container, config_maps) = made(&spec(script));
        let command = if inline {
            json!(["/bin/sh", "-c", script, "script"])
        } else {
            json!(["/bin/sh", "/executor/script"])
        };
        assert_eq!(container["command"], command);
        assert_eq!(config_maps.is_empty(), inline);
        assert_eq!(job["spec"]["suspend"].is_null(), inline);
    }
}

#[test]
fn nothing_in_a_script_an_argument_or_a_value_is_expanded() {
    let env = BTreeMap::from([
        ("HOME".to_owned(), "$(PATH) $$ $".to_owned()),
        ("EMPTY".to_owned(), String::new()),
    ]);
    let spec = RunSpec {
        env,
        args: vec!["$(HOME)".to_owned()],
        ..spec("echo $$ $(date) $$(x)")
    };
    let (_, container, _) = made(&spec);
    assert_eq!(
        container["command"],
        json!([
            "/bin/sh",
            "-c",
            "echo $$$$ $$(date) $$$$(x)",
            "script",
            "$$(HOME)"
        ])
    );
    assert_eq!(
        container["env"],
        json!([own_env()[0], own_env()[1], {"name": "EMPTY", "value": ""},
            {"name": "HOME", "value": "$$(PATH) $$$$ $$"}])
    );
    let (_, _, config_maps) = made(&RunSpec {
        interpreter: Some(vec!["sh".to_owned()]),
        ..spec
    });
    assert_eq!(
        config_maps[0]["data"]["script"], "echo $$ $(date) $$(x)",
        "files are not expanded"
    );
}

#[test]
fn values_of_secrets_are_named_not_copied() {
    let from = SecretKey {
        secret: "db".to_owned(),
        key: "password".to_owned(),
    };
    let spec = RunSpec {
        secret_env: BTreeMap::from([("PASSWORD".to_owned(), from)]),
        ..spec("true")
    };
    let (_, container, _) = made(&spec);
    let reference = json!({"secretKeyRef": {"name": "db", "key": "password"}});
    assert_eq!(
        container["env"],
        json!([own_env()[0], own_env()[1], own_env()[2], {"name": "PASSWORD", "valueFrom": reference}])
    );
}

#[test]
fn a_later_attempt_is_told_from_the_first() {
    let (job, container, _) = made(&RunSpec {
        attempt: 3,
        job_name: format!("x-{ID}-3"),
        // Whoever sets it means it.
        env: BTreeMap::from([(ENV_ID.to_owned(), "mine".to_owned())]),
        ..spec("true")
    });
    for metadata in [&job["metadata"], &job["spec"]["template"]["metadata"]] {
        assert_eq!(metadata["labels"][LABEL_ATTEMPT], "3");
        assert_eq!(metadata["labels"][LABEL_EXECUTION], ID);
    }
    assert_eq!(
        container["env"],
        json!([{"name": "EXECUTOR_ATTEMPT", "value": "3"}, own_env()[2], {"name": "EXECUTOR_ID", "value": "mine"}])
    );
}

#[test]
fn files_are_mounted_one_by_one() {
    let files = [
        ("a/b c.txt", b"text\twith \"quotes\"\r\n".to_vec()),
        ("a/c/d/e.txt", b"e".to_vec()),
        ("z.bin", vec![0xff, 0]),
        ("é$(A)", b"\x1b[0m".to_vec()),
    ];
    let files = files.map(|(path, bytes)| (path.to_owned(), bytes)).into();
    let (job, container, config_maps) = made(&RunSpec {
        files,
        ..spec("true")
    });
    let mount = |key: &str, path: &str| json!({"name": "files", "mountPath": path, "subPath": key, "readOnly": true});
    assert_eq!(
        container["volumeMounts"],
        json!([
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "workspace", "mountPath": "/workspace/a", "subPath": "a"},
            {"name": "workspace", "mountPath": "/workspace/a/c/d", "subPath": "a/c/d"},
            mount("f0", "/workspace/a/b c.txt"),
            mount("f1", "/workspace/a/c/d/e.txt"),
            mount("f2", "/workspace/z.bin"),
            mount("f3", "/workspace/é$(A)"),
        ])
    );
    assert_eq!(job["spec"]["suspend"], json!(true));
    assert_eq!(config_maps.len(), 1);
    assert_eq!(
        config_maps[0]["metadata"]["name"],
        json!(format!("x-{ID}-files"))
    );
    assert_eq!(
        config_maps[0]["data"],
        json!({"f0": "text\twith \"quotes\"\r\n", "f1": "e"})
    );
    assert_eq!(
        config_maps[0]["binaryData"],
        json!({"f2": "/wA=", "f3": "G1swbQ=="})
    );
}

#[test]
fn what_belongs_to_a_job_goes_with_it() {
    let files = BTreeMap::from([("f".to_owned(), Vec::new())]);
    let payload = payload(&RunSpec {
        files,
        ..spec("#!/bin/sh")
    })
    .with_owner("u1");
    assert_eq!(payload.config_maps.len(), 2);
    for config_map in &payload.config_maps {
        assert_eq!(
            value(config_map)["metadata"]["ownerReferences"],
            json!([{"apiVersion": "batch/v1", "kind": "Job", "name": format!("x-{ID}"), "uid": "u1"}])
        );
    }
}

#[test]
fn the_largest_script_fits_into_one_request_whatever_its_bytes() {
    // The API server takes bodies up to 3 MiB.
    for character in ["\u{1}", "\"", "a", "\u{7f}", "é"] {
        let script = character.repeat((1 << 20) / character.len());
        let payload = payload(&RunSpec {
            interpreter: Some(vec!["sh".to_owned()]),
            ..spec(&script)
        });
        let body = serde_json::to_vec(&payload.config_maps[0]).expect("JSON");
        assert!(body.len() < (5 << 20) / 2, "{character:?}: {}", body.len());
    }
}

#[test]
fn labels_that_kubernetes_does_not_take_go_hashed() {
    let hash = |text: &str| label_text(text, true);
    for fine in ["a", "team-1", "A.b_C", &"x".repeat(63), ""] {
        assert_eq!(hash(fine), fine);
    }
    for other in ["-a", "a-", "a b", "é", "a/b", &"x".repeat(64)] {
        let hashed = hash(other);
        assert!(
            hashed.starts_with("sha256-") && hashed.len() <= LABEL_LIMIT,
            "{hashed}"
        );
        assert_eq!(hash(&hashed), hashed);
    }
    assert_ne!(hash("a b"), hash("a  b"));
    assert_ne!(label_text("", false), "", "a name is never empty");
    let labels = BTreeMap::from([("team".to_owned(), "a b".to_owned())]);
    let (job, ..) = made(&RunSpec {
        labels,
        ..spec("true")
    });
    for metadata in [&job["metadata"], &job["spec"]["template"]["metadata"]] {
        assert_eq!(
            metadata["labels"]["label.executor.dev/team"],
            json!(hash("a b"))
        );
    }
}

#[test]
fn a_deadline_is_kept_within_what_the_api_takes() {
    let (job, ..) = made(&RunSpec {
        pod_deadline_seconds: u64::MAX,
        ..spec("true")
    });
    assert_eq!(
        job["spec"]["template"]["spec"]["activeDeadlineSeconds"],
        json!(i32::MAX)
    );
}

#[test]
fn baseline_leaves_the_image_its_user_and_its_root() {
    let rules = PodRules {
        profile: PodProfile::Baseline,
        ..PodRules::default()
    };
    let (job, container, _) = made(&RunSpec {
        rules,
        ..spec("true")
    });
    assert_eq!(
        container["securityContext"],
        json!({"allowPrivilegeEscalation": false})
    );
    assert_eq!(container["env"], json!([own_env()[0], own_env()[1]]));
    assert_eq!(
        container["volumeMounts"],
        json!([{"name": "workspace", "mountPath": "/workspace"}])
    );
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        pod["securityContext"],
        json!({"seccompProfile": {"type": "RuntimeDefault"}})
    );
    assert_eq!(pod["automountServiceAccountToken"], json!(false));
    assert_eq!(
        pod["volumes"],
        json!([{"name": "workspace", "emptyDir": {}}])
    );
}

#[test]
fn a_disk_that_nobody_asked_for_is_limited_and_not_reserved() {
    for (asked, rule, reserved, limit) in [
        (None, None, Value::Null, Value::Null),
        (None, Some("4Gi"), json!("0"), json!("4Gi")),
        (Some("1Gi"), Some("4Gi"), json!("1Gi"), json!("1Gi")),
        (Some("8Gi"), None, json!("8Gi"), json!("8Gi")),
    ] {
        let (job, container, _) = made(&RunSpec {
            ephemeral_storage: asked.map(str::to_owned),
            rules: PodRules {
                disk: rule.map(str::to_owned),
                ..PodRules::default()
            },
            ..spec("true")
        });
        let resources = &container["resources"];
        assert_eq!(resources["requests"]["ephemeral-storage"], reserved);
        assert_eq!(resources["limits"]["ephemeral-storage"], limit);
        let volumes = &job["spec"]["template"]["spec"]["volumes"];
        for volume in volumes.as_array().expect("volumes") {
            assert_eq!(volume["emptyDir"]["sizeLimit"], limit, "{volume}");
        }
    }
}

#[test]
fn where_pods_run_is_the_operators_to_say() {
    let (job, ..) = made(&RunSpec {
        rules: PodRules {
            runtime_class: Some("gvisor".to_owned()),
            node_selector: BTreeMap::from([("pool".to_owned(), "runs".to_owned())]),
            tolerations: vec![Toleration {
                key: Some("runs".to_owned()),
                operator: Some("Exists".to_owned()),
                ..Toleration::default()
            }],
            ..PodRules::default()
        },
        ..spec("true")
    });
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(pod["runtimeClassName"], "gvisor");
    assert_eq!(pod["nodeSelector"], json!({"pool": "runs"}));
    assert_eq!(
        pod["tolerations"],
        json!([{"key": "runs", "operator": "Exists"}])
    );
}

#[test]
fn a_placeholder_is_ours_and_makes_no_pod() {
    let until = "2026-01-02T03:04:05Z".parse().expect("a time");
    let job = serde_json::to_value(placeholder(&spec("true"), until)).expect("JSON");
    let payload = serde_json::to_value(payload(&spec("true")).job).expect("JSON");
    assert_eq!(job["metadata"]["name"], payload["metadata"]["name"]);
    assert_eq!(job["metadata"]["labels"], payload["metadata"]["labels"]);
    assert_eq!(
        job["metadata"]["annotations"]["executor.dev/name-held-until"],
        "2026-01-02T03:04:05Z"
    );
    assert_eq!(job["spec"]["suspend"], json!(true));
    assert_eq!(job["spec"]["parallelism"], json!(0));
}
