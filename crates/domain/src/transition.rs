//! The state machine: (execution, observation, now) to the next generation, or to nothing.
//!
//! Terminal states absorb, the status only moves forward, and no clock is read here. Each attempt is brought to its end as
//! if there were no other; [`next_attempt`](crate::retry::next_attempt) says whether another one follows.

use jiff::{SignedDuration, Timestamp};

use crate::execution::{Clock, Execution, Status, Stop, Waiting, WaitingKind};
use crate::reason::{Ending, Reason};

/// How a container came to its end, as the container runtime says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    /// Its exit code, 0 to 255; 128 + n for signal n.
    pub exit_code: i32,
    /// The signal, where the runtime says it apart.
    pub signal: Option<i32>,
    /// Whether it was killed for its memory.
    pub out_of_memory: bool,
    /// Whether it never ran, since its command could not be started.
    pub start_error: bool,
    /// What the runtime says, often empty.
    pub message: String,
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Something seen of an execution, or decided about it. A transport error is never one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// It was decided to create its Job; the request goes out after this is stored.
    Dispatched,
    /// The API server surely has created nothing and asks for patience: back to the queue.
    Postponed(Waiting),
    /// Its Job exists.
    JobExists {
        /// The Job's uid.
        uid: String,
    },
    /// It surely was not created, and never will be.
    Refused {
        /// `InvalidSpec` or `AdmissionDenied`.
        reason: Reason,
        /// The API server's words.
        message: String,
    },
    /// It does not run yet, and this is why.
    Waiting(Waiting),
    /// It can never run, whatever one waits for: an image name that is none.
    CannotStart {
        /// Why.
        reason: Reason,
        /// The cluster's words.
        message: String,
    },
    /// Its container runs.
    Started {
        /// Since when, by the cluster's clock.
        at: Timestamp,
    },
    /// Its container ended by itself.
    Ended(ContainerEnd),
    /// Its pod was ended by the cluster.
    PodFailed {
        /// `Evicted`, `NodeLost`, `EphemeralStorageExceeded`, `RunTimeout` or `StartTimeout`.
        reason: Reason,
        /// The cluster's words.
        message: String,
    },
    /// Its Job is not there though it was, or its pod went without an end.
    JobGone {
        /// What exactly is missing.
        message: String,
    },
    /// The clock that runs now has run out, and the cluster has just been asked.
    DeadlinePassed,
    /// Its caller wants it ended.
    CancelRequested,
    /// It is being ended, and this is what that waits for.
    Canceling {
        /// In words.
        message: String,
    },
    /// It was decided to delete its Job since it is to be ended, and its log was read; the request goes out after
    /// this is stored.
    Stopping,
    /// It is being ended, and surely nothing of it runs or ever will: no Job, no pod, nobody who still creates them.
    Stopped {
        /// How its container ended, where that was seen.
        end: Option<ContainerEnd>,
    },
    /// It is being ended, and its pod could not be confirmed gone in time.
    StopUnconfirmed {
        /// What was seen last.
        message: String,
    },
}

/// What an execution waits for from its dispatch until its Job's uid is stored.
const CREATING: &str = "its Job is being created";

/// What it waits for from then until its container's start, when nothing is wrong.
pub const STARTING: &str = "its Job is created; its container has not started yet";

