//! The namespace that each execution was accepted for: it stays with it, and what is in one is found without reading what is in others.

use std::collections::BTreeMap;

use domain::transition::Observation;
use domain::{Execution, Namespace, Tenant};
use store::testing::ready;
use store::{Filter, FollowedLog, InsertedBatch, Room, Within};

use crate::support::*;

fn namespace(name: &str) -> Namespace {
    name.parse().expect("a name")
}

fn placed(name: &str, n: i64) -> Execution {
    queued(n).in_namespace(Some(namespace(name)))
}

/// Its Job is known.
fn running(store: &Store, execution: &Execution) -> Execution {
    let dispatched = insert(store, execution, PLENTY);
    let uid = format!("uid of {}", execution.id);
    step(store, &dispatched, Observation::JobExists { uid }, 50)
}

fn in_use(store: &Store) -> Vec<String> {
    let found = ready(store.namespaces_in_use()).expect("it reads");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn it_stays_with_the_execution_however_it_is_stored_and_read() {
    let store = memory();
    let single = insert(&store, &placed("red-runs", 0), PLENTY);
    assert_eq!(single.namespace, Some(namespace("red-runs")));
    let batch: Vec<_> = [placed("blue-runs", 1), queued(2)]
        .into_iter()
        .map(|execution| (execution.clone(), submission(&execution)))
        .collect();
    let batch = insert_batch(&store, &batch, None, (PLENTY, 1), at(90_000));
    let InsertedBatch::New { executions } = batch else {
        panic!("it is new");
    };
    let waiting = insert(&store, &placed("red-runs", 3), 0);
    let all = [&single, &executions[0], &executions[1], &waiting];
    let names = ["red-runs", "blue-runs", "", "red-runs"];
    for (execution, name) in all.into_iter().zip(names) {
        let name = (!name.is_empty()).then(|| namespace(name));
        assert_eq!(get(&store, execution).namespace, name);
        assert_eq!(execution.namespace, name);
    }
    let page = ready(store.list(&ours(), &Filter::default(), 9, None)).expect("it reads");
    let listed: Vec<_> = page
        .items
        .iter()
        .rev()
        .map(|e| e.namespace.clone())
        .collect();
    let expected = all.map(|execution| execution.namespace.clone());
    assert_eq!(listed, expected);
    // What is taken from the queue later has it too, and so has what has ended.
    let claimed = ready(store.claim_queued(at(9_000), at(90_000), PLENTY, 9)).expect("it claims");
    let claimed = claimed
        .iter()
        .find(|(execution, _)| execution.id == waiting.id);
    let (claimed, _) = claimed.expect("it waited");
    assert_eq!(claimed.namespace, waiting.namespace);
    let finished = finish(&store, claimed, 0, 10_000);
    assert_eq!(get(&store, &finished).namespace, waiting.namespace);
}

#[test]
fn those_in_use_have_something_unfinished_in_them() {
    let store = memory();
    assert_eq!(in_use(&store), Vec::<String>::new());
    let first = insert(&store, &placed("red-runs", 0), PLENTY);
    insert(&store, &placed("red-runs", 1), PLENTY);
    insert(&store, &placed("blue-runs", 2), PLENTY);
    insert(&store, &queued(3), PLENTY);
    insert(&store, &placed("later-runs", 4), 0);
    assert_eq!(
        in_use(&store),
        ["blue-runs", "later-runs", "red-runs"],
        "what waits may have run and ended before the next look"
    );
    let taken = ready(store.claim_queued(at(9_000), at(90_000), PLENTY, 9)).expect("it claims");
    assert_eq!(taken.len(), 1);
    assert_eq!(in_use(&store), ["blue-runs", "later-runs", "red-runs"]);
    finish(&store, &taken[0].0, 0, 9_500);
    finish(&store, &first, 0, 9_500);
    assert_eq!(
        in_use(&store),
        ["blue-runs", "red-runs"],
        "one is left in it"
    );
}

#[test]
fn a_page_of_one_namespace_has_nothing_of_another() {
    let store = memory();
    let red: Vec<_> = [0, 3, 6]
        .map(|n| running(&store, &placed("red-runs", n)))
        .into();
    let everyones: Vec<_> = [1, 4].map(|n| running(&store, &queued(n))).into();
    let named = running(&store, &placed("runs", 5));
    let within = |namespace, is_default, after, upto| {
        let within = Within {
            namespace,
            is_default,
        };
        ready(store.unfinished_dispatched(within, after, upto, 9)).expect("it reads")
    };
    assert_eq!(within("red-runs", false, None, None), red);
    assert_eq!(
        within("red-runs", false, Some(red[0].id), Some(red[1].id)),
        red[1..2]
    );
    assert_eq!(within("blue-runs", false, None, None), []);
    let mut default = everyones.clone();
    default.push(named);
    assert_eq!(within("runs", true, None, None), default, "by its name too");
    assert_eq!(within("other", true, None, None), everyones);
}

#[test]
fn who_is_held_leaves_the_turn_to_others() {
    let store = memory();
    let of = |name: &str, n: i64| Execution {
        tenant: name.parse().expect("a name"),
        ..queued(n)
    };
    for n in 0..4 {
        insert(&store, &of("a", n), 0);
    }
    insert(&store, &of("b", 10), 0);
    let mut held: BTreeMap<Tenant, u32> = BTreeMap::new();
    let mut claim = |most: Option<u32>| {
        let tenant: Tenant = "a".parse().expect("a name");
        match most {
            Some(most) => held.insert(tenant, most),
            None => held.remove(&tenant),
        };
        let room = Room {
            max_running: PLENTY,
            held: Some(&held),
        };
        let claimed = ready(store.claim_queued(at(60_000), at(90_000), room, 9));
        let claimed = claimed.expect("it claims").into_iter();
        let names: Vec<String> = claimed.map(|(e, _)| e.tenant.to_string()).collect();
        names.concat()
    };
    assert_eq!(claim(Some(0)), "b");
    assert_eq!(claim(Some(1)), "a");
    assert_eq!(claim(Some(0)), "");
    assert_eq!(claim(None), "aaa");
}

#[test]
fn what_is_followed_says_where_its_pod_is() {
    let store = memory();
    let red = running(&store, &placed("red-runs", 0));
    let everyones = running(&store, &queued(1));
    let log = FollowedLog {
        pod: "p".to_owned(),
        pod_uid: "u".to_owned(),
        ..FollowedLog::default()
    };
    let logs = [(red.id, log.clone()), (everyones.id, log.clone())];
    ready(store.save_followed(&logs)).expect("it writes");
    let mut found = ready(store.followed_many(&[red.id, everyones.id])).expect("it reads");
    found.sort_by_key(|followed| followed.id);
    let found: Vec<_> = found
        .into_iter()
        .map(|f| (f.id, f.namespace, f.log))
        .collect();
    assert_eq!(
        found,
        [
            (red.id, Some(namespace("red-runs")), log.clone()),
            (everyones.id, None, log)
        ]
    );
}

#[test]
fn those_that_could_not_be_ended_are_passed_over() {
    let store = memory();
    let due = |behind: Option<&Execution>, limit| {
        ready(store.due_behind(at(i64::from(u32::MAX)), behind, limit)).expect("it reads")
    };
    // Two of one time, which the ids tell apart.
    let twin = Execution {
        id: id(0, 8),
        ..queued(0)
    };
    let all: Vec<_> = [queued(0), twin, queued(1)]
        .iter()
        .map(|execution| insert(&store, execution, 0))
        .collect();
    assert_eq!(due(None, 9), all);
    assert_eq!(due(Some(&all[0]), 1), all[1..2]);
    assert_eq!(due(Some(&all[1]), 9), all[2..]);
    assert_eq!(due(Some(&all[2]), 9), []);
}
