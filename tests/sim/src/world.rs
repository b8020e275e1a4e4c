//! The world of one history: the cluster, the database, the true time, what is under way, and the book of it all.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jiff::Timestamp;
use localcluster::clock::ManualClock;
use localcluster::{Cluster, ClusterConfig, Disturbance, Request};
use serde_json::Value;
use store::testing::Sqlite;

use crate::chance::Chance;
use crate::checks::Final;
use crate::faults::Faults;
use crate::history::History;
use crate::ledger::{Ledger, LedgerRunner};
use crate::mutant::Mutant;
use crate::pages::Pages;
use crate::plan::{Action, Script};
use crate::receiver;
use crate::rows::Rows;
use crate::wire::Message;

/// When every history begins, in milliseconds since 1970. Not a whole second, so that the cluster's times, which are
/// whole seconds, lie before ours.
const START_MILLISECONDS: i64 = 1_790_000_000_300;

/// The namespace of all.
pub const NAMESPACE: &str = "runs";

/// The one that the settings of some histories give the only tenant, for a while.
pub const OWN_NAMESPACE: &str = "own-runs";

/// What is due at some time.
pub enum Event {
    /// Somebody waits for this time.
    Wake(Waker),
    /// A request arrives at the API server.
    Arrive(Rc<Message>),
    /// The environment acts.
    Act(Action),
}

/// Something that is out of reach until some time.
#[derive(Clone, Copy, Default)]
pub struct Outage {
    /// When it is back, in milliseconds.
    pub until: i64,
    /// Whether it is silent, or says so at once.
    pub silent: bool,
}

/// What others did to an execution's Job or pod; the later one leaves less to be sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Its pod was evicted.
    Evicted,
    /// Its pod's node got lost.
    NodeLost,
    /// One of both was deleted, or the Job replaced.
    Deleted,
}

/// One history's world. The true time counts in milliseconds from the start.
pub struct World {
    /// The mistake that is made on purpose, if any.
    pub mutant: Option<Mutant>,
    /// All chance.
    pub chance: RefCell<Chance>,
    /// What goes wrong by chance; nothing any more once it is quiet.
    pub faults: RefCell<Faults>,
    /// When the API server is back.
    pub api_away: Cell<Outage>,
    /// When the database is back.
    pub store_away: Cell<Outage>,
    /// How many executions may have a place at once.
    pub max_running: Cell<u32>,
    /// Whether the tenant has a namespace of its own by the settings, as they are now.
    pub has_own_namespace: Cell<bool>,
    /// How full lists come.
    pub pages: Cell<Pages>,
    /// By how many milliseconds each host's clock is wrong.
    pub skew: RefCell<Vec<i64>>,
    /// What really ran.
    pub ledger: Ledger,
    /// The database, shared by all.
    pub sqlite: Sqlite,
    /// Every generation of every record.
    pub rows: RefCell<Rows>,
    /// What each submission's script does, by the submission's digest.
    pub scripts: RefCell<BTreeMap<String, Script>>,
    /// What others did, by the Job's name.
    pub harmed: RefCell<BTreeMap<String, Harm>>,
    /// What each execution ended with, by its id, as it was stored then.
    pub finals: RefCell<BTreeMap<String, Final>>,
    /// What the receiver of webhooks was told.
    pub told: RefCell<Vec<receiver::Message>>,
    /// The ids of executions whose callers wanted their records deleted.
    pub forgettable: RefCell<BTreeSet<String>>,
    /// The ids of executions whose callers wanted them canceled.
    pub canceled: RefCell<BTreeSet<String>>,
    /// The uids of Jobs that are none of ours.
    pub strangers: RefCell<Vec<String>>,
    /// When faults end; none while they go on.
    pub quiet_since: Cell<Option<i64>>,
    /// Requests since the count was begun, in two words each; none while nobody counts.
    pub counted: RefCell<Option<Vec<String>>>,
    clock: Arc<ManualClock>,
    now: Cell<i64>,
    cluster: RefCell<Cluster>,
    cluster_wakes: Cell<Option<i64>>,
    events: RefCell<BTreeMap<(i64, u64), Event>>,
    sequence: Cell<u64>,
    watchers: RefCell<Vec<Waker>>,
    history: RefCell<History>,
    violations: RefCell<Vec<String>>,
}

