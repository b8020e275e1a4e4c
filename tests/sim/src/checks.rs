//! What must hold once it is quiet: the invariants, against the ledger of what really ran.

mod ending;

use jiff::Timestamp;
use store::testing::Sqlite;

use crate::driver::Driver;
use crate::harm::belongs;
use crate::ledger::Entry;
use crate::plan::{Action, Planned};
use crate::rows::short;
use crate::world::World;

/// So much earlier than its time a record may be forgotten, in milliseconds: hosts' clocks are wrong by up to 3 s, and times of
/// the cluster are whole seconds.
const FORGOTTEN_EARLY_MS: i64 = 7_000;

/// Head and tail of each log that an execution has.
type Kept = Vec<(Vec<u8>, Vec<u8>)>;

/// What an execution ended with, as it was stored then: its record may be forgotten.
#[derive(Clone)]
pub struct Final {
    record: Record,
    kept: Kept,
}

/// A record at its end.
#[derive(Clone, PartialEq)]
struct Record {
    id: String,
    /// The last attempt's number.
    attempt: u32,
    status: String,
    outcome: String,
    reason: String,
    exit_code: Option<i32>,
    /// Which submission it is of.
    number: usize,
    dispatched_at: Option<i64>,
    start_seconds: i64,
    run_seconds: i64,
    grace_seconds: i64,
    finished_at: Option<i64>,
    ttl_seconds: i64,
    bytes: u64,
    lost: u64,
    complete: bool,
}

/// Whether every record has its outcome.
pub fn all_finished(world: &World) -> bool {
    let rows = world.rows.borrow();
    rows.all().values().all(|row| row.status == "FINISHED")
}

/// Keeps what an execution ended with.
pub fn remember(world: &World, id: &str) {
    let record = records(&world.sqlite, Some(id)).pop();
    let kept = kept(&world.sqlite, id);
    let ended = record.map(|record| Final { record, kept });
    world
        .finals
        .borrow_mut()
        .extend(ended.map(|ended| (id.to_owned(), ended)));
}

/// I1: a record is gone only by its caller's word, or when its time is over.
pub fn forgotten(world: &World, id: &str) {
    let finals = world.finals.borrow();
    let until = finals.get(id).and_then(|ended| {
        let at = Timestamp::from_microsecond(ended.record.finished_at?).ok()?;
        Some(world.millis(at) + ended.record.ttl_seconds * 1000)
    });
    let expired = until.is_some_and(|until| until <= world.now() + FORGOTTEN_EARLY_MS);
    if !expired && !world.forgettable.borrow().contains(id) {
        world.broken(format!("I1: {id} was forgotten early"));
    }
}

