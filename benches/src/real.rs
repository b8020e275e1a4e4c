//! From POST to `FINISHED` beside a raw Job's way to its `Complete` condition, and POST alone beside `kubectl create job`, in turns, on
//! a real cluster.

use std::time::{Duration, Instant};

use e2e::{Admin, Options, Stack};
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
    // Until it is accepted, and not a moment longer; what follows is not in the figure, nor beside the next one.
    let accept = || {
        let started = Instant::now();
        let id = client.submit(&submission);
        let took = started.elapsed();
        client.finished(&id, ROUND_LIMIT);
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
    let kubectl = Kubectl::of(&stack);
    if let Some(kubectl) = &kubectl {
        kubectl.create(0, &image);
    }
    let (mut executions, mut raw_jobs) = (Vec::new(), Vec::new());
    let (mut accepted, mut created) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        executions.push(execute());
        raw_jobs.push(raw(round));
        accepted.push(accept());
        created.extend(
            kubectl
                .as_ref()
                .map(|kubectl| kubectl.create(round, &image)),
        );
        let (execution, job) = (executions[round - 1], raw_jobs[round - 1]);
        say(&format!(
            "round {round}: execution {execution:?}, raw Job {job:?}"
        ));
    }
    let about = format!(
        "`exit 0` on a real single-node Kubernetes on the same machine, in {rounds} turns of one execution and one raw Job, and of one \
         submission that is only waited for until it is accepted and one `kubectl create job`, from its start to its end, \
         which is what people type: a process that starts, and creates the Job."
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
    let what = "POST /executions until it is answered, p50";
    let answered = Figure::time(what, percentile(&accepted, 0.5));
    if created.is_empty() {
        group.add(answered);
    } else {
        let by = "`kubectl create job` beside it, p50";
        group.add(answered.by(ratio(&seconds(&accepted), &seconds(&created)), by));
        group.add(Figure::time(by, percentile(&created, 0.5)));
    }
    group
}

/// `kubectl create job`, by whoever administers the cluster.
struct Kubectl<'a> {
    stack: &'a Stack,
    admin: Admin,
}

impl<'a> Kubectl<'a> {
    /// That of the cluster; none where there is none, which is told.
    fn of(stack: &'a Stack) -> Option<Self> {
        let admin = stack.admin().filter(|admin| {
            let version = admin.command(&["version", "--client"]).output();
            version.is_ok_and(|output| output.status.success())
        });
        if admin.is_none() {
            say("real: there is no kubectl, so `kubectl create job` is left out");
        }
        admin.map(|admin| Self { stack, admin })
    }

    /// Creates a Job of `exit 0`, which is taken away again outside of the time.
    fn create(&self, round: usize, image: &str) -> Duration {
        let name = format!("bench-kubectl-{round}");
        let namespace = self.stack.kube().namespace();
        let image = format!("--image={image}");
        let started = Instant::now();
        self.admin.kubectl(&[
            "--namespace",
            namespace,
            "create",
            "job",
            &name,
            &image,
            "--",
            "/bin/sh",
            "-c",
            "exit 0",
        ]);
        let took = started.elapsed();
        self.stack.kube().delete_job(&name);
        took
    }
}
