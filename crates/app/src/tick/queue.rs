//! Dispatching what waits, several requests in flight, up to the limit of running executions.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use domain::{Execution, Submission, Tenant};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::{SignedDuration, Timestamp};
use store::Room;

use super::Tick;
use crate::dispatch::{Attempt, Created};
use crate::submit::CLAIM;
use crate::{Error, Platform};

/// How many creations are in flight at most, each until its uid is stored: enough for writes that are apart, and few, so that a crash
/// strands few until their claims end.
const MOST_IN_FLIGHT: usize = 64;

/// The next are claimed when no more than that many are left in flight, so that one statement claims several, and the API server
/// has something to do meanwhile.
const CLAIMED_AT: usize = 32;

/// How many are tried at the beginning of a tick: as good as all where the API server takes them, and no storm where it does not.
const FIRST_WIDTH: usize = 4;

/// How often the queue is looked at while it is empty or the limit is reached.
const QUEUE_INTERVAL: Duration = Duration::from_millis(200);

/// How long after an end the queue is looked at: by then there are more ends, and one statement claims for all of them.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

/// The pause after the API server took nothing, and the probe that tries it again.
const BACK_OFF: Duration = Duration::from_secs(1);

/// While creations are in flight, whether the tick is over is asked this often at least.
const LOOK_UP: Duration = Duration::from_secs(1);

/// How many creations may be in flight, and when the next are claimed.
struct Pace {
    width: usize,
    /// How many in a row the API server did not take.
    refused: usize,
    look_at: Timestamp,
    /// When it is asked again who has waited for a time: for a claim to run out, or a pause to be over.
    late_at: Timestamp,
    /// Tenants whose namespace took a Job of theirs not, and when the next one is tried: so they use up nobody else's turn.
    held: BTreeMap<Tenant, Timestamp>,
}

impl Pace {
    const fn new(now: Timestamp) -> Self {
        Self {
            width: FIRST_WIDTH,
            refused: 0,
            look_at: now,
            late_at: now,
            held: BTreeMap::new(),
        }
    }

    /// Whether to ask for those as well who have waited for a time.
    fn looks_for_late_ones(&mut self, now: Timestamp) -> bool {
        // A clock that was set back is no reason not to.
        let looks = now >= self.late_at || now + QUEUE_INTERVAL < self.late_at;
        if looks {
            self.late_at = now + QUEUE_INTERVAL;
        }
        looks
    }

    /// How many to claim now.
    fn claims(&self, in_flight: usize, now: Timestamp) -> usize {
        if now < self.look_at || in_flight > self.claimed_at() {
            return 0;
        }
        self.width - in_flight
    }

    fn claimed_at(&self) -> usize {
        CLAIMED_AT.min(self.width - 1)
    }

    /// After that many were claimed of those asked for: where it was fewer, nobody waits or there is no room.
    fn claimed(&mut self, count: usize, asked: usize, now: Timestamp) {
        if count < asked {
            self.look_at = now + QUEUE_INTERVAL;
        }
    }

    /// Of those who are held, how many may be claimed now.
    fn held(&self, now: Timestamp) -> BTreeMap<Tenant, u32> {
        let held = self.held.iter();
        held.map(|(tenant, at)| (tenant.clone(), u32::from(now >= *at)))
            .collect()
    }

    /// One of that tenant is tried; where it is held, the only one for a while.
    fn tried(&mut self, tenant: &Tenant, now: Timestamp) {
        if let Some(at) = self.held.get_mut(tenant) {
            *at = now + BACK_OFF;
        }
    }

    fn freed(&mut self, now: Timestamp) {
        self.look_at = self.look_at.min(now + ROOM_INTERVAL);
    }

    /// After a creation. One probe at a time from when the API server takes none until it takes one again.
    fn created(&mut self, tenant: &Tenant, created: Created, now: Timestamp) {
        let patience = match created {
            Created::Settled => {
                self.held.remove(tenant);
                (self.refused, self.width) = (0, MOST_IN_FLIGHT);
                return;
            }
            Created::Refused => {
                self.held.insert(tenant.clone(), now + BACK_OFF);
                return;
            }
            Created::Later => None,
            Created::Patience(wait) => Some(wait),
        };
        self.refused += 1;
        if patience.is_some() || self.refused >= self.width {
            self.back_off(patience, now);
        }
    }

    fn back_off(&mut self, patience: Option<SignedDuration>, now: Timestamp) {
        let asked = patience.and_then(|wait| now.checked_add(wait).ok());
        self.width = 1;
        self.look_at = (now + BACK_OFF).max(self.look_at).max(asked.unwrap_or(now));
    }
}

/// What a wait ended with.
enum Woken {
    Created(Tenant, Created),
    Room,
    Time,
}

