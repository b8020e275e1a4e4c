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
use std::time::Duration;

use app::{Canceled, Submitted};
use serde_json::{Value, json};

use crate::checks;
use crate::faults::Faults;
use crate::history::Report;
use crate::mutant::Mutant;
use crate::plan::{Action, Plan};
use crate::platform::{Instance, app};
use crate::wire::arrive;
use crate::world::{Event, Outage, World, collection};

/// How long a tick works, in milliseconds less than the cron's period: as deployed, where 10 s leave 9.6.
const TICK_MARGIN_MS: i64 = 400;

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

/// A full list is made when the last one is older than this, in milliseconds.
const FULL_LIST_MS: i64 = 301_000;

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

/// What callers were told: the ids by the number of their submission.
pub type Accepted = Rc<RefCell<BTreeMap<usize, Vec<String>>>>;

/// A history as it is played.
pub struct Driver {
    /// The world.
    pub world: Rc<World>,
    /// What was set out to do.
    pub plan: Plan,
    /// What callers were told.
    pub accepted: Accepted,
    tasks: Vec<Task>,
    up: Vec<bool>,
    started: u64,
    polls: u64,
    /// Whether hosts tick by themselves.
    cron: bool,
}

/// Plays the history of that seed, with a mistake made on purpose or without.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Report {
    let world = World::new(seed, mutant);
    let plan = Plan::draw(&mut world.chance.borrow_mut());
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
        world.note(&format!(
            "{} hosts, {} at once, tick every {} ms, {faults:?}",
            self.plan.hosts, self.plan.max_running, self.plan.period_ms
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
        checks::endings(self);
        // The next full list finds what the world still has, and what it began is over some time after.
        self.until(world.now() + FULL_LIST_MS);
        self.idle_ticks(2);
        self.until(world.now() + 30_000);
        checks::nothing_left(&world);
        // The list was made by one of them, so those after it have the watch alone.
        world.counted.replace(Some(Vec::new()));
        self.idle_ticks(2);
        checks::quiet(&world, 2);
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

    fn spawn(&mut self, instance: Rc<Instance>, future: impl Future<Output = ()> + 'static) {
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

    fn instance(&mut self, what: &str, host: usize) -> Rc<Instance> {
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
            Action::Cancel(number, host) => self.cancel(number, host),
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
                self.harm("pods", "its pod was deleted", "Background");
            }
            Action::DeleteJob => {
                let policy = world
                    .chance
                    .borrow_mut()
                    .pick(&["Background", "Foreground"]);
                self.harm("jobs", "its Job was deleted", policy);
            }
            Action::ReplaceJob => self.replace_job(),
            Action::Quiet => {
                self.up.fill(true);
                world.heal();
                world.settle();
            }
        }
    }

    /// The instance that answers a POST: stores it, answers, goes on with the Job.
    fn submit(&mut self, number: usize, host: usize) {
        if !self.up[host] {
            return;
        }
        let instance = self.instance("post", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let planned = &self.plan.submissions[number];
        let (submission, key) = (planned.submission.clone(), planned.key.clone());
        let (world, accepted, name) = (
            self.world.clone(),
            self.accepted.clone(),
            instance.name.clone(),
        );
        self.spawn(instance, async move {
            let answer = app.submit(&submission, key.as_deref()).await;
            let (id, new) = match &answer {
                Ok(Submitted::New(execution)) => (execution.id, Some(execution)),
                Ok(Submitted::Replayed(execution)) => (execution.id, None),
                Ok(Submitted::Conflict(id)) => {
                    world.broken(format!("I6: {id} is said to be another request"));
                    return;
                }
                Err(error) => {
                    world.note(&format!("{name} answers 503: {}", error.chain()));
                    return;
                }
            };
            world.note(&format!(
                "{name} answers {id} to submission {number}, new {}",
                new.is_some()
            ));
            accepted
                .borrow_mut()
                .entry(number)
                .or_default()
                .push(id.to_string());
            if let Some(execution) = new {
                app.dispatch_submitted(execution, &submission).await;
            }
        });
    }

    /// The instance that answers a cancel: notes it, answers, carries it out.
    fn cancel(&mut self, number: usize, host: usize) {
        let id = self
            .accepted
            .borrow()
            .get(&number)
            .and_then(|ids| ids.last().cloned());
        let Some(id) = id.filter(|_| self.up[host]) else {
            return;
        };
        self.world.canceled.borrow_mut().insert(id.clone());
        let instance = self.instance("cancel", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let (world, name) = (self.world.clone(), instance.name.clone());
        self.spawn(instance, async move {
            let id = id.parse().expect("an id");
            match app.cancel(id).await {
                Ok(Canceled::Accepted { to_carry_out, .. }) => {
                    world.note(&format!("{name} accepts the cancel of {id}"));
                    if to_carry_out {
                        app.carry_out_cancel(id).await;
                    }
                }
                Ok(other) => world.note(&format!("{name} answers {other:?}")),
                Err(error) => world.note(&format!("{name} answers 503: {}", error.chain())),
            }
        });
    }

    fn tick(&mut self, host: usize, budget_ms: i64) {
        let instance = self.instance("tick", host);
        let app = app(&self.world, &instance, self.plan.max_running);
        let budget = Duration::from_millis(budget_ms.unsigned_abs());
        let (world, name) = (self.world.clone(), instance.name.clone());
        self.spawn(instance, async move {
            let answer = app.scheduled_tick(budget).await;
            match answer {
                Ok(report) => world.note(&format!("{name} ends: {report:?}")),
                Err(error) => world.note(&format!("{name} fails: {}", error.chain())),
            }
        });
    }

    /// One of ours, at the moment.
    fn victim(&self, kind: &str) -> Option<Value> {
        let ours = self.world.list(kind);
        if ours.is_empty() {
            return None;
        }
        let at = self.world.chance.borrow_mut().below(ours.len());
        ours.into_iter().nth(at)
    }

    fn harm(&self, kind: &str, what: &'static str, policy: &str) -> Option<Value> {
        let victim = self.victim(kind)?;
        let name = victim["metadata"]["name"].as_str()?.to_owned();
        let job = match kind {
            "pods" => name.rsplit_once('-')?.0.to_owned(),
            _ => name.clone(),
        };
        let short = crate::rows::short(&job);
        self.world
            .note(&format!("  {short}: {what}, {}", victim["status"]));
        self.world.harmed.borrow_mut().insert(job, what);
        let options = json!({"propagationPolicy": policy});
        let target = format!("{}/{name}", collection(kind));
        self.world.ask("DELETE", &target, &options);
        Some(victim)
    }

    /// A stranger's Job takes the name of one of ours. It ends well at once, as ours may not have.
    fn replace_job(&self) {
        let Some(victim) = self.harm("jobs", "its Job was replaced", "Background") else {
            return;
        };
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": victim["metadata"]["name"]},
            "spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "script", "image": "alpine:3"}]}}}});
        let (_, made) = self.world.ask("POST", &collection("jobs"), &job);
        if let Some(uid) = made["metadata"]["uid"].as_str() {
            self.world.strangers.borrow_mut().push(uid.to_owned());
        }
    }
}
