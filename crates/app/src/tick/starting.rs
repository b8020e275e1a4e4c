//! Finding out what keeps containers from starting, for those that take long: the ordinary start costs no request.

use std::time::Duration;

use domain::Execution;
use jiff::{SignedDuration, Timestamp};

use super::Tick;
use crate::Platform;
use crate::report::Level;

/// A start that takes longer than this is asked about; then again after twice as long, four times as long, and so on: what
/// keeps it is found soon, and a thousand that wait for hours cost little.
const ASK_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// How often it is looked who is to be asked about.
const LOOK_INTERVAL: Duration = Duration::from_millis(2500);

/// The first look of a tick covers so much of the time before it: the pause between two ticks, give or take.
const COVERED_BEFORE_TICK: SignedDuration = SignedDuration::from_secs(3);

/// So many of those that are to be asked about are, in one look: twice as many as run at once by default. The others are
/// when their next time comes.
const STARTING_LIMIT: u32 = 200;

/// So often one is asked about: the last time comes after 45 hours, and a start may take a day.
const TIMES: u32 = 16;

impl<P: Platform> Tick<'_, P> {
    pub(super) async fn explain_what_waits(&self) {
        let mut before = self.app.now() - COVERED_BEFORE_TICK;
        while !self.is_over() {
            let now = self.app.now();
            match self
                .app
                .store
                .starting_since(&spans(before, now), STARTING_LIMIT)
                .await
            {
                Ok(starting) => {
                    for execution in &starting {
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
                let job = self.app.job_of(execution, execution.job_uid.as_deref());
                self.ended(applied, job).await
            }
            Err(error) => {
                let message = "why it does not start could not be found out";
                let why = error.chain();
                let app = self.app;
                app.report_of(Level::Warn, execution, message, &[("error", &why)]);
                Ok(())
            }
        };
        if let Err(error) = ended {
            let namespace = self.app.namespace_of(execution);
            self.failed_in(namespace, "a Job could not be deleted", &error);
        }
    }
}

/// When those were dispatched of whose times to be asked about one lies between the two. In as many spans as there are times, so
/// that no others are read however many wait.
fn spans(before: Timestamp, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let times = (0..TIMES).map(|n| ASK_AFTER * (1 << n));
    let spans = times.map(|time| (before - time, now - time));
    spans.filter(|(after, until)| after < until).collect()
}

#[cfg(test)]
mod tests {
    //! When one is asked about.
    use super::*;

    #[test]
    fn the_times_double() {
        let dispatched = Timestamp::from_second(1_700_000_000).expect("a time");
        let at = |seconds: i64| dispatched + SignedDuration::from_secs(seconds);
        // Whoever looks every second asks once at each of its times.
        let is_asked = |second: &i64| {
            let spans = spans(at(second - 1), at(*second));
            let covering = spans
                .iter()
                .filter(|(after, until)| *after < dispatched && dispatched <= *until);
            match covering.count() {
                0 => false,
                1 => true,
                many => panic!("{many} spans have it, {second} s after its dispatch"),
            }
        };
        let asked: Vec<i64> = (-3..86_400).filter(is_asked).collect();
        let expected: Vec<i64> = (0..15).map(|n| 5 << n).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_clock_that_goes_back_asks_about_none() {
        let now = Timestamp::from_second(1_700_000_000).expect("a time");
        assert_eq!(spans(now, now), []);
        assert_eq!(spans(now, now - SignedDuration::from_secs(3)), []);
    }
}
