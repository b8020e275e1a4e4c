//! Tenants: each sees, lists and changes its own, and nothing of another's; and the tokens that open them.

use domain::{Execution, Role, Tenant};
use store::testing::ready;
use store::{BatchKey, Cursor, Filter, Inserted, InsertedBatch, Redelivered, TokenRow, Written};

use crate::support::*;

fn their(execution: Execution) -> Execution {
    Execution {
        tenant: theirs(),
        ..execution
    }
}

#[test]
fn what_is_stored_is_one_tenants() {
    let store = memory();
    let mut execution = their(queued(0));
    execution.labels.insert("a".into(), "1".into());
    let stored = insert(&store, &execution, PLENTY);
    assert_eq!(get(&store, &execution), stored, "with its tenant");
    assert_eq!(
        ready(store.get_of(&theirs(), stored.id)).expect("it answers"),
        Some(stored.clone())
    );
    assert_eq!(
        ready(store.get_of(&ours(), stored.id)).expect("it answers"),
        None
    );
    let by_label = Filter {
        labels: vec![("a".into(), "1".into())],
        ..Filter::default()
    };
    for filter in [Filter::default(), by_label] {
        let count = |tenant: Tenant| {
            let page = ready(store.list(&tenant, &filter, 9, None)).expect("it reads");
            page.items.len()
        };
        assert_eq!((count(theirs()), count(ours())), (1, 0));
        // A cursor of theirs is a time and an id, and leads to nothing of theirs.
        let after = Cursor {
            created_at: at(9),
            id: id(9, 9),
        };
        let page = ready(store.list(&ours(), &filter, 9, Some(after))).expect("it reads");
        assert_eq!(page.items, []);
    }
}

#[test]
fn nobody_forgets_or_repeats_what_is_anothers() {
    let store = memory();
    let execution = their(queued(0));
    let asked = with_webhook(&execution);
    let stored = insert_asked(&store, &execution, &asked, PLENTY, at(9));
    let forget =
        |tenant: Tenant| ready(store.forget(&tenant, stored.id, None)).expect("it answers");
    assert_eq!(
        forget(ours()),
        Written::Missing,
        "not that it is unfinished"
    );
    assert_eq!(forget(theirs()), Written::Stale);
    finish(&store, &stored, 0, 2);
    let again = |tenant: Tenant| {
        ready(store.redeliver(&tenant, stored.id, 1, at(3), None)).expect("it answers")
    };
    assert_eq!(again(ours()), Redelivered::Missing);
    assert_eq!(
        ready(store.deliveries(stored.id)).expect("it reads").len(),
        1
    );
    assert_eq!(again(theirs()), Redelivered::Pending(2));
    assert_eq!(forget(ours()), Written::Missing);
    assert_eq!(forget(theirs()), Written::Updated);
}

#[test]
fn a_key_is_one_tenants() {
    let store = memory();
    let insert = |execution: &Execution| {
        let asked = submission(execution);
        ready(store.insert(execution, &asked, Some("k"), PLENTY, at(9))).expect("it answers")
    };
    let (first, second) = (queued(0), their(queued(1)));
    assert!(matches!(insert(&first), Inserted::New { .. }));
    assert!(matches!(insert(&second), Inserted::New { .. }));
    for (execution, other) in [(&first, queued(2)), (&second, their(queued(3)))] {
        match insert(&other) {
            Inserted::Existing {
                execution: existing,
                same_request,
            } => assert_eq!((existing.id, same_request), (execution.id, false)),
            other => panic!("the key is taken: {other:?}"),
        }
    }
    // Of batches too, whose items have keys made of theirs.
    let batch = |executions: [Execution; 2], key: &str| {
        let batch: Vec<_> = executions
            .into_iter()
            .map(|e| (e.clone(), submission(&e)))
            .collect();
        let key = Some(BatchKey { key, digest: "d" });
        ready(store.insert_batch(&batch, key, PLENTY, 0, at(9))).expect("it answers")
    };
    let new = |answer: &InsertedBatch| matches!(answer, InsertedBatch::New { .. });
    assert!(new(&batch([queued(10), queued(11)], "b")));
    assert!(new(&batch([their(queued(12)), their(queued(13))], "b")));
    match batch([their(queued(14)), their(queued(15))], "b") {
        InsertedBatch::Replayed { executions } => {
            let ids: Vec<_> = executions.iter().flatten().map(|e| e.id).collect();
            assert_eq!(ids, [id(12, 7), id(13, 7)]);
        }
        other => panic!("it is theirs again: {other:?}"),
    }
    let conflict = batch([their(queued(16)), their(queued(17))], "k");
    assert_eq!(conflict, InsertedBatch::Conflict { id: second.id });
}

fn token(id: &str, expires_at: Option<jiff::Timestamp>) -> TokenRow {
    TokenRow {
        id: id.into(),
        name: "ci".into(),
        tenant: theirs(),
        role: Role::Run,
        created_at: at(0),
        created_by: "root".into(),
        expires_at,
    }
}

#[test]
fn a_token_opens_until_its_time_is_over_or_it_is_taken_away() {
    let store = memory();
    let (lasting, short) = (token("a", None), token("b", Some(at(5))));
    let insert = |token: &TokenRow, hash: &str| {
        ready(store.insert_token(token, hash, 2, None)).expect("it answers")
    };
    assert!(insert(&lasting, "hash a"));
    assert!(insert(&short, "hash b"));
    assert!(!insert(&token("c", None), "hash c"), "there are two");
    let open =
        |hash: &str, millis| ready(store.open_with_token(hash, at(millis))).expect("it reads");
    assert_eq!(open("hash a", 9), Some(lasting.clone()));
    assert_eq!(open("hash b", 4), Some(short.clone()));
    assert_eq!(open("hash b", 5), None);
    assert_eq!(open("hash c", 0), None);
    assert_eq!(
        ready(store.tokens(9)).expect("it answers"),
        vec![lasting, short]
    );
    let delete = |id: &str| ready(store.delete_token(id, None)).expect("it answers");
    assert!(delete("a"));
    assert!(!delete("a"), "it is gone");
    assert_eq!(open("hash a", 9), None);
}

#[test]
fn the_first_look_for_a_token_makes_the_schema() {
    let place = Place::new();
    let store = Store::new(place.open());
    let found = ready(store.open_with_token("hash", at(0))).expect("it reads");
    assert_eq!(found, None);
    assert_eq!(ready(store.tokens(9)).expect("it reads"), []);
}
