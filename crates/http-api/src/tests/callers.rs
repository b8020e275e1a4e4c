//! Who may call: roles, and tenants that see nothing of each other.

use app::StoredLog;
use domain::Role;
use serde_json::{Value, json};

use super::service::{Answer, Service};
use crate::routes::{Access, PATHS, Purpose, route};

/// Tokens of two tenants, by role.
const SETTING: &str = r#"{
    "tenants": {"a": {}, "slow": {"perMinute": 2}, "small": {"maxQueued": 1, "maxRunning": 1}, "b": {"maxCpu": "1", "allowedImages": ["docker.io/library/alpine:*"]}},
    "tokens": [
        {"name": "a-read", "tenant": "a", "role": "read", "token": "token-of-a-that-reads"},
        {"name": "a-run", "tenant": "a", "role": "run", "token": "token-of-a-that-runs"},
        {"name": "b-run", "tenant": "b", "role": "run", "token": "token-of-b-that-runs"},
        {"name": "slow", "tenant": "slow", "role": "run", "token": "token-of-slow-that-runs"},
        {"name": "small", "tenant": "small", "role": "run", "token": "token-of-small-that-runs"},
        {"name": "over", "tenant": "a", "role": "admin", "token": "token-that-is-over-now", "expiresAt": "2026-01-31T12:00:00Z"},
        {"name": "root", "role": "admin", "token": "token-that-may-do-all"}
    ]
}"#;

const A_READ: &str = "token-of-a-that-reads";
pub(super) const A: &str = "token-of-a-that-runs";
pub(super) const B: &str = "token-of-b-that-runs";
const OVER: &str = "token-that-is-over-now";
pub(super) const ADMIN: &str = "token-that-may-do-all";

pub(super) const SMALLEST: &str = r#"{"script":"true"}"#;

/// What nothing has.
const UNKNOWN: &str = "019c13b0-4e40-7abc-8def-0123456789ab";

pub(super) fn service() -> Service {
    Service::with("tokens", SETTING)
}

#[track_caller]
pub(super) fn send(service: &Service, token: &str, method: &str, uri: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    service.send(method, uri, &[("authorization", &bearer)], body)
}

