//! Waiting on conditions with a limit, and randomness that can be replayed.

use std::time::{Duration, Instant};

/// How often a condition is looked at: fine enough for a human, coarse enough for two cores.
const POLL: Duration = Duration::from_millis(25);

/// Looks at the condition until it gives something or the limit is over.
pub fn poll<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// As [`poll`], and panics saying what was waited for when it never came.
pub fn wait_for<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    poll(limit, condition).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Prints that a check does not apply to this kind of cluster, and why, so that it is not skipped silently.
///
/// It goes to the process's own standard error, past the capture of the test harness.
pub fn not_applicable(what: &str, why: &str) {
    use std::io::Write;
    // A closed standard error must not fail the test.
    let _ = writeln!(std::io::stderr(), "not applicable: {what}: {why}");
}

/// A small generator of random numbers (SplitMix64) whose seed is printed for replay.
pub struct Seed(u64);

impl Seed {
    /// Takes `EXECUTOR_E2E_SEED`, else the clock, and prints the seed with the name of its test.
    pub fn new(test: &str) -> Self {
        let seed = match std::env::var("EXECUTOR_E2E_SEED") {
            Ok(text) => text.parse().expect("EXECUTOR_E2E_SEED is a whole number"),
            Err(_) => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .expect("a clock after 1970")
                .subsec_nanos()
                .into(),
        };
        println!("{test}: EXECUTOR_E2E_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }
}
