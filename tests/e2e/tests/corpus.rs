//! The corpus gives what it says under both shells that run it: dash, which is `/bin/sh` where the
//! embedded cluster runs on Debian, and BusyBox' ash, which is in the default image.
//!
//! This needs no Executor: it keeps wrong expectations from being taken for its bugs.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine;
use e2e::corpus::{self, Case};
use e2e::not_applicable;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

/// Scripts up to this size are also run as an argument of the shell, as Executor does with them.
const INLINE_MAX_BYTES: usize = 64 * 1024;

/// Reasons that the shell alone decides about.
const BY_THE_SHELL: [&str; 3] = ["Completed", "NonZeroExit", "Signaled"];

/// A shell with the tools that come with it.
struct Shell {
    name: &'static str,
    path: String,
    program: String,
}

#[test]
fn the_corpus_gives_the_same_under_both_shells() {
    let tools = tempfile::tempdir().expect("a folder");
    let installed = Command::new("busybox")
        .args(["--install", "-s"])
        .arg(tools.path())
        .status();
    assert!(
        installed.is_ok_and(|status| status.success()),
        "BusyBox is needed: apt-get install busybox-static"
    );
    let busybox = tools.path().display().to_string();
    let shells = [
        Shell {
            name: "dash",
            path: "/usr/bin:/bin".into(),
            program: dash(),
        },
        Shell {
            name: "ash",
            program: format!("{busybox}/sh"),
            path: busybox,
        },
    ];
    let cases = corpus::all();
    assert!(cases.len() >= 45, "only {} scripts", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let by_shell = BY_THE_SHELL.contains(&case.expect.reason.as_str());
        if !by_shell || case.only_real.is_some() || case.by_runtime.is_some() {
            let why = case.by_runtime.as_deref();
            let why = why.unwrap_or("its end is the cluster's doing, not the shell's");
            not_applicable(&format!("{} with a shell alone", case.name), why);
            continue;
        }
        for shell in &shells {
            for inline in [false, true] {
                if inline && !can_be_inline(case) {
                    continue;
                }
                if let Err(e) = check(case, shell, inline) {
                    wrong.push(format!(
                        "{} ({}, inline {inline}): {e}",
                        case.name, shell.name
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The shell that is called dash, whatever `/bin/sh` is here.
fn dash() -> String {
    let found = ["/usr/bin/dash", "/bin/dash"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    found
        .expect("dash is needed: apt-get install dash")
        .to_owned()
}

fn can_be_inline(case: &Case) -> bool {
    let script = case.request["script"].as_str().unwrap_or_default();
    case.request["interpreter"].is_null()
        && !script.starts_with("#!")
        && script.len() <= INLINE_MAX_BYTES
}

fn check(case: &Case, shell: &Shell, inline: bool) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let workspace = folder.path().join("workspace");
    let cwd = folder.path().join("cwd");
    std::fs::create_dir(&cwd).map_err(|e| e.to_string())?;
    // There is no /workspace here, and the test may not make one.
    let moved = |text: &str| text.replace("/workspace", &workspace.display().to_string());
    write_files(&case.request, &workspace);
    let script = moved(text(&case.request["script"]));
    let file = folder.path().join("script");
    std::fs::write(&file, &script).map_err(|e| e.to_string())?;
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).map_err(|e| e.to_string())?;

    let file = file.display().to_string();
    let mut words: Vec<String> = match &case.request["interpreter"] {
        Value::Array(words) => words.iter().map(|w| text(w).to_owned()).collect(),
        _ if script.starts_with("#!") => Vec::new(),
        _ if inline => ["-c", "--", &script].map(str::to_owned).to_vec(),
        _ => Vec::new(),
    };
    match &case.request["interpreter"] {
        Value::Array(_) => words.push(file),
        _ if script.starts_with("#!") => words.push(file),
        _ if inline => {
            words.insert(0, shell.program.clone());
            words.push("sh".to_owned());
        }
        _ => words = vec![shell.program.clone(), file],
    }
    words.extend(array(&case.request["args"]).iter().map(|a| moved(text(a))));
    run(
        case,
        shell,
        &words,
        &cwd,
        &folder.path().join("log"),
        &moved,
    )
}

fn run(
    case: &Case,
    shell: &Shell,
    words: &[String],
    cwd: &Path,
    log: &Path,
    moved: &dyn Fn(&str) -> String,
) -> Result<(), String> {
    let output = File::create(log).map_err(|e| e.to_string())?;
    let mut command = Command::new("/usr/bin/env");
    // Started from the background of a shell, this test ignores SIGINT, and so would its children.
    command.args(["--default-signal", "-i"]);
    command.arg(format!("PATH={}", shell.path));
    if let Some(env) = case.request["env"].as_object() {
        command.args(
            env.iter()
                .map(|(name, value)| format!("{name}={}", moved(text(value)))),
        );
    }
    let mut child = command
        .args(words)
        .current_dir(cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|e| format!("cannot start: {e}"))?;
    let status = child.wait().map_err(|e| e.to_string())?;
    // As a cluster does with what a script leaves behind; mostly there is nothing.
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = kill_process_group(group.ok_or("no pid")?, Signal::KILL);
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let log = std::fs::read(log).map_err(|e| e.to_string())?;
    if code.map(i64::from) != case.expect.exit_code {
        let log = String::from_utf8_lossy(&log).into_owned();
        return Err(format!(
            "exit code {code:?}, expected {:?}; {log:?}",
            case.expect.exit_code
        ));
    }
    case.expect.log.check_whole(&log)
}

fn write_files(request: &Value, workspace: &Path) {
    let Some(files) = request["files"].as_object() else {
        return;
    };
    for (path, content) in files {
        let bytes = match &content["base64"] {
            Value::String(base64) => base64::engine::general_purpose::STANDARD
                .decode(base64)
                .expect("base64 in the corpus"),
            _ => text(&content["text"])
                .replace("/workspace", &workspace.display().to_string())
                .into_bytes(),
        };
        let path = workspace.join(path);
        std::fs::create_dir_all(path.parent().expect("a file lies in a folder"))
            .expect("a new folder");
        std::fs::write(path, bytes).expect("a new file");
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
