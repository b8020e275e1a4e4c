//! Two tenants on one Executor: each tries what is the other's through every route, and sees and changes nothing of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use e2e::{Admin, Answer, Client, Kube, Namespace, Options, Stack, not_applicable};
use serde_json::{Value, json};

/// A start and an end on two busy cores.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// Tokens of two tenants and of an administrator.
const TOKENS: &str = r#"{"tenants": {"red": {}, "blue": {"perMinute": 600}}, "tokens": [
    {"name": "red", "tenant": "red", "role": "run", "token": "token-of-red-for-tests"},
    {"name": "blue", "tenant": "blue", "role": "run", "token": "token-of-blue-for-tests"},
    {"name": "root", "role": "admin", "token": "token-of-root-for-tests"}]}"#;

const RED: &str = "token-of-red-for-tests";
const BLUE: &str = "token-of-blue-for-tests";
const ROOT: &str = "token-of-root-for-tests";

/// What nothing has.
const UNKNOWN: &str = "019c13b0-4e40-7abc-8def-0123456789ab";

/// Every route of one execution: method, path below it, headers.
type Attack = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

const EVENTS: &[(&str, &str)] = &[("accept", "text/event-stream")];

const ATTACKS: [Attack; 11] = [
    ("GET", "", &[]),
    ("GET", "?wait=1", &[]),
    ("GET", "", &[("if-none-match", "*")]),
    ("GET", "/logs", &[]),
    ("GET", "/logs?follow=true", &[]),
    ("GET", "/logs", EVENTS),
    ("GET", "/events", EVENTS),
    ("GET", "/deliveries", &[]),
    ("POST", "/deliveries/1/redeliver", &[]),
    ("POST", "/cancel", &[]),
    ("DELETE", "", &[]),
];

/// Each test begins by deleting what others may have left in the cluster: they take turns.
static CLUSTER: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    CLUSTER.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stack() -> Stack {
    Stack::start(Options {
        variables: vec![("tokens".to_owned(), TOKENS.to_owned())],
        ..Options::default()
    })
}

#[track_caller]
fn send(client: &Client, token: &str, attack: Attack, id: &str) -> Answer {
    let (method, below, headers) = attack;
    let bearer = format!("Bearer {token}");
    let mut all = vec![("authorization", bearer.as_str())];
    all.extend_from_slice(headers);
    match client.send(method, &format!("/executions/{id}{below}"), &all, None) {
        Ok(answer) => answer,
        Err(e) => panic!("{e}"),
    }
}

#[track_caller]
fn post(client: &Client, token: &str, key: Option<&str>, body: &Value) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    client.post_with("/executions", &headers, body)
}

#[track_caller]
fn list(client: &Client, token: &str, query: &str) -> Value {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    client
        .get_with(&format!("/executions{query}"), &headers)
        .expect(200)
        .json()
}

fn small(script: &str) -> Value {
    json!({"script": script, "labels": {"team": "x"}, "resources": {"cpu": "10m", "memory": "16Mi"}})
}

