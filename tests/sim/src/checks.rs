//! What must hold once it is quiet: the invariants, against the ledger of what really ran.

use jiff::Timestamp;
use localcluster::runner::Exit;
use store::testing::Sqlite;

use crate::driver::Driver;
use crate::harm::belongs;
use crate::ledger::Entry;
use crate::plan::{Action, Planned, Script};
use crate::rows::short;
use crate::world::{Harm, World};

/// How long after its script's end, or after it got quiet, an execution may be finished at the latest, in milliseconds: a
/// lease that ran out (5 s), the cron (10 s), a claim on its creation (15 s), and room for the ways.
const SEEN_WITHIN_MS: i64 = 40_000;

/// How long after its time to run a script may run on at most, besides its grace, in milliseconds: as above, and a claim
/// of somebody who died while ending it (15 s).
const ENDED_WITHIN_MS: i64 = SEEN_WITHIN_MS + 15_000;

/// Nothing is concluded from a script that ended so near to a limit of its clocks, in milliseconds: the cluster's
/// times are whole seconds.
const MARGIN_MS: i64 = 2_500;

/// So much earlier than its time a record may be forgotten, in milliseconds: hosts' clocks are wrong by up to 3 s, and times of
/// the cluster are whole seconds.
const FORGOTTEN_EARLY_MS: i64 = 7_000;

/// The exit codes of what SIGKILL and SIGTERM end.
const BY_SIGNAL: [i32; 2] = [137, 143];

/// What is kept of a log's beginning and of its end, in bytes, as the API promises.
const KEPT_BYTES: usize = 1 << 20;

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
        let mut wrong = ending(world, (record, kept), planned, &entries, (harm, skewed));
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
            ended_before = ended_before.max(ended_at(world, entry).unwrap_or(i64::MAX));
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

/// What is wrong with how one execution ended.
fn ending(
    world: &World,
    (record, kept): (&Record, &Kept),
    planned: &Planned,
    entries: &[Entry],
    (harm, skewed): (Option<Harm>, bool),
) -> Vec<String> {
    let (harmed, deleted) = (harm.is_some(), harm == Some(Harm::Deleted));
    let mut wrong = Vec::new();
    if record.status != "FINISHED" {
        wrong.push("I1: it has no outcome".to_owned());
        return wrong;
    }
    let started: Vec<&Entry> = entries.iter().filter(|e| e.started.is_some()).collect();
    if started.len() > 1 && !deleted {
        let at = |e: &&Entry| e.started.map(|at| world.millis(at));
        let times: Vec<_> = started.iter().map(at).collect();
        wrong.push(format!("I2: its script was started at {times:?} ms"));
    }
    wrong.extend(as_told(record, entries, deleted, skewed));
    let canceled = world.canceled.borrow().contains(&record.id);
    wrong.extend(as_its_node_did(record, harm, canceled));
    if record.reason == "CanceledByCaller" {
        wrong.extend(canceled_with_proof(world, record, &started, canceled));
    }
    if record.reason == "RunTimeout" {
        wrong.extend(timed_out_with_proof(world, record, &started, deleted));
    }
    let quiet = world.quiet_since.get().unwrap_or_default();
    if entries.is_empty() && !harmed {
        wrong.extend(its_job_was_made(world, record, quiet));
    }
    let output = planned.script.output();
    wrong.extend(log_is_honest(record, kept, &output));
    let ended = started.iter().find(|e| e.end.is_some());
    if let Some(end) = ended.and_then(|e| e.end.as_ref()) {
        let seen = world.rows.borrow().all()[&record.id].finished_seen;
        let latest = quiet.max(world.millis(end.finished_at)) + SEEN_WITHIN_MS;
        // A cancel is carried out within limits of its own. What strangers did to a Job may show only in the next full list, or when a clock runs out.
        if !deleted && !canceled && seen.is_some_and(|seen| seen > latest) {
            wrong.push(format!("I1: it was finished late, at {seen:?} ms"));
        }
    }
    if let ([only], false, false) = (entries, harmed || canceled, skewed)
        && in_time(world, record, only)
    {
        wrong.extend(as_it_ended(record, only, &planned.script));
        wrong.extend(log_is_whole(record, kept, &output));
    }
    wrong
}

/// I1 of one that never had a pod, though its image was there: it had no time for that once it was quiet.
fn its_job_was_made(world: &World, record: &Record, quiet: i64) -> Option<String> {
    let dispatched = Timestamp::from_microsecond(record.dispatched_at?).ok()?;
    let over = world.millis(dispatched) + record.start_seconds * 1000;
    let had_time = record.reason == "StartTimeout" && over > quiet + SEEN_WITHIN_MS;
    had_time.then(|| "I1: nobody made its Job, though there was time".to_owned())
}

/// I4, one way: an outcome that tells of the script's end is that of an end in the ledger, which it came to by itself. A
/// host whose clock is wrong cannot tell whether an end, dated by the cluster's clock, was before the deletion that the
/// host decided by its own; but also then the end is no signal's.
fn as_told(record: &Record, entries: &[Entry], deleted: bool, skewed: bool) -> Option<String> {
    let by_signal = |end: &Exit| BY_SIGNAL.contains(&end.code) && end.reason != "OOMKilled";
    let matches = |entry: &&Entry| {
        let any = entry.end.as_ref();
        let any = any.filter(|end| deleted || (skewed && !by_signal(end)));
        entry.own_end().or(any).is_some_and(|end| {
            Some(end.code) == record.exit_code
                && (end.reason == "OOMKilled") == (record.reason == "OOMKilled")
        })
    };
    let tells = matches!(
        record.reason.as_str(),
        "Completed" | "NonZeroExit" | "OOMKilled" | "Signaled"
    );
    let known = entries.iter().find(matches);
    (tells && known.is_none()).then(|| "I4: no script ended so".to_owned())
}

