//! From the end of a script to `FINISHED` at GET, while a thousand others run on the embedded cluster.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use e2e::{Client, Options, Stack, wait_for};
use serde_json::{Value, json};

use crate::report::{Report, percentile};
use crate::say;

/// How many others run meanwhile.
const OTHERS: usize = 1_000;

/// The most of one batch.
const BATCH: usize = 500;

/// Ends measured by each way of looking.
const ROUNDS: usize = 100;

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

/// The targets of the project's plan.
const P50_TARGET: Duration = Duration::from_millis(100);
const P99_TARGET: Duration = Duration::from_millis(500);

/// Runs it.
pub fn measure() -> Report {
    let options = Options {
        variables: vec![("max_running".to_owned(), (2 * OTHERS).to_string())],
        ..Options::default()
    };
    let stack = Stack::start(options);
    let client = stack.client();
    say(&format!("starting {OTHERS} others"));
    let started = Instant::now();
    start_others(&client);
    say(&format!("they run after {:?}", started.elapsed()));

    let (mut at_get, mut at_wait) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let file = stack.shared_file(&format!("end{round}"));
        at_get.push(seen_by_get(&client, &file));
        let file = stack.shared_file(&format!("waited{round}"));
        at_wait.push(seen_by_wait(&client, &file));
    }
    assert_eq!(running(&client), OTHERS, "the others ran all the time");

    let mut report = Report::default();
    let beside = format!("from a script's end to FINISHED, {OTHERS} others running");
    for (way, times, targets) in [
        ("at GET", &at_get, true),
        ("answered to a waiting GET", &at_wait, false),
    ] {
        for (name, share, target) in [("p50", 0.5, P50_TARGET), ("p99", 0.99, P99_TARGET)] {
            let what = format!("{beside}, {way}: {name} of {ROUNDS}");
            report.time(&what, percentile(times, share), targets.then_some(target));
        }
    }
    report
}

fn submission(script: &str) -> Value {
    json!({ "script": script, "resources": { "cpu": "10m", "memory": "16Mi" } })
}

fn start_others(client: &Client) {
    let other = submission(&format!("exec sleep {OTHERS_SLEEP_SECONDS}"));
    for _ in 0..OTHERS / BATCH {
        let batch = json!({ "executions": vec![other.clone(); BATCH] });
        client
            .post_with("/executions:batch", &[], &batch)
            .expect(201);
    }
    wait_for("the others to run", START_WITHIN, || {
        (running(client) == OTHERS).then_some(())
    });
}

/// How many run, by the metrics.
fn running(client: &Client) -> usize {
    let text = client.get("/metrics").expect(200).text();
    let line = "executor_executions{status=\"RUNNING\"} ";
    let count = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.parse().ok());
    count.unwrap_or_else(|| panic!("no {line}in {text}"))
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

fn seen_by_get(client: &Client, file: &Path) -> Duration {
    let id = client.submit(&ending(file));
    let end = Instant::now() + ROUND_LIMIT;
    while !file.exists() {
        assert!(Instant::now() < end, "{id} did not run");
        std::thread::sleep(FILE_POLL);
    }
    loop {
        if client.execution(&id)["status"] == "FINISHED" {
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
