//! Each call by its method, URI, headers, body and timeouts, and what becomes of the answer.

use super::*;
use crate::fake::{FakeBody, FakeTransport, answer, answer_with, client, ready};

const JOB: &str = r#"{"kind":"Job","metadata":{"name":"x-1","uid":"u1","resourceVersion":"5"},"spec":{"suspend":true},"status":{}}"#;

/// The one request that a call sends, given that the answer is `body`.
fn sent<R>(
    status: u16,
    body: &str,
    call: impl AsyncFnOnce(&Client<&FakeTransport>) -> R,
) -> (R, http::Request<Vec<u8>>, Timeouts) {
    let transport = FakeTransport::answering([answer(status, body)]);
    let result = ready(call(&client(&transport)));
    let mut requests = transport.take_sent();
    assert_eq!(requests.len(), 1);
    let (request, timeouts) = requests.remove(0);
    assert_eq!(request.headers()["authorization"], "Bearer t0k3n");
    assert!(
        request.headers()["user-agent"]
            .to_str()
            .expect("text")
            .starts_with("executor/")
    );
    (result, request, timeouts)
}

fn check(
    request: &http::Request<Vec<u8>>,
    method: &str,
    uri: &str,
    accept: &str,
    content_type: Option<&str>,
    body: &str,
) {
    assert_eq!(request.method(), method);
    assert_eq!(
        request.uri().to_string(),
        format!("https://cluster:6443{uri}")
    );
    assert_eq!(request.headers()["accept"], accept);
    assert_eq!(
        request
            .headers()
            .get("content-type")
            .map(|v| v.to_str().expect("text")),
        content_type
    );
    assert_eq!(std::str::from_utf8(request.body()).expect("text"), body);
}

const JSON: &str = "application/json";

#[test]
fn create_job() {
    let (job, request, timeouts) = sent(201, JOB, async |c| c.create_job(&Job::default()).await);
    let job = job.expect("created");
    assert_eq!((job.uid.as_str(), job.suspended), ("u1", true));
    let body = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{}}"#;
    check(
        &request,
        "POST",
        "/apis/batch/v1/namespaces/runs/jobs",
        JSON,
        Some(JSON),
        body,
    );
    assert_eq!(timeouts, Timeouts::CALL);
}

#[test]
fn create_config_map() {
    let (result, request, _) = sent(201, "{}", async |c| {
        c.create_config_map(&ConfigMap::default()).await
    });
    result.expect("created");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#;
    check(
        &request,
        "POST",
        "/api/v1/namespaces/runs/configmaps",
        JSON,
        Some(JSON),
        body,
    );
}

#[test]
fn a_try_keeps_nothing() {
    let (job, request, timeouts) = sent(201, JOB, async |c| c.try_job(&Job::default()).await);
    assert_eq!(job.expect("it would be created").uid, "u1");
    let body = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{}}"#;
    let uri = "/apis/batch/v1/namespaces/runs/jobs?dryRun=All";
    check(&request, "POST", uri, JSON, Some(JSON), body);
    assert_eq!(timeouts, Timeouts::CALL);
    let (result, request, _) = sent(201, "{}", async |c| {
        c.try_config_map(&ConfigMap::default()).await
    });
    result.expect("it would be created");
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{}}"#;
    let uri = "/api/v1/namespaces/runs/configmaps?dryRun=All";
    check(&request, "POST", uri, JSON, Some(JSON), body);
}

#[test]
fn get_and_unsuspend_job() {
    let (job, request, _) = sent(200, JOB, async |c| c.get_job("x-1").await);
    assert_eq!(job.expect("there").name, "x-1");
    check(
        &request,
        "GET",
        "/apis/batch/v1/namespaces/runs/jobs/x-1",
        JSON,
        None,
        "",
    );
    let (job, request, _) = sent(200, JOB, async |c| c.unsuspend_job("x-1").await);
    job.expect("there");
    let merge = Some("application/merge-patch+json");
    check(
        &request,
        "PATCH",
        "/apis/batch/v1/namespaces/runs/jobs/x-1",
        JSON,
        merge,
        r#"{"spec":{"suspend":false}}"#,
    );
}

