//! The figures that operators watch, as they are now.

use std::time::Duration;

use jiff::Timestamp;
use store::{Figures, LeaseRow, Measure, Timing};

use crate::tick::LEASE;
use crate::{App, Error, Platform, Runtime};

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// What the store counts.
    pub figures: Figures,
    /// What took how long, each with its measure and label. Requests to the API server have verb and result, with a blank between.
    pub timings: Vec<(Measure, String, Timing)>,
    /// The lease of the ticks, and what they have spent; none before the first one.
    pub lease: Option<LeaseRow>,
    /// For how long the oldest execution that does not run yet has been waiting; none when there is none.
    pub oldest_queued: Option<Duration>,
    /// How long ago a tick last renewed its lease, or gave it back; none before the first one.
    pub last_tick: Option<Duration>,
    /// Whether a tick is at work.
    pub is_ticking: bool,
}

impl<P: Platform> App<P> {
    /// Reads the figures: three small reads of the store, however many executions there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        let figures = self.store.figures().await?;
        let timings = self.store.timings().await?;
        let lease = self.store.lease(LEASE).await?;
        let now = self.runtime.now();
        // Another instance's clock may be ahead of ours.
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        Ok(Metrics {
            oldest_queued: figures.oldest_queued_at.map(age),
            last_tick: lease.as_ref().map(|lease| age(lease.renewed_at)),
            is_ticking: lease.as_ref().is_some_and(|lease| now < lease.expires_at),
            figures,
            timings,
            lease,
        })
    }
}
