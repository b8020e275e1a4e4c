//! Retries: every reason, every pause, and walks over whole lives with several attempts.

use super::*;
use crate::execution::Clock;
use crate::timeline::{kind, steps_to_retry};
use crate::transition::tests::{at, end, observations, queued};
use crate::transition::{Observation, transition};

/// One that may be tried that often beyond the first time.
fn with_limit(limit: u32) -> Execution {
    Execution {
        retry: Retry::of(limit, &Retry::OUTCOMES),
        ..queued()
    }
}

fn next(execution: &Execution, observation: Observation, second: i64) -> Execution {
    transition(execution, &observation, at(second)).expect("it changes")
}

fn dispatched(limit: u32) -> Execution {
    next(&with_limit(limit), Observation::Dispatched, 1)
}

/// One whose first attempt has just failed, and the attempt's end.
fn failed_once(limit: u32) -> (Execution, Execution) {
    let exists = Observation::JobExists { uid: "u1".into() };
    let running = next(
        &next(&dispatched(limit), exists, 2),
        Observation::Started { at: at(3) },
        3,
    );
    let ended = next(&running, Observation::Ended(end(1)), 5);
    let again = next_attempt(&running, &ended, at(5)).expect("another attempt");
    (again, ended)
}

#[test]
fn of_each_reason_it_is_said_whether_it_is_retried() {
    let reasons = Reason::ALL.iter().filter(|reason| {
        let before = dispatched(1);
        let mut ended = next(
            &before,
            Observation::PodFailed {
                reason: **reason,
                message: String::new(),
            },
            5,
        );
        let all = next_attempt(&before, &ended, at(5)).is_some();
        for (outcomes, covered) in [
            (vec![Outcome::Error], reason.outcome() == Outcome::Error),
            (vec![Outcome::Failed], reason.outcome() == Outcome::Failed),
            (vec![], false),
            (vec![Outcome::Succeeded, Outcome::Canceled], false),
        ] {
            ended.retry = Retry::of(1, &outcomes);
            let some = next_attempt(&before, &ended, at(5)).is_some();
            assert_eq!(some, all && covered, "{reason:?} {outcomes:?}");
        }
        all
    });
    let names: Vec<_> = reasons.map(|reason| reason.as_str()).collect();
    // QueueTimeout is here since this one was dispatched, which no real one was.
    let expected = [
        "NonZeroExit",
        "OOMKilled",
        "Signaled",
        "RunTimeout",
        "EphemeralStorageExceeded",
        "ImageUnavailable",
        "Unschedulable",
        "InvalidSpec",
        "QuotaExceeded",
        "AdmissionDenied",
        "QueueTimeout",
        "StartTimeout",
        "Evicted",
        "JobDeleted",
    ];
    assert_eq!(names, expected);
}

#[test]
fn nothing_is_retried_that_was_never_dispatched() {
    for attempt in [with_limit(3), failed_once(3).0] {
        let (clock, due) = attempt.deadline().expect("a clock");
        assert_eq!(clock, Clock::Queue);
        let ended = transition(&attempt, &Observation::DeadlinePassed, due).expect("it ends");
        assert_eq!(next_attempt(&attempt, &ended, due), None);
    }
}

#[test]
fn after_a_cancel_nothing_is_retried() {
    let canceling = next(&dispatched(3), Observation::CancelRequested, 2);
    let ended = next(&canceling, Observation::Ended(end(1)), 5);
    assert_eq!(next_attempt(&canceling, &ended, at(5)), None);
}

#[test]
fn a_cancel_in_the_pause_ends_it_at_once() {
    let (again, _) = failed_once(3);
    let ended = next(&again, Observation::CancelRequested, 6);
    let ending = ended.ending.as_ref().expect("an ending");
    assert_eq!(ending.reason, Reason::CanceledByCaller);
    assert!(ending.message.contains("next attempt"), "{ending:?}");
    // Not in the future, though the attempt was to begin later.
    assert_eq!(ended.finished_at, Some(at(6)));
    assert_eq!(next_attempt(&again, &ended, at(6)), None);
}

#[test]
fn the_next_attempt_begins_anew_but_for_the_status() {
    let (again, ended) = failed_once(2);
    let expected = Execution {
        generation: ended.generation,
        status: Status::Running,
        attempt: 2,
        due_at: at(6),
        waiting: again.waiting.clone(),
        ..with_limit(2)
    };
    assert_eq!(again, expected);
    let waiting = again.waiting.as_ref().expect("it says what it waits for");
    assert_eq!(
        waiting.message,
        "attempt 2 of 3 starts at 2023-11-14T22:13:26Z: attempt 1 ended NonZeroExit"
    );
    assert_eq!(again.job_name(), format!("x-{}-2", again.id));
    let seconds = i64::from(again.timeouts.queue_seconds);
    assert_eq!(again.deadline(), Some((Clock::Queue, at(6 + seconds))));
    // Its clocks and its steps are its own, though the status says for all attempts that something has run.
    let why = crate::transition::waiting(WaitingKind::Image, "no such image");
    let second = next(&again, Observation::Dispatched, 7);
    let second = next(&second, Observation::Waiting(why), 8);
    let seconds = i64::from(second.timeouts.start_seconds);
    assert_eq!(second.deadline(), Some((Clock::Start, at(7 + seconds))));
    let back = crate::transition::waiting(WaitingKind::Quota, "exceeded");
    assert!(transition(&second, &Observation::Postponed(back), at(8)).is_some());
    let second = next(&second, Observation::Started { at: at(9) }, 9);
    assert_eq!((second.started_at, second.waiting), (Some(at(9)), None));
}