#[track_caller]
pub(super) fn accept(service: &Service, token: &str, body: &str) -> String {
    let answer = send(service, token, "POST", "/executions", body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

fn url(path: &str) -> String {
    path.replace("{id}", UNKNOWN)
        .replace("{number}", "1")
        .replace("{token}", "tok-1")
}

/// Every route with each of its methods, and whom it answers.
fn operations() -> Vec<(String, &'static str, Access)> {
    let mut all = Vec::new();
    for path in PATHS {
        let url = url(path);
        let offers = route(&url).offers();
        assert!(!offers.is_empty(), "{path}");
        for (method, access) in offers {
            all.push((url.clone(), *method, *access));
            if *method == "GET" {
                all.push((url.clone(), "HEAD", *access));
            }
        }
    }
    all
}

#[test]
fn every_route_asks_for_a_token_and_for_its_role() {
    let service = service();
    let mut asked = 0;
    for (url, method, access) in operations() {
        let needed = match access {
            Access::Everyone => {
                let answer = service.send(method, &url, &[], "");
                assert!(!matches!(answer.status, 401 | 403), "{method} {url}");
                continue;
            }
            Access::Purpose(Purpose::Tick | Purpose::Metrics) => Role::Admin,
            Access::Role(role) => role,
        };
        asked += 1;
        let what = format!("{method} {url}");
        for headers in [
            &[][..],
            &[("authorization", "Bearer nobody-has-this-token")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic token-that-may-do-all")],
            &[("authorization", "token-that-may-do-all")],
        ] {
            let answer = service.send(method, &url, headers, "");
            assert_eq!(answer.status, 401, "{what}: {headers:?}");
            let challenge = answer.header("www-authenticate").expect("a challenge");
            assert!(challenge.starts_with("Bearer realm="), "{challenge}");
        }
        let over = send(&service, OVER, method, &url, "");
        assert_eq!(over.status, 401, "{what}: its time is over");
        for (token, role) in [(A_READ, Role::Read), (A, Role::Run), (ADMIN, Role::Admin)] {
            let answer = send(&service, token, method, &url, "");
            let refused = answer.status == 403;
            assert_eq!(refused, role < needed, "{what} as {role:?}: {answer:?}");
            assert_ne!(answer.status, 401, "{what}");
        }
    }
    assert!(asked >= 16, "{asked}");
}

#[test]
fn a_refusal_says_what_is_missing_and_no_token() {
    let service = service();
    let none = service.get("/executions");
    none.is_problem(401, "unauthorized", "Authorization: Bearer");
    assert_eq!(
        none.header("www-authenticate"),
        Some("Bearer realm=\"executor\"")
    );
    let wrong = send(&service, "wrong-wrong-wrong", "GET", "/executions", "");
    wrong.is_problem(401, "unauthorized", "Nobody has this token");
    assert!(
        wrong
            .header("www-authenticate")
            .expect("one")
            .contains("error=\"invalid_token\"")
    );
    assert!(!wrong.text().contains("wrong-wrong"));
    let less = send(&service, A_READ, "POST", "/executions", SMALLEST);
    less.is_problem(403, "forbidden", "`read`; this takes `run`");
    let challenge = less.header("www-authenticate").expect("one");
    assert!(
        challenge.contains("error=\"insufficient_scope\", scope=\"run\""),
        "{challenge}"
    );
    // Both lines are right, and one too many.
    let bearer = format!("Bearer {A}");
    let twice = [("authorization", &*bearer), ("authorization", &*bearer)];
    assert_eq!(service.send("GET", "/executions", &twice, "").status, 401);
}

#[test]
fn without_tokens_only_this_machine_is_answered() {
    let service = Service::default();
    for (url, method, access) in operations() {
        let answer = service.send(method, &url, &[("spin-client-addr", "10.1.2.3:4567")], "");
        match access {
            Access::Everyone => assert_ne!(answer.status, 403, "{method} {url}"),
            _ => assert_eq!(answer.status, 403, "{method} {url}"),
        }
        let here = service.send(method, &url, &[], "");
        assert!(!matches!(here.status, 401 | 403), "{method} {url}");
    }
    let elsewhere = [("spin-client-addr", "10.1.2.3:4567")];
    let answer = service.send("POST", "/executions", &elsewhere, SMALLEST);
    answer.is_problem(403, "forbidden", "The setting `tokens` says who may call");
    let list = service.get("/executions").json();
    assert_eq!(list["items"], json!([]), "nothing of it was kept");
}

#[test]
fn tokens_for_one_purpose_open_nothing_else() {
    let service = Service::with_all(&[
        ("tokens", SETTING),
        ("tick_token", "the-token-of-ticks"),
        ("metrics_token", "the-token-of-metrics"),
    ]);
    let status =
        |token: &str, method: &str, uri: &str| send(&service, token, method, uri, "").status;
    assert_eq!(status("the-token-of-metrics", "GET", "/metrics"), 200);
    assert_eq!(status("the-token-of-metrics", "GET", "/executions"), 401);
    assert_eq!(
        status("the-token-of-metrics", "POST", "/internal/tick"),
        401
    );
    assert_eq!(status(ADMIN, "GET", "/metrics"), 200);
    assert_eq!(status(A, "GET", "/metrics"), 403);
    assert_eq!(
        status(
            "the-token-of-ticks",
            "POST",
            "/internal/tick?budgetSeconds=0"
        ),
        200
    );
    assert_eq!(status("the-token-of-ticks", "GET", "/metrics"), 401);
    assert_eq!(status(ADMIN, "POST", "/internal/tick"), 401);
}

/// The same answer, but for the id in it.
#[track_caller]
fn alike(foreign: &Answer, unknown: &Answer, id: &str) {
    let strip = |answer: &Answer, id: &str| answer.text().replace(id, "…");
    assert_eq!(foreign.status, unknown.status, "{foreign:?}");
    assert_eq!(strip(foreign, id), strip(unknown, UNKNOWN));
    assert_eq!(foreign.headers, unknown.headers);
}

#[test]
fn foreign_ids_are_like_unknown_ones_on_every_route() {
    let service = service();
    let body = r#"{"script":"true","labels":{"team":"x"}}"#;
    let running = accept(&service, A, body);
    let finished = accept(&service, A, body);
    service.finish(&finished, 0, StoredLog::default());
    let mut compared = 0;
    for id in [&running, &finished] {
        for path in PATHS.iter().filter(|path| path.contains("{id}")) {
            let of = |id: &str| path.replace("{id}", id).replace("{number}", "1");
            for (method, _) in route(&of(id)).offers() {
                for query in ["", "?wait=0", "?tail=1", "?nonsense=1"] {
                    let ask = |id: &str| {
                        let uri = format!("{}{query}", of(id));
                        send(&service, B, method, &uri, "")
                    };
                    alike(&ask(id), &ask(UNKNOWN), id);
                    compared += 1;
                }
            }
        }
        let events = [
            ("authorization", "Bearer token-of-b-that-runs"),
            ("accept", "text/event-stream"),
        ];
        for below in ["logs", "events"] {
            let ask =
                |id: &str| service.send("GET", &format!("/executions/{id}/{below}"), &events, "");
            alike(&ask(id), &ask(UNKNOWN), id);
        }
    }
    assert!(compared >= 2 * 4 * 7, "{compared}");
    // Nothing of it had an effect.
    let get = |id: &str| send(&service, A, "GET", &format!("/executions/{id}"), "").json();
    assert_eq!(get(&running)["status"], "QUEUED");
    let waits = get(&running)["waitingFor"].to_string();
    assert!(!waits.contains("cancel"), "{waits}");
    assert_eq!(get(&finished)["outcome"], "SUCCEEDED");
}

fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    let id = |item: &Value| item["id"].as_str().expect("an id").to_owned();
    items.iter().map(id).collect()
}

#[test]
fn lists_and_cursors_are_of_one_tenant() {
    let service = service();
    let body = r#"{"script":"true","labels":{"team":"x"}}"#;
    let mut of_a = Vec::new();
    let mut of_b = Vec::new();
    for _ in 0..4 {
        of_a.push(accept(&service, A, body));
        service.clock.advance(1);
        of_b.push(accept(&service, B, body));
        service.clock.advance(1);
    }
    service.finish(&of_a[0], 1, StoredLog::default());
    of_a.reverse();
    of_b.reverse();
    for query in [
        "",
        "?label=team=x",
        "?status=QUEUED&label=team=x",
        "?status=QUEUED",
    ] {
        let b = send(&service, B, "GET", &format!("/executions{query}"), "").json();
        assert_eq!(ids(&b), of_b, "{query}");
    }
    for query in ["?outcome=FAILED", "?reason=NonZeroExit", "?status=FINISHED"] {
        let b = send(&service, B, "GET", &format!("/executions{query}"), "").json();
        assert_eq!(ids(&b).len(), 0, "{query}");
        let a = send(&service, A_READ, "GET", &format!("/executions{query}"), "").json();
        assert_eq!(ids(&a), [of_a[3].clone()], "{query}");
    }
    // A place in another's list is a time, and shows one's own from there on.
    let a = send(&service, A, "GET", "/executions?limit=2", "").json();
    assert_eq!(ids(&a), of_a[..2]);
    let next = a["next"].as_str().expect("a cursor");
    let rest = send(
        &service,
        B,
        "GET",
        &format!("/executions?cursor={next}"),
        "",
    )
    .json();
    assert_eq!(ids(&rest), of_b[2..]);
    // Who may do everything sees its own tenant's, too.
    let own = send(&service, ADMIN, "GET", "/executions", "").json();
    assert_eq!(ids(&own).len(), 0);
}

#[test]
fn idempotency_keys_are_of_one_tenant() {
    let service = service();
    let batch = json!({"executions": [{"script": "true"}, {"script": "true"}]}).to_string();
    let other = json!({"executions": [{"script": "false"}]}).to_string();
    for (uri, body, different) in [
        ("/executions", SMALLEST, r#"{"script":"false"}"#),
        ("/executions:batch", &*batch, &*other),
    ] {
        let post = |token: &str, body: &str| {
            let bearer = format!("Bearer {token}");
            let key = format!("key-of-{}", uri.len());
            let headers = [("authorization", &*bearer), ("idempotency-key", &*key)];
            service.send("POST", uri, &headers, body)
        };
        let first = post(A, body);
        assert_eq!(first.status, 201);
        // Neither a replay nor a conflict.
        let theirs = post(B, different);
        assert_eq!(theirs.status, 201, "{}", theirs.text());
        let own = post(ADMIN, body);
        assert_eq!(own.status, 201);
        for (token, body, answer) in [
            (A, body, &first),
            (B, different, &theirs),
            (ADMIN, body, &own),
        ] {
            let again = post(token, body);
            assert_eq!(again.status, 200);
            let id = |answer: &Answer| {
                let json = answer.json();
                json.pointer("/executions/0/id")
                    .unwrap_or(&json["id"])
                    .clone()
            };
            assert_eq!(id(&again), id(answer));
        }
        assert_eq!(post(A, different).status, 409);
    }
}

#[test]
fn what_a_tenant_may_ask_for_is_its_own() {
    let service = service();
    let cpu = r#"{"script":"true","resources":{"cpu":"2"}}"#;
    accept(&service, A, cpu);
    let answer = send(&service, B, "POST", "/executions", cpu);
    answer.is_problem(422, "validation", "the configured maximum is 1");
    let image = r#"{"script":"true","image":"python:3.13"}"#;
    accept(&service, A, image);
    let answer = send(&service, B, "POST", "/executions", image);
    answer.is_problem(
        422,
        "validation",
        "allowed images: docker.io/library/alpine:*",
    );
    accept(&service, B, r#"{"script":"true","image":"alpine:3"}"#);
    accept(&service, B, SMALLEST);
}

#[test]
fn a_flood_of_one_tenant_is_turned_away_and_concerns_no_other() {
    let service = service();
    let batch = json!({"executions": [{"script": "true"}]}).to_string();
    let slow = "token-of-slow-that-runs";
    accept(&service, slow, SMALLEST);
    accept(&service, slow, SMALLEST);
    for (uri, body) in [("/executions", SMALLEST), ("/executions:batch", &*batch)] {
        let answer = send(&service, slow, "POST", uri, body);
        answer.is_problem(429, "rate-limited", "2 executions a minute");
        assert_eq!(answer.header("retry-after"), Some("30"));
    }
    service.clock.advance(30);
    accept(&service, slow, SMALLEST);
    let small = "token-of-small-that-runs";
    // One has a place and one waits.
    let service = self::service();
    accept(&service, small, SMALLEST);
    accept(&service, small, SMALLEST);
    for (uri, body) in [("/executions", SMALLEST), ("/executions:batch", &*batch)] {
        let answer = send(&service, small, "POST", uri, body);
        answer.is_problem(429, "queue-full", "1 executions of this tenant");
        assert_eq!(answer.header("retry-after"), Some("5"));
    }
    let list = send(&service, small, "GET", "/executions", "").json();
    assert_eq!(ids(&list).len(), 2);
    let other = accept(&service, A, SMALLEST);
    let seen = send(&service, A, "GET", &format!("/executions/{other}"), "").json();
    assert_eq!(seen["queuePosition"], Value::Null, "it goes past them");
}
