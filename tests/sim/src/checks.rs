//! What must hold once it is quiet: the invariants, against the ledger of what really ran.

use jiff::Timestamp;
use store::testing::Sqlite;

use crate::driver::Driver;
use crate::ledger::Entry;
use crate::plan::{Action, Script};
use crate::rows::short;
use crate::world::World;

/// How long after its script's end, or after it got quiet, an execution may be finished at the latest, in milliseconds: a
/// lease that ran out (5 s), the cron (10 s), a claim on its creation (15 s), and room for the ways.
const SEEN_WITHIN_MS: i64 = 40_000;

/// How long after its time to run a script may run on at most, besides its grace, in milliseconds: as above, and a claim
/// of somebody who died while ending it (15 s).
const ENDED_WITHIN_MS: i64 = SEEN_WITHIN_MS + 15_000;

/// Nothing is concluded from a script that ended so near to a limit of its clocks, in milliseconds: the cluster's
/// times are whole seconds.
const MARGIN_MS: i64 = 2_500;

/// What is kept of a log's beginning and of its end, in bytes, as the API promises.
const KEPT_BYTES: usize = 1 << 20;

/// A record at its end.
struct Record {
    id: String,
    status: String,
    outcome: String,
    reason: String,
    exit_code: Option<i32>,
    digest: String,
    dispatched_at: Option<i64>,
    start_seconds: i64,
    run_seconds: i64,
    grace_seconds: i64,
    bytes: u64,
    lost: u64,
    complete: bool,
}

/// Whether every record has its outcome.
pub fn all_finished(world: &World) -> bool {
    let rows = world.rows.borrow();
    rows.all().values().all(|row| row.status == "FINISHED")
}

/// Everything about how executions ended.
pub fn endings(driver: &Driver) {
    let world = &driver.world;
    let records = records(&world.sqlite);
    answers(driver, &records);
    let skewed = driver
        .plan
        .actions
        .iter()
        .any(|(_, action)| matches!(action, Action::Skew(..)));
    for record in &records {
        let job = format!("x-{}", record.id);
        let entries: Vec<Entry> = world
            .ledger
            .entries()
            .iter()
            .filter(|entry| entry.job == job)
            .cloned()
            .collect();
        let harmed = world.harmed.borrow().contains_key(&job);
        for what in ending(world, record, &entries, harmed, skewed) {
            world.broken(format!("{what}: {} ({})", record.id, describe(record)));
        }
    }
}

fn describe(record: &Record) -> String {
    format!(
        "{} {} {} exit {:?} log {}/{} lost, complete {}",
        record.status,
        record.outcome,
        record.reason,
        record.exit_code,
        record.bytes,
        record.lost,
        record.complete
    )
}

/// I1 and I6: what callers were told is there, under one id for one key.
fn answers(driver: &Driver, records: &[Record]) {
    let world = &driver.world;
    for (number, ids) in driver.accepted.borrow().iter() {
        for id in ids {
            if !records.iter().any(|record| record.id == *id) {
                world.broken(format!("I1: {id} was accepted and is nowhere"));
            }
        }
        if ids.iter().any(|id| id != &ids[0]) {
            world.broken(format!("I6: submission {number} has several ids: {ids:?}"));
        }
    }
}

/// What is wrong with how one execution ended.
fn ending(
    world: &World,
    record: &Record,
    entries: &[Entry],
    harmed: bool,
    skewed: bool,
) -> Vec<String> {
    let mut wrong = Vec::new();
    if record.status != "FINISHED" {
        wrong.push("I1: it has no outcome".to_owned());
        return wrong;
    }
    let started: Vec<&Entry> = entries.iter().filter(|e| e.started.is_some()).collect();
    if started.len() > 1 && !harmed {
        let at = |e: &&Entry| e.started.map(|at| world.millis(at));
        let times: Vec<_> = started.iter().map(at).collect();
        wrong.push(format!("I2: its script was started at {times:?} ms"));
    }
    wrong.extend(as_told(record, entries, harmed));
    let canceled = world.canceled.borrow().contains(&record.id);
    if record.reason == "CanceledByCaller" {
        wrong.extend(canceled_with_proof(world, record, &started, canceled));
    }
    if record.reason == "RunTimeout" {
        wrong.extend(timed_out_with_proof(world, record, &started, harmed));
    }
    let scripts = world.scripts.borrow();
    let output = scripts[&record.digest].output();
    let kept = kept(&world.sqlite, &record.id);
    wrong.extend(log_is_honest(record, &kept, &output));
    let ended = started.iter().find(|e| e.end.is_some());
    if let Some(end) = ended.and_then(|e| e.end.as_ref()) {
        let quiet = world.quiet_since.get().unwrap_or_default();
        let seen = world.rows.borrow().all()[&record.id].finished_seen;
        let latest = quiet.max(world.millis(end.finished_at)) + SEEN_WITHIN_MS;
        // A cancel is carried out within limits of its own. What strangers did to a Job may show only in the next full list, or when a clock runs out.
        if !harmed && !canceled && seen.is_some_and(|seen| seen > latest) {
            wrong.push(format!("I1: it was finished late, at {seen:?} ms"));
        }
    }
    if let ([only], false, false) = (entries, harmed || canceled, skewed)
        && in_time(world, record, only)
    {
        wrong.extend(as_it_ended(record, only, &scripts[&record.digest]));
        wrong.extend(log_is_whole(record, &kept, &output));
    }
    wrong
}

/// I4, one way: an outcome that tells of the script's end is that of an end in the ledger.
fn as_told(record: &Record, entries: &[Entry], harmed: bool) -> Option<String> {
    let matches = |entry: &&Entry| {
        let end = if harmed {
            entry.end.as_ref()
        } else {
            entry.own_end()
        };
        end.is_some_and(|end| {
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
    for kind in ["jobs", "pods", "configmaps", "secrets"] {
        for object in world.list(kind) {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            let owner = &object["metadata"]["ownerReferences"][0]["uid"];
            let foreign = strangers.iter().any(|s| s == uid || owner == s.as_str());
            if !foreign {
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

fn records(sqlite: &Sqlite) -> Vec<Record> {
    let read = "SELECT id, status, coalesce(outcome, ''), coalesce(reason, ''), exit_code, digest, dispatched_at, \
         start_seconds, run_seconds, grace_seconds, coalesce(log_bytes, 0), coalesce(log_lost_bytes, 0), \
         coalesce(log_complete, 0) FROM executions ORDER BY id";
    let mut statement = sqlite.connection().prepare(read).expect("a schema");
    let rows = statement.query_map([], |row| {
        Ok(Record {
            id: row.get(0)?,
            status: row.get(1)?,
            outcome: row.get(2)?,
            reason: row.get(3)?,
            exit_code: row.get(4)?,
            digest: row.get(5)?,
            dispatched_at: row.get(6)?,
            start_seconds: row.get(7)?,
            run_seconds: row.get(8)?,
            grace_seconds: row.get(9)?,
            bytes: row.get::<_, i64>(10)?.unsigned_abs(),
            lost: row.get::<_, i64>(11)?.unsigned_abs(),
            complete: row.get(12)?,
        })
    });
    let rows = rows.expect("the records are read");
    rows.map(|row| row.expect("a record")).collect()
}

fn kept(sqlite: &Sqlite, id: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let read = "SELECT head, tail FROM logs WHERE execution_id = ?1";
    let mut statement = sqlite.connection().prepare(read).expect("a schema");
    let rows = statement.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)));
    let rows = rows.expect("the logs are read");
    rows.map(|row| row.expect("a log")).collect()
}
