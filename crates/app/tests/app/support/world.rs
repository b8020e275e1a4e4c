//! The world of one test: a cluster, a clock that only the test's executor moves, faults, and crashes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use app::Runtime;
use futures::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use localcluster::clock::{Clock, ManualClock};
use localcluster::{Cluster, ClusterConfig, Request};
use serde_json::Value;

use super::fault::Fault;
use super::receiver::{Receipt, Received};
use super::runner::CountingRunner;

/// Not a whole second, so that the cluster's times, which are whole seconds, lie before ours.
const START_MILLISECONDS: i64 = 1_790_000_000_300;

/// Virtual time in which every test's future must come to its end.
const PATIENCE: SignedDuration = SignedDuration::from_hours(3);

/// The cluster, the time, and what goes wrong.
pub struct World {
    clock: Arc<ManualClock>,
    starts: Arc<AtomicU32>,
    pub(super) cluster: RefCell<Cluster>,
    cluster_wakes: Cell<Option<Timestamp>>,
    timers: RefCell<Vec<Timestamp>>,
    sleepers: RefCell<Vec<Waker>>,
    pub(super) faults: RefCell<Vec<Fault>>,
    /// Each request as `POST jobs`, `LIST pods`, `WATCH pods`, `GET log`, …
    pub requests: RefCell<Vec<String>>,
    /// The same with the namespace that each is about: `POST jobs in runs`.
    pub placed: RefCell<Vec<String>>,
    /// The same with the header `traceparent` of each, where it has one.
    pub traced: RefCell<Vec<(String, String)>>,
    /// What is on its way though its sender has given up.
    pub late: RefCell<Vec<(String, http::Request<Vec<u8>>)>>,
    /// How many Jobs the API server has made.
    pub jobs_made: Cell<u32>,
    /// How the next pods behave: the annotation `localcluster/simulate`, or one for each attempt.
    pub script: RefCell<Value>,
    /// How many objects there are in a page of a list at most.
    pub page: Cell<Option<u32>>,
    /// Each statement fails while this is set.
    pub database_down: Cell<bool>,
    /// How often the database was asked, each BEGIN and COMMIT counted.
    pub asked: Cell<usize>,
    /// How many of these were writes that a disk is to keep.
    pub commits: Cell<usize>,
    /// What the receiver of webhooks does with the next messages; then it takes them.
    pub receipts: RefCell<VecDeque<Receipt>>,
    /// What it was told.
    pub received: RefCell<Vec<Received>>,
    steps: Cell<u32>,
    crash_after: Cell<u32>,
    crashed: Cell<bool>,
    random: Cell<u64>,
    /// What was logged for the operator.
    pub lines: RefCell<Vec<String>>,
}

impl World {
    /// A new cluster whose pods end at once with exit code 0.
    pub fn new() -> Rc<Self> {
        let clock = Arc::new(ManualClock::at(START_MILLISECONDS));
        let runner = CountingRunner::default();
        let starts = runner.starts.clone();
        let config = ClusterConfig::default();
        let cluster = Cluster::open(&config, Box::new(clock.clone()), Box::new(runner))
            .expect("a cluster in memory");
        Rc::new(Self {
            clock,
            starts,
            cluster: RefCell::new(cluster),
            cluster_wakes: Cell::default(),
            timers: RefCell::default(),
            sleepers: RefCell::default(),
            faults: RefCell::default(),
            requests: RefCell::default(),
            placed: RefCell::default(),
            traced: RefCell::default(),
            late: RefCell::default(),
            jobs_made: Cell::default(),
            script: RefCell::new(serde_json::json!({})),
            page: Cell::default(),
            database_down: Cell::default(),
            asked: Cell::default(),
            commits: Cell::default(),
            receipts: RefCell::default(),
            received: RefCell::default(),
            steps: Cell::default(),
            crash_after: Cell::new(u32::MAX),
            crashed: Cell::default(),
            random: Cell::default(),
            lines: RefCell::default(),
        })
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Runs the future to its end, moving the clock whenever nobody can go on without.
    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.run_or_crash(future).expect("no crash was planned")
    }

