//! From the end of a script to `FINISHED` at GET, while many others run on the embedded cluster; on PostgreSQL with three replicas,
//! each asked in turn.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use e2e::{Client, Options, wait_for};
use serde_json::{Value, json};

use crate::accept::count;
use crate::database::Kind;
use crate::report::{Figure, Group, percentile};
use crate::size::Size;
use crate::{say, stage};

/// The most of one batch.
const BATCH: usize = 500;

/// Starting a thousand processes on two cores.
const START_WITHIN: Duration = Duration::from_secs(600);

/// Long past every round: the others must not end meanwhile.
const OTHERS_SLEEP_SECONDS: u64 = 3_000;

/// A round, with room for a busy machine.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// How often the file of the script is looked for: that costs nothing.
const FILE_POLL: Duration = Duration::from_millis(1);

/// How often GET is asked then.
const GET_POLL: Duration = Duration::from_millis(5);

/// The targets of the project's plan, in milliseconds: the second with one host, the third with replicas.
const P50_TARGET_MILLIS: f64 = 100.0;
const P99_TARGET_MILLIS: f64 = 500.0;
const P99_REPLICAS_TARGET_MILLIS: f64 = 1_000.0;

/// Hosts on one PostgreSQL.
const REPLICAS: usize = 3;

/// Sets how many others run, in place of the usual number.
const OTHERS_VARIABLE: &str = "EXECUTOR_BENCH_RUNNING";

/// Runs it on that database.
///
/// # Panics
/// When the variable holds no number.
pub fn measure(size: Size, kind: Kind) -> Group {
    let others = match std::env::var(OTHERS_VARIABLE) {
        Ok(text) => text.parse().expect("EXECUTOR_BENCH_RUNNING is a number"),
        Err(_) => size.pick(1_000, 100, 5),
    };
    let rounds = size.pick(100, 20, 2);
    let options = Options {
        variables: vec![("max_running".to_owned(), (2 * others).to_string())],
        ..Options::default()
    };
    let (mut stack, _) = stage::start_on(kind, options);
    let (hosts, p99_target) = match kind {
        Kind::Sqlite => (1, P99_TARGET_MILLIS),
        Kind::Postgres => (REPLICAS, P99_REPLICAS_TARGET_MILLIS),
    };
    for _ in 1..hosts {
        stack.add_host();
    }
    let client = stack.client();
    say(&format!("latency: starting {others} others"));
    start_others(&client, others);

    let (mut at_get, mut at_wait) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let file = stack.shared_file(&format!("end{round}"));
        // Accepted by one, asked for at the next.
        let (to, at) = (
            stack.client_of(round % hosts),
            stack.client_of((round + 1) % hosts),
        );
        at_get.push(seen_by_get(&to, &at, &file));
        let file = stack.shared_file(&format!("waited{round}"));
        at_wait.push(seen_by_wait(&to, &file));
    }
    assert_eq!(running(&client), others, "the others ran all the time");

    let about = format!(
        "From the end of a script to `FINISHED`, {others} others running as local processes, {hosts} host(s) on {}; {rounds} rounds of each \
         way of looking.",
        kind.title(),
    );
    let mut group = Group::new(&format!("latency-{}", kind.name()), &about);
    let figure =
        |what: &str, times: &[Duration], share| Figure::time(what, percentile(times, share));
    group.add(figure("at GET, p50", &at_get, 0.5).at_most(P50_TARGET_MILLIS));
    group.add(figure("at GET, p99", &at_get, 0.99).at_most(p99_target));
    group.add(figure("answered to a waiting GET, p50", &at_wait, 0.5));
    group.add(figure("answered to a waiting GET, p99", &at_wait, 0.99));
    group
}

fn submission(script: &str) -> Value {
    json!({
        "script": script,
        "resources": { "cpu": "10m", "memory": "16Mi" },
        "timeouts": { "runSeconds": 2 * OTHERS_SLEEP_SECONDS },
    })
}

fn start_others(client: &Client, others: usize) {
    let other = submission(&format!("exec sleep {OTHERS_SLEEP_SECONDS}"));
    let mut left = others;
    while left > 0 {
        let now = left.min(BATCH);
        let batch = json!({ "executions": vec![other.clone(); now] });
        client
            .post_with("/executions:batch", &[], &batch)
            .expect(201);
        left -= now;
    }
    wait_for("the others to run", START_WITHIN, || {
        (running(client) == others).then_some(())
    });
}

/// How many run, by the metrics.
fn running(client: &Client) -> usize {
    let text = client.get("/metrics").expect(200).text();
    usize::try_from(count(&text, "RUNNING")).unwrap_or(usize::MAX)
}

/// A script whose last deed is a file: its time is the end, but for what the shell takes to exit.
fn ending(file: &Path) -> Value {
    submission(&format!("sleep 0.5; : >'{}'", file.display()))
}

/// How long after the file's time it is now.
fn since(file: &Path) -> Duration {
    let now = SystemTime::now();
    let ended = file.metadata().and_then(|m| m.modified());
    let ended = ended.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    now.duration_since(ended).unwrap_or_default()
}

fn seen_by_get(to: &Client, at: &Client, file: &Path) -> Duration {
    let id = to.submit(&ending(file));
    let end = Instant::now() + ROUND_LIMIT;
    while !file.exists() {
        assert!(Instant::now() < end, "{id} did not run");
        std::thread::sleep(FILE_POLL);
    }
    loop {
        if at.execution(&id)["status"] == "FINISHED" {
            return since(file);
        }
        assert!(Instant::now() < end, "{id} did not finish");
        std::thread::sleep(GET_POLL);
    }
}

fn seen_by_wait(client: &Client, file: &Path) -> Duration {
    let answer = client.post_with("/executions?wait=60", &[], &ending(file));
    let seen = since(file);
    assert_eq!(answer.json()["status"], "FINISHED", "{}", answer.text());
    seen
}
