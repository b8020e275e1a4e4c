//! What each answer of a receiver comes to, as docs/API.md says.

use std::time::Duration;

use serde_json::json;

use crate::receiver::Receipt::{Hang, Status, With};
use crate::{ATTEMPTS, ENDS_WITHIN, deliveries, error, run, settled, shared, statuses, submission};

/// The pauses of this suite; nothing is sent sooner.
const PAUSE: Duration = Duration::from_millis(300);

/// What a receiver that is out of breath asks for, in seconds.
const ASKED_SECONDS: u64 = 3;

#[test]
fn a_receiver_that_fails_five_times_is_told_until_it_takes_it() {
    const PATH: &str = "/fails-five-times?key=1";
    let (receiver, stack) = shared();
    let client = stack.client();
    let out_of_breath = With(429, "retry-after", ASKED_SECONDS.to_string());
    let answers = [
        Status(500),
        out_of_breath,
        Status(400),
        Status(503),
        Status(404),
    ];
    let url = receiver.plan(PATH, answers);
    let id = run(&client, "echo told; exit 3", &url);
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "DELIVERED", "{delivery:#}");
    assert_eq!(delivery["nextAttemptAt"], json!(null), "{delivery:#}");
    let expected = [500, 429, 400, 503, 404, 204].map(Some);
    assert_eq!(statuses(&delivery), expected, "{delivery:#}");

    let received = receiver.received(PATH);
    assert_eq!(received.len(), expected.len());
    let execution = client.execution(&id);
    for message in &received {
        message.verify();
        message.bears_no_token();
        assert_eq!(
            message.header("webhook-id"),
            id,
            "the same over all attempts"
        );
        assert_eq!(message.header("content-type"), "application/json");
        assert_eq!(message.json(), execution, "the body is that of GET");
    }
    let pauses: Vec<Duration> = received
        .windows(2)
        .map(|two| two[1].at - two[0].at)
        .collect();
    println!("pauses between attempts: {pauses:?}");
    assert!(pauses.iter().all(|pause| *pause >= PAUSE), "{pauses:?}");
    let asked = Duration::from_secs(ASKED_SECONDS);
    assert!(pauses[1] >= asked, "Retry-After is not kept: {pauses:?}");
    assert!(
        pauses[0] < asked,
        "without it, nobody waits so long: {pauses:?}"
    );
}

#[test]
fn a_receiver_that_wants_no_more_is_told_no_more() {
    const PATH: &str = "/gone";
    let (receiver, stack) = shared();
    let client = stack.client();
    let id = run(&client, "true", &receiver.plan(PATH, [Status(410)]));
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "FAILED", "{delivery:#}");
    assert_eq!(delivery["nextAttemptAt"], json!(null), "{delivery:#}");
    assert_eq!(statuses(&delivery), [Some(410)], "{delivery:#}");
    assert_eq!(receiver.received(PATH).len(), 1);
}

#[test]
fn a_receiver_that_always_fails_is_given_up_after_the_last_pause() {
    const PATH: &str = "/always-fails";
    let (receiver, stack) = shared();
    let client = stack.client();
    let url = receiver.plan(PATH, vec![Status(500); 2 * ATTEMPTS]);
    let id = run(&client, "true", &url);
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "FAILED", "{delivery:#}");
    assert_eq!(statuses(&delivery), [Some(500); ATTEMPTS], "{delivery:#}");
    assert_eq!(receiver.received(PATH).len(), ATTEMPTS);
}

#[test]
fn a_receiver_that_hangs_is_tried_again_after_ten_seconds() {
    const PATH: &str = "/hangs";
    let (receiver, stack) = shared();
    let client = stack.client();
    let id = run(&client, "true", &receiver.plan(PATH, [Hang]));
    // While it hangs, it shows as pending, and others are told.
    receiver.wait_for(PATH, 1, ENDS_WITHIN);
    assert_eq!(deliveries(&client, &id)[0]["state"], "PENDING");
    let other = run(&client, "true", &receiver.plan("/beside", []));
    assert_eq!(settled(&client, &other, 1)["state"], "DELIVERED");
    assert_eq!(
        receiver.received(PATH).len(),
        1,
        "the other was told meanwhile"
    );

    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "DELIVERED", "{delivery:#}");
    assert_eq!(statuses(&delivery), [None, Some(204)], "{delivery:#}");
    assert!(error(&delivery, 0).contains("within 10 s"), "{delivery:#}");
    let took = delivery["attempts"][0]["durationSeconds"].as_f64();
    assert!(
        took.is_some_and(|t| (9.5..15.0).contains(&t)),
        "{delivery:#}"
    );
    assert_eq!(receiver.received(PATH).len(), 2);
}

#[test]
fn a_delivery_is_repeated_on_request() {
    const PATH: &str = "/again";
    let (receiver, stack) = shared();
    let client = stack.client();
    let id = run(&client, "true", &receiver.plan(PATH, []));
    assert_eq!(settled(&client, &id, 1)["state"], "DELIVERED");
    let redeliver = |number: &str| {
        let path = format!("/executions/{id}/deliveries/{number}/redeliver");
        let answer = client.send("POST", &path, &[], Some(b""));
        answer.unwrap_or_else(|e| panic!("{e}"))
    };
    let answer = redeliver("1").expect(202);
    assert_eq!(answer.json(), json!({ "number": 2, "state": "PENDING" }));
    for nothing in ["0", "9", "x"] {
        redeliver(nothing).expect(404);
    }
    assert_eq!(settled(&client, &id, 2)["state"], "DELIVERED");
    assert_eq!(deliveries(&client, &id).len(), 2);
    let received = receiver.received(PATH);
    assert_eq!(received.len(), 2);
    for message in &received {
        message.verify();
        assert_eq!(message.header("webhook-id"), id);
        assert_eq!(message.json(), received[0].json(), "the same message");
    }
}

#[test]
fn nothing_is_told_before_the_end() {
    const PATH: &str = "/before-the-end";
    let (receiver, stack) = shared();
    let client = stack.client();
    let url = receiver.plan(PATH, []);
    let id = client.submit(&submission("sleep 300", &url));
    assert!(deliveries(&client, &id).is_empty());
    client
        .post_with(&format!("/executions/{id}/cancel"), &[], &json!({}))
        .expect(202);
    assert_eq!(client.finished(&id, ENDS_WITHIN)["outcome"], "CANCELED");
    assert_eq!(settled(&client, &id, 1)["state"], "DELIVERED");
    let received = receiver.received(PATH);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].json()["outcome"], "CANCELED");
}
