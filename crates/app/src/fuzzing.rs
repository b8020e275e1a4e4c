//! What reads pods and logs, as plain functions: for `tests/fuzz`, which else had no way to it but through whole ticks.

use bytes::Bytes;
use domain::Observation;
use jiff::Timestamp;
use kubernetes::PodObservation;
use store::StoredLog;

use crate::collector::{Collector, Place as FollowedPlace, Stamped};
use crate::lines::{LineReader, LogNews, Place, StoredReader};
use crate::observe;

pub use crate::collector::{LOG_HEAD_LIMIT_BYTES, LOG_TAIL_LIMIT_BYTES};

/// What a pod tells about its execution; none where it tells nothing new.
pub fn observation(pod: &PodObservation) -> Option<Observation> {
    observe::observation(pod)
}

/// A log with times, as ticks follow it through several answers of a node.
#[derive(Debug, Default)]
pub struct Followed {
    collector: Collector,
    answer: Stamped,
}

impl Followed {
    /// Takes the next piece of an answer. Answers whether there was a gap before something of it.
    pub fn push(&mut self, piece: &[u8]) -> bool {
        self.answer.push(piece, &mut self.collector)
    }

    /// Goes on with another answer, in another instance that has what this one stored.
    pub fn handed_on(&self) -> Self {
        let stored = self.collector.to_store("p", "u", self.answer.place());
        Self {
            collector: Collector::restored(&stored),
            answer: Stamped::from(FollowedPlace::restored(&stored)),
        }
    }

    /// From when on the next answer is asked for; none for all of the log.
    pub fn since(&self) -> Option<Timestamp> {
        self.answer.place().and_then(FollowedPlace::since)
    }

    /// What is kept.
    pub fn log(&self) -> StoredLog {
        self.collector.log()
    }
}

/// The news of a log that comes in these pieces and ends, from a place on; none where the place is of another log.
pub fn live(pieces: &[&[u8]], from: Place) -> Option<Vec<LogNews>> {
    let mut reader = LineReader::new(from);
    let mut news = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece)).ok()?;
        news.extend(std::iter::from_fn(|| reader.line()));
    }
    news.extend(reader.rest());
    Some(news)
}

/// The news of a stored log, from a place on; none where the place is surely of another log.
pub fn stored(log: StoredLog, from: Place) -> Option<Vec<LogNews>> {
    StoredReader::new(log, from).ok().map(Iterator::collect)
}
