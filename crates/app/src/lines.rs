//! A log as lines with places to go on from. Pure: bytes in, lines out.
//!
//! A place is an offset in bytes from the log's beginning, with a check of what stands before it. So it means the same in
//! the live log and in the stored one, and is recognized as meaningless where the log is not the one it was given for:
//! the kubelet rotates logs, and then the beginning is another.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use bytes::{Buf, Bytes, BytesMut};
use store::StoredLog;

/// A longer line is given in parts of about so many bytes, so that no reader needs room for a whole log.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// So many bytes before a place are checked, whatever lines they are of: enough that two places seldom look alike.
const CHECKED_BYTES: usize = 32;

/// The longest form of a place: the largest offset, a hyphen, and the check.
const MAX_PLACE_CHARS: usize = 20 + 1 + 8;

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many bytes of the log are before it.
    pub offset: u64,
    /// Tells the bytes just before it from others.
    check: u32,
}

impl Place {
    /// The beginning of every log.
    pub const START: Self = Self {
        offset: 0,
        check: Checked::EMPTY.hash(),
    };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:08x}", self.offset, self.check)
    }
}

/// The text is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no place in a log")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    /// Takes what `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (offset, check) = text.split_once('-').ok_or(NoPlace)?;
        let place = Self {
            offset: offset.parse().map_err(|_| NoPlace)?,
            check: u32::from_str_radix(check, 16).map_err(|_| NoPlace)?,
        };
        if text.len() <= MAX_PLACE_CHARS && place.to_string() == text {
            Ok(place)
        } else {
            Err(NoPlace)
        }
    }
}

/// The last bytes before a place.
#[derive(Clone, Copy, Debug)]
struct Checked {
    bytes: [u8; CHECKED_BYTES],
    length: usize,
}

impl Checked {
    const EMPTY: Self = Self {
        bytes: [0; CHECKED_BYTES],
        length: 0,
    };

    fn of(bytes: &[u8]) -> Self {
        let mut checked = Self::EMPTY;
        checked.push(bytes);
        checked
    }

    fn push(&mut self, bytes: &[u8]) {
        let new = &bytes[bytes.len().saturating_sub(CHECKED_BYTES)..];
        let kept = self.length.min(CHECKED_BYTES - new.len());
        self.bytes.copy_within(self.length - kept..self.length, 0);
        self.bytes[kept..kept + new.len()].copy_from_slice(new);
        self.length = kept + new.len();
    }

    /// FNV-1a, 32 bits: it guards against mistakes, not against people, who could only hurt their own reading.
    const fn hash(&self) -> u32 {
        let mut hash = 0x811c_9dc5_u32;
        let mut index = 0;
        while index < self.length {
            hash = (hash ^ self.bytes[index] as u32).wrapping_mul(0x0100_0193);
            index += 1;
        }
        hash
    }
}

/// Something of a log, in its order, with the place after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogNews {
    /// A line without its line feed.
    Line {
        /// Its bytes.
        bytes: Bytes,
        /// Whether the line goes on in the next one, since it is longer than [`MAX_LINE_BYTES`].
        goes_on: bool,
        /// Where it ends.
        place: Place,
    },
    /// Bytes that are not kept.
    Lost {
        /// How many.
        bytes: u64,
        /// Where the log goes on.
        place: Place,
    },
    /// The place to go on from cannot be found again: the log is given from the beginning of what there is of it. So
    /// lines may come twice, or be missing, and the places after it count from there.
    Gap,
}

impl LogNews {
    /// Where the reader goes on after it.
    pub const fn place(&self) -> Place {
        match self {
            Self::Line { place, .. } | Self::Lost { place, .. } => *place,
            Self::Gap => Place::START,
        }
    }
}

/// What was read is not the log that the place was given for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

/// Cuts what is read from the beginning of a log into lines, from a place on.
#[derive(Debug)]
pub(crate) struct LineReader {
    from: Place,
    /// Where `held` begins, or up to where has been passed over.
    offset: u64,
    before: Checked,
    held: BytesMut,
}

impl LineReader {
    /// Reads a log from its beginning, and gives the lines after the place.
    pub fn new(from: Place) -> Self {
        Self {
            from,
            offset: 0,
            before: Checked::EMPTY,
            held: BytesMut::new(),
        }
    }

