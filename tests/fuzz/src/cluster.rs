//! What an API server sends: answers to each of our calls, watches, and pods in whatever state.

use std::time::Duration;

use app::View;
use app::fuzzing::observation;
use app::wire::ExecutionJson;
use domain::{
    Execution, ExecutionId, Observation, Outcome, Resources, Retry, Status, Submission, Tenant,
    next_attempt, transition,
};
use http::{Request, Response, StatusCode};
use jiff::Timestamp;
use kubernetes::{
    Client, ClientConfig, Error, Job, JobObservation, LogOptions, Observed, PodObservation,
    Timeouts, Transport, TransportError, WatchEvent, WatchStream,
};

use crate::input;
use crate::platform::{NOW, Pieces, run};

/// Statuses of answers, one of each kind that is told apart.
const STATUSES: [u16; 10] = [200, 201, 404, 403, 409, 410, 422, 429, 500, 301];

/// A server that answers everything the same.
struct Always {
    status: u16,
    body: Vec<Vec<u8>>,
    breaks: bool,
}

impl Transport for &Always {
    type Body = Pieces;

    async fn send(
        &self,
        _: Request<Vec<u8>>,
        _: Timeouts,
    ) -> Result<Response<Pieces>, TransportError> {
        let pieces: Vec<&[u8]> = self.body.iter().map(Vec::as_slice).collect();
        let mut response = Response::new(Pieces::of(&pieces, self.breaks));
        *response.status_mut() = StatusCode::from_u16(self.status).expect("a status");
        Ok(response)
    }
}

impl Always {
    fn of(status: u16, pieces: &[&[u8]], breaks: bool) -> Self {
        Self {
            status,
            body: pieces.iter().map(|piece| piece.to_vec()).collect(),
            breaks,
        }
    }
}

fn client(server: &Always) -> Client<&Always> {
    Client::new(ClientConfig::new("http://cluster", "runs", None), server)
}

/// The answer to one of our calls: which one and its status are chosen by the first two characters, the cuts by those behind. It
/// comes to the same however it is cut; and one that breaks off, or is refused, never comes to anything.
pub fn answers(data: &[u8]) {
    let (mut choices, body) = input::split(data);
    let call = choices.below(CALLS);
    let status = STATUSES[choices.below(STATUSES.len())];
    let whole = ask(call, &Always::of(status, &[body], false));
    let cut = ask(call, &Always::of(status, &choices.cut(body), false));
    assert_eq!(whole, cut, "the cut matters");
    if !(200..300).contains(&status) {
        assert!(whole.is_err(), "{status}: {whole:?}");
    }
    let broken = ask(call, &Always::of(status, &[body], true));
    // That the server is ready it says with its status.
    assert!(broken.is_err() || call == READY, "{broken:?}");
    if whole.is_ok() && ![READY, LOG].contains(&call) {
        // What ends early without saying so: the last byte of an object is its brace.
        let text = body.trim_ascii_end();
        let at = usize::from(choices.byte()) * text.len() / 256;
        let short = ask(call, &Always::of(status, &[&text[..at]], false));
        assert!(short.is_err(), "{short:?}");
    }
}

/// The calls whose answer is no JSON.
const READY: usize = 8;
const LOG: usize = 9;

/// How many calls there are to choose from.
const CALLS: usize = 10;

/// What one of our calls makes of it, as text.
fn ask(call: usize, server: &Always) -> Result<String, String> {
    let client = client(server);
    let text = |error: Error| {
        // Whatever is asked of an error, it answers.
        let kinds = (error.is_retryable(), error.is_definite(), error.is_quota());
        format!("{error:?} {error} {kinds:?} {:?}", error.retry_after())
    };
    let shown = |observation: JobObservation| format!("{observation:?}");
    match call {
        0 => run(client.list_pods("", 5, None)).map(|page| format!("{page:?}")),
        1 => run(client.list_jobs("", 5, None)).map(|page| format!("{page:?}")),
        2 => run(client.pods_of_job("x-1")).map(|pods| format!("{pods:?}")),
        3 => run(client.get_job("x-1")).map(shown),
        4 => run(client.create_job(&Job::default())).map(shown),
        5 => run(client.list_events_of("u")).map(|events| format!("{events:?}")),
        6 => run(client.unsuspend_job("x-1")).map(shown),
        7 => run(client.try_job(&Job::default())).map(shown),
        READY => run(client.ready()).map(|()| String::new()),
        _ => run(log(&client)).map(|log| format!("{log:?}")),
    }
    .map_err(text)
}

