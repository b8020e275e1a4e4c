//! The host is killed at the worst moments: a receiver hears at least once, always of the same message.

use std::time::Duration;

use e2e::Stack;
use serde_json::json;

use crate::receiver::{Receipt::Hang, Receiver};
use crate::{deliveries, options, run, settled, submission};

/// The claim of an instance that died lasts 30 s; a host starts within seconds, the tick comes every ten.
const HEARS_AGAIN_WITHIN: Duration = Duration::from_secs(90);

/// Until a script that is submitted now has started: the first tick may take ten seconds.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_kill_between_sending_and_storing_makes_the_receiver_hear_twice() {
    const PATH: &str = "/killed-between";
    let receiver = Receiver::start();
    let mut stack = Stack::start(options(&receiver));
    let id = run(&stack.client(), "exit 4", &receiver.plan(PATH, [Hang]));
    receiver.wait_for(PATH, 1, STARTS_WITHIN);
    // The receiver has all of it, and nobody has stored that.
    stack.kill_host(0);
    stack.restart_host(0);
    let received = receiver.wait_for(PATH, 2, HEARS_AGAIN_WITHIN);
    let client = stack.client();
    let delivery = settled(&client, &id, 1);
    assert_eq!(delivery["state"], "DELIVERED", "{delivery:#}");
    let attempts = delivery["attempts"].as_array().expect("a list");
    let numbers: Vec<_> = attempts.iter().map(|a| &a["number"]).collect();
    assert_eq!(
        numbers,
        [&json!(2)],
        "nobody saw the end of the first: {delivery:#}"
    );
    assert_eq!(receiver.received(PATH).len(), 2);
    for message in &received {
        message.verify();
        assert_eq!(message.header("webhook-id"), id, "so a receiver can tell");
        assert_eq!(message.json(), received[0].json());
    }
}

#[test]
fn an_end_that_comes_while_the_host_is_dead_is_told_when_it_lives_again() {
    const PATH: &str = "/killed-before";
    let receiver = Receiver::start();
    let mut stack = Stack::start(options(&receiver));
    let ledger = stack.ledger("killed-before");
    let prelude = ledger.prelude("only");
    let script = format!("{prelude}note start; sleep 2; note end; exit 5");
    let url = receiver.plan(PATH, []);
    let id = stack.client().submit(&submission(&script, &url));
    let noted = |word: &'static str| {
        let ledger = &ledger;
        move || (!ledger.count(word).is_empty()).then_some(())
    };
    e2e::wait_for("the script to start", STARTS_WITHIN, noted("start"));
    stack.kill_host(0);
    e2e::wait_for("the script to end", STARTS_WITHIN, noted("end"));
    assert!(receiver.received(PATH).is_empty(), "nobody lived to tell");
    stack.restart_host(0);
    let received = receiver.wait_for(PATH, 1, HEARS_AGAIN_WITHIN);
    received[0].verify();
    assert_eq!(received[0].json()["exitCode"], 5);
    let client = stack.client();
    assert_eq!(settled(&client, &id, 1)["state"], "DELIVERED");
    assert_eq!(deliveries(&client, &id).len(), 1);
    assert_eq!(receiver.received(PATH).len(), 1, "once is enough");
}
