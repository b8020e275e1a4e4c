//! The state machine, by every pair of a state and an observation.

use std::collections::BTreeMap;

use super::*;
use crate::execution::ExecutionId;
use crate::reason::Outcome;
use crate::retry::Retry;
use crate::submission::{Resources, Timeouts};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a valid second")
}

/// One just accepted; the timeline's tests begin with it too.
pub(crate) fn queued() -> Execution {
    Execution {
        id: ExecutionId::new(at(0), [7; 10]),
        tenant: crate::Tenant::default(),
        namespace: None,
        generation: 1,
        status: Status::Queued,
        created_at: at(0),
        attempt: 1,
        due_at: at(0),
        dispatched_at: None,
        job_uid: None,
        started_at: None,
        cancel_requested_at: None,
        creation_in_doubt: false,
        timed_out_at: None,
        trace: None,
        origin: None,
        stopping_since: None,
        finished_at: None,
        ending: None,
        waiting: None,
        image: "busybox".into(),
        resources: Resources {
            cpu: "1".parse().expect("a quantity"),
            memory: "1Gi".parse().expect("a quantity"),
            ephemeral_storage: None,
        },
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        priority: 0,
        labels: BTreeMap::new(),
        ttl_seconds: 60,
        log: None,
    }
}

pub(crate) fn end(exit_code: i32) -> ContainerEnd {
    ContainerEnd {
        exit_code,
        signal: None,
        out_of_memory: false,
        start_error: false,
        message: String::new(),
        started_at: Some(at(3)),
        finished_at: Some(at(4)),
    }
}

fn next(execution: &Execution, observation: Observation, second: i64) -> Execution {
    transition(execution, &observation, at(second)).expect("it changes")
}

fn dispatched() -> Execution {
    next(&queued(), Observation::Dispatched, 1)
}

fn running() -> Execution {
    let known = next(&dispatched(), Observation::JobExists { uid: "u".into() }, 2);
    next(&known, Observation::Started { at: at(3) }, 3)
}

fn canceling() -> Execution {
    next(&running(), Observation::CancelRequested, 5)
}

fn stopping() -> Execution {
    next(&canceling(), Observation::Stopping, 6)
}

/// Its run clock has run out, in the second 700.
fn timed_out() -> Execution {
    next(&running(), Observation::DeadlinePassed, 700)
}

/// One of each kind.
pub(crate) fn observations() -> Vec<Observation> {
    let why = waiting(WaitingKind::Image, "no such image");
    vec![
        Observation::Dispatched,
        Observation::Postponed(why.clone()),
        Observation::JobExists { uid: "u".into() },
        Observation::Refused {
            reason: Reason::InvalidSpec,
            message: "no".into(),
        },
        Observation::Waiting(why),
        Observation::CannotStart {
            reason: Reason::ImageUnavailable,
            message: "no".into(),
        },
        Observation::Started { at: at(3) },
        Observation::Ended(end(0)),
        Observation::PodFailed {
            reason: Reason::Evicted,
            message: "gone".into(),
        },
        Observation::JobGone {
            message: "gone".into(),
        },
        Observation::DeadlinePassed,
        Observation::CancelRequested,
        Observation::Canceling {
            message: "because".into(),
        },
        Observation::Stopping,
        Observation::Stopped { end: None },
        Observation::StopUnconfirmed {
            message: "no word".into(),
        },
    ]
}

#[test]
fn finished_absorbs_everything() {
    let finished = next(&running(), Observation::Ended(end(0)), 5);
    for observation in observations() {
        assert_eq!(
            transition(&finished, &observation, at(1_000_000)),
            None,
            "{observation:?}"
        );
    }
}

