//! Container output as the log API serves it: exact bytes, tail, since, limit, timestamps, follow.
//!
//! The output is cut into segments as containerd cuts it: at each newline, and after 16 KiB without one. A segment shows once
//! it is complete (or the container ended), has the time of its last byte, and is what `tailLines` counts. A timestamp is
//! printed before each line's first segment.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::clock;

/// Bytes of a line without a newline after which it is shown anyway (containerd's `max_container_log_line_size`).
const SEGMENT_BYTES: u64 = 16 * 1024;

/// Bytes read at a time; bounds the memory of one reader.
const READ_BYTES: usize = 256 * 1024;

/// The stored output of one container.
pub trait LogSource: Send + Sync {
    /// Bytes stored so far, and whether that is all there will ever be. Asked in this order: ended first, then the length.
    fn length(&self) -> io::Result<(u64, bool)>;
    /// Reads at an offset into the buffer; answers how many bytes.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// When the byte at this offset was written; never decreasing, and different for different offsets.
    fn written_at(&self, offset: u64) -> io::Result<Timestamp>;
    /// Asks to be woken when more is written; dropping the answer ends that.
    fn follow(&self) -> Option<Box<dyn Send + Sync>>;
    /// Where, about, the newest file begins of a log of that length: what is before it was rotated away. Who follows from
    /// before reads on all the same, as with kubelets since 1.30.
    fn newest(&self, _length: u64) -> u64 {
        0
    }
}

/// The query of one log request.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Keep the answer open until the container ended.
    pub follow: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// Prefix each line with its time.
    pub timestamps: bool,
}

/// One reader's place in a log.
pub struct LogCursor {
    source: Arc<dyn LogSource>,
    options: LogOptions,
    offset: u64,
    positioned: bool,
    line_start: bool,
    _guard: Option<Box<dyn Send + Sync>>,
}

/// What a reader gets next.
#[derive(Debug, PartialEq, Eq)]
pub enum LogPoll {
    /// More bytes.
    Data(Vec<u8>),
    /// Nothing now; wait to be woken.
    Wait,
    /// That was all.
    End,
}

impl LogCursor {
    /// Opens a reader.
    pub fn new(source: Arc<dyn LogSource>, options: LogOptions) -> Self {
        let guard = if options.follow {
            source.follow()
        } else {
            None
        };
        Self {
            source,
            options,
            offset: 0,
            positioned: false,
            line_start: true,
            _guard: guard,
        }
    }

    /// The next bytes, if there are any.
    pub fn poll(&mut self) -> io::Result<LogPoll> {
        let (length, ended) = self.source.length()?;
        if !self.positioned {
            self.position(length, ended)?;
            self.positioned = true;
        }
        if self.options.limit_bytes == Some(0) {
            return Ok(LogPoll::End);
        }
        let data = self.read_segments(length, ended)?;
        if !data.is_empty() {
            return Ok(LogPoll::Data(data));
        }
        Ok(if self.options.follow && !ended {
            LogPoll::Wait
        } else {
            LogPoll::End
        })
    }

