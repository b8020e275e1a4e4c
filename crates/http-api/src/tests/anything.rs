//! Requests made by chance: whatever comes, an answer goes out, and it is no 500.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::chance::Chance;
use super::service::Service;

const URIS: &[&str] = &[
    "/executions",
    "/executions?wait=0",
    "/executions?dryRun=false",
    "/executions?status=QUEUED&outcome=FAILED&reason=Lost&label=a=b&limit=3",
    "/executions?createdAfter=2026-01-01T00:00:00Z&createdBefore=2026-01-01T00:00:00%2B02:00",
    "/executions?cursor=AQAGA-TqS8AAAAAAAAAAAAAAAAAAAAAAAA",
    "/executions/01890a5d-ac96-774b-bcce-b302099a8057?wait=0",
    "/executions/01890a5d-ac96-774b-bcce-b302099a8057/logs?tail=1&sinceSeconds=2&timestamps=true&follow=false",
    "/executions:batch",
    "/executions/health",
    "/internal/tick?budgetSeconds=0",
];

const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/json; charset=utf-8"),
    ("content-length", "17"),
    ("idempotency-key", "key"),
    ("prefer", "respond-async, wait=0"),
    ("if-none-match", "W/\"1-2\", \"x\", *"),
    ("accept", "text/plain"),
    ("authorization", "Bearer x"),
];

#[test]
fn whatever_comes_is_answered() {
    let mut chance = Chance::from_environment();
    let service = Service::with("tick_token", "never guessed");
    let (mut good, mut bad) = (0, 0);
    for _ in 0..5_000 {
        let mut uri = chance.pick(URIS).as_bytes().to_vec();
        if chance.below(4) > 0 {
            chance.mutate(&mut uri);
        }
        let Ok(uri) = Uri::from_maybe_shared(uri) else {
            continue;
        };
        let bodies = [
            r#"{"script":"true"}"#,
            r#"{"executions":[{"script":"true"},{"script":"false"}]}"#,
        ];
        let mut body = chance.pick(&bodies).as_bytes().to_vec();
        if chance.below(4) == 0 {
            chance.mutate(&mut body);
        }
        let mut request = Request::new(Some(Bytes::from(body)));
        let methods = [
            Method::GET,
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::DELETE,
        ];
        *request.method_mut() = chance.pick(&methods).clone();
        *request.uri_mut() = uri;
        for _ in 0..chance.below(3) {
            let (name, value) = chance.pick(HEADERS);
            let mut value = value.as_bytes().to_vec();
            if chance.below(2) == 0 {
                chance.mutate(&mut value);
            }
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request
                    .headers_mut()
                    .append(HeaderName::from_static(name), value);
            }
        }
        let shown = format!("{request:?}");
        let answer = service.send_body(request);
        match answer.status {
            200 | 201 | 304 => good += 1,
            400..=499 | 501 => bad += 1,
            _ => panic!("{shown}: {answer:?}"),
        }
    }
    assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
}