async fn log(client: &Client<&Always>) -> Result<Vec<u8>, Error> {
    let mut log = client.read_log("x-1", &LogOptions::default()).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = log.chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// A watch of Pods or of Jobs, as the first character chooses; the others say where it is cut. The same events come however it is
/// cut; of one that breaks off come the events before that, and never a good end within an event.
pub fn watches(data: &[u8]) {
    let (mut choices, stream) = input::split(data);
    let jobs = choices.below(2) == 1;
    let read = |pieces: &[&[u8]], breaks| {
        let server = Always::of(200, pieces, breaks);
        let client = client(&server);
        let time = Duration::from_secs(10);
        if jobs {
            all(run(client.watch_jobs("", "0", time)).expect("it is opened"))
        } else {
            all(run(client.watch_pods("", "0", time)).expect("it is opened"))
        }
    };
    let whole = read(&[stream], false);
    assert_eq!(whole, read(&choices.cut(stream), false), "the cut matters");
    let broken = read(&[stream], true);
    assert_eq!(whole.events, broken.events);
    assert!(
        broken.error.is_some(),
        "a watch that breaks off has no good end"
    );
    let at = usize::from(choices.byte()) * stream.len() / 256;
    let (beginning, rest) = stream.split_at(at);
    let short = read(&[beginning], false);
    assert!(whole.events.starts_with(&short.events), "{short:?}");
    let is_within = |text: &[u8]| {
        let line = text
            .rsplit(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        !line.trim_ascii().is_empty()
    };
    if is_within(beginning) && !rest.is_empty() {
        assert!(short.error.is_some(), "it ends within an event: {short:?}");
    }
}

/// What came of a watch.
#[derive(Debug, PartialEq)]
struct Watched {
    /// Each event, with the version to go on from after it.
    events: Vec<(String, String)>,
    error: Option<String>,
}

fn all<K: Observed + std::fmt::Debug>(mut stream: WatchStream<K, Pieces>) -> Watched {
    let mut events = Vec::new();
    loop {
        let next = run(stream.next());
        let version = stream.resource_version().to_owned();
        let error = match next {
            Ok(Some(event)) => {
                if let WatchEvent::Bookmark(bookmark) = &event {
                    assert!(bookmark.is_empty() || *bookmark == version);
                }
                events.push((format!("{event:?}"), version));
                continue;
            }
            Ok(None) => None,
            Err(error) => Some(format!("{error:?}")),
        };
        return Watched { events, error };
    }
}

/// The states of a pod, one a line, as a watch tells them one after the other. Its execution only moves forward, and ends by what ends a
/// script and by nothing else.
pub fn pods(data: &[u8]) {
    let mut execution = dispatched();
    let now: Timestamp = NOW.parse().expect("a time");
    for line in data.split(|byte| *byte == b'\n').take(MAX_STATES) {
        let list = [br#"{"items":["#, line, b"]}"].concat();
        let server = Always::of(200, &[&list], false);
        let Ok(page) = run(client(&server).list_pods("", 1, None)) else {
            continue;
        };
        for pod in page.items {
            let Some(seen) = observation(&pod) else {
                continue;
            };
            assert!(
                ends_nothing(&seen) || may_have_ended(&pod),
                "{seen:?} of {pod:?}"
            );
            let Some(next) = transition(&execution, &seen, now) else {
                continue;
            };
            check_step(&execution, &next, &pod);
            // Whether there is another attempt is asked of every end.
            if let Some(again) = next_attempt(&execution, &next, now) {
                assert!(
                    again.status < Status::Finished && again.attempt == 2,
                    "{again:?}"
                );
            }
            execution = next;
        }
    }
}

/// More states than a pod has.
const MAX_STATES: usize = 8;

fn ends_nothing(seen: &Observation) -> bool {
    matches!(seen, Observation::Waiting(_) | Observation::Started { .. })
}

/// Whether anything about the pod says that it is over, or can never begin.
fn may_have_ended(pod: &PodObservation) -> bool {
    let waits = pod.waiting.as_ref();
    pod.terminated.is_some()
        || pod.phase == "Failed"
        || pod.pod_reason.as_deref() == Some("NodeLost")
        || waits.is_some_and(|why| why.reason == "InvalidImageName")
}

fn check_step(before: &Execution, after: &Execution, pod: &PodObservation) {
    assert!(
        before.status != Status::Finished,
        "what is finished stays so"
    );
    assert!(after.status >= before.status && after.generation == before.generation + 1);
    if let Some((_, at)) = after.deadline() {
        assert!(at >= after.created_at, "{after:?}");
    }
    if let (Some(start), Some(end)) = (after.started_at, after.finished_at) {
        assert!(start <= end, "{after:?}");
    }
    let ending = after.ending.as_ref();
    assert_eq!(ending.is_some(), after.status == Status::Finished);
    let succeeded = ending.is_some_and(|ending| ending.reason.outcome() == Outcome::Succeeded);
    let ended_well = pod
        .terminated
        .as_ref()
        .is_some_and(|end| end.exit_code == 0);
    assert!(
        !succeeded || ended_well,
        "a success without its exit code: {pod:?}"
    );
    let view = View {
        execution: after.clone(),
        queue_position: None,
        earlier: Vec::new(),
    };
    serde_json::to_string(&ExecutionJson::of(&view)).expect("it can be shown");
}

/// An execution whose Job exists.
fn dispatched() -> Execution {
    let now: Timestamp = NOW.parse().expect("a time");
    let quantity = |text: &str| text.parse().expect("a quantity");
    let submission = Submission {
        script: "true".to_owned(),
        interpreter: None,
        args: Vec::new(),
        image: "busybox:1.36".to_owned(),
        resources: Resources {
            cpu: quantity("1"),
            memory: quantity("64Mi"),
            ephemeral_storage: None,
        },
        env: [].into(),
        files: [].into(),
        timeouts: domain::Timeouts::default(),
        retry: Retry::of(1, &Retry::OUTCOMES),
        priority: 0,
        labels: [].into(),
        ttl_seconds: 3600,
        webhook: None,
        digest: String::new(),
    };
    let id = ExecutionId::new(now, [7; 10]);
    let new = Execution::accepted(id, now, &Tenant::default(), &submission);
    let uid = "u".to_owned();
    let steps = [Observation::Dispatched, Observation::JobExists { uid }];
    steps.iter().fold(new, |execution, step| {
        transition(&execution, step, now).expect("a step")
    })
}
