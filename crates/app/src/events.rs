//! The timeline of an execution: read once, or followed until its end.

use std::time::Duration;

use domain::{ExecutionId, Status};
use store::{Event, MAX_EVENTS};

use crate::{App, Caller, Error, Platform, Runtime, View};

/// How many lines are read at once: all that there can be, but for a few essential ones, which the next reading has.
const EVENTS_PAGE: u32 = MAX_EVENTS;

/// How often a follower looks for new lines: a person reads along.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// A timeline that is being followed, from a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineFollower {
    id: ExecutionId,
    /// The number of the last line that was given.
    after: u32,
    ended: bool,
}

/// What a follower is given next.
#[derive(Clone, Debug, PartialEq)]
pub enum TimelineNews {
    /// New lines, in their order.
    Lines(Vec<Event>),
    /// It is finished, and every line was given.
    End(Box<View>),
}

impl TimelineFollower {
    /// Begins after the line with that number; 0 is before the first.
    pub const fn new(id: ExecutionId, after: u32) -> Self {
        Self {
            id,
            after,
            ended: false,
        }
    }

    /// The number of the last line that was given.
    pub const fn last(&self) -> u32 {
        self.after
    }

    /// Waits for news; none after the end, or when the execution is not there any more. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the store cannot be read; the same call can be made again.
    pub async fn next<P: Platform>(&mut self, app: &App<P>) -> Result<Option<TimelineNews>, Error> {
        while !self.ended {
            // The record first: a timeline that is read after its end was stored is whole.
            let Some(execution) = app.store.get(self.id).await? else {
                break;
            };
            let lines = app.store.events(self.id, self.after, EVENTS_PAGE).await?;
            if let Some(last) = lines.last() {
                self.after = last.sequence;
                return Ok(Some(TimelineNews::Lines(lines)));
            }
            if execution.status == Status::Finished {
                self.ended = true;
                let view = app.view(execution).await?;
                return Ok(Some(TimelineNews::End(Box::new(view))));
            }
            app.runtime.sleep(FOLLOW_INTERVAL).await;
        }
        Ok(None)
    }
}

impl<P: Platform> App<P> {
    /// The whole timeline; none for an id that the caller's tenant has not.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Option<Vec<Event>>, Error> {
        if self.store.get_of(&caller.tenant, id).await?.is_none() {
            return Ok(None);
        }
        let mut all: Vec<Event> = Vec::new();
        loop {
            let after = all.last().map_or(0, |event| event.sequence);
            let page = self.store.events(id, after, EVENTS_PAGE).await?;
            if page.is_empty() {
                return Ok(Some(all));
            }
            all.extend(page);
        }
    }
}
