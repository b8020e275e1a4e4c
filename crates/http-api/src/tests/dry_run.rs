//! `POST /executions?dryRun=true`.

use serde_json::json;

use super::executions::SMALLEST;
use super::service::{Answer, Service};

const URI: &str = "/executions?dryRun=true";
const POST_JOBS: &str = "POST /apis/batch/v1/namespaces/runs/jobs";
const CREATED: &str = r#"{"kind":"Job","metadata":{"name":"x","uid":"u","resourceVersion":""},"spec":{},"status":{}}"#;

/// What is answered when the API server answers the Job so.
fn tried(status: u16, body: &str) -> (Service, Answer) {
    let service = Service::default();
    let scripted = (POST_JOBS, status, body.to_owned());
    service.api_server.0.borrow_mut().push(scripted);
    let answer = service.post(URI, SMALLEST);
    assert!(answer.afterwards.is_none());
    (service, answer)
}

fn refusal(code: u16, reason: &str, message: &str) -> String {
    json!({"kind": "Status", "status": "Failure", "reason": reason, "code": code, "message": message}).to_string()
}

#[test]
fn what_would_be_accepted_is_shown_without_an_id() {
    let (service, answer) = tried(201, CREATED);
    assert_eq!(answer.status, 200, "{answer:?}");
    for name in ["location", "etag", "preference-applied"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    let shown = answer.json();
    let accepted = service.post("/executions", SMALLEST).json();
    assert_eq!(shown["id"], json!(null));
    assert_eq!(shown["status"], "QUEUED");
    assert_eq!(
        (&shown["waitingFor"], &shown["dispatchedAt"]),
        (&json!(null), &json!(null))
    );
    for member in ["resources", "timeouts", "image", "labels", "priority"] {
        assert_eq!(shown[member], accepted[member], "{member}");
    }
    let names = |value: &serde_json::Value| -> Vec<String> {
        value
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    assert_eq!(names(&shown), names(&accepted));
}

#[test]
fn nothing_is_kept_not_even_the_key() {
    let (service, _) = tried(201, CREATED);
    let headers = [("idempotency-key", "k"), ("prefer", "wait=9")];
    let before = app::Runtime::now(&service.clock);
    let answer = service.send("POST", URI, &headers, SMALLEST);
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (200, None)
    );
    assert_eq!(
        app::Runtime::now(&service.clock),
        before,
        "nothing is waited for"
    );
    assert_eq!(service.get("/executions").json()["items"], json!([]));
    let other = service.send(
        "POST",
        "/executions",
        &headers[..1],
        r#"{"script":"other"}"#,
    );
    assert_eq!(other.status, 201, "{other:?}");
    // And `false` is no dry run.
    assert_eq!(
        service.post("/executions?dryRun=false", SMALLEST).status,
        201
    );
}

#[test]
fn the_api_servers_refusals_are_told_in_its_words() {
    let quota =
        "jobs.batch \"x\" is forbidden: exceeded quota: runs, requested: count/jobs.batch=1";
    let webhook =
        "admission webhook \"policy.example.com\" denied the request: images must be signed";
    for (code, reason, message, expected, fault, retryable) in [
        (
            422,
            "Invalid",
            "Job.batch \"x\" is invalid: spec: no",
            "InvalidSpec",
            "request",
            false,
        ),
        (403, "Forbidden", quota, "QuotaExceeded", "cluster", true),
        (
            403,
            "Forbidden",
            "jobs.batch \"x\" is forbidden: not here",
            "AdmissionDenied",
            "cluster",
            false,
        ),
        (
            400,
            "BadRequest",
            webhook,
            "AdmissionDenied",
            "cluster",
            false,
        ),
    ] {
        let (_, answer) = tried(code, &refusal(code, reason, message));
        answer.is_problem(422, "cluster-refuses", "");
        let problem = answer.json();
        assert!(
            problem["detail"].as_str().expect("text").contains(message),
            "{problem}"
        );
        assert_eq!(problem["reason"], expected);
        assert_eq!(problem["fault"], fault);
        assert_eq!(problem["retryable"], retryable);
    }
}

#[test]
fn without_an_api_server_nobody_knows() {
    let service = Service::default();
    let answer = service.post(URI, SMALLEST);
    answer.is_problem(503, "unavailable", "");
    assert!(answer.header("retry-after").is_some());
    let (_, answer) = tried(500, &refusal(500, "InternalError", "etcd is away"));
    answer.is_problem(503, "unavailable", "");
    let user = "jobs.batch is forbidden: User \"x\" cannot create resource \"jobs\" in the namespace \"runs\"";
    let (_, answer) = tried(403, &refusal(403, "Forbidden", user));
    answer.is_problem(500, "internal", "its log says why");
    assert!(answer.failure.expect("for the log").contains(user));
}
