//! What followers leave to those after them.

use domain::transition::Observation;
use store::FollowedLog;
use store::testing::ready;

use crate::support::*;

fn read(pod_uid: &str, text: &str) -> FollowedLog {
    FollowedLog {
        pod: format!("pod of {pod_uid}"),
        pod_uid: pod_uid.to_owned(),
        head: text.into(),
        head_is_closed: false,
        tail: Vec::new(),
        bytes: text.len() as u64,
        stamp: Some("2026-01-02T03:04:05.000000001Z".to_owned()),
        stamp_bytes: 3,
        stamp_check: u64::MAX - 7,
    }
}

#[test]
fn more_of_the_same_log_goes_over_less_until_the_end_is_stored() {
    let store = memory();
    let dispatched = insert(&store, &queued(0), PLENTY);
    let id = dispatched.id;
    let save = |log: &FollowedLog| {
        ready(store.save_followed(&[(id, log.clone())])).expect("it writes");
    };
    let stored = || ready(store.followed(id)).expect("it reads");
    assert_eq!(stored(), None);
    let nothing = FollowedLog {
        stamp: None,
        ..read("a", "")
    };
    save(&nothing);
    assert_eq!(stored(), Some(nothing));
    let more = FollowedLog {
        tail: b"tail".to_vec(),
        head_is_closed: true,
        bytes: 1_000,
        ..read("a", "one\n")
    };
    save(&more);
    assert_eq!(stored(), Some(more.clone()));
    save(&read("a", "on"));
    assert_eq!(stored(), Some(more), "somebody knew more before");
    save(&read("b", "a"));
    assert_eq!(
        stored(),
        Some(read("b", "a")),
        "another pod's is another log"
    );
    assert_eq!(ready(store.followed_ids(9)).expect("it reads"), [id]);
    assert_eq!(ready(store.followed_ids(0)).expect("it reads"), []);
    let known = step(
        &store,
        &dispatched,
        Observation::JobExists { uid: "u".into() },
        1,
    );
    finish(&store, &known, 0, 2);
    assert_eq!(stored(), None);
    save(&read("b", "too late"));
    assert_eq!(stored(), None);
}
