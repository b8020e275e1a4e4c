//! Steps of several executions in one write: each is what it would be alone, and those that lost their row write nothing.

use domain::transition::Observation;
use domain::{Entry, Execution, transition};
use store::testing::ready;
use store::{Change, FollowedLog, Landed, Step, StoredLog, Written};

use crate::support::*;

const STORED: Landed = Landed::Stored {
    creation_in_doubt: false,
};

fn lines(of: &Execution) -> Vec<Entry> {
    let line = |kind, message: String| Entry::once(at(3), kind, "somebody", message);
    vec![
        line("Told", format!("this of {}", of.id)),
        line("Finished", "and this of all".to_owned()),
    ]
}

fn log(text: &str) -> StoredLog {
    StoredLog {
        head: text.into(),
        bytes: text.len() as u64,
        complete: true,
        ..StoredLog::default()
    }
}

/// Dispatched ones that have webhooks, of whose logs something was read.
fn dispatched(store: &Store, count: i64) -> Vec<Execution> {
    let insert = |n: i64| {
        let asked = queued(n);
        let execution = insert_asked(store, &asked, &with_webhook(&asked), PLENTY, at(9));
        let read = FollowedLog {
            pod: "p".into(),
            bytes: 1,
            ..FollowedLog::default()
        };
        ready(store.save_followed(&[(execution.id, read)])).expect("it writes");
        execution
    };
    (0..count).map(insert).collect()
}

fn write(store: &Store, steps: &[(&Execution, Option<&StoredLog>)]) -> Vec<Landed> {
    let lines: Vec<_> = steps.iter().map(|(next, _)| lines(next)).collect();
    let changes = steps.iter().zip(&lines).map(|((next, log), lines)| Change {
        step: Step::new(next, lines),
        log: *log,
    });
    let changes: Vec<_> = changes.collect();
    ready(store.write_all(&changes)).expect("it writes")
}

/// What is stored of one besides its record: its log, what the timeline says after its dispatch, deliveries, whether something is followed.
fn beside(store: &Store, of: &Execution) -> (Option<StoredLog>, Vec<String>, usize, bool) {
    let kinds = ready(store.events(of.id, 2, 99)).expect("it reads");
    (
        ready(store.log(of.id)).expect("it reads"),
        kinds.into_iter().map(|event| event.entry.kind).collect(),
        ready(store.deliveries(of.id)).expect("it reads").len(),
        ready(store.followed(of.id)).expect("it reads").is_some(),
    )
}

fn finished(store: &Store) -> u64 {
    let figures = ready(store.figures()).expect("it counts");
    figures.finished.iter().map(|(_, count)| count).sum()
}

#[test]
fn each_is_what_it_would_be_alone() {
    let store = memory();
    let all = dispatched(&store, 4);
    let exists = Observation::JobExists { uid: "u".into() };
    let created = transition(&all[0], &exists, at(5)).expect("it changes");
    let waits = Observation::Waiting(domain::transition::waiting(
        domain::WaitingKind::Image,
        "no such image",
    ));
    let waiting = transition(&all[1], &waits, at(5)).expect("it changes");
    let ends = [ended(&all[2], 0, 5), ended(&all[3], 7, 6)];
    let logs = [log("one\n"), log("two\n")];
    let steps = [
        (&created, None),
        (&ends[0], Some(&logs[0])),
        (&waiting, None),
        (&ends[1], Some(&logs[1])),
    ];
    assert_eq!(write(&store, &steps), [STORED; 4]);
    assert_eq!(get(&store, &created), created);
    assert_eq!(get(&store, &waiting), waiting);
    for (end, log) in ends.iter().zip(&logs) {
        let summary = Some(log.summary());
        let end = Execution {
            log: summary,
            ..end.clone()
        };
        assert_eq!(get(&store, &end), end);
        let told = vec!["Told".to_owned(), "Finished".to_owned()];
        assert_eq!(
            beside(&store, &end),
            (Some(log.clone()), told.clone(), 1, false)
        );
        assert_eq!(beside(&store, &created), (None, told, 0, true));
    }
    assert_eq!(finished(&store), 2);
    let figures = ready(store.figures()).expect("it counts");
    assert_eq!((figures.dispatched, figures.waiting), (2, 0));
    // The Job of the first is known, so nobody takes its creation up; that of the other waits for its claim to run out.
    let claimed = ready(store.claim_unconfirmed(at(99), at(199), 9)).expect("it claims");
    let claimed: Vec<_> = claimed.into_iter().map(|(e, _)| e.id).collect();
    assert_eq!(claimed, [waiting.id]);
}

