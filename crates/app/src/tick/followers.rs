//! Following the logs of what runs, from its start on and from tick to tick.

use std::rc::Rc;

use domain::ExecutionId;
use futures::StreamExt;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use kubernetes::PodObservation;

use super::Tick;
use crate::followers::{Follower, MAX_FOLLOWERS};
use crate::{Error, Platform};

/// Where logs to be followed are noted.
pub(super) type ToFollow = UnboundedSender<(ExecutionId, Rc<Follower>)>;

/// Where they are taken from. No more than [`MAX_FOLLOWERS`] are noted.
pub(super) type Wanted = UnboundedReceiver<(ExecutionId, Rc<Follower>)>;

/// So many are read in one statement. Each may have 2 MiB, as an answer 32 MiB then, a quarter of what a host gives.
const RESUMED_AT_ONCE: usize = 16;

impl<P: Platform> Tick<'_, P> {
    /// Notes that the log of a pod whose script has started is to be followed, if there is room.
    pub(super) fn follow(&self, id: ExecutionId, pod: &PodObservation) {
        if let Some(follower) = self.app.add_follower(id, pod) {
            self.begin(id, follower);
        }
    }

    fn begin(&self, id: ExecutionId, follower: Rc<Follower>) {
        // It is taken for as long as the tick works; afterwards nobody follows.
        let _ = self.to_follow.unbounded_send((id, follower));
    }

    /// Follows them until the tick ends.
    pub(super) async fn follow_logs(&self, wanted: Wanted) {
        if let Err(error) = self.resume_followers().await {
            self.failed("the followed logs could not be read", &error);
        }
        let all = wanted.for_each_concurrent(None, |(id, follower)| async move {
            self.app.follow(id, &follower).await;
        });
        self.unless_over(all).await;
    }

    /// Goes on with those that the tick before has followed.
    async fn resume_followers(&self) -> Result<(), Error> {
        let limit = u32::try_from(MAX_FOLLOWERS).unwrap_or(u32::MAX);
        let ids = self.app.store.followed_ids(limit).await?;
        for some in ids.chunks(RESUMED_AT_ONCE) {
            if self.is_over() {
                return Ok(());
            }
            for (id, follower) in self.app.resume_followers(some).await? {
                self.begin(id, follower);
            }
        }
        Ok(())
    }

    /// Leaves to the next tick what these have read. Who lost the lease leaves that to whoever has it.
    pub(super) async fn save_followed(&self) {
        if self.lost.get() {
            return;
        }
        if let Err(error) = self.app.save_followers().await {
            self.failed("the followed logs could not be stored", &error);
        }
    }
}
