//! Plays one history: polls whoever can go on, in an order by chance, drops some of them at some await, and moves the
//! time when nobody can.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use localcluster::Disturbance;
use serde_json::Value;

use crate::chance::Chance;
use crate::checks;
use crate::faults::Faults;
use crate::history::Report;
use crate::mutant::Mutant;
use crate::plan::{Action, Plan};
use crate::platform::Instance;
use crate::wire::arrive;
use crate::world::{Event, NAMESPACE, Outage, World};

/// How long a tick works, in milliseconds less than the cron's period: as deployed, where 10 s leave 9.95.
const TICK_MARGIN_MS: i64 = 50;

/// How long somebody keeps a lease that was stolen, in milliseconds: as long as a tick that takes it and dies.
const STOLEN_MS: i64 = 5_000;

/// An instance that dies does so within so many polls: a request takes a few dozen, a tick a few hundred.
const CRASH_WITHIN_POLLS: usize = 300;

/// More polls than any history takes that comes to rest.
const MAX_POLLS: u64 = 3_000_000;

/// How long everything may take to end once it is quiet, in milliseconds: all queued one after the other.
const PATIENCE_MS: i64 = 900_000;

/// How often it is looked whether everything has ended, in milliseconds.
const LOOK_MS: i64 = 1_000;

/// A tick of these many milliseconds in a world where nothing is left to do.
const IDLE_TICK_MS: i64 = 2_000;

/// A Job without its record is swept by the first full list after this, in milliseconds, and one that only keeps its name is
/// deleted.
const SWEPT_MS: i64 = 1_261_000;

/// More ticks than a full list takes.
const MOST_LIST_TICKS: usize = 40;

/// More attempts at webhooks than are made before the receiver is well again.
const MOST_ATTEMPTS: usize = 20;

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    woken: Arc<Woken>,
    instance: Rc<Instance>,
    /// It dies after so many polls.
    polls_left: Option<usize>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What callers were told: the ids by the number of their submission, each with the time, in milliseconds.
pub type Accepted = Rc<RefCell<BTreeMap<usize, Vec<(i64, String)>>>>;

/// A history as it is played.
pub struct Driver {
    /// The world.
    pub world: Rc<World>,
    /// What was set out to do.
    pub plan: Plan,
    /// What callers were told.
    pub accepted: Accepted,
    /// Which hosts are up.
    pub up: Vec<bool>,
    tasks: Vec<Task>,
    started: u64,
    polls: u64,
    /// Whether hosts tick by themselves.
    cron: bool,
}

/// Plays the history of that seed, with a mistake made on purpose or without.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Report {
    let world = World::new(seed, mutant);
    let plan = Plan::draw(&mut world.chance.borrow_mut(), &mut Chance::new(!seed));
    let faults = Faults::draw(&mut world.chance.borrow_mut());
    let mut driver = Driver {
        accepted: Accepted::default(),
        tasks: Vec::new(),
        up: vec![true; plan.hosts],
        started: 0,
        polls: 0,
        cron: true,
        plan,
        world,
    };
    driver.begin(faults);
    driver.play();
    driver.world.report(seed)
}

impl Driver {
    fn begin(&mut self, faults: Faults) {
        let world = self.world.clone();
        world.skew.replace(vec![0; self.plan.hosts]);
        world.max_running.set(self.plan.max_running);
        world.pages.set(self.plan.pages);
        world.note(&format!(
            "{} hosts, {} at once, tick every {} ms, {:?}, {faults:?}",
            self.plan.hosts, self.plan.max_running, self.plan.period_ms, self.plan.pages
        ));
        world.faults.replace(faults);
        for planned in &self.plan.submissions {
            let digest = planned.submission.digest.clone();
            world
                .scripts
                .borrow_mut()
                .insert(digest, planned.script.clone());
        }
        for (at, action) in &self.plan.actions {
            world.schedule(*at, Event::Act(*action));
        }
    }

