//! Forgetting: by the caller's word, and by time.

use domain::transition::Observation;
use domain::{Execution, ExecutionId};
use store::testing::ready;
use store::{ExecutionStore, Inserted, MAX_FORGOTTEN, Written};

use crate::support::*;

fn rows(store: &Store, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    store.sql().number(&sql)
}

#[test]
fn a_finished_one_goes_with_all_that_belongs_to_it() {
    let store = memory();
    let mut execution = queued(0);
    execution.labels.insert("a".into(), "1".into());
    let asked = submission(&execution);
    let insert = || ready(store.insert(&execution, &asked, Some("k"), PLENTY, at(9)));
    let Ok(Inserted::New {
        execution: stored, ..
    }) = insert()
    else {
        panic!("it is new");
    };
    let stored = claim_accepted(&store, vec![stored], at(0), at(9), PLENTY, 1).remove(0);
    let forget = |id: ExecutionId| ready(store.forget(&ours(), id, None)).expect("it answers");
    assert_eq!(forget(stored.id), Written::Stale, "it is not finished");
    assert_eq!((rows(&store, "payloads"), rows(&store, "labels")), (1, 1));
    finish(&store, &stored, 0, 3);
    assert_eq!(rows(&store, "logs"), 1);
    assert_eq!(forget(stored.id), Written::Updated);
    for table in ["executions", "payloads", "labels", "logs"] {
        assert_eq!(rows(&store, table), 0, "{table}");
    }
    assert_eq!(forget(stored.id), Written::Missing);
    assert!(
        matches!(insert(), Ok(Inserted::New { .. })),
        "its key is free"
    );
}

#[test]
fn what_has_expired_goes_in_bounded_batches_and_nothing_else() {
    let store = memory();
    let keep = |seconds: u32, millis: i64| Execution {
        ttl_seconds: seconds,
        ..queued(millis)
    };
    let many = i64::from(MAX_FORGOTTEN) + 3;
    for millis in 0..many {
        let execution = insert(&store, &keep(10, millis), PLENTY);
        finish(&store, &execution, 0, 1_000);
    }
    let longer = insert(&store, &keep(11, many), PLENTY);
    let longer = finish(&store, &longer, 0, 1_000);
    let unfinished = insert(&store, &keep(0, many + 1), PLENTY);
    let unfinished = step(
        &store,
        &unfinished,
        Observation::JobExists { uid: "u".into() },
        2_000,
    );
    let forget = |millis: i64| ready(store.forget_expired(at(millis))).expect("it answers");
    assert_eq!(forget(10_999), 0);
    assert_eq!(
        (forget(11_000), forget(11_000), forget(11_000)),
        (MAX_FORGOTTEN, 3, 0)
    );
    assert_eq!(get(&store, &longer), longer);
    assert_eq!(get(&store, &unfinished), unfinished);
    assert_eq!(forget(12_000), 1);
    assert_eq!((rows(&store, "payloads"), rows(&store, "logs")), (1, 0));
}

#[test]
fn records_of_an_older_version_are_kept_for_30_days() {
    let store = Store::new(Database::sqlite());
    let old = "CREATE TABLE schema_migrations (version INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL); \
        INSERT INTO schema_migrations VALUES (1, 'executions');";
    let first = include_str!("../../migrations/sqlite/0001_executions.sql");
    let row = format!(
        "INSERT INTO executions (id, generation, status, created_at, finished_at, outcome, reason, message, image, cpu, \
         memory, queue_seconds, start_seconds, run_seconds, grace_seconds, labels, digest) \
         VALUES ('{}', 3, 'FINISHED', 0, 1000000, 'ERROR', 'Lost', '', 'i', '1', '1Gi', 1, 1, 1, 1, '{{}}', 'd')",
        id(0, 7)
    );
    for sql in [first, old, &row] {
        store.sql().execute(sql);
    }
    ready(store.migrate()).expect("it migrates");
    let execution = get(&store, &queued(0));
    assert_eq!(execution.ttl_seconds, 30 * 24 * 3600);
    let expires = execution.expires_at().expect("it ended");
    let store = ExecutionStore::new(store.sql().clone());
    let just_before = expires - jiff::SignedDuration::from_micros(1);
    assert_eq!(
        ready(store.forget_expired(just_before)).expect("it answers"),
        0
    );
    assert_eq!(ready(store.forget_expired(expires)).expect("it answers"), 1);
}
