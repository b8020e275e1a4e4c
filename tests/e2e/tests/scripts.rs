//! Every script of the corpus runs through Executor and ends as expected.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::corpus::{self, Case};
use e2e::{Client, Stack, not_applicable};

/// How many scripts are under way at once: more than cores, so that they overlap.
const AT_ONCE: usize = 8;

/// The longest that one script may take, waiting for its turn and for a start clock included.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

#[test]
fn every_script_ends_as_expected() {
    let stack = Stack::shared();
    let mut cases = corpus::all();
    if !stack.is_real() {
        cases.retain(|case| match &case.only_real {
            Some(why) => {
                not_applicable(&format!("{} on the embedded cluster", case.name), why);
                false
            }
            None => true,
        });
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let client = stack.client();
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let wrong = run(&client, case);
                    println!("{:7.2} s  {}", started.elapsed().as_secs_f64(), case.name);
                    if !wrong.is_empty() {
                        failures
                            .lock()
                            .expect("no thread panics")
                            .push((case, wrong));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no thread panics");
    failures.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    for (case, wrong) in &failures {
        println!("{} ({})", case.name, case.about);
        for line in wrong {
            println!("    {line}");
        }
    }
    let names: Vec<&str> = failures
        .iter()
        .map(|(case, _)| case.name.as_str())
        .collect();
    assert!(
        names.is_empty(),
        "{} of {} scripts did not end as expected: {names:?}",
        names.len(),
        cases.len()
    );
    println!("{} scripts ended as expected", cases.len());
    let left = stack.kube().jobs_left_after(Duration::from_secs(60));
    assert!(left.is_empty(), "Jobs left behind: {left:?}");
}

fn run(client: &Client, case: &Case) -> Vec<String> {
    let answer = match client.try_post("/executions", &[], &case.request) {
        Ok(answer) if answer.status == 201 => answer,
        Ok(answer) => return vec![format!("refused: {} {}", answer.status, answer.text())],
        Err(e) => return vec![e.to_string()],
    };
    let id = answer.id();
    let execution = match client.try_finished(&id, ENDS_WITHIN) {
        Ok(execution) => execution,
        Err(e) => return vec![e],
    };
    let log = match client.send("GET", &format!("/executions/{id}/logs"), &[], None) {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return vec![format!("no log: {} {}", answer.status, answer.text())],
        Err(e) => return vec![format!("no log: {e}")],
    };
    let mut wrong = case.expect.check(&execution, &log.body);
    let headers = ["x-log-complete", "x-log-lost-bytes"].map(|name| log.header(name));
    let summary = ["complete", "lostBytes"].map(|field| execution["log"][field].to_string());
    if headers != [Some(&*summary[0]), Some(&*summary[1])] {
        wrong.push(format!(
            "X-Log-Complete and X-Log-Lost-Bytes are {headers:?}, expected {summary:?}"
        ));
    }
    wrong
}
