//! Finding out what keeps containers from starting, for those that take long: the ordinary start costs no request.

use std::time::Duration;

use domain::Execution;
use jiff::{SignedDuration, Timestamp};

use super::Tick;
use crate::{Platform, Runtime};

/// A start that takes longer than this is asked about; then again after twice as long, four times as long, and so on: what
/// keeps it is found soon, and a thousand that wait for hours cost little.
const ASK_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// How often it is looked who is to be asked about.
const LOOK_INTERVAL: Duration = Duration::from_millis(2500);

/// The first look of a tick covers so much of the time before it: the pause between two ticks, give or take.
const COVERED_BEFORE_TICK: SignedDuration = SignedDuration::from_secs(3);

/// So many that start are looked at, the longest waiting first: twice as many as run at once by default.
const STARTING_LIMIT: u32 = 200;

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn explain_what_waits(&self) {
        let mut before = self.app.now() - COVERED_BEFORE_TICK;
        while !self.is_over() {
            let now = self.app.now();
            match self
                .app
                .store
                .starting_since(now - ASK_AFTER, STARTING_LIMIT)
                .await
            {
                Ok(starting) => {
                    for execution in starting.iter().filter(|e| is_due(e, before, now)) {
                        if self.is_over() {
                            return;
                        }
                        self.explain_or_log(execution).await;
                    }
                }
                Err(error) => self.failed("what starts could not be read", &error.into()),
            }
            before = now;
            self.pause(LOOK_INTERVAL).await;
        }
    }

    /// Nothing depends on an explanation, so that it fails is no failure of the tick: the right to read events may be missing.
    pub(super) async fn explain_or_log(&self, execution: &Execution) {
        let ended = match self.app.explain(execution).await {
            Ok(applied) => {
                let uid = execution.job_uid.as_deref();
                self.ended(applied, execution.id, execution.attempt, uid)
                    .await
            }
            Err(error) => {
                self.app.runtime.log(
                    "why it does not start could not be found out",
                    &[("execution", &execution.id), ("error", &error.chain())],
                );
                Ok(())
            }
        };
        if let Err(error) = ended {
            self.failed("a Job could not be deleted", &error);
        }
    }
}

/// Whether one of its times to be asked about lies between the two.
fn is_due(execution: &Execution, before: Timestamp, now: Timestamp) -> bool {
    execution.dispatched_at.is_some_and(|at| {
        times_asked(now.duration_since(at)) > times_asked(before.duration_since(at))
    })
}

/// How often it should have been asked about when the start has taken that long.
fn times_asked(start: SignedDuration) -> u32 {
    let seconds = u64::try_from(start.as_secs() / ASK_AFTER.as_secs()).unwrap_or(0);
    u64::BITS - seconds.leading_zeros()
}

#[cfg(test)]
mod tests {
    //! When one is asked about.
    use super::*;

    #[test]
    fn the_times_double() {
        for (seconds, expected) in [
            (-3, 0),
            (0, 0),
            (4, 0),
            (5, 1),
            (9, 1),
            (10, 2),
            (19, 2),
            (20, 3),
            (40, 4),
            (86_400, 15),
        ] {
            assert_eq!(
                times_asked(SignedDuration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }
}