/// The next generation of the execution, or none where the observation changes nothing.
pub fn transition(
    execution: &Execution,
    observation: &Observation,
    now: Timestamp,
) -> Option<Execution> {
    if execution.status == Status::Finished {
        return None;
    }
    let mut next = execution.clone();
    match observation {
        Observation::Dispatched if execution.dispatched_at.is_none() => {
            next.dispatched_at = Some(now.max(execution.due_at));
            next.waiting = Some(waiting(WaitingKind::Starting, CREATING));
        }
        // What is canceled does not go back into the queue: whoever cancels it finds out that there is no Job.
        Observation::Postponed(why)
            if execution.job_uid.is_none()
                && execution.started_at.is_none()
                && execution.cancel_requested_at.is_none() =>
        {
            next.dispatched_at = None;
            next.waiting = Some(why.clone());
        }
        Observation::JobExists { uid } if execution.job_uid.is_none() => {
            next.job_uid = Some(uid.clone());
            next.dispatched_at.get_or_insert(now.max(execution.due_at));
            if waits_with(execution, CREATING) {
                next.waiting = Some(waiting(WaitingKind::Starting, STARTING));
            }
        }
        // The pod may be seen before the Job's uid is stored, which says the same.
        Observation::Waiting(why)
            if why.message == STARTING
                && execution.job_uid.is_none()
                && waits_with(execution, CREATING) =>
        {
            return None;
        }
        Observation::Waiting(why)
            if execution.started_at.is_none() && execution.cancel_requested_at.is_none() =>
        {
            next.waiting = Some(why.clone());
        }
        Observation::Started { at } if execution.started_at.is_none() => start(&mut next, *at, now),
        Observation::Refused { reason, message } | Observation::CannotStart { reason, message }
            if execution.started_at.is_none() =>
        {
            finish(&mut next, ending(*reason, message.clone()), now, now);
        }
        Observation::Ended(end) if is_by_itself(execution, end) => ended(&mut next, end, now),
        // From here on its Job goes by our own doing, so that its going says nothing.
        Observation::PodFailed { .. } | Observation::JobGone { .. }
            if execution.stopping_since.is_some() =>
        {
            return None;
        }
        Observation::PodFailed { reason, message } => {
            finish(&mut next, ending(*reason, message.clone()), now, now);
        }
        Observation::JobGone { message } => {
            finish(
                &mut next,
                ending(Reason::JobDeleted, message.clone()),
                now,
                now,
            );
        }
        Observation::DeadlinePassed => {
            let (clock, at) = execution.deadline()?;
            if now < at {
                return None;
            }
            match clock {
                // Its script runs: that is ended as a cancel is, with its last words.
                Clock::Run => {
                    next.timed_out_at = Some(now);
                    let text = "its time to run is over, and it is being ended";
                    next.waiting = Some(waiting(WaitingKind::Canceling, text));
                }
                Clock::Queue => finish(&mut next, queued_too_long(execution), now, now),
                Clock::Start => finish(&mut next, started_too_late(execution), now, now),
            }
        }
        _ => stop(&mut next, observation, now)?,
    }
    if next == *execution {
        return None;
    }
    next.generation += 1;
    Some(next)
}

/// The steps of a cancel, and of ending what ran too long; none for every other observation.
fn stop(next: &mut Execution, observation: &Observation, now: Timestamp) -> Option<()> {
    let why = next.stop();
    match observation {
        Observation::CancelRequested if next.cancel_requested_at.is_none() => {
            next.cancel_requested_at = Some(now.max(next.created_at));
            if next.dispatched_at.is_none() {
                let ending = canceled(next, None);
                finish(next, ending, now, now);
            } else if why.is_none() {
                next.waiting = Some(waiting(WaitingKind::Canceling, "it is being canceled"));
            }
        }
        Observation::Canceling { message } if why.is_some() => {
            next.waiting = Some(waiting(WaitingKind::Canceling, message));
        }
        Observation::Stopping if why.is_some() && next.stopping_since.is_none() => {
            next.stopping_since = Some(now);
            next.waiting = Some(waiting(WaitingKind::Canceling, "its pod is being ended"));
        }
        Observation::Stopped { end } => {
            let at = end.as_ref().and_then(|end| end.finished_at);
            let at = at.map_or(now, |at| within_its_second(at, now));
            let ending = match why? {
                Stop::Cancel => canceled(next, end.as_ref()),
                Stop::RunTimeout => ran_too_long(next, end.as_ref()),
            };
            finish(next, ending, at, now);
        }
        Observation::StopUnconfirmed { message } if why.is_some() => {
            finish(next, ending(Reason::NodeLost, message.clone()), now, now);
        }
        _ => return None,
    }
    Some(())
}

/// Exit codes of a process that was ended by SIGTERM or SIGKILL: what a deletion sends.
const EXIT_CODES_OF_A_DELETION: [i32; 2] = [143, 137];