#[test]
fn a_job_is_halted_as_it_was_seen() {
    let (seen, _, _) = sent(200, JOB, async |c| c.get_job("x-1").await);
    let seen = seen.expect("there");
    let until = "2026-01-02T03:04:05Z".parse().expect("a time");
    let (halted, request, _) = sent(200, JOB, async |c| c.halt_job(&seen, until).await);
    halted.expect("halted");
    check(
        &request,
        "PATCH",
        "/apis/batch/v1/namespaces/runs/jobs/x-1",
        JSON,
        Some("application/merge-patch+json"),
        r#"{"metadata":{"annotations":{"executor.dev/name-held-until":"2026-01-02T03:04:05Z"},"resourceVersion":"5"},"spec":{"parallelism":0,"suspend":true}}"#,
    );
}

#[test]
fn delete_job_always_says_what_becomes_of_its_pods() {
    for (uid, propagation, body) in [
        (
            Some("u1"),
            Propagation::Background,
            r#"{"propagationPolicy":"Background","preconditions":{"uid":"u1"}}"#,
        ),
        (
            None,
            Propagation::Foreground,
            r#"{"propagationPolicy":"Foreground"}"#,
        ),
    ] {
        let (result, request, _) = sent(200, "{}", async |c| {
            c.delete_job("x-1", uid, propagation).await
        });
        result.expect("deleted");
        check(
            &request,
            "DELETE",
            "/apis/batch/v1/namespaces/runs/jobs/x-1",
            JSON,
            Some(JSON),
            body,
        );
    }
}

#[test]
fn lists_come_in_pages() {
    let body = r#"{"kind":"JobList","metadata":{"resourceVersion":"9","continue":"abc","remainingItemCount":1},"items":[{"metadata":{"name":"x-1"}}]}"#;
    let (page, request, _) = sent(200, body, async |c| {
        c.list_jobs(MANAGED_SELECTOR, 500, None).await
    });
    let page = page.expect("a page");
    assert_eq!(
        (
            page.items.len(),
            page.resource_version.as_str(),
            page.continue_token.as_deref()
        ),
        (1, "9", Some("abc"))
    );
    let selector = "labelSelector=app.kubernetes.io%2Fmanaged-by%3Dexecutor";
    check(
        &request,
        "GET",
        &format!("/apis/batch/v1/namespaces/runs/jobs?{selector}&limit=500"),
        JSON,
        None,
        "",
    );
    let body = r#"{"metadata":{"resourceVersion":"9","continue":""},"items":null}"#;
    let (page, request, _) = sent(200, body, async |c| {
        c.list_pods(MANAGED_SELECTOR, 5, Some("a/b=")).await
    });
    assert_eq!(page.expect("a page").continue_token, None);
    check(
        &request,
        "GET",
        &format!("/api/v1/namespaces/runs/pods?{selector}&limit=5&continue=a%2Fb%3D"),
        JSON,
        None,
        "",
    );
}

