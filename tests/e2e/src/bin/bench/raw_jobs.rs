//! From POST to `FINISHED` beside a raw Job's way to its `Complete` condition, in turns, on a real cluster.

use std::time::{Duration, Instant};

use e2e::{Options, RealCluster, Stack};
use serde_json::json;

use crate::report::{Report, percentile};
use crate::say;

/// Rounds; each has one of both.
const ROUNDS: usize = 20;

/// A pod of a pulled image starts and ends within seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// An execution is to take at most so much of a raw Job's time.
const RATIO_TARGET: f64 = 0.7;

/// The image of executions where the cluster's file names none; that of `spin.toml`.
const DEFAULT_IMAGE: &str = "docker.io/library/busybox:1.37";

/// Runs it.
pub fn measure(real: &RealCluster) -> Report {
    let stack = Stack::start(Options::default());
    let client = stack.client();
    let image = real.image.as_deref().unwrap_or(DEFAULT_IMAGE);
    let submission = json!({
        "script": "exit 0",
        "resources": { "cpu": "10m", "memory": "16Mi" },
    });
    let execute = || {
        let started = Instant::now();
        let answer = client.post_with("/executions?wait=60", &[], &submission);
        let took = started.elapsed();
        assert_eq!(answer.json()["outcome"], "SUCCEEDED", "{}", answer.text());
        took
    };
    let raw = |round: usize| {
        let name = format!("bench-{round}");
        let started = Instant::now();
        stack.kube().run_job(&name, image, ROUND_LIMIT);
        let took = started.elapsed();
        stack.kube().delete_job(&name);
        took
    };
    say("warming up: the first tick, the image");
    execute();
    raw(0);
    let (mut executions, mut jobs) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        executions.push(execute());
        jobs.push(raw(round));
        let (execution, job) = (executions[round - 1], jobs[round - 1]);
        say(&format!(
            "round {round}: execution {execution:?}, raw Job {job:?}"
        ));
    }
    let mut report = Report::default();
    let (execution, job) = (percentile(&executions, 0.5), percentile(&jobs, 0.5));
    report.time(
        &format!("`exit 0` on a real cluster, POST to FINISHED: p50 of {ROUNDS}"),
        execution,
        None,
    );
    report.time(
        &format!("a raw Job beside it, POST to `Complete`: p50 of {ROUNDS}"),
        job,
        None,
    );
    report.ratio(
        "the first by the second",
        execution.as_secs_f64() / job.as_secs_f64(),
        Some(RATIO_TARGET),
    );
    report
}