/// Whether the container came to that end by itself. Once its Job's deletion is decided, only an end that surely was
/// before counts as such: a script that catches SIGTERM may end with any code, and was ended by us all the same.
fn is_by_itself(execution: &Execution, end: &ContainerEnd) -> bool {
    let Some(since) = execution.stopping_since else {
        return true;
    };
    let by_deletion = EXIT_CODES_OF_A_DELETION.contains(&end.exit_code) && !end.out_of_memory;
    // By the end of the second that Kubernetes names.
    let latest = end
        .finished_at
        .map(|at| within_its_second(at, Timestamp::MAX));
    !by_deletion && latest.is_some_and(|latest| latest < since)
}

fn canceled(execution: &Execution, end: Option<&ContainerEnd>) -> Ending {
    let message = if execution.dispatched_at.is_none() {
        match execution.attempt {
            1 => "the caller canceled it while it was in the queue",
            _ => "the caller canceled it while it waited for its next attempt",
        }
    } else if execution.started_at.is_none() && end.is_none() {
        "the caller canceled it before its container was seen running; nothing of it is left"
    } else {
        "the caller canceled it; its pod is confirmed gone"
    };
    Ending {
        exit_code: end.map(|end| end.exit_code),
        signal: end.and_then(signal),
        ..ending(Reason::CanceledByCaller, message.to_owned())
    }
}

/// The exit code of a process that was ended by SIGKILL.
const EXIT_CODE_OF_A_KILL: i32 = 137;

/// The script's time was over, and it was ended: in its own way when it was asked to, or by force.
fn ran_too_long(execution: &Execution, end: Option<&ContainerEnd>) -> Ending {
    let limit = execution.timeouts.run_seconds;
    let grace = execution.timeouts.grace_seconds;
    let how = match end.map(|end| end.exit_code) {
        None => "was ended; its pod is confirmed gone".to_owned(),
        Some(EXIT_CODE_OF_A_KILL) => {
            format!("did not end within its grace of {grace} s after SIGTERM, so it was killed")
        }
        Some(code) => {
            format!("ended within its grace of {grace} s after SIGTERM, with exit code {code}")
        }
    };
    Ending {
        exit_code: end.map(|end| end.exit_code),
        signal: end.and_then(signal),
        ..ending(
            Reason::RunTimeout,
            format!("the script ran longer than its limit of {limit} s and {how}"),
        )
    }
}

fn waits_with(execution: &Execution, message: &str) -> bool {
    let waiting = execution.waiting.as_ref();
    waiting.is_some_and(|waiting| waiting.message == message)
}

/// A waiting reason in our own words.
pub fn waiting(kind: WaitingKind, message: &str) -> Waiting {
    Waiting {
        kind,
        message: message.to_owned(),
    }
}

fn ending(reason: Reason, message: String) -> Ending {
    Ending {
        reason,
        message,
        exit_code: None,
        signal: None,
    }
}

/// When something happened that Kubernetes dates in whole seconds, as nearly as can be known: within the second that it
/// names, and not after it was seen.
fn within_its_second(at: Timestamp, now: Timestamp) -> Timestamp {
    if at.subsec_nanosecond() != 0 {
        return at;
    }
    let last = at + SignedDuration::from_micros(999_999);
    at.max(now.min(last))
}

/// Times never go backwards, even where the cluster's clock is behind ours.
fn start(next: &mut Execution, at: Timestamp, now: Timestamp) {
    let dispatched = *next.dispatched_at.get_or_insert(at.max(next.due_at));
    next.status = Status::Running;
    next.started_at = Some(within_its_second(at, now).max(dispatched));
    if next.stop().is_none() {
        next.waiting = None;
    }
}

fn finish(next: &mut Execution, ending: Ending, at: Timestamp, now: Timestamp) {
    let earliest = next
        .started_at
        .or(next.dispatched_at)
        .unwrap_or(next.created_at);
    next.status = Status::Finished;
    // A cluster clock ahead of ours must not put the end into the future.
    next.finished_at = Some(at.min(now).max(earliest));
    next.waiting = None;
    next.ending = Some(ending);
}