impl<P: Platform> Tick<'_, P> {
    /// Claims and creates in a steady flow. What is in flight at the tick's end comes to its own end.
    pub(super) async fn drain_queue(&self) {
        let mut pace = Pace::new(self.app.now());
        let mut in_flight = FuturesUnordered::new();
        while !self.is_over() {
            let now = self.app.now();
            let asked = pace.claims(in_flight.len(), now);
            if asked > 0 {
                let looks = pace.looks_for_late_ones(now);
                let held = pace.held(now);
                let mut created = Vec::new();
                let claimed = beside(
                    &mut in_flight,
                    &mut created,
                    self.claim(asked, looks, &held),
                );
                let claimed = claimed.await;
                for (tenant, created) in created {
                    self.count(&mut pace, &tenant, created);
                }
                match claimed {
                    Ok(claimed) => {
                        for ((execution, _), _) in &claimed {
                            pace.tried(&execution.tenant, now);
                            // Its pod may be seen before the answer to its creation is looked at.
                            self.app.records.keep(execution.clone());
                        }
                        pace.claimed(claimed.len(), asked, self.app.now());
                        in_flight.extend(claimed.into_iter().map(|claim| self.create(claim)));
                    }
                    Err(error) => {
                        self.failed("the queue could not be read", &error);
                        pace.back_off(None, self.app.now());
                    }
                }
            }
            let is_full = in_flight.len() > pace.claimed_at();
            let until_look = pace.look_at.duration_since(self.app.now());
            let until_look = Duration::try_from(until_look).unwrap_or_default();
            let mut pause = pin!(self.pause(if is_full { LOOK_UP } else { until_look }));
            let woken = poll_fn(|context| {
                if let Poll::Ready(Some((tenant, created))) = in_flight.poll_next_unpin(context) {
                    return Poll::Ready(Woken::Created(tenant, created));
                }
                if self.room.poll_take(context).is_ready() {
                    return Poll::Ready(Woken::Room);
                }
                pause.as_mut().poll(context).map(|()| Woken::Time)
            });
            match woken.await {
                Woken::Created(tenant, created) => self.count(&mut pace, &tenant, created),
                // Not while the API server is to be left alone.
                Woken::Room if pace.width > 1 => pace.freed(self.app.now()),
                Woken::Room | Woken::Time => {}
            }
        }
        while let Some((tenant, created)) = in_flight.next().await {
            self.count(&mut pace, &tenant, created);
        }
    }

    fn count(&self, pace: &mut Pace, tenant: &Tenant, created: Created) {
        pace.created(tenant, created, self.app.now());
        if created == Created::Settled {
            self.dispatched.set(self.dispatched.get() + 1);
        }
    }

    async fn create(&self, ((execution, submission), attempt): Claimed) -> (Tenant, Created) {
        let app = self.app;
        let created = app.create_job(&execution, &submission, attempt).await;
        (execution.tenant, created)
    }

    /// Up to that many: first those whose creation somebody began, then those that wait, as far as there is room.
    ///
    /// Whose claim has run out and whose pause is over is asked each [`QUEUE_INTERVAL`], as often as while nothing happens: a claim lasts
    /// 15 s and a pause a second at least, and in a drain each end makes room for somebody who is ready.
    async fn claim(
        &self,
        most: usize,
        looks: bool,
        held: &BTreeMap<Tenant, u32>,
    ) -> Result<Vec<Claimed>, Error> {
        let app = self.app;
        let now = app.now();
        let limit = |taken: usize| u32::try_from(most.saturating_sub(taken)).unwrap_or(u32::MAX);
        let mut claimed: Vec<Claimed> = Vec::new();
        if looks {
            let begun = app.store.claim_unconfirmed(now, now + CLAIM, limit(0));
            let again = |claim| (claim, Attempt::Again);
            claimed.extend(begun.await?.into_iter().map(again));
        }
        if claimed.len() < most {
            let room = Room {
                max_running: app.config.max_running,
                held: Some(held),
            };
            let left = limit(claimed.len());
            let store = &app.store;
            let waiting = async {
                if looks {
                    store.claim_queued(now, now + CLAIM, room, left).await
                } else {
                    store.claim_ready(now, now + CLAIM, room, left).await
                }
            };
            let first = |claim: (Execution, Submission)| {
                let attempt = Attempt::from_queue(&claim.0);
                (claim, attempt)
            };
            match waiting.await {
                Ok(waiting) => claimed.extend(waiting.into_iter().map(first)),
                // What is claimed already is created all the same.
                Err(error) if !claimed.is_empty() => {
                    self.failed("the queue could not be read", &error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(claimed)
    }
}

/// Goes on with what is in flight, and keeps what that came to, until the claim is there.
async fn beside<F: Future>(
    in_flight: &mut FuturesUnordered<impl Future<Output = (Tenant, Created)>>,
    created: &mut Vec<(Tenant, Created)>,
    claim: F,
) -> F::Output {
    let mut claim = pin!(claim);
    poll_fn(|context| {
        while let Poll::Ready(Some(one)) = in_flight.poll_next_unpin(context) {
            created.push(one);
        }
        claim.as_mut().poll(context)
    })
    .await
}

/// An execution whose Job is this tick's to create.
type Claimed = ((Execution, Submission), Attempt);
