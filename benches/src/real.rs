//! From POST to `FINISHED` beside a raw Job's way to its `Complete` condition, in turns, on a real cluster.

use std::time::{Duration, Instant};

use e2e::Options;
use serde_json::json;

use crate::jobs;
use crate::report::{Figure, Group, percentile, ratio};
use crate::size::Size;
use crate::{say, stage};

/// A pod of a pulled image starts and ends within seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// An execution is to take at most so much of a raw Job's time.
const RATIO_TARGET: f64 = 0.7;

/// Runs it.
pub fn measure(size: Size) -> Group {
    let rounds = size.pick(20, 5, 1);
    let stack = stage::start(Options::default());
    let client = stack.client();
    let image = jobs::image();
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
        stack.kube().run_job(&name, &image, ROUND_LIMIT);
        let took = started.elapsed();
        stack.kube().delete_job(&name);
        took
    };
    say("real: warming up: the first tick, the image");
    execute();
    raw(0);
    let (mut executions, mut raw_jobs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        executions.push(execute());
        raw_jobs.push(raw(round));
        let (execution, job) = (executions[round - 1], raw_jobs[round - 1]);
        say(&format!(
            "round {round}: execution {execution:?}, raw Job {job:?}"
        ));
    }
    let about = format!(
        "`exit 0` on a real single-node Kubernetes on the same machine, in {rounds} turns of one execution and one raw Job."
    );
    let mut group = Group::new("real", &about);
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<_>>();
    let raw = "a raw Job beside it, POST to `Complete`, p50";
    group.add(
        Figure::time(
            "an execution, POST to FINISHED, p50",
            percentile(&executions, 0.5),
        )
        .by(ratio(&seconds(&executions), &seconds(&raw_jobs)), raw)
        .at_most(RATIO_TARGET),
    );
    group.add(Figure::time(raw, percentile(&raw_jobs, 0.5)));
    group
}
