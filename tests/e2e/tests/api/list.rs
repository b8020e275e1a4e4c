//! `GET /executions`: filters, pages, and both together while others submit.

use e2e::{Answer, Client};
use serde_json::{Value, json};

use crate::{ENDS_WITHIN, shared, unique};

fn items(answer: &Answer) -> Vec<Value> {
    let items = answer.json()["items"].as_array().cloned();
    items.unwrap_or_else(|| panic!("no items: {}", answer.text()))
}

fn ids(answer: &Answer) -> Vec<String> {
    let items = items(answer);
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

fn submit(client: &Client, batch: &str, script: &str) -> String {
    let labels = json!({ "batch": batch, "script.name/x": script });
    client.submit(&json!({ "script": script, "labels": labels, "resources": { "cpu": "10m" } }))
}

#[test]
fn filters_choose_by_status_outcome_reason_and_labels() {
    let stack = shared();
    let client = stack.client();
    let batch = unique("filters");
    let good = submit(&client, &batch, "exit 0");
    let bad = submit(&client, &batch, "exit 9");
    for id in [&good, &bad] {
        client.finished(id, ENDS_WITHIN);
    }
    let slow = submit(&client, &batch, "sleep 20");
    let of = |query: &str| {
        let mut found = ids(&client
            .get(&format!("/executions?label=batch={batch}&{query}"))
            .expect(200));
        found.sort();
        found
    };
    let sorted = |of: &[&String]| {
        let mut all: Vec<String> = of.iter().map(|id| (*id).clone()).collect();
        all.sort();
        all
    };
    assert_eq!(of("limit=50"), sorted(&[&good, &bad, &slow]));
    assert_eq!(of("status=FINISHED"), sorted(&[&good, &bad]));
    assert_eq!(of("outcome=SUCCEEDED"), sorted(&[&good]));
    assert_eq!(of("outcome=FAILED&reason=NonZeroExit"), sorted(&[&bad]));
    assert_eq!(of("reason=OOMKilled"), sorted(&[]));
    assert_eq!(of("label=script.name%2Fx%3Dexit%209"), sorted(&[&bad]));
    assert_eq!(of("label=script.name/x=exit+0"), sorted(&[&good]));
    assert_eq!(of("label=nobody=has-this"), sorted(&[]));
    // It may start between the two looks, and then it is in both.
    let mut unfinished = [of("status=QUEUED"), of("status=RUNNING")].concat();
    unfinished.dedup();
    assert_eq!(unfinished, sorted(&[&slow]));
}

#[test]
fn created_after_and_before_cut_the_list() {
    let stack = shared();
    let client = stack.client();
    let batch = unique("times");
    let all: Vec<String> = (0..3)
        .map(|n| submit(&client, &batch, &format!("exit {n}")))
        .collect();
    let middle = client.execution(&all[1])["createdAt"]
        .as_str()
        .expect("a time")
        .to_owned();
    let of = |query: &str| {
        ids(&client
            .get(&format!("/executions?label=batch={batch}&{query}"))
            .expect(200))
    };
    let after = of(&format!("createdAfter={middle}"));
    let before = of(&format!("createdBefore={middle}"));
    assert!(
        after.contains(&all[2]) && !after.contains(&all[0]),
        "{after:?} of {all:?}"
    );
    assert!(
        before.contains(&all[0]) && !before.contains(&all[2]),
        "{before:?} of {all:?}"
    );
    assert!(of("createdAfter=2100-01-01T00:00:00Z").is_empty());
    assert_eq!(
        of("createdAfter=2000-01-01T00:00:00Z&createdBefore=2100-01-01T00:00:00%2B01:00").len(),
        3
    );
}

/// The path and query of the `rel="next"` link.
fn next_link(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let (target, rest) = link.strip_prefix('<')?.split_once('>')?;
    assert!(rest.contains("rel=\"next\""), "{link}");
    Some(target.to_owned())
}

#[test]
fn pages_are_newest_first_and_stable_while_others_submit() {
    const EXECUTIONS: usize = 23;
    const LIMIT: usize = 5;
    let stack = shared();
    let client = stack.client();
    let batch = unique("pages");
    let mut expected: Vec<String> = (0..EXECUTIONS)
        .map(|_| submit(&client, &batch, "true"))
        .collect();
    expected.reverse();
    let mut seen = Vec::new();
    let mut path = format!("/executions?label=batch={batch}&limit={LIMIT}");
    for page in 0.. {
        assert!(page <= EXECUTIONS / LIMIT, "pages without end");
        let answer = client.get(&path).expect(200);
        seen.extend(ids(&answer));
        // Newer ones come at the head, and must not push others over to the next page.
        submit(&client, &batch, "true");
        let cursor = answer.json()["next"].clone();
        match next_link(&answer) {
            Some(next) => {
                let cursor = cursor.as_str().expect("a cursor beside the link");
                assert!(next.contains("cursor="), "{next}");
                let same = client.get(&format!(
                    "/executions?label=batch={batch}&limit={LIMIT}&cursor={}",
                    encoded(cursor)
                ));
                assert_eq!(ids(&same.expect(200)), ids(&client.get(&next).expect(200)));
                path = next;
            }
            None => {
                assert!(cursor.is_null(), "{cursor} without a link");
                break;
            }
        }
    }
    assert_eq!(seen, expected);
}

fn encoded(text: &str) -> String {
    let byte = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(b).to_string()
        }
        _ => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[test]
fn the_list_shows_what_get_shows() {
    let stack = shared();
    let client = stack.client();
    let batch = unique("same");
    let id = submit(&client, &batch, "exit 1");
    let end = client.finished(&id, ENDS_WITHIN);
    let list = client
        .get(&format!("/executions?label=batch={batch}"))
        .expect(200);
    assert_eq!(items(&list), [end]);
    assert!(list.json()["next"].is_null());
}
