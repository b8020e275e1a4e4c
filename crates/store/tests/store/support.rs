//! Values and databases for the tests.

use std::collections::BTreeMap;

use domain::transition::Observation;
use domain::{
    ContainerEnd, Execution, ExecutionId, Resources, Retry, Status, Submission, Tenant, Timeouts,
    Webhook, transition,
};
use jiff::Timestamp;
use store::testing::ready;
use store::{Attempt, BatchKey, Inserted, InsertedBatch, StoredLog, Within, Written};

pub use crate::database::{Database, Place, Store};

/// A limit that no test reaches by accident.
pub const PLENTY: u32 = 1_000_000;

/// Whose everything is, where it is not said.
pub fn ours() -> Tenant {
    Tenant::default()
}

/// Somebody else.
pub fn theirs() -> Tenant {
    "theirs".parse().expect("a name")
}

/// The time that many milliseconds after the tests' beginning.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + millis).expect("a valid time")
}

/// A migrated store for one test, on one connection: in memory, where it is SQLite.
pub fn memory() -> Store {
    match Place::new() {
        Place::Sqlite(_) => sqlite(),
        place => file(&place),
    }
}

/// A migrated store on SQLite, whatever the others are on.
pub fn sqlite() -> Store {
    migrated(Database::sqlite())
}

/// A migrated store in that place, on a connection of its own.
pub fn file(place: &Place) -> Store {
    migrated(place.open())
}

fn migrated(database: Database) -> Store {
    let store = Store::new(database);
    ready(store.migrate()).expect("it migrates");
    store
}

/// An id made at that time; `number` makes it differ from others of the same time.
pub fn id(millis: i64, number: u64) -> ExecutionId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    ExecutionId::new(at(millis), random)
}

/// The namespace of those whose tenants have none of their own.
pub const EVERYONES: Within<'static> = Within {
    namespace: "runs",
    is_default: true,
};

/// One that a tenant has of its own.
pub const fn of_its_own() -> Within<'static> {
    Within {
        namespace: "billing-runs",
        is_default: false,
    }
}

pub fn resources() -> Resources {
    Resources {
        cpu: "250m".parse().expect("a quantity"),
        memory: "128Mi".parse().expect("a quantity"),
        ephemeral_storage: Some("1e9".parse().expect("a quantity")),
    }
}

