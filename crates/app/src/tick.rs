//! One tick: take the lease, see what changed, dispatch what waits, end what is due, until the budget is spent.
//!
//! A tick is idempotent and does not know who called it. It never retries inside: whatever fails is marked, and a full list
//! follows, which is the truth that the watch only hints at.

mod cancels;
mod deadlines;
mod followers;
mod in_hand;
mod list;
mod queue;
mod retention;
pub(crate) mod signal;
mod starting;
mod watch;
mod webhooks;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use futures::channel::mpsc::unbounded;
use futures::future::{self, Either};
use jiff::{SignedDuration, Timestamp};
use store::Spent;

use crate::report::Level;
use crate::{App, Error, Platform, Runtime};
use followers::{ToFollow, Wanted};
use in_hand::InHand;
use list::{Listing, Pass};
use signal::Signal;

/// The lease's name in the store. That it is renewed tells readiness that somebody ticks.
pub(crate) const LEASE: &str = "tick";

/// How long a lease lasts without renewal. A killed holder's work moves on after this and the next tick.
pub(crate) const LEASE_TTL: SignedDuration = SignedDuration::from_secs(5);

/// How often the holder renews: three chances within one lease.
const LEASE_RENEWAL: Duration = Duration::from_millis(1500);

/// How long a scheduled tick waits for the one before to end.
const LEASE_PATIENCE: SignedDuration = SignedDuration::from_secs(3);

/// How often it looks meanwhile: what ends between two ticks is seen so much later.
const LEASE_POLL: Duration = Duration::from_millis(50);

/// How long after its budget a tick that somebody waits for goes on with attempts at webhooks that are under way: ten times what
/// a receiver in reach takes, and short beside the timeouts of whoever calls.
const LAST_ATTEMPTS: SignedDuration = SignedDuration::from_secs(2);

/// The state key of the pods' resourceVersion to watch from: what came before it is carried out, or for a list to tell that is
/// under way or to follow.
const RESOURCE_VERSION: &str = "podsResourceVersion";

/// The state key of how far the full list is.
const LISTING: &str = "listing";

/// The state key of the last full list's time, RFC 3339.
const LISTED_AT: &str = "listedAt";

/// The watch is a hint; after this long a full list tells the truth again.
const FULL_LIST_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// How many pods' observations are worked on at once: each is a few round trips to the store and the API server.
const OBSERVATIONS_IN_FLIGHT: usize = 64;

/// What one tick did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Whether this tick had the lease. If not, it did nothing.
    pub leader: bool,
    /// Who has the lease, when this tick had not.
    pub holder: Option<String>,
    /// How many Jobs it created or adopted.
    pub dispatched: u32,
    /// How many executions it finished.
    pub finished: u32,
    /// How many records it forgot since they had expired.
    pub forgotten: u32,
    /// How many Jobs it deleted that were made for executions which this database no longer knows.
    pub swept: u32,
    /// Whether it made a full list, or a part of one.
    pub listed: bool,
    /// How many things it left to the next tick.
    pub failures: u32,
}

/// What the parts of one tick share.
struct Tick<'a, P: Platform> {
    app: &'a App<P>,
    holder: String,
    ends_at: Timestamp,
    /// When attempts at webhooks must be over; none lets each have its time.
    attempts_end: Option<Timestamp>,
    /// Set when the lease was lost or could not be renewed in time: everything ends.
    lost: Cell<bool>,
    dispatched: Cell<u32>,
    finished: Cell<u32>,
    forgotten: Cell<u32>,
    swept: Cell<u32>,
    failures: Cell<u32>,
    last_failure: RefCell<String>,
    listed: Cell<bool>,
    /// Something was left undone that a list tells of which begins from now on.
    missed: Cell<bool>,
    /// Given with each of these.
    list_wanted: Signal,
    /// Whether there is a version to watch from.
    knows_version: Cell<bool>,
    /// How far the list is, as it is stored.
    kept_place: RefCell<String>,
    /// The uids of the Jobs that this tick has deleted since their attempts are over: their pods' last events need no look at
    /// the store.
    done: RefCell<HashSet<String>>,
    in_hand: InHand,
    /// Takes the logs that are to be followed.
    to_follow: ToFollow,
    /// Given with each attempt that ends.
    room: Signal,
}

impl<P: Platform> App<P> {
    /// Works for that long, unless another holds the lease; then it returns at once. The caller waits for the answer, so
    /// a receiver of webhooks that hangs at the end gets two seconds more and not the whole time of an attempt.
    ///
    /// # Errors
    /// When the store fails at the lease. What fails later is counted in the report.
    pub async fn tick(&self, budget: Duration) -> Result<TickReport, Error> {
        self.tick_within(budget, SignedDuration::ZERO, Some(LAST_ATTEMPTS))
            .await
    }

