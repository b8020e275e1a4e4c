//! How long a caller wants to wait for the end: `?wait=N`, or `Prefer: wait=N` (RFC 7240).

use std::time::Duration;

use app::Platform;
use http::HeaderMap;

use crate::answer::Reply;
use crate::headers::{PREFERENCE_APPLIED, preferred_wait};
use crate::limits::MAX_WAIT_SECONDS;
use crate::query::Query;

/// A wait that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    seconds: u32,
}

impl Wait {
    /// Reads the query, then the header; the query counts where both are given.
    pub fn read(query: &mut Query, headers: &HeaderMap) -> Option<Self> {
        let asked = query.number("wait", 0..=MAX_WAIT_SECONDS);
        let seconds = asked.or_else(|| preferred_wait(headers))?;
        Some(Self { seconds })
    }

    /// For how long.
    pub fn limit(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// Says on the answer that it was waited, and for how long at most.
    pub fn applied<P: Platform>(wait: Option<Self>, reply: Reply<P>) -> Reply<P> {
        match wait {
            Some(wait) => reply.header_text(PREFERENCE_APPLIED, &format!("wait={}", wait.seconds)),
            None => reply,
        }
    }
}
