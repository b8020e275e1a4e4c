//! Writes down what Kubernetes really sent, for the tests of those who read it.
//!
//! With `EXECUTOR_E2E_RECORD=1` each cause leaves a file in `crates/app/src/fixtures`: the states of its pod in their
//! order and the warnings about it, without what no reader looks at, and without names of this machine.

use std::io::{BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use e2e::{Admin, Stack, top};
use serde_json::{Value, json};

use crate::table::Case;

/// These tell nothing of what Kubernetes does.
const BY_OUR_CLOCK_ALONE: [&str; 3] = ["RunTimeout", "QueueTimeout", "CanceledByCaller"];

/// After these the Job is deleted by Executor, and what the pod says then is an answer to that.
const ENDED_BY_US: [&str; 5] = [
    "ImageUnavailable",
    "Unschedulable",
    "StartTimeout",
    "QuotaExceeded",
    "AdmissionDenied",
];

/// What stands for the names of the node and the namespace.
const NODE: &str = "node-1";

/// Follows the pods of a stack's namespace; does nothing unless it is asked to.
pub struct Recorder<'a> {
    work: Option<Work<'a>>,

    seen: Arc<Mutex<Vec<Value>>>,
}

struct Work<'a> {
    stack: &'a Stack,
    admin: Admin,
    /// The node's name: it may be gone when a story is written down.
    node: String,
    watch: Child,
}

impl<'a> Recorder<'a> {
    /// Begins.
    pub fn start(stack: &'a Stack) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let wanted = std::env::var_os("EXECUTOR_E2E_RECORD").is_some();
        let work = stack.admin().filter(|_| wanted).map(|admin| {
            let namespace = stack.kube().namespace();
            let watch = [
                "-n",
                namespace,
                "get",
                "pods",
                "--watch",
                "--output-watch-events",
                "-o",
                "json",
            ];
            let mut child = admin
                .command(&watch)
                .stdout(Stdio::piped())
                .spawn()
                .expect("kubectl starts");
            let output = child.stdout.take().expect("its output is a pipe");
            let into = Arc::clone(&seen);
            std::thread::spawn(move || follow(output, &into));
            Work {
                stack,
                node: admin.node(),
                admin,
                watch: child,
            }
        });
        Self { work, seen }
    }

    /// Writes down what was sent of that execution.
    pub fn keep(&self, case: &Case, id: &str) {
        let Some(Work {
            stack, admin, node, ..
        }) = &self.work
        else {
            return;
        };
        if BY_OUR_CLOCK_ALONE.contains(&case.reason) {
            return;
        }
        let mut pods = Vec::new();
        for event in self.seen.lock().expect("no follower panics").iter() {
            let pod = &event["object"];
            if pod["metadata"]["labels"]["executor.dev/execution"] == id {
                if ENDED_BY_US.contains(&case.reason)
                    && pod["metadata"].get("deletionTimestamp").is_some()
                {
                    break;
                }
                let state = json!({ "type": event["type"], "object": trimmed_pod(pod) });
                if pods.last() != Some(&state) {
                    pods.push(state);
                }
            }
        }
        let namespace = stack.kube().namespace();
        let list = admin.kubectl(&["-n", namespace, "get", "events", "-o", "json"]);
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        let events: Vec<Value> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| {
                let name = event["involvedObject"]["name"].as_str().unwrap_or_default();
                event["type"] == "Warning" && name.starts_with(&format!("x-{id}"))
            })
            .map(|event| {
                json!({ "type": event["type"], "reason": event["reason"], "message": event["message"],
                        "source": { "component": event["source"]["component"] } })
            })
            .collect();
        if pods.is_empty() && events.is_empty() {
            return;
        }
        let (pods, events) = (lines(&pods), lines(&events));
        let reason = case.reason;
        let mut text =
            format!("{{\"reason\": \"{reason}\", \"pods\": [{pods}],\n\"events\": [{events}]}}\n");
        for (from, to) in [
            (id, "019b76da-a800-7000-8000-000000000001"),
            (node, NODE),
            (namespace, "runs"),
        ] {
            text = text.replace(from, to);
        }
        let folder = top().join("crates/app/src/fixtures");
        let path = folder.join(format!("{}.json", case.cause));
        std::fs::create_dir_all(&folder).expect("a folder for fixtures");
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if let Some(Work { watch, .. }) = &mut self.work {
            // It may have ended by itself.
            let _ = (watch.kill(), watch.wait());
        }
    }
}

/// kubectl prints one JSON text after the other.
fn follow(output: impl Read, into: &Mutex<Vec<Value>>) {
    let texts = serde_json::Deserializer::from_reader(BufReader::new(output)).into_iter::<Value>();
    for event in texts.map_while(Result::ok) {
        into.lock().expect("no reader panics").push(event);
    }
}

/// One text a line, which reads as a story and as a diff.
fn lines(values: &[Value]) -> String {
    let lines: Vec<String> = values.iter().map(|value| format!("\n{value}")).collect();
    lines.join(",")
}

/// Only what tells something of the end.
fn trimmed_pod(pod: &Value) -> Value {
    let (metadata, status) = (&pod["metadata"], &pod["status"]);
    let picked = |from: &Value, names: &[&str]| {
        let some = names.iter().filter(|name| !from[**name].is_null());
        Value::Object(
            some.map(|name| ((*name).to_owned(), from[*name].clone()))
                .collect(),
        )
    };
    let each = |list: &Value, names: &[&str]| {
        let all = list.as_array().into_iter().flatten();
        Value::Array(all.map(|one| picked(one, names)).collect())
    };
    let mut trimmed = json!({
        "metadata": picked(metadata, &["name", "labels", "deletionTimestamp"]),
        "spec": picked(&pod["spec"], &["nodeName"]),
        "status": picked(status, &["phase", "reason", "message"]),
    });
    trimmed["metadata"]["labels"] = picked(&metadata["labels"], &["executor.dev/execution"]);
    let mut conditions = each(
        &status["conditions"],
        &["type", "status", "reason", "message"],
    );
    if let Some(conditions) = conditions.as_array_mut() {
        conditions.retain(|c| c["type"] == "PodScheduled" || c["type"] == "DisruptionTarget");
    }
    trimmed["status"]["conditions"] = conditions;
    let mut containers = each(&status["containerStatuses"], &["name", "state"]);
    for container in containers.as_array_mut().into_iter().flatten() {
        if let Some(end) = container["state"]["terminated"].as_object_mut() {
            end.remove("containerID");
        }
    }
    trimmed["status"]["containerStatuses"] = containers;
    trimmed
}
