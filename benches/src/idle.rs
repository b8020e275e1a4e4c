//! What ticks cost while nothing changes: the host's processor time, what it reads, and what it asks the API server.
//!
//! All sizes at once, each with a host and a cluster of its own, so that they share whatever else the machine does.

use std::time::Duration;

use e2e::{Client, Options, Stack, poll};
use serde_json::json;

use crate::accept::{count, submission};
use crate::database::{Database, Kind};
use crate::process;
use crate::report::{Figure, Group};
use crate::size::Size;
use crate::{say, stage};

/// Rows that were read of Executor's tables, and entries of their indexes. What is read of PostgreSQL's own tables is not among them: each
/// new session does that, and so does autovacuum whenever it looks around. Nor is what vacuum and analyze read of ours.
const ROWS_READ: &str = "SELECT ((SELECT coalesce(sum(seq_tup_read), 0) FROM pg_stat_user_tables) \
     + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes))::bigint";

/// Simulated pods of what runs: for eleven days.
const RUNS_ON: &str = r#"{"runMs":1000000000}"#;

/// So many run at most: each has a Job and a pod in the embedded cluster.
const MAX_RUNNING: &str = "100000";

/// The most of one batch.
const BATCH: u32 = 500;

/// The period of the cron trigger.
const PERIOD: Duration = Duration::from_secs(10);

/// Starting all that is to run.
const START_WITHIN: Duration = Duration::from_secs(3_600);

/// A tick that lists all, and stores what it saw, is over by then.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// A tick in which nothing changes asks for no more: 128 logs that it follows, and a few requests of its own.
const FEW_REQUESTS: u64 = 150;

/// The costs of two sizes may differ by this much.
const TARGET: f64 = 1.2;

/// What is unfinished.
#[derive(Clone, Copy)]
enum Unfinished {
    /// Behind one that holds the only place.
    Queued(u32),
    /// Each with a Job and a pod.
    Running(u32),
}

impl Unfinished {
    fn name(self) -> String {
        match self {
            Self::Queued(n) => format!("{n} queued"),
            Self::Running(n) => format!("{n} running"),
        }
    }
}

/// One host with all that is unfinished.
struct Case {
    what: Unfinished,
    stack: Stack,
    database: Database,
}

/// What it has used so far.
#[derive(Clone, Copy)]
struct Used {
    cpu: f64,
    read: f64,
    requests: f64,
}

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Group {
    let queued = size.pick(
        &[100, 10_000, 100_000][..],
        &[100, 10_000, 100_000],
        &[3, 30],
    );
    let running = size.pick(&[100, 1_000, 10_000][..], &[100, 1_000], &[3]);
    let window = size.pick(12 * PERIOD, 3 * PERIOD, PERIOD / 10);
    let ticks = window.as_secs_f64() / PERIOD.as_secs_f64();
    let all = queued
        .iter()
        .map(|n| Unfinished::Queued(*n))
        .chain(running.iter().map(|n| Unfinished::Running(*n)));
    let cases: Vec<Case> = all.map(|what| start(kind, what)).collect();
    if size != Size::Tiny {
        cases.iter().for_each(|case| settle(&case.stack));
    }
    say(&format!("idle: {window:?} of each"));
    let before: Vec<Used> = cases.iter().map(used).collect();
    std::thread::sleep(window);
    let after: Vec<Used> = cases.iter().map(used).collect();
    let about = format!(
        "A tick of 10 s in which nothing changes, on {}: the mean of {window:?}, all sizes at once, each with a host of its own. \
         \"Queued\" wait behind one that holds the only place; \"running\" have a Job and a simulated pod each.",
        kind.title(),
    );
    let mut group = Group::new(&format!("idle-{}", kind.name()), &about);
    let per_tick =
        |index: usize, of: fn(Used) -> f64| (of(after[index]) - of(before[index])) / ticks;
    for (first, sizes) in [(0, queued.len()), (queued.len(), running.len())] {
        let reference = cases[first].what.name();
        for (index, case) in cases.iter().enumerate().skip(first).take(sizes) {
            let name = case.what.name();
            let cpu = per_tick(index, |used| used.cpu);
            let mut figure = Figure::new(&format!("processor time, {name}"), cpu * 1_000.0, "ms");
            if index != first {
                let by = cpu / per_tick(first, |used| used.cpu).max(1e-3);
                figure = figure
                    .by(by, &format!("processor time, {reference}"))
                    .at_most(TARGET);
            }
            group.add(figure);
            let read = per_tick(index, |used| used.read);
            group.add(match kind {
                Kind::Sqlite => Figure::new(&format!("read from files, {name}"), read, "KiB"),
                Kind::Postgres => Figure::new(&format!("rows read, {name}"), read, "count"),
            });
            let requests = per_tick(index, |used| used.requests);
            group.add(Figure::new(
                &format!("requests to the API server, {name}"),
                requests,
                "count",
            ));
        }
    }
    group
}

fn start(kind: Kind, what: Unfinished) -> Case {
    say(&format!("idle: {}", what.name()));
    let max_running = match what {
        Unfinished::Queued(_) => "1",
        Unfinished::Running(_) => MAX_RUNNING,
    };
    let (stack, database) = stage::start_on(
        kind,
        Options {
            variables: vec![("max_running".to_owned(), max_running.to_owned())],
            simulate: Some(RUNS_ON.to_owned()),
            through_network: true,
            ..Options::default()
        },
    );
    let client = stack.client();
    let endless = submission("exec sleep 1000000", 604_800);
    match what {
        Unfinished::Queued(n) => {
            client.submit(&endless);
            let model = client.submit(&endless);
            let mut connection = database.connect();
            connection.copy(&model, 1, n - 1, &[]);
        }
        Unfinished::Running(n) => {
            let mut left = n;
            while left > 0 {
                let now = left.min(BATCH);
                let each = vec![&endless; usize::try_from(now).unwrap_or_default()];
                let batch = json!({ "executions": each });
                client
                    .post_with("/executions:batch", &[], &batch)
                    .expect(201);
                left -= now;
            }
        }
    }
    let running = match what {
        Unfinished::Queued(_) => 1,
        Unfinished::Running(n) => u64::from(n),
    };
    stage::wait_patiently("all to run that is to", START_WITHIN, || {
        in_status(&client, "RUNNING") == running
    });
    Case {
        what,
        stack,
        database,
    }
}

fn in_status(client: &Client, status: &str) -> u64 {
    count(&client.get("/metrics").expect(200).text(), status)
}

fn used(case: &Case) -> Used {
    let pid = case.stack.host_pid(0);
    Used {
        cpu: process::cpu(pid).as_secs_f64(),
        read: match &case.database {
            Database::Sqlite(_) => process::read_kibibytes(pid),
            // Of tables and indexes, by the server's own count.
            Database::Postgres(_) => case.database.connect().number(ROWS_READ) as f64,
        },
        // Fewer than 2^52.
        requests: case.stack.network().requests() as f64,
    }
}

/// Waits until a whole tick has asked for no more than a tick does in which nothing happens.
fn settle(stack: &Stack) {
    let mut last = stack.network().requests();
    let settled = poll(SETTLED_WITHIN, || {
        std::thread::sleep(PERIOD);
        let now = stack.network().requests();
        let few = now - last <= FEW_REQUESTS;
        last = now;
        few.then_some(())
    });
    if settled.is_none() {
        say("idle: a host does not settle; it is measured all the same");
    }
}
