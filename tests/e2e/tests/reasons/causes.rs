//! What scripts, requests and people do.

use std::time::Duration;

use e2e::{Options, Stack};
use serde_json::json;

use crate::node_is_left_alone;
use crate::table::{BEGUN, Case, Kept, case, endless, play, small};

/// The kubelet counts what volumes hold once a minute by default, begins with a new pod's when it next does, looks at the sums every
/// ten seconds, and then ends the pod with its grace.
const EVICTION_WITHIN: Duration = Duration::from_secs(150);

fn pod_of(stack: &Stack, id: &str) -> String {
    let pods = stack.kube().pods_of(id);
    pods.into_iter().next().expect("a pod that runs")
}

fn delete_pod(stack: &Stack, id: &str) {
    let pod = pod_of(stack, id);
    match stack.admin() {
        None => stack.kube().delete_pod(&pod),
        Some(admin) => {
            let namespace = stack.kube().namespace();
            admin.kubectl(&["-n", namespace, "delete", "pod", &pod, "--wait=false"]);
        }
    }
}

fn force_delete_pod(stack: &Stack, id: &str) {
    let (pod, admin) = (pod_of(stack, id), stack.admin().expect("a real cluster"));
    let namespace = stack.kube().namespace();
    admin.kubectl(&[
        "-n",
        namespace,
        "delete",
        "pod",
        &pod,
        "--force",
        "--wait=false",
    ]);
}

fn suspend_job(stack: &Stack, id: &str) {
    let admin = stack.admin().expect("a real cluster");
    let (namespace, job) = (stack.kube().namespace(), format!("x-{id}"));
    let patch = r#"{"spec":{"suspend":true}}"#;
    admin.kubectl(&[
        "-n",
        namespace,
        "patch",
        "job",
        &job,
        "--type=merge",
        "-p",
        patch,
    ]);
}

fn evict(stack: &Stack, id: &str) {
    let admin = stack.admin().expect("a real cluster");
    admin.evict(stack.kube().namespace(), &pod_of(stack, id));
}

fn cancel(stack: &Stack, id: &str) {
    let path = format!("/executions/{id}/cancel");
    stack.client().post_with(&path, &[], &json!({})).expect(202);
}

fn by_scripts() -> Vec<Case> {
    let memory = "a=xxxxxxxxxxxxxxxx; while :; do a=\"$a$a\"; done";
    let storage = "echo begun; dd if=/dev/zero of=/tmp/big bs=1M count=40 2>/dev/null; sleep 1000";
    vec![
        Case {
            words: &["exit code 0"],
            log: Kept::Whole("done\n"),
            ..case("exit-code-0", "Completed", small("echo done", json!({})))
        },
        Case {
            words: &["exit code 3"],
            log: Kept::Whole("bad\n"),
            ..case(
                "exit-code-3",
                "NonZeroExit",
                small("echo bad; exit 3", json!({})),
            )
        },
        Case {
            words: &["signal 11 (SIGSEGV)"],
            log: Kept::Whole("bad\n"),
            ..case(
                "signal",
                "Signaled",
                small("echo bad; kill -SEGV $$; sleep 9", json!({})),
            )
        },
        Case {
            only_real: Some("local processes have no memory cgroup"),
            words: &["memory limit"],
            ..case("too-much-memory", "OOMKilled", small(memory, json!({})))
        },
        Case {
            words: &["2 s"],
            log: Kept::Text(BEGUN),
            ..case(
                "run-clock",
                "RunTimeout",
                small(
                    "echo begun; sleep 1000",
                    json!({ "timeouts": { "runSeconds": 2 } }),
                ),
            )
        },
        Case {
            only_real: Some("local processes have no limit of storage"),
            words: &["limit", "8Mi"],
            log: Kept::AtMost(BEGUN),
            within: EVICTION_WITHIN,
            ..case(
                "too-much-storage",
                "EphemeralStorageExceeded",
                small(
                    storage,
                    json!({ "resources": { "ephemeralStorage": "8Mi" } }),
                ),
            )
        },
    ]
}

fn by_requests() -> Vec<Case> {
    let with = |more| small("echo never", more);
    let started_in = |seconds: u32| with(json!({ "timeouts": { "startSeconds": seconds } }));
    // A kubelet that starts ten pods at once has been seen to say nothing of an image for 8 s.
    let mut missing = started_in(30);
    missing["image"] = json!("registry.invalid/does-not-exist:1");
    let mut large = started_in(8);
    large["resources"]["cpu"] = json!("2000");
    vec![
        Case {
            words: &["30 s", "registry.invalid/does-not-exist:1"],
            ..case("image-missing", "ImageUnavailable", missing)
        },
        Case {
            words: &["8 s", "nsufficient cpu"],
            ..case("too-much-cpu", "Unschedulable", large)
        },
        Case {
            words: &["no-such-interpreter"],
            ..case(
                "interpreter-missing",
                "InvalidSpec",
                with(json!({ "interpreter": ["no-such-interpreter"] })),
            )
        },
    ]
}

fn by_people() -> Vec<Case> {
    let people = |cause, reason, then: fn(&Stack, &str)| Case {
        then: Some(then),
        log: Kept::AtMost(BEGUN),
        ..case(cause, reason, endless())
    };
    vec![
        Case {
            words: &["deleted by somebody"],
            ..people("job-deleted", "JobDeleted", |stack, id| {
                stack.kube().delete_job(&format!("x-{id}"));
            })
        },
        Case {
            words: &["deleted by somebody"],
            ..people("pod-deleted", "JobDeleted", delete_pod)
        },
        Case {
            words: &["deleted by somebody"],
            only_real: Some("it ends every pod with its grace"),
            ..people("pod-deleted-by-force", "JobDeleted", force_delete_pod)
        },
        Case {
            words: &["deleted by somebody"],
            only_real: Some("nobody else works on it"),
            ..people("job-suspended", "JobDeleted", suspend_job)
        },
        Case {
            words: &["Eviction API"],
            only_real: Some("it evicts nothing"),
            ..people("pod-evicted", "Evicted", evict)
        },
        Case {
            words: &["confirmed gone"],
            ..people("canceled", "CanceledByCaller", cancel)
        },
    ]
}

/// Submissions are checked for it, but the operator's own default is not.
fn by_the_operator() -> (Stack, Case) {
    let image = "No Image:Name";
    let stack = Stack::start(Options {
        variables: vec![("default_image".to_owned(), image.to_owned())],
        ..Options::default()
    });
    let invalid = Case {
        words: &["InvalidImageName", "No Image:Name"],
        ..case(
            "image-name-invalid",
            "ImageUnavailable",
            small("echo never", json!({})),
        )
    };
    (stack, invalid)
}

#[test]
fn what_scripts_requests_and_people_do_is_told() {
    let _node = node_is_left_alone();
    let (misled, image_name_invalid) = by_the_operator();
    let stack = Stack::start(Options {
        variables: vec![("max_cpu".to_owned(), "4000".to_owned())],
        ..Options::default()
    });
    let cases: Vec<Case> = by_scripts()
        .into_iter()
        .chain(by_requests())
        .chain(by_people())
        .collect();
    std::thread::scope(|scope| {
        scope.spawn(|| play(&misled, &[image_name_invalid]));
        play(&stack, &cases);
    });
    let left = stack.kube().jobs_left_after(Duration::from_secs(60));
    assert!(left.is_empty(), "Jobs left behind: {left:?}");
}