fn ended(next: &mut Execution, end: &ContainerEnd, now: Timestamp) {
    if next.started_at.is_none() && !end.start_error {
        // Its start was not seen, so nothing narrows the second that Kubernetes names.
        let at = end.started_at.or(end.finished_at).unwrap_or(now);
        start(next, at, at);
    }
    let at = end.finished_at.map_or(now, |at| within_its_second(at, now));
    finish(next, container_ending(end), at, now);
}

/// The highest number of the standard signals (signal(7)): SIGSYS.
const LAST_STANDARD_SIGNAL: i32 = 31;

/// The signal that ended the container, as the runtime says or the exit code tells.
fn signal(end: &ContainerEnd) -> Option<i32> {
    let by_code = (129..=128 + LAST_STANDARD_SIGNAL)
        .contains(&end.exit_code)
        .then(|| end.exit_code - 128);
    end.signal.filter(|s| *s != 0).or(by_code)
}

fn container_ending(end: &ContainerEnd) -> Ending {
    let signal = signal(end);
    let said = if end.message.is_empty() {
        String::new()
    } else {
        format!(": {}", end.message)
    };
    let (reason, message) = if end.out_of_memory {
        (
            Reason::OOMKilled,
            format!(
                "the container went over its memory limit and was killed (exit code {}){said}",
                end.exit_code
            ),
        )
    } else if end.start_error {
        (
            Reason::InvalidSpec,
            format!(
                "the container's command could not be started (exit code {}){said}",
                end.exit_code
            ),
        )
    } else if end.exit_code == 0 {
        (
            Reason::Completed,
            "the script ended with exit code 0".to_owned(),
        )
    } else if let Some(signal) = signal {
        let text = format!(
            "the script was ended by signal {signal} ({}), or exited with code {} itself: Kubernetes reports both alike",
            signal_name(signal),
            end.exit_code
        );
        (Reason::Signaled, text)
    } else {
        (
            Reason::NonZeroExit,
            format!(
                "the script ended with exit code {}{}",
                end.exit_code,
                exit_code_hint(end.exit_code)
            ),
        )
    };
    Ending {
        reason,
        message,
        exit_code: Some(end.exit_code),
        signal: if reason == Reason::Signaled {
            signal
        } else {
            None
        },
    }
}

/// What the shell means by its own exit codes (POSIX, Shell Command Language, 2.8.2).
const fn exit_code_hint(code: i32) -> &'static str {
    match code {
        126 => " (for a shell: a command was found but could not be executed)",
        127 => " (for a shell: a command was not found)",
        _ => "",
    }
}

/// The name of a signal on Linux, by signal(7).
const fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => "see signal(7)",
    }
}

/// What it waited for, in brackets, as the end of a sentence.
fn what_for(execution: &Execution) -> String {
    let waiting = execution.waiting.as_ref();
    waiting.map_or_else(String::new, |why| format!(" ({})", why.message))
}

fn queued_too_long(execution: &Execution) -> Ending {
    let reason = match execution.waiting.as_ref().map(|why| why.kind) {
        Some(WaitingKind::Quota) => Reason::QuotaExceeded,
        _ => Reason::QueueTimeout,
    };
    let limit = execution.timeouts.queue_seconds;
    let why = what_for(execution);
    ending(
        reason,
        format!("it waited in the queue longer than its limit of {limit} s{why}"),
    )
}

fn started_too_late(execution: &Execution) -> Ending {
    let reason = match execution.waiting.as_ref().map(|why| why.kind) {
        Some(WaitingKind::Image) => Reason::ImageUnavailable,
        Some(WaitingKind::Unschedulable) => Reason::Unschedulable,
        Some(WaitingKind::Quota) => Reason::QuotaExceeded,
        Some(WaitingKind::Config) => Reason::InvalidSpec,
        Some(WaitingKind::Admission) => Reason::AdmissionDenied,
        _ => Reason::StartTimeout,
    };
    let limit = execution.timeouts.start_seconds;
    let why = what_for(execution);
    ending(
        reason,
        format!("its container did not start within its limit of {limit} s{why}"),
    )
}

#[cfg(test)]
#[path = "transition_tests.rs"]
pub(crate) mod tests;
