//! Lines and places of live and stored logs.

use super::*;

fn line(text: &str, goes_on: bool, place: Place) -> LogNews {
    LogNews::Line {
        bytes: Bytes::copy_from_slice(text.as_bytes()),
        goes_on,
        place,
    }
}

fn place(log: &[u8], offset: usize) -> Place {
    Place {
        offset: offset as u64,
        check: Checked::of(&log[..offset]).hash(),
    }
}

fn stored(head: &[u8], lost: u64, tail: &[u8]) -> StoredLog {
    StoredLog {
        head: head.to_vec(),
        tail: tail.to_vec(),
        bytes: (head.len() + tail.len()) as u64 + lost,
        lost_bytes: lost,
        complete: lost == 0,
    }
}

fn read_stored(log: &StoredLog, from: Place) -> Vec<LogNews> {
    let reader = StoredReader::new(log.clone(), from);
    reader.expect("a place of this log").collect()
}

/// All lines of a live log that comes in pieces of that size and ends.
fn read_live(log: &[u8], from: Place, step: usize) -> Vec<LogNews> {
    let mut reader = LineReader::new(from);
    let mut news = Vec::new();
    for piece in log.chunks(step) {
        let pushed = reader.push(Bytes::copy_from_slice(piece));
        pushed.expect("a place of this log");
        news.extend(std::iter::from_fn(|| reader.line()));
    }
    news.extend(reader.rest());
    news
}

#[test]
fn lines_end_at_line_feeds_and_keep_all_else() {
    let log = "a\r\n\nb\rc\nlast".as_bytes();
    let expected = [
        line("a\r", false, place(log, 3)),
        line("", false, place(log, 4)),
        line("b\rc", false, place(log, 8)),
        line("last", false, place(log, 12)),
    ];
    for step in 1..=log.len() {
        assert_eq!(read_live(log, Place::START, step), expected);
    }
    assert_eq!(read_stored(&stored(log, 0, b""), Place::START), expected);
    assert_eq!(read_live(b"", Place::START, 1), []);
}

#[test]
fn a_long_line_comes_in_parts_that_cut_no_character() {
    let mut log = "é".repeat(MAX_LINE_BYTES).into_bytes();
    log.insert(0, b'x');
    log.extend_from_slice(b"\nend");
    let live = read_live(&log, Place::START, 999);
    assert_eq!(live, read_stored(&stored(&log, 0, b""), Place::START));
    assert_eq!(live.len(), 4);
    let mut joined = Vec::new();
    for (index, news) in live.iter().enumerate() {
        let LogNews::Line { bytes, goes_on, .. } = news else {
            panic!("{news:?}");
        };
        assert!(std::str::from_utf8(bytes).is_ok() && bytes.len() <= MAX_LINE_BYTES);
        assert_eq!(*goes_on, index < 2);
        joined.extend_from_slice(bytes);
        joined.extend_from_slice(if *goes_on || index == 3 { b"" } else { b"\n" });
    }
    assert_eq!(joined, log);
    // A line that just fits is whole; one byte more makes two.
    for (length, parts) in [(MAX_LINE_BYTES, 1), (MAX_LINE_BYTES + 1, 2)] {
        let log = [&vec![b'x'; length][..], b"\n"].concat();
        assert_eq!(read_live(&log, Place::START, 4096).len(), parts);
    }
    // No UTF-8 at all: it is cut all the same.
    let log = vec![0b1000_0000; MAX_LINE_BYTES + 1];
    assert_eq!(read_live(&log, Place::START, 4096).len(), 2);
}

#[test]
fn every_place_goes_on_where_it_was_given_live_and_stored() {
    let log: Vec<u8> = (0..90)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let all = read_live(&log, Place::START, log.len());
    let cut = log.len() / 2;
    for (index, news) in all.iter().enumerate() {
        let rest = &all[index + 1..];
        assert_eq!(read_live(&log, news.place(), 7), rest);
        assert_eq!(read_stored(&stored(&log, 0, b""), news.place()), rest);
        let in_two = stored(&log[..cut], 0, &log[cut..]);
        assert_eq!(read_stored(&in_two, news.place()), rest);
        let text = news.place().to_string();
        assert_eq!(text.parse(), Ok(news.place()));
    }
}

#[test]
fn what_is_lost_is_told_once_and_keeps_the_places() {
    let log: Vec<u8> = (0..90)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let (head, tail) = (200, log.len() - 203);
    let kept = stored(&log[..head], (tail - head) as u64, &log[tail..]);
    let all = read_stored(&kept, Place::START);
    let lost: Vec<_> = all
        .iter()
        .filter_map(|news| match news {
            LogNews::Lost { bytes, place } => Some((*bytes, place.offset)),
            _ => None,
        })
        .collect();
    assert_eq!(lost, [((tail - head) as u64, tail as u64)]);
    for (index, news) in all.iter().enumerate() {
        assert_eq!(
            read_stored(&kept, news.place()),
            all[index + 1..],
            "{news:?}"
        );
    }
    // Who read along live goes on from wherever that was.
    for news in read_live(&log, Place::START, log.len()) {
        let offset = news.place().offset as usize;
        let rest = read_stored(&kept, news.place());
        match rest.first() {
            Some(LogNews::Lost { bytes, .. }) => {
                assert_eq!(*bytes as usize, tail - offset.max(head));
            }
            _ => assert!(offset < head || offset >= tail, "{offset}: {rest:?}"),
        }
        let ends_at = rest
            .last()
            .map_or(log.len() as u64, |last| last.place().offset);
        assert_eq!(ends_at, log.len() as u64);
    }
}

#[test]
fn a_place_of_another_log_is_recognized() {
    let log: Vec<u8> = (0..90)
        .flat_map(|n| format!("line {n}\n").into_bytes())
        .collect();
    let rotated = &log[100..];
    let from = place(&log, 300);
    let mut reader = LineReader::new(from);
    assert_eq!(reader.push(Bytes::copy_from_slice(rotated)), Err(Unknown));
    assert!(StoredReader::new(stored(rotated, 0, b""), from).is_err());
    assert!(StoredReader::new(stored(b"x", 10, rotated), place(&log, 311)).is_err());
    let beyond = place(&log, log.len());
    assert!(StoredReader::new(stored(rotated, 0, b""), beyond).is_err());
    let mut reader = LineReader::new(beyond);
    assert_eq!(reader.push(Bytes::copy_from_slice(rotated)), Ok(()));
    assert!(reader.is_before(), "it is waited for what never comes");
}

#[test]
fn only_places_are_read_as_places() {
    assert_eq!(Place::START.to_string(), "0-811c9dc5");
    for text in [
        "",
        "0",
        "-",
        "0-",
        "1-xyz",
        "01-811c9dc5",
        "+1-811c9dc5",
        "1-811C9DC5",
        "1-11c9dc5",
        "1-811c9dc5 ",
        "99999999999999999999-811c9dc5",
    ] {
        assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text:?}");
    }
}
