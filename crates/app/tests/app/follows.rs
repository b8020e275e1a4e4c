//! Logs followed line by line: no line lost or repeated, wherever the reader is cut off and comes back.

use app::{FollowedLog, LogFollower, LogNews, Place};
use domain::ExecutionId;
use jiff::SignedDuration;

use crate::support::{Bench, Effect, Host, submission};

/// Small steps of a linear congruential generator (Knuth's MMIX): the same in each run of the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

fn log_of(lines: usize) -> String {
    let line = |n: usize| match n % 7 {
        0 => "\n".to_owned(),
        1 => format!("line {n}\r\n"),
        2 => format!("a longer line {n} {}\n", "x".repeat(n * 31 % 997)),
        _ => format!("line {n}\n"),
    };
    let mut log: String = (0..lines).map(line).collect();
    log.push_str("no line feed");
    log
}

/// The log again, out of its lines; what is marked in it stands in brackets.
fn joined(news: &[LogNews], length: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for one in news {
        match one {
            LogNews::Line {
                bytes,
                goes_on,
                place,
            } => {
                text.extend_from_slice(bytes);
                if !goes_on && place.offset != length as u64 {
                    text.push(b'\n');
                }
            }
            LogNews::Lost { bytes, .. } => {
                text.extend_from_slice(format!("[{bytes} lost]").as_bytes())
            }
            LogNews::Gap => text.extend_from_slice(b"[gap]"),
        }
    }
    text
}

fn next(bench: &Bench, follower: &mut LogFollower<Host>) -> Option<FollowedLog> {
    let app = bench.app();
    bench
        .world
        .run(follower.next(&app))
        .expect("the store answers")
}

/// Everything from that place on, and where it ended.
fn follow(bench: &Bench, id: ExecutionId, from: Place) -> (Vec<LogNews>, Place) {
    let mut follower = LogFollower::new(id, None, from);
    let mut all = Vec::new();
    loop {
        match next(bench, &mut follower).expect("an end comes first") {
            FollowedLog::News(news) => all.extend(news),
            FollowedLog::End { view, place } => {
                assert!(view.execution.ending.is_some());
                assert_eq!(next(bench, &mut follower), None);
                return (all, place);
            }
        }
    }
}

#[test]
fn a_reader_that_is_cut_off_anywhere_misses_and_repeats_nothing() {
    for seed in 1..=40 {
        println!("seed {seed}");
        let mut chance = Chance(seed);
        let bench = Bench::new();
        let log = log_of(500 + chance.below(2_000));
        bench.script(3_000, 0, &log);
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(1);
        let (mut read, mut place, mut cuts) = (Vec::new(), Place::START, 0);
        let mut finished_by = chance.below(12);
        'reconnects: loop {
            let mut follower = LogFollower::new(id, None, place);
            cuts += 1;
            if cuts > finished_by {
                // From here on the log comes from the store.
                bench.world.pass(5);
                bench.tick(3);
                finished_by = usize::MAX;
            }
            loop {
                let app = bench.app();
                let patience = bench.world.now() + SignedDuration::from_millis(300);
                let news = bench.world.run_until(follower.next(&app), patience);
                match news.map(|news| news.expect("the store answers")) {
                    // Cut off with some of the lines received.
                    Some(Some(FollowedLog::News(news))) => {
                        let received = 1 + chance.below(news.len());
                        read.extend_from_slice(&news[..received]);
                        place = read[read.len() - 1].place();
                        if received < news.len() || chance.below(3) == 0 {
                            continue 'reconnects;
                        }
                    }
                    Some(Some(FollowedLog::End { .. })) => break 'reconnects,
                    Some(None) => panic!("an end comes first"),
                    None => continue 'reconnects,
                }
            }
        }
        assert!(cuts > 1, "it was never cut off");
        assert_eq!(String::from_utf8_lossy(&joined(&read, log.len())), log);
    }
}

#[test]
fn ids_are_the_same_before_and_after_the_end() {
    let bench = Bench::new();
    let log = log_of(300);
    bench.script(2_000, 0, &log);
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(1);
    let mut follower = LogFollower::new(id, None, Place::START);
    let Some(FollowedLog::News(live)) = next(&bench, &mut follower) else {
        panic!("there is a log");
    };
    assert!(live.len() > 200, "all whole lines are there");
    bench.world.pass(5);
    bench.tick(3);
    bench.finished(id);
    let (stored, end) = follow(&bench, id, Place::START);
    assert_eq!(stored[..live.len()], live);
    assert_eq!(end.offset, log.len() as u64);
    assert_eq!(follow(&bench, id, end), (Vec::new(), end));
}

#[test]
fn a_broken_live_log_is_read_on_where_it_broke() {
    for (effect, times) in [
        (Effect::Cut(1), 3),
        // This one breaks once all there is has come.
        (Effect::Cut(2), 1),
        (Effect::NotSent, 3),
        (Effect::Vanished, 3),
    ] {
        let bench = Bench::new();
        let log = log_of(400);
        bench.script(2_000, 0, &log);
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(1);
        bench.world.fault("GET log", times, effect);
        let app = bench.app();
        let mut follower = LogFollower::new(id, None, Place::START);
        let mut read = Vec::new();
        while (joined(&read, log.len()).len() as u64) < log.len() as u64 - 12 {
            match bench
                .world
                .run(follower.next(&app))
                .expect("the store answers")
            {
                Some(FollowedLog::News(news)) => read.extend(news),
                other => panic!("{other:?}"),
            }
        }
        assert!(bench.world.all_faults_fired());
        bench.world.pass(5);
        bench.tick(3);
        while let Some(FollowedLog::News(news)) = next(&bench, &mut follower) {
            read.extend(news);
        }
        assert_eq!(String::from_utf8_lossy(&joined(&read, log.len())), log);
    }
}

#[test]
fn a_rotated_log_is_never_a_silent_gap() {
    let bench = Bench::new();
    bench.script(60_000, 0, &log_of(100));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(1);
    let mut follower = LogFollower::new(id, None, Place::START);
    let Some(FollowedLog::News(live)) = next(&bench, &mut follower) else {
        panic!("there is a log");
    };
    let place = live[live.len() - 1].place();
    // What the kubelet has now begins later: shorter than the place in one case, longer in the other.
    for lines in [3, 300] {
        bench.world.heal();
        let rotated = log_of(lines).replace("line", "other");
        bench.world.fault("GET log", u32::MAX, Effect::Log(rotated));
        let mut follower = LogFollower::new(id, None, place);
        let mut read = Vec::new();
        while read.len() < 3 {
            match next(&bench, &mut follower) {
                Some(FollowedLog::News(news)) => read.extend(news),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read[0], LogNews::Gap);
        assert!(
            matches!(&read[1], LogNews::Line { bytes, .. } if bytes.is_empty()),
            "{:?}",
            read[1]
        );
    }
}

#[test]
fn before_the_start_and_after_a_deletion_there_is_nothing_to_read() {
    let bench = Bench::new();
    let execution = bench.submit(&submission());
    let app = bench.app();
    let mut follower = LogFollower::<Host>::new(execution.id, None, Place::START);
    let patience = bench.world.now() + SignedDuration::from_secs(5);
    assert_eq!(
        bench
            .world
            .run_until(follower.next(&app), patience)
            .map(|_| ()),
        None
    );
    assert_eq!(
        bench.world.requests.borrow().len(),
        0,
        "only the store is asked"
    );
    bench.sql("DELETE FROM executions");
    assert_eq!(next(&bench, &mut follower), None);
}
