//! The same client for the objects of another namespace: every path that has one.

use super::*;
use crate::fake::{FakeTransport, answer, client, ready};

const JOB: &str = r#"{"kind":"Job","metadata":{"name":"x-1","uid":"u1","resourceVersion":"5"},"spec":{},"status":{}}"#;

/// Everything that is about a namespace is about the one that is asked for, and nothing of it is about the other.
#[test]
fn another_namespace_is_in_every_path_that_has_one() {
    let transport = FakeTransport::answering((0..14).map(|_| answer(404, "{}")));
    let client = client(&transport);
    let other = client.within("billing-runs");
    let event = JobEvent {
        name: "e".to_owned(),
        job_name: "x-1".to_owned(),
        job_uid: "u1".to_owned(),
        reason: "Waiting".to_owned(),
        message: String::new(),
        at: Timestamp::UNIX_EPOCH,
        is_warning: false,
    };
    let seen: JobObservation = serde_json::from_str::<wire::Job>(JOB)
        .expect("a Job")
        .into();
    let timeout = Duration::from_secs(9);
    ready(async {
        let _ = other.create_job(&Job::default()).await;
        let _ = other.try_job(&Job::default()).await;
        let _ = other.create_config_map(&ConfigMap::default()).await;
        let _ = other.get_job("x-1").await;
        let _ = other.unsuspend_job("x-1").await;
        let _ = other.halt_job(&seen, Timestamp::UNIX_EPOCH).await;
        let _ = other.delete_job("x-1", None, Propagation::Background).await;
        let _ = other.list_jobs("", 1, None).await;
        let _ = other.list_pods("", 1, None).await;
        let _ = other.pods_of_job("x-1").await;
        let _ = other.watch_pods("", "7", timeout).await;
        let _ = other.read_log("x-1-a", &LogOptions::default()).await;
        let _ = other.list_events_of("u1").await;
        let _ = other.create_event(&event).await;
    });
    let sent = transport.take_sent();
    assert_eq!(sent.len(), 14);
    for (request, _) in &sent {
        let path = request.uri().path();
        assert!(path.contains("/namespaces/billing-runs/"), "{path}");
        assert_eq!(request.headers()["authorization"], "Bearer t0k3n");
    }
    let told = String::from_utf8_lossy(sent[13].0.body());
    assert_eq!(told.matches("\"namespace\":\"billing-runs\"").count(), 2);
    assert_eq!(client.config().namespace(), "runs");
    // What is no name never becomes a path.
    let strange = client.within("a/../b");
    let refused = ready(strange.get_job("x-1"));
    assert!(matches!(refused, Err(Error::BadInput(_))), "{refused:?}");
}
