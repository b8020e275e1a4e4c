//! What nodes send of logs: lines with times, as ticks follow them through answers that break off; and lines as callers follow them.

use std::str::FromStr;

use app::fuzzing::{Followed, LOG_HEAD_LIMIT_BYTES, LOG_TAIL_LIMIT_BYTES, live, stored};
use app::{LogNews, Place, StoredLog};
use jiff::Timestamp;

use crate::input;

/// A log with times, as a node answers with it: the first character says where the answer breaks off, the others where it is cut. What is
/// kept is the same however it is cut; what is counted is what is kept and what is lost; and whoever reads on where
/// it broke off has it all, once.
pub fn followed(data: &[u8]) {
    let (mut choices, answer) = input::split(data);
    let at = usize::from(choices.byte()) * answer.len() / 256;
    let whole = read(Followed::default(), &[answer]);
    let cut = read(Followed::default(), &choices.cut(answer));
    assert_eq!(whole.log(), cut.log(), "the cut matters");
    check_kept(&whole.log(), answer);
    assert_eq!(whole.since(), cut.since());

    let first = read(Followed::default(), &[&answer[..at]]);
    let asked = first.since();
    let second = read(first.handed_on(), &[&since(answer, asked)]);
    check_sum(&second.log());
    if is_of_a_node(answer) {
        assert_eq!(second.log(), whole.log(), "broken off at {at}");
        // Nothing of it is there any more: what comes then is behind a gap, and what was kept stays.
        let third = read(first.handed_on(), &[LATER]);
        check_sum(&third.log());
        let is_later = asked.is_none_or(|asked| asked.to_string().as_str() < "2099");
        assert!(!is_later || third.log().bytes >= first.log().bytes + 6);
    }
}

/// A line from when everything else is rotated away.
const LATER: &[u8] = b"2099-01-01T00:00:00.000000001Z later\n";

fn read(mut followed: Followed, pieces: &[&[u8]]) -> Followed {
    for piece in pieces {
        followed.push(piece);
    }
    followed
}

#[track_caller]
fn check_sum(log: &StoredLog) {
    let kept = (log.head.len() + log.tail.len()) as u64;
    assert_eq!(log.bytes, kept + log.lost_bytes);
    assert_eq!(log.complete, log.lost_bytes == 0);
    assert!(log.head.len() <= LOG_HEAD_LIMIT_BYTES && log.tail.len() <= LOG_TAIL_LIMIT_BYTES);
}

/// Of one answer nothing is made up: no more is counted than came.
fn check_kept(log: &StoredLog, answer: &[u8]) {
    check_sum(log);
    assert!(log.bytes <= answer.len() as u64 && log.complete);
}

/// Whether a node may have answered so: each line has a time of the one form, and none is earlier than the one before it.
fn is_of_a_node(answer: &[u8]) -> bool {
    let mut last = Vec::new();
    answer.split_inclusive(|byte| *byte == b'\n').all(|line| {
        let Some(stamp) = stamp(line) else {
            return false;
        };
        let in_order = last <= stamp;
        last = stamp;
        in_order
    })
}

/// The time before a line, where it is one as containerd writes it in UTC.
fn stamp(line: &[u8]) -> Option<Vec<u8>> {
    let end = line.iter().position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&line[..end]).ok()?;
    let time = Timestamp::from_str(text).ok()?;
    let is_of_form = text.starts_with(|c: char| c.is_ascii_digit()) && format!("{time:.9}") == text;
    is_of_form.then(|| text.as_bytes().to_vec())
}

/// What a node answers when it is asked for the lines from that second on.
fn since(answer: &[u8], from: Option<Timestamp>) -> Vec<u8> {
    let lines = answer.split_inclusive(|byte| *byte == b'\n');
    let is_asked_for = |line: &&[u8]| {
        let time = stamp(line).and_then(|stamp| String::from_utf8(stamp).ok());
        let time = time.and_then(|text| Timestamp::from_str(&text).ok());
        from.is_none_or(|from| time.is_none_or(|time| time >= from))
    };
    lines.filter(is_asked_for).collect::<Vec<_>>().concat()
}

/// From so many places of a log it is gone on at most.
const MAX_PLACES: usize = 6;

/// A log as lines, live and stored: the first two characters say where the stored one was left out of, the others where the live one is cut,
/// and what stands before the second line feed is a place to go on from, as a caller gives it.
pub fn lines(data: &[u8]) {
    let (mut choices, rest) = input::split(data);
    let (given, log) = input::line(rest);
    let (one, other) = (choices.byte(), choices.byte());
    let all = live(&[log], Place::START).expect("the beginning is of every log");
    let cut = live(&choices.cut(log), Place::START).expect("the beginning is of every log");
    assert_eq!(all, cut, "the cut matters");
    assert_eq!(joined(&all), log);

    let at = |choice: u8| usize::from(choice) * log.len() / 255;
    let (from, to) = (at(one).min(at(other)), at(one).max(at(other)));
    let whole = kept(&log[..from], 0, &log[from..]);
    let parts = kept(&log[..from], (to - from) as u64, &log[to..]);
    assert_eq!(stored(whole.clone(), Place::START), Some(all.clone()));
    // Some of the places: from each of them all that follows is read three times.
    let step = all.len().div_ceil(MAX_PLACES).max(1);
    for (index, news) in all.iter().enumerate().step_by(step) {
        let place = news.place();
        assert_eq!(place.to_string().parse(), Ok(place));
        let rest = &all[index + 1..];
        assert_eq!(live(&[log], place).as_deref(), Some(rest));
        assert_eq!(stored(whole.clone(), place).as_deref(), Some(rest));
        let rest = stored(parts.clone(), place).expect("it was read live from this log");
        let end = rest.last().map_or(place, LogNews::place);
        assert_eq!(end.offset, log.len() as u64, "it goes on to the end");
    }
    if let Some(Ok(place)) = std::str::from_utf8(given).ok().map(Place::from_str) {
        assert_eq!(
            place.to_string().as_bytes(),
            given,
            "a place has one spelling"
        );
        let _ = live(&choices.cut(log), place);
        for log in [whole, parts] {
            if let Some(news) = stored(log, place) {
                let offsets = news.iter().map(|news| news.place().offset);
                assert!(offsets.clone().all(|offset| offset > place.offset));
                assert!(offsets.is_sorted());
            }
        }
    }
}

fn kept(head: &[u8], lost_bytes: u64, tail: &[u8]) -> StoredLog {
    StoredLog {
        head: head.to_vec(),
        tail: tail.to_vec(),
        bytes: (head.len() + tail.len()) as u64 + lost_bytes,
        lost_bytes,
        complete: lost_bytes == 0,
    }
}

/// The bytes of all lines. One without a line feed at its end is the last.
fn joined(news: &[LogNews]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for one in news {
        let LogNews::Line {
            bytes: line, place, ..
        } = one
        else {
            panic!("{one:?} of a whole log");
        };
        bytes.extend_from_slice(line);
        if place.offset == bytes.len() as u64 + 1 {
            bytes.push(b'\n');
        }
    }
    bytes
}