#[test]
fn a_page_that_is_too_large_is_asked_for_in_smaller_pieces() {
    let large = || {
        answer_with(
            200,
            &[],
            FakeBody::in_pieces(&vec![b' '; PAGE_LIMIT_BYTES + 1], 1 << 20),
        )
    };
    let transport = FakeTransport::answering([
        large(),
        large(),
        answer(200, r#"{"metadata":{"resourceVersion":"1"},"items":[]}"#),
    ]);
    ready(client(&transport).list_jobs("a=b", 500, None)).expect("the third fits");
    let limits: Vec<_> = transport
        .take_sent()
        .iter()
        .map(|(r, _)| r.uri().query().unwrap_or("").to_owned())
        .collect();
    assert_eq!(
        limits,
        [
            "labelSelector=a%3Db&limit=500",
            "labelSelector=a%3Db&limit=62",
            "labelSelector=a%3Db&limit=7"
        ]
    );
    let transport = FakeTransport::answering([large()]);
    let error =
        ready(client(&transport).list_jobs("a=b", 1, None)).expect_err("cannot be made smaller");
    assert!(matches!(
        error,
        Error::BodyTooLarge {
            limit_bytes: PAGE_LIMIT_BYTES
        }
    ));
}

#[test]
fn create_event() {
    let event = crate::JobEvent {
        name: "x-1.2.0".to_owned(),
        job_name: "x-1".to_owned(),
        job_uid: "u-1".to_owned(),
        reason: "TimedOut".to_owned(),
        message: "é".repeat(2_000),
        at: "2026-01-31T12:00:00.25Z".parse().expect("a time"),
        is_warning: true,
    };
    let (created, request, _) = sent(201, "{}", async |c| c.create_event(&event).await);
    created.expect("created");
    assert_eq!(request.method(), "POST");
    assert_eq!(
        request.uri().to_string(),
        "https://cluster:6443/api/v1/namespaces/runs/events"
    );
    let body: serde_json::Value = serde_json::from_slice(request.body()).expect("JSON");
    let involved = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job", "namespace": "runs", "name": "x-1", "uid": "u-1"});
    assert_eq!(body["involvedObject"], involved);
    assert_eq!(body["metadata"]["name"], "x-1.2.0");
    assert_eq!(body["metadata"]["namespace"], "runs");
    assert_eq!(
        (&body["type"], &body["reason"]),
        (&"Warning".into(), &"TimedOut".into())
    );
    assert_eq!(body["firstTimestamp"], "2026-01-31T12:00:00Z");
    assert_eq!(body["source"]["component"], "executor");
    assert_eq!(body["message"].as_str().map(str::len), Some(1_024));
}

#[test]
fn pods_and_events_of_one_job() {
    let (pods, request, _) = sent(200, r#"{"items":[]}"#, async |c| c.pods_of_job("x-1").await);
    assert_eq!(pods.expect("a list"), []);
    check(
        &request,
        "GET",
        "/api/v1/namespaces/runs/pods?labelSelector=job-name%3Dx-1&limit=16",
        JSON,
        None,
        "",
    );
    let body = r#"{"items":[{"type":"Warning","reason":"FailedCreate","message":"exceeded quota","count":3,"eventTime":null,
        "lastTimestamp":"2026-01-02T03:04:05Z","source":{"component":"job-controller"},"reportingComponent":""},
        {"type":"Normal","reason":"SuccessfulCreate","source":{},"reportingComponent":"job-controller","eventTime":"2026-01-02T03:04:05.123456Z"}]}"#;
    let (events, request, _) = sent(200, body, async |c| c.list_events_of("u-1").await);
    let events = events.expect("a list");
    assert_eq!(
        (events[0].reason.as_str(), events[0].count),
        ("FailedCreate", 3)
    );
    assert_eq!(events[1].count, 1);
    assert!(events.iter().all(|event| {
        event.last_seen.is_some() && event.first_seen.is_some() && event.source == "job-controller"
    }));
    check(
        &request,
        "GET",
        "/api/v1/namespaces/runs/events?fieldSelector=involvedObject.uid%3Du-1&limit=100",
        JSON,
        None,
        "",
    );
}