    /// Whether the place is still ahead.
    pub fn is_before(&self) -> bool {
        self.offset < self.from.offset
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the place is reached and something else is before it.
    pub fn push(&mut self, mut bytes: Bytes) -> Result<(), Unknown> {
        if self.is_before() {
            let left = usize::try_from(self.from.offset - self.offset).unwrap_or(usize::MAX);
            let passed = bytes.split_to(left.min(bytes.len()));
            self.pass(&passed);
            if !self.is_before() && self.before.hash() != self.from.check {
                return Err(Unknown);
            }
        }
        self.held.extend_from_slice(&bytes);
        Ok(())
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.before.push(bytes);
        self.offset += bytes.len() as u64;
    }

    fn take(&mut self, length: usize, line_feed: usize, goes_on: bool) -> LogNews {
        let bytes = self.held.split_to(length + line_feed).freeze();
        self.pass(&bytes);
        LogNews::Line {
            bytes: bytes.slice(..length),
            goes_on,
            place: self.place(),
        }
    }

    fn place(&self) -> Place {
        Place {
            offset: self.offset,
            check: self.before.hash(),
        }
    }

    /// The next line that is whole, or the next part of one that is too long.
    pub fn line(&mut self) -> Option<LogNews> {
        let seen = self.held.len().min(MAX_LINE_BYTES + 1);
        if let Some(length) = self.held[..seen].iter().position(|byte| *byte == b'\n') {
            return Some(self.take(length, 1, false));
        }
        let part = (seen > MAX_LINE_BYTES).then(|| part_length(&self.held))?;
        Some(self.take(part, 0, true))
    }

    /// What is left at the end of the log: a line without a line feed.
    pub fn rest(&mut self) -> Option<LogNews> {
        let length = self.held.len();
        (length > 0).then(|| self.take(length, 0, false))
    }

    /// Goes on behind bytes that nobody has.
    fn lose(&mut self, bytes: u64) -> LogNews {
        self.offset += bytes;
        self.before = Checked::EMPTY;
        let place = self.place();
        LogNews::Lost { bytes, place }
    }
}

/// Where a line that is too long is cut: not within a character, if it is UTF-8.
fn part_length(line: &[u8]) -> usize {
    let continues = |at: usize| line[at] & 0b1100_0000 == 0b1000_0000;
    let cuts = MAX_LINE_BYTES - 3..=MAX_LINE_BYTES;
    cuts.rev()
        .find(|at| !continues(*at))
        .unwrap_or(MAX_LINE_BYTES)
}

/// A stored log as lines, from a place on.
#[derive(Debug)]
pub(crate) struct StoredReader {
    pieces: VecDeque<Piece>,
    lines: LineReader,
}

#[derive(Debug)]
enum Piece {
    Kept(Bytes),
    Lost(u64),
}

impl StoredReader {
    /// The lines after the place.
    ///
    /// # Errors
    /// When the place was surely not given for this log.
    pub fn new(log: StoredLog, from: Place) -> Result<Self, Unknown> {
        let (mut head, mut tail) = (Bytes::from(log.head), Bytes::from(log.tail));
        if log.lost_bytes == 0 && !tail.is_empty() {
            head = [head, tail].concat().into();
            tail = Bytes::new();
        }
        let head_bytes = head.len() as u64;
        let tail_at = head_bytes + log.lost_bytes;
        let end = tail_at + tail.len() as u64;
        let mut lines = LineReader::new(from);
        lines.offset = from.offset;
        let mut pieces = VecDeque::new();
        if from.offset > end {
            return Err(Unknown);
        } else if from.offset > tail_at {
            let before = tail.split_to((from.offset - tail_at) as usize);
            // Fewer bytes than were checked say nothing: those before them are lost.
            if before.len() >= CHECKED_BYTES && Checked::of(&before).hash() != from.check {
                return Err(Unknown);
            }
            lines.before = Checked::of(&before);
        } else if from.offset > head_bytes || (from.offset == tail_at && log.lost_bytes > 0) {
            if from.offset < tail_at {
                pieces.push_back(Piece::Lost(tail_at - from.offset));
            }
        } else {
            let before = head.split_to(from.offset as usize);
            if Checked::of(&before).hash() != from.check {
                return Err(Unknown);
            }
            lines.before = Checked::of(&before);
            pieces.push_back(Piece::Kept(head));
            if log.lost_bytes > 0 {
                pieces.push_back(Piece::Lost(log.lost_bytes));
            }
        }
        pieces.push_back(Piece::Kept(tail));
        Ok(Self { pieces, lines })
    }

    /// What a live log left behind when it ended: at most a line without a line feed.
    pub fn rest_of(lines: LineReader) -> Self {
        let pieces = VecDeque::new();
        Self { pieces, lines }
    }

    /// Where the next line begins.
    pub fn place(&self) -> Place {
        self.lines.place()
    }
}

impl Iterator for StoredReader {
    type Item = LogNews;

    fn next(&mut self) -> Option<LogNews> {
        loop {
            if let Some(line) = self.lines.line() {
                return Some(line);
            }
            match self.pieces.front_mut() {
                Some(Piece::Kept(bytes)) => {
                    // A few lines' worth at once, since what is taken is copied.
                    let some = bytes.len().min(2 * MAX_LINE_BYTES);
                    self.lines.held.extend_from_slice(&bytes[..some]);
                    bytes.advance(some);
                    if bytes.is_empty() {
                        self.pieces.pop_front();
                    }
                }
                Some(Piece::Lost(lost)) => {
                    if let Some(rest) = self.lines.rest() {
                        return Some(rest);
                    }
                    let lost = *lost;
                    self.pieces.pop_front();
                    return Some(self.lines.lose(lost));
                }
                None => return self.lines.rest(),
            }
        }
    }
}

#[cfg(test)]
#[path = "lines_tests.rs"]
mod tests;
