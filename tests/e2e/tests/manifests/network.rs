//! What a script of the manifests reaches over the network, which is nothing, beside a pod that no NetworkPolicy is about.

use std::time::Duration;

use e2e::{Admin, Client, wait_for};
use serde_json::{Value, json};

use crate::install::{RUNS, SERVICE};
use crate::runs::small;

/// A pod of its own beside the scripts, in a namespace without policies; it answers whoever connects.
const NEIGHBOR: &str = "executor-test-neighbor";

/// Where the neighbor and a listening script are.
const PORT: u16 = 8080;

/// A container on two busy cores starts within this; a script's three tries take three seconds each.
const WITHIN: Duration = Duration::from_secs(90);

/// Lets in whoever comes, again and again.
const LISTEN: &str = "while :; do nc -l -p 8080 -e echo here; done";

/// The neighbor, which goes with its test.
struct Neighbor<'a>(&'a Admin);

impl<'a> Neighbor<'a> {
    fn new(admin: &'a Admin) -> Self {
        let neighbor = Self(admin);
        neighbor.remove();
        admin.apply(&json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": NEIGHBOR, "namespace": "default" },
            "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "c",
                "image": "docker.io/library/busybox:1.37", "command": ["/bin/sh", "-c", LISTEN] }] } }));
        let ready = format!("pod/{NEIGHBOR}");
        admin.kubectl(&["wait", "--for=condition=Ready", &ready, "--timeout=90s"]);
        neighbor
    }

    /// Which of those it reaches, one a line.
    fn reaches(&self, targets: &[String]) -> String {
        let script = tries(targets);
        self.0
            .kubectl(&["exec", NEIGHBOR, "--", "/bin/sh", "-c", &script])
    }

    fn remove(&self) {
        self.0
            .kubectl(&["delete", "pod", NEIGHBOR, "--ignore-not-found"]);
    }
}

impl Drop for Neighbor<'_> {
    fn drop(&mut self) {
        let delete = ["delete", "pod", NEIGHBOR, "--ignore-not-found"];
        let _ = self.0.command(&delete).output();
    }
}

/// Tries to connect to each, and prints those that it reaches.
fn tries(targets: &[String]) -> String {
    let tries: Vec<String> = targets
        .iter()
        .map(|target| {
            format!("nc -w 3 {target} </dev/null >/dev/null 2>&1 && echo 'reached {target}'")
        })
        .collect();
    format!("{}\necho tried", tries.join("\n"))
}

fn pod_address(admin: &Admin, namespace: &str, selector: &str) -> String {
    let path = "jsonpath={.items[*].status.podIP}";
    let of = ["-n", namespace, "get", "pods", "-l", selector, "-o", path];
    let address = wait_for("a pod's address", WITHIN, || {
        Some(admin.kubectl(&of)).filter(|address| !address.is_empty())
    });
    assert!(!address.contains(' '), "several pods: {address}");
    address
}

/// A script reaches neither the API server, nor the service, nor another pod, and no other pod reaches it; the neighbor reaches them all.
pub fn a_script_reaches_nothing_and_is_not_reached(admin: &Admin, client: &Client) {
    let neighbor = Neighbor::new(admin);
    let server = "jsonpath={.clusters[0].cluster.server}";
    let server = admin.kubectl(&["config", "view", "-o", server]);
    let server = server.trim_start_matches("https://").replace(':', " ");
    let service = pod_address(admin, SERVICE, "app.kubernetes.io/name=executor");
    let path = "jsonpath={.status.podIP}";
    let other = admin.kubectl(&["get", "pod", NEIGHBOR, "-o", path]);
    let targets = [server, format!("{service} 3000"), format!("{other} {PORT}")];
    let all: String = targets.iter().map(|t| format!("reached {t}\n")).collect();
    assert_eq!(neighbor.reaches(&targets), format!("{all}tried\n"));
    let id = client.submit(&small(&tries(&targets), &Value::Null));
    let execution = client.finished(&id, WITHIN);
    let log = String::from_utf8_lossy(&client.log(&id)).into_owned();
    assert_eq!(log, "tried\n", "{execution}");

    let id = client.submit(&small(LISTEN, &Value::Null));
    wait_for("the listening script to run", WITHIN, || {
        (client.execution(&id)["status"] == "RUNNING").then_some(())
    });
    let job = format!("batch.kubernetes.io/job-name=x-{id}");
    let script = [format!("{} {PORT}", pod_address(admin, RUNS, &job))];
    assert_eq!(neighbor.reaches(&script), "tried\n");
    let cancel = client.send("POST", &format!("/executions/{id}/cancel"), &[], None);
    cancel.expect("an answer").expect(202);
    client.finished(&id, WITHIN);
}
