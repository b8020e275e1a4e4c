//! Gives the instance's connection back while the instance waits for something else.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use wstd::time::Wait;

use super::{give_back, in_use};

/// For so long a connection is kept without being used: longer than the API server takes to create a Job, since the next statement
/// follows that; and so short that a thousand followers, each of which asks now and then, do with the host's 64.
/// To open one again costs a round trip.
const KEPT_UNUSED: Duration = Duration::from_millis(5);

/// Sees to it that the connection goes back. Polled after the instance's work whenever that waits.
#[derive(Default)]
pub struct Keeper {
    /// How often the connection had been used when the timer was set.
    timer: Option<(u64, Pin<Box<Wait>>)>,
}

impl Keeper {
    /// Gives the connection back when it was not used since the timer was set. One timer runs to its end before the next is
    /// set, so that a busy instance does not set one with every statement.
    pub fn poll(&mut self, context: &mut Context<'_>) {
        while let Some(uses) = in_use() {
            let (before, timer) = self
                .timer
                .get_or_insert_with(|| (uses, Box::pin(wstd::task::sleep(KEPT_UNUSED.into()))));
            if timer.as_mut().poll(context) == Poll::Pending {
                return;
            }
            if *before == uses {
                give_back();
            }
            self.timer = None;
        }
        self.timer = None;
    }
}
