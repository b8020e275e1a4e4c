//! Draining a long queue through a limit, beside the rate at which raw Jobs reach the same API server.

use std::time::Duration;

use e2e::{Options, Stack};
use serde_json::json;

use crate::accept::{count, submission};
use crate::database::{Database, Kind};
use crate::jobs::{self, Raw, Script};
use crate::load::{Load, Measured};
use crate::report::{Figure, Group, median};
use crate::size::Size;
use crate::{say, stage};

/// Callers of the raw creations.
const CALLERS: usize = 16;

/// How long a simulated pod runs, in milliseconds: short, so that the limit is no wall by itself.
const RUN_MILLIS: u32 = 100;

/// The target of the project's plan.
const TARGET: f64 = 0.8;

/// All of it, on busy cores.
const DRAINED_WITHIN: Duration = Duration::from_secs(3_600);

/// A queue that moves at all has moved by then.
const TICKS_WITHIN: Duration = Duration::from_secs(60);

/// A turn of raw creations ends with its last Job.
const RAW_WITHIN: Duration = Duration::from_secs(600);

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Group {
    let queued: u32 = size.pick(10_000, 1_000, 40);
    let limit: u32 = size.pick(500, 100, 10);
    let (mut stack, database) = stage::start_on(
        kind,
        Options {
            variables: vec![("max_running".to_owned(), limit.to_string())],
            simulate: Some(json!({ "runMs": RUN_MILLIS }).to_string()),
            ..Options::default()
        },
    );
    let raw = Raw::of(&stack);
    let script = Script {
        text: "exit 0".to_owned(),
        image: jobs::image(),
        suspended: false,
    };
    let load = Load {
        callers: CALLERS,
        time: RAW_WITHIN,
    };
    let most = usize::try_from(queued).unwrap_or(usize::MAX);
    let mut turns = vec![raw.create_and_delete(load, &script, most)];
    say(&format!("drain: queueing {queued}"));
    let model = fill(&mut stack, &database, queued);
    say("drain: begun");
    let client = stack.client();
    let all = u64::from(queued);
    stage::wait_patiently("the queue to be drained", DRAINED_WITHIN, || {
        let text = client.get("/metrics").expect(200).text();
        count(&text, "FINISHED") > all
    });
    let mut connection = database.connect();
    let mut micros = |last: &str| {
        let from = format!("FROM executions WHERE id <> '{model}'");
        connection.number(&format!("SELECT max({last}) - min(dispatched_at) {from}"))
    };
    let (to_ends, to_jobs) = (micros("finished_at"), micros("dispatched_at"));
    turns.push(raw.create_and_delete(load, &script, most));
    let per_second = |micros: i64| f64::from(queued) * 1e6 / micros.max(1) as f64;
    let about = format!(
        "{queued} queued, a limit of {limit} running at once, simulated pods of {RUN_MILLIS} ms. The time of a drain is from the \
         first dispatch to the last end, and from the first to the last dispatch. {CALLERS} callers create raw Jobs, before and after, \
         and when all are there they are deleted: each that is drained is created and deleted, too."
    );
    let mut group = Group::new(&format!("drain-{}", kind.name()), &about);
    let reference = format!("raw POST Job, {CALLERS} callers");
    let rates: Vec<f64> = turns.iter().map(|(created, _)| created.rate()).collect();
    let created = median(&rates);
    let both: Vec<f64> = turns.iter().map(created_and_deleted).collect();
    let both = median(&both);
    let both_reference = "raw POST and DELETE of a Job, one after the other";
    let drained = per_second(to_ends);
    group.add(
        Figure::rate("drained", drained)
            .by(drained / created, &reference)
            .at_least(TARGET),
    );
    let by_both = drained / both;
    group.add(Figure::rate("created, ended and deleted", drained).by(by_both, both_reference));
    let dispatched = per_second(to_jobs);
    group.add(Figure::rate("dispatched", dispatched).by(dispatched / created, &reference));
    group.add(Figure::rate(&reference, created));
    group.add(Figure::rate(both_reference, both));
    group
}

/// How many a second are created and deleted by callers who do nothing else.
fn created_and_deleted((created, deleted): &(Measured, Measured)) -> f64 {
    let time = created.elapsed + deleted.elapsed;
    created.latencies.len() as f64 / time.as_secs_f64().max(1e-9)
}

/// Fills the queue past Executor, while it is down: through its front door it would begin to drain at once. Gives the
/// id of the one that they are copies of.
fn fill(stack: &mut Stack, database: &Database, queued: u32) -> String {
    let client = stack.client();
    // The model runs; its copies are as it was before.
    let id = client.submit(&submission("exit 0", 600));
    client.finished(&id, TICKS_WITHIN);
    stack.kill_host(0);
    let mut connection = database.connect();
    let as_queued = [
        ("generation", "1"),
        ("status", "'QUEUED'"),
        ("dispatched_at", "NULL"),
        ("job_uid", "NULL"),
        ("started_at", "NULL"),
        ("finished_at", "NULL"),
        ("outcome", "NULL"),
        ("reason", "NULL"),
        ("message", "NULL"),
        ("exit_code", "NULL"),
        ("signal", "NULL"),
        ("log_bytes", "NULL"),
        ("log_lost_bytes", "NULL"),
        ("log_complete", "NULL"),
        ("deadline_at", "t.created_at + 86400000000"),
        ("claim_until", "0"),
    ];
    connection.copy(&id, 1, queued, &as_queued);
    // A queued one has no log yet.
    connection.execute(&format!("DELETE FROM logs WHERE execution_id <> '{id}'"));
    drop(connection);
    stage::restart(stack);
    id
}