/// A queued execution, accepted at that time.
pub fn queued(millis: i64) -> Execution {
    Execution {
        id: id(millis, 7),
        tenant: ours(),
        namespace: None,
        generation: 1,
        status: Status::Queued,
        created_at: at(millis),
        attempt: 1,
        due_at: at(millis),
        dispatched_at: None,
        job_uid: None,
        started_at: None,
        cancel_requested_at: None,
        creation_in_doubt: false,
        timed_out_at: None,
        trace: None,
        origin: None,
        stopping_since: None,
        finished_at: None,
        ending: None,
        waiting: None,
        image: "busybox:1.36".into(),
        resources: resources(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        priority: 0,
        labels: BTreeMap::new(),
        ttl_seconds: 30 * 24 * 3600,
        log: None,
    }
}

/// What an execution may have been asked for with.
pub fn submission(execution: &Execution) -> Submission {
    Submission {
        script: format!("echo {}", execution.id),
        interpreter: None,
        args: Vec::new(),
        image: execution.image.clone(),
        resources: execution.resources.clone(),
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        timeouts: execution.timeouts,
        retry: execution.retry,
        priority: execution.priority,
        labels: execution.labels.clone(),
        ttl_seconds: execution.ttl_seconds,
        webhook: None,
        digest: format!("digest of {}", execution.id),
    }
}

/// The same, and its end is to be told.
pub fn with_webhook(execution: &Execution) -> Submission {
    let webhook = Webhook {
        url: "https://example.org/hook?key=1".into(),
        secret_ref: "default".into(),
    };
    Submission {
        webhook: Some(webhook),
        ..submission(execution)
    }
}

/// An attempt to deliver that got the status 500.
pub fn attempt(number: u32) -> Attempt {
    Attempt {
        number,
        started_at: at(3),
        duration_micros: 1_500,
        status_code: Some(500),
        error: Some("the receiver answered 500".into()),
    }
}

/// Inserts it with that many places in all, dispatches it if there is room, and gives what is stored.
pub fn insert(store: &Store, execution: &Execution, max_running: u32) -> Execution {
    let claim_until = execution.created_at + jiff::SignedDuration::from_secs(30);
    let asked = submission(execution);
    insert_asked(store, execution, &asked, max_running, claim_until)
}

/// The same of what was asked for with that, claimed until then.
pub fn insert_asked(
    store: &Store,
    execution: &Execution,
    asked: &Submission,
    max_running: u32,
    claim_until: Timestamp,
) -> Execution {
    match ready(store.insert(execution, asked, None, max_running, claim_until)) {
        Ok(Inserted::New { execution, .. }) => {
            let now = execution.created_at;
            let all = vec![execution];
            claim_accepted(store, all, now, claim_until, max_running, 1).remove(0)
        }
        other => panic!("it is not inserted: {other:?}"),
    }
}

/// The second step of an insert, where there is one: all of them, as they are then.
pub fn claim_accepted(
    store: &Store,
    accepted: Vec<Execution>,
    now: Timestamp,
    claim_until: Timestamp,
    max_running: u32,
    at_once: u32,
) -> Vec<Execution> {
    if !store.dispatches_apart() {
        return accepted;
    }
    assert!(!accepted.iter().any(Execution::is_dispatched));
    let taken = store.claim_accepted(&accepted, now, claim_until, max_running, at_once);
    let taken = ready(taken).expect("it claims");
    let now_is = |execution: Execution| {
        let found = taken.iter().find(|taken| taken.id == execution.id);
        found.cloned().unwrap_or(execution)
    };
    accepted.into_iter().map(now_is).collect()
}

/// Inserts a batch, all accepted at one time, and dispatches the first of it as far as there is room.
pub fn insert_batch(
    store: &Store,
    batch: &[(Execution, Submission)],
    key: Option<BatchKey<'_>>,
    (max_running, at_once): (u32, u32),
    claim_until: Timestamp,
) -> InsertedBatch {
    let inserted = store.insert_batch(batch, key, max_running, at_once, claim_until);
    match ready(inserted).expect("it inserts") {
        InsertedBatch::New { executions } => {
            let now = executions[0].created_at;
            InsertedBatch::New {
                executions: claim_accepted(
                    store,
                    executions,
                    now,
                    claim_until,
                    max_running,
                    at_once,
                ),
            }
        }
        other => other,
    }
}

/// The next generation, stored.
pub fn step(
    store: &Store,
    execution: &Execution,
    observation: Observation,
    millis: i64,
) -> Execution {
    let next = transition(execution, &observation, at(millis)).expect("it changes");
    assert_eq!(
        ready(store.update(&next)).expect("it writes"),
        Written::Updated
    );
    next
}

/// The execution at its end.
pub fn ended(execution: &Execution, exit_code: i32, millis: i64) -> Execution {
    let end = ContainerEnd {
        exit_code,
        signal: None,
        out_of_memory: false,
        start_error: false,
        message: String::new(),
        started_at: Some(at(millis)),
        finished_at: Some(at(millis)),
    };
    transition(execution, &Observation::Ended(end), at(millis)).expect("it changes")
}

/// Stores its end with a short log.
pub fn finish(store: &Store, execution: &Execution, exit_code: i32, millis: i64) -> Execution {
    let log = StoredLog {
        head: b"done\n".to_vec(),
        bytes: 5,
        complete: true,
        ..StoredLog::default()
    };
    let next = ended(execution, exit_code, millis);
    assert_eq!(
        ready(store.finish(&next, &log)).expect("it writes"),
        Written::Updated
    );
    Execution {
        log: Some(log.summary()),
        ..next
    }
}

pub fn get(store: &Store, execution: &Execution) -> Execution {
    ready(store.get(execution.id))
        .expect("it reads")
        .expect("it is there")
}
