//! One Executor with its cluster, in a folder of its own, with ways to break it.

use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::client::Client;
use crate::kube::Kube;
use crate::ledger::Ledger;
use crate::process::Process;
use crate::settings::{ClusterKind, HostKind, top};
use crate::wait::{Seed, wait_for};

/// The bearer token of `POST /internal/tick` in every stack.
pub const TICK_TOKEN: &str = "e2e-tick-token";

/// The token of the embedded API server: requests without it must not work either.
const EMBEDDED_TOKEN: &str = "e2e-cluster-token";

/// Ports for servers are taken from here: below Linux' range for outgoing connections, which could
/// take the port of a server while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where stacks keep their folders: scripts on the embedded cluster see it too, while their /tmp is their own.
const SHARED_TMP: &str = "/var/tmp";

/// How long a stopped API server may take until it answers again.
const API_SERVER_RETURNS_WITHIN: Duration = Duration::from_secs(60);

/// How a stack differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Application variables beside those every stack sets, by name.
    pub variables: Vec<(String, String)>,
}

/// A running Executor with its cluster.
pub struct Stack {
    folder: PathBuf,
    janitor: Child,
    options: Options,
    kind: ClusterKind,
    cluster: Option<Process>,
    cluster_listen: String,
    hosts: Vec<Process>,
    listens: Vec<String>,
    kube: Kube,
    kube_url: String,
}

/// The stack that all tests of one test binary share.
pub struct Shared(&'static Stack);

impl Deref for Shared {
    type Target = Stack;

    fn deref(&self) -> &Stack {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.show_failure();
        }
    }
}

impl Stack {
    /// Starts a cluster, where it is the embedded one, and a host.
    pub fn start(options: Options) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("executor-e2e-")
            .tempdir_in(SHARED_TMP)
            .expect("a temporary folder")
            .keep();
        let kind = ClusterKind::from_env();
        let cluster_listen = format!("127.0.0.1:{}", free_port());
        let cluster = match &kind {
            ClusterKind::Embedded => Some(start_cluster(&folder, &cluster_listen)),
            ClusterKind::Real(_) => None,
        };
        let (kube_url, kube) = match (&kind, &cluster) {
            (ClusterKind::Real(real), _) => (
                real.url.clone(),
                Kube::new(&real.url, &real.token, &real.namespace, Some(&real.ca)),
            ),
            (ClusterKind::Embedded, cluster) => {
                let url = cluster.as_ref().map(|c| c.url.clone()).unwrap_or_default();
                let kube = Kube::new(&url, EMBEDDED_TOKEN, "default", None);
                (url, kube)
            }
        };
        if kind.is_real() {
            kube.delete_jobs();
        }
        let mut stack = Self {
            janitor: janitor(&folder),
            folder,
            options,
            kind,
            cluster,
            cluster_listen,
            hosts: Vec::new(),
            listens: Vec::new(),
            kube,
            kube_url,
        };
        stack.add_host();
        stack
    }

    /// The stack that all tests of this test binary share; it ends with the process.
    pub fn shared() -> Shared {
        Self::shared_with(Options::default)
    }

    /// The same for a test binary whose stack is not the usual one: all its tests say so alike.
    pub fn shared_with(options: impl FnOnce() -> Options) -> Shared {
        static STACK: OnceLock<Stack> = OnceLock::new();
        Shared(STACK.get_or_init(|| Self::start(options())))
    }

    /// Whether its cluster is a real Kubernetes.
    pub fn is_real(&self) -> bool {
        self.kind.is_real()
    }

    /// A caller of the first host.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// A caller of the host with that number.
    pub fn client_of(&self, host: usize) -> Client {
        Client::new(&self.hosts[host].url)
    }

    /// Where the API server is, as Executor is told.
    pub fn kube_url(&self) -> &str {
        &self.kube_url
    }

    /// The API server, asked directly.
    pub fn kube(&self) -> &Kube {
        &self.kube
    }

    /// A new ledger that this stack's scripts can reach.
    pub fn ledger(&self, name: &str) -> Ledger {
        match &self.kind {
            ClusterKind::Embedded => Ledger::file(self.shared_file(&format!("{name}.ledger"))),
            ClusterKind::Real(real) => Ledger::server(real.host()),
        }
    }

    /// The path of a file that scripts on the embedded cluster see too.
    pub fn shared_file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts one more host on the same state, and gives its number.
    pub fn add_host(&mut self) -> usize {
        let number = self.hosts.len();
        self.listens.push(format!("127.0.0.1:{}", free_port()));
        let host = self.start_host(number);
        self.hosts.push(host);
        number
    }

    /// Kills the host with everything it started, at once.
    pub fn kill_host(&mut self, host: usize) {
        assert!(
            self.hosts[host].is_running(),
            "the host ended before it was killed"
        );
        self.hosts[host].kill();
    }

    /// The process id of the host, which is its group's as well.
    pub fn host_pid(&self, host: usize) -> u32 {
        self.hosts[host].pid()
    }

    /// Starts the killed host again with the same state and address.
    pub fn restart_host(&mut self, host: usize) {
        self.hosts[host].kill();
        self.hosts[host] = self.start_host(host);
    }

    /// Takes the API server away: killed where it is embedded, stopped where it is real.
    pub fn stop_api_server(&mut self) {
        match &mut self.cluster {
            Some(process) => process.kill(),
            None => cluster_script("stop"),
        }
        assert!(
            !self.kube.answers(),
            "the API server answers after its stop"
        );
    }

    /// Brings the API server back with the same state and address.
    pub fn start_api_server(&mut self) {
        match &mut self.cluster {
            Some(process) => *process = start_cluster(&self.folder, &self.cluster_listen),
            None => cluster_script("start"),
        }
        let kube = &self.kube;
        wait_for("the API server", API_SERVER_RETURNS_WITHIN, || {
            kube.answers().then_some(())
        });
    }

    fn start_host(&self, number: usize) -> Process {
        let top = top();
        for wasm in ["api.wasm", "reconciler.wasm"] {
            let path = top.join("target/wasm32-wasip2/release").join(wasm);
            assert!(
                path.is_file(),
                "{} is not there: use scripts/test, or run \
                 `cargo build --release --target wasm32-wasip2 -p api -p reconciler`",
                path.display()
            );
        }
        let kind = HostKind::from_env();
        let mut command = Command::new(kind.binary());
        // Spin keeps a state folder beside the manifest, and reads .env, in the current folder.
        command.current_dir(&self.folder);
        // Compiling the components takes seconds, and each stack would do it anew in its own folder.
        command.env("DEVHOST_COMPILED_DIR", top.join("target/devhost-compiled"));
        command.arg("up").arg("--from").arg(top.join("spin.toml"));
        command.args(["--listen", &self.listens[number]]);
        command.arg("--state-dir").arg(self.folder.join("state"));
        for (name, value) in self.variables() {
            command.arg("--variable").arg(format!("{name}={value}"));
        }
        if let ClusterKind::Real(real) = &self.kind {
            let file = self.folder.join("runtime-config.toml");
            let text = format!(
                "[[client_tls]]\ncomponent_ids = [\"api\", \"reconciler\"]\nhosts = [{:?}]\nca_roots_file = {:?}\n",
                real.host(),
                real.ca.display().to_string()
            );
            std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            command.arg("--runtime-config-file").arg(file);
        }
        let name = format!("host{number}");
        Process::start(&name, &mut command, &self.folder, "Serving ")
    }

    fn variables(&self) -> Vec<(String, String)> {
        let (token, namespace) = match &self.kind {
            ClusterKind::Embedded => (EMBEDDED_TOKEN.to_owned(), "default".to_owned()),
            ClusterKind::Real(real) => (real.token.clone(), real.namespace.clone()),
        };
        let mut variables = vec![
            ("kube_url".to_owned(), self.kube_url.clone()),
            ("kube_token".to_owned(), token),
            ("kube_namespace".to_owned(), namespace),
            ("tick_token".to_owned(), TICK_TOKEN.to_owned()),
        ];
        if let ClusterKind::Real(real) = &self.kind
            && let Some(image) = &real.image
        {
            variables.push(("default_image".to_owned(), image.clone()));
        }
        variables.extend(self.options.variables.iter().cloned());
        variables
    }

    /// Prints the ends of all logs and keeps the folder.
    fn show_failure(&self) {
        for process in self.cluster.iter().chain(&self.hosts) {
            process.print_log();
        }
        eprintln!("kept: {}", self.folder.display());
        // Without the mark the folder goes, which only costs some comfort.
        let _ = std::fs::write(self.folder.join("keep"), "");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_failure();
        }
        // The hosts first, as a host without its cluster only logs complaints; and at once, since
        // draining waits for the tick, which nobody needs any more.
        for host in &mut self.hosts {
            host.kill();
        }
        self.cluster = None;
        if self.folder.join("keep").exists() || std::env::var_os("EXECUTOR_E2E_KEEP").is_some() {
            eprintln!("kept: {}", self.folder.display());
        } else {
            // What cannot be removed now is only litter in the temporary folder.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
        let _ = self.janitor.kill();
        let _ = self.janitor.wait();
    }
}

