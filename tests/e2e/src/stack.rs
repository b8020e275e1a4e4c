//! One Executor with its cluster, in a folder of its own, with ways to break it.

mod configure;

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;

use crate::admin::{Admin, cluster_script};
use crate::client::Client;
use crate::database::Postgres;
use crate::kube::Kube;
use crate::launch::{free_port, janitor, on_a_disk_of_its_own, start_cluster};
use crate::ledger::Ledger;
use crate::network::Network;
use crate::process::Process;
use crate::settings::{ClusterKind, DatabaseKind, HostKind, authority, top};
use crate::tls::Tls;
use crate::wait::wait_for;

/// The bearer token of `POST /internal/tick` in every stack.
pub const TICK_TOKEN: &str = "e2e-tick-token";

/// The first token of the embedded API server: requests without it must not work either.
const EMBEDDED_TOKEN: &str = "e2e-cluster-token";

/// Where stacks keep their folders: scripts on the embedded cluster see it too, while their /tmp is their own.
const SHARED_TMP: &str = "/var/tmp";

/// How long a stopped API server may take until it answers again.
const API_SERVER_RETURNS_WITHIN: Duration = Duration::from_secs(60);

/// What a file system gives out at once.
const PAGE_BYTES: usize = 4096;

/// How a stack differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Application variables beside those every stack sets, by name.
    pub variables: Vec<(String, String)>,
    /// Variables of the hosts' environment, by name.
    pub environment: Vec<(String, String)>,
    /// The namespace of the Jobs; none for the cluster's usual one.
    pub namespace: Option<String>,
    /// The state folder is a file system of its own, of so many MiB. It lasts as long as the first host.
    pub state_mebibytes: Option<u32>,
    /// Hosts reach the API server through [`Stack::network`] only.
    pub through_network: bool,
    /// Hosts reach their PostgreSQL through [`Stack::database_network`] only.
    pub database_through_network: bool,
    /// Hosts prove themselves to their PostgreSQL by that password.
    pub database_password: Option<String>,
    /// Hosts reach the embedded cluster by TLS only, whose certificate [`Stack::tls`] can change.
    pub tls: bool,
    /// Hosts serve the manifest of the images, and read the embedded cluster's token from a file, [`Stack::account_token`].
    pub token_in_file: bool,
    /// The embedded cluster rotates logs at so many bytes; a real one does as it is configured.
    pub log_file_bytes: Option<u64>,
    /// Pods of the embedded cluster only pretend, each as this JSON says: the README of localcluster has its fields.
    pub simulate: Option<String>,
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
    /// Where hosts look for the API server.
    kube_url: String,
    /// What the embedded one asks for.
    kube_token: String,
    tls: Option<Tls>,
    network: Option<Network>,
    /// The server with the stack's database and its URL; none where that is a file in the state folder.
    postgres: Option<(Postgres, String)>,
    database_network: Option<Network>,
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
        let mut kind = ClusterKind::from_env();
        let cluster_listen = format!("127.0.0.1:{}", free_port());
        let cluster = match &mut kind {
            ClusterKind::Embedded => Some(start_cluster(
                &folder,
                &cluster_listen,
                EMBEDDED_TOKEN,
                &options,
            )),
            ClusterKind::Real(real) => {
                if let Some(namespace) = &options.namespace {
                    real.namespace.clone_from(namespace);
                }
                None
            }
        };
        let (mut kube_url, kube) = match (&kind, &cluster) {
            (ClusterKind::Real(real), _) => (
                real.url.clone(),
                Kube::new(&real.url, &real.token, &real.namespace, Some(&real.ca)),
            ),
            (ClusterKind::Embedded, cluster) => {
                let url = cluster.as_ref().map(|c| c.url.clone()).unwrap_or_default();
                let namespace = options.namespace.as_deref().unwrap_or("default");
                let kube = Kube::new(&url, EMBEDDED_TOKEN, namespace, None);
                (url, kube)
            }
        };
        let network = options.through_network.then(|| {
            let network = Network::to(authority(&kube_url));
            // The certificate of a real API server has the name 127.0.0.1, too.
            kube_url = kube_url.replace(authority(&kube_url), &network.address().to_string());
            network
        });
        let tls = options.tls.then(|| {
            let tls = Tls::before(&folder, authority(&kube_url));
            kube_url = tls.url();
            tls
        });
        if kind.is_real() {
            kube.delete_jobs();
        }
        let postgres = match DatabaseKind::from_env() {
            DatabaseKind::Sqlite => None,
            DatabaseKind::Postgres => {
                let server = Postgres::from_env();
                let mut url = server.new_database();
                if let Some(password) = &options.database_password {
                    url = server.seal(&url, password);
                }
                Some((server, url))
            }
        };
        let between = postgres
            .as_ref()
            .filter(|_| options.database_through_network);
        let database_network = between.map(|(server, _)| Network::to(server.authority()));
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
            kube_token: EMBEDDED_TOKEN.to_owned(),
            tls,
            network,
            postgres,
            database_network,
        };
        if stack.options.token_in_file {
            stack.account_token(EMBEDDED_TOKEN);
        }
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

    /// The real cluster's administrator; none where it is the embedded one.
    pub fn admin(&self) -> Option<Admin> {
        match &self.kind {
            ClusterKind::Embedded => None,
            ClusterKind::Real(real) => Some(Admin::new(real)),
        }
    }

    /// The PostgreSQL server that has its records; none where they are in a file.
    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref().map(|(server, _)| server)
    }

    /// What is between the hosts and the API server.
    ///
    /// # Panics
    /// When the options did not ask for it.
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("a stack with a network")
    }

    /// What is between the hosts and their PostgreSQL; none where the options did not ask for it.
    pub fn database_network(&self) -> Option<&Network> {
        self.database_network.as_ref()
    }

    /// What is before the embedded cluster.
    ///
    /// # Panics
    /// When the options did not ask for it.
    pub fn tls(&mut self) -> &mut Tls {
        self.tls.as_mut().expect("a stack with TLS")
    }

    /// Has the file that hosts read their token from say that, as the kubelet renews it: by another file in its place.
    pub fn account_token(&self, token: &str) {
        let folder = self.folder.join("account");
        let write = || {
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join("new"), token)?;
            std::fs::rename(folder.join("new"), folder.join("token"))
        };
        write().unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    }

    /// Starts the embedded API server again, which knows that token from then on and no other.
    pub fn change_cluster_token(&mut self, token: &str) {
        self.stop_api_server();
        token.clone_into(&mut self.kube_token);
        let url = format!("http://{}", self.cluster_listen);
        let namespace = self.kube.namespace().to_owned();
        self.kube = Kube::new(&url, token, &namespace, None);
        self.start_api_server();
    }

    /// Gives the database's user another password, and ends all its connections. Hosts have it from their next start on.
    ///
    /// # Panics
    /// When there is no PostgreSQL.
    pub fn change_database_password(&mut self, password: &str) {
        let (server, url) = self.postgres.as_mut().expect("a stack on PostgreSQL");
        *url = server.seal(url, password);
    }

    /// Fills the file system of the state folder to its last byte.
    ///
    /// # Panics
    /// When the options did not ask for one.
    pub fn fill_state(&self) {
        let path = self.filler();
        let mut file = File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        loop {
            match file.write_all(&[0; PAGE_BYTES]) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::StorageFull => return,
                Err(e) => panic!("{}: {e}", path.display()),
            }
        }
    }

    /// Takes away what filled the state folder.
    pub fn free_state(&self) {
        let path = self.filler();
        std::fs::remove_file(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// A file in the state folder as the host sees it: its mounts are its own.
    fn filler(&self) -> PathBuf {
        assert!(self.options.state_mebibytes.is_some(), "no disk of its own");
        let root = PathBuf::from(format!("/proc/{}/root", self.host_pid(0)));
        let state = self.folder.join("state");
        root.join(state.strip_prefix("/").expect("an absolute path"))
            .join("filler")
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
            None => drop(cluster_script(&["program", "kube-apiserver", "stop"])),
        }
        assert!(
            !self.kube.answers(),
            "the API server answers after its stop"
        );
    }

    /// Brings the API server back with the same state and address.
    pub fn start_api_server(&mut self) {
        match &mut self.cluster {
            Some(process) => {
                let token = &self.kube_token;
                *process = start_cluster(&self.folder, &self.cluster_listen, token, &self.options)
            }
            None => drop(cluster_script(&["program", "kube-apiserver", "start"])),
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
        let state = self.folder.join("state");
        let mut command = match self.options.state_mebibytes {
            None => Command::new(kind.binary()),
            Some(size) => on_a_disk_of_its_own(size, &state, &kind.binary()),
        };
        // Spin keeps a state folder beside the manifest, and reads .env, in the current folder.
        command.current_dir(&self.folder);
        // Compiling the components takes seconds, and each stack would do it anew in its own folder.
        command.env("DEVHOST_COMPILED_DIR", top.join("target/devhost-compiled"));
        // As some Spins, which would not even refuse them.
        command.env("DEVHOST_REFUSE_EMPTY_ANSWERS", "true");
        command.envs(self.options.environment.iter().cloned());
        command.arg("up").arg("--from").arg(self.manifest());
        command.args(["--listen", &self.listens[number]]);
        command.arg("--state-dir").arg(state);
        for (name, value) in self.variables() {
            command.arg("--variable").arg(format!("{name}={value}"));
        }
        if let Some(file) = self.runtime_config() {
            command.arg("--runtime-config-file").arg(file);
        }
        let name = format!("host{number}");
        Process::start(&name, &mut command, &self.folder, "Serving ")
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
