//! Random identifiers from one injected seed, so that a simulation repeats exactly.

/// SplitMix64: small, fast and good enough for names and UIDs.
#[derive(Debug)]
pub struct Ids {
    state: u64,
}

/// The letters the real API server draws name suffixes from: no vowels and nothing that looks like another.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

impl Ids {
    /// A sequence that depends on `seed` alone.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number; simulations draw their chance from here.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Five characters, as generated names end.
    pub fn suffix(&mut self) -> String {
        (0..5)
            .map(|_| SUFFIX_LETTERS[(self.number() % SUFFIX_LETTERS.len() as u64) as usize] as char)
            .collect()
    }

    /// Sixteen hexadecimal digits, as event names end.
    pub fn hex(&mut self) -> String {
        format!("{:016x}", self.number())
    }

    /// A version 4 UUID.
    pub fn uuid(&mut self) -> String {
        let high = (self.number() & 0xffff_ffff_ffff_0fff) | 0x4000;
        let low = (self.number() & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000;
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }
}
