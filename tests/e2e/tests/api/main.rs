//! The contract of the API, each promise kept once by a running Executor.

mod batch;
mod list;
mod logs;
mod others;
mod retries;
mod submit;

use std::time::Duration;

use e2e::{Seed, Shared, Stack};

/// A short script on two busy cores, a real kubelet included.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

fn shared() -> Shared {
    Stack::shared()
}

/// A word that no other test, and no earlier run on the same state, uses.
fn unique(word: &str) -> String {
    format!("{word}-{:016x}", Seed::new(word).number())
}
