//! What a target makes of its bytes: some choices first, the text that is read, and where it is cut.

/// The choices at the beginning of an input: they end at the first line feed, and what is not there is 0. So inputs can be
/// written and read by people.
pub struct Choices<'a>(std::slice::Iter<'a, u8>);

/// The choices of an input, and the rest of it.
pub fn split(data: &[u8]) -> (Choices<'_>, &[u8]) {
    let (choices, rest) = line(data);
    (Choices(choices.iter()), rest)
}

/// The first line, without its end, and what comes behind it.
pub fn line(data: &[u8]) -> (&[u8], &[u8]) {
    match data.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[]),
    }
}

impl Choices<'_> {
    /// The next choice.
    pub fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// A number below `limit`: digits choose what they say, other characters what is left of their code.
    pub fn below(&mut self, limit: usize) -> usize {
        let byte = self.byte();
        let number = match byte {
            b'0'..=b'9' => byte - b'0',
            other => other,
        };
        usize::from(number) % limit
    }

    /// Cuts bytes into pieces whose lengths go by the choices that are left, again and again; with none left, into two.
    pub fn cut<'d>(&self, data: &'d [u8]) -> Vec<&'d [u8]> {
        let lengths: Vec<usize> = self.0.clone().map(|byte| usize::from(*byte)).collect();
        let mut pieces = Vec::new();
        let mut rest = data;
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let length = lengths.next().copied().unwrap_or(data.len() / 2);
            // An empty piece now and then is allowed, but the end must come.
            let (piece, left) = rest.split_at(length.max(1).min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        pieces
    }
}
