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
    /// More of the output, later in the run.
    writes: Vec<Write>,
    /// Milliseconds from running until the log is rotated, each time.
    rotate_ms: Vec<i64>,
    /// What it writes when SIGTERM ends it.
    last_words: String,
    /// The reason of the end; by default `Completed` or `Error`, by the exit code.
    reason: Option<String>,
    /// Milliseconds from SIGTERM to the end; by default it ends at once with 143.
    ignore_term: bool,
}

/// A piece of the output; every field has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Write {
    /// Milliseconds from running until it is written.
    at_ms: i64,
    /// The text.
    log: String,
    /// The text so many times, by default once.
    repeat: Option<usize>,
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
    /// What pods without the annotation do.
    usual: Script,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Start,
    End,
    /// The write of that number.
    Write(usize),
    Rotate,
    Terminated,
    Killed,
    Deadline,
}

impl SimulatedRunner {
    /// One whose pods do what that JSON says, where their annotation says nothing.
    ///
    /// # Errors
    /// When it is no such JSON; the text says why.
    pub fn of(script: &str) -> Result<Self, String> {
        let usual = serde_json::from_str(script).map_err(|e| format!("--simulate: {e}"))?;
        Ok(Self {
            usual,
            ..Self::default()
        })
    }

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
            let script = pod.script.clone();
            let times = script.log_repeat.unwrap_or(1);
            pod.log.state().write(&script.log, times, at);
            for (index, write) in script.writes.iter().enumerate() {
                self.schedule(after(at, write.at_ms), &key, Step::Write(index));
            }
            for milliseconds in &script.rotate_ms {
                self.schedule(after(at, *milliseconds), &key, Step::Rotate);
            }
            self.schedule(after(at, script.run_ms), &key, Step::End);
            News::Started(at)
        } else if let Step::Write(index) = step {
            let write = &pod.script.writes[index];
            let times = write.repeat.unwrap_or(1);
            pod.log.state().write(&write.log, times, at);
            return None;
        } else if step == Step::Rotate {
            let mut state = pod.log.state();
            state.newest = state.bytes.len() as u64;
            return None;
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
            let mut state = pod.log.state();
            if step == Step::Terminated {
                state.write(&pod.script.last_words, 1, at);
            }
            state.ended = true;
            drop(state);
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
            .unwrap_or_else(|| self.usual.clone());
        for container in &pod.containers {
            let key = (pod.uid.clone(), container.name.clone());
            if self.pods.contains_key(&key) {
                continue;
            }
            let log = Arc::new(SimulatedLog::default());
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

#[derive(Default)]
struct SimulatedLog {
    state: Mutex<SimulatedLogState>,
}

#[derive(Default)]
struct SimulatedLogState {
    bytes: Vec<u8>,
    /// Where each piece begins, and when it was written.
    pieces: Vec<(u64, Timestamp)>,
    newest: u64,
    ended: bool,
}

impl SimulatedLogState {
    fn write(&mut self, text: &str, times: usize, at: Timestamp) {
        if text.is_empty() || times == 0 {
            return;
        }
        self.pieces.push((self.bytes.len() as u64, at));
        self.bytes.reserve(text.len() * times);
        for _ in 0..times {
            self.bytes.extend_from_slice(text.as_bytes());
        }
    }
}

impl SimulatedLog {
    fn state(&self) -> std::sync::MutexGuard<'_, SimulatedLogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSource for SimulatedLog {
    fn length(&self) -> io::Result<(u64, bool)> {
        let state = self.state();
        Ok((state.bytes.len() as u64, state.ended))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        let rest = state.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn written_at(&self, offset: u64) -> io::Result<Timestamp> {
        let state = self.state();
        let after = state.pieces.partition_point(|(start, _)| *start <= offset);
        let piece = after.checked_sub(1).map(|index| state.pieces[index]);
        let (start, at) = piece.unwrap_or((0, Timestamp::UNIX_EPOCH));
        Ok(byte_time(at, offset - start))
    }

    fn follow(&self) -> Option<Box<dyn Send + Sync>> {
        None
    }

    fn newest(&self, _length: u64) -> u64 {
        self.state().newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_usually_do_is_read_as_an_annotation_is() {
        let runner =
            SimulatedRunner::of(r#"{"runMs": 60000}"#).expect("it is as in the annotation");
        assert_eq!(runner.usual.run_ms, 60_000);
        assert_eq!(runner.usual.exit_code, 0);
        let error = SimulatedRunner::of(r#"{"runSeconds": 1}"#).err();
        assert!(error.is_some_and(|text| text.contains("runSeconds")));
    }
}
