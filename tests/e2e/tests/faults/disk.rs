//! The disk under the database is full, and has room again.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::{Options, Seed, Stack, wait_for};
use serde_json::json;

use crate::{
    Batch, CALLERS, Watched, all_end, alone, each_ran_once, is_honest_refusal, no_job_is_left,
};

/// The disk: more than the database and its log need at first.
const DISK_MEBIBYTES: u32 = 24;

/// How long it stays full once that is noticed.
const FULL: Duration = Duration::from_secs(12);

/// What the database has reserved may be used up before it notices.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// The next tick (10 s), and room on two busy cores.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn the_disk_under_the_database_is_full_for_a_while() {
    const SUBMISSIONS: usize = 60;
    let _alone = alone();
    let stack = Stack::start(Options {
        state_mebibytes: Some(DISK_MEBIBYTES),
        ..Options::default()
    });
    let client = stack.client();
    let ledger = stack.ledger("full");
    let prelude = ledger.prelude("over");
    let script = format!("{prelude}note start; echo one; sleep 6; echo two; note end; exit 4");
    let small = json!({ "cpu": "10m", "memory": "16Mi" });
    let over = client.submit(&json!({ "script": script, "resources": small }));
    wait_for("a script that runs", Duration::from_secs(60), || {
        (ledger.count("start").len() == 1).then_some(())
    });

    let batch = Batch::new("full", SUBMISSIONS, &mut Seed::new("full")).that_may_be_refused();
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        stack.fill_state();
        for _ in 0..CALLERS {
            scope.spawn(|| batch.submit(&client, &ledger));
        }
        wait_for("refusals", NOTICED_WITHIN, || {
            (batch.refused.load(Ordering::Relaxed) >= CALLERS).then_some(())
        });
        let since = Instant::now();
        println!("{} were accepted before", batch.accepted());
        let unready = wait_for("/readyz to name the store", NOTICED_WITHIN, || {
            let answer = client.get("/readyz");
            (answer.status == 503 && answer.json()["checks"]["store"]["ok"] == false)
                .then_some(answer)
        });
        println!("/readyz: {}", unready.text());
        let detail = unready.json()["checks"]["store"]["detail"].to_string();
        // The second is SQLite's word where not even the index beside its log finds room.
        assert!(
            detail.contains("disk is full") || detail.contains("disk I/O error"),
            "{detail}"
        );
        let read = client.get(&format!("/executions/{over}"));
        assert!(
            read.status == 200 || is_honest_refusal(&read),
            "{} {}",
            read.status,
            read.text()
        );
        assert_eq!(client.get("/healthz").status, 200);
        // It has a length; nothing is waited for here.
        std::thread::sleep(FULL.saturating_sub(since.elapsed()));
        assert!(batch.accepted() < SUBMISSIONS, "it had room for all");
        stack.free_state();
    });
    let freed = Instant::now();
    let refused = batch.refused.load(Ordering::Relaxed);
    println!("{refused} requests were refused, with the time to try again");
    wait_for("/readyz to be 200 again", RECOVERS_WITHIN, || {
        (client.get("/readyz").status == 200).then_some(())
    });
    println!("ready {:?} after there was room", freed.elapsed());
    all_end(&client, &batch.ids());
    all_end(&client, &[(over.clone(), 4)]);
    assert_eq!(client.log(&over), b"one\ntwo\n", "the log of what ran over");
    each_ran_once(&ledger, batch.nonces().chain(["over".to_owned()]));
    no_job_is_left(&stack);
}
