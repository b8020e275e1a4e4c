//! The whole host is killed, as by a power cut, and starts again with its state.

use std::sync::atomic::Ordering;
use std::time::Duration;

use e2e::{Options, Seed, Stack, poll, wait_for};
use serde_json::json;

use crate::{Batch, CALLERS, all_end, alone, each_ran_once, no_job_is_left};

/// A hundred submissions take a second; starting a host again on two busy cores takes longer.
const ALL_ACCEPTED_WITHIN: Duration = Duration::from_secs(120);

#[test]
fn the_host_is_killed_in_the_middle_of_a_hundred_submissions() {
    const SUBMISSIONS: usize = 100;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("kill");
    let mut seed = Seed::new("kill");
    let kill_after = 20 + usize::try_from(seed.below(50)).expect("small");
    let batch = Batch::new("kill", SUBMISSIONS, &mut seed);
    let client = stack.client();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| batch.submit(&client, &ledger));
        }
        let limit = ALL_ACCEPTED_WITHIN;
        if poll(limit, || (batch.accepted() >= kill_after).then_some(())).is_some() {
            stack.kill_host(0);
            println!("killed with {} accepted", batch.accepted());
            stack.restart_host(0);
            println!("serves again");
        }
        let all = poll(limit, || (batch.accepted() == SUBMISSIONS).then_some(()));
        batch.given_up.store(all.is_none(), Ordering::Relaxed);
    });
    let unanswered = batch.unanswered.load(Ordering::Relaxed);
    assert!(
        unanswered > 0,
        "the kill did not fire while callers were at work"
    );
    println!("{unanswered} requests went unanswered");
    all_end(&stack.client(), &batch.ids());
    each_ran_once(&ledger, batch.nonces());
    no_job_is_left(&stack);
}

#[test]
fn the_host_is_killed_while_scripts_run() {
    const SCRIPTS: u64 = 6;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("running");
    let client = stack.client();
    let accepted: Vec<(String, u64)> = (0..SCRIPTS)
        .map(|n| {
            let prelude = ledger.prelude(&format!("running-{n}"));
            let script =
                format!("{prelude}note start; echo one; sleep 8; echo two; note end; exit {n}");
            let resources = json!({ "cpu": "10m", "memory": "16Mi" });
            (
                client.submit(&json!({ "script": script, "resources": resources })),
                n,
            )
        })
        .collect();
    wait_for("all scripts to start", Duration::from_secs(60), || {
        (ledger.count("start").len() == accepted.len()).then_some(())
    });
    let ended = ledger.count("end").len();
    stack.kill_host(0);
    assert!(ended < accepted.len(), "all had ended before the kill");
    stack.restart_host(0);
    let client = stack.client();
    all_end(&client, &accepted);
    for (id, _) in &accepted {
        assert_eq!(
            client.log(id),
            b"one\ntwo\n",
            "the log of what ran over the kill"
        );
    }
    each_ran_once(&ledger, (0..SCRIPTS).map(|n| format!("running-{n}")));
    no_job_is_left(&stack);
}
