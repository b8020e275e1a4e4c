//! What happened, line by line, with a hash over all of it: two runs of one seed must agree in every bit.

use std::fmt;

/// Where the hash begins, and what it is multiplied by: those of FNV-1a, taken eight bytes at a time, since whole logs go through it.
const HASH_BEGIN: u64 = 0xcbf2_9ce4_8422_2325;
const HASH_PRIME: u64 = 0x0100_0000_01b3;

/// So many lines are kept, the newest; a history has a few hundred as a rule.
const KEPT_LINES: usize = 20_000;

/// So many of them are printed.
const PRINTED_LINES: usize = 400;

/// The lines so far.
pub struct History {
    lines: Vec<String>,
    hash: u64,
}

impl History {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            lines: Vec::new(),
            hash: HASH_BEGIN,
        }
    }

    /// Puts something into the hash that is not worth a line.
    pub fn mix(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix_number(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix_number(u64::from_le_bytes(last));
        self.mix_number(bytes.len() as u64);
    }

    /// The same for a number.
    pub fn mix_number(&mut self, number: u64) {
        let mixed = (self.hash ^ number).wrapping_mul(HASH_PRIME);
        // Multiplying moves bits up only: turned round, they reach the lower ones too.
        self.hash = mixed.rotate_left(29);
    }

    /// Adds a line of something that happened at that many milliseconds after the start.
    pub fn note(&mut self, at_ms: i64, text: &str) {
        let line = format!("{:>9.3} {text}", at_ms as f64 / 1000.0);
        self.mix(line.as_bytes());
        if self.lines.len() >= KEPT_LINES {
            self.lines.drain(..KEPT_LINES / 2);
        }
        self.lines.push(line);
    }

    /// What is left of it at the end.
    pub fn report(&self, seed: u64, violations: Vec<String>) -> Report {
        Report {
            seed,
            hash: self.hash,
            violations,
            lines: self.lines.clone(),
        }
    }
}

/// How the history of one seed went.
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Over everything that happened.
    pub hash: u64,
    /// What broke; empty when everything held.
    pub violations: Vec<String>,
    /// What happened, oldest first, each with its time in seconds.
    pub lines: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.lines.len().saturating_sub(PRINTED_LINES);
        if left_out > 0 {
            writeln!(
                f,
                "({left_out} earlier lines are left out; --history prints all)"
            )?;
        }
        for line in &self.lines[left_out..] {
            writeln!(f, "{line}")?;
        }
        for violation in &self.violations {
            writeln!(f, "BROKEN: {violation}")?;
        }
        write!(
            f,
            "seed {} hash {:016x}; replay: cargo run --profile sim -p sim -- --seed {}",
            self.seed, self.hash, self.seed
        )
    }
}
