//! What is kept of a log while it is read: head and tail, the count of all bytes, and the place to read on from. Pure.
//!
//! A place is the time of the last line, as Kubernetes writes it before each line (not before each part of a long one), and what
//! was taken of lines with that time. Read on from there, the same bytes come again and are left out; where they do not come,
//! the node has rotated them away, and that is a gap.

use std::cmp::Ordering;
use std::collections::VecDeque;

use jiff::Timestamp;
use store::{FollowedLog, StoredLog};

/// How much of a log's beginning is kept, in bytes: 1 MiB, as the API promises.
pub const LOG_HEAD_LIMIT_BYTES: usize = 1 << 20;

/// How much of a log's end is kept, in bytes: 1 MiB, as the API promises.
pub const LOG_TAIL_LIMIT_BYTES: usize = 1 << 20;

/// A line's time has at most so many bytes: RFC 3339 with nanoseconds and an offset has 35.
const STAMP_LIMIT_BYTES: usize = 40;

/// The fewest bytes of such a time: whole seconds in UTC.
const STAMP_LEAST_BYTES: usize = 20;

/// What is lost in a gap counts as so many bytes, since nobody knows how many it were.
const GAP_BYTES: u64 = 1;

/// Keeps the first and the last bytes of a log, and counts them all. It takes memory only as it fills.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector {
    head: Vec<u8>,
    /// The head takes no more: it is full, or what follows it is lost.
    head_is_closed: bool,
    tail: VecDeque<u8>,
    bytes: u64,
}

impl Collector {
    /// As it was when it was stored.
    pub fn restored(stored: &FollowedLog) -> Self {
        Self {
            head: stored.head.clone(),
            head_is_closed: stored.head_is_closed,
            tail: stored.tail.clone().into(),
            bytes: stored.bytes,
        }
    }

    /// How many bytes there were so far, those that are not kept included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next bytes.
    pub fn push(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        let room = if self.head_is_closed {
            0
        } else {
            LOG_HEAD_LIMIT_BYTES - self.head.len()
        };
        let (first, rest) = chunk.split_at(room.min(chunk.len()));
        self.head.extend_from_slice(first);
        if rest.is_empty() {
            return;
        }
        self.head_is_closed = true;
        let rest = &rest[rest.len().saturating_sub(LOG_TAIL_LIMIT_BYTES)..];
        // Room is made first, so that the tail never needs more memory than its limit.
        let surplus = (self.tail.len() + rest.len()).saturating_sub(LOG_TAIL_LIMIT_BYTES);
        self.tail.drain(..surplus);
        self.tail.extend(rest);
    }

    /// Goes on behind something that nobody has. The tail begins anew: it never has a gap within.
    pub fn gap(&mut self) {
        self.head_is_closed = true;
        self.tail.clear();
        self.bytes += GAP_BYTES;
    }

    /// So many bytes came and are not kept.
    fn lose(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// What is kept so far.
    pub fn log(&self) -> StoredLog {
        let kept = (self.head.len() + self.tail.len()) as u64;
        let lost_bytes = self.bytes - kept;
        StoredLog {
            head: self.head.clone(),
            tail: self.tail.iter().copied().collect(),
            bytes: self.bytes,
            lost_bytes,
            complete: lost_bytes == 0,
        }
    }

    /// The same as it is stored to go on from.
    pub fn to_store(&self, pod: &str, pod_uid: &str, place: Option<&Place>) -> FollowedLog {
        FollowedLog {
            pod: pod.to_owned(),
            pod_uid: pod_uid.to_owned(),
            head: self.head.clone(),
            head_is_closed: self.head_is_closed,
            tail: self.tail.iter().copied().collect(),
            bytes: self.bytes,
            stamp: place.map(|place| place.stamp.clone()),
            stamp_bytes: place.map_or(0, |place| place.bytes),
            stamp_check: place.map_or(EMPTY_CHECK, |place| place.check),
        }
    }
}

/// Where a log was read to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The time of the last line, as it was written.
    stamp: String,
    /// How many bytes of lines with that time were taken.
    bytes: u64,
    /// Tells them from others.
    check: u64,
}

