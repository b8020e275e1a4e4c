//! What events say, by messages as a real API server writes them.

use super::*;

fn event(reason: &str, message: &str, second: i64) -> EventObservation {
    let at = Timestamp::from_second(1_700_000_000 + second).ok();
    EventObservation {
        kind: WARNING.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        count: 1,
        first_seen: at,
        last_seen: at,
        source: "job-controller".to_owned(),
    }
}

#[test]
fn what_refuses_the_pod_is_told_apart() {
    for (message, kind) in [
        (
            "Error creating: pods \"x-1-abcde\" is forbidden: exceeded quota: runs, requested: pods=1, used: pods=5, \
             limited: pods=5",
            WaitingKind::Quota,
        ),
        (
            "Error creating: pods \"x-1-abcde\" is forbidden: failed quota: runs: must specify limits.cpu for: script",
            WaitingKind::Quota,
        ),
        (
            "Error creating: pods \"x-1-abcde\" is forbidden: violates PodSecurity \"restricted:latest\": \
             allowPrivilegeEscalation != false",
            WaitingKind::Admission,
        ),
        (
            "Error creating: pods \"x-1-abcde\" is forbidden: maximum cpu usage per Container is 100m, but limit is 500m",
            WaitingKind::Admission,
        ),
        (
            "Error creating: admission webhook \"policy.example.com\" denied the request: images must be signed",
            WaitingKind::Admission,
        ),
        (
            "Error creating: pods \"x-1-\" is forbidden: error looking up service account runs/default: serviceaccount \
             \"default\" not found",
            WaitingKind::Config,
        ),
        (
            "Error creating: Internal error occurred: failed calling webhook \"policy.example.com\": timeout",
            WaitingKind::ApiServer,
        ),
    ] {
        let why = explanation(&[event(FAILED_CREATE, message, 0)], None).expect("a reason");
        assert_eq!(why.kind, kind, "{message}");
        assert!(why.message.ends_with(message));
    }
}

#[test]
fn the_newest_refusal_counts_and_other_events_say_nothing() {
    let events = [
        event(
            FAILED_CREATE,
            "pods \"x\" is forbidden: exceeded quota: runs",
            1,
        ),
        event(
            FAILED_CREATE,
            "pods \"x\" is forbidden: violates PodSecurity",
            3,
        ),
        event("Suspended", "Job suspended", 5),
    ];
    let why = explanation(&events, None).expect("a reason");
    assert_eq!(why.kind, WaitingKind::Admission);
    assert_eq!(explanation(&events[2..], None), None);
    let normal = EventObservation {
        kind: "Normal".to_owned(),
        ..events[0].clone()
    };
    assert_eq!(explanation(&[normal], None), None);
}

#[test]
fn only_what_is_new_or_happened_again_is_news() {
    let known = Event {
        sequence: 1,
        entry: Entry {
            count: 3,
            ..Entry::once(Timestamp::UNIX_EPOCH, FAILED_CREATE, "job-controller", "no")
        },
    };
    let entry = |kind: &str, message: &str, count| Entry {
        count,
        ..Entry::once(Timestamp::UNIX_EPOCH, kind, "job-controller", message)
    };
    for (entry, expected) in [
        (entry(FAILED_CREATE, "no", 3), false),
        (entry(FAILED_CREATE, "no", 4), true),
        (entry(FAILED_CREATE, "yes", 1), true),
        (entry("Suspended", "no", 1), true),
    ] {
        assert_eq!(
            is_news(&entry, std::slice::from_ref(&known)),
            expected,
            "{entry:?}"
        );
    }
}
