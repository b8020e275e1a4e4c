//! How one execution ended, against the ledger of what really ran.

use jiff::Timestamp;
use localcluster::runner::Exit;

use super::{Kept, Record};
use crate::ledger::Entry;
use crate::plan::{Planned, Script};
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

/// The exit codes of what SIGKILL and SIGTERM end.
const BY_SIGNAL: [i32; 2] = [137, 143];

/// What is kept of a log's beginning and of its end, in bytes, as the API promises.
const KEPT_BYTES: usize = 1 << 20;

/// What is wrong with how one execution ended.
pub(super) fn wrong_with(
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
        // A request that comes late finds the name free where a stranger has deleted the Job that held it.
        let late = |e: &&Entry| deleted && began_after(world, record, e);
        let in_time: Vec<&Entry> = started.iter().copied().filter(|e| !late(e)).collect();
        wrong.extend(canceled_with_proof(world, record, &in_time, canceled));
    }
    if record.reason == "RunTimeout" {
        wrong.extend(timed_out_with_proof(world, record, &started, deleted));
    }
    let quiet = world.quiet_since.get().unwrap_or_default();
    if entries.is_empty() && !harmed {
        wrong.extend(its_job_was_made(world, record, quiet));
    }
    let output = planned.script.output();
    wrong.extend(log_is_honest(record, kept, &output, !started.is_empty()));
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

/// Whether that one began only after it was said to be finished.
fn began_after(world: &World, record: &Record, entry: &Entry) -> bool {
    let seen = world.rows.borrow().all()[&record.id].finished_seen;
    let began = entry.started.map(|at| world.millis(at));
    seen.zip(began).is_some_and(|(seen, began)| began > seen)
}

/// Whether a script of it ran when it was said to be finished.
fn runs_on(world: &World, record: &Record, started: &[&Entry]) -> bool {
    let seen = world.rows.borrow().all()[&record.id].finished_seen;
    started.iter().any(|entry| {
        let end = ended_at(world, entry);
        end.is_none_or(|end| seen.is_some_and(|seen| end > seen))
    })
}

pub(super) fn ended_at(world: &World, entry: &Entry) -> Option<i64> {
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
fn log_is_honest(
    record: &Record,
    kept: &[(Vec<u8>, Vec<u8>)],
    output: &[u8],
    ran: bool,
) -> Option<String> {
    let [(head, tail)] = kept else {
        return Some(format!("I5: it has {} logs", kept.len()));
    };
    let whole = [head.as_slice(), tail].concat() == output;
    let is_empty = record.lost == 0 && record.bytes == 0;
    if record.complete && !whole && !(is_empty && (record.exit_code.is_none() || !ran)) {
        return Some("I5: its log is said to be complete and is not".to_owned());
    }
    // Of a log whose pod went before all of it was read, the end is that of what was read.
    let read = usize::try_from(record.bytes).unwrap_or(usize::MAX);
    let last_read = output.get(read.saturating_sub(tail.len())..read);
    let is_end = output.ends_with(tail) || last_read == Some(tail.as_slice());
    if !output.starts_with(head) || (!record.complete && !is_end) {
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
