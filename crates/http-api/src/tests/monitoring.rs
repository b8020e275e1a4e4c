//! `k8s/monitoring`: what its alerts and its dashboard ask of Prometheus is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use store::{Measure, Tally};

use super::metrics::{Parsed, scrape};
use super::service::Service;

const RULES: &str = include_str!("../../../../k8s/monitoring/rules.yaml");
const DASHBOARD: &str = include_str!("../../../../k8s/monitoring/executor.json");

/// What Prometheus adds to what it scrapes, and to histograms.
const OTHER_LABELS: [&str; 3] = ["instance", "pod", "le"];

/// What stands quoted behind that key, in its order. The rules have one such line for each.
fn rules_of(key: &str) -> Vec<&'static str> {
    let quoted = |line: &'static str| line.trim().strip_prefix(key)?.strip_prefix(": ");
    let unquoted = |text: &'static str| text.trim_matches('\'');
    RULES.lines().filter_map(quoted).map(unquoted).collect()
}

fn expressions_within(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(
                members
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            members.values().for_each(|v| expressions_within(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| expressions_within(v, found)),
        _ => {}
    }
}

fn expressions() -> Vec<String> {
    let mut found: Vec<String> = rules_of("expr").into_iter().map(str::to_owned).collect();
    assert!(found.len() > 10, "the rules were found");
    let before = found.len();
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    expressions_within(&dashboard, &mut found);
    assert!(found.len() > before + 20, "the panels were found");
    found
}

/// Everything that there can be of metrics, once something has happened.
fn everything() -> Parsed {
    let service = Service::default();
    service.send("POST", "/internal/tick?budgetSeconds=0", &[], "");
    let tally = Tally::default();
    for label in ["create 201", "follow 200"] {
        tally.observe(Measure::Request, label, Duration::from_millis(1));
    }
    let store = store::ExecutionStore::new(service.sqlite.clone());
    store::testing::ready(store.flush(&tally)).expect("it writes");
    scrape(&service)
}

/// A metric as an expression names it: what stands before it, its name, and its matchers.
type Selected<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str, &'a str)>);

fn selected(expression: &str) -> Vec<Selected<'_>> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("executor_") {
        let (before, rest) = expression.split_at(at);
        if before.ends_with(part_of_name) {
            continue;
        }
        let end = rest.find(|c| !part_of_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let matchers = rest.strip_prefix('{').map_or("", |rest| {
            rest.split_once('}').expect("the matchers are closed").0
        });
        let split = matchers.split(',').filter(|m| !m.is_empty()).map(|m| {
            let operator = ["=~", "!~", "!=", "="]
                .into_iter()
                .find(|operator| m.contains(operator))
                .expect("an operator");
            let (label, value) = m.split_once(operator).expect("it is there");
            (label, operator, value.trim_matches('"'))
        });
        found.push((before, name, split.collect()));
    }
    found
}

#[test]
fn every_metric_and_label_that_is_asked_for_exists() {
    let parsed = everything();
    for expression in expressions() {
        let selected = selected(&expression);
        assert!(!selected.is_empty(), "it asks for nothing: {expression}");
        let mut labels: BTreeSet<&str> = OTHER_LABELS.into();
        for (before, name, matchers) in &selected {
            let samples: Vec<_> = parsed.samples.keys().filter(|(n, _)| n == name).collect();
            assert!(!samples.is_empty(), "no {name}: {expression}");
            let rated = ["rate(", "increase("].iter().any(|f| before.ends_with(f));
            let kind = parsed.kinds.get(*name).map_or("histogram", String::as_str);
            assert_eq!(rated, kind != "gauge", "{name} is a {kind}: {expression}");
            for (label, operator, value) in matchers {
                let has = |of: &BTreeMap<String, String>| {
                    let found = of.get(*label);
                    found.is_some_and(|found| *operator != "=" || found == value)
                };
                let there = samples.iter().any(|(_, of)| has(of));
                assert!(there, "no {label}{operator}{value}: {expression}");
            }
            let keys = samples.iter().flat_map(|(_, of)| of.keys());
            labels.extend(keys.map(String::as_str));
        }
        for grouping in [" by (", " without ("] {
            for (_, rest) in expression
                .match_indices(grouping)
                .map(|(at, _)| expression.split_at(at))
            {
                let list = &rest[grouping.len()..rest.find(')').expect("it is closed")];
                for label in list.split(", ") {
                    assert!(labels.contains(label), "no label {label}: {expression}");
                }
            }
        }
    }
}

#[test]
fn expressions_are_closed() {
    for expression in expressions() {
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let mut depth = 0;
            for c in expression.chars() {
                depth += i32::from(c == open) - i32::from(c == close);
                assert!(depth >= 0, "{expression}");
            }
            assert_eq!(depth, 0, "{expression}");
        }
        assert_eq!(expression.matches('"').count() % 2, 0, "{expression}");
    }
}

#[test]
fn each_alert_says_what_it_is_about() {
    let names = rules_of("- alert");
    assert!(names.iter().all(|name| name.starts_with("Executor")));
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    for key in ["expr", "for", "severity", "summary", "description"] {
        assert_eq!(rules_of(key).len(), names.len(), "{key}");
    }
    for severity in rules_of("severity") {
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{severity}"
        );
    }
    // A metric that no reader of the text knows would be of no use there.
    let docs = include_str!("../../../../docs/OPERATIONS.md");
    for name in &names {
        assert!(
            docs.contains(&format!("`{name}`")),
            "{name} is not documented"
        );
    }
}
