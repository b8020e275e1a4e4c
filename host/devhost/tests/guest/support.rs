//! Starts `devhost` for a test, and asks it things.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Nothing in these tests takes longer than this, even on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The component of `test-guest`, built once.
pub fn guest_wasm() -> &'static Path {
    static WASM: OnceLock<PathBuf> = OnceLock::new();
    WASM.get_or_init(|| {
        let devhost = Path::new(env!("CARGO_BIN_EXE_devhost"));
        let target = devhost
            .ancestors()
            .nth(2)
            .expect("the binary lies in target/<profile>");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--package", "devhost-test-guest"])
            .args(["--target", "wasm32-wasip2", "--target-dir"])
            .arg(target)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo runs");
        assert!(status.success(), "the test guest is not built");
        target.join("wasm32-wasip2/debug/devhost_test_guest.wasm")
    })
}

/// What a test's application looks like. The guest is `guest`, at every path.
pub struct Setup {
    dir: Arc<tempfile::TempDir>,
    triggers: String,
    component: String,
    runtime_config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// The guest behind `/...`, with the database `default` and no outbound hosts.
    pub fn new() -> Setup {
        Setup {
            dir: Arc::new(tempfile::tempdir().expect("a folder")),
            triggers: "[[trigger.http]]\nroute = \"/...\"\ncomponent = \"guest\"".to_owned(),
            component: String::new(),
            runtime_config: None,
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// The test's folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// More triggers.
    pub fn trigger(mut self, toml: &str) -> Setup {
        self.triggers = format!("{}\n{toml}", self.triggers);
        self
    }

    /// One exact route in place of the one for everything.
    pub fn only_route(mut self, route: &str) -> Setup {
        self.triggers = self.triggers.replace("/...", route);
        self
    }

    /// More lines at the end of the component, sub-tables last.
    pub fn component(mut self, toml: &str) -> Setup {
        self.component = format!("{}\n{toml}", self.component);
        self
    }

    /// A runtime configuration.
    pub fn runtime_config(mut self, toml: &str) -> Setup {
        self.runtime_config = Some(toml.to_owned());
        self
    }

    /// More arguments of `devhost up`.
    pub fn arguments(mut self, arguments: &[&str]) -> Setup {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// An environment variable of the host.
    pub fn environment(mut self, name: &str, value: &str) -> Setup {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The notes in the database that a host has left in `dir`.
    pub fn notes_in(dir: &Path) -> Vec<String> {
        let file = rusqlite::Connection::open(dir.join(".spin/sqlite_db.db"))
            .expect("the database is there");
        let mut statement = file
            .prepare("SELECT text FROM notes ORDER BY rowid")
            .expect("the table is there");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("texts")
    }

    fn manifest(&self) -> String {
        let databases = if self.component.contains("sqlite_databases") {
            ""
        } else {
            "sqlite_databases = [\"default\"]"
        };
        format!(
            "spin_manifest_version = 2\n[application]\nname = \"test\"\n[variables]\n\
             greeting = {{ default = \"hello\" }}\nport = {{ default = \"1\" }}\n{}\n[component.guest]\nsource = '{}'\n{databases}\n{}\n",
            self.triggers,
            guest_wasm().display(),
            self.component
        )
    }

    fn command(&self) -> Command {
        self.command_for(&self.manifest())
    }

    fn command_for(&self, manifest: &str) -> Command {
        let path = self.dir.path().join("spin.toml");
        std::fs::write(&path, manifest).expect("the manifest is written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_devhost"));
        command
            .arg("up")
            .arg("--from")
            .arg(path)
            .args(["--listen", "127.0.0.1:0"]);
        if let Some(toml) = &self.runtime_config {
            let path = self.dir.path().join("runtime-config.toml");
            std::fs::write(&path, toml).expect("the runtime config is written");
            command.arg("--runtime-config-file").arg(path);
        }
        command
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .env(
                "DEVHOST_COMPILED_DIR",
                Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled"),
            )
            .env_remove("RUST_BACKTRACE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts and waits until it serves.
    pub fn start(&self) -> Host {
        Host::start(self.command(), Arc::clone(&self.dir))
    }

    /// Expects that it does not start, and returns what it says.
    pub fn refused(&self) -> String {
        self.refused_with(&self.manifest())
    }

    /// The same for any manifest.
    pub fn refused_with(&self, manifest: &str) -> String {
        let output = self.command_for(manifest).output().expect("devhost runs");
        let text = String::from_utf8(output.stderr).expect("errors are text");
        assert_eq!(output.status.code(), Some(1), "{text}");
        text
    }
}

/// A running `devhost`; dropping kills it.
pub struct Host {
    child: Child,
    address: SocketAddr,
    stderr: Arc<Mutex<String>>,
    /// The folder goes when the last of the setup and its hosts is gone.
    _dir: Arc<tempfile::TempDir>,
}

impl Host {
    fn start(mut command: Command, dir: Arc<tempfile::TempDir>) -> Host {
        let mut child = command.spawn().expect("devhost starts");
        let stderr = Arc::new(Mutex::new(String::new()));
        collect(child.stderr.take().expect("piped"), Arc::clone(&stderr));
        let lines = read_lines(child.stdout.take().expect("piped"));
        let Ok(line) = lines.recv_timeout(LIMIT) else {
            child.kill().expect("it is ours");
            panic!("devhost does not serve: {}", stderr.lock().unwrap());
        };
        let address = line
            .strip_prefix("Serving http://")
            .expect("the promised line");
        Host {
            child,
            address: address.parse().expect("an address"),
            stderr,
            _dir: dir,
        }
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// GET; status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        read(agent().get(self.url(path)).call())
    }

    /// GET that must succeed; the body.
    pub fn get_ok(&self, path: &str) -> String {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// POST; status and body.
    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        read(agent().post(self.url(path)).send(body))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The rows of a statement in the database `default`, without the line of columns.
    pub fn sql(&self, statement: &str) -> Vec<String> {
        let (status, text) = self.post("/sql?database=default", statement);
        assert_eq!(status, 200, "{statement}: {text}");
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// The lines of the table `notes`; none when it is not there yet.
    pub fn notes(&self) -> Vec<String> {
        let (status, text) = self.post(
            "/sql?database=default",
            "SELECT text FROM notes ORDER BY rowid",
        );
        let rows = text.lines().skip(1).map(str::to_owned);
        if status == 200 {
            rows.collect()
        } else {
            Vec::new()
        }
    }

    /// Everything on stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits for a text on stderr.
    pub fn wait_for_stderr(&self, text: &str) {
        wait_for(text, || self.stderr().contains(text).then_some(()));
    }

    /// A connection of its own, for what a client library would hide.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it accepts");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    /// Sends a signal, by its name without `SIG`. The shell's own `kill` spares a dependency, which would give libc
    /// another feature and so have everything built twice.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh")
            .args(["-c", &kill])
            .status()
            .expect("a shell");
        assert!(status.success(), "{kill}");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the end of devhost", || {
            self.child.try_wait().expect("it is ours")
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("devhost said:\n{}", self.stderr());
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(LIMIT))
        .build()
        .into()
}

fn read(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, String) {
    let mut response = response.expect("an answer");
    let text = response
        .body_mut()
        .read_to_string()
        .expect("the body is text");
    (response.status().as_u16(), text)
}

fn read_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn collect(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            let mut text = into.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
}

/// Sends one chunk of a chunked body.
pub fn send_chunk(stream: &mut TcpStream, bytes: &str) {
    write!(stream, "{:x}\r\n{bytes}\r\n", bytes.len()).expect("it reads");
}

/// Reads up to and with the next line that ends a head, or up to `text`.
pub fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(text.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            other => panic!(
                "{other:?} before {text:?}: {}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
    String::from_utf8(bytes).expect("text")
}
