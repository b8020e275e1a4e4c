//! What goes with every request, and what becomes of an answer that is none.

use super::RETRY_AFTER_LIMIT;
use crate::client::*;
use crate::fake::{FakeBody, FakeTransport, answer, answer_with, client, ready};
use crate::transport::TransportError;

const JOB: &str = r#"{"kind":"Job","metadata":{"name":"x-1","uid":"u1"}}"#;

#[test]
fn a_refusal_is_told_even_when_its_body_breaks_off() {
    let broken = FakeBody::in_pieces(b"{\"kind\":\"Status\",", 4).then_breaks();
    let transport = FakeTransport::answering([answer_with(429, &[("Retry-After", "2")], broken)]);
    let error = ready(client(&transport).get_job("x-1")).expect_err("refused");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(2)));
    for (value, pause) in [
        ("86400", Some(RETRY_AFTER_LIMIT)),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
    ] {
        let transport = FakeTransport::answering([answer_with(
            503,
            &[("Retry-After", value)],
            FakeBody::default(),
        )]);
        assert_eq!(
            ready(client(&transport).get_job("x-1"))
                .expect_err("refused")
                .retry_after(),
            pause,
            "{value}"
        );
    }
}

#[test]
fn a_lost_answer_is_no_refusal() {
    let lost = answer_with(
        201,
        &[],
        FakeBody::in_pieces(b"{\"metadata\":", 4).then_breaks(),
    );
    for (reply, definite) in [
        (lost, false),
        (answer(201, "not JSON"), false),
        (Err(TransportError::Unknown("reset".to_owned())), false),
        (Err(TransportError::NotSent("refused".to_owned())), true),
    ] {
        let transport = FakeTransport::answering([reply]);
        let error = ready(client(&transport).create_job(&Job::default())).expect_err("lost");
        assert_eq!(error.is_definite(), definite, "{error:?}");
    }
}

#[test]
fn the_token_is_trimmed_hidden_and_optional() {
    let config = ClientConfig::new(
        "http://h/k8s/clusters/c-1/",
        "runs",
        Some(" s3cret\n".to_owned()),
    );
    assert!(!format!("{config:?}").contains("s3cret"));
    let transport = FakeTransport::answering([answer(200, JOB), answer(200, JOB)]);
    ready(Client::new(config, &transport).get_job("x-1")).expect("there");
    ready(
        Client::new(
            ClientConfig::new("http://h", "runs", Some("\n".to_owned())),
            &transport,
        )
        .get_job("x-1"),
    )
    .expect("there");
    let sent = transport.take_sent();
    assert_eq!(sent[0].0.headers()["authorization"], "Bearer s3cret");
    assert!(!format!("{:?}", sent[0].0).contains("s3cret"));
    assert_eq!(
        sent[0].0.uri(),
        "http://h/k8s/clusters/c-1/apis/batch/v1/namespaces/runs/jobs/x-1"
    );
    assert_eq!(sent[1].0.headers().get("authorization"), None);
    let bad = ClientConfig::new("http://h", "runs", Some("a\nb".to_owned()));
    assert!(matches!(
        ready(Client::new(bad, &transport).get_job("x-1")),
        Err(Error::BadInput(_))
    ));
}

#[test]
fn requests_of_a_trace_say_so() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let transport = FakeTransport::answering((0..3).map(|_| answer(404, "{}")));
    let client = client(&transport);
    let traced = client.within("runs").traced(traceparent);
    ready(async {
        traced.get_job("x").await.expect_err("404");
        client.get_job("x").await.expect_err("404");
        // What no header can carry is left out.
        let broken = client.within("runs").traced("a\nb");
        broken.get_job("x").await.expect_err("404");
    });
    let sent = transport.take_sent();
    let header = |n: usize| sent[n].0.headers().get("traceparent");
    assert_eq!(header(0).expect("it has one"), traceparent);
    assert_eq!((header(1), header(2)), (None, None));
    assert_eq!(sent[0].0.headers()["authorization"], "Bearer t0k3n");
}

/// A file that is written anew between two looks: `t1`, then `t2`, then gone.
fn rotated(path: &str) -> Result<String, String> {
    thread_local!(static LOOKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    assert_eq!(path, "/sa/token");
    LOOKS.set(LOOKS.get() + 1);
    match LOOKS.get() {
        look @ 1..=2 => Ok(format!("t{look}\n")),
        _ => Err("it is gone".to_owned()),
    }
}

/// A client whose token is in a file, which that function reads.
fn client_with_file(transport: &FakeTransport, read: crate::ReadFile) -> Client<&FakeTransport> {
    let config = ClientConfig::new("https://cluster:6443", "runs", None);
    Client::new(config.with_token_file("/sa/token", read), transport)
}

fn tokens(transport: &FakeTransport) -> Vec<String> {
    let sent = transport.take_sent();
    sent.iter()
        .map(|(request, _)| {
            request.headers()["authorization"]
                .to_str()
                .expect("text")
                .to_owned()
        })
        .collect()
}

#[test]
fn a_refused_token_is_read_again_and_the_request_sent_once_more() {
    let transport = FakeTransport::answering([answer(401, "{}"), answer(201, JOB)]);
    let client = client_with_file(&transport, rotated);
    let job = ready(client.create_job(&Job::default())).expect("created");
    assert_eq!(job.uid, "u1");
    assert_eq!(tokens(&transport), ["Bearer t1", "Bearer t2"]);
    let error = ready(client.get_job("x-1")).expect_err("no token");
    assert!(error.is_definite() && error.is_retryable(), "{error}");
    assert!(tokens(&transport).is_empty());
}

#[test]
fn the_same_token_is_not_tried_twice() {
    let transport = FakeTransport::answering([answer(401, "{}")]);
    let client = client_with_file(&transport, |_| Ok("t1".to_owned()));
    let error = ready(client.get_job("x-1")).expect_err("refused");
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert_eq!(tokens(&transport), ["Bearer t1"]);
    assert!(!format!("{:?}", client.config()).contains("t1"));
    let empty = client_with_file(&transport, |_| Ok(" \n".to_owned()));
    let error = ready(empty.get_job("x-1")).expect_err("no token");
    assert!(error.is_definite(), "{error}");
    assert!(tokens(&transport).is_empty());
}
