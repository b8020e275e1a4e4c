//! What runs the containers of pods: local processes, or a simulation of them.

pub mod process;
mod process_log;
mod process_watch;
pub mod simulated;

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::logs::LogSource;

/// One file of a volume.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct VolumeFile {
    /// Path inside the volume.
    pub path: String,
    /// Its bytes.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
}

/// The content of one volume.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the pod.
    pub name: String,
    /// Its files; none for an emptyDir.
    pub files: Vec<VolumeFile>,
}

/// Where a volume appears in a container.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Mount {
    /// The volume's name.
    pub volume: String,
    /// The absolute path in the container.
    pub path: String,
    /// The path inside the volume, when only a part of it is mounted; empty for all of it.
    pub sub_path: String,
    /// Whether writing is refused.
    pub read_only: bool,
}

/// One container to start.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ContainerStart {
    /// Its name.
    pub name: String,
    /// Program and arguments, expanded.
    pub argv: Vec<String>,
    /// The environment, complete but for HOME, PATH and HOSTNAME.
    pub env: Vec<(String, String)>,
    /// The working folder; `/` when empty.
    pub working_dir: String,
    /// The mounts.
    pub mounts: Vec<Mount>,
    /// Where the script may leave its last words.
    pub termination_message_path: String,
    /// Whether the end of the log stands in for last words when it fails without any.
    pub termination_message_from_log: bool,
}

/// One pod to start.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct PodStart {
    /// Its UID: the identity under which it is started at most once.
    pub uid: String,
    /// Its name, which is also the host name inside.
    pub name: String,
    /// The volumes' content.
    pub volumes: Vec<Volume>,
    /// The containers.
    pub containers: Vec<ContainerStart>,
    /// When it must be over, by `activeDeadlineSeconds`.
    pub deadline: Option<Timestamp>,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u64,
    /// The annotation `localcluster/simulate`, for the simulated runner.
    pub simulate: Option<serde_json::Value>,
}

/// How a container ended.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128+n for signal n, as containerd reports it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// The termination message; empty for none.
    pub message: String,
    /// When it started, if it did.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Whether it was ended because the pod's deadline passed.
    pub deadline_exceeded: bool,
}

/// News from a runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunnerEvent {
    /// The pod.
    pub uid: String,
    /// The container.
    pub container: String,
    /// What happened to it.
    pub news: News,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It runs since then.
    Started(Timestamp),
    /// It ended.
    Ended(Exit),
}

/// Runs pods. All calls return at once; what comes of them is told by [`Runner::poll`].
pub trait Runner: Send {
    /// Starts a pod; a pod already started under this UID is not started again.
    fn start(&mut self, pod: PodStart, now: Timestamp);
    /// After a restart: takes the pod over if it was ever started, and answers whether it was.
    fn adopt(&mut self, uid: &str, containers: &[String]) -> bool;
    /// Ends a pod: SIGTERM now, SIGKILL after the grace period.
    fn stop(&mut self, uid: &str, grace_seconds: u64, now: Timestamp);
    /// The pod's object is gone: whatever is left of it goes too.
    fn forget(&mut self, uid: &str);
    /// After a restart: what belongs to none of these UIDs is ended and removed.
    fn sweep(&mut self, keep: &HashSet<String>);
    /// The news since the last call.
    fn poll(&mut self, now: Timestamp) -> Vec<RunnerEvent>;
    /// When [`Runner::poll`] has something to say without being woken.
    fn next_wake(&self) -> Option<Timestamp>;
    /// A container's output; none when it never started.
    fn log(&self, uid: &str, container: &str) -> Option<Arc<dyn LogSource>>;
}
