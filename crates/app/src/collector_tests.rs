//! What is kept of a log, however it comes, breaks and is rotated.

use super::*;

fn collect(length: usize, step: usize) -> (Vec<u8>, StoredLog) {
    let all: Vec<u8> = (0..length).map(|i| (i / 7 % 251) as u8).collect();
    let mut collector = Collector::default();
    for chunk in all.chunks(step) {
        collector.push(chunk);
    }
    (all, collector.log())
}

#[test]
fn a_log_up_to_both_limits_is_kept_whole() {
    for length in [
        0,
        1,
        LOG_HEAD_LIMIT_BYTES,
        LOG_HEAD_LIMIT_BYTES + 1,
        LOG_HEAD_LIMIT_BYTES + LOG_TAIL_LIMIT_BYTES,
    ] {
        let (all, log) = collect(length, 65_521);
        assert_eq!([log.head, log.tail].concat(), all);
        assert_eq!(
            (log.bytes, log.lost_bytes, log.complete),
            (length as u64, 0, true)
        );
    }
}

#[test]
fn of_a_longer_one_head_and_tail_are_kept_and_the_rest_is_counted() {
    for (length, step) in [
        (10_000_000, 4096),
        (10_000_000, 9_999_999),
        (2_097_153, 1_000_003),
    ] {
        let (all, log) = collect(length, step);
        assert_eq!(log.head, all[..LOG_HEAD_LIMIT_BYTES]);
        assert_eq!(log.tail, all[length - LOG_TAIL_LIMIT_BYTES..]);
        assert_eq!(
            log.lost_bytes,
            (length - LOG_HEAD_LIMIT_BYTES - LOG_TAIL_LIMIT_BYTES) as u64
        );
        assert!(!log.complete);
    }
}

#[test]
fn head_and_tail_never_meet_across_a_gap() {
    let mut collector = Collector::default();
    collector.push(b"one\n");
    collector.gap();
    collector.push(b"three\n");
    let log = collector.log();
    assert_eq!(
        (&log.head[..], &log.tail[..]),
        (&b"one\n"[..], &b"three\n"[..])
    );
    assert_eq!((log.lost_bytes, log.complete), (1, false));
    collector.gap();
    collector.push(b"five\n");
    let log = collector.log();
    assert_eq!(
        (&log.head[..], &log.tail[..]),
        (&b"one\n"[..], &b"five\n"[..])
    );
    assert_eq!(log.lost_bytes, 8, "two gaps, and what was between them");
}

/// A log of lines with their times, some sharing one, some long, the last without a line feed.
fn lines(count: usize) -> Vec<(String, Vec<u8>)> {
    let stamp = |n: usize| format!("2026-01-02T03:04:{:02}.{:09}Z", n / 40, n / 3 * 7);
    let text = |n: usize| match n % 7 {
        0 => b"\n".to_vec(),
        1 => [&vec![b'x'; 300][..], b"\n"].concat(),
        2 => b"2026-01-02T03:04:05.000000000Z looks like a time\n".to_vec(),
        _ => format!("line {n}\n").into_bytes(),
    };
    let mut all: Vec<_> = (0..count).map(|n| (stamp(n), text(n))).collect();
    all.push((stamp(count), b"the end".to_vec()));
    all
}

fn answer(lines: &[(String, Vec<u8>)]) -> Vec<u8> {
    let line = |(stamp, text): &(String, Vec<u8>)| [stamp.as_bytes(), b" ", text].concat();
    lines.iter().flat_map(line).collect()
}

fn texts(lines: &[(String, Vec<u8>)]) -> Vec<u8> {
    lines.iter().flat_map(|(_, text)| text.clone()).collect()
}

/// What the node gives from that place on, of the lines it still has.
fn since(lines: &[(String, Vec<u8>)], place: Option<&Place>) -> Vec<u8> {
    let from = place.and_then(Place::since);
    let is_after = |line: &&(String, Vec<u8>)| {
        let at: Timestamp = line.0.parse().expect("a time");
        from.is_none_or(|from| at >= from)
    };
    let after: Vec<_> = lines.iter().filter(is_after).cloned().collect();
    answer(&after)
}