    /// Until faults end, until everything has ended, until nothing is left, and a while longer.
    fn play(&mut self) {
        let world = self.world.clone();
        self.until(self.plan.quiet_at + 1);
        let limit = world.now() + PATIENCE_MS;
        while !checks::all_finished(&world) && world.now() < limit && !world.is_broken() {
            self.until(world.now() + LOOK_MS);
        }
        // What is under way comes to its end before hosts stop ticking by themselves.
        self.until(world.now() + self.plan.period_ms);
        self.cron = false;
        self.until(world.now() + self.plan.period_ms);
        if world.is_broken() {
            return;
        }
        self.let_webhooks_be_told();
        checks::endings(self);
        // The next full list finds what the world still has, and what it began is over some time after. One that is under way
        // has passed by what is old enough only later.
        self.list_until(|world| !lists(world));
        self.until(world.now() + SWEPT_MS);
        self.full_list();
        if checks::names_are_held(&world) {
            // A creation came after all ticks: from that list on its Job only keeps its name.
            self.until(world.now() + SWEPT_MS);
            self.full_list();
        }
        self.until(world.now() + 30_000);
        checks::nothing_left(&world);
        // The list was made by one of them, so those after it have the watch alone.
        world.counted.replace(Some(Vec::new()));
        self.idle_ticks(2);
        checks::quiet(&world, 2);
    }

    /// A tick whenever an attempt is due, until none is.
    fn let_webhooks_be_told(&mut self) {
        for _ in 0..MOST_ATTEMPTS {
            let Some(due) = checks::delivery_due(&self.world) else {
                return;
            };
            self.until(due.max(self.world.now()) + 1);
            self.idle_ticks(1);
        }
    }

    /// Ticks until the full list is made that is due, and none is wanted after it.
    fn full_list(&mut self) {
        let before = listed_at(&self.world);
        self.list_until(|world| {
            let now = listed_at(world);
            let is_new = |name: &String| now.get(name) != before.get(name);
            !lists(world) && before.keys().all(is_new)
        });
    }

    /// Ticks until full lists have come so far.
    fn list_until(&mut self, is_done: impl Fn(&World) -> bool) {
        for _ in 0..MOST_LIST_TICKS {
            if is_done(&self.world) {
                return;
            }
            self.idle_ticks(1);
        }
        if !is_done(&self.world) {
            self.world
                .broken("I12: the full list does not come to its end".to_owned());
        }
    }

