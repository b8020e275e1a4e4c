//! Callers that take their time: requests that come a byte at a time or break off anywhere, and a thousand who follow one log.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Client, Options, Shared, Stack, not_applicable, raw, wait_for};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

/// A start and an end on two busy cores.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// So many send their requests slowly at once.
const SLOW: usize = 200;

/// So many of them get to the end of their requests.
const PATIENT: usize = 20;

/// So many follow one log at once.
const FOLLOWERS: usize = 1_000;

/// Each follower has an instance to itself, and hosts have 1,000 by default, as Spin has: others need some too.
const INSTANCES: usize = FOLLOWERS + 200;

/// A test has a socket for each follower, and so has the host, twice: to the caller and to the cluster.
const OPEN_FILES: u64 = 4 * 1_024;

/// All followers have what was printed, and later their end, within this.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(240);

/// A thread for each follower does nothing but wait.
const STACK_BYTES: usize = 128 * 1024;

/// The stack of these tests: this program and its host may have as many sockets as they need.
fn stack() -> Shared {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < OPEN_FILES) {
        limit.current = Some(OPEN_FILES);
        setrlimit(Resource::Nofile, limit)
            .expect("a hard limit of open files that leaves room for the followers");
    }
    Stack::shared_with(|| Options {
        environment: vec![("SPIN_MAX_INSTANCE_COUNT".to_owned(), INSTANCES.to_string())],
        ..Options::default()
    })
}

fn script(text: &str, label: &str) -> Value {
    json!({ "script": text, "labels": { "test": label }, "timeouts": { "graceSeconds": 1 },
            "resources": { "cpu": "10m", "memory": "16Mi" } })
}

/// Those with that label.
fn labelled(client: &Client, label: &str) -> usize {
    let page = client.get(&format!("/executions?label=test={label}"));
    page.expect(200).json()["items"]
        .as_array()
        .map_or(0, Vec::len)
}

fn connect(authority: &str) -> TcpStream {
    let stream = TcpStream::connect(authority).unwrap_or_else(|e| panic!("no connection: {e}"));
    stream
        .set_read_timeout(Some(FOLLOWED_WITHIN))
        .expect("a timeout above zero is fine");
    stream
}

#[test]
fn what_breaks_off_at_any_byte_is_not_accepted() {
    let stack = stack();
    let client = stack.client();
    let body = script("echo never", "cut").to_string().into_bytes();
    let chunks = [
        format!("{:x}\r\n", body.len()).as_bytes(),
        &body,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let requests = [
        raw::post(&[], &body),
        raw::post(&[("transfer-encoding", "chunked")], &chunks),
    ];
    let next = AtomicUsize::new(0);
    let cases: Vec<&[u8]> = requests
        .iter()
        .flat_map(|request| (0..request.len()).map(|cut| &request[..cut]))
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(request) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = raw::exchange(client.authority(), request, true);
                    let status = answer.map(|answer| answer.status);
                    assert!(
                        status.is_none_or(|status| (400..600).contains(&status)),
                        "{status:?} for {:?}",
                        String::from_utf8_lossy(request)
                    );
                }
            });
        }
    });
    println!("{} requests that break off", cases.len());
    assert_eq!(labelled(&client, "cut"), 0, "nothing was accepted");
    for request in &requests {
        let answer = raw::exchange(client.authority(), request, false);
        assert_eq!(
            answer.map(|answer| answer.status),
            Some(201),
            "the whole is"
        );
    }
    assert_eq!(labelled(&client, "cut"), 2);
}