impl Place {
    /// As it was stored, if there was one.
    pub fn restored(stored: &FollowedLog) -> Option<Self> {
        Some(Self {
            stamp: stored.stamp.clone()?,
            bytes: stored.stamp_bytes,
            check: stored.stamp_check,
        })
    }

    /// From when on the log must be read to find it: the beginning of its second, since kubelets are asked for whole ones.
    pub fn since(&self) -> Option<Timestamp> {
        let at: Timestamp = self.stamp.parse().ok()?;
        // Down, on a node whose clock is before 1970 too.
        let second = at.as_nanosecond().div_euclid(NANOS_PER_SECOND);
        Timestamp::from_second(i64::try_from(second).ok()?).ok()
    }
}

/// Takes the times off the lines of one answer, and finds the place again where it goes on from one.
#[derive(Debug, Default)]
pub(crate) struct Stamped {
    /// What has come of the next line's time.
    stamp: Vec<u8>,
    is_within_line: bool,
    /// A line without a time: the rest of one that began before what was asked for, or words of the node's own.
    is_strange: bool,
    was_strange: bool,
    /// A line with a time has come.
    has_lines: bool,
    /// Where this answer is, or the one before it was.
    place: Option<Place>,
    sought: Option<Sought>,
}

#[derive(Debug)]
struct Sought {
    place: Place,
    is_found: bool,
    /// How many bytes with its time have come, and their check.
    passed: u64,
    check: u64,
    /// Whether the line that comes has its time.
    is_at: bool,
}

impl Stamped {
    /// Reads an answer from the place on, or from its beginning.
    pub fn from(place: Option<Place>) -> Self {
        let sought = place.clone().map(|place| Sought {
            place,
            is_found: false,
            passed: 0,
            check: EMPTY_CHECK,
            is_at: false,
        });
        Self {
            place,
            sought,
            ..Self::default()
        }
    }

    /// Where to go on from.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether the place to go on from has not come again yet, nor anything after it.
    pub fn is_seeking(&self) -> bool {
        self.sought.as_ref().is_some_and(|sought| !sought.is_found)
    }

    /// Whether any line of a log came at all: a node that has none left answers with nothing, or with words of its own.
    pub fn has_lines(&self) -> bool {
        self.has_lines
    }

    /// Whether there was text that was no line of the log: then its end is not the log's.
    pub fn was_strange(&self) -> bool {
        self.was_strange
    }

    /// Takes the next bytes of the answer. Answers whether there was a gap before something of it.
    pub fn push(&mut self, mut chunk: &[u8], collector: &mut Collector) -> bool {
        let mut gap = false;
        while !chunk.is_empty() {
            if !self.is_within_line {
                let (taken, whole) = self.take_stamp(chunk);
                chunk = &chunk[taken..];
                if !whole {
                    continue;
                }
                gap |= self.begin_line(collector);
            }
            let length = chunk.iter().position(|byte| *byte == b'\n');
            let length = length.map_or(chunk.len(), |at| at + 1);
            let (text, rest) = chunk.split_at(length);
            gap |= self.take(text, collector);
            self.is_within_line = text.last().is_none_or(|last| *last != b'\n');
            chunk = rest;
        }
        gap
    }

    /// Takes bytes up to the blank after the time; or, of what is no time, nothing more than shows that.
    fn take_stamp(&mut self, chunk: &[u8]) -> (usize, bool) {
        let room = STAMP_LIMIT_BYTES + 1 - self.stamp.len();
        let chunk = &chunk[..room.min(chunk.len())];
        let end = chunk.iter().position(|byte| matches!(byte, b' ' | b'\n'));
        self.stamp
            .extend_from_slice(&chunk[..end.unwrap_or(chunk.len())]);
        match end {
            Some(at) if chunk[at] == b' ' => {
                self.is_strange = !looks_like_time(&self.stamp);
                (at + 1, true)
            }
            Some(at) => {
                self.is_strange = true;
                (at, true)
            }
            None => {
                let is_too_long = chunk.len() == room;
                self.is_strange |= is_too_long;
                (chunk.len(), is_too_long)
            }
        }
    }