#[test]
fn a_stream_that_breaks_anywhere_goes_on_without_loss_or_repetition() {
    let lines = lines(60);
    let all = answer(&lines);
    for cut in (0..=all.len()).step_by(3) {
        for step in [1, 97, 100_000] {
            let mut collector = Collector::default();
            let mut first = Stamped::from(None);
            for chunk in all[..cut].chunks(step) {
                assert!(!first.push(chunk, &mut collector));
            }
            let place = first.place().cloned();
            let mut second = Stamped::from(place.clone());
            for chunk in since(&lines, place.as_ref()).chunks(step) {
                assert!(!second.push(chunk, &mut collector), "a gap at {cut}");
            }
            assert!(!second.is_seeking() && !second.was_strange());
            let log = collector.log();
            assert!(log.head == texts(&lines), "cut at {cut}, step {step}");
            assert!(log.complete);
        }
    }
}

#[test]
fn what_was_rotated_away_is_a_gap_and_nothing_else_is() {
    let lines = lines(400);
    // Read to here, and the node has lines from there on.
    for (read, has) in [
        (0, 0),
        (10, 5),
        (10, 9),
        (10, 10),
        (10, 11),
        (100, 300),
        (401, 399),
    ] {
        let mut collector = Collector::default();
        let mut first = Stamped::from(None);
        first.push(&answer(&lines[..read]), &mut collector);
        let place = first.place().cloned();
        let mut second = Stamped::from(place.clone());
        let gap = second.push(&since(&lines[has..], place.as_ref()), &mut collector);
        let log = collector.log();
        if has < read || read == 0 {
            assert!(!gap, "{read} {has}");
            assert!(log.head == texts(&lines), "{read} {has}");
        } else {
            assert!(gap && !log.complete && log.lost_bytes >= 1, "{read} {has}");
            assert!(log.head == texts(&lines[..read]));
            // Lines that share their time with the last one before may be lost with those between.
            let shared = lines[has..]
                .iter()
                .take_while(|line| line.0 == lines[read - 1].0);
            let fewest = has + shared.count();
            let all = (has..=fewest).find(|from| log.tail == texts(&lines[*from..]));
            let all = all.expect("a tail of whole lines");
            assert_eq!(log.lost_bytes - 1, texts(&lines[has..all]).len() as u64);
        }
    }
}

#[test]
fn the_rest_of_a_line_from_before_the_place_is_left_out() {
    let mut collector = Collector::default();
    let mut first = Stamped::from(None);
    first.push(b"2026-01-02T03:04:05.100000000Z a\n", &mut collector);
    let mut second = Stamped::from(first.place().cloned());
    let more = b"rest of a long line\n2026-01-02T03:04:05.100000000Z a\n2026-01-02T03:04:06Z b\n";
    assert!(!second.push(more, &mut collector));
    assert_eq!(collector.log().head, b"a\nb\n");
    assert!(!second.was_strange());
}

#[test]
fn words_of_the_nodes_own_are_no_log() {
    let mut collector = Collector::default();
    let mut stamped = Stamped::from(None);
    let said = b"unable to retrieve container logs for containerd://1\n";
    stamped.push(said, &mut collector);
    assert_eq!((collector.bytes(), stamped.was_strange()), (0, true));
}

#[test]
fn times_are_compared_as_times() {
    let order = |one: &str, other: &str| order(one.as_bytes(), other.as_bytes());
    let summer = "2026-10-25T02:59:59.999999999+02:00";
    let winter = "2026-10-25T02:00:00.000000000+01:00";
    assert_eq!(order(summer, winter), Ordering::Less);
    assert_eq!(
        order("2026-01-02T03:04:05Z", "2026-01-02T03:04:06Z"),
        Ordering::Less
    );
}
