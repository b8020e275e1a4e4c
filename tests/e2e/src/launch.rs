//! What a stack starts, and what clears up behind it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::Process;
use crate::settings::ClusterKind;
use crate::stack::Options;
use crate::wait::Seed;

/// Ports for servers are taken from here: below Linux' range for outgoing connections, which could
/// take the port of a server while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// The embedded cluster, which answers whoever has that token.
pub(crate) fn start_cluster(
    folder: &Path,
    listen: &str,
    token: &str,
    options: &Options,
) -> Process {
    let mut command = Command::new(ClusterKind::localcluster());
    command.current_dir(folder);
    command.args(["--listen", listen, "--token", token]);
    command.arg("--state-dir").arg(folder.join("cluster"));
    if let Some(bytes) = options.log_file_bytes {
        command.args(["--log-file-bytes", &bytes.to_string()]);
    }
    if let Some(script) = &options.simulate {
        command.args(["--runner", "simulated", "--simulate", script]);
    }
    Process::start(
        "localcluster",
        &mut command,
        folder,
        "Serving Kubernetes API ",
    )
}

/// The program in a mount namespace of its own, with a small disk in memory in that folder. It goes with the program, so
/// nothing is left behind; and who is not root has the right to it in a user namespace of his own.
pub(crate) fn on_a_disk_of_its_own(mebibytes: u32, folder: &Path, program: &Path) -> Command {
    std::fs::create_dir_all(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let script = r#"mount -t tmpfs -o "size=$1" executor-test "$2" && chmod 700 "$2" && shift 2 && exec "$@""#;
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["/bin/sh", "-c", script, "sh", &format!("{mebibytes}m")]);
    command.arg(folder).arg(program);
    command
}

/// Removes the folder when this test process is gone without having dropped the stack: a static
/// is never dropped.
pub(crate) fn janitor(folder: &Path) -> Child {
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
pub(crate) fn free_port() -> u16 {
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
