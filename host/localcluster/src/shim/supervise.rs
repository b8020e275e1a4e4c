//! The supervisor's own loop: output to the log, signals, the deadline, and the end.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, pipe2, setsid};

use super::claim::Claim;
use super::log::LogWriter;
use super::{Isolation, ShimSpec, Started, init, namespace, report, start_error};
use crate::runner::Exit;

/// Size of the output pipe: a burst fits without the script having to wait for the supervisor.
const PIPE_BYTES: i32 = 1024 * 1024;

/// Bytes read from the pipe at a time.
const READ_BYTES: usize = 256 * 1024;

/// Longest termination message, as the kubelet limits it.
const MAX_MESSAGE_BYTES: u64 = 4096;

/// How much of the log's end stands in for a termination message, as the kubelet limits it.
const MAX_FALLBACK_BYTES: u64 = 2048;

/// The same in lines.
const MAX_FALLBACK_LINES: usize = 80;

/// Longest wait between two looks at whether killed processes are gone.
const KILL_PAUSE: Duration = Duration::from_millis(2);

struct Supervisor<'a> {
    spec: &'a ShimSpec,
    log: LogWriter,
    output: File,
    signals: SignalFd,
    first: Pid,
    started_at: Timestamp,
    kill_at: Option<Instant>,
    deadline_exceeded: bool,
    killed: bool,
}

/// Claims the container, runs it to its end and reports.
pub fn run(folder: &Path, spec: &ShimSpec) -> io::Result<()> {
    setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    if !Claim::take(folder)? {
        return Ok(());
    }
    let log = LogWriter::create(folder)?;
    let exit = match stop_grace(folder) {
        Some(_) => ended_before_start(),
        None => start(folder, spec, signals, log)?,
    };
    report(spec, "ended", &exit)
}

/// The grace period of a stop that was asked for.
fn stop_grace(folder: &Path) -> Option<u64> {
    fs::read_to_string(folder.join("stop"))
        .ok()
        .map(|text| text.trim().parse().unwrap_or(0))
}

fn ended_before_start() -> Exit {
    let finished_at = Timestamp::now();
    Exit {
        code: 137,
        reason: "Error".into(),
        message: String::new(),
        started_at: None,
        finished_at,
        deadline_exceeded: false,
    }
}