    /// The same for a caller on a schedule: the tick before may take a moment longer than its budget to finish what it
    /// has in hand, so this one waits for the lease a little, lest nobody ticks until the next one. It ends
    /// when it would have ended without the wait.
    ///
    /// # Errors
    /// As [`App::tick`].
    pub async fn scheduled_tick(&self, budget: Duration) -> Result<TickReport, Error> {
        self.tick_within(budget, LEASE_PATIENCE, None).await
    }

    async fn tick_within(
        &self,
        budget: Duration,
        patience: SignedDuration,
        last_attempts: Option<SignedDuration>,
    ) -> Result<TickReport, Error> {
        let called = self.runtime.now();
        let spent_before = self.spent();
        let span = self.runtime.random::<8>();
        let holder = hex(&span);
        self.tick_in_span(u64::from_be_bytes(span));
        loop {
            let now = self.runtime.now();
            let lease = self
                .store
                .acquire_lease(LEASE, &holder, now, now + LEASE_TTL)
                .await?;
            if lease.is_some() {
                break;
            }
            if now.duration_since(called) >= patience {
                let holder = self.store.lease(LEASE).await?.map(|lease| lease.holder);
                return Ok(TickReport {
                    holder,
                    ..TickReport::default()
                });
            }
            self.runtime.sleep(LEASE_POLL).await;
        }
        let ends_at = called + SignedDuration::try_from(budget).unwrap_or(LEASE_TTL);
        let (to_follow, wanted) = unbounded();
        let tick = Tick {
            app: self,
            holder,
            ends_at,
            attempts_end: last_attempts.map(|more| ends_at + more),
            lost: Cell::new(false),
            dispatched: Cell::new(0),
            finished: Cell::new(0),
            forgotten: Cell::new(0),
            swept: Cell::new(0),
            failures: Cell::new(0),
            last_failure: RefCell::default(),
            listed: Cell::new(false),
            missed: Cell::new(false),
            list_wanted: Signal::default(),
            knows_version: Cell::new(false),
            kept_place: RefCell::default(),
            done: RefCell::default(),
            in_hand: InHand::default(),
            to_follow,
            room: Signal::default(),
        };
        self.meter.is_stored_regularly.set(true);
        let leading = async {
            let report = tick.run(wanted).await;
            self.store_tally().await;
            let spent = tick.spent(called, &spent_before);
            let now = self.runtime.now();
            self.store
                .release_lease(LEASE, &tick.holder, now, &spent)
                .await?;
            report
        };
        // A receiver that takes its time must not keep the next tick waiting, so the lease is not held for it.
        let (report, ()) = futures::join!(leading, tick.deliver_webhooks());
        self.send_last_announcements().await;
        report
    }
}

/// Said with every full list, which is every few minutes.
const OPEN: &str = "NO TOKENS ARE CONFIGURED: whoever is on this machine may run scripts. The setting `tokens` says who else may call";

impl<P: Platform> App<P> {
    /// What this instance has spent so far.
    fn spent(&self) -> Spent {
        let (requests, watches) = self.meter.requests();
        Spent {
            statements: self.store.statements(),
            requests,
            watches,
            ..Spent::default()
        }
    }
}

