//! The first process of a container's PID namespace: sets the filesystem up, starts the container's program, passes SIGTERM on,
//! reaps, and ends with it, upon which the kernel kills whatever else is left in the namespace.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::{Isolation, ShimSpec, namespace};

/// Splits the process; only ever called while it has one thread.
pub fn fork() -> io::Result<ForkResult> {
    #[expect(
        unsafe_code,
        reason = "the supervisor has one thread, so the child may do anything its parent could"
    )]
    let result = unsafe { nix::unistd::fork() };
    Ok(result?)
}

/// The life of the first process; never returns. `ready` gets one line: empty when the program runs, else what went wrong.
/// `result` gets the program's exit code.
pub fn run(spec: &ShimSpec, folder: &Path, output: OwnedFd, ready: OwnedFd, result: OwnedFd) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let mut ready = File::from(ready);
    match start(spec, folder, output) {
        Ok(program) => {
            drop(ready);
            let code = reap_until(program);
            let _ = File::from(result).write_all(&code.to_le_bytes());
            std::process::exit(0)
        }
        Err(message) => {
            let _ = ready.write_all(message.as_bytes());
            std::process::exit(1)
        }
    }
}

/// Sets up and starts the program; answers its process id or why it cannot be executed.
fn start(spec: &ShimSpec, folder: &Path, output: OwnedFd) -> Result<Pid, String> {
    if spec.isolation != Isolation::Rewrite {
        namespace::enter(spec, folder)
            .map_err(|error| format!("error setting up the container's filesystem: {error}"))?;
    }
    let (reader, writer) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| e.to_string())?;
    match fork().map_err(|e| e.to_string())? {
        ForkResult::Parent { child } => {
            drop((writer, output));
            let mut message = String::new();
            let _ = File::from(reader).read_to_string(&mut message);
            if message.is_empty() {
                Ok(child)
            } else {
                Err(message)
            }
        }
        ForkResult::Child => {
            let message = execute(spec, &output);
            let _ = File::from(writer).write_all(message.as_bytes());
            std::process::exit(127)
        }
    }
}

/// Becomes the program; comes back only with what went wrong, in runc's words.
fn execute(spec: &ShimSpec, output: &OwnedFd) -> String {
    let program = spec.container.argv.first().cloned().unwrap_or_default();
    let failed = |error: io::Error| format!("exec: {program:?}: {}", plain(&error));
    let prepared = (|| -> io::Result<()> {
        setsid()?;
        unblock_signals()?;
        dup2_stdin(File::open("/dev/null")?)?;
        dup2_stdout(output)?;
        dup2_stderr(output)?;
        let folder = if spec.container.working_dir.is_empty() {
            "/"
        } else {
            &spec.container.working_dir
        };
        std::env::set_current_dir(folder)
    })();
    if let Err(error) = prepared {
        return failed(error);
    }
    let environment = spec.environment();
    let path = environment
        .iter()
        .find(|(name, _)| name == "PATH")
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    let found = match look_up(&program, &path) {
        Ok(found) => found,
        Err(message) => return message,
    };
    let texts = |list: Vec<String>| {
        list.iter()
            .map(|text| namespace::c_string(text))
            .collect::<io::Result<Vec<_>>>()
    };
    let argv = texts(spec.container.argv.clone());
    let env = texts(
        environment
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
    );
    let result = argv.and_then(|argv| {
        let env = env?;
        Err(
            nix::unistd::execve(&namespace::c_string(&found)?, &argv, &env)
                .map_or_else(io::Error::from, |never| match never {}),
        )
    });
    match result {
        // The file is there and executable, yet the kernel refuses it: a `#!` line that names no program, for one. runc
        // has handed the container over by then, so the words go to its output and it exits with 1.
        Err(error) => {
            let _ = writeln!(io::stderr(), "exec {found}: {}", plain(&error));
            std::process::exit(1)
        }
        Ok(()) => unreachable!("execve returns only to say what went wrong"),
    }
}

/// No signal is blocked in a container, nor SIGPIPE ignored, as Rust's runtime does; exec would hand both on.
fn unblock_signals() -> io::Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    #[expect(unsafe_code, reason = "the default action runs no code of ours")]
    // SAFETY: no handler is installed.
    unsafe {
        nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)?;
    }
    Ok(())
}

/// Finds the program as runc does: a name without a slash on PATH, anything else as a path.
fn look_up(program: &str, path: &str) -> Result<String, String> {
    let executable = |file: &str| {
        nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
            && Path::new(file).is_file()
    };
    if program.contains('/') {
        return match std::fs::metadata(program) {
            Err(error) => Err(format!(
                "exec: {program:?}: stat {program}: {}",
                plain(&error)
            )),
            Ok(found) if found.is_dir() => Err(format!("exec: {program:?}: is a directory")),
            Ok(_) if executable(program) => Ok(program.to_owned()),
            Ok(_) => Err(format!("exec: {program:?}: permission denied")),
        };
    }
    path.split(':')
        .map(|folder| format!("{}/{program}", if folder.is_empty() { "." } else { folder }))
        .find(|file| executable(file))
        .ok_or_else(|| format!("exec: {program:?}: executable file not found in $PATH"))
}

/// The error's text as Go prints it: lower case, without the number.
fn plain(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    text.to_lowercase()
}

/// Waits for the program, reaping everything and passing SIGTERM on; answers its exit code.
fn reap_until(program: Pid) -> i32 {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGCHLD);
    loop {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == program => return code,
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                    return 128 + signal as i32;
                }
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                // No child left and the program not seen: cannot happen, but waiting for ever would be worse.
                Err(_) => return 255,
            }
        }
        if let Ok(Signal::SIGTERM) = signals.wait() {
            let _ = kill(program, Signal::SIGTERM);
        }
    }
}
