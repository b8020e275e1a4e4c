//! Installing by the steps of docs/OPERATIONS.md, and taking it all away again.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::{Admin, Client, Process, top, wait_for};
use serde_json::{Value, json};

/// The namespace of the service, and of the scripts.
pub const SERVICE: &str = "executor";
pub const RUNS: &str = "executor-runs";

/// The one of a tenant, by tests/cluster/overlays/tenant.
pub const TENANT: &str = "billing-runs";

/// The name under which the nodes have the image.
const IMAGE: &str = "executor.test/executor:latest";

/// The first start compiles two components, without optimization, beside everything else that is tested.
const STARTS_WITHIN: &str = "300s";

/// The API server serves a new type within a second or two.
const ESTABLISHED_WITHIN: Duration = Duration::from_secs(60);

/// Controllers and pods that end politely.
const GOES_WITHIN: Duration = Duration::from_secs(120);

/// An Executor in the cluster, which goes with its test.
pub struct Installed {
    admin: Admin,
    forward: Process,
    folder: tempfile::TempDir,
    _namespaces: Namespaces,
}

impl Installed {
    /// Image, Secret, manifests, port-forward.
    pub fn by_the_book(admin: &Admin) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let namespaces = namespaces(admin);
        image(admin, folder.path());
        let state = top().join("target/cluster/state/executor-state");
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state).expect("the cluster's folder can be written");
        std::fs::set_permissions(&state, PermissionsExt::from_mode(0o777)).expect("it is ours");
        let token = "--from-literal=token=a-token-for-ticks";
        let secret = [
            "-n",
            SERVICE,
            "create",
            "secret",
            "generic",
            "executor-tick",
            token,
        ];
        admin.kubectl(&secret);
        let overlay = "tests/cluster/overlays/deployment";
        println!("{}", dry_run(admin, overlay));
        let path = top().join(overlay).display().to_string();
        println!(
            "{}",
            admin.kubectl(&["apply", "--validate=strict", "-k", &path])
        );
        roll_out(admin);
        let forward = forward(admin, folder.path());
        Self {
            admin: admin.clone(),
            forward,
            folder,
            _namespaces: namespaces,
        }
    }

    /// A caller through the port-forward.
    pub fn client(&self) -> Client {
        Client::new(&self.forward.url)
    }

    /// The pod is replaced, as by a drain, and knows what the one before knew.
    pub fn keeps_all_over_a_restart(mut self) {
        let script =
            json!({ "script": "echo kept", "resources": { "cpu": "10m", "memory": "16Mi" } });
        let id = self.client().submit(&script);
        self.client().finished(&id, GOES_WITHIN);
        let restart = ["-n", SERVICE, "rollout", "restart", "deployment/executor"];
        self.admin.kubectl(&restart);
        roll_out(&self.admin);
        self.forward.kill();
        self.forward = forward(&self.admin, self.folder.path());
        assert_eq!(self.client().log(&id), b"kept\n");
    }
}

fn roll_out(admin: &Admin) {
    let wait = format!("--timeout={STARTS_WITHIN}");
    let status = [
        "-n",
        SERVICE,
        "rollout",
        "status",
        "deployment/executor",
        &wait,
    ];
    let output = admin.command(&status).output().expect("kubectl starts");
    if !output.status.success() {
        let described = admin.kubectl(&["-n", SERVICE, "describe", "pods"]);
        let log = admin
            .command(&["-n", SERVICE, "logs", "deployment/executor"])
            .output();
        let log = log.map(|log| String::from_utf8_lossy(&log.stdout).into_owned());
        panic!("not rolled out: {described}\n{log:?}");
    }
}

/// kubectl prints where it listens; the harness looks for a URL.
fn forward(admin: &Admin, folder: &Path) -> Process {
    let forward = ["-n", SERVICE, "port-forward", "service/executor", ":80"];
    let kubectl = admin.command(&forward);
    let mut command = Command::new("/bin/sh");
    let script = r#""$@" | sed -u 's|^Forwarding from \(127[^ ]*\) .*|Forwarding http://\1|'"#;
    command
        .args(["-c", script, "sh"])
        .arg(kubectl.get_program());
    command.args(kubectl.get_args());
    Process::start("port-forward", &mut command, folder, "Forwarding ")
}

