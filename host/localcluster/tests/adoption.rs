//! What a server that comes after another one hears of the containers it takes over.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use jiff::Timestamp;
use localcluster::runner::process::{ProcessRunner, Wake};
use localcluster::runner::{Exit, News, Runner, RunnerEvent};
use localcluster::shim::{Isolation, report_name};

/// A file is noticed at once; this is for a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

const UID: &str = "0197c9a5-0000-7000-8000-000000000001";
const CONTAINER: &str = "script";

/// Waits until the runner has news, and takes them.
fn news(runner: &mut ProcessRunner, woken: &Receiver<Wake>) -> Vec<RunnerEvent> {
    loop {
        woken.recv_timeout(NOTICED_WITHIN).expect("news in time");
        let news = runner.poll(Timestamp::now());
        if !news.is_empty() {
            return news;
        }
    }
}

#[test]
fn an_end_that_came_before_the_pod_was_taken_over_is_told_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (wake, woken) = channel();
    let mut runner = ProcessRunner::new(
        folder.path(),
        env!("CARGO_BIN_EXE_localcluster").as_ref(),
        Isolation::Rewrite,
        Arc::new(move |what| wake.send(what).unwrap_or_default()),
    )
    .expect("a runner");
    let exit = Exit {
        code: 1,
        reason: "Error".to_owned(),
        message: String::new(),
        started_at: None,
        finished_at: Timestamp::UNIX_EPOCH,
        deadline_exceeded: false,
    };
    // As the supervisor reports it that the server before has started.
    let report = folder
        .path()
        .join("status")
        .join(report_name(UID, CONTAINER, "ended"));
    let unfinished = report.with_extension("tmp");
    fs::write(&unfinished, serde_json::to_vec(&exit).expect("JSON")).expect("a file");
    fs::rename(&unfinished, &report).expect("a report");
    let expected = [RunnerEvent {
        uid: UID.to_owned(),
        container: CONTAINER.to_owned(),
        news: News::Ended(exit),
    }];
    // The server takes this before it has come to the pod, and can make nothing of it.
    assert_eq!(news(&mut runner, &woken), expected);
    assert!(runner.adopt(UID, &[CONTAINER.to_owned()]));
    assert_eq!(news(&mut runner, &woken), expected);
}
