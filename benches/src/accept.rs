//! Accepting: `POST /executions` beside the creation of a raw Job, and beside what the database alone takes.
//!
//! Two settings. With dispatch shut, one execution that does not end holds the only place (`max_running` 1), so all that
//! an acceptance costs is in the figure, and nothing else. With dispatch open, Jobs of what was accepted are created, watched,
//! finished and deleted beside it, on the same cores: what accepting costs in the background is in that one.

use std::time::{Duration, Instant};

use e2e::{Client, Options, Stack, wait_for};
use serde_json::json;

use crate::database::{Database, Kind};
use crate::floor::{self, Floor};
use crate::jobs::{self, Raw, Script};
use crate::load::{self, Load, Measured};
use crate::report::{Figure, Group, percentile, ratio};
use crate::size::Size;
use crate::stage::base;
use crate::wire::Server;
use crate::{say, stage};

/// Callers of the figures under load.
const CALLERS: usize = 32;

/// The most of one batch.
const BATCH: usize = 500;

/// What is submitted, and what raw Jobs run.
const SCRIPT: &str = "exit 0";

/// A start, on busy cores.
const START_WITHIN: Duration = Duration::from_secs(120);

/// The queue in front of a later acceptance, whose place in it is counted.
const DEEP: u32 = 10_000;

/// What was accepted is finished, all of it.
const END_WITHIN: Duration = Duration::from_secs(1_800);

/// One way to do it, in rounds.
struct Side {
    name: String,
    callers: usize,
    /// Executions in one request.
    each: usize,
    rounds: Vec<Measured>,
}

impl Side {
    fn new(name: &str, callers: usize, each: usize) -> Self {
        let of = if callers == 1 {
            "1 caller"
        } else {
            "32 callers"
        };
        Self {
            name: format!("{name}, {of}"),
            callers,
            each,
            rounds: Vec::new(),
        }
    }

    /// Executions a second, in each round.
    fn rates(&self) -> Vec<f64> {
        let each = self.each as f64;
        self.rounds
            .iter()
            .map(|round| round.rate() * each)
            .collect()
    }

    fn rate(&self) -> f64 {
        crate::report::median(&self.rates())
    }

    fn percentile(&self, share: f64) -> Duration {
        let all: Vec<Duration> = self
            .rounds
            .iter()
            .flat_map(|round| round.latencies.iter().copied())
            .collect();
        percentile(&all, share)
    }

    /// The percentiles of each round, in seconds: ratios are of rounds.
    fn percentiles(&self, share: f64) -> Vec<f64> {
        let of = |round: &Measured| percentile(&round.latencies, share).as_secs_f64();
        self.rounds.iter().map(of).collect()
    }
}

/// Where executions go.
struct Ours {
    server: Server,
    client: Client,
}

impl Ours {
    fn new(base: &str) -> Self {
        Self {
            server: Server::new(base, "", None),
            client: Client::new(base),
        }
    }

    fn one(&self, size: Size, callers: usize) -> Measured {
        let body = submission(SCRIPT, 600).to_string();
        let request = self.server.request("POST", "/executions", Some(&body));
        let requests = vec![request; most(size)];
        load::send(load(size, callers), &self.server, &requests, 201)
    }

    fn batch(&self, size: Size) -> Measured {
        let body = json!({ "executions": vec![submission(SCRIPT, 600); BATCH] }).to_string();
        let request = self
            .server
            .request("POST", "/executions:batch", Some(&body));
        let requests = vec![request; most_batches(size)];
        load::send(load(size, 1), &self.server, &requests, 201)
    }

    /// Submits what holds the only place, and waits until it runs.
    fn shut(&self) -> String {
        let id = self
            .client
            .submit(&submission("exec sleep 100000", 604_800));
        wait_for(
            "the execution that holds the place to run",
            START_WITHIN,
            || (self.client.execution(&id)["status"] == "RUNNING").then_some(()),
        );
        id
    }
}

/// The smallest resources, so that a real node has room.
pub fn submission(script: &str, run_seconds: u32) -> serde_json::Value {
    json!({
        "script": script,
        "resources": { "cpu": "10m", "memory": "16Mi" },
        "timeouts": { "runSeconds": run_seconds },
    })
}

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Vec<Group> {
    let shut = with_dispatch_shut(size, kind);
    let mut groups = vec![shut];
    if !stack_is_real() {
        groups.push(with_dispatch_open(size, kind));
    }
    groups
}

fn stack_is_real() -> bool {
    e2e::ClusterKind::from_env().is_real()
}

/// At any Executor, as it is, beside raw Jobs if an API server is given.
pub fn measure_at(size: Size, base: &str, raw: Option<(Raw, String)>) -> Group {
    let ours = Ours::new(base);
    let about = "At a running Executor as it is; what it dispatches meanwhile is in the figures. Raw Jobs are suspended.";
    let mut group = Group::new("accept-url", about);
    let mut sides = Sides::new();
    for round in 0..size.rounds() {
        say(&format!("accept: round {}", round + 1));
        sides.ours(size, &ours, &mut || {});
        if let Some((raw, image)) = &raw {
            sides.raw(size, raw, image, true);
        }
    }
    sides.tell(&mut group, None);
    group
}

