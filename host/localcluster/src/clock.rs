//! The clock is an input: the shell passes the machine's, a simulator passes its own.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// Tells the time to the core, which never reads a clock of its own.
pub trait Clock: Send + Sync {
    /// The present moment, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands still until it is moved; for tests and simulations.
#[derive(Debug)]
pub struct ManualClock {
    milliseconds: AtomicI64,
}

impl ManualClock {
    /// A clock standing at `milliseconds` since the Unix epoch.
    pub fn at(milliseconds: i64) -> Self {
        Self {
            milliseconds: AtomicI64::new(milliseconds),
        }
    }

    /// Moves the clock forward by `milliseconds`.
    pub fn advance(&self, milliseconds: i64) {
        self.milliseconds.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let milliseconds = self.milliseconds.load(Ordering::SeqCst);
        Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

/// RFC 3339 with whole seconds, as `metav1.Time` is written.
pub fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// RFC 3339 with microseconds, as `metav1.MicroTime` is written.
pub fn micros(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// RFC 3339 with nanoseconds, as the kubelet prefixes log lines.
pub fn nanos(time: Timestamp) -> String {
    format!("{time:.9}")
}
