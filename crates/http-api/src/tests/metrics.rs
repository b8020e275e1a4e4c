//! `GET /metrics`, read by a parser of the format's own description.

use std::collections::{BTreeMap, BTreeSet};

use app::StoredLog;

use super::service::{Answer, Service};

/// A sample's name with its labels, and its value.
pub type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// What the text says, by the grammar of the text format 0.0.4: `# HELP name text`, `# TYPE name kind`, then
/// `name{label="value",…} value` of that name only; each line ends with a line feed.
pub struct Parsed {
    pub kinds: BTreeMap<String, String>,
    pub samples: Samples,
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.chars().all(fits) && text.starts_with(|c: char| !c.is_ascii_digit())
}

fn labels(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest
            .split_once("=\"")
            .expect("a label has a value in quotes");
        let (value, after) = after.split_once('"').expect("the quotes are closed");
        assert!(is_name(name) && !name.contains(':'), "{text}");
        assert!(!value.contains(['\\', '\n']), "an escape: {text}");
        let before = found.insert(name.to_owned(), value.to_owned());
        assert_eq!(before, None, "{name} stands twice: {text}");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    found
}

fn parse(text: &str) -> Parsed {
    assert!(text.ends_with('\n'), "the last line has an end");
    let (mut helped, mut kinds, mut samples) = (BTreeSet::new(), BTreeMap::new(), Samples::new());
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help has a text");
            assert!(is_name(name) && help.ends_with('.'), "{line}");
            assert!(helped.insert(name.to_owned()), "helped twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type has a kind");
            assert!(helped.contains(name), "no help before it: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let before = kinds.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "typed twice: {line}");
            current = name.to_owned();
        } else {
            let (key, value) = line.rsplit_once(' ').expect("a sample has a value");
            let (name, of) = match key.split_once('{') {
                Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("closed"))),
                None => (key, BTreeMap::new()),
            };
            let suffix = name.strip_prefix(&current);
            let suffixes: &[&str] = match kinds[&current].as_str() {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            let stands = suffix.is_some_and(|suffix| suffixes.contains(&suffix));
            assert!(stands, "a sample stands with its metric: {line}");
            let value: f64 = value.parse().expect("a number");
            assert!(value >= 0.0 && value.is_finite(), "{line}");
            let before = samples.insert((name.to_owned(), of), value);
            assert_eq!(before, None, "it stands twice: {line}");
        }
    }
    Parsed { kinds, samples }
}

impl Parsed {
    #[track_caller]
    fn value(&self, name: &str, of: &[(&str, &str)]) -> f64 {
        let of = of.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let key = (name.to_owned(), of.collect());
        *self
            .samples
            .get(&key)
            .unwrap_or_else(|| panic!("no {key:?}"))
    }
}

