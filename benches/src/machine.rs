//! What it was measured on: named, so that figures of two machines are not taken for one.
//!
//! In JSON: `cpu` (model), `cores`, `memoryGiB`, `kernel`, `date` (UTC), `loadBefore` (of the last minute, before anything was measured), `host`
//! (`devhost` or `spin`), `profile` (in which hosts and harness were built), `cluster` (`embedded` or `real`), `version` (of Executor),
//! `commit` (null where it is not known).

use std::process::Command;

use e2e::{ClusterKind, HostKind};
use serde_json::{Value, json};

/// This machine, as Linux tells, and what runs on it.
pub fn here() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (cpus, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let kib = field(&memory, "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default();
    let load = read("/proc/loadavg");
    json!({
        "cpu": field(&cpus, "model name"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memoryGiB": (kib + 512 * 1024) / (1024 * 1024),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        "loadBefore": load.split(' ').next().unwrap_or_default(),
        "host": match HostKind::from_env() { HostKind::Devhost => "devhost", HostKind::Spin => "spin" },
        "profile": std::env::var("EXECUTOR_BENCH_PROFILE").unwrap_or_else(|_| "unknown".to_owned()),
        "cluster": if ClusterKind::from_env().is_real() { "real" } else { "embedded" },
        "version": env!("CARGO_PKG_VERSION"),
        "commit": commit(),
    })
}

/// The same in a line.
pub fn line(machine: &Value) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or("unknown").to_owned();
    format!(
        "{}, {} cores, {} GiB, Linux {}, {}; {} in profile `{}`, {} cluster; a load of {} before.",
        text("cpu"),
        machine["cores"],
        machine["memoryGiB"],
        text("kernel"),
        text("date"),
        text("host"),
        text("profile"),
        text("cluster"),
        text("loadBefore"),
    )
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}

fn commit() -> Option<String> {
    let mut git = Command::new("git");
    git.arg("-C")
        .arg(e2e::top())
        .args(["rev-parse", "--short", "HEAD"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_named() {
        let machine = here();
        assert!(
            machine["cores"].as_u64().is_some_and(|n| n > 0),
            "{machine}"
        );
        assert!(
            machine["memoryGiB"].as_u64().is_some_and(|n| n > 0),
            "{machine}"
        );
        assert!(line(&machine).contains("cores"));
        assert_eq!(field("a\t: x y\nb: z", "a"), Some("x y"));
    }
}