/// All sides of a comparison.
struct Sides {
    ours: [Side; 2],
    batch: Side,
    raw: [Side; 2],
    floor: [Side; 2],
    store: [Side; 2],
}

impl Sides {
    fn new() -> Self {
        let both = |name: &str| [Side::new(name, 1, 1), Side::new(name, CALLERS, 1)];
        Self {
            ours: both("POST /executions"),
            batch: Side::new("POST /executions:batch of 500, per execution", 1, BATCH),
            raw: both("raw POST Job"),
            floor: both("SQL floor"),
            store: both("the store natively"),
        }
    }

    /// `tidy` is called after each, and empties the queue again.
    fn ours(&mut self, size: Size, ours: &Ours, tidy: &mut dyn FnMut()) {
        for side in &mut self.ours {
            side.rounds.push(ours.one(size, side.callers));
            tidy();
        }
        self.batch.rounds.push(ours.batch(size));
        tidy();
    }

    fn raw(&mut self, size: Size, raw: &Raw, image: &str, suspended: bool) {
        let script = Script {
            text: SCRIPT.to_owned(),
            image: image.to_owned(),
            suspended,
        };
        for side in &mut self.raw {
            side.rounds
                .push(raw.create(load(size, side.callers), &script, most(size)));
        }
    }

    fn native(&mut self, size: Size, floor: &Floor) {
        for (floor_side, store) in self.floor.iter_mut().zip(&mut self.store) {
            let load = load(size, store.callers);
            floor_side.rounds.push(floor.run(load));
            store
                .rounds
                .push(floor::by_store(floor.database(), load, SCRIPT));
        }
    }

    /// The figures, and the targets of that database.
    fn tell(&self, group: &mut Group, targets: Option<Kind>) {
        let has_raw = !self.raw[0].rounds.is_empty();
        for (ours, raw) in self.ours.iter().zip(&self.raw) {
            let mut figure = Figure::rate(&ours.name, ours.rate());
            if has_raw {
                figure = figure.by(ratio(&ours.rates(), &raw.rates()), &raw.name);
            }
            if targets == Some(Kind::Postgres) && ours.callers > 1 {
                figure = figure.at_least(1.0);
            }
            group.add(figure);
        }
        let mut batch = Figure::rate(&self.batch.name, self.batch.rate());
        if has_raw {
            batch = batch.by(
                ratio(&self.batch.rates(), &self.raw[0].rates()),
                &self.raw[0].name,
            );
            if targets.is_some() {
                batch = batch.at_least(10.0);
            }
        }
        group.add(batch);
        for side in self.raw.iter().chain(&self.floor).chain(&self.store) {
            if !side.rounds.is_empty() {
                group.add(Figure::rate(&side.name, side.rate()));
            }
        }
        self.tell_times(group, targets, has_raw);
    }

    fn tell_times(&self, group: &mut Group, targets: Option<Kind>, has_raw: bool) {
        let [one, many] = &self.ours;
        let [one_raw, many_raw] = &self.raw;
        let mut p50 = Figure::time(&format!("p50 of {}", one.name), one.percentile(0.5));
        if has_raw {
            let by = ratio(&one.percentiles(0.5), &one_raw.percentiles(0.5));
            p50 = p50.by(by, &format!("p50 of {}", one_raw.name));
            if targets == Some(Kind::Postgres) {
                p50 = p50.at_most(1.0);
            }
        }
        group.add(p50);
        let p50 = format!("p50 of {}", many.name);
        group.add(Figure::time(&p50, many.percentile(0.5)));
        let p99 = Figure::time(&format!("p99 of {}", many.name), many.percentile(0.99));
        group.add(match targets {
            Some(Kind::Postgres) => p99
                .by(ratio(&many.percentiles(0.99), &many.percentiles(0.5)), &p50)
                .at_most(3.0),
            Some(Kind::Sqlite) => p99.at_most(500.0),
            None => p99,
        });
        if has_raw {
            for (side, share, name) in [
                (one_raw, 0.5, "p50"),
                (many_raw, 0.5, "p50"),
                (many_raw, 0.99, "p99"),
            ] {
                group.add(Figure::time(
                    &format!("{name} of {}", side.name),
                    side.percentile(share),
                ));
            }
        }
    }
}

/// More requests than any side answers in one turn; they are written down before it.
fn most(size: Size) -> usize {
    size.pick(20_000, 5_000, 200)
}

/// The same of batches.
fn most_batches(size: Size) -> usize {
    size.pick(200, 50, 2)
}

fn load(size: Size, callers: usize) -> Load {
    Load {
        callers,
        time: size.turn(),
    }
}

