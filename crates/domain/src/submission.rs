//! What a caller asked for, checked and complete.

use std::collections::BTreeMap;

use crate::quantity::Quantity;
use crate::retry::Retry;

/// Requests of one container, which are its limits as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// CPU, in cores.
    pub cpu: Quantity,
    /// Memory, in bytes.
    pub memory: Quantity,
    /// Disk for the writable layer, logs and emptyDir volumes, in bytes; unset is what the node gives.
    pub ephemeral_storage: Option<Quantity>,
}

/// The limits of the four clocks, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From acceptance until its Job is asked for.
    pub queue_seconds: u32,
    /// From then until its container starts.
    pub start_seconds: u32,
    /// From then until its end.
    pub run_seconds: u32,
    /// Between the polite signal and the last one.
    pub grace_seconds: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue_seconds: 86_400,
            start_seconds: 300,
            run_seconds: 600,
            grace_seconds: 10,
        }
    }
}

/// Where the end is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// The receiver's URL. It may be as good as a secret, so it is neither shown nor logged.
    pub url: String,
    /// The name, in the configuration, of the secret that signs.
    pub secret_ref: String,
}

/// What to run and how: valid, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The script's text.
    pub script: String,
    /// The command that the script's file is appended to; none means `/bin/sh`, or the script's own `#!` line.
    pub interpreter: Option<Vec<String>>,
    /// `"$@"` of the script.
    pub args: Vec<String>,
    /// The image to run it in.
    pub image: String,
    /// What its container may use.
    pub resources: Resources,
    /// Environment variables by name.
    pub env: BTreeMap<String, String>,
    /// Read-only files by their path under `/workspace`.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Its clocks' limits.
    pub timeouts: Timeouts,
    /// Which ends are tried again, and how often.
    pub retry: Retry,
    /// Its place in the queue goes by this first, the highest in front; from -100 to 100.
    pub priority: i32,
    /// The caller's labels.
    pub labels: BTreeMap<String, String>,
    /// How long the record is kept after the end, in seconds.
    pub ttl_seconds: u32,
    /// Where its end is to be told.
    pub webhook: Option<Webhook>,
    /// SHA-256 of the canonical request, in lowercase hex: tells a replay from another request,
    /// and our own Job from a stranger's of the same name.
    pub digest: String,
}
