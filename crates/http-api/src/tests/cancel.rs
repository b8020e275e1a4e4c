//! `POST /executions/{id}/cancel`.

use app::StoredLog;
use serde_json::json;

use super::service::Service;
use crate::Afterwards;

const SCRIPT: &str = r#"{"script":"true"}"#;

#[test]
fn one_in_the_queue_is_canceled_at_once() {
    let service = Service::with("max_running", "1");
    service.accept(SCRIPT);
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}/cancel");
    let answer = service.post(&uri, "");
    let execution = answer.json();
    assert_eq!(
        (answer.status, &execution["status"], &execution["outcome"]),
        (202, &json!("FINISHED"), &json!("CANCELED"))
    );
    assert_eq!(execution["reason"], "CanceledByCaller");
    assert_eq!(execution["fault"], json!(null));
    assert!(answer.afterwards.is_none(), "nothing is left to do");
    assert_eq!(execution, service.get(&format!("/executions/{id}")).json());
    service
        .post(&uri, "")
        .is_problem(409, "finished", "CANCELED (CanceledByCaller)");
    let logs = service.get(&format!("/executions/{id}/logs"));
    assert_eq!(
        (logs.status, logs.header("x-log-complete")),
        (200, Some("true"))
    );
}

#[test]
fn one_with_a_job_is_noted_and_carried_out_after_the_first_answer() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    let uri = format!("/executions/{id}/cancel");
    let first = service.post(&uri, r#"{"any":"body"}"#);
    let execution = first.json();
    assert_eq!(
        (first.status, &execution["status"]),
        (202, &json!("QUEUED"))
    );
    assert_eq!(
        execution["cancelRequestedAt"],
        "2026-01-31T12:00:00.000042Z"
    );
    assert_eq!(execution["waitingFor"], "it is being canceled");
    assert!(matches!(first.afterwards, Some(Afterwards::Cancel(_))));
    let second = service.post(&uri, "");
    assert_eq!((second.status, second.json()), (202, execution));
    assert_eq!(second.header("etag"), first.header("etag"));
    assert!(second.afterwards.is_none());
}

#[test]
fn a_finished_one_says_how_it_ended() {
    let service = Service::default();
    let id = service.accept(SCRIPT);
    service.finish(&id, 42, StoredLog::default());
    let answer = service.post(&format!("/executions/{id}/cancel"), "");
    answer.is_problem(409, "finished", "FAILED (NonZeroExit)");
    let problem = answer.json();
    assert_eq!(
        (&problem["outcome"], &problem["reason"]),
        (&json!("FAILED"), &json!("NonZeroExit"))
    );
}