#[test]
fn requests_that_come_slowly_keep_nobody_waiting() {
    let stack = stack();
    let client = stack.client();
    let request = raw::post(&[], script("true", "slow").to_string().as_bytes());
    let head = request
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head");
    let mut slow: Vec<(TcpStream, usize)> = (0..SLOW)
        .map(|number| {
            let mut stream = connect(client.authority());
            // Every other one has sent its head, and some of its body.
            let sent = if number % 2 == 0 { head / 2 } else { head + 14 };
            stream.write_all(&request[..sent]).expect("some bytes go");
            (stream, sent)
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..3 {
        client.get("/healthz").expect(200);
        let id = client.submit(&script("echo quick", "quick"));
        assert_eq!(client.finished(&id, ENDS_WITHIN)["outcome"], "SUCCEEDED");
    }
    println!("three ran in {:?} beside {SLOW} slow ones", begun.elapsed());
    assert_eq!(
        labelled(&client, "slow"),
        0,
        "none of the slow ones is whole"
    );
    // A byte from each at a time.
    let mut patient = slow.split_off(SLOW - PATIENT);
    while patient.iter().any(|(_, sent)| *sent < request.len()) {
        for (stream, sent) in &mut patient {
            if let Some(byte) = request.get(*sent) {
                stream.write_all(&[*byte]).expect("a byte goes");
                *sent += 1;
            }
        }
    }
    for (stream, _) in &mut patient {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }
    assert_eq!(labelled(&client, "slow"), PATIENT);
    for (stream, _) in slow {
        // Whether the host has given it up already is its own matter.
        let _ = stream.shutdown(Shutdown::Both);
    }
    client.get("/healthz").expect(200);
}

fn follow(client: &Client, request: &[u8]) -> TcpStream {
    let mut stream = connect(client.authority());
    stream.write_all(request).expect("a small request is sent");
    stream
}

/// Reads up to the line that the script prints first. Otherwise it was a `503`.
fn has_line(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    let mut byte = [0];
    while let Ok(1) = stream.read(&mut byte) {
        answer.push(byte[0]);
        if answer.ends_with(b"begun\n") {
            return true;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    false
}

#[test]
fn a_thousand_follow_one_log_and_nobody_waits_for_them() {
    let stack = stack();
    if stack.is_real() {
        not_applicable(
            "a thousand followers on a real cluster",
            "each is a stream of the one kubelet's, which would be what is tried",
        );
        return;
    }
    let client = stack.client();
    let id = client.submit(&script("echo begun; sleep 1000", "followed"));
    wait_for("its first line", ENDS_WITHIN, || {
        (client.log(&id) == b"begun\n").then_some(())
    });
    let request = raw::request(
        "GET",
        &format!("/executions/{id}/logs?follow=true"),
        &[],
        b"",
    );
    let (have_begun, have_ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let are_open = Barrier::new(FOLLOWERS + 1);
    std::thread::scope(|scope| {
        for _ in 0..FOLLOWERS {
            let follow = || {
                let mut stream = follow(&client, &request);
                are_open.wait();
                // A cluster that is asked for a thousand logs at once may not answer all of them in time.
                while !has_line(&mut stream) {
                    stream = follow(&client, &request);
                }
                have_begun.fetch_add(1, Ordering::Relaxed);
                let mut rest = Vec::new();
                // The last chunk says that it is whole.
                if stream.read_to_end(&mut rest).is_ok() && rest.ends_with(b"0\r\n\r\n") {
                    have_ended.fetch_add(1, Ordering::Relaxed);
                }
            };
            std::thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, follow)
                .expect("a thread");
        }
        are_open.wait();
        let all = |count: &AtomicUsize| (count.load(Ordering::Relaxed) == FOLLOWERS).then_some(());
        let opened = Instant::now();
        wait_for("all followers to have its line", FOLLOWED_WITHIN, || {
            all(&have_begun)
        });
        println!(
            "{FOLLOWERS} followers have the line after {:?}",
            opened.elapsed()
        );
        client.get("/healthz").expect(200);
        let other = client.submit(&script("echo quick", "quick"));
        assert_eq!(client.finished(&other, ENDS_WITHIN)["outcome"], "SUCCEEDED");
        assert_eq!(have_ended.load(Ordering::Relaxed), 0, "they follow on");
        let cancel = format!("/executions/{id}/cancel");
        client.post_with(&cancel, &[], &json!({})).expect(202);
        client.finished(&id, ENDS_WITHIN);
        let ended = Instant::now();
        wait_for("all followers to have its end", FOLLOWED_WITHIN, || {
            all(&have_ended)
        });
        println!("and its end after {:?}", ended.elapsed());
    });
}
