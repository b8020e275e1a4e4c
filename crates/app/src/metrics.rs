//! The figures that operators watch, as they are now.

use std::time::Duration;

use jiff::Timestamp;
use store::Figures;

use crate::tick::LAST_TICK;
use crate::{App, Error, Platform, Runtime};

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// What the store counts.
    pub figures: Figures,
    /// For how long the oldest execution that does not run yet has been waiting; none when there is none.
    pub oldest_queued: Option<Duration>,
    /// How long ago a tick last left its mark; none before the first one.
    pub last_tick: Option<Duration>,
}

impl<P: Platform> App<P> {
    /// Reads the figures: two small reads of the store, however many executions there are.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn metrics(&self) -> Result<Metrics, Error> {
        let figures = self.store.figures().await?;
        let last_tick = self.store.get_state(LAST_TICK).await?;
        let last_tick = last_tick.and_then(|text| text.parse::<Timestamp>().ok());
        let now = self.runtime.now();
        // Another instance's clock may be ahead of ours.
        let age = |at: Timestamp| Duration::try_from(now.duration_since(at)).unwrap_or_default();
        Ok(Metrics {
            oldest_queued: figures.oldest_queued_at.map(age),
            last_tick: last_tick.map(age),
            figures,
        })
    }
}
