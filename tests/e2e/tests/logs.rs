//! Long logs: followed through reconnects, rotated by the node, and with last words. Every line is there, or said not to be.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use e2e::{Options, Stack, raw};
use serde_json::{Value, json};

/// A script of a minute, its start and the deletion of its pod, on two busy cores with a real kubelet.
const ENDS_WITHIN: Duration = Duration::from_secs(240);

/// What is kept of a log's beginning and of its end, in bytes, as the API promises.
const KEPT_BYTES: usize = 1 << 20;

/// The embedded cluster rotates logs at so many bytes: several times in each long log here.
const LOG_FILE_BYTES: u64 = 2 << 20;

/// How often a follower is cut off.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);

/// For how many seconds the long scripts write, if `EXECUTOR_E2E_LOG_SECONDS` does not say: enough to be cut off and rotated
/// several times. The whole measure is 60.
const SECONDS: u64 = 6;

/// The bytes of one numbered line of [`output`].
const LINE_BYTES: usize = 60;

/// So many of them are written in a second by the long slow log: a megabyte, so that 60 seconds make 60 MB.
const LINES_A_SECOND: u64 = 1_000_000 / LINE_BYTES as u64;

fn seconds() -> u64 {
    let text = std::env::var("EXECUTOR_E2E_LOG_SECONDS");
    text.map_or(SECONDS, |text| text.parse().expect("whole seconds"))
}

fn stack() -> &'static Stack {
    static STACK: OnceLock<Stack> = OnceLock::new();
    STACK.get_or_init(|| {
        Stack::start(Options {
            log_file_bytes: Some(LOG_FILE_BYTES),
            ..Options::default()
        })
    })
}

/// Id and data of each whole event, and whether the last one was the end.
fn events(text: &str) -> (Vec<(String, String)>, bool) {
    let whole = text.rfind("\n\n").map_or("", |at| &text[..at]);
    let mut lines = Vec::new();
    let mut ended = false;
    for event in whole.split("\n\n") {
        let field = |name: &str| {
            let mut fields = event.split('\n').filter_map(|line| line.strip_prefix(name));
            fields.next().map(str::to_owned)
        };
        match (field("event: ").as_deref(), field("id: ")) {
            (Some("end"), _) => ended = true,
            (None, Some(id)) => lines.push((id, field("data: ").unwrap_or_default())),
            (Some(other), _) => panic!("{other}: {event}"),
            (None, None) => {}
        }
    }
    (lines, ended)
}

#[test]
fn a_follower_that_is_cut_off_each_second_misses_and_repeats_no_line() {
    let client = stack().client();
    let seconds = seconds();
    // A thousand lines a second, in ten pieces.
    let script = format!(
        "n=1; while [ $n -le {} ]; do seq $n $((n+99)); n=$((n+100)); sleep 0.1; done",
        seconds * 1000
    );
    let id = client.submit(&json!({ "script": script }));
    let path = format!("/executions/{id}/logs");
    let mut last: Option<String> = None;
    let mut numbers: Vec<u64> = Vec::new();
    let mut reconnects = 0;
    let limit = Instant::now() + ENDS_WITHIN;
    loop {
        assert!(Instant::now() < limit, "it does not end: {}", numbers.len());
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(last) = &last {
            headers.push(("last-event-id", last));
        }
        let request = raw::request("GET", &path, &headers, b"");
        let answer = raw::exchange_for(client.authority(), &request, RECONNECT_EVERY);
        reconnects += 1;
        let Some(answer) = answer else { continue };
        let (lines, ended) = events(&answer.text());
        for (id, data) in lines {
            last = Some(id);
            numbers.push(
                data.parse()
                    .unwrap_or_else(|_| panic!("no number: {data:?}")),
            );
        }
        if ended {
            break;
        }
    }
    println!("{} lines, {reconnects} connections", numbers.len());
    assert!(
        reconnects as u64 > seconds / 2,
        "it was hardly ever cut off"
    );
    assert!(
        numbers.iter().copied().eq(1..=seconds * 1000),
        "a line is missing or came twice"
    );
}