#[test]
fn what_never_ran_stays_in_the_queue() {
    let before = dispatched(1);
    let cannot = Observation::CannotStart {
        reason: Reason::ImageUnavailable,
        message: "no such image".into(),
    };
    let ended = next(&before, cannot, 2);
    let again = next_attempt(&before, &ended, at(2)).expect("another attempt");
    assert_eq!((again.status, again.attempt), (Status::Queued, 2));
}

#[test]
fn pauses_double_up_to_a_minute() {
    let seconds = (1..=10).map(|attempt| pause(attempt).as_secs());
    let seconds: Vec<_> = seconds.collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
    assert_eq!(pause(u32::MAX), LAST_PAUSE);
}

#[test]
fn what_is_seen_of_an_earlier_attempt_is_past() {
    let (again, _) = failed_once(2);
    let second = next(&again, Observation::Dispatched, 7);
    let known = next(&second, Observation::JobExists { uid: "u2".into() }, 8);
    for (attempt, job_uid, unknown, expected) in [
        (1, Some("u1"), Relevance::Past, Relevance::Past),
        (1, None, Relevance::Past, Relevance::Past),
        (2, None, Relevance::Current, Relevance::Current),
        (2, Some("u2"), Relevance::Current, Relevance::Current),
        // Of the right name, and of another Job: seen only once it is known which is the right one.
        (2, Some("u1"), Relevance::Current, Relevance::Foreign),
        (3, Some("u3"), Relevance::Foreign, Relevance::Foreign),
    ] {
        let about = About { attempt, job_uid };
        assert_eq!(second.relevance(about), unknown, "{about:?}");
        assert_eq!(known.relevance(about), expected, "{about:?}");
    }
}

#[test]
fn the_timeline_tells_of_each_attempt_as_such() {
    let running = next(&dispatched(1), Observation::Started { at: at(3) }, 3);
    let observation = Observation::Ended(end(1));
    let ended = next(&running, observation.clone(), 5);
    let again = next_attempt(&running, &ended, at(5)).expect("another attempt");
    let told = steps_to_retry(&running, &observation, &ended, &again, at(5));
    let kinds: Vec<_> = told.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, [kind::ATTEMPT_ENDED, kind::RETRY_SCHEDULED]);
    assert_eq!(
        told[0].message,
        "attempt 1: FAILED (NonZeroExit): the script ended with exit code 1"
    );
    let dispatched = next(&again, Observation::Dispatched, 7);
    let told = crate::timeline::steps(&again, &Observation::Dispatched, &dispatched, at(7));
    assert!(told[0].message.starts_with("attempt 2: "), "{told:?}");
}

/// A small generator of numbers that a seed repeats (the constants are Knuth's).
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

#[test]
fn whatever_happens_each_life_goes_forward_to_one_end() {
    const LIVES: u64 = 5_000;
    const STEPS: usize = 200;
    let seed = std::env::var("TEST_SEED").ok().and_then(|s| s.parse().ok());
    let seed: u64 = seed.unwrap_or(0x9e37_79b9);
    println!("TEST_SEED={seed}");
    let mut most = 0;
    for life in 0..LIVES {
        let mut chance = Chance(seed ^ life.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut execution = with_limit(chance.below(4) as u32);
        let mut now = 0;
        for _ in 0..STEPS {
            now += [0, 1, 400, 100_000][chance.below(4)];
            let observations = observations();
            let observation = &observations[chance.below(observations.len())];
            let Some(mut after) = transition(&execution, observation, at(now)) else {
                continue;
            };
            if let Some(again) = next_attempt(&execution, &after, at(now)) {
                assert!(after.ending.is_some(), "an attempt that goes on is retried");
                assert!(execution.cancel_requested_at.is_none());
                assert!(again.due_at > at(now));
                assert_eq!(again.attempt, execution.attempt + 1);
                after = again;
            } else {
                assert_eq!(after.attempt, execution.attempt);
            }
            assert!(after.status >= execution.status, "{execution:?}");
            assert_eq!(after.generation, execution.generation + 1);
            assert_eq!(after.ending.is_some(), after.status == Status::Finished);
            assert!(after.attempt <= after.most_attempts());
            assert!(after.dispatched_at.is_none_or(|d| d >= after.due_at));
            execution = after;
        }
        if execution.status == Status::Finished {
            for observation in observations() {
                assert_eq!(transition(&execution, &observation, at(now)), None);
            }
        }
        most = most.max(execution.attempt);
    }
    assert_eq!(most, 4, "no life went through all its attempts");
}

#[test]
fn the_time_of_the_next_attempt_is_its_own() {
    let running = next(&dispatched(1), Observation::Started { at: at(3) }, 3);
    let late = next(&running, Observation::DeadlinePassed, 700);
    let stopping = next(&late, Observation::Stopping, 701);
    let ended = next(&stopping, Observation::Stopped { end: None }, 702);
    let again = next_attempt(&stopping, &ended, at(702)).expect("another attempt");
    assert_eq!((again.stop(), again.stopping_since), (None, None));
    assert_eq!(again.deadline().map(|(clock, _)| clock), Some(Clock::Queue));
}
