//! The thread that hears of supervisors: their reports by inotify, their ends by pidfds, both in one epoll.

use std::sync::Arc;

use nix::sys::epoll::{EpollEvent, EpollTimeout};

use super::News;
use super::process::{INOTIFY, LOST, Shared, Wake, lock, lost};
use crate::shim::claim::Claim;

/// Events taken from epoll at a time.
const EPOLL_EVENTS: usize = 64;

impl Shared {
    /// The watcher thread: reports by inotify, ends of supervisors by pidfd.
    pub(super) fn watch(self: &Arc<Self>) {
        let mut events = [EpollEvent::empty(); EPOLL_EVENTS];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(error) => return self.complain(&format!("waiting for supervisors: {error}")),
            };
            for event in &events[..count] {
                match event.data() {
                    INOTIFY => self.read_inotify(),
                    id => self.supervisor_ended(id),
                }
            }
        }
    }

    fn read_inotify(&self) {
        let mut log_grew = false;
        while let Ok(events) = self.inotify.read_events() {
            for event in events {
                if event.wd != self.status_watch {
                    log_grew = true;
                } else if let Some(name) = event.name.and_then(|name| name.into_string().ok())
                    && let [uid, container, what @ ("started" | "ended")] =
                        name.split('.').collect::<Vec<_>>()[..]
                {
                    self.read_report(uid, container, what);
                    log_grew |= what == "ended";
                }
            }
        }
        if log_grew {
            (self.wake)(Wake::Log);
        }
    }

    fn supervisor_ended(&self, id: u64) {
        let Some(mut supervisor) = lock(&self.supervisors).remove(&id) else {
            return;
        };
        if let Some(child) = &mut supervisor.child {
            let _ = child.wait();
        }
        let (uid, container) = (&supervisor.uid, &supervisor.container);
        if self.report_path(uid, container, "ended").exists() {
            self.read_report(uid, container, "ended");
        } else {
            match Claim::read(&self.pods.join(uid).join(container)) {
                // Another supervisor was first; it is the one to watch.
                Some(claim) if claim.pid != supervisor.pid => self.adopt_container(uid, container),
                Some(_) => self.say(
                    uid,
                    container,
                    News::Ended(lost("ContainerStatusUnknown", 137, LOST)),
                ),
                None => self.say(
                    uid,
                    container,
                    News::Ended(lost("StartError", 128, "the supervisor could not start")),
                ),
            }
        }
        (self.wake)(Wake::Log);
        self.remove_if_over(uid);
    }
}
