//! What queues, quotas and policies do.

use std::time::{Duration, Instant};

use e2e::{Admin, Options, Stack, not_applicable, wait_for};
use serde_json::json;

use crate::node_is_left_alone;
use crate::record::Recorder;
use crate::table::{Case, case, check, endless, play, small, wait_until_begun};

/// The namespace's policies are enforced from when the API server has seen them.
const ENFORCED_WITHIN: Duration = Duration::from_secs(30);

fn one_at_a_time(namespace: Option<String>) -> Stack {
    Stack::start(Options {
        variables: vec![("max_running".to_owned(), "1".to_owned())],
        namespace,
        ..Options::default()
    })
}

/// One that waits behind another for longer than its clock.
fn waits_in_vain(stack: &Stack) {
    let never = small("echo never", json!({ "timeouts": { "queueSeconds": 3 } }));
    let waits = Case {
        words: &["3 s"],
        within: Duration::from_secs(20),
        ..case("queue-full", "QueueTimeout", never)
    };
    let since = Instant::now();
    let id = stack.client().submit(&waits.request);
    let wrong = check(&stack.client(), &waits, &id, since);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_full_queue_and_a_used_up_quota_do_is_told() {
    let _node = node_is_left_alone();
    let Some(admin) = real_cluster("QuotaExceeded by the pod's creation") else {
        let stack = one_at_a_time(None);
        let client = stack.client();
        let first = client.submit(&endless());
        wait_until_begun(&client, &first);
        waits_in_vain(&stack);
        return;
    };
    let namespace = admin.namespace("quota");
    let metadata = json!({ "name": "small", "namespace": namespace.name });
    admin.apply(
        &json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata,
                         "spec": { "hard": { "limits.memory": "8Mi" } } }),
    );
    wait_for("the quota to be counted", ENFORCED_WITHIN, || {
        let used = [
            "-n",
            &namespace.name,
            "get",
            "resourcequota",
            "small",
            "-o",
            "jsonpath={.status.used}",
        ];
        admin.kubectl(&used).contains("limits.memory").then_some(())
    });
    let stack = one_at_a_time(Some(namespace.name.clone()));
    let recorder = Recorder::start(&stack);
    let never = small("echo never", json!({ "timeouts": { "startSeconds": 12 } }));
    let refused = Case {
        words: &["12 s", "exceeded quota: small"],
        ..case("quota-used-up", "QuotaExceeded", never)
    };
    let since = Instant::now();
    let id = stack.client().submit(&refused.request);
    waits_in_vain(&stack);
    let wrong = check(&stack.client(), &refused, &id, since);
    assert!(wrong.is_empty(), "{wrong:#?}");
    recorder.keep(&refused, &id);
}

#[test]
fn what_policies_refuse_is_told() {
    let _node = node_is_left_alone();
    let Some(admin) = real_cluster("AdmissionDenied") else {
        return;
    };
    let namespace = admin.namespace("policies");
    let name = &namespace.name;
    admin.kubectl(&[
        "label",
        "namespace",
        name,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    admin.apply(&json!({ "apiVersion": "v1", "kind": "LimitRange",
        "metadata": { "name": "small", "namespace": name },
        "spec": { "limits": [{ "type": "Container", "max": { "cpu": "100m" } }] } }));
    let policy = refuse_jobs_labelled(&admin, name);
    let stack = Stack::start(Options {
        namespace: Some(name.clone()),
        // What Executor asks for by default is what such a namespace takes.
        variables: vec![("pod_profile".to_owned(), "baseline".to_owned())],
        ..Options::default()
    });
    play(
        &stack,
        &[
            Case {
                words: &["violates PodSecurity"],
                ..case(
                    "pod-security",
                    "AdmissionDenied",
                    small("echo never", json!({})),
                )
            },
            Case {
                words: &["maximum cpu usage per Container is 100m"],
                ..case(
                    "limit-range",
                    "AdmissionDenied",
                    small("echo never", json!({ "resources": { "cpu": "200m" } })),
                )
            },
            Case {
                words: &[REFUSAL],
                ..case(
                    "admission-policy",
                    "AdmissionDenied",
                    small("echo never", json!({ "labels": { REFUSED_LABEL: "yes" } })),
                )
            },
        ],
    );
    drop(policy);
}

const REFUSED_LABEL: &str = "refuse-me";
const REFUSAL: &str = "Jobs that ask for refusal are refused";

/// A policy that refuses the Jobs themselves, by a label; it goes with its test.
struct Policy(Admin, String);

impl Drop for Policy {
    fn drop(&mut self) {
        for kind in [
            "validatingadmissionpolicybinding",
            "validatingadmissionpolicy",
        ] {
            // What stays is litter in a cluster for tests, and bound to a namespace that is gone.
            let _ = self
                .0
                .command(&["delete", kind, &self.1, "--wait=false"])
                .status();
        }
    }
}

fn refuse_jobs_labelled(admin: &Admin, namespace: &str) -> Policy {
    let api = "admissionregistration.k8s.io/v1";
    let metadata = json!({ "name": namespace });
    let label = format!("label.executor.dev/{REFUSED_LABEL}");
    admin.apply(&json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": {
        "matchConstraints": { "resourceRules": [{ "apiGroups": ["batch"], "apiVersions": ["v1"],
                                                  "operations": ["CREATE"], "resources": ["jobs"] }] },
        "validations": [{ "expression": format!("!has(object.metadata.labels) || !('{label}' in object.metadata.labels)"),
                          "message": REFUSAL }] } }));
    admin.apply(&json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata, "spec": {
        "policyName": namespace, "validationActions": ["Deny"],
        "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } } } }));
    let job = json!({ "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": "probe", "namespace": namespace, "labels": { label: "yes" } },
        "spec": { "suspend": true, "template": { "spec": { "restartPolicy": "Never",
            "containers": [{ "name": "probe", "image": "none" }] } } } });
    wait_for("the policy to be enforced", ENFORCED_WITHIN, || {
        // Refused at last; else nothing was kept of it.
        (!admin.would_take(&job)).then_some(())
    });
    Policy(admin.clone(), namespace.to_owned())
}

/// The administrator of the real cluster; where there is none, that is said.
fn real_cluster(what: &str) -> Option<Admin> {
    let admin = Admin::from_env();
    if admin.is_none() {
        not_applicable(
            &format!("{what} on the embedded cluster"),
            "it has neither quotas nor policies",
        );
    }
    admin
}
