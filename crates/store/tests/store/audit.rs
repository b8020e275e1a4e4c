//! The audit log: what is noted, with what, how it is listed, and that nobody changes it.

use std::net::IpAddr;

use domain::transition::Observation;
use domain::{Action, Execution, ExecutionId, Origin, Role, TraceContext, transition};
use jiff::Timestamp;
use store::testing::ready;
use store::{
    AuditFilter, AuditRecord, MAX_REFUSALS_PER_MINUTE, Redelivered, Sql, Statement, Step, TokenRow,
    Written,
};

use crate::support::*;

fn origin(actor: &str) -> Origin {
    Origin {
        actor: Some(actor.to_owned()),
        name: Some(format!("the name of {actor}")),
        address: Some(IpAddr::from([10, 0, 0, 7])),
    }
}

fn record(millis: i64, number: u64, action: Action, target: &str) -> AuditRecord {
    AuditRecord {
        id: id(millis, number),
        at: at(millis),
        origin: origin("tok-1"),
        tenant: Some(ours()),
        action,
        target: Some(target.to_owned()),
        problem: None,
        trace: TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    }
}

fn refused(millis: i64, number: u64, address: [u8; 4]) -> AuditRecord {
    AuditRecord {
        origin: Origin {
            address: Some(IpAddr::from(address)),
            ..Origin::default()
        },
        tenant: None,
        target: None,
        problem: Some("unauthorized".into()),
        trace: None,
        ..record(millis, number, Action::ExecutionGet, "")
    }
}

/// The record of its acceptance.
fn acceptance(execution: &Execution) -> AuditRecord {
    AuditRecord {
        id: execution.id,
        at: execution.created_at,
        origin: execution.origin.as_deref().expect("it is known").clone(),
        tenant: Some(execution.tenant.clone()),
        action: Action::ExecutionCreate,
        target: Some(execution.id.to_string()),
        problem: None,
        trace: execution.trace,
    }
}

fn submitted(millis: i64, actor: &str) -> Execution {
    queued(millis).submitted_by(origin(actor))
}

fn all(store: &Store) -> Vec<AuditRecord> {
    list(store, &AuditFilter::default())
}

fn list(store: &Store, filter: &AuditFilter) -> Vec<AuditRecord> {
    ready(store.audit(filter, 100, None)).expect("it reads")
}

/// Whether the database lets somebody do that.
fn is_let(store: &Store, sql: &str) -> bool {
    let statement = Statement {
        sql: sql.to_owned().into(),
        params: Vec::new(),
        must_change: false,
    };
    // On PostgreSQL what answers with no row is sent as part of a transaction.
    ready(store.sql().transaction(vec![statement])).is_ok()
}

#[test]
fn who_submitted_what_is_told_by_its_row_and_when_it_is_forgotten() {
    let store = memory();
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let first = insert(&store, &submitted(1, "ci").in_trace(trace), PLENTY);
    assert_eq!(get(&store, &first).origin, first.origin);
    let unknown = insert(&store, &queued(2), PLENTY);
    let batch = [3, 4].map(|millis| {
        let execution = submitted(millis, "batch");
        let asked = submission(&execution);
        (execution, asked)
    });
    insert_batch(&store, &batch, None, (0, 0), at(9));
    let expected: Vec<AuditRecord> = [&batch[1].0, &batch[0].0, &first].map(acceptance).into();
    assert_eq!(all(&store), expected, "nobody knows who submitted one");
    finish(&store, &first, 0, 5);
    finish(&store, &unknown, 0, 5);
    let noted = record(6, 1, Action::ExecutionDelete, "it");
    let forget = |execution: &Execution, by| {
        ready(store.forget(&ours(), execution.id, by)).expect("it answers")
    };
    assert_eq!(forget(&first, Some(&noted)), Written::Updated);
    assert_eq!(forget(&unknown, None), Written::Updated);
    let mut with_deletion = vec![noted];
    with_deletion.extend(expected);
    assert_eq!(all(&store), with_deletion, "each once");
}

#[test]
fn what_is_changed_is_noted_with_it_and_what_is_not_is_not() {
    let store = memory();
    let execution = queued(0);
    let stored = insert_asked(&store, &execution, &with_webhook(&execution), PLENTY, at(9));
    let cancel = record(1, 1, Action::ExecutionCancel, "it");
    let next = transition(&stored, &Observation::CancelRequested, at(1)).expect("it changes");
    let ask = || {
        let step = Step::new(&next, &[]).noted(&cancel);
        ready(store.request_cancel(step, at(9))).expect("it answers")
    };
    assert_eq!(ask(), Written::Updated);
    assert_eq!(ask(), Written::Stale);
    assert_eq!(all(&store), [cancel.clone()]);
    let forget = |number: u64| {
        let noted = record(2, number, Action::ExecutionDelete, "it");
        ready(store.forget(&ours(), execution.id, Some(&noted))).expect("it answers")
    };
    assert_eq!(forget(2), Written::Stale, "it is not finished");
    finish(&store, &next, 0, 2);
    let again = |number: u64, of: u32| {
        let noted = record(3, number, Action::DeliveryCreate, "it");
        ready(store.redeliver(&ours(), execution.id, of, at(3), Some(&noted))).expect("it answers")
    };
    assert_eq!(again(3, 7), Redelivered::Missing);
    assert_eq!(again(4, 1), Redelivered::Pending(2));
    assert_eq!(forget(5), Written::Updated);
    assert_eq!(forget(6), Written::Missing);
    let token = TokenRow {
        id: "tok-1".into(),
        name: "a".into(),
        tenant: ours(),
        role: Role::Read,
        created_at: at(4),
        created_by: "root".into(),
        expires_at: None,
    };
    let make = |hash: &str, number: u64, most: u32| {
        let noted = record(4, number, Action::TokenCreate, "tok-1");
        ready(store.insert_token(&token, hash, most, Some(&noted))).expect("it answers")
    };
    assert!(!make("a", 7, 0), "there are enough");
    assert!(make("a", 8, 1));
    let revoke = |number: u64| {
        let noted = record(5, number, Action::TokenRevoke, "tok-1");
        ready(store.delete_token("tok-1", Some(&noted))).expect("it answers")
    };
    assert!(revoke(9));
    assert!(!revoke(10));
    let ids: Vec<ExecutionId> = all(&store).iter().map(|record| record.id).collect();
    assert_eq!(ids, [id(5, 9), id(4, 8), id(3, 4), id(2, 5), id(1, 1)]);
}

