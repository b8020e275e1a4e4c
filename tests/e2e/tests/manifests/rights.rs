//! The service's rights: each of the documented verbs is needed, as something breaks without it, and there are no others.

use std::time::Duration;

use e2e::{Admin, Client, wait_for};
use serde_json::{Value, json};

use crate::install::{RUNS, SERVICE};

/// Whom the service is to the API server.
const ACCOUNT: &str = "system:serviceaccount:executor:executor";

/// The API server learns of a changed Role at once; what needs the verb comes with the next tick or two, and the full list of Jobs
/// every five minutes.
const SHOWS_WITHIN: Duration = Duration::from_secs(360);

/// What is not allowed any more shows in the service's log or in the execution; then it is allowed again.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// What has to be done so that the verb is used.
enum Errand {
    /// A script in one line.
    Plain,
    /// One with a file, which waits for a ConfigMap.
    WithFile,
    /// One whose image is not there, which is asked about.
    NoImage,
    /// One that is canceled while it runs, and is finished when its Job is seen gone.
    Canceled,
}

/// Each verb of the Role, and who needs it.
const VERBS: [(&str, &str, Errand); 11] = [
    ("create", "jobs", Errand::Plain),
    ("get", "jobs", Errand::Canceled),
    ("list", "jobs", Errand::Plain),
    ("patch", "jobs", Errand::WithFile),
    ("delete", "jobs", Errand::Plain),
    ("list", "pods", Errand::Plain),
    ("watch", "pods", Errand::Plain),
    ("get", "pods/log", Errand::Plain),
    ("create", "configmaps", Errand::WithFile),
    ("list", "events", Errand::NoImage),
    ("create", "events", Errand::NoImage),
];

/// What an intruder would like: verb, resource, namespace.
const FORBIDDEN: [(&str, &str, &str); 18] = [
    ("get", "secrets", RUNS),
    ("list", "secrets", RUNS),
    ("get", "secrets", SERVICE),
    ("list", "secrets", "kube-system"),
    ("create", "pods", RUNS),
    ("delete", "pods", RUNS),
    ("create", "pods/exec", RUNS),
    ("create", "pods/attach", RUNS),
    ("create", "pods/portforward", RUNS),
    ("update", "pods/ephemeralcontainers", RUNS),
    ("get", "configmaps", RUNS),
    ("update", "jobs", RUNS),
    ("create", "jobs", SERVICE),
    ("create", "jobs", "default"),
    ("list", "pods", SERVICE),
    ("create", "serviceaccounts/token", RUNS),
    ("create", "rolebindings", RUNS),
    ("list", "nodes", RUNS),
];