fn with_dispatch_shut(size: Size, kind: Kind) -> Group {
    let (stack, database) = stage::start_on(
        kind,
        Options {
            variables: vec![("max_running".to_owned(), "1".to_owned())],
            ..Options::default()
        },
    );
    let ours = Ours::new(&base(&stack));
    let raw = Raw::of(&stack);
    let image = jobs::image();
    let floor = Floor::new(Database::new(kind, stack.shared_file("floor.db")), SCRIPT);
    let holder = ours.shut();
    let about = "Dispatch is shut: one execution holds the only place, so nothing is created in the background, and raw Jobs are \
                 suspended, so no pod is. Each turn begins with an empty queue. \"SQL floor\" inserts the same two rows in one \
                 commit, natively; \"the store natively\" is Executor's whole transaction without component and host.";
    let mut group = Group::new(&named("accept", kind, &stack), about);
    let mut sides = Sides::new();
    let mut connection = database.connect();
    for round in 0..size.rounds() {
        say(&format!("accept on {}: round {}", kind.name(), round + 1));
        let mut tidy = || connection.forget_but(&holder);
        sides.ours(size, &ours, &mut tidy);
        sides.raw(size, &raw, &image, true);
        sides.native(size, &floor);
        floor.tidy();
    }
    sides.tell(&mut group, Some(kind));
    let deep = size.pick(DEEP, DEEP, 20);
    let model = ours.client.submit(&submission(SCRIPT, 600));
    connection.copy(&model, 1, deep, &[]);
    let mut behind = Side::new(&format!("POST /executions behind {deep} queued"), 1, 1);
    behind.rounds.push(ours.one(size, 1));
    group.add(
        Figure::rate(&behind.name, behind.rate())
            .by(behind.rate() / sides.ours[0].rate(), &sides.ours[0].name),
    );
    group
}

/// The group's name says what is not the usual: SQLite or PostgreSQL, and a real cluster.
fn named(what: &str, kind: Kind, stack: &Stack) -> String {
    let real = if stack.is_real() { "-real" } else { "" };
    format!("{what}-{}{real}", kind.name())
}

fn with_dispatch_open(size: Size, kind: Kind) -> Group {
    let (stack, _) = stage::start_on(
        kind,
        Options {
            variables: vec![("max_running".to_owned(), "500".to_owned())],
            simulate: Some(r#"{"runMs":100}"#.to_owned()),
            ..Options::default()
        },
    );
    let ours = Ours::new(&base(&stack));
    let raw = Raw::of(&stack);
    let about = "Dispatch is open, and pods are simulated, each for 0.1 s: Jobs are created, watched, finished and deleted beside \
                 the acceptances, on the same cores. Raw Jobs run too. What is accepted in a turn is finished before the next.";
    let mut group = Group::new(&named("accept-open", kind, &stack), about);
    let script = Script {
        text: SCRIPT.to_owned(),
        image: jobs::image(),
        suspended: false,
    };
    let mut accepted = Side::new("POST /executions", CALLERS, 1);
    let mut created = Side::new("raw POST Job", CALLERS, 1);
    let mut ended = Vec::new();
    for round in 0..size.rounds() {
        say(&format!(
            "accept on {}, dispatch open: round {}",
            kind.name(),
            round + 1
        ));
        let begun = Instant::now();
        let measured = ours.one(size, CALLERS);
        let count = measured.latencies.len();
        accepted.rounds.push(measured);
        stage::wait_patiently("all that was accepted to end", END_WITHIN, || {
            waiting(&ours.client) == 0
        });
        ended.push(count as f64 / begun.elapsed().as_secs_f64());
        let load = load(size, CALLERS);
        created.rounds.push(raw.create(load, &script, most(size)));
    }
    let rate = ratio(&accepted.rates(), &created.rates());
    group.add(Figure::rate(&accepted.name, accepted.rate()).by(rate, &created.name));
    group.add(Figure::rate(&created.name, created.rate()));
    group.add(Figure::time(
        &format!("p50 of {}", accepted.name),
        accepted.percentile(0.5),
    ));
    group.add(Figure::time(
        &format!("p99 of {}", accepted.name),
        accepted.percentile(0.99),
    ));
    let what = "finished, from the first acceptance to the last end";
    group.add(Figure::rate(what, crate::report::median(&ended)));
    group
}

/// How many are not finished, by the metrics.
pub fn waiting(client: &Client) -> u64 {
    let text = client.get("/metrics").expect(200).text();
    ["QUEUED", "RUNNING"]
        .iter()
        .map(|status| count(&text, status))
        .sum()
}

/// How many are in that status, by the text of the metrics.
///
/// # Panics
/// When the text does not say.
pub fn count(metrics: &str, status: &str) -> u64 {
    let line = format!("executor_executions{{status=\"{status}\"}} ");
    let count = metrics
        .lines()
        .find_map(|l| l.strip_prefix(&*line)?.parse().ok());
    count.unwrap_or_else(|| panic!("no {line}in {metrics}"))
}
