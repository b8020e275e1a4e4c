//! What a real cluster sent, played back: each story must end with its reason.
//!
//! The stories in `fixtures/` are written by the end-to-end suite `reasons` (`EXECUTOR_E2E_RECORD=1`), one for each cause:
//! the states of the pod in their order, and the warnings about it and its Job.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use domain::transition::transition;
use domain::{Execution, Observation, Reason, Status, Waiting, WaitingKind};
use jiff::SignedDuration;
use kubernetes::{
    Body, Client, ClientConfig, EventObservation, PodObservation, Timeouts, Transport,
    TransportError,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::explain::explanation;
use crate::observe::{observation, tests::dispatched};

#[derive(Deserialize)]
struct Story {
    reason: String,
    pods: Vec<PodEvent>,
    events: Vec<Value>,
}

#[derive(Deserialize)]
struct PodEvent {
    r#type: String,
    object: Value,
}

/// A server that has a list of these objects and nothing else.
struct Lists(Value);

struct Whole(Option<Bytes>);

impl Body for Whole {
    async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        Ok(self.0.take())
    }
}

impl Transport for Lists {
    type Body = Whole;

    async fn send(
        &self,
        _request: http::Request<Vec<u8>>,
        _timeouts: Timeouts,
    ) -> Result<http::Response<Whole>, TransportError> {
        let list = json!({ "metadata": { "resourceVersion": "1" }, "items": self.0 });
        Ok(http::Response::new(Whole(Some(list.to_string().into()))))
    }
}

fn client(items: Value) -> Client<Lists> {
    let config = ClientConfig::new("http://cluster", "runs", None);
    Client::new(config, Lists(items))
}

fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("a list is there at once"),
    }
}

fn pod(object: &Value) -> PodObservation {
    let pods = ready(client(json!([object])).list_pods("", 1, None)).expect("a list of pods");
    pods.items.into_iter().next().expect("one pod")
}

fn events(items: &[Value]) -> Vec<EventObservation> {
    ready(client(json!(items)).list_events_of("u")).expect("a list of events")
}

/// What the watch makes of one state.
fn seen(pod: &PodObservation, gone: bool) -> Option<Observation> {
    match observation(pod) {
        Some(Observation::Waiting(_) | Observation::Started { .. }) | None if gone => {
            let message = "its pod was deleted by somebody before its end was seen".to_owned();
            Some(Observation::JobGone { message })
        }
        seen => seen,
    }
}

fn play(story: &Story) -> Execution {
    let mut execution = dispatched();
    let mut now = execution.created_at;
    let mut step = |execution: &mut Execution, seen: &Observation, later: SignedDuration| {
        now += later;
        if let Some(next) = transition(execution, seen, now) {
            *execution = next;
        }
    };
    let mut last = None;
    for PodEvent { r#type, object } in &story.pods {
        let pod = pod(object);
        if let Some(seen) = seen(&pod, r#type == "DELETED") {
            step(&mut execution, &seen, SignedDuration::from_millis(100));
        }
        last = Some(pod);
    }
    if execution.status == Status::Queued
        && let Some(why) = explanation(&events(&story.events), last.as_ref())
    {
        let seen = match why {
            // As it is told once it has been refused for long enough.
            Waiting {
                kind: WaitingKind::Admission,
                message,
            } => Observation::CannotStart {
                reason: Reason::AdmissionDenied,
                message,
            },
            why => Observation::Waiting(why),
        };
        step(&mut execution, &seen, SignedDuration::from_secs(5));
    }
    let clock = SignedDuration::from_hours(25);
    step(&mut execution, &Observation::DeadlinePassed, clock);
    execution
}

#[test]
fn what_a_real_cluster_sent_ends_with_its_reason() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fixtures");
    let mut stories = 0;
    for file in std::fs::read_dir(&folder).expect("the fixtures") {
        let path = file.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a readable file");
        let story: Story = serde_json::from_str(&text).expect("a story");
        let execution = play(&story);
        let ending = execution
            .ending
            .unwrap_or_else(|| panic!("{path:?} has no end"));
        assert_eq!(
            ending.reason.as_str(),
            story.reason,
            "{path:?}: {}",
            ending.message
        );
        stories += 1;
    }
    assert!(stories > 15, "only {stories} stories");
}