#[test]
fn status_only_moves_forward_and_each_change_counts_one_generation() {
    // Every walk of three observations from every state, a million seconds on, so that deadlines pass too.
    let mut states = vec![queued(), dispatched(), running(), canceling(), stopping()];
    states.extend([timed_out(), next(&timed_out(), Observation::Stopping, 701)]);
    for _ in 0..3 {
        let mut reached = Vec::new();
        for state in &states {
            for observation in observations() {
                let Some(after) = transition(state, &observation, at(1_000_000)) else {
                    continue;
                };
                assert!(after.status >= state.status, "{state:?} {observation:?}");
                assert_eq!(after.generation, state.generation + 1);
                assert_eq!(after.ending.is_some(), after.status == Status::Finished);
                assert_eq!(
                    after.finished_at.is_some(),
                    after.status == Status::Finished
                );
                for (before, after) in [
                    (state.cancel_requested_at, after.cancel_requested_at),
                    (state.timed_out_at, after.timed_out_at),
                    (state.stopping_since, after.stopping_since),
                ] {
                    assert!(before.is_none() || before == after);
                }
                if let Some(ending) = &after.ending
                    && ending.outcome() == Outcome::Canceled
                {
                    assert!(after.cancel_requested_at.is_some(), "nobody asked for it");
                }
                assert!(state.job_uid.is_none() || after.job_uid == state.job_uid);
                if let (Some(d), Some(s)) = (after.dispatched_at, after.started_at) {
                    assert!(d <= s);
                }
                if let (Some(s), Some(f)) = (after.started_at, after.finished_at) {
                    assert!(s <= f);
                }
                reached.push(after);
            }
        }
        states = reached;
    }
    assert!(states.len() > 50, "the walk went somewhere");
}

#[test]
fn every_observation_leads_somewhere_from_some_state() {
    let states = [queued(), dispatched(), running(), canceling(), stopping()];
    for observation in observations() {
        let leads = |state| transition(state, &observation, at(1_000_000)).is_some();
        assert!(states.iter().any(leads), "{observation:?}");
    }
}

#[test]
fn exit_codes_tell_reason_and_signal() {
    for (code, reason, signal) in [
        (0, Reason::Completed, None),
        (1, Reason::NonZeroExit, None),
        (42, Reason::NonZeroExit, None),
        (126, Reason::NonZeroExit, None),
        (127, Reason::NonZeroExit, None),
        (128, Reason::NonZeroExit, None),
        (129, Reason::Signaled, Some(1)),
        (137, Reason::Signaled, Some(9)),
        (143, Reason::Signaled, Some(15)),
        (159, Reason::Signaled, Some(31)),
        (160, Reason::NonZeroExit, None),
        (255, Reason::NonZeroExit, None),
    ] {
        let finished = next(&running(), Observation::Ended(end(code)), 5);
        let ending = finished.ending.expect("an ending");
        assert_eq!(
            (ending.reason, ending.signal, ending.exit_code),
            (reason, signal, Some(code))
        );
    }
}

#[test]
fn memory_kills_and_start_errors_are_told_from_exits() {
    let oom = ContainerEnd {
        out_of_memory: true,
        ..end(137)
    };
    let ending = next(&running(), Observation::Ended(oom), 5)
        .ending
        .expect("an ending");
    assert_eq!((ending.reason, ending.signal), (Reason::OOMKilled, None));

    let no_start = ContainerEnd {
        start_error: true,
        started_at: None,
        ..end(128)
    };
    let finished = next(&dispatched(), Observation::Ended(no_start), 5);
    assert_eq!(finished.started_at, None);
    assert_eq!(
        finished.ending.expect("an ending").reason,
        Reason::InvalidSpec
    );
}

#[test]
fn whole_seconds_are_narrowed_by_when_they_were_seen() {
    let millis = |ms: i64| at(0) + SignedDuration::from_millis(ms);
    for (named, seen, expected) in [
        (at(3), millis(3_400), millis(3_400)),
        // Seen late, it still was within its second; seen by a clock that is behind, not before it.
        (at(3), at(9), at(4) - SignedDuration::from_micros(1)),
        (at(3), at(2), at(3)),
        (millis(3_250), at(9), millis(3_250)),
    ] {
        assert_eq!(within_its_second(named, seen), expected);
    }
}