#[test]
fn the_list_is_filtered_and_read_page_by_page() {
    let store = memory();
    for millis in 0..6 {
        insert(&store, &submitted(millis, "ci"), PLENTY);
    }
    let other = Execution {
        tenant: theirs(),
        ..submitted(6, "theirs")
    };
    insert(&store, &other, PLENTY);
    let noted = refused(7, 1, [10, 0, 0, 1]);
    assert!(ready(store.note_refusal(&noted)).expect("it answers"));
    let every = all(&store);
    assert_eq!(every.len(), 8);
    let filters: [(AuditFilter, &[usize]); 6] = [
        (
            AuditFilter {
                tenant: Some(theirs()),
                ..AuditFilter::default()
            },
            &[1],
        ),
        (
            AuditFilter {
                actor: Some("ci".into()),
                after: Some(at(1)),
                before: Some(at(4)),
                ..AuditFilter::default()
            },
            &[4, 5],
        ),
        (
            AuditFilter {
                action: Some(Action::ExecutionGet),
                ..AuditFilter::default()
            },
            &[0],
        ),
        (
            AuditFilter {
                action: Some(Action::ExecutionCreate),
                actor: Some("theirs".into()),
                ..AuditFilter::default()
            },
            &[1],
        ),
        (
            AuditFilter {
                after: Some(at(5)),
                ..AuditFilter::default()
            },
            &[0, 1],
        ),
        (
            AuditFilter {
                before: Some(at(1)),
                ..AuditFilter::default()
            },
            &[7],
        ),
    ];
    for (filter, expected) in filters {
        let expected: Vec<_> = expected.iter().map(|at| every[*at].clone()).collect();
        assert_eq!(list(&store, &filter), expected, "{filter:?}");
    }
    let mut seen = Vec::new();
    loop {
        let last = seen.last().map(|record: &AuditRecord| record.id);
        let page = ready(store.audit(&AuditFilter::default(), 3, last)).expect("it reads");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        seen.extend(page);
    }
    assert_eq!(seen, every);
}

#[test]
fn refusals_are_noted_once_a_minute_and_no_more_than_so_many() {
    const MINUTE: i64 = 60_000;
    let store = memory();
    // The tests' time is no whole minute.
    let begin = MINUTE - at(0).as_millisecond().rem_euclid(MINUTE);
    let note = |record: &AuditRecord| ready(store.note_refusal(record)).expect("it answers");
    assert!(note(&refused(begin, 1, [10, 0, 0, 1])));
    assert!(!note(&refused(begin + 59_999, 2, [10, 0, 0, 1])));
    let another = AuditRecord {
        action: Action::TokenList,
        ..refused(begin + 1, 3, [10, 0, 0, 1])
    };
    assert!(note(&another), "something else");
    assert!(note(&refused(begin + MINUTE, 4, [10, 0, 0, 1])), "later");
    let most = u8::try_from(MAX_REFUSALS_PER_MINUTE).expect("few");
    let noted = (0..100).filter(|n| note(&refused(begin, 10 + u64::from(*n), [10, 0, 1, *n])));
    assert_eq!(noted.count(), usize::from(most) - 2);
    assert_eq!(all(&store).len(), usize::from(most) + 1);
}

#[test]
fn nobody_changes_a_record_or_deletes_it_before_its_time() {
    let store = memory();
    for (millis, host) in [(0, 1), (10, 2)] {
        let record = refused(millis, 1, [10, 0, 0, host]);
        assert!(ready(store.note_refusal(&record)).expect("it answers"));
    }
    let before = all(&store);
    assert_eq!(before.len(), 2);
    for sql in [
        "UPDATE audit SET actor = 'somebody else'",
        "DELETE FROM audit",
        "UPDATE audit_retention SET before = before - 1",
        "DELETE FROM audit_retention",
    ] {
        assert!(!is_let(&store, sql), "{sql}");
    }
    let forget = |time: Timestamp| ready(store.forget_audit(time)).expect("it answers");
    assert_eq!(forget(at(0)), 0, "not before it");
    assert_eq!(all(&store), before);
    assert_eq!(forget(at(10)), 1);
    assert_eq!(all(&store), before[..1]);
    assert_eq!(forget(at(10)), 0);
    assert!(!is_let(&store, "DELETE FROM audit"), "the other is not old");
    // An execution from before that leaves no record that nobody would keep.
    for millis in [9, 11] {
        let execution = insert(&store, &submitted(millis, "ci"), PLENTY);
        finish(&store, &execution, 0, 20);
        let forgotten = ready(store.forget(&ours(), execution.id, None)).expect("it answers");
        assert_eq!(forgotten, Written::Updated);
    }
    let targets: Vec<_> = all(&store).into_iter().map(|record| record.id).collect();
    assert_eq!(targets, [id(11, 7), before[0].id]);
}
