//! The network to the API server is cut: its packets vanish, and nobody is told. What was sent into the cut is delivered by
//! TCP when it is over, up to ten seconds later, when short scripts that were asked for again have long ended.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::{Options, Seed, Stack, wait_for};
use serde_json::json;

use crate::{Batch, Watched, all_end, alone, each_ran_once, no_job_is_left};

/// How long the network is cut.
const CUT: Duration = Duration::from_secs(20);

/// Submissions during the cut: each caller sends one after the other, at this pace.
const PACE: Duration = Duration::from_millis(600);

/// An answer needs the store only, on two busy cores. A caller must not wait for what is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(3);

/// After the cut: TCP tries again after 26 s at the latest, having doubled its pauses during the cut, a request
/// gives up after 5 s to 10 s, and then the next tick begins (10 s).
const RECOVERS_WITHIN: Duration = Duration::from_secs(45);

#[test]
fn packets_to_the_api_server_are_dropped_for_twenty_seconds() {
    const SUBMISSIONS: usize = 80;
    let _alone = alone();
    let stack = Stack::start(Options {
        through_network: true,
        ..Options::default()
    });
    let (client, network) = (stack.client(), stack.network());
    let ledger = stack.ledger("cut");
    let prelude = ledger.prelude("over");
    let script = format!("{prelude}note start; echo one; sleep 12; echo two; note end; exit 4");
    let small = json!({ "cpu": "10m", "memory": "16Mi" });
    let over = client.submit(&json!({ "script": script, "resources": small }));
    wait_for("a script that runs", Duration::from_secs(60), || {
        (ledger.count("start").len() == 1).then_some(())
    });

    let batch = Batch::new("cut", SUBMISSIONS, &mut Seed::new("cut")).paced(PACE, ANSWERS_WITHIN);
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        for _ in 0..2 {
            scope.spawn(|| batch.submit(&client, &ledger));
        }
        wait_for("the first submissions", Duration::from_secs(30), || {
            (batch.accepted() >= 4).then_some(())
        });
        network.cut();
        let since = Instant::now();
        let before = batch.accepted();
        let started = ledger.count("start").len();
        let unready = wait_for("/readyz to be 503", CUT, || {
            Some(client.get("/readyz")).filter(|answer| answer.status == 503)
        });
        let checks = &unready.json()["checks"];
        println!("after {:?} of the cut: {checks}", since.elapsed());
        assert_eq!(checks["kubernetes"]["ok"], false, "{checks}");
        assert_eq!(checks["store"]["ok"], true, "{checks}");
        // The cut itself has a length; nothing is waited for here.
        std::thread::sleep(CUT.saturating_sub(since.elapsed()));
        assert!(!network.connects(), "the cut has mended itself");
        let during = batch.accepted() - before;
        println!("{during} were accepted during the cut");
        assert!(during > 0, "nobody was at work during the cut");
        // What was on its way when the network was cut may still have come to its start.
        let late = ledger.count("start").len() - started;
        assert!(late <= before, "{late} scripts started during the cut");
        network.mend();
    });
    assert_eq!(batch.unanswered.load(Ordering::Relaxed), 0, "no answer");
    let mended = Instant::now();
    wait_for("/readyz to be 200 again", RECOVERS_WITHIN, || {
        (client.get("/readyz").status == 200).then_some(())
    });
    println!("ready {:?} after the end of the cut", mended.elapsed());
    all_end(&client, &batch.ids());
    println!("all had ended {:?} after it", mended.elapsed());
    all_end(&client, &[(over.clone(), 4)]);
    assert_eq!(client.log(&over), b"one\ntwo\n", "the log of what ran over");
    each_ran_once(&ledger, batch.nonces().chain(["over".to_owned()]));
    no_job_is_left(&stack);
}
