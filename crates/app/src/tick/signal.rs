//! What one part of a tick tells another: that a place is free, or that a list is wanted.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Wakes the one that waits for it. Given several times before it is taken, it is one.
#[derive(Default)]
pub(crate) struct Signal {
    is_given: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    pub fn give(&self) {
        self.is_given.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Waits for it, and takes it.
    pub async fn take(&self) {
        poll_fn(|context| self.poll_take(context)).await;
    }

    pub fn poll_take(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_given.take() {
            return Poll::Ready(());
        }
        self.waker.replace(Some(context.waker().clone()));
        Poll::Pending
    }
}