#[test]
fn two_tenants_attack_each_other_through_every_route() {
    let _turn = turn();
    let stack = stack();
    let client = stack.client();
    let running = post(&client, RED, Some("k"), &small("echo secret; sleep 1000"))
        .expect(201)
        .id();
    let finished = post(&client, RED, None, &small("echo secret"))
        .expect(201)
        .id();
    let wait = ("GET", "?wait=60", &[][..]);
    let end = send(&client, RED, wait, &finished).expect(200).json();
    assert_eq!(end["outcome"], "SUCCEEDED", "{end}");

    for id in [&running, &finished] {
        for attack in ATTACKS {
            let foreign = send(&client, BLUE, attack, id).expect(404);
            let unknown = send(&client, BLUE, attack, UNKNOWN).expect(404);
            let text = |answer: &Answer, id: &str| answer.text().replace(id, "…");
            assert_eq!(text(&foreign, id), text(&unknown, UNKNOWN), "{attack:?}");
            assert!(!foreign.text().contains("secret"), "{attack:?}");
            send(&client, "token-of-nobody-for-tests", attack, id).expect(401);
        }
    }
    // The same key with another body is neither a replay nor a conflict.
    let own = post(&client, BLUE, Some("k"), &small("true"))
        .expect(201)
        .id();
    assert_ne!(own, running);
    for query in [
        "",
        "?label=team=x",
        "?status=RUNNING",
        "?status=FINISHED&label=team=x",
    ] {
        let seen = list(&client, BLUE, query).to_string();
        assert!(
            !seen.contains(&running) && !seen.contains(&finished),
            "{query}: {seen}"
        );
    }
    let page = list(&client, RED, "?limit=1");
    let cursor = page["next"].as_str().expect("a cursor");
    let seen = list(&client, BLUE, &format!("?cursor={cursor}")).to_string();
    assert!(
        !seen.contains(&running) && !seen.contains(&finished),
        "{seen}"
    );
    // Nothing of it had an effect.
    let still = send(&client, RED, ("GET", "", &[]), &running)
        .expect(200)
        .json();
    assert_ne!(still["status"], "FINISHED", "{still}");
    assert_eq!(still["cancelRequestedAt"], Value::Null, "{still}");
    send(&client, RED, ("GET", "", &[]), &finished).expect(200);
    send(&client, RED, ("POST", "/cancel", &[]), &running).expect(202);
    let wait = ("GET", "?wait=60", &[][..]);
    e2e::wait_for("the cancel", ENDS_WITHIN, || {
        let now = send(&client, RED, wait, &running).expect(200).json();
        (now["outcome"] == "CANCELED").then_some(())
    });
}

#[test]
fn a_token_counts_from_one_request_to_the_next() {
    let _turn = turn();
    let stack = stack();
    let client = stack.client();
    let root = [("authorization", "Bearer token-of-root-for-tests")];
    let wanted = json!({"name": "ci", "tenant": "red", "role": "run"});
    let made = client
        .post_with("/admin/tokens", &root, &wanted)
        .expect(201)
        .json();
    let token = made["token"].as_str().expect("a token");
    let id = post(&client, token, None, &small("true")).expect(201).id();
    send(&client, RED, ("GET", "", &[]), &id).expect(200);
    send(&client, BLUE, ("GET", "", &[]), &id).expect(404);
    send(&client, ROOT, ("GET", "", &[]), &id).expect(404);
    let place = format!("/admin/tokens/{}", made["id"].as_str().expect("an id"));
    let gone = client
        .send("DELETE", &place, &root, None)
        .expect("an answer");
    assert_eq!(gone.status, 204);
    send(&client, token, ("GET", "", &[]), &id).expect(401);
    // What it submitted goes on.
    let wait = ("GET", "?wait=60", &[][..]);
    let end = send(&client, RED, wait, &id).expect(200).json();
    assert_eq!(end["outcome"], "SUCCEEDED", "{end}");
}

/// The namespaces of red and blue: what the embedded cluster has of its own accord, the real one's administrator makes.
struct Places {
    red: String,
    blue: String,
    _made: Vec<Namespace>,
}

impl Places {
    fn new() -> Self {
        let made: Vec<Namespace> = Admin::from_env()
            .iter()
            .flat_map(|admin| ["red", "blue"].map(|tenant| admin.namespace(tenant)))
            .collect();
        let name = |number: usize, embedded: &str| {
            let made = made.get(number);
            made.map_or_else(|| embedded.to_owned(), |namespace| namespace.name.clone())
        };
        Self {
            red: name(0, "red-runs"),
            blue: name(1, "blue-runs"),
            _made: made,
        }
    }

    /// The tokens of all, where red and blue have these, grey one that Executor has no rights in, and everybody else none.
    fn tokens(&self) -> String {
        let mut tokens: Value = serde_json::from_str(TOKENS).expect("JSON");
        tokens["tenants"]["red"]["namespace"] = self.red.as_str().into();
        tokens["tenants"]["blue"]["namespace"] = self.blue.as_str().into();
        tokens["tenants"]["grey"] = json!({"namespace": "kube-public"});
        let grey = json!({"name": "grey", "tenant": "grey", "role": "run", "token": GREY});
        let all = tokens["tokens"].as_array_mut().expect("tokens");
        all.push(grey);
        tokens.to_string()
    }
}

const GREY: &str = "token-of-grey-for-tests";

/// The API server, asked about that namespace.
fn kube_in(stack: &Stack, namespace: &str) -> Kube {
    let access = stack.kube().access();
    Kube::new(&access.url, &access.token, namespace, access.ca.as_deref())
}

