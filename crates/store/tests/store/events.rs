//! Timelines: written with their step or not at all, counted when they repeat, bounded.

use domain::timeline::{self, Entry};
use domain::transition::{Observation, waiting};
use domain::{Execution, ExecutionId, WaitingKind, transition};
use store::testing::ready;
use store::{MAX_EVENT_MESSAGE_BYTES, MAX_EVENTS, Step, StoredLog, Written};

use crate::support::*;

/// Sequence, kind and count of each line.
fn told(store: &Store, id: ExecutionId) -> Vec<(u32, String, u32)> {
    let events = ready(store.events(id, 0, 1000)).expect("it reads");
    let line = |e: store::Event| (e.sequence, e.entry.kind, e.entry.count);
    events.into_iter().map(line).collect()
}

#[track_caller]
fn check(store: &Store, id: ExecutionId, expected: &[(u32, &str, u32)]) {
    let told = told(store, id);
    let told: Vec<_> = told.iter().map(|(n, k, c)| (*n, k.as_str(), *c)).collect();
    assert_eq!(told, expected);
}

/// The next generation with what is told of it, stored.
fn step(store: &Store, before: &Execution, observation: &Observation, millis: i64) -> Execution {
    let next = transition(before, observation, at(millis)).expect("it changes");
    let entries = timeline::steps(before, observation, &next, at(millis));
    let written = ready(store.update(Step::new(&next, &entries))).expect("it writes");
    assert_eq!(written, Written::Updated);
    next
}

fn waits(message: &str) -> Entry {
    Entry::once(at(5), "FailedScheduling", "default-scheduler", message)
}

#[test]
fn a_timeline_begins_with_the_acceptance_and_a_dispatch_if_there_is_room() {
    let store = memory();
    let first = insert(&store, &queued(0), 1);
    let second = insert(&store, &queued(1), 1);
    check(
        &store,
        first.id,
        &[(1, "Accepted", 1), (2, "Dispatched", 1)],
    );
    check(&store, second.id, &[(1, "Accepted", 1)]);
    let claimed = ready(store.claim_queued(at(3), at(9), 2, 9)).expect("it claims");
    assert_eq!(claimed.len(), 1);
    check(
        &store,
        second.id,
        &[(1, "Accepted", 1), (2, "Dispatched", 1)],
    );
    let events = ready(store.events(second.id, 1, 9)).expect("it reads");
    assert_eq!((events.len(), events[0].entry.at), (1, at(3)));
    // Nothing is claimed, so nothing is told.
    ready(store.claim_queued(at(4), at(9), 2, 9)).expect("it answers");
    check(
        &store,
        second.id,
        &[(1, "Accepted", 1), (2, "Dispatched", 1)],
    );
}

#[test]
fn what_repeats_is_counted() {
    let store = memory();
    let mut execution = insert(&store, &queued(0), 9);
    let why = Observation::Postponed(waiting(WaitingKind::Quota, "exceeded quota"));
    for round in 1..=3 {
        step(&store, &execution, &why, round * 10);
        let claimed = ready(store.claim_queued(at(round * 10 + 5), at(99), 9, 9));
        execution = claimed.expect("it claims").remove(0).0;
    }
    let expected = [
        (1, "Accepted", 1),
        (2, "Dispatched", 4),
        (3, "Postponed", 3),
    ];
    check(&store, execution.id, &expected);
    let events = ready(store.events(execution.id, 2, 9)).expect("it reads");
    assert_eq!(
        (events[0].entry.at, events[0].entry.last_at),
        (at(10), at(30))
    );
}

#[test]
fn what_the_cluster_counts_is_not_counted_again() {
    let store = memory();
    let execution = insert(&store, &queued(0), 9);
    for (count, expected) in [(3, 3), (3, 3), (7, 7), (6, 7)] {
        let entry = Entry {
            count,
            counted_by_cluster: true,
            ..waits("0/1 nodes are available")
        };
        ready(store.add_events(execution.id, &[entry])).expect("it writes");
        let told = told(&store, execution.id);
        assert_eq!(told[2], (3, "FailedScheduling".to_owned(), expected));
    }
}