#[test]
fn a_missed_start_is_filled_in_from_the_end() {
    let finished = next(&dispatched(), Observation::Ended(end(0)), 4);
    assert_eq!(
        (finished.started_at, finished.finished_at),
        (Some(at(3)), Some(at(4)))
    );
    assert_eq!(
        finished.ending.expect("an ending").outcome(),
        Outcome::Succeeded
    );
}

#[test]
fn each_clock_has_its_own_reason() {
    let late = 1_000_000;
    assert_eq!(
        next(&queued(), Observation::DeadlinePassed, late)
            .ending
            .expect("ending")
            .reason,
        Reason::QueueTimeout
    );
    assert_eq!(
        next(&dispatched(), Observation::DeadlinePassed, late)
            .ending
            .expect("ending")
            .reason,
        Reason::StartTimeout
    );
    for (kind, reason) in [
        (WaitingKind::Image, Reason::ImageUnavailable),
        (WaitingKind::Unschedulable, Reason::Unschedulable),
        (WaitingKind::Quota, Reason::QuotaExceeded),
        (WaitingKind::Config, Reason::InvalidSpec),
    ] {
        let waits = next(
            &dispatched(),
            Observation::Waiting(waiting(kind, "because")),
            2,
        );
        let ending = next(&waits, Observation::DeadlinePassed, late)
            .ending
            .expect("ending");
        assert_eq!(ending.reason, reason);
        assert!(ending.message.contains("because"));
    }
    for early in [queued(), dispatched(), running()] {
        assert_eq!(
            transition(&early, &Observation::DeadlinePassed, at(4)),
            None
        );
    }
}

#[test]
fn a_postponed_execution_is_queued_again_but_never_once_its_job_is_known() {
    let why = waiting(WaitingKind::Quota, "exceeded quota");
    let back = next(&dispatched(), Observation::Postponed(why.clone()), 2);
    assert_eq!(
        (back.dispatched_at, back.waiting.clone()),
        (None, Some(why.clone()))
    );
    assert_eq!(
        transition(&running(), &Observation::Postponed(why), at(4)),
        None
    );
}

#[test]
fn names_are_read_back() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        assert_eq!(
            reason.fault().is_none(),
            matches!(reason.outcome(), Outcome::Succeeded | Outcome::Canceled)
        );
    }
    for kind in WaitingKind::ALL {
        assert_eq!(WaitingKind::from_name(kind.as_str()), Some(kind));
    }
    assert_eq!(Status::from_name("RUNNING"), Some(Status::Running));
    assert_eq!(Outcome::from_name("nonsense"), None);
}

#[test]
fn a_cancel_in_the_queue_ends_it_at_once() {
    let canceled = next(&queued(), Observation::CancelRequested, 2);
    let ending = canceled.ending.expect("an ending");
    assert_eq!(ending.reason, Reason::CanceledByCaller);
    assert_eq!(canceled.finished_at, Some(at(2)));
}

#[test]
fn a_cancel_later_has_no_clock_and_does_not_go_back_to_the_queue() {
    let asked = next(&dispatched(), Observation::CancelRequested, 2);
    assert_eq!((asked.status, asked.deadline()), (Status::Queued, None));
    let why = waiting(WaitingKind::Quota, "exceeded quota");
    for ignored in [
        Observation::CancelRequested,
        Observation::DeadlinePassed,
        Observation::Postponed(why.clone()),
        Observation::Waiting(why),
    ] {
        assert_eq!(transition(&asked, &ignored, at(1_000_000)), None);
    }
    let started = next(&asked, Observation::Started { at: at(3) }, 3);
    let waits = started.waiting.expect("it says that it is canceled");
    assert_eq!(waits.kind, WaitingKind::Canceling);
    let ending = next(&asked, Observation::Stopped { end: None }, 4).ending;
    assert_eq!(ending.expect("ending").reason, Reason::CanceledByCaller);
}