fn start(folder: &Path, spec: &ShimSpec, signals: SignalFd, log: LogWriter) -> io::Result<Exit> {
    let mut spec = spec.clone();
    fs::write(folder.join("termination-log"), "")?;
    if spec.isolation == Isolation::Rewrite {
        namespace::rewrite(&mut spec, folder)?;
    }
    let (output_reader, output_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (ready_reader, ready_writer) = pipe2(OFlag::O_CLOEXEC)?;
    let (result_reader, result_writer) = pipe2(OFlag::O_CLOEXEC)?;
    // A smaller pipe works as well, only slower: the limit for unprivileged users may be lower.
    let _ = fcntl(&output_reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    namespace::unshare_processes(spec.isolation)?;
    let first = match init::fork()? {
        ForkResult::Child => {
            drop((output_reader, ready_reader, result_reader));
            init::run(&spec, folder, output_writer, ready_writer, result_writer)
        }
        ForkResult::Parent { child } => child,
    };
    drop((output_writer, ready_writer, result_writer));
    let mut problem = String::new();
    File::from(ready_reader).read_to_string(&mut problem)?;
    if !problem.is_empty() {
        waitpid(first, None)?;
        return Ok(start_error(&problem, Timestamp::now()));
    }
    let started_at = Timestamp::now();
    report(&spec, "started", &Started { at: started_at })?;
    fcntl(&output_reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut supervisor = Supervisor {
        spec: &spec,
        log,
        output: File::from(output_reader),
        signals,
        first,
        started_at,
        kill_at: None,
        deadline_exceeded: false,
        killed: false,
    };
    supervisor.run(folder, result_reader)
}

impl Supervisor<'_> {
    fn run(&mut self, folder: &Path, result: OwnedFd) -> io::Result<Exit> {
        let mut output_open = true;
        loop {
            if self.reaped()? {
                break;
            }
            self.keep_times();
            let timeout = self.timeout();
            let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            if output_open {
                fds.push(PollFd::new(self.output.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            drop(fds);
            while let Ok(Some(signal)) = self.signals.read_signal() {
                if signal.ssi_signo == Signal::SIGTERM as u32 {
                    self.terminate(stop_grace(folder).unwrap_or(self.spec.grace_seconds));
                }
            }
            output_open = output_open && self.copy_output()?;
        }
        kill_descendants();
        while self.copy_output()? {
            if !self.more_output() {
                break;
            }
        }
        self.log.finish(Timestamp::now())?;
        let mut code = [0; 4];
        let told = File::from(result).read_exact(&mut code).is_ok();
        // The first process could not tell: it was killed, and all others with it.
        let code = if told {
            i32::from_le_bytes(code)
        } else {
            128 + Signal::SIGKILL as i32
        };
        let message = last_words(folder, self.spec, code).unwrap_or_default();
        let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        let deadline_exceeded = self.deadline_exceeded;
        Ok(Exit {
            code,
            reason,
            message,
            started_at: Some(self.started_at),
            finished_at: Timestamp::now(),
            deadline_exceeded,
        })
    }

    /// Reaps; answers whether the first process ended.
    fn reaped(&mut self) -> io::Result<bool> {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return Ok(false),
                Ok(status) if status.pid() == Some(self.first) => return Ok(true),
                Ok(_) => {}
                Err(Errno::ECHILD) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends SIGTERM and sets the time of SIGKILL; a second request can only make it sooner.
    fn terminate(&mut self, grace_seconds: u64) {
        let kill_at = Instant::now() + Duration::from_secs(grace_seconds);
        if self.kill_at.is_none() {
            let _ = kill(self.first, Signal::SIGTERM);
        }
        self.kill_at = Some(self.kill_at.map_or(kill_at, |earlier| earlier.min(kill_at)));
    }

    fn keep_times(&mut self) {
        if !self.deadline_exceeded
            && self.kill_at.is_none()
            && self.spec.deadline.is_some_and(|d| d <= Timestamp::now())
        {
            self.deadline_exceeded = true;
            self.terminate(self.spec.grace_seconds);
        }
        if !self.killed && self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.killed = true;
            let _ = kill(self.first, Signal::SIGKILL);
        }
    }

    fn timeout(&self) -> PollTimeout {
        let wait = match (self.kill_at, self.spec.deadline) {
            (Some(_), _) if self.killed => None,
            (Some(at), _) => Some(at.saturating_duration_since(Instant::now())),
            (None, Some(deadline)) => Some(
                Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default(),
            ),
            (None, None) => None,
        };
        match wait {
            // One more millisecond: poll counts whole ones, and waking early would spin.
            Some(wait) => {
                PollTimeout::try_from(wait.as_millis().min(i32::MAX as u128 - 1) as i32 + 1)
                    .unwrap_or(PollTimeout::MAX)
            }
            None => PollTimeout::NONE,
        }
    }

    /// Moves what is in the pipe to the log, one buffer at most; false at the end of the pipe.
    fn copy_output(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        let mut open = true;
        while filled < buffer.len() {
            match self.output.read(&mut buffer[filled..]) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.log.append(&buffer[..filled], Timestamp::now())?;
        Ok(open)
    }

    /// Whether the pipe holds anything now.
    fn more_output(&self) -> bool {
        let mut fds = [PollFd::new(self.output.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

/// The termination message: what the script left in its file, or the end of a failed one's log if that was asked for.
fn last_words(folder: &Path, spec: &ShimSpec, code: i32) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(folder.join("termination-log"))?
        .take(MAX_MESSAGE_BYTES)
        .read_to_end(&mut bytes)?;
    if bytes.is_empty() && code != 0 && spec.container.termination_message_from_log {
        let mut log = File::open(folder.join("log"))?;
        let length = log.metadata()?.len();
        log.seek(io::SeekFrom::Start(
            length.saturating_sub(MAX_FALLBACK_BYTES),
        ))?;
        log.read_to_end(&mut bytes)?;
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        bytes = lines[lines.len().saturating_sub(MAX_FALLBACK_LINES)..].concat();
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Kills every process below this one until none is left. With a PID namespace there is none; without, daemons that left their
/// session end up here, because this process is the subreaper.
fn kill_descendants() {
    loop {
        for pid in descendants(nix::unistd::getpid().as_raw()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        std::thread::sleep(KILL_PAUSE);
    }
}

/// The processes below this one, the deepest first. Each thread has children of its own.
fn descendants(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let children: Vec<i32> = lists
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|w| w.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect();
    children
        .iter()
        .flat_map(|child| descendants(*child))
        .chain(children.iter().copied())
        .collect()
}