/// Makes the image without Docker, and gives it to the node.
fn image(admin: &Admin, folder: &Path) {
    let tar = folder.join("executor.tar");
    let made = Command::new(top().join("scripts/image"))
        .args(["devhost", "--no-build", "--name", IMAGE, "--out"])
        .arg(&tar)
        .stdin(Stdio::null())
        .output()
        .expect("scripts/image starts");
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "no image: {errors}");
    admin.import_image(&tar);
}

/// What the API server says to the manifests of that folder, of which it keeps nothing.
pub fn dry_run(admin: &Admin, overlay: &str) -> String {
    let (folder, more) = overlay.split_once(' ').unwrap_or((overlay, ""));
    let path = top().join(folder).display().to_string();
    let mut arguments = vec![
        "apply",
        "--dry-run=server",
        "--validate=strict",
        "-k",
        &path,
    ];
    arguments.extend(more.split_whitespace());
    admin.kubectl(&arguments)
}

/// Why the API server would not take that object.
///
/// # Panics
/// When it would.
pub fn refusal(admin: &Admin, object: &Value) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("object.json");
    std::fs::write(&file, object.to_string()).expect("a file can be written");
    let file = file.display().to_string();
    let create = [
        "create",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        &file,
    ];
    let output = admin.command(&create).output().expect("kubectl starts");
    assert!(!output.status.success(), "taken: {object}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tenant's namespace, which goes with its test.
pub struct Tenant(Admin);

impl Tenant {
    /// Made by the step of docs/OPERATIONS.md.
    pub fn new(admin: &Admin) -> Self {
        let made = Self(admin.clone());
        let path = top().join("tests/cluster/overlays/tenant");
        let path = path.display().to_string();
        let apply = ["apply", "--validate=strict", "-k", &path];
        println!("{}", admin.kubectl(&apply));
        made
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let delete = ["delete", "namespace", TENANT, "--ignore-not-found"];
        let _ = self.0.command(&delete).stdout(Stdio::null()).status();
    }
}

/// The two namespaces, and what they do not hold; they go with their test.
pub struct Namespaces(Admin);

/// Makes the namespaces of the manifests.
pub fn namespaces(admin: &Admin) -> Namespaces {
    let made = Namespaces(admin.clone());
    made.remove();
    let file = top().join("k8s/base/namespaces.yaml").display().to_string();
    admin.kubectl(&["apply", "-f", &file]);
    made
}

impl Namespaces {
    fn remove(&self) {
        for object in [
            ["namespace", SERVICE],
            ["namespace", RUNS],
            ["persistentvolume", "executor-state"],
        ] {
            let [kind, name] = object;
            let delete = ["delete", kind, name, "--ignore-not-found", "--wait=false"];
            self.0.kubectl(&delete);
        }
        wait_for("the namespaces to go", GOES_WITHIN, || {
            let get = ["get", "namespaces,persistentvolumes", "-o", "name"];
            let left = self.0.kubectl(&get);
            let ours = [
                "namespace/executor",
                "namespace/executor-runs",
                "persistentvolume/executor-state",
            ];
            let gone = |line: &str| !ours.contains(&line.trim());
            left.lines().all(gone).then_some(())
        });
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

/// The type of SpinApps, for as long as a test needs it.
pub struct SpinAppType(Admin);

/// Teaches the API server what a SpinApp is.
pub fn spin_app_type(admin: &Admin) -> SpinAppType {
    let file = top()
        .join("tests/cluster/spinapp.yaml")
        .display()
        .to_string();
    admin.kubectl(&["apply", "-f", &file]);
    let name = "crd/spinapps.core.spinkube.dev";
    let established = r#"jsonpath={.status.conditions[?(@.type=="Established")].status}"#;
    // Right after the `apply` it has no conditions yet, which `kubectl wait` takes for an error.
    wait_for("the type of SpinApps", ESTABLISHED_WITHIN, || {
        let said = admin.kubectl(&["get", name, "-o", established]);
        (said == "True").then_some(())
    });
    SpinAppType(admin.clone())
}

impl Drop for SpinAppType {
    fn drop(&mut self) {
        let delete = [
            "delete",
            "crd",
            "spinapps.core.spinkube.dev",
            "--wait=false",
        ];
        // What stays is litter in a cluster for tests.
        let _ = self.0.command(&delete).stdout(Stdio::null()).status();
    }
}