impl World {
    /// An empty world.
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Rc<Self> {
        let clock = Arc::new(ManualClock::at(START_MILLISECONDS));
        let ledger = Ledger::default();
        let config = ClusterConfig {
            seed,
            ..ClusterConfig::default()
        };
        let runner = LedgerRunner::new(ledger.clone());
        let cluster = Cluster::open(&config, Box::new(clock.clone()), Box::new(runner))
            .expect("a cluster in memory");
        Rc::new(Self {
            mutant,
            chance: RefCell::new(Chance::new(seed)),
            faults: RefCell::default(),
            api_away: Cell::default(),
            store_away: Cell::default(),
            max_running: Cell::default(),
            has_own_namespace: Cell::default(),
            pages: Cell::default(),
            skew: RefCell::default(),
            ledger,
            sqlite: crate::database::emptied(),
            rows: RefCell::default(),
            scripts: RefCell::default(),
            harmed: RefCell::default(),
            finals: RefCell::default(),
            told: RefCell::default(),
            forgettable: RefCell::default(),
            canceled: RefCell::default(),
            strangers: RefCell::default(),
            quiet_since: Cell::default(),
            counted: RefCell::default(),
            clock,
            now: Cell::default(),
            cluster: RefCell::new(cluster),
            cluster_wakes: Cell::default(),
            events: RefCell::default(),
            sequence: Cell::default(),
            watchers: RefCell::default(),
            history: RefCell::new(History::new()),
            violations: RefCell::default(),
        })
    }

    /// The true time, in milliseconds from the start.
    pub fn now(&self) -> i64 {
        self.now.get()
    }

    /// The same as the cluster's clock has it, which is right.
    pub fn timestamp(&self, at: i64) -> Timestamp {
        Timestamp::from_millisecond(START_MILLISECONDS + at).unwrap_or(Timestamp::MAX)
    }

    /// A cluster's time in milliseconds from the start.
    pub fn millis(&self, at: Timestamp) -> i64 {
        at.as_millisecond() - START_MILLISECONDS
    }

    /// Adds a line to the history.
    pub fn note(&self, text: &str) {
        self.history.borrow_mut().note(self.now(), text);
    }

    /// Puts something into the history's hash only.
    pub fn mix(&self, bytes: &[u8]) {
        self.history.borrow_mut().mix(bytes);
    }

    /// The same of a number.
    pub fn mix_number(&self, number: u64) {
        self.history.borrow_mut().mix_number(number);
    }

    /// Something that must hold did not.
    pub fn broken(&self, what: String) {
        self.note(&format!("BROKEN {what}"));
        self.violations.borrow_mut().push(what);
    }

    /// Whether anything is broken yet.
    pub fn is_broken(&self) -> bool {
        !self.violations.borrow().is_empty()
    }

    /// The history so far.
    pub fn report(&self, seed: u64) -> crate::Report {
        self.history
            .borrow()
            .report(seed, self.violations.borrow().clone())
    }

    /// From now on nothing goes wrong by chance.
    pub fn heal(&self) {
        self.note("--- quiet ---");
        self.faults.replace(Faults::default());
        self.api_away.set(Outage::default());
        self.store_away.set(Outage::default());
        self.skew.borrow_mut().fill(0);
        self.quiet_since.set(Some(self.now()));
    }

    /// Something is due at that time.
    pub fn schedule(&self, at: i64, event: Event) {
        self.sequence.set(self.sequence.get() + 1);
        let key = (at.max(self.now()), self.sequence.get());
        self.events.borrow_mut().insert(key, event);
    }

