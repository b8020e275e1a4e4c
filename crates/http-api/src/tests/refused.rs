//! The table of requests that are refused, whatever their route.

use serde_json::json;

use super::executions::SMALLEST;
use super::service::Service;

/// Method, URL, headers, body; then status, kind, and what the problem says.
type Case<'a> = (
    &'a str,
    &'a str,
    &'a [(&'a str, &'a str)],
    &'a str,
    u16,
    &'a str,
    &'a str,
);

#[test]
#[rustfmt::skip] // One line for each case reads as a table.
fn bad_requests_get_their_problems() {
    let service = Service::default();
    let long = "k".repeat(256);
    let text = [("content-type", "text/plain")];
    let latin = [("content-type", "application/json; charset=iso-8859-1")];
    let zipped = [("content-encoding", "gzip")];
    let id = "01890a5d-ac96-774b-bcce-b302099a8057";
    let logs = format!("/executions/{id}/logs");
    let events = [("accept", "text/event-stream")];
    let resumed = [("accept", "text/event-stream"), ("last-event-id", "7")];
    let cancel = format!("/executions/{id}/cancel");
    let one = format!("/executions/{id}");
    let cases: &[Case] = &[
        ("POST", "/executions", &[], "", 400, "invalid-json", "empty"),
        ("POST", "/executions", &[], "{", 400, "invalid-json", "EOF"),
        ("POST", "/executions", &[], "[]", 422, "validation", "The body must be an object"),
        ("POST", "/executions", &[], "{}", 422, "validation", "`/script` is required"),
        ("POST", "/executions", &[], r#"{"script":"x","scirpt":1}"#, 422, "validation", "did you mean `script`?"),
        ("POST", "/executions", &[], r#"{"script":"x","secretEnv":{}}"#, 422, "validation", "not supported yet"),
        ("POST", "/executions", &text, SMALLEST, 415, "unsupported-media-type", "application/json"),
        ("POST", "/executions", &latin, SMALLEST, 415, "unsupported-media-type", "iso-8859-1"),
        ("POST", "/executions", &zipped, SMALLEST, 415, "unsupported-media-type", "gzip"),
        ("POST", "/executions", &[("content-type", "multipart/form-data")], "", 415, "unsupported-media-type", ""),
        ("POST", "/executions", &[("content-type", "+json")], "", 415, "unsupported-media-type", ""),
        ("POST", "/executions", &[("idempotency-key", "")], SMALLEST, 400, "invalid-header", "1 to 255"),
        ("POST", "/executions", &[("idempotency-key", &long)], SMALLEST, 400, "invalid-header", "1 to 255"),
        ("POST", "/executions", &[("idempotency-key", "a b")], SMALLEST, 400, "invalid-header", "visible"),
        ("POST", "/executions", &[("idempotency-key", "é")], SMALLEST, 400, "invalid-header", "ASCII"),
        ("POST", "/executions", &[("idempotency-key", "a"), ("idempotency-key", "a")], SMALLEST, 400, "invalid-header", "once"),
        ("POST", "/executions?wait=61", &[], SMALLEST, 400, "invalid-query", "from 0 to 60"),
        ("POST", "/executions?wait=", &[], SMALLEST, 400, "invalid-query", "from 0 to 60"),
        ("POST", "/executions?wait=+1", &[], SMALLEST, 400, "invalid-query", "from 0 to 60"),
        ("POST", "/executions?wait=1.5", &[], SMALLEST, 400, "invalid-query", "from 0 to 60"),
        ("POST", "/executions?wait=1&wait=1", &[], SMALLEST, 400, "invalid-query", "more than once"),
        ("POST", "/executions?Wait=1", &[], SMALLEST, 400, "invalid-query", "did you mean `wait`?"),
        ("POST", "/executions?%zz=1", &[], SMALLEST, 400, "invalid-query", "percent-encoded"),
        ("POST", "/executions?wait=%ff", &[], SMALLEST, 400, "invalid-query", "percent-encoded"),
        ("POST", "/executions?dryRun=yes", &[], SMALLEST, 400, "invalid-query", "true or false"),
        ("POST", "/executions?dryRun", &[], SMALLEST, 400, "invalid-query", "true or false"),
        ("POST", "/executions?dryrun=true", &[], SMALLEST, 400, "invalid-query", "did you mean `dryRun`?"),
        ("POST", "/executions?dryRun=true", &[], "{}", 422, "validation", "`/script` is required"),
        ("POST", "/executions?dryRun=true&wait=61", &[], SMALLEST, 400, "invalid-query", "from 0 to 60"),
        ("POST", "/executions:batch", &[], "", 400, "invalid-json", "empty"),
        ("POST", "/executions:batch", &[], "[]", 422, "validation", "The body must be an object"),
        ("POST", "/executions:batch", &[], "{}", 422, "validation", "`/executions` is required"),
        ("POST", "/executions:batch", &[], r#"{"executions":{}}"#, 422, "validation", "array of executions"),
        ("POST", "/executions:batch", &[], r#"{"executions":[]}"#, 422, "validation", "1 to 500"),
        ("POST", "/executions:batch", &[], r#"{"executions":[7]}"#, 422, "validation", "`/executions/0` must be an object"),
        ("POST", "/executions:batch", &[], r#"{"items":[{"script":"x"}]}"#, 422, "validation", "no known field"),
        ("POST", "/executions:batch?wait=1", &[], "{}", 400, "invalid-query", "no known query parameter"),
        ("POST", "/executions:batch?dryRun=true", &[], "{}", 501, "not-implemented", "`dryRun` of a batch"),
        ("POST", "/executions:batch?dryRun=1", &[], "{}", 400, "invalid-query", "true or false"),
        ("POST", "/executions:batch", &text, "{}", 415, "unsupported-media-type", "application/json"),
        ("POST", "/executions:batch", &[("idempotency-key", "a b")], "{}", 400, "invalid-header", "visible"),
        ("GET", "/executions:batch", &[], "", 405, "method-not-allowed", "POST"),
        ("PUT", "/executions", &[], SMALLEST, 405, "method-not-allowed", "GET, HEAD, POST"),
        ("DELETE", "/executions", &[], "", 405, "method-not-allowed", "GET, HEAD, POST"),
        ("OPTIONS", "/executions", &[], "", 405, "method-not-allowed", "GET, HEAD, POST"),
        ("BREW", "/executions", &[], "", 405, "method-not-allowed", "BREW"),
        ("GET", "/executions?limit=0", &[], "", 400, "invalid-query", "from 1 to 200"),
        ("GET", "/executions?limit=201", &[], "", 400, "invalid-query", "from 1 to 200"),
        ("GET", "/executions?limit=ten", &[], "", 400, "invalid-query", "from 1 to 200"),
        ("GET", "/executions?status=queued", &[], "", 400, "invalid-query", "did you mean `QUEUED`?"),
        ("GET", "/executions?status=", &[], "", 400, "invalid-query", "QUEUED, RUNNING, FINISHED"),
        ("GET", "/executions?outcome=SUCCESS", &[], "", 400, "invalid-query", "did you mean `SUCCEEDED`?"),
        ("GET", "/executions?reason=OomKilled", &[], "", 400, "invalid-query", "did you mean `OOMKilled`?"),
        ("GET", "/executions?label=a", &[], "", 400, "invalid-query", "name=value"),
        ("GET", "/executions?label==b", &[], "", 400, "invalid-query", "name=value"),
        ("GET", "/executions?labels=a=b", &[], "", 400, "invalid-query", "did you mean `label`?"),
        ("GET", "/executions?createdAfter=yesterday", &[], "", 400, "invalid-query", "RFC 3339"),
        ("GET", "/executions?createdBefore=2026-02-30T00:00:00Z", &[], "", 400, "invalid-query", "RFC 3339"),
        ("GET", "/executions?createdAfter=2026-01-01T00:00:00+02:00", &[], "", 400, "invalid-query", "%2B"),
        ("GET", "/executions?cursor=x", &[], "", 400, "invalid-query", "`next`"),
        ("GET", "/executions?cursor=", &[], "", 400, "invalid-query", "`next`"),
        ("GET", "/executions?wait=1", &[], "", 400, "invalid-query", "no known query parameter"),
        ("GET", "/executions?limit=0&status=x&y=1", &[], "", 400, "invalid-query", "3 errors"),
        ("GET", "/executions/1", &[], "", 400, "invalid-id", "UUID"),
        ("GET", "/executions/01890a5dac96774bbcceb302099a8057", &[], "", 400, "invalid-id", "UUID"),
        ("GET", "/executions/%00", &[], "", 400, "invalid-id", "UUID"),
        ("GET", "/executions/1/logs", &[], "", 400, "invalid-id", "UUID"),
        ("GET", &one, &[], "", 404, "not-found", id),
        ("GET", &logs, &[], "", 404, "not-found", id),
        ("GET", &format!("{one}?wait=x"), &[], "", 400, "invalid-query", "wait"),
        ("GET", &format!("{one}?verbose=1"), &[], "", 400, "invalid-query", "verbose"),
        ("GET", &format!("{logs}?tail=-1"), &[], "", 400, "invalid-query", "tail"),
        ("GET", &format!("{logs}?tail=4294967296"), &[], "", 400, "invalid-query", "tail"),
        ("GET", &format!("{logs}?sinceSeconds=0"), &[], "", 400, "invalid-query", "sinceSeconds"),
        ("GET", &format!("{logs}?follow=yes"), &[], "", 400, "invalid-query", "true or false"),
        ("GET", &format!("{logs}?timestamps"), &[], "", 400, "invalid-query", "true or false"),
        ("GET", &format!("{logs}?tails=1"), &[], "", 400, "invalid-query", "did you mean `tail`?"),
        ("GET", &logs, &events, "", 404, "not-found", id),
        ("GET", &logs, &resumed, "", 400, "invalid-header", "Last-Event-ID"),
        ("GET", &format!("{logs}?tail=1"), &events, "", 400, "invalid-query", "tail"),
        ("POST", &logs, &[], "", 405, "method-not-allowed", "GET, HEAD"),
        ("POST", &one, &[], "", 405, "method-not-allowed", "GET, HEAD, DELETE"),
        ("PATCH", &one, &[], "{}", 405, "method-not-allowed", "GET, HEAD, DELETE"),
        ("DELETE", &one, &[], "", 404, "not-found", id),
        ("DELETE", "/executions/1", &[], "", 400, "invalid-id", "UUID"),
        ("DELETE", &format!("{one}?force=true"), &[], "", 400, "invalid-query", "force"),
        ("DELETE", &logs, &[], "", 405, "method-not-allowed", "GET, HEAD"),
        ("POST", &cancel, &[], "", 404, "not-found", id),
        ("POST", "/executions/1/cancel", &[], "", 400, "invalid-id", "UUID"),
        ("POST", &format!("{cancel}?force=true"), &[], "", 400, "invalid-query", "force"),
        ("GET", &cancel, &[], "", 405, "method-not-allowed", "POST"),
        ("DELETE", &cancel, &[], "", 405, "method-not-allowed", "POST"),
        ("GET", &format!("{one}/deliveries"), &[], "", 404, "not-found", id),
        ("GET", &format!("{one}/events"), &[], "", 404, "not-found", id),
        ("GET", &format!("{one}/events"), &events, "", 404, "not-found", id),
        ("GET", &format!("{one}/events?wait=1"), &[], "", 400, "invalid-query", "wait"),
        ("POST", &format!("{one}/events"), &[], "", 405, "method-not-allowed", "GET, HEAD"),
        ("GET", &format!("{one}/log"), &[], "", 404, "not-found", "nothing"),
        ("GET", "/", &[], "", 404, "not-found", "nothing"),
        ("GET", "/executions/", &[], "", 404, "not-found", "nothing"),
        ("GET", "/internal/tick", &[], "", 405, "method-not-allowed", "POST"),
        ("POST", "/internal/tick?budgetSeconds=301", &[], "", 400, "invalid-query", "from 0 to 300"),
        ("POST", "/internal/tick?budget=1", &[], "", 400, "invalid-query", "did you mean `budgetSeconds`?"),
        ("POST", "/readyz", &[], "", 405, "method-not-allowed", "GET, HEAD"),
        ("POST", "/executions/health", &[], "", 405, "method-not-allowed", "GET, HEAD"),
    ];
    for (method, uri, headers, body, status, slug, detail) in cases {
        println!("{method} {uri} {headers:?}");
        let answer = service.send(method, uri, headers, body);
        answer.is_problem(*status, slug, detail);
        let path = uri.split('?').next().expect("a path");
        assert_eq!(answer.json()["instance"], path);
        assert_eq!(answer.header("allow").is_some(), *status == 405);
    }
    assert_eq!(
        service.get("/executions").json()["items"],
        json!([]),
        "nothing was accepted"
    );
}
