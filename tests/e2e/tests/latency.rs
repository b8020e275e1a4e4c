//! How long after the end of a script its answer comes, with nothing else going on.

use std::time::Duration;

use e2e::{Stack, not_applicable};
use serde_json::json;

#[test]
fn a_finished_pod_shows_within_a_fraction_of_a_second() {
    // The last script's own clock against ours: on a real cluster the kubelet tells a second late.
    const ROUNDS: usize = 5;
    let stack = Stack::shared();
    if stack.is_real() {
        not_applicable(
            "time from the end of a script to its answer",
            "the kubelet of a real cluster reports an end a second late by itself",
        );
        return;
    }
    let client = stack.client();
    // The first tick comes up to ten seconds after the start.
    let first = client.submit(&json!({ "script": "true" }));
    client.finished(&first, Duration::from_secs(60));
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let file = stack.shared_file(&format!("round{round}"));
        let script = format!("sleep 0.5; : >'{}'", file.display());
        let execution = client.post_with("/executions?wait=30", &[], &json!({ "script": script }));
        let seen = std::time::SystemTime::now();
        assert_eq!(
            execution.json()["status"],
            "FINISHED",
            "{}",
            execution.text()
        );
        let ended = file.metadata().and_then(|m| m.modified());
        let late = seen.duration_since(ended.expect("a file has a time"));
        times.push(late.unwrap_or_default());
    }
    times.sort();
    println!("from the end of a script to the answer: {times:?}");
    assert!(times[ROUNDS / 2] < Duration::from_millis(700), "{times:?}");
}