/// I4 of nodes: none is blamed for what it did not do. One that does not let a cancel be confirmed counts as lost.
fn as_its_node_did(record: &Record, harm: Option<Harm>, canceled: bool) -> Option<String> {
    let blamed = match record.reason.as_str() {
        "Evicted" => harm.is_none(),
        "NodeLost" => harm.is_none() && !canceled,
        _ => false,
    };
    blamed.then(|| "I4: no node did that".to_owned())
}

/// I4 of a cancel: somebody wanted it, and no script of it ran on after it was said to be canceled.
fn canceled_with_proof(
    world: &World,
    record: &Record,
    started: &[&Entry],
    wanted: bool,
) -> Option<String> {
    if !wanted {
        return Some("I4: nobody wanted it canceled".to_owned());
    }
    runs_on(world, record, started)
        .then(|| "I4: it was said to be canceled while its script ran".to_owned())
}

/// Whether a script of it ran when it was said to be finished.
fn runs_on(world: &World, record: &Record, started: &[&Entry]) -> bool {
    let seen = world.rows.borrow().all()[&record.id].finished_seen;
    started.iter().any(|entry| {
        let end = ended_at(world, entry);
        end.is_none_or(|end| seen.is_some_and(|seen| end > seen))
    })
}

fn ended_at(world: &World, entry: &Entry) -> Option<i64> {
    let end = entry.end.as_ref().map(|end| end.finished_at);
    // One that is deleted without grace is killed and forgotten in one.
    end.or(entry.gone).map(|end| world.millis(end))
}

/// I4 and I1 of one that ran too long: nothing of it ran on when that was said, and it ran not much longer than it might.
fn timed_out_with_proof(
    world: &World,
    record: &Record,
    started: &[&Entry],
    harmed: bool,
) -> Option<String> {
    if runs_on(world, record, started) {
        return Some("I4: it was said to have timed out while its script ran".to_owned());
    }
    let quiet = world.quiet_since.get().unwrap_or_default();
    let too_long = started.iter().any(|entry| {
        let began = entry.started.map(|at| world.millis(at)).unwrap_or_default();
        let over = quiet.max(began + record.run_seconds * 1000);
        let latest = over + record.grace_seconds * 1000 + ENDED_WITHIN_MS;
        ended_at(world, entry).is_some_and(|end| end > latest)
    });
    (too_long && !harmed).then(|| "I1: its script ran on long after its time".to_owned())
}

/// I4, the other way: a script that came to its end in time, with nobody meddling, has that end for its outcome.
fn as_it_ended(record: &Record, entry: &Entry, script: &Script) -> Option<String> {
    let expected = match (script.reason, script.exit_code) {
        (Some(reason), _) => reason,
        (None, 0) => "Completed",
        _ => "NonZeroExit",
    };
    let code = entry.own_end()?.code;
    (record.reason != expected || record.exit_code != Some(code))
        .then(|| format!("I4: its script ended with {code} in time, as {expected}"))
}

/// Whether the script came to its end by itself, well within its clocks.
fn in_time(world: &World, record: &Record, entry: &Entry) -> bool {
    let (Some(end), Some(started), Some(dispatched)) =
        (entry.own_end(), entry.started, record.dispatched_at)
    else {
        return false;
    };
    let started = world.millis(started);
    let dispatched = Timestamp::from_microsecond(dispatched).map_or(0, |at| world.millis(at));
    started - dispatched < record.start_seconds * 1000 - MARGIN_MS
        && world.millis(end.finished_at) - started < record.run_seconds * 1000 - MARGIN_MS
}

/// I5: what is said to be complete is, and of the rest what is kept is as it was written.
fn log_is_honest(record: &Record, kept: &[(Vec<u8>, Vec<u8>)], output: &[u8]) -> Option<String> {
    let [(head, tail)] = kept else {
        return Some(format!("I5: it has {} logs", kept.len()));
    };
    let whole = [head.as_slice(), tail].concat() == output;
    if record.complete
        && !whole
        && !(record.lost == 0 && record.bytes == 0 && record.exit_code.is_none())
    {
        return Some("I5: its log is said to be complete and is not".to_owned());
    }
    if !output.starts_with(head)
        || (!tail.is_empty() && !record.complete && !output.ends_with(tail))
    {
        return Some("I5: its log is not what the script wrote".to_owned());
    }
    None
}

/// I5 where nothing stood in the way: all of it is there, or head and tail with the rest counted.
fn log_is_whole(record: &Record, kept: &[(Vec<u8>, Vec<u8>)], output: &[u8]) -> Option<String> {
    let lost = output.len().saturating_sub(2 * KEPT_BYTES);
    let (head, tail) = kept.first()?;
    let good = record.complete == (lost == 0)
        && record.lost == lost as u64
        && record.bytes == output.len() as u64
        && head.len() + tail.len() + lost == output.len();
    (!good).then(|| format!("I5: of a log of {} bytes it has other", output.len()))
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
    if !others.is_empty() || count("WATCH pods") > ticks {
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