    /// The time of a line has come. Answers whether there is a gap before it.
    fn begin_line(&mut self, collector: &mut Collector) -> bool {
        self.is_within_line = true;
        let stamp = std::mem::take(&mut self.stamp);
        if self.is_strange {
            // While the place is sought, it is the rest of a line from before it.
            self.was_strange |= !self.is_seeking();
            return false;
        }
        self.has_lines = true;
        let Some(sought) = &mut self.sought else {
            self.now_at(stamp);
            return false;
        };
        let mut gap = false;
        match order(&stamp, sought.place.stamp.as_bytes()) {
            Ordering::Equal => {
                sought.is_at = true;
                sought.is_found |= sought.place.bytes == 0;
            }
            Ordering::Less if sought.passed == 0 => sought.is_at = false,
            _ => {
                gap = !sought.is_found;
                if gap {
                    collector.gap();
                    collector.lose(sought.passed);
                }
                self.sought = None;
                self.now_at(stamp);
            }
        }
        gap
    }

    fn now_at(&mut self, stamp: Vec<u8>) {
        if let Some(place) = &self.place
            && place.stamp.as_bytes() == stamp
        {
            return;
        }
        // A time has nothing but ASCII.
        let stamp = String::from_utf8(stamp).unwrap_or_default();
        self.place = Some(Place {
            stamp,
            bytes: 0,
            check: EMPTY_CHECK,
        });
    }

    /// Takes text of a line, without what was taken before. Answers whether that is not there any more.
    fn take(&mut self, mut text: &[u8], collector: &mut Collector) -> bool {
        if self.is_strange {
            return false;
        }
        let mut gap = false;
        if let Some(sought) = self.sought.as_mut().filter(|sought| !sought.is_found) {
            if !sought.is_at {
                return false;
            }
            let again = sought.place.bytes - sought.passed;
            let again = usize::try_from(again).unwrap_or(usize::MAX).min(text.len());
            sought.check = checked(sought.check, &text[..again]);
            sought.passed += again as u64;
            text = &text[again..];
            if sought.passed == sought.place.bytes {
                sought.is_found = true;
                gap = sought.check != sought.place.check;
            }
            if gap {
                // Other lines of the same moment: what was passed over is new, and is lost now.
                collector.gap();
                collector.lose(sought.passed);
                if let Some(place) = &mut self.place {
                    place.check = sought.check;
                }
            }
        }
        if let Some(place) = &mut self.place {
            place.bytes += text.len() as u64;
            place.check = checked(place.check, text);
        }
        collector.push(text);
        gap
    }
}

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The check of no bytes.
const EMPTY_CHECK: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits, of some more bytes: it guards against chance, not against people.
fn checked(check: u64, bytes: &[u8]) -> u64 {
    let add = |check: u64, byte: &u8| (check ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(check, add)
}

/// Whether it begins as a time of RFC 3339 does: a text that a script wrote seldom stands where Kubernetes writes the time.
fn looks_like_time(stamp: &[u8]) -> bool {
    stamp.len() >= STAMP_LEAST_BYTES
        && stamp[..4].iter().all(u8::is_ascii_digit)
        && (stamp[4], stamp[10]) == (b'-', b'T')
        && stamp.is_ascii()
}

/// Which of two times comes first. The text tells where both have the same form; a node's summer time may change that.
fn order(one: &[u8], other: &[u8]) -> Ordering {
    if one.len() == other.len() && (one.last(), other.last()) == (Some(&b'Z'), Some(&b'Z')) {
        return one.cmp(other);
    }
    let time =
        |stamp: &[u8]| -> Option<Timestamp> { std::str::from_utf8(stamp).ok()?.parse().ok() };
    time(one).cmp(&time(other))
}

#[cfg(test)]
#[path = "collector_tests.rs"]
mod tests;