pub fn scrape(service: &Service) -> Parsed {
    let answer: Answer = service.get("/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    parse(answer.text())
}

#[test]
fn metrics_follow_what_happens() {
    let service = Service::default();
    let empty = scrape(&service);
    assert_eq!(
        empty.value("executor_executions", &[("status", "QUEUED")]),
        0.0
    );
    assert_eq!(empty.value("executor_dispatched_limit", &[]), 2.0);
    let age = "executor_last_tick_age_seconds";
    let no_tick = empty.samples.keys().any(|(name, _)| name == age);
    assert!(!no_tick, "there was no tick");
    for name in [
        "executor_ticks_total",
        "executor_ticks_begun_total",
        "executor_tick_lease_held",
    ] {
        assert_eq!(empty.value(name, &[]), 0.0, "{name}");
    }

    // Two have room, the third waits; the fake API server creates nothing.
    let first = service.accept(r#"{"script":"true"}"#);
    let second = service.accept(r#"{"script":"false"}"#);
    service.accept(r#"{"script":"true"}"#);
    service.clock.advance(5);
    let three = scrape(&service);
    assert_eq!(
        three.value("executor_executions", &[("status", "QUEUED")]),
        3.0
    );
    assert_eq!(three.value("executor_queue_depth", &[]), 1.0);
    assert_eq!(three.value("executor_dispatched", &[]), 2.0);
    assert_eq!(three.value("executor_oldest_queued_age_seconds", &[]), 5.0);

    service.finish(&first, 0, StoredLog::default());
    service.finish(&second, 3, StoredLog::default());
    let deleted = service.send("DELETE", &format!("/executions/{first}"), &[], "");
    assert_eq!(deleted.status, 204);
    service.send("POST", "/internal/tick?budgetSeconds=0", &[], "");
    service.clock.advance(7);
    let after = scrape(&service);
    let ended = |outcome, reason| {
        let of = [("outcome", outcome), ("reason", reason)];
        after.value("executor_finished_total", &of)
    };
    assert_eq!(ended("SUCCEEDED", "Completed"), 1.0);
    assert_eq!(ended("FAILED", "NonZeroExit"), 1.0);
    assert_eq!(
        ended("FAILED", "OOMKilled"),
        0.0,
        "it is there from the start"
    );
    assert_eq!(
        after.value("executor_executions", &[("status", "FINISHED")]),
        1.0
    );
    assert_eq!(
        after.value("executor_forgotten_total", &[("cause", "deleted")]),
        1.0
    );
    assert_eq!(
        after.value("executor_forgotten_total", &[("cause", "expired")]),
        0.0
    );
    assert_eq!(after.value("executor_swept_total", &[]), 0.0);
    assert_eq!(after.value("executor_webhook_deliveries_pending", &[]), 0.0);
    assert_eq!(after.value("executor_last_tick_age_seconds", &[]), 7.0);
    assert_eq!(after.value("executor_accepted_total", &[]), 3.0);
    assert_eq!(after.value("executor_ticks_total", &[]), 1.0);
    assert_eq!(after.value("executor_ticks_begun_total", &[]), 1.0);
    assert_eq!(
        after.value("executor_tick_lease_held", &[]),
        0.0,
        "it is over"
    );
    assert!(after.value("executor_tick_statements_total", &[]) >= 1.0);
}

#[test]
fn histograms_grow_from_bucket_to_bucket_up_to_their_count() {
    let service = Service::default();
    let tally = store::Tally::default();
    for millis in [50, 700, 90_000_000] {
        tally.observe(
            store::Measure::Queue,
            "",
            std::time::Duration::from_millis(millis),
        );
    }
    for label in ["create 201", "create 409", "list no_answer"] {
        tally.observe(
            store::Measure::Request,
            label,
            std::time::Duration::from_millis(30),
        );
    }
    service.get("/metrics");
    let store = store::ExecutionStore::new(service.sqlite.clone());
    store::testing::ready(store.flush(&tally)).expect("it writes");
    let parsed = scrape(&service);
    let queue = |le| parsed.value("executor_queue_duration_seconds_bucket", &[("le", le)]);
    assert_eq!(
        [
            queue("0.1"),
            queue("0.5"),
            queue("1"),
            queue("43200"),
            queue("+Inf")
        ],
        [1.0, 1.0, 2.0, 2.0, 3.0]
    );
    assert_eq!(
        parsed.value("executor_queue_duration_seconds_count", &[]),
        3.0
    );
    assert_eq!(
        parsed.value("executor_queue_duration_seconds_sum", &[]),
        90_000.75
    );
    assert_eq!(
        parsed.value("executor_run_duration_seconds_count", &[]),
        0.0
    );
    let requests = |verb, code| {
        let of = [("verb", verb), ("code", code)];
        parsed.value("executor_kubernetes_requests_total", &of)
    };
    assert_eq!(requests("create", "201"), 1.0);
    assert_eq!(requests("list", "no_answer"), 1.0);
    assert_eq!(requests("watch", "200"), 0.0);
    let name = "executor_kubernetes_request_duration_seconds_count";
    assert_eq!(parsed.value(name, &[("verb", "create")]), 2.0);
}

#[test]
fn the_documentation_names_each_metric_and_no_other() {
    let docs = include_str!("../../../../docs/OPERATIONS.md");
    let documented: BTreeMap<String, String> = docs
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("| `executor_")?.split_once('`')?;
            let kind = rest.strip_prefix(" | ")?.split(' ').next()?;
            Some((format!("executor_{name}"), kind.to_owned()))
        })
        .collect();
    let service = Service::default();
    service.send("POST", "/internal/tick?budgetSeconds=0", &[], "");
    assert_eq!(documented, scrape(&service).kinds);
}

#[test]
fn a_counter_is_named_as_one() {
    for (name, kind) in scrape(&Service::default()).kinds {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
    }
}

#[test]
fn only_reading_is_possible() {
    let service = Service::default();
    let answer = service.post("/metrics", "");
    answer.is_problem(405, "method-not-allowed", "GET, HEAD");
    let head = service.send("HEAD", "/metrics", &[], "");
    assert_eq!((head.status, head.bytes.len()), (200, 0));
}
