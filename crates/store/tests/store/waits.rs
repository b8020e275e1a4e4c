//! What a write of one statement makes of rows that were written while it waited for its own: PostgreSQL's alone, where it
//! does not see them.

use std::thread;
use std::time::{Duration, Instant};

use domain::transition::Observation;
use domain::{Entry, Execution, transition};
use store::testing::ready;
use store::{Change, Landed, Step, StoredLog, Written};

use crate::support::*;

/// Others wait for a lock no longer than 5 s; what takes longer than this will not come.
const LIMIT: Duration = Duration::from_secs(4);

/// Runs `write` on a connection of its own, so that it waits for a transaction that has done `hold` and is committed then.
#[track_caller]
fn while_held(place: &Place, hold: &str, write: impl FnOnce(&Store) + Send) {
    let (holder, watcher) = (place.open(), place.open());
    holder.execute(&format!("BEGIN; {hold}"));
    let pid = holder.number("SELECT pg_backend_pid()::BIGINT");
    let waiting =
        format!("SELECT count(*) FROM pg_stat_activity WHERE {pid} = ANY(pg_blocking_pids(pid))");
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(&file(place)));
        let begun = Instant::now();
        while watcher.number(&waiting) == 0 {
            assert!(begun.elapsed() < LIMIT, "nobody waits");
            thread::sleep(Duration::from_millis(5));
        }
        holder.execute("COMMIT");
        writer.join().expect("it writes");
    });
}

fn held(execution: &Execution) -> String {
    format!(
        "SELECT 1 FROM executions WHERE id = '{}' FOR UPDATE",
        execution.id
    )
}

#[test]
fn a_line_whose_place_was_taken_meanwhile_gets_the_next() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let execution = insert(&store, &queued(0), PLENTY);
    let observation = Observation::JobExists { uid: "u".into() };
    let next = transition(&execution, &observation, at(1)).expect("it changes");
    let line = |message: &str| Entry::once(at(2), "Told", "somebody", message);
    let lines = [line("two"), line("one"), line("three")];
    let id = execution.id;
    let told = format!(
        "{}; INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message) \
         VALUES ('{id}', 3, 0, 0, 1, 'Told', 'somebody', 'one')",
        held(&execution)
    );
    while_held(&place, &told, |store| {
        let written = ready(store.update(Step::new(&next, &lines)));
        assert_eq!(written.expect("it writes"), Written::Updated);
    });
    assert_eq!(get(&store, &execution), next);
    let events = ready(store.events(id, 2, 9)).expect("it reads");
    let events: Vec<_> = events
        .iter()
        .map(|e| (e.sequence, e.entry.message.as_str(), e.entry.count))
        .collect();
    assert_eq!(events, [(3, "one", 2), (4, "two", 1), (5, "three", 1)]);
}

#[test]
fn what_was_read_of_a_log_meanwhile_counts_for_nothing_after_the_end() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let execution = insert(&store, &queued(0), PLENTY);
    let id = execution.id;
    let saved = format!(
        "INSERT INTO followed_logs (execution_id, pod, pod_uid, head, head_is_closed, tail, bytes, stamp_bytes, stamp_check) \
         SELECT id, 'p', 'u', '', 0, '', 1, 0, 0 FROM executions WHERE id = '{id}' FOR SHARE"
    );
    while_held(&place, &saved, |store| {
        finish(store, &execution, 0, 1);
    });
    assert_eq!(ready(store.followed_ids(9)).expect("it reads"), []);
    assert_eq!(ready(store.followed(id)).expect("it reads"), None);
    // It goes with the record.
    let left = "SELECT count(*) FROM followed_logs";
    assert_eq!(store.sql().number(left), 1, "this is what is tested");
    let forgotten = ready(store.forget(&ours(), id, None)).expect("it answers");
    assert_eq!(forgotten, Written::Updated);
    assert_eq!(store.sql().number(left), 0);
}

#[test]
fn of_two_that_end_one_the_later_writes_nothing() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let asked = queued(0);
    let execution = insert_asked(&store, &asked, &with_webhook(&asked), PLENTY, at(9));
    let change = format!(
        "UPDATE executions SET generation = generation + 1 WHERE id = '{}'",
        execution.id
    );
    while_held(&place, &change, |store| {
        let end = ended(&execution, 0, 1);
        let lines = [Entry::once(at(2), "Finished", "pod", "SUCCEEDED")];
        let written = ready(store.finish(Step::new(&end, &lines), &StoredLog::default()));
        assert_eq!(written.expect("it answers"), Written::Stale);
    });
    for table in [
        "logs",
        "deliveries",
        "counters WHERE name NOT IN ('places', 'dispatches', 'arrived_before')",
    ] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(store.sql().number(&rows), 0, "{table}");
    }
    let events = ready(store.events(execution.id, 2, 9)).expect("it reads");
    assert_eq!(events, []);
}

#[test]
fn one_of_a_group_that_was_written_meanwhile_writes_nothing_and_the_others_do() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let all: Vec<_> = (0..3)
        .map(|n| {
            let asked = queued(n);
            insert_asked(&store, &asked, &with_webhook(&asked), PLENTY, at(9))
        })
        .collect();
    let change = format!(
        "UPDATE executions SET generation = generation + 1 WHERE id = '{}'",
        all[1].id
    );
    while_held(&place, &change, |store| {
        let ends: Vec<_> = all.iter().map(|one| ended(one, 0, 1)).collect();
        let lines = [Entry::once(at(2), "Finished", "pod", "SUCCEEDED")];
        let log = StoredLog::default();
        let changes = ends.iter().map(|end| Change {
            step: Step::new(end, &lines),
            log: Some(&log),
        });
        let changes: Vec<_> = changes.collect();
        let landed = ready(store.write_all(&changes)).expect("it writes");
        let stored = Landed::Stored {
            creation_in_doubt: false,
        };
        assert_eq!(landed, [stored, Landed::NotStored, stored]);
    });
    for (number, of) in all.iter().enumerate() {
        let written = usize::from(number != 1);
        let events = ready(store.events(of.id, 2, 9)).expect("it reads");
        assert_eq!(events.len(), written);
        let deliveries = ready(store.deliveries(of.id)).expect("it reads");
        assert_eq!(deliveries.len(), written);
        let log = ready(store.log(of.id)).expect("it reads");
        assert_eq!(usize::from(log.is_some()), written);
    }
    let counted = "SELECT value FROM counters WHERE name = 'finished'";
    assert_eq!(store.sql().number(counted), 2);
}

#[test]
fn of_two_batches_with_one_key_the_later_is_a_replay_also_where_it_has_more() {
    let Some(place) = Place::postgres() else {
        return;
    };
    let store = file(&place);
    let first = insert(&store, &queued(0), PLENTY);
    // As the first of a batch has it, which is not committed yet.
    let change = format!(
        "UPDATE executions SET idempotency_key = 'k', digest = 'd' WHERE id = '{}'",
        first.id
    );
    while_held(&place, &change, |store| {
        let batch: Vec<_> = (1..4)
            .map(|n| (queued(n), submission(&queued(n))))
            .collect();
        let key = Some(store::BatchKey {
            key: "k",
            digest: "d",
        });
        let inserted = insert_batch(store, &batch, key, (9, 9), at(9));
        let executions = vec![Some(first.clone()), None, None];
        assert_eq!(inserted, store::InsertedBatch::Replayed { executions });
    });
    for table in ["executions", "payloads"] {
        let rows = format!("SELECT count(*) FROM {table}");
        assert_eq!(store.sql().number(&rows), 1, "{table}");
    }
}
