//! Chance that repeats: everything random in a history comes from its seed, in the order in which it is asked for.

use localcluster::ids::Ids;

/// A sequence of draws that depends on the seed alone.
pub struct Chance {
    ids: Ids,
}

impl Chance {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Self {
            ids: Ids::new(seed),
        }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.ids.number()
    }

    /// A number from 0 to one less than `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// A number between the two, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.number() % (high - low + 1).max(1) as u64) as i64
    }

    /// True so many times in a thousand.
    pub fn per_mille(&mut self, rate: u32) -> bool {
        // Nothing is drawn for what is switched off, so that a rate can be read from a history at a glance.
        rate > 0 && self.number() % 1000 < u64::from(rate)
    }

    /// One of them; there is at least one.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}
