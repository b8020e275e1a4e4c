//! What Linux tells of a process: its processor time, its memory, what it read.

use std::time::Duration;

/// Clock ticks of `/proc/<pid>/stat` in a second (`USER_HZ`, 100 on every architecture that this runs on; proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Where the two times are after the command's closing bracket (proc(5): fields 14 and 15, the state is field 3).
const USER_TIME: usize = 11;
const SYSTEM_TIME: usize = 12;

/// Processor time that the process has used, in user and in kernel mode, to 10 ms.
///
/// # Panics
/// When there is no such process.
pub fn cpu(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a stat has a command");
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |index: usize| fields[index].parse::<u32>().expect("a time is a number");
    Duration::from_secs_f64(f64::from(ticks(USER_TIME) + ticks(SYSTEM_TIME)) / TICKS_PER_SECOND)
}

/// Its resident memory, in MiB.
///
/// # Panics
/// When there is no such process.
pub fn memory_mebibytes(pid: u32) -> f64 {
    number(&read(pid, "status"), "VmRSS:") / 1024.0
}

/// KiB that it has read from files so far, from the cache or not; sockets do not count.
///
/// # Panics
/// When there is no such process.
pub fn read_kibibytes(pid: u32) -> f64 {
    number(&read(pid, "io"), "rchar:") / 1024.0
}

fn read(pid: u32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn number(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_worked_and_has_memory() {
        let pid = std::process::id();
        let before = cpu(pid);
        let begun = std::time::Instant::now();
        let mut sum = 0_u64;
        while cpu(pid) == before {
            sum = sum.wrapping_add(1);
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{sum} turns took no time"
            );
        }
        assert!(memory_mebibytes(pid) > 1.0);
        assert!(read_kibibytes(pid) > 0.0);
    }
}