/// The numbered lines from that one on, as [`awk`] writes them.
fn output(first: u64, count: u64) -> Vec<u8> {
    let line = |n: u64| format!("line {n:09} {:044}\n", 0).into_bytes();
    let all: Vec<u8> = (first..first + count).flat_map(line).collect();
    assert_eq!(all.len(), LINE_BYTES * count as usize);
    all
}

/// A command that writes the lines from `$n` on, so many.
fn awk(count: u64) -> String {
    format!(
        "awk -v n=$n 'BEGIN {{ for (i = n; i < n + {count}; i++) printf \"line %09d %044d\\n\", i, 0 }}'"
    )
}

/// Runs the script, and looks that of its log head and tail are kept with the marker between them.
fn check_long(script: &str, total: u64) {
    let stack = stack();
    let client = stack.client();
    let expected = output(0, total);
    let body = json!({ "script": script, "timeouts": { "runSeconds": 200 } });
    let id = client.submit(&body);
    let end = client.finished(&id, ENDS_WITHIN);
    assert_eq!(end["outcome"], "SUCCEEDED", "{end}");
    let log = client.log(&id);
    let opening = "[… ".as_bytes();
    let at = log
        .windows(opening.len())
        .position(|window| window == opening);
    let at = at.expect("a marker between head and tail");
    let after = log[at..].iter().position(|byte| *byte == b'\n');
    let tail = &log[at + after.expect("the marker is a line") + 1..];
    // A head that ends within a line gets a line feed of its own before the marker.
    let head = &log[..at.min(KEPT_BYTES)];
    let head = if expected.starts_with(head) {
        head
    } else {
        &head[..head.len() - 1]
    };
    assert!(expected.starts_with(head), "the head is not the beginning");
    assert!(expected.ends_with(tail), "the tail is not the end");
    let missing = (expected.len() - head.len() - tail.len()) as u64;
    let lost = end["log"]["lostBytes"].as_u64().expect("a number");
    assert_eq!(end["log"]["complete"], false);
    println!("{} bytes, {missing} missing, {lost} told", expected.len());
    assert!(lost > 0 && lost <= missing, "{end}");
    if stack.is_real() {
        return;
    }
    assert_eq!((head.len(), tail.len()), (KEPT_BYTES, KEPT_BYTES), "{end}");
    // A minute has several ticks: a file that is rotated away between two of them counts as one byte.
    if seconds() <= SECONDS {
        assert_eq!(
            lost, missing,
            "whoever follows from the start counts exactly: {end}"
        );
    }
}

#[test]
fn of_a_long_slow_log_head_and_tail_are_kept() {
    let count = LINES_A_SECOND;
    let total = count * seconds();
    let script = format!(
        "n=0; while [ $n -lt {total} ]; do {}; n=$((n+{count})); sleep 0.5; done",
        awk(count)
    );
    check_long(&script, total);
}

#[test]
fn of_a_long_burst_head_and_tail_are_kept() {
    let total = LINES_A_SECOND * seconds();
    // So that it is seen running, and followed, before it begins.
    check_long(&format!("sleep 2; n=0; {}", awk(total)), total);
}

#[test]
fn last_words_are_kept_when_the_time_is_over() {
    let stack = stack();
    let client = stack.client();
    let id = client.submit(&json!({
        "script": "trap 'echo bye; exit 0' TERM; echo one; sleep 1000 & wait",
        "timeouts": { "runSeconds": 3, "graceSeconds": 5 },
    }));
    let end: Value = client.finished(&id, ENDS_WITHIN);
    assert_eq!(stack.kube().pods_of(&id), Vec::<String>::new(), "{end}");
    assert_eq!(
        (&end["outcome"], &end["reason"]),
        (&json!("FAILED"), &json!("RunTimeout")),
        "{end}"
    );
    let log = String::from_utf8_lossy(&client.log(&id)).into_owned();
    assert!(
        log == "one\nbye\n" || (log == "one\n" && end["log"]["complete"] == false),
        "{log:?} of {end}"
    );
}
