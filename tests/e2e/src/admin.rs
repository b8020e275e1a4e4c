//! A real cluster in the hands of its administrator, who sets it up and breaks it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::settings::{ClusterKind, RealCluster, top};
use crate::wait::{Seed, wait_for};

/// Where the service account is whose token Executor has.
const SERVICE_ACCOUNT: &str = "executor";

/// A killed container is gone at once; two cores may be busy.
const CONTAINER_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// kubectl with all rights, and the machine below it.
#[derive(Clone)]
pub struct Admin {
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    /// The namespace that the service account of Executor is in.
    home: String,
}

impl Admin {
    /// The administrator of the real cluster that the environment names, if it does.
    pub fn from_env() -> Option<Self> {
        match ClusterKind::from_env() {
            ClusterKind::Embedded => None,
            ClusterKind::Real(real) => Some(Self::new(&real)),
        }
    }

    pub(crate) fn new(real: &RealCluster) -> Self {
        Self {
            kubectl: real.kubectl.clone(),
            kubeconfig: real.kubeconfig.clone(),
            home: real.namespace.clone(),
        }
    }

    /// kubectl with those arguments, not started yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// What kubectl prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        run(&mut self.command(arguments), "")
    }

    /// Creates or changes an object, and gives it.
    pub fn apply(&self, object: &Value) -> String {
        let mut command = self.command(&["apply", "-f", "-"]);
        run(&mut command, &object.to_string())
    }

    /// Asks the API server to evict a pod, as `kubectl drain` does.
    pub fn evict(&self, namespace: &str, pod: &str) {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}/eviction");
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction",
                               "metadata": { "name": pod, "namespace": namespace } });
        let mut command = self.command(&["create", "--raw", &path, "-f", "-"]);
        run(&mut command, &eviction.to_string());
    }

    /// Whether the API server would create that object, by its dry run.
    pub fn would_take(&self, object: &Value) -> bool {
        let mut command = self.command(&["create", "--dry-run=server", "-f", "-"]);
        try_run(&mut command, &object.to_string()).is_ok()
    }

    /// The name of the only node.
    pub fn node(&self) -> String {
        self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"])
    }

    /// A new namespace in which Executor may do what it may do at home, and nothing else.
    pub fn namespace(&self, purpose: &str) -> Namespace {
        let number = Seed::new(purpose).below(1_000_000);
        let name = format!("executor-{purpose}-{number}");
        let home = ["--namespace", &self.home];
        let role = self.kubectl(&[home[0], home[1], "get", "role", "executor", "-o", "json"]);
        let role: Value = serde_json::from_str(&role).expect("kubectl prints JSON");
        let metadata = json!({ "name": "executor", "namespace": name });
        let kind = "rbac.authorization.k8s.io/v1";
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } },
            { "apiVersion": kind, "kind": "Role", "metadata": metadata, "rules": role["rules"] },
            { "apiVersion": kind, "kind": "RoleBinding", "metadata": metadata,
              "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "executor" },
              "subjects": [{ "kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": self.home }] },
        ]}));
        Namespace {
            admin: self.clone(),
            name,
        }
    }

    /// Crashes (`stop`) or starts (`start`) a program of the cluster, by its name in `scripts/cluster status`.
    pub fn program(&self, name: &str, action: &str) {
        cluster_script(&["program", name, action]);
    }

    /// Gives the node an image: a tarball as `docker save` writes it.
    pub fn import_image(&self, tar: &Path) {
        let tar = tar.display().to_string();
        cluster_script(&["ctr", "images", "import", &tar]);
    }

    /// Kills a container and takes it out of containerd, so that the kubelet, which must be stopped, finds nothing of it.
    pub fn remove_container(&self, pod: &str) {
        let filter = format!(
            r#"labels."io.kubernetes.pod.name"=={pod},labels."io.kubernetes.container.name"==script"#
        );
        let id = cluster_script(&["ctr", "containers", "list", "-q", &filter]);
        let id = id.trim();
        assert!(!id.is_empty(), "{pod} has no container");
        cluster_script(&["ctr", "tasks", "kill", "--signal", "KILL", id]);
        // containerd sees its end, and clears away what is left of its process.
        wait_for("the container's end", CONTAINER_ENDS_WITHIN, || {
            let delete = ["ctr", "containers", "delete", id];
            try_run(script().args(delete), "").ok()
        });
        // It would go on telling of what it has in memory.
        self.program("containerd", "stop");
        self.program("containerd", "start");
    }
}

/// A namespace that goes with its test.
pub struct Namespace {
    admin: Admin,
    /// Its name.
    pub name: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let mut command = self
            .admin
            .command(&["delete", "namespace", &self.name, "--wait=false"]);
        // What stays is litter in a cluster for tests.
        let _ = command.stdout(Stdio::null()).status();
    }
}

/// Runs `scripts/cluster` and gives what it prints.
///
/// # Panics
/// When it fails.
pub(crate) fn cluster_script(arguments: &[&str]) -> String {
    run(script().args(arguments), "")
}

fn script() -> Command {
    Command::new(top().join("scripts/cluster"))
}

fn run(command: &mut Command, input: &str) -> String {
    try_run(command, input).unwrap_or_else(|e| panic!("{e}"))
}

fn try_run(command: &mut Command, input: &str) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    stdin
        .write_all(input.as_bytes())
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    drop(stdin);
    let output = child
        .wait_with_output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!(
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