#[test]
fn words_are_stored_as_they_are() {
    let store = memory();
    let awkward = [
        r#""quoted" \ and {braced}, 'once'"#,
        "NULL",
        "",
        " \t\r\n ",
        r"\\x00 $1 ?1",
        "\u{1F600}\u{202E}é",
    ];
    let all = dispatched(&store, 6);
    let waiting = |(one, words): (&Execution, &&str)| {
        let why = domain::transition::waiting(domain::WaitingKind::Image, words);
        let waits = Observation::Waiting(why);
        transition(one, &waits, at(5)).expect("it changes")
    };
    let steps: Vec<_> = all.iter().zip(&awkward).map(waiting).collect();
    let told = |words: &str| vec![Entry::once(at(3), "Told", "somebody", words.to_owned())];
    let told: Vec<_> = awkward.iter().map(|words| told(words)).collect();
    let changes = steps.iter().zip(&told).map(|(next, told)| Change {
        step: Step::new(next, told),
        log: None,
    });
    let landed = ready(store.write_all(&changes.collect::<Vec<_>>())).expect("it writes");
    assert_eq!(landed, [STORED; 6]);
    for (next, words) in steps.iter().zip(awkward) {
        assert_eq!(get(&store, next), *next);
        let told = ready(store.events(next.id, 2, 99)).expect("it reads");
        let told: Vec<_> = told.into_iter().map(|event| event.entry.message).collect();
        assert_eq!(told, [words]);
    }
}

#[test]
fn who_lost_its_row_writes_nothing_and_holds_up_nobody() {
    let store = memory();
    let all = dispatched(&store, 4);
    let log = log("kept\n");
    // Somebody was quicker with a step, an end, and a record's going.
    let exists = Observation::JobExists { uid: "u".into() };
    let moved = step(&store, &all[0], exists, 4);
    let over = finish(&store, &all[1], 3, 4);
    finish(&store, &all[2], 0, 4);
    let forgotten = ready(store.forget(&ours(), all[2].id, None)).expect("it answers");
    assert_eq!(forgotten, Written::Updated);
    let before = finished(&store);
    let (moved_is, over_is) = (beside(&store, &moved), beside(&store, &over));
    let ends: Vec<_> = all.iter().map(|one| ended(one, 0, 5)).collect();
    let steps: Vec<_> = ends.iter().map(|end| (end, Some(&log))).collect();
    let lost = Landed::NotStored;
    assert_eq!(write(&store, &steps), [lost, lost, lost, STORED]);
    assert_eq!(get(&store, &moved), moved);
    assert_eq!(get(&store, &over), over);
    assert_eq!(beside(&store, &moved), moved_is);
    assert_eq!(beside(&store, &over), over_is);
    assert_eq!(beside(&store, &all[2]), (None, Vec::new(), 0, false));
    assert_eq!(beside(&store, &all[3]).0, Some(log));
    assert_eq!(finished(&store), before + 1);
    // A generation ahead of its own is as little its own.
    let far = Execution {
        generation: moved.generation + 5,
        ..moved.clone()
    };
    assert_eq!(write(&store, &[(&far, None)]), [lost]);
    assert_eq!(get(&store, &moved), moved);
}

#[test]
fn of_two_steps_of_one_the_first_is_stored() {
    let store = memory();
    let one = dispatched(&store, 1).remove(0);
    let exists = |uid: &str| Observation::JobExists { uid: uid.into() };
    let next = |uid: &str| transition(&one, &exists(uid), at(5)).expect("it changes");
    let (first, second) = (next("first"), next("second"));
    let landed = write(&store, &[(&first, None), (&second, None)]);
    assert_eq!(landed, [STORED, Landed::NotStored]);
    assert_eq!(get(&store, &one), first);
    assert_eq!(ready(store.write_all(&[])).expect("it answers"), []);
}

#[test]
fn it_says_whether_a_request_may_still_arrive() {
    let store = memory();
    let all = dispatched(&store, 2);
    ready(store.doubt_creation(all[1].id)).expect("it writes");
    let ends = [ended(&all[0], 0, 5), ended(&all[1], 0, 5)];
    let log = log("");
    let landed = write(&store, &[(&ends[0], Some(&log)), (&ends[1], Some(&log))]);
    let doubted = Landed::Stored {
        creation_in_doubt: true,
    };
    assert_eq!(landed, [STORED, doubted]);
}

#[test]
fn a_line_that_is_told_again_is_counted_and_a_full_timeline_takes_what_is_essential() {
    let store = memory();
    let one = dispatched(&store, 1).remove(0);
    for n in 0..store::MAX_EVENTS {
        let line = Entry::once(at(3), "Told", "somebody", format!("{n}"));
        ready(store.add_events(one.id, &[line])).expect("it writes");
    }
    let line = |kind: &str, message: &str| Entry::once(at(4), kind, "somebody", message);
    let lines = [line("Told", "0"), line("Told", "new"), line("Started", "")];
    let exists = Observation::JobExists { uid: "u".into() };
    let next = transition(&one, &exists, at(5)).expect("it changes");
    let change = Change {
        step: Step::new(&next, &lines),
        log: None,
    };
    assert_eq!(
        ready(store.write_all(&[change])).expect("it writes"),
        [STORED]
    );
    let told = ready(store.events(one.id, 2, 999)).expect("it reads");
    let again = &told[0].entry;
    assert_eq!((again.message.as_str(), again.count), ("0", 2));
    assert_eq!((again.at, again.last_at), (at(3), at(4)));
    assert!(told.iter().all(|event| event.entry.message != "new"));
    assert_eq!(told.last().map(|e| e.entry.kind.as_str()), Some("Started"));
}
