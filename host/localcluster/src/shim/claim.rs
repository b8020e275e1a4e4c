//! Who runs a container: a file that can be made only once, so that no container is ever started twice.

use std::fs;
use std::io;
use std::path::Path;

/// The process that runs a container; the start time tells it from a later process with the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Its process id.
    pub pid: i32,
    /// Its start, in clock ticks since boot, from `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

impl Claim {
    /// Claims the container for this process; false when it is claimed already.
    pub fn take(folder: &Path) -> io::Result<bool> {
        let pid = std::process::id() as i32;
        let start_ticks =
            start_ticks(pid).ok_or_else(|| io::Error::other("no start time of this process"))?;
        let temporary = folder.join(format!("claimed.{pid}"));
        fs::write(&temporary, format!("{pid} {start_ticks}"))?;
        let linked = fs::hard_link(&temporary, folder.join("claimed"));
        fs::remove_file(&temporary)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Who claimed the container, if anybody did.
    pub fn read(folder: &Path) -> Option<Claim> {
        let text = fs::read_to_string(folder.join("claimed")).ok()?;
        let (pid, start_ticks) = text.split_once(' ')?;
        Some(Claim {
            pid: pid.parse().ok()?,
            start_ticks: start_ticks.parse().ok()?,
        })
    }

    /// Whether that very process still lives.
    pub fn alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }
}

fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; the numbers begin behind its last parenthesis. Field 22 is the start time.
    let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if numbers.first() == Some(&"Z") {
        return None;
    }
    numbers.get(19)?.parse().ok()
}