impl<P: Platform> Tick<'_, P> {
    async fn run(&self, wanted: Wanted) -> Result<TickReport, Error> {
        let watched = async {
            let (version, pass) = self.take_place().await;
            futures::join!(self.follow_pods(version), self.keep_listing(pass))
        };
        let ((version, pass), (), (), (), (), (), (), (), ()) = futures::join!(
            watched,
            self.drain_queue(),
            self.end_what_is_due(),
            self.carry_out_stops(),
            self.forget_expired(),
            self.explain_what_waits(),
            self.follow_logs(wanted),
            self.tell_the_cluster(),
            self.keep_lease(),
        );
        self.save_followed().await;
        if self.listed.get() && self.app.config.callers.is_open() {
            self.app.report(Level::Warn, OPEN, &[]);
        }
        self.leave_place(version, pass.as_ref()).await?;
        Ok(TickReport {
            leader: true,
            holder: None,
            dispatched: self.dispatched.get(),
            finished: self.finished.get(),
            forgotten: self.forgotten.get(),
            swept: self.swept.get(),
            listed: self.listed.get(),
            failures: self.failures.get(),
        })
    }

    /// Where the tick before has left off: the version to watch from, and the list under way. The version is taken out of the store:
    /// a tick that is killed leaves none, so that its successor lists and finds what was half done.
    async fn take_place(&self) -> (Option<String>, Option<Pass>) {
        match self.try_to_take_place().await {
            Ok((version, pass)) => {
                self.knows_version.set(version.is_some());
                (version, pass)
            }
            Err(error) => {
                self.failed("where the last tick left off could not be read", &error);
                (None, None)
            }
        }
    }

    async fn try_to_take_place(&self) -> Result<(Option<String>, Option<Pass>), Error> {
        let store = &self.app.store;
        let [version, listed_at, place] = store
            .get_states([RESOURCE_VERSION, LISTED_AT, LISTING])
            .await?;
        let version = version.filter(|version| !version.is_empty());
        if version.is_some() {
            store.set_state(RESOURCE_VERSION, "").await?;
        }
        let place = place.unwrap_or_default();
        let Listing { pass, again } = Listing::read(&place);
        self.kept_place.replace(place);
        let listed_at = listed_at.and_then(|text| text.parse::<Timestamp>().ok());
        let is_recent =
            listed_at.is_some_and(|at| self.app.now().duration_since(at) < FULL_LIST_EVERY);
        if again || pass.is_none() && !is_recent {
            self.missed.set(true);
        }
        Ok((version, pass))
    }

    /// Leaves to the next tick where this one is. Whoever has the lease now goes by its own.
    async fn leave_place(&self, version: Option<String>, pass: Option<&Pass>) -> Result<(), Error> {
        // What was missed is to be known before anybody relies on the version.
        if self.lost.get() || !self.keep_place(pass).await {
            return Ok(());
        }
        if let Some(version) = version {
            let store = &self.app.store;
            store
                .set_state_while_holding(LEASE, &self.holder, RESOURCE_VERSION, &version)
                .await?;
        }
        Ok(())
    }

    /// Sends the Kubernetes Events that the other parts gather.
    async fn tell_the_cluster(&self) {
        while !self.is_over() {
            let tell = async {
                self.app.announcements.wanted.take().await;
                self.app.send_announcements().await;
            };
            self.unless_over(tell).await;
        }
    }

    fn is_over(&self) -> bool {
        self.lost.get() || self.app.now() >= self.ends_at
    }

    /// One execution is finished.
    fn count_finished(&self) {
        self.finished.set(self.finished.get() + 1);
        self.room.give();
    }

    /// Sleeps that long, or until the tick's end.
    async fn pause(&self, duration: Duration) {
        self.app.runtime.sleep(duration.min(self.left())).await;
    }

    fn left(&self) -> Duration {
        Duration::try_from(self.ends_at.duration_since(self.app.now())).unwrap_or_default()
    }

    /// Ends when the tick does, whether its time is up or its lease lost.
    async fn until_over(&self) {
        while !self.is_over() {
            self.pause(LEASE_RENEWAL).await;
        }
    }

    async fn keep_lease(&self) {
        while !self.is_over() {
            self.pause(LEASE_RENEWAL).await;
            let now = self.app.now();
            match self
                .app
                .store
                .acquire_lease(LEASE, &self.holder, now, now + LEASE_TTL)
                .await
            {
                Ok(Some(_)) => self.app.store_tally().await,
                Ok(None) => {
                    let message = "the lease was lost to another tick";
                    self.app.report(Level::Warn, message, &[]);
                    self.lost.set(true);
                }
                // The lease still holds for a while; the compare-and-set on every write guards what follows it.
                Err(error) => self.failed("the lease could not be renewed", &Error::from(error)),
            }
        }
    }

    /// What it has spent since it was called.
    fn spent(&self, called: Timestamp, before: &Spent) -> Spent {
        let (app, now) = (self.app, self.app.now());
        let now_is = app.spent();
        let micros = now.duration_since(called).as_micros();
        Spent {
            terms: 1,
            micros: u64::try_from(micros).unwrap_or(0),
            statements: now_is.statements - before.statements,
            requests: now_is.requests - before.requests,
            watches: now_is.watches - before.watches,
            failures: self.failures.get().into(),
        }
    }

    /// A full list is to begin from now on.
    fn miss(&self) {
        self.missed.set(true);
        self.list_wanted.give();
    }

    /// Notes something that is left undone, for a full list to find.
    fn failed(&self, what: &str, error: &Error) {
        self.miss();
        self.put_off(what, error);
    }

    /// Notes something that failed and is tried again anyway. What fails alike again and again is logged once a tick.
    fn put_off(&self, what: &str, error: &Error) {
        self.failures.set(self.failures.get() + 1);
        let text = format!("{what}: {}", error.chain());
        if *self.last_failure.borrow() == text {
            return;
        }
        self.last_failure.replace(text);
        let why = error.chain();
        self.app.report(Level::Warn, what, &[("error", &why)]);
    }

    /// The future's answer, or none if the tick ends first.
    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match future::select(std::pin::pin!(work), std::pin::pin!(self.until_over())).await {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
