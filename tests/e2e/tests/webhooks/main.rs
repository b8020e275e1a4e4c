//! Webhooks as a receiver sees them: what is sent again and what is not, signed, and never past the guards.

mod guards;
mod kill;
mod receiver;
mod retries;

use std::sync::OnceLock;
use std::time::Duration;

use e2e::{Client, Options, Shared, Stack, poll};
use receiver::{Receiver, SECRET};
use serde_json::{Value, json};

/// Pauses that no test has to wait for: seven of them, so eight attempts.
const PAUSES: &str = "0.3 0.3 0.3 0.3 0.3 0.3 0.3";

/// How many attempts that makes.
const ATTEMPTS: usize = 8;

/// A short script on two busy cores, a real kubelet included; the first tick comes up to ten seconds after the start.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// All attempts of one delivery, one of ten seconds among them.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

fn options(receiver: &Receiver) -> Options {
    let variable = |name: &str, value: String| (name.to_owned(), value);
    Options {
        variables: vec![
            variable("webhook_secrets", json!({ "default": SECRET }).to_string()),
            variable("webhook_pauses", PAUSES.to_owned()),
            // The receiver is an inner host like any other: an exception of the guard's, on one port of the host's.
            variable("webhook_allowed_hosts", "http://127.0.0.1".to_owned()),
            variable("webhook_hosts", receiver.origin()),
        ],
        ..Options::default()
    }
}

/// The receiver and the stack that most tests share.
fn shared() -> (&'static Receiver, Shared) {
    static RECEIVER: OnceLock<Receiver> = OnceLock::new();
    let receiver = RECEIVER.get_or_init(Receiver::start);
    (receiver, Stack::shared_with(|| options(receiver)))
}

fn submission(script: &str, url: &str) -> Value {
    json!({ "script": script, "resources": { "cpu": "10m", "memory": "16Mi" }, "webhook": { "url": url } })
}

/// Runs a script whose end is told to that URL, and gives its id.
#[track_caller]
fn run(client: &Client, script: &str, url: &str) -> String {
    let id = client.submit(&submission(script, url));
    client.finished(&id, ENDS_WITHIN);
    id
}

#[track_caller]
fn deliveries(client: &Client, id: &str) -> Vec<Value> {
    let answer = client.get(&format!("/executions/{id}/deliveries"));
    let list = answer.expect(200).json();
    list["items"].as_array().expect("a list").clone()
}

/// The delivery with that number, once nobody tries it any more.
#[track_caller]
fn settled(client: &Client, id: &str, number: usize) -> Value {
    let found = poll(SETTLED_WITHIN, || {
        let delivery = deliveries(client, id).get(number - 1)?.clone();
        (delivery["state"] != "PENDING").then_some(delivery)
    });
    found.unwrap_or_else(|| panic!("it is still tried: {:#?}", deliveries(client, id)))
}

/// The status of each attempt in order; none where there was no answer.
fn statuses(delivery: &Value) -> Vec<Option<u64>> {
    let attempts = delivery["attempts"].as_array().expect("a list");
    attempts.iter().map(|a| a["statusCode"].as_u64()).collect()
}

#[track_caller]
fn error(delivery: &Value, attempt: usize) -> &str {
    let error = &delivery["attempts"][attempt]["error"];
    error
        .as_str()
        .unwrap_or_else(|| panic!("no error: {delivery:#}"))
}
