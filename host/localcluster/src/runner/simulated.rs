//! Pods that only pretend: an annotation on the pod says when they start, how long they run, and how they end.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{Exit, News, PodStart, Runner, RunnerEvent};
use crate::logs::{LogSource, byte_time};

/// The annotation `localcluster/simulate`, JSON; every field has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Script {
    /// Milliseconds from being told to start until running.
    start_ms: i64,
    /// Milliseconds from running until the end.
    run_ms: i64,
    exit_code: i32,
    /// The output, written at the start of the run.
    log: String,
    /// The output is `log` so many times, by default once.
    log_repeat: Option<usize>,
    /// The reason of the end; by default `Completed` or `Error`, by the exit code.
    reason: Option<String>,
    /// Milliseconds from SIGTERM to the end; by default it ends at once with 143.
    ignore_term: bool,
}

struct Simulated {
    script: Script,
    started: Option<Timestamp>,
    log: Arc<SimulatedLog>,
}

/// Runs nothing; the time it is given is the only thing that moves it.
#[derive(Default)]
pub struct SimulatedRunner {
    pods: HashMap<(String, String), Simulated>,
    due: BTreeMap<(Timestamp, u64), (String, String, Step)>,
    sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    End,
    Terminated,
    Killed,
    Deadline,
}

impl SimulatedRunner {
    fn schedule(&mut self, at: Timestamp, key: &(String, String), step: Step) {
        self.sequence += 1;
        self.due
            .insert((at, self.sequence), (key.0.clone(), key.1.clone(), step));
    }

    fn apply(&mut self, at: Timestamp, key: (String, String), step: Step) -> Option<RunnerEvent> {
        let pod = self.pods.get_mut(&key)?;
        if pod.log.state().ended {
            return None;
        }
        let news = if step == Step::Start {
            pod.started = Some(at);
            pod.log.state().written = Some(at);
            let run = pod.script.run_ms;
            self.schedule(after(at, run), &key, Step::End);
            News::Started(at)
        } else {
            let code = match step {
                Step::Terminated => 143,
                Step::Killed | Step::Deadline => 137,
                _ => pod.script.exit_code,
            };
            let by_code = if code == 0 { "Completed" } else { "Error" };
            let reason = pod
                .script
                .reason
                .clone()
                .filter(|_| step == Step::End)
                .unwrap_or_else(|| by_code.to_owned());
            pod.log.state().ended = true;
            let exit = Exit {
                code,
                reason,
                message: String::new(),
                started_at: pod.started,
                finished_at: at,
                deadline_exceeded: step == Step::Deadline,
            };
            News::Ended(exit)
        };
        Some(RunnerEvent {
            uid: key.0,
            container: key.1,
            news,
        })
    }
}

fn after(time: Timestamp, milliseconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_millis(milliseconds))
        .unwrap_or(time)
}

impl Runner for SimulatedRunner {
    fn start(&mut self, pod: PodStart, now: Timestamp) {
        let script: Script = pod
            .simulate
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_default();
        for container in &pod.containers {
            let key = (pod.uid.clone(), container.name.clone());
            if self.pods.contains_key(&key) {
                continue;
            }
            let log = Arc::new(SimulatedLog {
                bytes: script
                    .log
                    .repeat(script.log_repeat.unwrap_or(1))
                    .into_bytes(),
                state: Mutex::default(),
            });
            self.pods.insert(
                key.clone(),
                Simulated {
                    script: script.clone(),
                    started: None,
                    log,
                },
            );
            self.schedule(after(now, script.start_ms), &key, Step::Start);
            if let Some(deadline) = pod.deadline {
                self.schedule(deadline, &key, Step::Deadline);
            }
        }
    }

    fn adopt(&mut self, _uid: &str, _containers: &[String]) -> bool {
        // Simulated pods live in this process only; after a restart they begin again.
        false
    }

    fn stop(&mut self, uid: &str, grace_seconds: u64, now: Timestamp) {
        let keys: Vec<_> = self
            .pods
            .keys()
            .filter(|key| key.0 == uid)
            .cloned()
            .collect();
        for key in keys {
            let stubborn = self
                .pods
                .get(&key)
                .is_some_and(|pod| pod.script.ignore_term);
            if stubborn || grace_seconds == 0 {
                self.schedule(after(now, grace_seconds as i64 * 1000), &key, Step::Killed);
            } else {
                self.schedule(now, &key, Step::Terminated);
            }
        }
    }

    fn forget(&mut self, uid: &str) {
        self.pods.retain(|key, _| key.0 != uid);
        self.due.retain(|_, due| due.0 != uid);
    }

    fn sweep(&mut self, keep: &HashSet<String>) {
        self.pods.retain(|key, _| keep.contains(&key.0));
    }

    fn poll(&mut self, now: Timestamp) -> Vec<RunnerEvent> {
        let mut events = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let at = entry.key().0;
            let (uid, container, step) = entry.remove();
            events.extend(self.apply(at, (uid, container), step));
        }
        events
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.due.keys().next().map(|(at, _)| *at)
    }

    fn log(&self, uid: &str, container: &str) -> Option<Arc<dyn LogSource>> {
        let pod = self.pods.get(&(uid.to_owned(), container.to_owned()))?;
        pod.started?;
        Some(pod.log.clone())
    }
}

struct SimulatedLog {
    bytes: Vec<u8>,
    state: Mutex<SimulatedLogState>,
}

#[derive(Default)]
struct SimulatedLogState {
    written: Option<Timestamp>,
    ended: bool,
}

impl SimulatedLog {
    fn state(&self) -> std::sync::MutexGuard<'_, SimulatedLogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSource for SimulatedLog {
    fn length(&self) -> io::Result<(u64, bool)> {
        let state = self.state();
        Ok((
            if state.written.is_some() {
                self.bytes.len() as u64
            } else {
                0
            },
            state.ended,
        ))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn written_at(&self, offset: u64) -> io::Result<Timestamp> {
        Ok(byte_time(
            self.state().written.unwrap_or(Timestamp::UNIX_EPOCH),
            offset,
        ))
    }

    fn follow(&self) -> Option<Box<dyn Send + Sync>> {
        None
    }
}
