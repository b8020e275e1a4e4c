//! `GET /admin/audit`: every change and every refusal is in it, with who asked and from where, and no token.

use app::StoredLog;
use http::Method;
use serde_json::{Value, json};

use super::service::{Answer, Service};
use crate::routes::{Access, PATHS, route};

const SETTING: &str = r#"{"tokens": [
    {"name": "reader", "tenant": "a", "role": "read", "token": "token-of-a-that-reads"},
    {"name": "runner", "tenant": "a", "role": "run", "token": "token-of-a-that-runs"},
    {"name": "root", "role": "admin", "token": "token-that-may-do-all"}
]}"#;

const READER: &str = "token-of-a-that-reads";
const RUNNER: &str = "token-of-a-that-runs";
const ADMIN: &str = "token-that-may-do-all";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn service() -> Service {
    let secrets = r#"{"default":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
    Service::with_all(&[("tokens", SETTING), ("webhook_secrets", secrets)])
}

#[track_caller]
fn send(service: &Service, token: &str, method: &str, uri: &str, body: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let trace = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let headers = [
        ("authorization", &*bearer),
        ("spin-client-addr", "[::ffff:10.1.2.3]:4567"),
        ("traceparent", &*trace),
    ];
    service.clock.advance(1);
    service.send(method, uri, &headers, body)
}