    /// Reads whole segments from the current offset, up to one buffer.
    fn read_segments(&mut self, length: u64, ended: bool) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; READ_BYTES.min((length - self.offset.min(length)) as usize)];
        let count = read_fully(&*self.source, self.offset, &mut buffer)?;
        let at_end = ended && self.offset + count as u64 == length;
        let segments = cut(&buffer[..count], at_end);
        let end = segments.back().copied().unwrap_or(0);
        if !self.options.timestamps {
            buffer.truncate(end);
            self.offset += end as u64;
            self.limit(&mut buffer);
            return Ok(buffer);
        }
        let mut out = Vec::with_capacity(end + segments.len() * 36);
        let mut start = 0;
        for end in segments {
            if self.line_start {
                let time = self.source.written_at(self.offset + end as u64 - 1)?;
                out.extend_from_slice(clock::nanos(time).as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(&buffer[start..end]);
            self.line_start = buffer[end - 1] == b'\n';
            start = end;
        }
        self.offset += end as u64;
        self.limit(&mut out);
        Ok(out)
    }

    fn limit(&mut self, out: &mut Vec<u8>) {
        if let Some(left) = &mut self.options.limit_bytes {
            out.truncate(usize::try_from(*left).unwrap_or(usize::MAX).min(out.len()));
            *left -= out.len() as u64;
        }
    }

    /// Finds where the newest file begins, and in it `tailLines` and `since`.
    fn position(&mut self, length: u64, ended: bool) -> io::Result<()> {
        self.offset = self.newest_start(length)?;
        if let Some(lines) = self.options.tail_lines {
            self.offset = self.tail_start(self.offset, length, ended, lines)?;
        }
        if let Some(since) = self.options.since {
            let start = self.since_start(self.offset, length, ended, since)?;
            self.offset = self.offset.max(start);
        }
        self.line_start = true;
        Ok(())
    }

    /// Files change between lines.
    fn newest_start(&self, length: u64) -> io::Result<u64> {
        let mut offset = self.source.newest(length);
        let mut buffer = vec![0; if offset == 0 { 0 } else { READ_BYTES }];
        while (1..length).contains(&offset) {
            // A file that begins just behind a line feed is found too.
            let want = buffer.len().min((length - offset + 1) as usize);
            let count = read_fully(&*self.source, offset - 1, &mut buffer[..want])?;
            match memchr::memchr(b'\n', &buffer[..count]) {
                Some(at) => return Ok(offset + at as u64),
                None => offset += count as u64,
            }
        }
        Ok(offset.min(length))
    }

    fn tail_start(&self, from: u64, length: u64, ended: bool, lines: u64) -> io::Result<u64> {
        let mut starts: VecDeque<u64> = VecDeque::new();
        let mut end = from;
        self.each_segment(from, length, ended, &mut |start, stop| {
            starts.push_back(start);
            end = stop;
            if starts.len() as u64 > lines {
                starts.pop_front();
            }
            Ok(true)
        })?;
        Ok(starts.front().copied().unwrap_or(end))
    }

    fn since_start(
        &self,
        from: u64,
        length: u64,
        ended: bool,
        since: Timestamp,
    ) -> io::Result<u64> {
        // Times never decrease, so the first byte written since then is found by halving; its segment begins before it.
        let (mut low, mut high) = (from, length);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.source.written_at(middle)? < since {
                low = middle + 1
            } else {
                high = middle
            }
        }
        let mut result = length;
        self.each_segment(from, length, ended, &mut |start, stop| {
            result = if stop > low { start } else { stop };
            Ok(stop <= low)
        })?;
        Ok(result.min(length))
    }

    /// Calls back with each complete segment until it answers false.
    fn each_segment(
        &self,
        from: u64,
        length: u64,
        ended: bool,
        visit: &mut dyn FnMut(u64, u64) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut offset = from;
        let mut buffer = vec![0; READ_BYTES];
        while offset < length {
            let want = buffer.len().min((length - offset) as usize);
            let count = read_fully(&*self.source, offset, &mut buffer[..want])?;
            let segments = cut(&buffer[..count], ended && offset + count as u64 == length);
            let Some(last) = segments.back().copied() else {
                return Ok(());
            };
            let mut start = 0;
            for end in segments {
                if !visit(offset + start as u64, offset + end as u64)? {
                    return Ok(());
                }
                start = end;
            }
            offset += last as u64;
        }
        Ok(())
    }
}

/// The ends of the complete segments in this piece, which begins at a segment's start.
fn cut(bytes: &[u8], at_end: bool) -> VecDeque<usize> {
    let mut ends = VecDeque::new();
    let mut start = 0;
    let add_long = |start: &mut usize, end: usize, ends: &mut VecDeque<usize>| {
        while end - *start > SEGMENT_BYTES as usize {
            *start += SEGMENT_BYTES as usize;
            ends.push_back(*start);
        }
    };
    for newline in memchr::memchr_iter(b'\n', bytes) {
        add_long(&mut start, newline, &mut ends);
        start = newline + 1;
        ends.push_back(start);
    }
    add_long(&mut start, bytes.len(), &mut ends);
    if at_end && start < bytes.len() {
        ends.push_back(bytes.len());
    }
    ends
}