#[test]
fn watches_have_bookmarks_and_an_end() {
    let query = "watch=true&timeoutSeconds=9&labelSelector=a%3Db&allowWatchBookmarks=true&resourceVersion=7";
    let event = "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x-1\",\"resourceVersion\":\"8\"}}}\n";
    let (stream, request, timeouts) = sent(200, event, async |c| {
        c.watch_jobs("a=b", "7", Duration::from_millis(9900)).await
    });
    let mut stream = stream.expect("a watch");
    assert!(ready(stream.next()).expect("an event").is_some());
    assert_eq!(stream.resource_version(), "8");
    check(
        &request,
        "GET",
        &format!("/apis/batch/v1/namespaces/runs/jobs?{query}"),
        JSON,
        None,
        "",
    );
    assert_eq!(timeouts.between_bytes, Duration::from_secs(14));
    let (_, request, timeouts) = sent(200, "", async |c| {
        c.watch_pods("a=b", "7", Duration::from_secs(4000))
            .await
            .map(|_| ())
    });
    assert!(request.uri().path().ends_with("/pods"));
    assert!(
        request
            .uri()
            .query()
            .expect("a query")
            .contains("timeoutSeconds=290&")
    );
    assert!(
        timeouts.between_bytes > Duration::from_secs(60),
        "bookmarks come once a minute"
    );
}

#[test]
fn a_log_is_read_on_from_a_time() {
    let options = LogOptions {
        since_time: Some("2026-01-02T03:04:05Z".parse().expect("a time")),
        since_seconds: Some(8),
        ..LogOptions::default()
    };
    let (_, request, _) = sent(200, "", async |c| {
        c.read_log("x-1-abcde", &options).await.expect("a log");
    });
    let query = request.uri().query().unwrap_or_default();
    assert_eq!(query, "container=script&sinceTime=2026-01-02T03%3A04%3A05Z");
}

#[test]
fn logs_come_untouched() {
    let transport = FakeTransport::answering([answer_with(
        200,
        &[],
        FakeBody::in_pieces(b"a\xff\0\r\nb", 2),
    )]);
    let options = LogOptions {
        follow: true,
        tail_lines: Some(9),
        since_seconds: Some(8),
        since_time: None,
        timestamps: true,
        limit_bytes: Some(7),
        container: None,
    };
    let mut stream = ready(client(&transport).read_log("x-1-abcde", &options)).expect("a log");
    let mut log = Vec::new();
    while let Some(chunk) = ready(stream.chunk()).expect("a chunk") {
        log.extend_from_slice(&chunk);
    }
    assert_eq!(log, b"a\xff\0\r\nb");
    let (request, timeouts) = transport.take_sent().remove(0);
    let query =
        "container=script&follow=true&limitBytes=7&sinceSeconds=8&tailLines=9&timestamps=true";
    check(
        &request,
        "GET",
        &format!("/api/v1/namespaces/runs/pods/x-1-abcde/log?{query}"),
        "*/*",
        None,
        "",
    );
    assert_eq!(timeouts, Timeouts::FOLLOW);
    let (_, request, timeouts) = sent(200, "", async |c| {
        c.read_log("p", &LogOptions::default()).await.map(|_| ())
    });
    check(
        &request,
        "GET",
        "/api/v1/namespaces/runs/pods/p/log?container=script",
        "*/*",
        None,
        "",
    );
    assert_eq!(timeouts, Timeouts::LOG);
}

#[test]
fn readiness() {
    let (result, request, _) = sent(200, "ok", async |c| c.ready().await);
    result.expect("ready");
    check(&request, "GET", "/readyz", "*/*", None, "");
    let (result, ..) = sent(
        401,
        r#"{"kind":"Status","code":401,"reason":"Unauthorized","message":"Unauthorized"}"#,
        async |c| c.ready().await,
    );
    assert!(matches!(result, Err(Error::Unauthorized { .. })));
}

#[test]
fn names_cannot_reach_other_paths() {
    let transport = FakeTransport::default();
    let client = client(&transport);
    for name in ["", "..", "a/b", "a?b", "a b", "a%2fb", "a,b=c", "é"] {
        assert!(
            matches!(ready(client.get_job(name)), Err(Error::BadInput(_))),
            "{name}"
        );
        assert!(
            matches!(ready(client.pods_of_job(name)), Err(Error::BadInput(_))),
            "{name}"
        );
    }
    assert!(transport.take_sent().is_empty());
}
