//! The list: filters, order, pages.

use std::collections::BTreeMap;

use domain::transition::Observation;
use domain::{Execution, Outcome, Reason, Status};
use store::testing::ready;
use store::{Filter, Page};

use crate::support::*;

fn list(store: &Store, filter: &Filter) -> Vec<Execution> {
    let page = ready(store.list(&ours(), filter, 200, None)).expect("it reads");
    assert_eq!(page.next, None);
    page.items
}

fn labelled(millis: i64, labels: &[(&str, &str)]) -> Execution {
    let mut execution = queued(millis);
    let own = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    execution.labels = own.collect::<BTreeMap<_, _>>();
    execution
}

fn labels(labels: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    own.collect()
}

#[test]
fn the_newest_come_first() {
    let store = memory();
    let mut all: Vec<_> = [2, 0, 3, 1]
        .map(|n| insert(&store, &queued(n), PLENTY))
        .into();
    all.sort_by_key(|e| std::cmp::Reverse(e.created_at));
    assert_eq!(list(&store, &Filter::default()), all);
}

#[test]
fn each_part_of_a_filter_must_hold() {
    let store = memory();
    let succeeded = finish(&store, &insert(&store, &queued(0), PLENTY), 0, 10);
    let failed = finish(&store, &insert(&store, &queued(1), PLENTY), 7, 11);
    let signaled = finish(&store, &insert(&store, &queued(2), PLENTY), 137, 12);
    let running = insert(&store, &queued(3), PLENTY);
    let running = step(&store, &running, Observation::Started { at: at(4) }, 4);
    let waiting = insert(&store, &queued(5), 0);
    let by = |filter: Filter| list(&store, &filter);
    let none = Filter::default;
    let status = |s| Filter {
        status: Some(s),
        ..none()
    };
    assert_eq!(by(status(Status::Queued)), [waiting.clone()]);
    assert_eq!(by(status(Status::Running)), [running.clone()]);
    assert_eq!(
        by(status(Status::Finished)),
        [signaled.clone(), failed.clone(), succeeded.clone()]
    );
    let outcome = |o| Filter {
        outcome: Some(o),
        ..none()
    };
    assert_eq!(
        by(outcome(Outcome::Failed)),
        [signaled.clone(), failed.clone()]
    );
    assert!(by(outcome(Outcome::Canceled)).is_empty());
    let reason = |r| Filter {
        reason: Some(r),
        ..none()
    };
    assert_eq!(by(reason(Reason::Signaled)), [signaled.clone()]);
    let both = Filter {
        status: Some(Status::Running),
        ..reason(Reason::Signaled)
    };
    assert!(by(both).is_empty());
    let between = Filter {
        created_after: Some(at(0)),
        created_before: Some(at(3)),
        ..none()
    };
    assert_eq!(by(between.clone()), [signaled.clone(), failed]);
    let rest = Filter {
        reason: Some(Reason::Signaled),
        outcome: Some(Outcome::Failed),
        ..between
    };
    assert_eq!(by(rest), [signaled]);
}

#[test]
fn all_labels_must_be_there() {
    let store = memory();
    let both = insert(&store, &labelled(0, &[("a", "1"), ("b", "2")]), PLENTY);
    let one = insert(&store, &labelled(1, &[("a", "1")]), PLENTY);
    let other = insert(&store, &labelled(2, &[("a", "2"), ("b", "1")]), PLENTY);
    let by = |own: &[(&str, &str)]| {
        list(
            &store,
            &Filter {
                labels: labels(own),
                ..Filter::default()
            },
        )
    };
    assert_eq!(by(&[("a", "1")]), [one.clone(), both.clone()]);
    assert_eq!(by(&[("a", "1"), ("b", "2")]), [both.clone()]);
    assert_eq!(by(&[("b", "2"), ("a", "1")]), [both.clone()]);
    assert!(by(&[("a", "1"), ("b", "1")]).is_empty());
    assert!(by(&[("a", "1"), ("a", "2")]).is_empty());
    assert_eq!(by(&[("a", "2")]), [other]);
    assert!(by(&[("A", "1")]).is_empty());
    let mixed = Filter {
        labels: labels(&[("a", "1")]),
        status: Some(Status::Queued),
        created_after: Some(at(0)),
        ..Filter::default()
    };
    assert_eq!(list(&store, &mixed), [one]);
}

/// Reads all pages, calling `between` after each.
fn pages(
    store: &Store,
    filter: &Filter,
    limit: u32,
    mut between: impl FnMut(usize),
) -> Vec<Execution> {
    let mut all = Vec::new();
    let mut after = None;
    for number in 0.. {
        let Page { items, next } =
            ready(store.list(&ours(), filter, limit, after)).expect("it reads");
        assert!(items.len() <= usize::try_from(limit).expect("small"));
        all.extend(items);
        between(number);
        after = next;
        if after.is_none() {
            break;
        }
    }
    all
}

#[test]
fn pages_neither_lose_nor_repeat_while_others_insert() {
    let store = memory();
    // Three of each millisecond: the id decides between them.
    let mut expected = Vec::new();
    for number in 0..30_u64 {
        let millis = i64::try_from(number / 3).expect("small");
        let mut execution = labelled(millis, &[("a", "1")]);
        execution.id = id(millis, number);
        expected.push(insert(&store, &execution, PLENTY));
    }
    expected.sort_by_key(|e| std::cmp::Reverse((e.created_at, e.id)));
    let filters = [
        Filter::default(),
        Filter {
            labels: labels(&[("a", "1")]),
            ..Filter::default()
        },
        Filter {
            status: Some(Status::Queued),
            ..Filter::default()
        },
    ];
    let mut newer = 1_000;
    for filter in &filters {
        for limit in [1, 4, 5, 29, 30] {
            let before = Filter {
                created_before: Some(at(1_000)),
                ..filter.clone()
            };
            let read = pages(&store, filter, limit, |_| {
                newer += 1;
                insert(&store, &labelled(newer, &[("a", "1")]), PLENTY);
            });
            let old: Vec<_> = read
                .into_iter()
                .filter(|e| e.created_at < at(1_000))
                .collect();
            assert_eq!(old, expected, "{filter:?}, {limit}");
            assert_eq!(pages(&store, &before, limit, |_| ()), expected);
        }
    }
}

#[test]
fn a_last_page_that_is_full_has_no_next() {
    let store = memory();
    insert(&store, &queued(0), PLENTY);
    insert(&store, &queued(1), PLENTY);
    let page = ready(store.list(&ours(), &Filter::default(), 2, None)).expect("it reads");
    assert_eq!((page.items.len(), page.next), (2, None));
    let page = ready(store.list(&ours(), &Filter::default(), 1, None)).expect("it reads");
    assert_eq!(page.items.len(), 1);
    let page = ready(store.list(&ours(), &Filter::default(), 1, page.next)).expect("it reads");
    assert_eq!((page.items.len(), page.next), (1, None));
}
