//! Five hundred submissions from sixteen callers at once, while the tick runs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Seed, Stack};
use serde_json::json;

const SUBMISSIONS: usize = 500;
const CALLERS: usize = 16;

/// All of them, on two cores: a real kubelet starts and ends about two pods a second.
const ALL_END_WITHIN: Duration = Duration::from_secs(600);

/// Deleting the last Jobs is one more round of the tick.
const JOBS_GO_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn five_hundred_submissions_all_end_well_and_run_once() {
    let stack = Stack::shared();
    let ledger = stack.ledger("load");
    let seed = Mutex::new(Seed::new("load"));
    let next = AtomicUsize::new(0);
    let accepted = Mutex::new(Vec::new());
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let client = stack.client();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= SUBMISSIONS {
                        return;
                    }
                    // Some succeed and some fail, so that mixing them up would show.
                    let code = seed.lock().expect("no caller panics").below(3);
                    let nonce = format!("load-{number}");
                    let prelude = ledger.prelude(&nonce);
                    let body = json!({
                        "script": format!("{prelude}note start; echo {nonce}; note end; exit {code}"),
                        "resources": { "cpu": "10m", "memory": "16Mi" },
                        "labels": { "load": "yes" },
                    });
                    let id = client.submit(&body);
                    accepted.lock().expect("no caller panics").push((id, nonce, code));
                }
            });
        }
    });
    let accepted = accepted.into_inner().expect("no caller panics");
    assert_eq!(accepted.len(), SUBMISSIONS);
    println!("all accepted after {:?}", started.elapsed());

    let client = stack.client();
    let end = Instant::now() + ALL_END_WITHIN;
    let mut wrong = Vec::new();
    for (id, nonce, code) in &accepted {
        let left = end.saturating_duration_since(Instant::now());
        let execution = client.finished(id, left);
        let outcome = if *code == 0 { "SUCCEEDED" } else { "FAILED" };
        if execution["outcome"] != outcome || execution["exitCode"] != *code {
            wrong.push(format!("{nonce} should end with {code}: {execution}"));
        }
        let log = client.log(id);
        if log != format!("{nonce}\n").as_bytes() {
            wrong.push(format!("{nonce}: log {:?}", String::from_utf8_lossy(&log)));
        }
    }
    println!("all finished after {:?}", started.elapsed());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    for word in ["start", "end"] {
        let counts = ledger.count(word);
        let lost: Vec<_> = accepted
            .iter()
            .filter(|(_, n, _)| !counts.contains_key(n))
            .collect();
        let twice: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        assert!(lost.is_empty(), "no {word} of {lost:?}");
        assert!(twice.is_empty(), "more than one {word}: {twice:?}");
    }
    let left = stack.kube().jobs_left_after(JOBS_GO_WITHIN);
    assert!(left.is_empty(), "Jobs left behind: {left:?}");
}