#[test]
fn a_step_that_is_not_stored_tells_nothing() {
    let store = memory();
    let execution = insert(&store, &queued(0), 9);
    let exists = Observation::JobExists { uid: "u".into() };
    step(&store, &execution, &exists, 1);
    let before = told(&store, execution.id);
    // Another writer with the same old generation.
    let next = transition(&execution, &exists, at(2)).expect("it changes");
    let entries = [waits("no node")];
    let stale = Step::new(&next, &entries);
    assert_eq!(
        ready(store.update(stale)).expect("it answers"),
        Written::Stale
    );
    let end = ended(&execution, 0, 3);
    let stale = ready(store.finish(Step::new(&end, &entries), &StoredLog::default()));
    assert_eq!(stale.expect("it answers"), Written::Stale);
    assert_eq!(told(&store, execution.id), before);
}

#[test]
fn after_the_end_nothing_more_is_told() {
    let store = memory();
    let execution = insert(&store, &queued(0), 9);
    let end = ended(&execution, 0, 2);
    let log = StoredLog::default();
    let entries = [Entry::once(at(2), "Finished", "pod", "SUCCEEDED")];
    let written = ready(store.finish(Step::new(&end, &entries), &log)).expect("it writes");
    assert_eq!(written, Written::Updated);
    ready(store.add_events(execution.id, &[waits("no node")])).expect("it answers");
    ready(store.add_events(id(7, 7), &[waits("no node")])).expect("it answers");
    assert_eq!(
        told(&store, execution.id).last().expect("a line").1,
        "Finished"
    );
    assert_eq!(told(&store, id(7, 7)), []);
}

#[test]
fn a_timeline_is_bounded_but_for_start_and_end() {
    let store = memory();
    let execution = insert(&store, &queued(0), 9);
    for number in 0..MAX_EVENTS + 5 {
        let entry = waits(&format!("{number} nodes are available"));
        ready(store.add_events(execution.id, &[entry])).expect("it writes");
    }
    assert_eq!(told(&store, execution.id).len(), MAX_EVENTS as usize);
    let known = waits("0 nodes are available");
    ready(store.add_events(execution.id, &[known])).expect("it writes");
    assert_eq!(
        told(&store, execution.id)[2].2,
        2,
        "known things still count"
    );
    let essential = [Entry::once(
        at(9),
        timeline::kind::STARTED,
        "pod",
        "its container runs",
    )];
    ready(store.add_events(execution.id, &essential)).expect("it writes");
    let last = (MAX_EVENTS + 1, timeline::kind::STARTED.to_owned(), 1);
    assert_eq!(told(&store, execution.id).last(), Some(&last));
}

#[test]
fn long_messages_are_cut_between_characters() {
    let store = memory();
    let execution = insert(&store, &queued(0), 9);
    let message = format!("x{}", "é".repeat(MAX_EVENT_MESSAGE_BYTES));
    for _ in 0..2 {
        ready(store.add_events(execution.id, &[waits(&message)])).expect("it writes");
    }
    let events = ready(store.events(execution.id, 2, 9)).expect("it reads");
    assert_eq!((events.len(), events[0].entry.count), (1, 2));
    assert_eq!(
        events[0].entry.message,
        message[..MAX_EVENT_MESSAGE_BYTES - 1]
    );
}

#[test]
fn only_what_waits_for_its_container_is_asked_about() {
    let store = memory();
    let starting = |store: &Store, millis| {
        let spans = [(at(-9), at(-5)), (at(-5), at(millis))];
        let found = ready(store.starting_since(&spans, 9)).expect("it reads");
        found.into_iter().map(|e| e.id).collect::<Vec<_>>()
    };
    let execution = insert(&store, &queued(0), 9);
    assert_eq!(starting(&store, 10), [], "its Job may not exist yet");
    let uid = "u".to_owned();
    let execution = step(&store, &execution, &Observation::JobExists { uid }, 1);
    assert_eq!(starting(&store, -1), [], "not long enough");
    assert_eq!(starting(&store, 0), [execution.id]);
    let spans = [(at(-9), at(-1)), (at(0), at(9))];
    let others = ready(store.starting_since(&spans, 9)).expect("it reads");
    assert_eq!(others, [], "it is in none of them");
    assert_eq!(ready(store.starting_since(&[], 9)).expect("it answers"), []);
    step(&store, &execution, &Observation::Started { at: at(5) }, 5);
    assert_eq!(starting(&store, 10), []);
}
