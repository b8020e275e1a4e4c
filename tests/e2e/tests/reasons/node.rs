//! What happens to the node: it is closed, emptied, loses a container, and is lost.

use std::time::{Duration, Instant};

use e2e::{Admin, Client, Options, Stack, not_applicable, wait_for};
use serde_json::{Value, json};

use crate::node_is_ours;
use crate::record::Recorder;
use crate::table::{BEGUN, Case, Kept, case, check, endless, is_at_work, small, wait_until_begun};

/// The garbage collector of pods looks every 20 s, and believes after 40 s that a node is gone.
const COLLECTED_WITHIN: Duration = Duration::from_secs(120);

/// A kubelet that finds its node gone registers it again and makes it ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The node as it should be, however the test ends.
struct Restored<'a>(&'a Admin, String);

impl Drop for Restored<'_> {
    fn drop(&mut self) {
        // What works already is fine.
        for program in ["containerd", "kubelet"] {
            self.0.program(program, "start");
        }
        let _ = self.0.command(&["uncordon", &self.1]).status();
        let _ = self
            .0
            .command(&["taint", "node", &self.1, "e2e:NoExecute-"])
            .status();
    }
}

struct Scene<'a> {
    client: Client,
    recorder: Recorder<'a>,
}

impl Scene<'_> {
    fn start(&self, request: &Value) -> String {
        let id = self.client.submit(request);
        wait_until_begun(&self.client, &id);
        id
    }

    #[track_caller]
    fn ends(&self, case: &Case, id: &str, since: Instant) {
        let wrong = check(&self.client, case, id, since);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", case.cause);
        self.recorder.keep(case, id);
    }
}

#[test]
fn what_happens_to_the_node_is_told() {
    let _node = node_is_ours();
    let Some(admin) = Admin::from_env() else {
        not_applicable(
            "NodeLost, Lost, StartTimeout on the embedded cluster",
            "it has no node and no kubelet",
        );
        return;
    };
    let stack = Stack::start(Options::default());
    let name = admin.node();
    let _restored = Restored(&admin, name.clone());
    let scene = Scene {
        client: stack.client(),
        recorder: Recorder::start(&stack),
    };
    is_at_work(&stack);
    closed(&scene, &admin, &name);
    emptied(&scene, &admin, &name);
    container_lost(&scene, &stack, &admin);
    lost(&scene, &admin, &name);
}

fn closed(scene: &Scene, admin: &Admin, name: &str) {
    admin.kubectl(&["cordon", name]);
    let never = small("echo never", json!({ "timeouts": { "startSeconds": 6 } }));
    let since = Instant::now();
    let id = scene.client.submit(&never);
    let unschedulable = Case {
        words: &["6 s", "unschedulable"],
        ..case("node-cordoned", "Unschedulable", never)
    };
    scene.ends(&unschedulable, &id, since);
    admin.kubectl(&["uncordon", name]);
}

fn emptied(scene: &Scene, admin: &Admin, name: &str) {
    let id = scene.start(&endless());
    let since = Instant::now();
    admin.kubectl(&["taint", "node", name, "e2e=true:NoExecute"]);
    let evicted = Case {
        words: &["Taint manager"],
        log: Kept::AtMost(BEGUN),
        ..case("node-tainted", "Evicted", endless())
    };
    scene.ends(&evicted, &id, since);
    admin.kubectl(&["taint", "node", name, "e2e:NoExecute-"]);
}

/// While the kubelet is away nothing starts; when it is back it misses a container.
fn container_lost(scene: &Scene, stack: &Stack, admin: &Admin) {
    let id = scene.start(&endless());
    let pod = stack.kube().pods_of(&id).pop().expect("a pod that runs");
    admin.program("kubelet", "stop");
    let never = small("echo never", json!({ "timeouts": { "startSeconds": 6 } }));
    let waits_since = Instant::now();
    let waits = scene.client.submit(&never);
    admin.remove_container(&pod);
    let not_started = Case {
        words: &["6 s", "has not started"],
        ..case("kubelet-away", "StartTimeout", never)
    };
    scene.ends(&not_started, &waits, waits_since);
    let since = Instant::now();
    admin.program("kubelet", "start");
    let lost = Case {
        log: Kept::AtMost(BEGUN),
        ..case("container-removed", "Lost", endless())
    };
    scene.ends(&lost, &id, since);
}

fn lost(scene: &Scene, admin: &Admin, name: &str) {
    let id = scene.start(&endless());
    let since = Instant::now();
    admin.program("kubelet", "stop");
    admin.kubectl(&["delete", "node", name]);
    let lost = Case {
        words: &["node no longer exists", "may still run"],
        log: Kept::AtMost(BEGUN),
        within: COLLECTED_WITHIN,
        ..case("node-deleted", "NodeLost", endless())
    };
    scene.ends(&lost, &id, since);
    admin.program("kubelet", "start");
    wait_for("the node to be back", READY_WITHIN, || {
        (admin.node() == name).then_some(())
    });
    let again = scene.client.submit(&small("echo again", json!({})));
    assert_eq!(
        scene.client.finished(&again, READY_WITHIN)["outcome"],
        "SUCCEEDED"
    );
}