    fn idle_ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.tick(0, IDLE_TICK_MS);
            self.until(self.world.now() + IDLE_TICK_MS + 1_000);
        }
    }

    /// Goes on until that time.
    fn until(&mut self, limit: i64) {
        loop {
            while self.poll_one() {
                self.polls += 1;
                if self.polls > MAX_POLLS {
                    self.world.broken("it does not come to rest".to_owned());
                    self.tasks.clear();
                }
            }
            match self.world.next_event(limit) {
                Some(Event::Wake(waker)) => waker.wake(),
                Some(Event::Arrive(message)) => arrive(&self.world, &message),
                Some(Event::Act(action)) => self.act(action),
                None => return,
            }
        }
    }

    /// Lets one of those go on who can; none can when it answers false.
    fn poll_one(&mut self) -> bool {
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|at| self.tasks[*at].woken.0.load(Ordering::Relaxed))
            .collect();
        if ready.is_empty() {
            return false;
        }
        let at = ready[self.world.chance.borrow_mut().below(ready.len())];
        let task = &mut self.tasks[at];
        task.woken.0.store(false, Ordering::Relaxed);
        if task.polls_left == Some(0) && self.world.quiet_since.get().is_none() {
            self.world.note(&format!("{} dies", task.instance.name));
            self.tasks.remove(at);
            return true;
        }
        task.polls_left = task.polls_left.map(|polls| polls.saturating_sub(1));
        let waker = Waker::from(task.woken.clone());
        if task
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
        {
            self.tasks.remove(at);
        }
        true
    }

    /// Begins what an instance does.
    pub fn spawn(&mut self, instance: Rc<Instance>, future: impl Future<Output = ()> + 'static) {
        let polls_left = {
            let crash = self.world.faults.borrow().crash;
            let mut chance = self.world.chance.borrow_mut();
            let dies = chance.per_mille(crash);
            // Half of them early: requests are short.
            let within = chance.pick(&[CRASH_WITHIN_POLLS / 10, CRASH_WITHIN_POLLS]);
            dies.then(|| chance.below(within))
        };
        self.tasks.push(Task {
            future: Box::pin(future),
            woken: Arc::new(Woken(AtomicBool::new(true))),
            instance,
            polls_left,
        });
    }

    /// A new instance on that host.
    pub fn instance(&mut self, what: &str, host: usize) -> Rc<Instance> {
        self.started += 1;
        Instance::new(format!("h{host}.{what}{}", self.started), host)
    }

    fn act(&mut self, action: Action) {
        let world = self.world.clone();
        if !matches!(action, Action::Cron(_)) {
            world.note(&format!("* {action:?}"));
        }
        match action {
            Action::Submit(number, host) => self.submit(number, host),
            Action::Batch(host) => self.submit_batch(host),
            Action::Cancel(number, host) => self.cancel(number, host),
            Action::Forget(number, host) => self.forget(number, host),
            Action::Cron(host) if self.cron => {
                if self.up[host] {
                    self.tick(host, self.plan.period_ms - TICK_MARGIN_MS);
                }
                world.schedule(world.now() + self.plan.period_ms, Event::Act(action));
            }
            Action::Cron(_) => {}
            Action::HostDown(host) => {
                self.up[host] = false;
                self.tasks.retain(|task| task.instance.host != host);
            }
            Action::HostUp(host) => self.up[host] = true,
            Action::Skew(host, by) => world.skew.borrow_mut()[host] = by,
            Action::ApiAway(milliseconds, silent) => {
                let until = world.now() + milliseconds;
                world.api_away.set(Outage { until, silent });
                world.settle();
            }
            Action::StoreAway(milliseconds, silent) => {
                let until = world.now() + milliseconds;
                world.store_away.set(Outage { until, silent });
            }
            Action::StealLease => {
                let until = world.timestamp(world.now() + STOLEN_MS).as_microsecond();
                let steal = "UPDATE leases SET holder = 'thief', expires_at = ?1";
                let connection = world.sqlite.connection();
                connection.execute(steal, [until]).expect("a schema");
            }
            Action::Compact => world.compact(),
            Action::DeletePod => {
                self.delete_one("pods", "Background");
            }
            Action::DeleteJob => {
                let policies = ["Background", "Foreground"];
                let policy = world.chance.borrow_mut().pick(&policies);
                self.delete_one("jobs", policy);
            }
            Action::Evict => self.disturb(Disturbance::Evicted),
            Action::LoseNode => self.disturb(Disturbance::NodeLost),
            Action::Orphan(ours) => self.leave_orphan(ours),
            Action::ReplaceJob => self.replace_job(),
            Action::Place(own) => world.has_own_namespace.set(own),
            Action::Quiet => {
                self.up.fill(true);
                world.heal();
                world.settle();
            }
        }
    }
}

/// Whether a full list is under way, or to follow at once.
fn lists(world: &World) -> bool {
    let of_all = world.state("listing").is_some_and(|l| !l.is_empty());
    let is_wanted =
        |left: &Value| !left["listing"]["pass"].is_null() || left["listing"]["again"] == true;
    of_all || others(world).values().any(is_wanted)
}

/// What ticks leave of the namespaces besides that of all, by their names.
pub fn others(world: &World) -> serde_json::Map<String, Value> {
    let text = world.state("namespaces").unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// When each namespace was listed.
fn listed_at(world: &World) -> BTreeMap<String, Value> {
    let others = others(world).into_iter();
    let mut all: BTreeMap<String, Value> = others
        .map(|(name, left)| (name, left["listedAt"].clone()))
        .collect();
    all.insert(NAMESPACE.to_owned(), world.state("listedAt").into());
    all
}
