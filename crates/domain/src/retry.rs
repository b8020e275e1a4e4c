//! Retries: which ends get another attempt, after which pause, and what is kept of the attempts before it.
//!
//! An attempt that ends is first brought to its end by [`transition`](crate::transition::transition), as if it were the
//! execution's; [`next_attempt`] then says whether another one takes its place. So each end is told the same way, whether it is the last or not.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use crate::execution::{Execution, LogSummary, Status, Waiting, WaitingKind};
use crate::reason::{Ending, Outcome, Reason};

/// The pause before the first retry: what was just busy has a moment.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// The longest pause. Each is twice the one before up to here, so that ten retries are over within minutes.
const LAST_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// Doublings after which every pause is the longest: the seventh retry's.
const MAX_DOUBLINGS: u32 = 6;

/// What its caller wants tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts there may be beyond the first.
    pub limit: u32,
    /// Whether an attempt that ends as `ERROR` is followed by another.
    pub on_error: bool,
    /// Whether one that ends as `FAILED` is.
    pub on_failed: bool,
}

impl Default for Retry {
    /// No retries; were there any, of errors alone.
    fn default() -> Self {
        Self {
            limit: 0,
            on_error: true,
            on_failed: false,
        }
    }
}

impl Retry {
    /// The outcomes that can be retried at all.
    pub const OUTCOMES: [Outcome; 2] = [Outcome::Error, Outcome::Failed];

    /// Retries of just those outcomes; others than [`OUTCOMES`](Self::OUTCOMES) count for nothing.
    pub fn of(limit: u32, outcomes: &[Outcome]) -> Self {
        Self {
            limit,
            on_error: outcomes.contains(&Outcome::Error),
            on_failed: outcomes.contains(&Outcome::Failed),
        }
    }

    /// Whether an attempt with that outcome is to be followed by another.
    pub const fn covers(self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Error => self.on_error,
            Outcome::Failed => self.on_failed,
            Outcome::Succeeded | Outcome::Canceled => false,
        }
    }

    /// The outcomes that are to be tried again.
    pub fn outcomes(self) -> Vec<Outcome> {
        let outcomes = Self::OUTCOMES.into_iter();
        outcomes.filter(|outcome| self.covers(*outcome)).collect()
    }
}

/// What is kept of one attempt; of the one under way, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// Counted from 1.
    pub number: u32,
    /// When it was decided to create its Job.
    pub dispatched_at: Option<Timestamp>,
    /// When its container started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// What is kept of its log.
    pub log: Option<LogSummary>,
}

/// What something was seen of: an attempt, and its Job where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// The attempt's number.
    pub attempt: u32,
    /// The uid of the Job that it was seen of.
    pub job_uid: Option<&'a str>,
}

/// What an observation means for an execution, going by what it is [`About`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relevance {
    /// It is of the attempt that the execution is at.
    Current,
    /// It is of an earlier attempt: nothing of that can change the execution any more.
    Past,
    /// It is of no attempt of this execution: of another Job of the same name, or of an attempt that there has not been.
    Foreign,
}

impl Execution {
    /// What something that was seen of that means for it.
    pub fn relevance(&self, about: About<'_>) -> Relevance {
        let other_job = match (about.job_uid, self.job_uid.as_deref()) {
            (Some(seen), Some(known)) => seen != known,
            _ => false,
        };
        match about.attempt.cmp(&self.attempt) {
            Ordering::Less => Relevance::Past,
            Ordering::Equal if !other_job => Relevance::Current,
            Ordering::Equal | Ordering::Greater => Relevance::Foreign,
        }
    }

    /// The attempt that it is at, once that is dispatched.
    pub fn current_attempt(&self) -> Option<AttemptRecord> {
        self.dispatched_at.map(|dispatched_at| AttemptRecord {
            number: self.attempt,
            dispatched_at: Some(dispatched_at),
            started_at: self.started_at,
            finished_at: self.finished_at,
            ending: self.ending.clone(),
            log: self.log,
        })
    }

    /// How many attempts there can be in all.
    pub const fn most_attempts(&self) -> u32 {
        self.retry.limit.saturating_add(1)
    }
}

/// The execution at its next attempt, in place of `ended`, the generation with which the attempt before it ended; none
/// where that is the end of all.
///
/// The status of `before`, the generation before that, is kept or moves forward: what has run stays `Running`.
pub fn next_attempt(before: &Execution, ended: &Execution, now: Timestamp) -> Option<Execution> {
    let ending = ended.ending.as_ref().filter(|end| is_retried(ended, end))?;
    let due_at = now.checked_add(pause(ended.attempt)).ok()?;
    let attempt = ended.attempt + 1;
    let message = format!(
        "attempt {attempt} of {} starts at {due_at:.0}: attempt {} ended {}",
        ended.most_attempts(),
        ended.attempt,
        ending.reason.as_str()
    );
    let has_run = ended.started_at.is_some();
    Some(Execution {
        status: if has_run {
            Status::Running
        } else {
            before.status
        },
        attempt,
        due_at,
        dispatched_at: None,
        job_uid: None,
        started_at: None,
        timed_out_at: None,
        stopping_since: None,
        finished_at: None,
        ending: None,
        waiting: Some(Waiting {
            kind: WaitingKind::Retry,
            message,
        }),
        log: None,
        ..ended.clone()
    })
}

fn is_retried(ended: &Execution, ending: &Ending) -> bool {
    // A script that may still run would run twice at once.
    let may_run = matches!(ending.reason, Reason::NodeLost | Reason::Lost);
    ended.attempt < ended.most_attempts()
        && ended.retry.covers(ending.outcome())
        && !may_run
        // The queue clock ran out, whatever it waited for: nothing was attempted.
        && ended.dispatched_at.is_some()
        && ended.cancel_requested_at.is_none()
}

/// The pause after the attempt with that number.
fn pause(attempt: u32) -> SignedDuration {
    let doublings = attempt.saturating_sub(1).min(MAX_DOUBLINGS);
    (FIRST_PAUSE * (1_i32 << doublings)).min(LAST_PAUSE)
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
