//! The supervisor of one container: this program executed again, in a session of its own, with one thread.
//!
//! It starts the container's first process, writes its output to the log with times, kills everything that process started once
//! it ends (or when told, or at the pod's deadline), and leaves the exit in a file. It outlives the server that started it.
//!
//! Files of a container's folder: `spec.json` (what to run), `claimed` (who runs it, made once), `stop` (asked to end), `log` and
//! `log.index` (see [`log`]), `termination-log`. Reports go to `<status>/<uid>.<container>.{started,ended}`, each by one rename.

pub mod claim;
pub mod init;
pub mod log;
pub mod namespace;
mod supervise;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::sys::signal::{SigHandler, Signal};
use serde::{Deserialize, Serialize};

use crate::runner::{ContainerStart, Exit};

/// How a container gets a view of the filesystem with its mounts in place.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
pub enum Isolation {
    /// Mount and PID namespaces, as root.
    Namespaces,
    /// The same inside a user namespace, as an ordinary user.
    UserNamespace,
    /// None: mount paths in the command are rewritten to the pod's folder.
    Rewrite,
}

/// Everything a supervisor needs, in `spec.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ShimSpec {
    /// The pod's UID.
    pub uid: String,
    /// The pod's name: the host name inside.
    pub hostname: String,
    /// The container.
    pub container: ContainerStart,
    /// Where the volumes' folders are.
    pub volumes: PathBuf,
    /// Where reports go.
    pub status: PathBuf,
    /// When the pod must be over.
    pub deadline: Option<Timestamp>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// How it is isolated.
    pub isolation: Isolation,
    /// The value of PATH unless the container sets it.
    pub path: String,
}

impl ShimSpec {
    /// The environment of the container: what it asks for, over the few names every container has.
    pub fn environment(&self) -> Vec<(String, String)> {
        let home = if self.isolation == Isolation::Rewrite {
            self.volumes
                .parent()
                .unwrap_or(Path::new("/"))
                .display()
                .to_string()
        } else {
            "/root".to_owned()
        };
        let base = [
            ("PATH", self.path.clone()),
            ("HOSTNAME", self.hostname.clone()),
            ("HOME", home),
        ];
        let mut all: Vec<(String, String)> = base
            .into_iter()
            .filter(|(name, _)| self.container.env.iter().all(|(n, _)| n != name))
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        all.extend(self.container.env.iter().cloned());
        all
    }

    fn report_file(&self, what: &str) -> PathBuf {
        self.status
            .join(report_name(&self.uid, &self.container.name, what))
    }
}

/// The name of a report: `<uid>.<container>.<what>`; neither of the first two has a dot.
pub fn report_name(uid: &str, container: &str, what: &str) -> String {
    format!("{uid}.{container}.{what}")
}

/// The report of the start.
#[derive(Debug, Serialize, Deserialize)]
pub struct Started {
    /// When the program was executed.
    pub at: Timestamp,
}

/// Writes a file so that it appears whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}

fn report(spec: &ShimSpec, what: &str, value: &impl Serialize) -> std::io::Result<()> {
    write_atomically(&spec.report_file(what), &serde_json::to_vec(value)?)
}

/// Undoes what was ignored when the server was started: `nohup` ignores SIGHUP, a shell's `&` SIGINT and SIGQUIT. Fork and exec
/// hand that on, and in a container nothing is ignored. SIGPIPE stays as Rust's runtime sets it.
fn reset_signals() -> std::io::Result<()> {
    for signal in Signal::iterator() {
        if !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGPIPE) {
            #[expect(unsafe_code, reason = "the default action runs no code of ours")]
            // SAFETY: no handler is installed.
            unsafe {
                nix::sys::signal::signal(signal, SigHandler::SigDfl)?;
            }
        }
    }
    Ok(())
}

/// Runs the supervisor of the container in `folder`; answers the process's exit code.
pub fn run(folder: &Path) -> i32 {
    let result = reset_signals()
        .and_then(|()| fs::read(folder.join("spec.json")))
        .and_then(|bytes| Ok(serde_json::from_slice::<ShimSpec>(&bytes)?))
        .and_then(|spec| supervise::run(folder, &spec));
    match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("supervisor of {}: {error}", folder.display());
            1
        }
    }
}

/// The exit of a container whose program could not be executed, as containerd reports it.
fn start_error(message: &str, now: Timestamp) -> Exit {
    Exit {
        code: 128,
        reason: "StartError".to_owned(),
        message: format!(
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to \
             start container process: {message}: unknown"
        ),
        started_at: Some(Timestamp::UNIX_EPOCH),
        finished_at: now,
        deadline_exceeded: false,
    }
}

/// Tries whether an isolation works on this machine, in a throw-away folder below `folder`; answers the exit code.
pub fn try_isolation(name: &str, folder: &Path) -> i32 {
    let isolation = if name == "namespaces" {
        Isolation::Namespaces
    } else {
        Isolation::UserNamespace
    };
    let attempt = || -> std::io::Result<i32> {
        let place = tempfile::Builder::new()
            .prefix("probe-")
            .tempdir_in(folder)?;
        fs::write(place.path().join("termination-log"), "")?;
        let container = ContainerStart {
            name: "probe".to_owned(),
            argv: vec!["true".to_owned()],
            env: Vec::new(),
            working_dir: "/probe".to_owned(),
            mounts: Vec::new(),
            termination_message_path: "/dev/termination-log".to_owned(),
            termination_message_from_log: false,
        };
        let spec = ShimSpec {
            uid: String::new(),
            hostname: "probe".to_owned(),
            container,
            volumes: place.path().to_owned(),
            status: place.path().to_owned(),
            deadline: None,
            grace_seconds: 0,
            isolation,
            path: String::new(),
        };
        namespace::unshare_processes(isolation)?;
        match init::fork()? {
            nix::unistd::ForkResult::Child => {
                let entered = namespace::enter(&spec, place.path());
                std::process::exit(i32::from(entered.is_err()))
            }
            nix::unistd::ForkResult::Parent { child } => {
                match nix::sys::wait::waitpid(child, None)? {
                    nix::sys::wait::WaitStatus::Exited(_, code) => Ok(code),
                    _ => Ok(1),
                }
            }
        }
    };
    attempt().unwrap_or(1)
}
