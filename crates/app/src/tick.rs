//! One tick: take the lease, see what changed, dispatch what waits, end what is due, until the budget is spent.
//!
//! A tick is idempotent and does not know who called it. It never retries inside: whatever fails is marked, and a full list
//! follows, which is the truth that the watch only hints at.

mod cancels;
mod deadlines;
mod followers;
mod in_hand;
mod list;
mod namespaces;
mod queue;
mod retention;
pub(crate) mod signal;
mod starting;
mod watch;
mod webhooks;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use futures::channel::mpsc::unbounded;
use futures::future::{self, Either};
use futures::lock::Mutex;
use jiff::{SignedDuration, Timestamp};
use store::Spent;

use crate::report::{Fields, Level};
use crate::{App, Error, Platform, Runtime};
use followers::{ToFollow, Wanted};
use in_hand::InHand;
use namespaces::{LastLeft, Watched};
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

/// The watch is a hint; after this long a full list tells the truth again.
const FULL_LIST_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// How many pods' observations are worked on at once: each is a few round trips to the store and the API server.
const OBSERVATIONS_IN_FLIGHT: usize = 128;

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
    /// The last of each namespace, and of what is of none.
    last_failures: RefCell<BTreeMap<String, String>>,
    listed: Cell<bool>,
    watched: Vec<Watched>,
    /// Whoever has it reads a page.
    page_turn: Mutex<()>,
    /// How far the lists are, as it is stored, by the names of the states.
    kept: RefCell<BTreeMap<&'static str, String>>,
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
    /// When the store fails at the lease, or at what the tick before has left. What fails later is counted in the report.
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
        let (watched, last) = match self.take_up().await {
            Ok(found) => found,
            Err(error) => {
                // It ends by itself where that fails, too.
                let now = self.runtime.now();
                let _ = self
                    .store
                    .release_lease(LEASE, &holder, now, &Spent::default())
                    .await;
                return Err(error);
            }
        };
        let (to_follow, wanted) = unbounded();
        let attempts_end = last_attempts.map(|more| ends_at + more);
        let tick = Tick::new(self, holder, ends_at, attempts_end, watched, to_follow);
        self.meter.is_stored_regularly.set(true);
        let leading = async {
            let report = tick.run(last, wanted).await;
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

impl<'a, P: Platform> Tick<'a, P> {
    fn new(
        app: &'a App<P>,
        holder: String,
        ends_at: Timestamp,
        attempts_end: Option<Timestamp>,
        watched: Vec<Watched>,
        to_follow: ToFollow,
    ) -> Self {
        Self {
            app,
            holder,
            ends_at,
            attempts_end,
            lost: Cell::new(false),
            dispatched: Cell::new(0),
            finished: Cell::new(0),
            forgotten: Cell::new(0),
            swept: Cell::new(0),
            failures: Cell::new(0),
            last_failures: RefCell::default(),
            listed: Cell::new(false),
            watched,
            page_turn: Mutex::default(),
            kept: RefCell::default(),
            done: RefCell::default(),
            in_hand: InHand::default(),
            to_follow,
            room: Signal::default(),
        }
    }
}

impl<P: Platform> Tick<'_, P> {
    async fn run(&self, last: LastLeft, wanted: Wanted) -> Result<TickReport, Error> {
        let watched = async {
            self.take_place(last).await;
            let each = self.watched.iter().map(|at| async move {
                futures::join!(self.follow_pods(at), self.keep_listing(at));
            });
            future::join_all(each).await;
        };
        futures::join!(
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
        self.leave_place().await?;
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

    /// A full list of every namespace is to begin from now on.
    fn miss(&self) {
        self.watched.iter().for_each(Watched::miss);
    }

    /// The same of that one. One that is not looked after yet begins with it.
    fn miss_in(&self, namespace: &str) {
        if let Some(at) = self.watched_as(namespace) {
            at.miss();
        }
    }

    /// Notes something that is left undone, for a full list to find.
    fn failed(&self, what: &str, error: &Error) {
        self.miss();
        self.put_off(what, error);
    }

    /// The same in a namespace: for a full list there to find.
    fn failed_in(&self, namespace: &str, what: &str, error: &Error) {
        self.miss_in(namespace);
        self.put_off_in(namespace, what, error);
    }

    /// Notes something that failed and is tried again anyway. What fails alike again and again is logged once a tick.
    fn put_off(&self, what: &str, error: &Error) {
        self.put_off_in("", what, error);
    }

    /// The same in a namespace.
    fn put_off_in(&self, namespace: &str, what: &str, error: &Error) {
        self.failures.set(self.failures.get() + 1);
        let why = error.chain();
        let text = format!("{what}: {why}");
        let mut last = self.last_failures.borrow_mut();
        if last.get(namespace) == Some(&text) {
            return;
        }
        last.insert(namespace.to_owned(), text);
        let fields: Fields<'_> = &[("namespace", &namespace), ("error", &why)];
        let of_all = namespace.is_empty();
        self.app
            .report(Level::Warn, what, &fields[usize::from(of_all)..]);
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
