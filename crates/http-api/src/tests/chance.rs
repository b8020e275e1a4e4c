//! Chance that can be repeated: tests print the seed, and `SEED` in the environment sets it.

/// A small generator (xorshift64*), good enough to vary inputs.
pub struct Chance(u64);

impl Chance {
    /// Takes `SEED`, or the time, and prints it.
    pub fn from_environment() -> Self {
        let seed = match std::env::var("SEED") {
            Ok(text) => text.parse().expect("SEED is a number"),
            Err(_) => jiff::Timestamp::now().as_nanosecond() as u64,
        };
        println!("SEED={seed}");
        Self(seed | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Changes one to four places: bytes flipped, cut, doubled, or replaced by pieces that parsers stumble over.
    pub fn mutate(&mut self, bytes: &mut Vec<u8>) {
        const PIECES: &[&[u8]] = &[
            b"\"",
            b"\\",
            b"{",
            b"}",
            b"[",
            b"]",
            b":",
            b",",
            b"null",
            b"0",
            b"-",
            b"1e9",
            b"\0",
            b"\xff",
            b"%",
            b"=",
            b"&",
            b"\\u0000",
            b"/",
            b"..",
            b"\xf0\x9f\xa6\x80",
            b"99999999999999999999",
            b" ",
            b"label=",
            b"%zz",
        ];
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(8)).min(bytes.len());
            match self.below(4) {
                0 => bytes.splice(at..end, []).for_each(drop),
                1 => {
                    let piece = *self.pick(PIECES);
                    bytes.splice(at..end, piece.iter().copied()).for_each(drop);
                }
                2 => {
                    let copy = bytes[at..end].to_vec();
                    bytes.splice(at..at, copy).for_each(drop);
                }
                _ => {
                    let byte = self.below(256) as u8;
                    bytes.splice(at..end.min(at + 1), [byte]).for_each(drop);
                }
            }
        }
    }
}
