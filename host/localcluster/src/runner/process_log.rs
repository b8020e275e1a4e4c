//! The output of a local process, read from the files its supervisor writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, WatchDescriptor};

use super::process::{Shared, lock};
use crate::logs::LogSource;
use crate::shim::log::LogIndex;

/// One container's log.
pub struct ProcessLog {
    shared: Arc<Shared>,
    log: fs::File,
    index: LogIndex,
    key: (String, String),
    path: PathBuf,
    ended: AtomicBool,
}

impl ProcessLog {
    /// Opens the log of the container in `folder`; none when it never started.
    pub(super) fn open(
        shared: Arc<Shared>,
        folder: &Path,
        uid: &str,
        container: &str,
    ) -> Option<Arc<dyn LogSource>> {
        let path = folder.join("log");
        let log = fs::File::open(&path).ok()?;
        let index = LogIndex::open(folder).ok()?;
        let key = (uid.to_owned(), container.to_owned());
        let ended = AtomicBool::new(false);
        Some(Arc::new(Self {
            shared,
            log,
            index,
            key,
            path,
            ended,
        }))
    }
}

impl LogSource for ProcessLog {
    fn length(&self) -> io::Result<(u64, bool)> {
        if !self.ended.load(Ordering::Relaxed) {
            // A folder that is gone was removed after the end.
            let over = lock(&self.shared.ended).contains(&self.key)
                || self
                    .shared
                    .report_path(&self.key.0, &self.key.1, "ended")
                    .exists()
                || !self.path.exists();
            self.ended.store(over, Ordering::Relaxed);
        }
        let ended = self.ended.load(Ordering::Relaxed);
        Ok((self.log.metadata()?.len(), ended))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.log, buffer, offset)
    }

    fn written_at(&self, offset: u64) -> io::Result<Timestamp> {
        self.index.written_at(offset)
    }

    fn newest(&self, length: u64) -> u64 {
        // As if it had been rotated whenever its file reached that size.
        let file_bytes = self.shared.log_file_bytes.load(Ordering::Relaxed);
        length.checked_div(file_bytes).unwrap_or(0) * file_bytes
    }

    fn follow(&self) -> Option<Box<dyn Send + Sync>> {
        // The lock is held over both, or a guard dropped in between would take this watch away.
        let mut followed = lock(&self.shared.followed);
        let watch = self
            .shared
            .inotify
            .add_watch(&self.path, AddWatchFlags::IN_MODIFY)
            .ok()?;
        *followed.entry(watch).or_insert(0) += 1;
        Some(Box::new(FollowGuard {
            shared: self.shared.clone(),
            watch,
        }))
    }
}

struct FollowGuard {
    shared: Arc<Shared>,
    watch: WatchDescriptor,
}

impl Drop for FollowGuard {
    fn drop(&mut self) {
        let mut followed = lock(&self.shared.followed);
        let Some(count) = followed.get_mut(&self.watch) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            followed.remove(&self.watch);
            // The file may be gone already, and its watch with it.
            let _ = self.shared.inotify.rm_watch(self.watch);
        }
    }
}
