//! The ledger: the simulated runner, and beside it a book of what really ran, which nobody of ours can touch.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use localcluster::logs::LogSource;
use localcluster::runner::simulated::SimulatedRunner;
use localcluster::runner::{Exit, News, PodStart, Runner, RunnerEvent};

/// What became of one pod.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The pod's uid.
    pub uid: String,
    /// The name of its Job: the pod's name without the random end.
    pub job: String,
    /// When its script began.
    pub started: Option<Timestamp>,
    /// When it was told to stop.
    pub stopped: Option<Timestamp>,
    /// How its script ended.
    pub end: Option<Exit>,
    /// When what was left of it went.
    pub gone: Option<Timestamp>,
}

impl Entry {
    /// Its end, if the script came to it by itself.
    pub fn own_end(&self) -> Option<&Exit> {
        self.end.as_ref().filter(|end| {
            self.stopped.is_none_or(|stopped| stopped > end.finished_at) && !end.deadline_exceeded
        })
    }
}

/// The book, shared with who checks it.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Entry>>>);

impl Ledger {
    /// All pods that were told to start, in that order.
    pub fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, uid: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries().iter_mut().find(|entry| entry.uid == uid) {
            change(entry);
        }
    }
}

/// Runs simulated pods and keeps the ledger.
pub struct LedgerRunner {
    ledger: Ledger,
    runner: SimulatedRunner,
    now: Timestamp,
}

impl LedgerRunner {
    /// A runner that writes into that ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            runner: SimulatedRunner::default(),
            now: Timestamp::UNIX_EPOCH,
        }
    }
}

impl Runner for LedgerRunner {
    fn start(&mut self, pod: PodStart, now: Timestamp) {
        // What a script does is written into the pods of our Jobs only, not into a stranger's.
        if pod.simulate.is_some() {
            let job = pod.name.rsplit_once('-').map_or("", |(job, _)| job);
            let entry = Entry {
                uid: pod.uid.clone(),
                job: job.to_owned(),
                started: None,
                stopped: None,
                end: None,
                gone: None,
            };
            self.ledger.entries().push(entry);
        }
        self.runner.start(pod, now);
    }

    fn adopt(&mut self, uid: &str, containers: &[String]) -> bool {
        self.runner.adopt(uid, containers)
    }

    fn stop(&mut self, uid: &str, grace_seconds: u64, now: Timestamp) {
        self.ledger
            .change(uid, |entry| entry.stopped = entry.stopped.or(Some(now)));
        self.runner.stop(uid, grace_seconds, now);
    }

    fn forget(&mut self, uid: &str) {
        // The cluster polls before it lets anything go, so this is the time.
        let now = self.now;
        self.ledger.change(uid, |entry| entry.gone = Some(now));
        self.runner.forget(uid);
    }

    fn sweep(&mut self, keep: &HashSet<String>) {
        self.runner.sweep(keep);
    }

    fn poll(&mut self, now: Timestamp) -> Vec<RunnerEvent> {
        self.now = now;
        let events = self.runner.poll(now);
        for event in &events {
            self.ledger.change(&event.uid, |entry| match &event.news {
                News::Started(at) => entry.started = Some(*at),
                News::Ended(exit) => entry.end = Some(exit.clone()),
            });
        }
        events
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.runner.next_wake()
    }

    fn log(&self, uid: &str, container: &str) -> Option<Arc<dyn LogSource>> {
        self.runner.log(uid, container)
    }
}
