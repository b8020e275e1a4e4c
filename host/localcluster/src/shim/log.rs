//! The output file and the index of when its pieces were written.
//!
//! `log` holds the bytes as they came. `log.index` holds one record of 16 bytes for each piece: its offset and its time in
//! nanoseconds since the epoch, both little-endian. A byte's time is its piece's plus a nanosecond for each byte before it in
//! the piece, so times never decrease and no two bytes share one.
//!
//! A carriage return just before a line feed is left out, as containerd does when it turns output into lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::Timestamp;

use crate::logs::byte_time;

const RECORD_BYTES: usize = 16;

/// Appends output.
pub struct LogWriter {
    log: File,
    index: File,
    offset: u64,
    last: i128,
    /// A carriage return that came last: whether it is kept is told by the next byte.
    pending_return: bool,
}

impl LogWriter {
    /// Creates both files.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let open = |name: &str| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(folder.join(name))
        };
        Ok(Self {
            index: open("log.index")?,
            log: open("log")?,
            offset: 0,
            last: 0,
            pending_return: false,
        })
    }

    /// Appends one piece.
    pub fn append(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        let mut kept = Vec::with_capacity(bytes.len() + 1);
        for &byte in bytes {
            if self.pending_return && byte != b'\n' {
                kept.push(b'\r');
            }
            self.pending_return = byte == b'\r';
            if !self.pending_return {
                kept.push(byte);
            }
        }
        self.write(&kept, now)
    }

    /// Writes what was held back; the output is over.
    pub fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        let held: &[u8] = if self.pending_return { b"\r" } else { b"" };
        self.pending_return = false;
        self.write(held, now)
    }

    fn write(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let time = now.as_nanosecond().max(self.last);
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&self.offset.to_le_bytes());
        record[8..].copy_from_slice(&i64::try_from(time).unwrap_or(i64::MAX).to_le_bytes());
        // The index goes first: a reader that sees the bytes must find their time.
        self.index.write_all(&record)?;
        self.log.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        self.last = time + bytes.len() as i128;
        Ok(())
    }
}

/// Reads the index.
pub struct LogIndex {
    file: File,
}

impl LogIndex {
    /// Opens the index of a container's folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(folder.join("log.index"))?,
        })
    }

    fn record(&self, number: u64) -> io::Result<(u64, i64)> {
        let mut record = [0; RECORD_BYTES];
        self.file
            .read_exact_at(&mut record, number * RECORD_BYTES as u64)?;
        let (mut offset, mut time) = ([0; 8], [0; 8]);
        offset.copy_from_slice(&record[..8]);
        time.copy_from_slice(&record[8..]);
        Ok((u64::from_le_bytes(offset), i64::from_le_bytes(time)))
    }

    /// When the byte at `offset` was written.
    pub fn written_at(&self, offset: u64) -> io::Result<Timestamp> {
        let count = self.file.metadata()?.len() / RECORD_BYTES as u64;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.record(middle)?.0 <= offset {
                low = middle + 1
            } else {
                high = middle
            }
        }
        if low == 0 {
            return Ok(Timestamp::UNIX_EPOCH);
        }
        let (start, time) = self.record(low - 1)?;
        let piece = Timestamp::from_nanosecond(i128::from(time)).unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(byte_time(piece, offset - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_before_a_line_feed_is_left_out_however_the_pieces_are_cut() {
        let all = b"a\r\nb\rc\r\r\n\nd\r";
        for cut in 0..=all.len() {
            let folder = tempfile::tempdir().expect("folder");
            let mut writer = LogWriter::create(folder.path()).expect("create");
            let now = Timestamp::UNIX_EPOCH;
            writer.append(&all[..cut], now).expect("append");
            writer.append(&all[cut..], now).expect("append");
            writer.finish(now).expect("finish");
            let log = std::fs::read(folder.path().join("log")).expect("log");
            assert_eq!(log, b"a\nb\rc\r\n\nd\r", "cut at {cut}");
        }
    }

    #[test]
    fn times_never_decrease_and_never_repeat() {
        let folder = tempfile::tempdir().expect("folder");
        let mut writer = LogWriter::create(folder.path()).expect("create");
        let at = |ns| Timestamp::from_nanosecond(ns).expect("small");
        writer.append(b"abc", at(100)).expect("append");
        writer.append(b"de", at(90)).expect("a clock may step back");
        writer.append(b"f", at(500)).expect("append");
        let index = LogIndex::open(folder.path()).expect("open");
        let times: Vec<i128> = (0..6)
            .map(|o| index.written_at(o).expect("time").as_nanosecond())
            .collect();
        assert_eq!(times, [100, 101, 102, 103, 104, 500]);
    }
}
