//! The API server is away for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use e2e::{Options, Stack, wait_for};
use serde_json::json;

use crate::{ALL_END_WITHIN, all_end, alone, each_ran_once, no_job_is_left, note_script};

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(20);

#[test]
fn the_api_server_is_away_for_twenty_seconds() {
    const SUBMISSIONS: u64 = 20;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("outage");
    let client = stack.client();
    // A real cluster's controllers may still be coming back from the outage of the test before.
    let before = client.submit(&note_script(&ledger, "before", 0));
    assert_eq!(
        client.finished(&before, ALL_END_WITHIN)["outcome"],
        "SUCCEEDED"
    );
    wait_for("/readyz to be 200", Duration::from_secs(30), || {
        (client.get("/readyz").status == 200).then_some(())
    });

    stack.stop_api_server();
    let away_since = Instant::now();
    let accepted: Vec<(String, u64)> = (0..SUBMISSIONS)
        .map(|n| {
            let answer = client.post_with(
                "/executions",
                &[],
                &note_script(&ledger, &format!("outage-{n}"), n),
            );
            let answer = answer.expect(201);
            assert_eq!(answer.json()["status"], "QUEUED", "{}", answer.text());
            (answer.id(), n)
        })
        .collect();
    println!(
        "accepted during the outage after {:?}",
        away_since.elapsed()
    );
    let unready = wait_for("/readyz to be 503", OUTAGE, || {
        Some(client.get("/readyz")).filter(|answer| answer.status == 503)
    });
    println!("/readyz during the outage: {}", unready.text());
    let check = unready.json()["checks"]["kubernetes"].clone();
    let said = check["detail"]
        .as_str()
        .is_some_and(|detail| !detail.is_empty());
    assert!(
        check["ok"] == false && said,
        "/readyz must say what is wrong: {}",
        unready.text()
    );
    assert_eq!(
        client.get("/healthz").status,
        200,
        "the process itself is well"
    );
    for (id, _) in &accepted {
        assert_eq!(client.execution(id)["status"], "QUEUED");
    }
    // The outage itself has a length; nothing is waited for here.
    std::thread::sleep(OUTAGE.saturating_sub(away_since.elapsed()));
    assert!(
        !stack.kube().answers(),
        "the API server came back by itself"
    );
    assert!(
        ledger.count("start").len() == 1,
        "something ran during the outage"
    );

    stack.start_api_server();
    all_end(&client, &accepted);
    wait_for("/readyz to be 200 again", Duration::from_secs(30), || {
        (client.get("/readyz").status == 200).then_some(())
    });
    let nonces = (0..SUBMISSIONS).map(|n| format!("outage-{n}"));
    each_ran_once(&ledger, nonces.chain(["before".to_owned()]));
    no_job_is_left(&stack);
}

#[test]
fn scripts_that_run_while_the_api_server_is_away_are_seen_to_their_end() {
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("away");
    let client = stack.client();
    let prelude = ledger.prelude("away");
    let script = format!("{prelude}note start; sleep 15; note end; exit 5");
    let id = client
        .submit(&json!({ "script": script, "resources": { "cpu": "10m", "memory": "16Mi" } }));
    wait_for(
        "the script to be seen running",
        Duration::from_secs(60),
        || (client.execution(&id)["status"] == "RUNNING").then_some(()),
    );
    stack.stop_api_server();
    let status = client.execution(&id)["status"].clone();
    assert_eq!(
        status, "RUNNING",
        "it ended before the API server went away"
    );
    stack.start_api_server();
    let execution = client.finished(&id, ALL_END_WITHIN);
    let starts = ledger.count("start");
    assert_eq!(
        starts,
        BTreeMap::from([("away".to_owned(), 1)]),
        "it started once"
    );
    if stack.is_real() || ledger.count("end").len() == 1 {
        assert_eq!(execution["exitCode"], 5, "it ran to its end: {execution}");
        assert_eq!(execution["outcome"], "FAILED", "{execution}");
    } else {
        // The embedded cluster is the node as well, and its pods may end with it: then nobody
        // may claim that the script did well.
        println!("the pod went with the embedded cluster: {execution}");
        assert_ne!(execution["outcome"], "SUCCEEDED", "{execution}");
    }
}
