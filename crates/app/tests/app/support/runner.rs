//! The simulated runner, counting what it starts.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use localcluster::logs::LogSource;
use localcluster::runner::simulated::SimulatedRunner;
use localcluster::runner::{PodStart, Runner, RunnerEvent};

/// Counts the pods that it was told to start.
#[derive(Default)]
pub struct CountingRunner {
    /// How many so far.
    pub starts: Arc<AtomicU32>,
    runner: SimulatedRunner,
}

impl Runner for CountingRunner {
    fn start(&mut self, pod: PodStart, now: Timestamp) {
        self.starts.fetch_add(1, Ordering::SeqCst);
        self.runner.start(pod, now);
    }

    fn adopt(&mut self, uid: &str, containers: &[String]) -> bool {
        self.runner.adopt(uid, containers)
    }

    fn stop(&mut self, uid: &str, grace_seconds: u64, now: Timestamp) {
        self.runner.stop(uid, grace_seconds, now);
    }

    fn forget(&mut self, uid: &str) {
        self.runner.forget(uid);
    }

    fn sweep(&mut self, keep: &HashSet<String>) {
        self.runner.sweep(keep);
    }

    fn poll(&mut self, now: Timestamp) -> Vec<RunnerEvent> {
        self.runner.poll(now)
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.runner.next_wake()
    }

    fn log(&self, uid: &str, container: &str) -> Option<Arc<dyn LogSource>> {
        self.runner.log(uid, container)
    }
}