fn read_fully(source: &dyn LogSource, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match source.read_at(offset + done as u64, &mut buffer[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// The time of a byte, given when its piece was written and how far into the piece it is: a nanosecond a byte keeps times unique.
pub fn byte_time(piece: Timestamp, bytes_into: u64) -> Timestamp {
    piece
        .checked_add(SignedDuration::from_nanos(bytes_into as i64))
        .unwrap_or(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log in memory, one millisecond a byte.
    struct Memory(Vec<u8>, bool, u64);

    impl LogSource for Memory {
        fn length(&self) -> io::Result<(u64, bool)> {
            Ok((self.0.len() as u64, self.1))
        }
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            let rest = &self.0[(offset as usize).min(self.0.len())..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }
        fn written_at(&self, offset: u64) -> io::Result<Timestamp> {
            Ok(Timestamp::from_millisecond(offset as i64).expect("small"))
        }
        fn follow(&self) -> Option<Box<dyn Send + Sync>> {
            None
        }
        fn newest(&self, length: u64) -> u64 {
            self.2.min(length)
        }
    }

    #[test]
    fn only_the_newest_file_is_read() {
        for (newest, expected) in [
            (0, "aa\nbb\ncc"),
            (1, "bb\ncc"),
            (3, "bb\ncc"),
            (4, "cc"),
            (6, "cc"),
            (7, ""),
            (8, ""),
        ] {
            for tail_lines in [None, Some(9)] {
                let options = LogOptions {
                    tail_lines,
                    since: Timestamp::from_millisecond(1).ok(),
                    ..LogOptions::default()
                };
                let source = Memory(b"aa\nbb\ncc".to_vec(), true, newest);
                let mut cursor = LogCursor::new(Arc::new(source), options);
                let read = match cursor.poll().expect("poll") {
                    LogPoll::Data(data) => data,
                    _ => Vec::new(),
                };
                assert_eq!(String::from_utf8_lossy(&read), expected, "from {newest}");
            }
        }
    }

    fn read(bytes: &[u8], ended: bool, options: LogOptions) -> (Vec<u8>, LogPoll) {
        let mut cursor = LogCursor::new(Arc::new(Memory(bytes.to_vec(), ended, 0)), options);
        let mut all = Vec::new();
        loop {
            match cursor.poll().expect("poll") {
                LogPoll::Data(data) => all.extend(data),
                last => return (all, last),
            }
        }
    }

    fn check(bytes: &[u8], ended: bool, options: LogOptions, expected: &[u8]) {
        let (all, _) = read(bytes, ended, options.clone());
        assert_eq!(
            String::from_utf8_lossy(&all),
            String::from_utf8_lossy(expected),
            "{options:?}"
        );
    }

    #[test]
    fn exact_bytes_and_partial_lines() {
        check(b"a\nb\xff\nc", true, LogOptions::default(), b"a\nb\xff\nc");
        check(b"a\nb\xff\nc", false, LogOptions::default(), b"a\nb\xff\n");
        check(b"", true, LogOptions::default(), b"");
        let long = vec![b'x'; 40_000];
        check(&long, false, LogOptions::default(), &long[..32_768]);
        check(&long, true, LogOptions::default(), &long);
        let big: Vec<u8> = (0..300_000)
            .flat_map(|n: u32| format!("{n}\n").into_bytes())
            .collect();
        check(&big, true, LogOptions::default(), &big);
    }

    #[test]
    fn follow_waits_until_the_end() {
        let follow = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        assert_eq!(
            read(b"a\nb", false, follow.clone()),
            (b"a\n".to_vec(), LogPoll::Wait)
        );
        assert_eq!(
            read(b"a\nb", true, follow),
            (b"a\nb".to_vec(), LogPoll::End)
        );
    }

    #[test]
    fn tail_limit_since() {
        let tail = |n| LogOptions {
            tail_lines: Some(n),
            ..LogOptions::default()
        };
        check(b"a\nb\nc", true, tail(2), b"b\nc");
        check(b"a\nb\nc", true, tail(0), b"");
        check(b"a\nb\nc\n", true, tail(9), b"a\nb\nc\n");
        check(
            b"a\nb\nc",
            true,
            LogOptions {
                limit_bytes: Some(3),
                ..LogOptions::default()
            },
            b"a\nb",
        );
        let since = |ms| LogOptions {
            since: Timestamp::from_millisecond(ms).ok(),
            ..LogOptions::default()
        };
        check(b"a\nb\nc\n", true, since(0), b"a\nb\nc\n");
        check(b"a\nb\nc\n", true, since(1), b"a\nb\nc\n");
        check(b"a\nb\nc\n", true, since(2), b"b\nc\n");
        check(b"a\nb\nc\n", true, since(99), b"");
    }

    #[test]
    fn timestamps_once_a_line() {
        let options = LogOptions {
            timestamps: true,
            ..LogOptions::default()
        };
        check(
            b"a\nb",
            true,
            options,
            b"1970-01-01T00:00:00.001000000Z a\n1970-01-01T00:00:00.002000000Z b",
        );
    }
}