/// I11: no more than allowed have a place, and the counters say what is. One that went back into the queue while a request for its Job
/// was under way is taken as it runs, should that request arrive: beyond the limit it is better off than run twice.
pub fn places(world: &World) {
    let read = "SELECT count(*) FILTER (WHERE dispatched_at IS NOT NULL), count(*) FILTER (WHERE dispatched_at IS NULL), \
         (SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'places' AND label = 'dispatched'), \
         (SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'places' AND label = 'queued') \
         FROM executions WHERE status <> 'FINISHED'";
    let mut read = world
        .sqlite
        .connection()
        .prepare_cached(read)
        .expect("a schema");
    let row = read.query_row([], |row| {
        let there: (i64, i64) = (row.get(0)?, row.get(1)?);
        let counted: (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok((there, counted))
    });
    let (there, counted) = row.expect("one row");
    if there != counted {
        world.broken(format!(
            "I11: {there:?} are dispatched and queued, the counters say {counted:?}"
        ));
    }
    let limit = world.max_running.get();
    let rows = world.rows.borrow();
    let unfinished = rows.all().values().filter(|row| row.status != "FINISHED");
    let late = unfinished.filter(|row| row.was_taken_late).count();
    if there.0 > i64::from(limit) + i64::try_from(late).unwrap_or(i64::MAX) {
        world.broken(format!("I11: {} are dispatched of {limit}", there.0));
    }
}

/// When the next attempt at a webhook is due, in milliseconds; none when all are settled.
pub fn delivery_due(world: &World) -> Option<i64> {
    let read = "SELECT min(next_at) FROM deliveries WHERE next_at IS NOT NULL";
    let due: Option<i64> = world
        .sqlite
        .connection()
        .query_row(read, [], |row| row.get(0))
        .expect("a schema");
    // The first attempt is due since 1970.
    due.map(|due| Timestamp::from_microsecond(due).map_or(0, |at| world.millis(at)) + 1)
}

/// Everything about how executions ended, also of those that are forgotten.
pub fn endings(driver: &Driver) {
    let world = &driver.world;
    let there = records(&world.sqlite, None);
    answers(driver);
    let skewed = driver
        .plan
        .actions
        .iter()
        .any(|(_, action)| matches!(action, Action::Skew(..)));
    let finals = world.finals.borrow();
    let mut ended: Vec<(Record, Kept)> = Vec::new();
    for record in there {
        let kept = kept(&world.sqlite, &record.id);
        if finals
            .get(&record.id)
            .is_some_and(|f| f.record != record || f.kept != kept)
        {
            world.broken(format!(
                "I3: {} or its log changed after its end",
                record.id
            ));
        }
        ended.push((record, kept));
    }
    let is_gone = |ended: &Final| {
        world.rows.borrow().all()[&ended.record.id]
            .gone_seen
            .is_some()
    };
    let gone = finals.values().filter(|ended| is_gone(ended)).cloned();
    ended.extend(gone.map(|gone| (gone.record, gone.kept)));
    for (record, kept) in &ended {
        let entries = entries_of(world, &job_of(record, record.attempt));
        // What was done to one attempt may be why there is another.
        let harm_to = |attempt| {
            let harmed = world.harmed.borrow();
            harmed.get(&job_of(record, attempt)).copied()
        };
        let harm = (1..=record.attempt).rev().find_map(harm_to);
        let planned = &driver.plan.submissions[record.number];
        let mut wrong =
            ending::wrong_with(world, (record, kept), planned, &entries, (harm, skewed));
        if harm.is_none() {
            wrong.extend(one_attempt_at_a_time(world, record));
        }
        wrong.extend(webhook_is_told(world, record, planned));
        for what in wrong {
            world.broken(format!("{what}: {} ({})", record.id, describe(record)));
        }
    }
}

/// The name of the Job of that attempt.
fn job_of(record: &Record, attempt: u32) -> String {
    match attempt {
        1 => format!("x-{}", record.id),
        later => format!("x-{}-{later}", record.id),
    }
}

/// What the ledger has of that Job.
fn entries_of(world: &World, job: &str) -> Vec<Entry> {
    let entries = world.ledger.entries();
    let of_job = entries.iter().filter(|entry| entry.job == job);
    of_job.cloned().collect()
}

/// I2 over all attempts: each starts once at most, and none while the one before it runs.
fn one_attempt_at_a_time(world: &World, record: &Record) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ended_before = i64::MIN;
    for attempt in 1..=record.attempt {
        let entries = entries_of(world, &job_of(record, attempt));
        let started: Vec<&Entry> = entries.iter().filter(|e| e.started.is_some()).collect();
        if attempt < record.attempt && started.len() > 1 {
            wrong.push(format!("I2: attempt {attempt} was started more than once"));
        }
        for entry in started {
            let start = entry.started.map_or(i64::MAX, |at| world.millis(at));
            if start < ended_before {
                wrong.push(format!(
                    "I2: attempt {attempt} was started at {start} ms, the one before ended at {ended_before} ms"
                ));
            }
            ended_before = ended_before.max(ending::ended_at(world, entry).unwrap_or(i64::MAX));
        }
    }
    wrong
}

/// I10: who is to be told of an end is told, of this one, and not before it is stored.
fn webhook_is_told(world: &World, record: &Record, planned: &Planned) -> Vec<String> {
    let mut wrong = Vec::new();
    let told = world.told.borrow();
    let messages = told.iter().filter(|message| message.id == record.id);
    let finished = world.rows.borrow().all()[&record.id].finished_seen;
    let mut settled = false;
    for message in messages {
        settled |= matches!(message.status, Some(204 | 410));
        let said = |name: &str| message.body[name].as_str().unwrap_or_default();
        if [said("status"), said("outcome"), said("reason")]
            != [&record.status, &record.outcome, &record.reason]
        {
            wrong.push(format!("I10: its receiver was told {}", message.body));
        }
        if finished.is_none_or(|finished| finished > message.at) {
            wrong.push("I10: its receiver was told before its end was stored".to_owned());
        }
    }
    let wanted = planned.submission.webhook.is_some();
    // Who has the record deleted does without.
    if wanted && !settled && !world.forgettable.borrow().contains(&record.id) {
        wrong.push("I10: its receiver was never told".to_owned());
    }
    wrong
}

fn describe(record: &Record) -> String {
    format!(
        "attempt {} {} {} {} exit {:?} log {}/{} lost, complete {}",
        record.attempt,
        record.status,
        record.outcome,
        record.reason,
        record.exit_code,
        record.bytes,
        record.lost,
        record.complete
    )
}

