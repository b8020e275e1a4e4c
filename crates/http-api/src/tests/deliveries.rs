//! `/executions/{id}/deliveries`, and the field `webhook`. The attempts themselves are tested in `app`.

use app::StoredLog;
use serde_json::{Value, json};

use super::service::Service;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn service() -> Service {
    let secrets = json!({"default": SECRET, "other.team": SECRET});
    Service::with("webhook_secrets", &secrets.to_string())
}

fn script(webhook: Value) -> String {
    json!({"script": "true", "webhook": webhook}).to_string()
}

#[test]
fn a_delivery_appears_with_the_end_and_can_be_repeated() {
    let service = service();
    let id = service.accept(&script(
        json!({"url": "https://example.org/hook?key=hidden"}),
    ));
    let uri = format!("/executions/{id}/deliveries");
    assert_eq!(service.get(&uri).json(), json!({"items": []}));
    let again = format!("{uri}/1/redeliver");
    let detail = "has no delivery 1";
    service
        .post(&again, "")
        .is_problem(404, "not-found", detail);
    service.finish(&id, 0, StoredLog::default());
    let first = json!({"number": 1, "state": "PENDING", "createdAt": "2026-01-31T12:00:00.000042Z",
        "nextAttemptAt": "2026-01-31T12:00:00.000042Z", "attempts": []});
    assert_eq!(service.get(&uri).json(), json!({"items": [first]}));
    let answer = service.post(&again, "");
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json(), json!({"number": 2, "state": "PENDING"}));
    assert_eq!(answer.header("location"), Some(uri.as_str()));
    let items = service.get(&uri).json()["items"].clone();
    assert_eq!(items[0]["state"], "REPLACED");
    assert_eq!(items[0]["nextAttemptAt"], Value::Null);
    assert_eq!(
        (&items[1]["number"], &items[1]["state"]),
        (&json!(2), &json!("PENDING"))
    );
    assert_eq!(service.send("HEAD", &uri, &[], "").status, 200);
    for shown in [service.get(&uri), service.get(&format!("/executions/{id}"))] {
        assert!(!shown.text().contains("hidden"), "{shown:?}");
    }
}

#[test]
fn attempts_are_shown() {
    let service = service();
    let id = service.accept(&script(json!({"url": "https://example.org/"})));
    service.finish(&id, 0, StoredLog::default());
    let insert = format!(
        "INSERT INTO delivery_attempts VALUES ('{id}', 1, 1, 1769860800000042, 250000, NULL, 'no answer')"
    );
    let connection = service.sqlite.connection();
    connection.execute_batch(&insert).expect("valid SQL");
    let items = service.get(&format!("/executions/{id}/deliveries")).json();
    assert_eq!(
        items["items"][0]["attempts"],
        json!([{"number": 1, "startedAt": "2026-01-31T12:00:00.000042Z", "durationSeconds": 0.25,
            "statusCode": null, "error": "no answer"}])
    );
}

#[test]
#[rustfmt::skip] // One line for each case reads as a table.
fn what_is_not_there_cannot_be_repeated() {
    let service = service();
    let id = service.accept(&script(json!({"url": "https://example.org/"})));
    service.finish(&id, 0, StoredLog::default());
    let one = format!("/executions/{id}");
    for (method, uri, status, slug) in [
        ("GET", format!("/executions/{NOBODY}/deliveries"), 404, "not-found"),
        ("GET", "/executions/1/deliveries".to_owned(), 400, "invalid-id"),
        ("GET", format!("{one}/deliveries?limit=1"), 400, "invalid-query"),
        ("GET", format!("{one}/deliveries/1"), 404, "not-found"),
        ("POST", format!("{one}/deliveries"), 405, "method-not-allowed"),
        ("GET", format!("{one}/deliveries/1/redeliver"), 405, "method-not-allowed"),
        ("POST", format!("{one}/deliveries/0/redeliver"), 404, "not-found"),
        ("POST", format!("{one}/deliveries/2/redeliver"), 404, "not-found"),
        ("POST", format!("{one}/deliveries/+1/redeliver"), 404, "not-found"),
        ("POST", format!("{one}/deliveries/x/redeliver"), 404, "not-found"),
        ("POST", format!("{one}/deliveries/4294967296/redeliver"), 404, "not-found"),
        ("POST", format!("{one}/deliveries/1/redeliver?now=1"), 400, "invalid-query"),
        ("POST", format!("/executions/{NOBODY}/deliveries/1/redeliver"), 404, "not-found"),
        ("POST", "/executions/1/deliveries/1/redeliver".to_owned(), 400, "invalid-id"),
    ] {
        println!("{method} {uri}");
        service.send(method, &uri, &[], "").is_problem(status, slug, "");
    }
    for _ in 1..app::MAX_DELIVERIES {
        assert_eq!(service.post(&format!("{one}/deliveries/1/redeliver"), "").status, 202);
    }
    let answer = service.post(&format!("{one}/deliveries/1/redeliver"), "");
    answer.is_problem(409, "too-many-deliveries", "100");
}

#[test]
#[rustfmt::skip] // One line for each case reads as a table.
fn bad_webhooks_are_refused_with_their_place() {
    let service = service();
    for (webhook, pointer, detail) in [
        (json!("https://example.org"), "/webhook", "must be an object"),
        (json!({}), "/webhook/url", "is required"),
        (json!({"url": 7}), "/webhook/url", "must be a string"),
        (json!({"url": "example.org"}), "/webhook/url", "https://host/path"),
        (json!({"url": "http://example.org/"}), "/webhook/url", "https://"),
        (json!({"url": "https://10.0.0.1/"}), "/webhook/url", "inner host"),
        (json!({"url": "https://example.org/", "secretRef": "unknown"}), "/webhook/secretRef", "no configured secret"),
        (json!({"url": "https://example.org/", "secretRef": ["a"]}), "/webhook/secretRef", "must be a string"),
        (json!({"url": "https://example.org/", "secret": SECRET}), "/webhook/secret", "secretRef"),
    ] {
        let answer = service.post("/executions", &script(webhook));
        answer.is_problem(422, "validation", detail);
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer, "{answer:?}");
        assert_eq!(answer.json()["errors"].as_array().map(Vec::len), Some(1), "{answer:?}");
    }
    let good = json!({"url": "https://example.org/", "secretRef": "other.team"});
    service.accept(&script(good));
    let unsigned = Service::default();
    let answer = unsigned.post("/executions", &script(json!({"url": "https://example.org/"})));
    answer.is_problem(422, "validation", "no secret named `default`");
}