#[track_caller]
fn audit(service: &Service, query: &str) -> Vec<Value> {
    let answer = send(service, ADMIN, "GET", &format!("/admin/audit{query}"), "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["items"].as_array().expect("items").clone()
}

#[test]
fn what_callers_change_is_noted_with_who_and_from_where() {
    let service = service();
    let body = r#"{"script":"echo the-secret-script","webhook":{"url":"https://example.org/"}}"#;
    let made = send(&service, RUNNER, "POST", "/executions", body);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let batch = r#"{"executions":[{"script":"true"},{"script":"true"}]}"#;
    send(&service, RUNNER, "POST", "/executions:batch", batch);
    let uri = format!("/executions/{id}");
    // What changes nothing is not noted: what is not finished, unknown, or only read.
    assert_eq!(send(&service, RUNNER, "DELETE", &uri, "").status, 409);
    assert_eq!(send(&service, READER, "GET", &uri, "").status, 200);
    let cancel = send(&service, RUNNER, "POST", &format!("{uri}/cancel"), "");
    assert_eq!(cancel.status, 202, "{}", cancel.text());
    service.finish(&id, 0, StoredLog::default());
    let again = format!("{uri}/deliveries/1/redeliver");
    assert_eq!(send(&service, RUNNER, "POST", &again, "").status, 202);
    assert_eq!(send(&service, RUNNER, "DELETE", &uri, "").status, 204);
    assert_eq!(send(&service, RUNNER, "DELETE", &uri, "").status, 404);
    let wish = r#"{"name":"for ci","tenant":"a","role":"run"}"#;
    let token = send(&service, ADMIN, "POST", "/admin/tokens", wish).json();
    let (text, token) = (&token["token"], token["id"].as_str().expect("an id"));
    let text = text.as_str().expect("a token");
    let mine = send(
        &service,
        text,
        "POST",
        "/executions",
        r#"{"script":"true"}"#,
    )
    .json();
    let place = format!("/admin/tokens/{token}");
    assert_eq!(send(&service, ADMIN, "DELETE", &place, "").status, 204);

    let records = audit(&service, "");
    let told: Vec<Value> = records
        .iter()
        .rev()
        .map(|r| {
            json!([
                r["action"],
                r["actor"],
                r["actorName"],
                r["tenant"],
                r["target"]
            ])
        })
        .collect();
    let mut expected = vec![json!(["execution.create", "runner", null, "a", id])];
    // A batch is a record for each.
    expected.extend([told[1].clone(), told[2].clone()]);
    for told in &told[1..3] {
        assert_eq!(told[0], "execution.create");
    }
    expected.extend([
        json!(["execution.cancel", "runner", null, "a", id]),
        json!(["delivery.create", "runner", null, "a", id]),
        json!(["execution.delete", "runner", null, "a", id]),
        json!(["token.create", "root", null, "default", token]),
        json!(["execution.create", token, "for ci", "a", mine["id"]]),
        json!(["token.revoke", "root", null, "default", token]),
    ]);
    assert_eq!(told, expected);
    for record in &records {
        assert_eq!(record["address"], "10.1.2.3", "{record}");
        assert_eq!(record["traceId"], TRACE, "{record}");
        assert_eq!(record["decision"], "allowed");
        assert_eq!(record["problem"], Value::Null);
    }
    let whole = Value::from(records).to_string();
    for secret in [text, RUNNER, ADMIN, "the-secret-script"] {
        assert!(!whole.contains(secret));
    }
}

#[test]
fn every_refusal_is_noted_on_every_route_and_none_by_its_token() {
    let unknown = "019c13b0-4e40-7abc-8def-0123456789ab";
    let mut asked = 0;
    for path in PATHS {
        let url = path
            .replace("{id}", unknown)
            .replace("{number}", "1")
            .replace("{token}", "tok-0123456789abcdef");
        for (method, access) in route(&url).offers() {
            if *access == Access::Everyone {
                continue;
            }
            asked += 1;
            let service = service();
            let wrong = send(&service, "this-is-nobodys-token", method, &url, "");
            assert_eq!(wrong.status, 401, "{method} {url}");
            // The same once more is not noted again.
            send(&service, "this-is-nobodys-token", method, &url, "");
            let less = send(&service, READER, method, &url, "");
            let is_less = less.status == 403;
            let records = audit(&service, "");
            let what = format!("{method} {url}: {records:?}");
            assert_eq!(records.len(), 1 + usize::from(is_less), "{what}");
            let last = records.last().expect("one");
            assert_eq!(last["decision"], "denied", "{what}");
            assert_eq!(last["problem"], "/problems/unauthorized", "{what}");
            assert_eq!(
                (&last["actor"], &last["tenant"]),
                (&Value::Null, &Value::Null)
            );
            assert_eq!(last["address"], "10.1.2.3");
            if url.contains(unknown) {
                assert_eq!(last["target"], unknown);
            }
            if is_less {
                let first = &records[0];
                assert_eq!(first["problem"], "/problems/forbidden", "{what}");
                assert_eq!(
                    (&first["actor"], &first["tenant"]),
                    (&json!("reader"), &json!("a"))
                );
                assert_eq!(first["action"], last["action"]);
            }
            assert!(!Value::from(records).to_string().contains("nobodys"));
        }
    }
    assert!(asked >= 16, "{asked}");
}

#[test]
fn a_flood_of_wrong_tokens_writes_little() {
    let service = service();
    for n in 0..200 {
        let from = format!("10.0.{}.{}:1", n % 7, n);
        let headers = [
            ("authorization", "Bearer wrong-wrong-wrong-wrong"),
            ("spin-client-addr", &*from),
        ];
        let answer = service.send("GET", "/executions", &headers, "");
        assert_eq!(answer.status, 401);
    }
    assert_eq!(audit(&service, "").len(), 20);
}

#[test]
fn what_cannot_be_noted_is_refused_all_the_same() {
    let service = service();
    audit(&service, "");
    service
        .sqlite
        .connection()
        .execute_batch("DROP TABLE audit")
        .expect("it drops");
    let wrong = send(&service, "this-is-nobodys-token", "GET", "/executions", "");
    wrong.is_problem(401, "unauthorized", "Nobody has this token");
    // What changes something is not done without its record.
    let wish = r#"{"name":"a","role":"run"}"#;
    let answer = send(&service, ADMIN, "POST", "/admin/tokens", wish);
    assert_eq!(answer.status, 500, "{}", answer.text());
    let tokens = send(&service, ADMIN, "GET", "/admin/tokens", "").json();
    assert_eq!(tokens["items"], json!([]));
}

#[test]
fn it_is_listed_by_filters_and_pages() {
    let service = service();
    for _ in 0..3 {
        send(
            &service,
            RUNNER,
            "POST",
            "/executions",
            r#"{"script":"true"}"#,
        );
    }
    send(
        &service,
        ADMIN,
        "POST",
        "/executions",
        r#"{"script":"true"}"#,
    );
    send(
        &service,
        READER,
        "POST",
        "/executions",
        r#"{"script":"true"}"#,
    );
    let every = audit(&service, "");
    assert_eq!(every.len(), 5);
    for (query, expected) in [
        ("?tenant=a", &every[..]),
        ("?actor=root", &every[1..2]),
        ("?tenant=default", &every[1..2]),
        ("?actor=reader", &every[..1]),
        ("?action=execution.delete", &[]),
        ("?action=execution.create&actor=runner", &every[2..]),
    ] {
        let expected: Vec<_> = expected
            .iter()
            .filter(|record| query != "?tenant=a" || record["tenant"] == "a")
            .cloned()
            .collect();
        assert_eq!(audit(&service, query), expected, "{query}");
    }
    let at = every[1]["at"].as_str().expect("a time");
    assert_eq!(audit(&service, &format!("?after={at}")), every[..1]);
    assert_eq!(audit(&service, &format!("?before={at}")), every[2..]);
    let mut uri = "/admin/audit?limit=2&action=execution.create".to_owned();
    let mut seen = Vec::new();
    loop {
        let answer = send(&service, ADMIN, Method::GET.as_str(), &uri, "");
        seen.extend(answer.json()["items"].as_array().expect("items").clone());
        let Some(link) = answer.header("link") else {
            break;
        };
        let (next, _) = link.split_once(">; rel=\"next\"").expect("next");
        uri = next.trim_start_matches('<').to_owned();
        assert!(uri.contains("action=execution.create"), "{uri}");
    }
    assert_eq!(seen, every);
    for (query, detail) in [
        ("?cursor=x", "must be the `next`"),
        ("?action=execution.think", "is no known action"),
        ("?tenant=A", "lowercase"),
        ("?decision=denied", "query parameter"),
    ] {
        let answer = send(&service, ADMIN, "GET", &format!("/admin/audit{query}"), "");
        answer.is_problem(400, "invalid-query", detail);
    }
}