/// I1 and I6: what callers were told is there, or was, under one id for one key. A key is free again when its
/// record is gone.
fn answers(driver: &Driver) {
    let world = &driver.world;
    let rows = world.rows.borrow();
    for (number, answers) in driver.accepted.borrow().iter() {
        let mut before: Option<&String> = None;
        let mut met: Vec<&String> = Vec::new();
        for (at, id) in answers {
            if !rows.all().contains_key(id) {
                world.broken(format!("I1: {id} was accepted and is nowhere"));
            }
            if met.contains(&id) {
                continue;
            }
            met.push(id);
            let gone = before.and_then(|before| rows.all().get(before)?.gone_seen);
            if before.is_some() && gone.is_none_or(|gone| gone > *at) {
                world.broken(format!("I6: submission {number} has several ids: {met:?}"));
            }
            before = Some(id);
        }
    }
}

/// Whether there are Jobs that only keep their names.
pub fn names_are_held(world: &World) -> bool {
    let held = "executor.dev/name-held-until";
    let mut jobs = world.list("jobs").into_iter();
    jobs.any(|job| job["metadata"]["annotations"][held].is_string())
}

/// I7: nothing of ours is left in the cluster, and what is a stranger's is.
pub fn nothing_left(world: &World) {
    let strangers = world.strangers.borrow();
    let jobs = world.list("jobs");
    for uid in strangers.iter() {
        if !jobs.iter().any(|job| belongs(job, uid)) {
            world.broken(format!("I7: the Job {uid} of a stranger is gone"));
        }
    }
    for kind in ["jobs", "pods", "configmaps", "secrets"] {
        for object in world.list(kind) {
            if !strangers.iter().any(|uid| belongs(&object, uid)) {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                world.broken(format!("I7: of {kind}, {name} is left"));
            }
        }
    }
    let rows = world.rows.borrow();
    for (id, row) in rows.all() {
        if row.status != "FINISHED" {
            world.broken(format!("I1: {} is {}", short(id), row.status));
        }
    }
}

/// I8: so many ticks with nothing to do keep their lease and their marks, and watch.
pub fn quiet(world: &World, ticks: usize) {
    let counted = world.counted.take().unwrap_or_default();
    let count = |what: &str| counted.iter().filter(|c| *c == what).count();
    let others: Vec<&String> = counted
        .iter()
        .filter(|c| !["WATCH pods", "SQL state"].contains(&c.as_str()))
        .collect();
    let watched = 1 + crate::driver::others(world).len();
    if !others.is_empty() || count("WATCH pods") > ticks * watched {
        world.broken(format!("I8: quiet ticks did this: {counted:?}"));
    }
}

/// The records, or that one.
fn records(sqlite: &Sqlite, id: Option<&str>) -> Vec<Record> {
    let read = "SELECT id, status, coalesce(outcome, ''), coalesce(reason, ''), exit_code, \
         (SELECT value FROM labels WHERE execution_id = id AND name = 'number'), dispatched_at, \
         start_seconds, run_seconds, grace_seconds, finished_at, ttl_seconds, coalesce(log_bytes, 0), \
         coalesce(log_lost_bytes, 0), coalesce(log_complete, 0), attempt FROM executions WHERE id >= ?1 AND id <= ?2 ORDER BY id";
    let mut statement = sqlite.connection().prepare_cached(read).expect("a schema");
    // Every id is between the two.
    let between = [id.unwrap_or("0"), id.unwrap_or("g")];
    let rows = statement.query_map(between, |row| {
        Ok(Record {
            id: row.get(0)?,
            status: row.get(1)?,
            outcome: row.get(2)?,
            reason: row.get(3)?,
            exit_code: row.get(4)?,
            number: row.get::<_, String>(5)?.parse().expect("its number"),
            dispatched_at: row.get(6)?,
            start_seconds: row.get(7)?,
            run_seconds: row.get(8)?,
            grace_seconds: row.get(9)?,
            finished_at: row.get(10)?,
            ttl_seconds: row.get(11)?,
            bytes: row.get::<_, i64>(12)?.unsigned_abs(),
            lost: row.get::<_, i64>(13)?.unsigned_abs(),
            complete: row.get(14)?,
            attempt: row.get(15)?,
        })
    });
    let rows = rows.expect("the records are read");
    rows.map(|row| row.expect("a record")).collect()
}

fn kept(sqlite: &Sqlite, id: &str) -> Kept {
    let read = "SELECT head, tail FROM logs WHERE execution_id = ?1";
    let mut statement = sqlite.connection().prepare_cached(read).expect("a schema");
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows = rows.expect("the logs are read");
    rows.map(|row| row.expect("a log")).collect()
}
