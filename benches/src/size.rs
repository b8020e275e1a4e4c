//! How much is measured: in full for the documentation, quickly for a look, and tiny to see that the harness works.

use std::time::Duration;

use clap::ValueEnum;

/// The sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Size {
    /// As in docs/PERFORMANCE.md: about an hour in all.
    Full,
    /// Some minutes in all.
    Quick,
    /// Some seconds in all; the figures mean nothing.
    Tiny,
}

impl Size {
    /// One of the three.
    pub fn pick<T>(self, full: T, quick: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Tiny => tiny,
        }
    }

    /// Rounds in which the sides of a ratio take turns: an odd number has a median of its own.
    pub fn rounds(self) -> usize {
        self.pick(7, 3, 1)
    }

    /// How long one side calls in one round.
    pub fn turn(self) -> Duration {
        self.pick(
            Duration::from_secs(4),
            Duration::from_secs(1),
            Duration::from_millis(100),
        )
    }

    /// Its name in the JSON.
    pub fn name(self) -> &'static str {
        self.pick("full", "quick", "tiny")
    }
}