fn start_cluster(folder: &Path, listen: &str) -> Process {
    let mut command = Command::new(ClusterKind::localcluster());
    command.current_dir(folder);
    command.args(["--listen", listen, "--token", EMBEDDED_TOKEN]);
    command.arg("--state-dir").arg(folder.join("cluster"));
    Process::start(
        "localcluster",
        &mut command,
        folder,
        "Serving Kubernetes API ",
    )
}

fn cluster_script(verb: &str) {
    let script = top().join("scripts/cluster");
    let status = Command::new(&script)
        .args(["apiserver", verb])
        .stdin(Stdio::null())
        .status()
        .unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(
        status.success(),
        "scripts/cluster apiserver {verb}: {status}"
    );
}

/// Removes the folder when this test process is gone without having dropped the stack: a static
/// is never dropped.
fn janitor(folder: &Path) -> Child {
    let script =
        r#"read -r _; sleep 5; [ -e "$1/keep" ] || [ -n "$EXECUTOR_E2E_KEEP" ] || rm -rf -- "$1""#;
    let mut child = Command::new("/bin/sh")
        .args(["-c", script, "janitor"])
        .arg(folder)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("/bin/sh starts");
    // The write end lives as long as this process; forgetting it is the point.
    std::mem::forget(child.stdin.take());
    child
}

/// A port that nothing listens on now.
fn free_port() -> u16 {
    let mut seed = Seed::new("ports");
    let count = u64::from(PORTS.end - PORTS.start);
    loop {
        let offset = u16::try_from(seed.below(count)).expect("the range is one of u16");
        let port = PORTS.start + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
