//! One server process: started in its own group, waited for until it serves, killed as a whole.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::poll;

/// A host compiles two components at its start, on two busy cores.
const SERVES_WITHIN: Duration = Duration::from_secs(90);

/// After the polite signal a host drains what runs.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// Lines of a log that are printed when a test failed.
const PRINTED_LINES: usize = 60;

/// A server with everything it started.
pub struct Process {
    name: String,
    child: Child,
    guard: Child,
    log: PathBuf,
    /// `http://host:port`, as the server printed it.
    pub url: String,
    running: bool,
}

impl Process {
    /// Starts the command, whose output is appended to `<folder>/<name>.log`, and waits until it
    /// prints `<announcement>http…`.
    pub fn start(name: &str, command: &mut Command, folder: &Path, announcement: &str) -> Self {
        let log = folder.join(format!("{name}.log"));
        let output = append(&log);
        let from = output.metadata().expect("a log has a size").len();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be copied"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
        let mut guard = guard(child.id());
        // The write end lives as long as this test process; forgetting it is the point.
        std::mem::forget(guard.stdin.take());
        let mut process = Self {
            name: name.to_owned(),
            child,
            guard,
            log,
            url: String::new(),
            running: true,
        };
        process.url = process.wait_until_it_serves(from, announcement);
        process
    }

    fn wait_until_it_serves(&mut self, from: u64, announcement: &str) -> String {
        let from = usize::try_from(from).expect("logs fit into memory");
        let found = poll(SERVES_WITHIN, || {
            let text = std::fs::read(&self.log).unwrap_or_default();
            let text = String::from_utf8_lossy(text.get(from..).unwrap_or_default());
            // A line still being written has no end yet.
            let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let url = complete.lines().find_map(|line| {
                let (_, rest) = line.split_once(announcement)?;
                let url = rest.split_whitespace().next()?;
                url.starts_with("http").then(|| url.to_owned())
            });
            match url {
                Some(url) => Some(Ok(url)),
                None => {
                    let status = self.child.try_wait().expect("a child can be waited for");
                    status.map(Err)
                }
            }
        });
        match found {
            Some(Ok(url)) => url.trim_end_matches('/').to_owned(),
            Some(Err(status)) => {
                self.print_log();
                panic!("{} ended with {status} before it served", self.name)
            }
            None => {
                self.print_log();
                panic!("{} did not serve within {SERVES_WITHIN:?}", self.name)
            }
        }
    }

    /// Its process id, which is its group's as well.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not been killed, stopped, or ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.running && matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills the whole group at once, as a power cut would, and waits for its end.
    pub fn kill(&mut self) {
        if self.running {
            self.signal(Signal::KILL);
            self.reap();
        }
    }

    /// Asks it to end, and kills the group when it does not.
    pub fn stop(&mut self) {
        if !self.running {
            return;
        }
        self.signal(Signal::TERM);
        let ended = poll(STOPS_WITHIN, || {
            self.child.try_wait().ok().flatten().map(|_| ())
        });
        if ended.is_none() {
            eprintln!(
                "{} did not end within {STOPS_WITHIN:?} of SIGTERM",
                self.name
            );
        }
        // What it left behind in its group goes too.
        self.signal(Signal::KILL);
        self.reap();
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // A group that is gone already needs no signal.
        let _ = kill_process_group(pid.expect("process ids are positive"), signal);
    }

    fn reap(&mut self) {
        self.running = false;
        // Both errors mean that it is gone already. The guard goes first: the pid is free after this.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.wait();
    }

    /// Prints the end of its log, for a failed test.
    pub fn print_log(&self) {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(PRINTED_LINES);
        eprintln!("---- end of {} ----", self.log.display());
        for line in &lines[first..] {
            eprintln!("{line}");
        }
        eprintln!("----");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

fn append(log: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap_or_else(|e| panic!("{}: {e}", log.display()))
}

/// A shell that ends the group when its standard input ends. That is a pipe which only we hold, so
/// it ends when this test process is gone, however it went.
fn guard(group: u32) -> Child {
    let script = r#"read -r _; kill -TERM "-$1"; sleep 6; kill -KILL "-$1""#;
    Command::new("/bin/sh")
        .args(["-c", script, "guard", &group.to_string()])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("/bin/sh starts")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_process_serves_and_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "sleep 300 & echo \"child $!\"; echo 'Serving http://127.0.0.1:1/'; wait";
        let mut process = Process::start("test", &mut shell(script), folder.path(), "Serving ");
        assert_eq!(process.url, "http://127.0.0.1:1");
        assert!(process.is_running());
        let log = std::fs::read_to_string(folder.path().join("test.log")).expect("a log");
        let child = log.split_whitespace().nth(1).expect("a pid").to_owned();
        process.kill();
        assert!(!process.is_running());
        let status = Path::new("/proc").join(child).join("status");
        let gone = poll(Duration::from_secs(5), || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            (status.is_empty() || status.contains("Z (zombie)")).then_some(())
        });
        assert!(gone.is_some(), "its child lives on");
    }

    #[test]
    fn the_guard_ends_the_group_when_its_test_is_gone() {
        let mut orphan = shell("trap : TERM; while :; do sleep 1; done");
        let mut orphan = orphan.process_group(0).spawn().expect("/bin/sh starts");
        let mut guard = guard(orphan.id());
        drop(guard.stdin.take());
        let ended = poll(Duration::from_secs(15), || orphan.try_wait().ok().flatten());
        assert!(ended.is_some(), "the orphan lives on");
        guard.wait().expect("the guard ends by itself");
    }

    #[test]
    #[should_panic(expected = "before it served")]
    fn a_process_that_ends_before_it_serves_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        Process::start("test", &mut shell("exit 3"), folder.path(), "Serving ");
    }
}