    /// The same; none when the planned crash came first. Then the future is dropped where it stood.
    pub fn run_or_crash<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(future);
        let limit = self.now() + PATIENCE;
        loop {
            if let Poll::Ready(answer) = future.as_mut().poll(&mut context) {
                return Some(answer);
            }
            if self.crashed.take() {
                self.crash_after.set(u32::MAX);
                return None;
            }
            if !woken.0.swap(false, Ordering::SeqCst) {
                self.advance();
                assert!(self.now() < limit, "it does not come to its end");
            }
        }
    }

    /// The same, given up at that time; then the future has been dropped where it stood.
    pub fn run_until<T>(
        self: &Rc<Self>,
        work: impl Future<Output = T>,
        end: Timestamp,
    ) -> Option<T> {
        let left = end.duration_since(self.now());
        let time = Time(self.clone());
        let patience = time.sleep(Duration::try_from(left).unwrap_or_default());
        match self.run(select(pin!(work), pin!(patience))) {
            Either::Left((answer, _)) => Some(answer),
            Either::Right(_) => None,
        }
    }

    /// Moves the clock on to where the next one waits for.
    fn advance(&self) {
        let next = self
            .timers
            .take()
            .into_iter()
            .chain(self.cluster_wakes.get());
        let next = next.min().expect("everybody waits, and nobody for a time");
        self.move_to(next);
    }

    /// Lets that much time pass with nobody of ours at work.
    pub fn pass(&self, seconds: i64) {
        let end = self.now() + SignedDuration::from_secs(seconds);
        while let Some(next) = self.cluster_wakes.get().filter(|at| *at < end) {
            self.move_to(next);
        }
        self.move_to(end);
    }

    fn move_to(&self, at: Timestamp) {
        let micros = at.as_microsecond() - self.now().as_microsecond();
        self.clock.advance((micros.max(0) + 999) / 1000);
        self.settle();
    }

    /// Lets the cluster go on, and everybody look again.
    pub(super) fn settle(&self) {
        let next = self.cluster.borrow_mut().tick().expect("the cluster rests");
        self.cluster_wakes.set(next);
        for sleeper in self.sleepers.take() {
            sleeper.wake();
        }
    }

    /// Waits for a change, or for that time.
    pub(super) fn park(&self, until: Timestamp, context: &Context<'_>) {
        self.timers.borrow_mut().push(until);
        self.sleepers.borrow_mut().push(context.waker().clone());
    }

    /// The instance dies right after that many requests and statements from now were carried out.
    pub fn crash_after(&self, steps: u32) {
        self.steps.set(0);
        self.crash_after.set(steps);
    }

    /// How many statements were carried out since that was asked for last.
    pub fn statements(&self) -> usize {
        let steps = usize::try_from(self.steps.take()).unwrap_or(usize::MAX);
        let requests = self.requests.take().len();
        steps.saturating_sub(requests)
    }

    /// Waits for that many seconds.
    pub(super) async fn sleep(self: &Rc<Self>, seconds: i64) {
        let duration = Duration::from_secs(seconds.unsigned_abs());
        Time(self.clone()).sleep(duration).await;
    }

    /// Goes on for ever once the instance is dead.
    pub(super) async fn alive(&self) {
        if self.crashed.get() {
            std::future::pending::<()>().await;
        }
    }

    /// One request or statement was carried out.
    pub(super) async fn stepped(&self) {
        self.steps.set(self.steps.get() + 1);
        if self.steps.get() == self.crash_after.get() {
            self.crashed.set(true);
        }
        self.alive().await;
        self.let_others().await;
    }

    /// Lets every other task of the instance go on first, so that what can come between does.
    pub async fn let_others(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// A request of somebody else: the answer's status and JSON.
    pub fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::new(method, target, Some("application/json"), body);
        let response = self.cluster.borrow_mut().handle(&request);
        self.settle();
        (response.status, response.value().unwrap_or_default())
    }

    /// The names of what is there, of `jobs`, `pods` or `configmaps`.
    pub fn names(&self, kind: &str) -> Vec<String> {
        let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
        self.list(kind).iter().filter_map(name).collect()
    }

    /// What is there of that kind.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        self.list_in("runs", kind)
    }

    /// The same in that namespace.
    pub fn list_in(&self, namespace: &str, kind: &str) -> Vec<Value> {
        let group = if kind == "jobs" {
            "apis/batch/v1"
        } else {
            "api/v1"
        };
        let (_, list) = self.ask(
            "GET",
            &format!("/{group}/namespaces/{namespace}/{kind}"),
            &Value::Null,
        );
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// How many pods have ever been told to start.
    pub fn starts(&self) -> u32 {
        self.starts.load(Ordering::SeqCst)
    }

    /// The cluster forgets its history, so that every older watch is refused.
    pub fn compact(&self) {
        self.cluster.borrow_mut().compact();
    }

    /// How many requests of that kind were sent.
    pub fn count(&self, what: &str) -> usize {
        self.requests.borrow().iter().filter(|r| *r == what).count()
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Virtual time, chance that repeats, and the log.
pub struct Time(pub Rc<World>);

impl Runtime for Time {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let end = self.0.now() + SignedDuration::try_from(duration).expect("a short sleep");
        poll_fn(move |context| {
            if self.0.now() >= end {
                return Poll::Ready(());
            }
            self.0.park(end, context);
            Poll::Pending
        })
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let next = self.0.random.get() + 1;
        self.0.random.set(next);
        let mut bytes = [0; N];
        bytes[..8].copy_from_slice(&next.to_be_bytes());
        bytes
    }

    fn log(&self, message: &str, fields: &[(&str, &dyn std::fmt::Display)]) {
        let mut line = message.to_owned();
        for (name, value) in fields {
            line.push_str(&format!(" {name}={value}"));
        }
        self.0.lines.borrow_mut().push(line);
    }
}