#[test]
fn an_end_before_the_deletion_is_the_scripts_own() {
    // The deletion is decided in second 6; the ends are dated in whole seconds.
    for (code, second, by_itself) in [
        (0, 5, true),
        (42, 5, true),
        (0, 6, false),
        (0, 9, false),
        (143, 5, false),
        (137, 5, false),
        (137, 9, false),
    ] {
        let end = ContainerEnd {
            finished_at: Some(at(second)),
            ..end(code)
        };
        let own = transition(&stopping(), &Observation::Ended(end.clone()), at(10));
        assert_eq!(own.is_some(), by_itself, "{code} in second {second}");
        let before = next(&canceling(), Observation::Ended(end.clone()), 10);
        let reason = before.ending.expect("an ending").reason;
        assert_ne!(reason, Reason::CanceledByCaller);
        let end = Some(end);
        let canceled = next(&stopping(), Observation::Stopped { end }, 10);
        let ending = canceled.ending.expect("an ending");
        assert_eq!(
            (ending.reason, ending.exit_code),
            (Reason::CanceledByCaller, Some(code))
        );
    }
    let oom = ContainerEnd {
        out_of_memory: true,
        ..end(137)
    };
    assert!(transition(&stopping(), &Observation::Ended(oom), at(10)).is_some());
}

#[test]
fn the_going_of_a_job_that_we_delete_says_nothing() {
    let message = "gone".to_owned();
    for observation in [
        Observation::JobGone {
            message: message.clone(),
        },
        Observation::PodFailed {
            reason: Reason::Evicted,
            message: message.clone(),
        },
    ] {
        assert_eq!(transition(&stopping(), &observation, at(10)), None);
        assert!(transition(&canceling(), &observation, at(10)).is_some());
    }
    let lost = next(&stopping(), Observation::StopUnconfirmed { message }, 10);
    assert_eq!(lost.ending.expect("an ending").reason, Reason::NodeLost);
}

#[test]
fn a_record_expires_after_its_end() {
    assert_eq!(queued().expires_at(), None);
    let finished = next(&running(), Observation::Ended(end(0)), 5);
    let after = finished.expires_at().expect("it ended");
    assert_eq!(
        after
            .duration_since(finished.finished_at.expect("ended"))
            .as_secs(),
        60
    );
}

#[test]
fn what_runs_too_long_is_ended_with_proof() {
    assert_eq!(
        (timed_out().status, timed_out().deadline()),
        (Status::Running, None)
    );
    // A cancel comes too late to change why, and what a script does by itself meanwhile is its own.
    let canceled = next(&timed_out(), Observation::CancelRequested, 701);
    for asked in [timed_out(), canceled] {
        let stopping = next(&asked, Observation::Stopping, 702);
        for (code, told) in [
            (Some(143), "within its grace of 10 s"),
            (Some(0), "with exit code 0"),
            (Some(137), "was killed"),
            (None, "confirmed gone"),
        ] {
            let end = code.map(|code| ContainerEnd {
                finished_at: Some(at(705)),
                ..end(code)
            });
            let finished = next(&stopping, Observation::Stopped { end: end.clone() }, 710);
            let ending = finished.ending.expect("an ending");
            assert_eq!(
                (ending.reason, ending.exit_code),
                (Reason::RunTimeout, code)
            );
            assert!(ending.message.contains(told), "{}", ending.message);
            let seen = end.map_or(710, |_| 705);
            assert_eq!(
                finished.finished_at.map(|at| at.as_second()),
                Some(at(seen).as_second())
            );
        }
        let own = next(&asked, Observation::Ended(end(3)), 703);
        assert_eq!(own.ending.expect("an ending").reason, Reason::NonZeroExit);
        let message = "no word".to_owned();
        let lost = next(&stopping, Observation::StopUnconfirmed { message }, 2_000);
        assert_eq!(lost.ending.expect("an ending").reason, Reason::NodeLost);
    }
    let first = next(&canceling(), Observation::Stopped { end: None }, 800);
    let reason = first.ending.expect("an ending").reason;
    assert_eq!(reason, Reason::CanceledByCaller, "a cancel has no clock");
}