    /// Moves on to the next thing that is due, if it is due before that time; else to that time.
    pub fn next_event(&self, limit: i64) -> Option<Event> {
        loop {
            let next = self.events.borrow().keys().next().map(|(at, _)| *at);
            let cluster = self.cluster_wakes.get();
            let first = next.into_iter().chain(cluster).min();
            let Some(at) = first.filter(|at| *at <= limit) else {
                self.move_to(limit);
                return None;
            };
            self.move_to(at);
            if cluster.is_some_and(|wake| wake <= at) {
                self.settle();
                return Some(Event::Wake(Waker::noop().clone()));
            }
            if let Some((_, event)) = self.events.borrow_mut().pop_first() {
                return Some(event);
            }
        }
    }

    fn move_to(&self, at: i64) {
        if at > self.now() {
            self.clock.advance(at - self.now());
            self.now.set(at);
        }
    }

    /// Lets the cluster's controllers go on, and everybody look who waits for a change.
    pub fn settle(&self) {
        let next = self.cluster.borrow_mut().tick().expect("the cluster rests");
        // Rounded up: woken a fraction of a millisecond early, it would have nothing to do, for ever.
        self.cluster_wakes.set(
            next.map(|at| self.millis(at) + i64::from(at.subsec_nanosecond() % 1_000_000 > 0)),
        );
        for watcher in self.watchers.take() {
            watcher.wake();
        }
    }

    /// Waits for a change of the cluster.
    pub fn watch(&self, context: &Context<'_>) {
        let mut watchers = self.watchers.borrow_mut();
        if !watchers.iter().any(|w| w.will_wake(context.waker())) {
            watchers.push(context.waker().clone());
        }
    }

    /// Ends after that many milliseconds; none lets others go first.
    pub fn sleep(self: &Rc<Self>, milliseconds: i64) -> impl Future<Output = ()> + use<> {
        let world = self.clone();
        let end = self.now() + milliseconds;
        let mut waits = false;
        poll_fn(move |context| {
            if waits && world.now() >= end {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waits, true) {
                world.schedule(end, Event::Wake(context.waker().clone()));
            }
            Poll::Pending
        })
    }

    /// Carries out a request at the API server, and lets the cluster work.
    pub fn handle(&self, request: &Request) -> localcluster::Response {
        let response = self.cluster.borrow_mut().handle(request);
        self.settle();
        response
    }

    /// A request of somebody else: the answer's status and JSON.
    pub fn ask(&self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::new(method, target, Some("application/json"), body);
        let response = self.handle(&request);
        (response.status, response.value().unwrap_or_default())
    }

    /// What there is of a kind in either namespace: `jobs`, `pods`, `configmaps` or `secrets`.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let in_one = |namespace| {
            let (_, list) = self.ask("GET", &collection(namespace, kind), &Value::Null);
            list["items"].as_array().cloned().unwrap_or_default()
        };
        [NAMESPACE, OWN_NAMESPACE]
            .into_iter()
            .flat_map(in_one)
            .collect()
    }

    /// The cluster forgets its history, so that every older watch is refused.
    pub fn compact(&self) {
        self.cluster.borrow_mut().compact();
        self.settle();
    }

    /// A node does that to a pod; answers whether it could be done.
    pub fn disturb(&self, namespace: &str, pod: &str, what: Disturbance) -> bool {
        self.cluster.borrow_mut().disturb(namespace, pod, what)
    }

    /// A fact that is kept in the database.
    pub fn state(&self, name: &str) -> Option<String> {
        let read = "SELECT value FROM state WHERE name = ?1";
        let connection = self.sqlite.connection();
        let mut read = connection.prepare_cached(read).expect("a schema");
        read.query_row([name], |row| row.get(0)).ok()
    }

    /// What a watch has to send now.
    pub fn poll_watch(&self, cursor: &mut localcluster::WatchCursor) -> localcluster::WatchPoll {
        self.cluster.borrow().poll_watch(cursor)
    }
}

/// The path of a kind's collection.
pub fn collection(namespace: &str, kind: &str) -> String {
    let group = if kind == "jobs" {
        "apis/batch/v1"
    } else {
        "api/v1"
    };
    format!("/{group}/namespaces/{namespace}/{kind}")
}