/// Whether the service may do that.
fn may(admin: &Admin, verb: &str, resource: &str, namespace: &str) -> bool {
    let (name, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let sub = format!("--subresource={sub}");
    let mut ask = vec![
        "auth", "can-i", verb, name, "-n", namespace, "--as", ACCOUNT,
    ];
    if sub != "--subresource=" {
        ask.push(&sub);
    }
    let output = admin.command(&ask).output().expect("kubectl starts");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!(
            "{ask:?}: {other:?} {}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// In another namespace the service may do the same as in that of all, and nothing else.
pub fn are_those_of_all_in(admin: &Admin, namespace: &str) {
    for (verb, resource, _) in VERBS {
        assert!(
            may(admin, verb, resource, namespace),
            "may not {verb} {resource} in {namespace}"
        );
    }
    for (verb, resource, of_all) in FORBIDDEN {
        assert!(
            of_all != RUNS || !may(admin, verb, resource, namespace),
            "may {verb} {resource} in {namespace}"
        );
    }
}

/// The token's rights, asked of the API server.
pub fn nothing_else_is_allowed(admin: &Admin) {
    for (verb, resource, _) in VERBS {
        assert!(
            may(admin, verb, resource, RUNS),
            "may not {verb} {resource}"
        );
    }
    for (verb, resource, namespace) in FORBIDDEN {
        assert!(
            !may(admin, verb, resource, namespace),
            "may {verb} {resource} in {namespace}"
        );
        println!("cannot {verb} {resource} in {namespace}");
    }
}

/// The rules of the Role as they are.
fn rules(admin: &Admin) -> Value {
    let role = admin.kubectl(&["-n", RUNS, "get", "role", "executor", "-o", "json"]);
    let role: Value = serde_json::from_str(&role).expect("kubectl prints JSON");
    role["rules"].clone()
}

fn set_rules(admin: &Admin, rules: &Value) {
    let patch = json!([{ "op": "replace", "path": "/rules", "value": rules }]).to_string();
    let role = [
        "-n",
        RUNS,
        "patch",
        "role",
        "executor",
        "--type=json",
        "-p",
        &patch,
    ];
    admin.kubectl(&role);
}

fn without(rules: &Value, verb: &str, resource: &str) -> Value {
    let mut rules = rules.clone();
    for rule in rules.as_array_mut().expect("rules") {
        let resources = rule["resources"].as_array().expect("resources");
        if resources.iter().any(|name| name == resource) {
            let verbs = rule["verbs"].as_array_mut().expect("verbs");
            let before = verbs.len();
            verbs.retain(|known| known != verb);
            assert_eq!(verbs.len() + 1, before, "{verb} {resource}");
        }
    }
    // A rule without verbs is none.
    let all = rules.as_array_mut().expect("rules");
    all.retain(|rule| {
        rule["verbs"]
            .as_array()
            .is_some_and(|verbs| !verbs.is_empty())
    });
    rules
}

/// Takes each verb away in turn, sees what breaks, gives it back, and sees that mended.
pub fn each_verb_is_needed(admin: &Admin, client: &Client) {
    let whole = rules(admin);
    let granted = whole.as_array().into_iter().flatten();
    let granted = granted.filter_map(|rule| rule["verbs"].as_array().map(Vec::len));
    assert_eq!(granted.sum::<usize>(), VERBS.len(), "{whole}");
    for (verb, resource, errand) in &VERBS {
        let words = format!("cannot {verb} resource \"{resource}\"");
        let before = said(admin).matches(&words).count();
        // It runs before the verb is taken away: else there would be nothing to end.
        let running = matches!(errand, Errand::Canceled).then(|| begun(client));
        set_rules(admin, &without(&whole, verb, resource));
        if let Some(id) = &running {
            client
                .post_with(&format!("/executions/{id}/cancel"), &[], &json!({}))
                .expect(202);
        }
        let id = running.unwrap_or_else(|| client.submit(&request(errand)));
        let shown = wait_for(&words, SHOWS_WITHIN, || {
            let execution = client.execution(&id);
            if execution.to_string().replace('\\', "").contains(&words) {
                return Some(execution["status"].clone());
            }
            let more = said(admin).matches(&words).count() > before;
            more.then(|| execution["status"].clone())
        });
        set_rules(admin, &whole);
        let end = client.finished(&id, ENDS_WITHIN);
        let reason = &end["reason"];
        println!("without {verb} {resource}: refused while {shown}; with it again: {reason}");
        match errand {
            Errand::Plain | Errand::WithFile => assert_eq!(end["outcome"], "SUCCEEDED", "{end}"),
            Errand::NoImage => assert_eq!(reason, "ImageUnavailable", "{end}"),
            Errand::Canceled => assert_eq!(end["outcome"], "CANCELED", "{end}"),
        }
    }
    wait_for("all Jobs to be deleted", ENDS_WITHIN, || {
        let jobs = admin.kubectl(&["-n", RUNS, "get", "jobs", "-o", "name"]);
        jobs.trim().is_empty().then_some(())
    });
}

/// All that the service has logged, as words without JSON's escapes.
fn said(admin: &Admin) -> String {
    let log = ["-n", SERVICE, "logs", "deployment/executor"];
    admin.kubectl(&log).replace('\\', "")
}

fn request(errand: &Errand) -> Value {
    let resources = json!({ "cpu": "10m", "memory": "16Mi" });
    match errand {
        Errand::Plain => json!({ "script": "true", "resources": resources }),
        Errand::WithFile => {
            json!({ "script": "cat in", "files": { "in": { "text": "given" } }, "resources": resources })
        }
        Errand::NoImage => json!({ "script": "true", "image": "registry.invalid/does-not-exist:1",
                                   "timeouts": { "startSeconds": 40 }, "resources": resources }),
        Errand::Canceled => {
            json!({ "script": "sleep 1000", "timeouts": { "graceSeconds": 1 }, "resources": resources })
        }
    }
}

/// One that runs, and is seen to.
fn begun(client: &Client) -> String {
    let id = client.submit(&request(&Errand::Canceled));
    wait_for("the script to run", ENDS_WITHIN, || {
        (client.execution(&id)["status"] == "RUNNING").then_some(())
    });
    id
}