#[test]
fn each_tenants_scripts_run_in_its_own_namespace() {
    let _turn = turn();
    let places = Places::new();
    let stack = Stack::start(Options {
        variables: vec![("tokens".to_owned(), places.tokens())],
        ..Options::default()
    });
    let client = stack.client();
    let (red, blue) = (kube_in(&stack, &places.red), kube_in(&stack, &places.blue));
    let home = stack.kube();
    let all = [&red, &blue, home];
    // Each with a ConfigMap, so that that is where its Job is, too.
    let large = format!("echo $0; cat in; sleep 1000\n#{}", "x".repeat(70_000));
    let with_file = |script: &str| {
        let mut body = small(script);
        body["files"] = json!({"in": {"text": "given\n"}});
        body
    };
    let running: Vec<String> = [RED, BLUE, ROOT]
        .iter()
        .map(|token| {
            post(&client, token, None, &with_file(&large))
                .expect(201)
                .id()
        })
        .collect();
    for (number, id) in running.iter().enumerate() {
        let at = all[number];
        e2e::wait_for("its pod", ENDS_WITHIN, || {
            (!at.pods_of(id).is_empty()).then_some(())
        });
        for other in all.iter().filter(|kube| kube.namespace() != at.namespace()) {
            assert_eq!(
                other.pods_of(id),
                Vec::<String>::new(),
                "{}",
                other.namespace()
            );
        }
    }
    // An end is seen in each of them, with its log; and what is canceled goes.
    for token in [RED, BLUE, ROOT] {
        let id = post(&client, token, None, &with_file("cat in; exit 3"))
            .expect(201)
            .id();
        let end = e2e::wait_for("the end", ENDS_WITHIN, || {
            let now = send(&client, token, ("GET", "?wait=30", &[]), &id)
                .expect(200)
                .json();
            (now["status"] == "FINISHED").then_some(now)
        });
        assert_eq!(
            (&end["outcome"], &end["exitCode"]),
            (&json!("FAILED"), &json!(3)),
            "{end}"
        );
        let log = send(&client, token, ("GET", "/logs", &[]), &id).expect(200);
        assert_eq!(log.text(), "given\n");
    }
    for (token, id) in [RED, BLUE, ROOT].iter().zip(&running) {
        e2e::wait_for("its start", ENDS_WITHIN, || {
            let now = send(&client, token, ("GET", "", &[]), id)
                .expect(200)
                .json();
            (now["status"] == "RUNNING").then_some(())
        });
        let live = send(&client, token, ("GET", "/logs", &[]), id).expect(200);
        assert!(live.text().ends_with("given\n"), "{}", live.text());
        send(&client, token, ("POST", "/cancel", &[]), id).expect(202);
        e2e::wait_for("the cancel", ENDS_WITHIN, || {
            let now = send(&client, token, ("GET", "?wait=30", &[]), id)
                .expect(200)
                .json();
            (now["outcome"] == "CANCELED").then_some(())
        });
    }
    for kube in all {
        assert_eq!(kube.jobs_left_after(ENDS_WITHIN), Vec::<String>::new());
    }
    if stack.is_real() {
        a_namespace_without_rights_stops_no_other(&client);
    } else {
        not_applicable(
            "a tenant whose namespace Executor has no rights in",
            "the embedded cluster lets everybody do everything",
        );
    }
}

fn a_namespace_without_rights_stops_no_other(client: &Client) {
    let greys: Vec<String> = (0..20)
        .map(|_| post(client, GREY, None, &small("true")).expect(201).id())
        .collect();
    for token in [RED, BLUE] {
        let id = post(client, token, None, &small("true")).expect(201).id();
        let end = send(client, token, ("GET", "?wait=60", &[]), &id)
            .expect(200)
            .json();
        assert_eq!(end["outcome"], "SUCCEEDED", "{end}");
    }
    let waits = send(client, GREY, ("GET", "", &[]), &greys[0])
        .expect(200)
        .json();
    let why = waits.to_string();
    assert!(
        why.contains("cannot create resource") && why.contains("kube-public"),
        "{why}"
    );
    for id in &greys {
        send(client, GREY, ("POST", "/cancel", &[]), id).expect(202);
    }
}
