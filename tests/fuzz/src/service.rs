//! The API over what `platform` gives, with some executions in it; and what must hold of every answer.

use std::cell::LazyCell;
use std::collections::BTreeMap;

use app::{App, Config, StoredLog};
use domain::transition::ContainerEnd;
use domain::{ExecutionId, LogSummary, Observation, Status, transition};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_api::{Body, BodyReader, handle};
use serde_json::Value;
use store::testing::{Sqlite, ready};
use store::{ExecutionStore, Written};

use crate::platform::{ApiServer, Clock, Fake, NOW, Pieces, Undone, run, run_for};

/// The tokens that open something, by role; each of a tenant, but the last, which may do everything.
pub const TOKENS: [(&str, &str); 3] = [
    ("{read}", "token-of-a-that-reads"),
    ("{run}", "token-of-a-that-runs"),
    ("{admin}", "token-that-may-do-all"),
];

const CALLERS: &str = r#"{
    "tenants": {"a": {"allowedImages": ["docker.io/*", "ghcr.io/a/*"]}},
    "tokens": [
        {"name": "read", "tenant": "a", "role": "read", "token": "token-of-a-that-reads"},
        {"name": "run", "tenant": "a", "role": "run", "token": "token-of-a-that-runs"},
        {"name": "admin", "role": "admin", "token": "token-that-may-do-all"}
    ]
}"#;

/// What is there from the beginning: one that waits, one that runs, and one that is finished and has a log.
const SUBMITTED: [&str; 3] = [
    r#"{"script":"sleep 1","labels":{"a":"b"},"priority":3}"#,
    r#"{"script":"sleep 2","labels":{"a":"b","c":"d"}}"#,
    r#"{"script":"exit 3","webhook":{"url":"https://example.org/hook"}}"#,
];

/// A live answer is read for so many chunks: some never end.
const MAX_LIVE_CHUNKS: usize = 8;

/// And for so many steps each: a silent one is left after about as many polls of the store.
const MAX_LIVE_STEPS: u32 = 64;

/// Of one database, with what is in it from the beginning.
struct World {
    sqlite: Sqlite,
    config: Config,
    /// The executions of the beginning.
    ids: Vec<String>,
    /// By path and method the statuses that the description names.
    described: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

thread_local! {
    static WORLD: LazyCell<World> = const { LazyCell::new(World::new) };
}

impl World {
    fn new() -> Self {
        let sqlite = Sqlite::memory();
        ready(ExecutionStore::new(sqlite.clone()).migrate()).expect("a schema");
        let mut world = Self {
            sqlite,
            config: config(),
            ids: Vec::new(),
            described: BTreeMap::new(),
        };
        let service = world.service();
        let answer = service.ask(Method::GET, "/openapi.json", "", b"");
        world.described = serde_json::from_value(described(&answer.json())).expect("strings");
        for body in SUBMITTED {
            let answer = service.ask(Method::POST, "/executions", "{run}", body.as_bytes());
            assert_eq!(answer.status, 201, "{}", answer.text());
            let id = answer.json()["id"].as_str().expect("an id").to_owned();
            world.ids.push(id);
        }
        drop(service);
        advance(&world.sqlite, &world.ids[1], 3);
        advance(&world.sqlite, &world.ids[2], 4);
        world
    }

    /// A service whose writes are undone when it goes; those of the beginning stay.
    fn service(&self) -> Service {
        let api_server = ApiServer::default();
        // What is there from the beginning has other ids than what comes later.
        let stays = self.ids.is_empty();
        let clock = Clock::new(if stays { 1_000 } else { 1_000_000 });
        let sql = Undone::begin(&self.sqlite, stays);
        Service {
            app: App::new(self.config.clone(), sql, api_server.clone(), clock),
            api_server,
        }
    }
}

fn config() -> Config {
    let config = Config::read(|name| {
        let text = match name {
            "kube_url" => "http://127.0.0.1:1",
            "kube_namespace" => "runs",
            "default_image" => "busybox:1.36",
            "allowed_images" => "docker.io/* ghcr.io/*/* *.example.org/x",
            "max_cpu" => "4",
            "max_memory" => "8Gi",
            "max_ephemeral_storage" => "16Gi",
            "max_running" => "10",
            "max_queued" => "1000",
            "ttl_seconds" => "3600",
            "audit_retention_days" => "90",
            "kubernetes_events" => "all",
            "tick_budget_seconds" => "0.2",
            "pod_profile" => "restricted",
            "pod_user" => "65532:65532",
            "tokens" => CALLERS,
            "webhook_secrets" => r#"{"default":"whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}"#,
            "webhook_allowed_hosts" => "http://*.allowed.internal",
            _ => "",
        };
        Some(text.to_owned())
    });
    config.expect("good settings")
}

/// Brings an execution so many steps on its way.
fn advance(sqlite: &Sqlite, id: &str, steps: usize) {
    let store = ExecutionStore::new(sqlite.clone());
    let id: ExecutionId = id.parse().expect("an id");
    let mut execution = ready(store.get(id)).expect("a store").expect("known");
    let now = NOW.parse().expect("a time");
    let uid = "u".to_owned();
    let end = ContainerEnd {
        exit_code: 3,
        signal: None,
        out_of_memory: false,
        start_error: false,
        message: String::new(),
        started_at: Some(now),
        finished_at: Some(now),
    };
    let all = [
        Observation::Dispatched,
        Observation::JobExists { uid },
        Observation::Started { at: now },
        Observation::Ended(end),
    ];
    for observation in &all[..steps] {
        let Some(mut next) = transition(&execution, observation, now) else {
            continue;
        };
        if next.status == Status::Finished {
            let log = log();
            next.log = Some(LogSummary {
                bytes: log.bytes,
                lost_bytes: log.lost_bytes,
                complete: log.complete,
            });
            let written = ready(store.finish(&next, &log)).expect("a store");
            assert_eq!(written, Written::Updated);
        } else {
            let written = ready(store.update(&next)).expect("a store");
            assert_eq!(written, Written::Updated);
        }
        execution = next;
    }
}

fn log() -> StoredLog {
    StoredLog {
        head: b"one\ntwo\nthr".to_vec(),
        tail: b"ee\nfour\n".to_vec(),
        bytes: 26,
        lost_bytes: 7,
        complete: false,
    }
}

/// The statuses of a description, by path and method.
fn described(description: &Value) -> Value {
    let paths = description["paths"].as_object().expect("paths").iter();
    paths
        .map(|(path, operations)| {
            let operations = operations.as_object().expect("operations").iter();
            let of_path: Value = operations
                .filter_map(|(method, operation)| {
                    let responses = operation["responses"].as_object()?;
                    let statuses: Vec<_> = responses.keys().cloned().collect();
                    Some((method.to_uppercase(), Value::from(statuses)))
                })
                .collect();
            (path.clone(), of_path)
        })
        .collect()
}

/// A service as at the beginning: what is done to it is undone when it goes.
pub struct Service {
    app: App<Fake>,
    /// What it is a client of.
    pub api_server: ApiServer,
}

/// The service, anew.
pub fn service() -> Service {
    WORLD.with(|world| world.service())
}

/// The same text with the executions and the tokens of the beginning for `{queued}`, `{running}`, `{finished}`, `{read}` and so on.
pub fn filled(text: &str) -> String {
    let names = ["{queued}", "{running}", "{finished}"];
    let text = TOKENS.iter().fold(text.to_owned(), |text, (name, token)| {
        text.replace(name, token)
    });
    WORLD.with(|world| {
        let known = names.iter().zip(&world.ids);
        known.fold(text, |text, (name, id)| text.replace(name, id))
    })
}

/// The webhooks' rules of the service.
pub fn check_url(url: &str) -> Result<http::Uri, String> {
    WORLD.with(|world| world.config.webhooks.check_url(url))
}

/// An answer that has arrived.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.get(name)?;
        Some(value.to_str().expect("our headers are ASCII"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Service {
    /// Asks with that token, or none, for what is at that URL.
    pub fn ask(&self, method: Method, url: &str, token: &str, body: &[u8]) -> Answer {
        self.ask_with(method, url, token, &[], body)
    }

    /// The same with headers.
    pub fn ask_with(
        &self,
        method: Method,
        url: &str,
        token: &str,
        headers: &[(&'static str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = Request::new(Pieces::of(&[body], false));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().expect("a URL");
        let token = TOKENS.iter().find(|(name, _)| *name == token);
        let bearer = token.map(|(_, token)| format!("Bearer {token}"));
        let bearer = bearer
            .iter()
            .map(|bearer| ("authorization", bearer.as_str()));
        for (name, value) in headers.iter().copied().chain(bearer) {
            let value = HeaderValue::from_str(value).expect("a value");
            request.headers_mut().append(name, value);
        }
        self.send(request)
    }

    /// Sends a request, and does what is left to do afterwards.
    pub fn send<B: BodyReader>(&self, mut request: Request<B>) -> Answer {
        let address = HeaderValue::from_static("127.0.0.1:50000");
        request.headers_mut().append("spin-client-addr", address);
        let reply = run(handle(&self.app, request));
        assert!(reply.failure.is_none(), "{:?}", reply.failure);
        let (parts, body) = reply.response.into_parts();
        let mut bytes = Vec::new();
        match body {
            Body::Full(all) => bytes.extend_from_slice(&all),
            Body::Live(mut live) => {
                for _ in 0..MAX_LIVE_CHUNKS {
                    match run_for(live.chunk(&self.app), MAX_LIVE_STEPS) {
                        Some(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                        Some(Ok(None)) | None => break,
                        Some(Err(error)) => panic!("a live answer breaks off: {error}"),
                    }
                }
            }
        }
        if let Some(afterwards) = reply.afterwards {
            run(afterwards.run(&self.app));
        }
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            bytes,
        }
    }
}

/// What holds of every answer: a documented status, JSON where it says so, a whole problem where it is none of success.
#[track_caller]
pub fn check(method: &Method, path: &str, answer: &Answer) {
    let status = answer.status;
    // Nothing has ticked yet, which is what readiness is about.
    let is_unready = path == "/readyz" && status == 503;
    assert!(
        status < 500 || status == 501 || is_unready,
        "{method} {path}: {answer:?}"
    );
    if let Some(length) = answer.header(CONTENT_LENGTH.as_str())
        && method != Method::HEAD
    {
        assert_eq!(length, answer.bytes.len().to_string(), "{answer:?}");
    }
    let kind = answer.header(CONTENT_TYPE.as_str()).unwrap_or("");
    if status >= 400 && !is_unready {
        assert_eq!(kind, "application/problem+json", "{answer:?}");
        if method != Method::HEAD {
            check_problem(answer);
        }
    } else if kind == "application/json" && method != Method::HEAD {
        answer.json();
    }
    WORLD.with(|world| check_described(&world.described, method, path, status));
}

#[track_caller]
fn check_problem(answer: &Answer) {
    let problem = answer.json();
    assert_eq!(problem["status"].as_u64(), Some(answer.status.into()));
    for member in ["type", "title", "detail", "instance"] {
        let text = problem[member].as_str().expect("a text");
        assert!(
            !text.is_empty() && text.len() < 4_096,
            "{member}: {problem}"
        );
    }
    let kind = problem["type"].as_str().expect("a text");
    assert!(kind.starts_with("/problems/"), "{problem}");
    let errors = problem["errors"].as_array();
    for error in errors.into_iter().flatten() {
        let place = ["pointer", "parameter"].map(|name| error[name].is_string());
        assert!(place != [true, true], "{problem}");
        assert!(
            error["detail"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        );
    }
}

/// The description of the API names the status, all problems as `default`, for the path and the method; what it has not is `404` or `405`.
#[track_caller]
fn check_described(
    described: &BTreeMap<String, BTreeMap<String, Vec<String>>>,
    method: &Method,
    path: &str,
    status: u16,
) {
    let fits = |template: &str| {
        let (mut one, mut other) = (template.split('/'), path.split('/'));
        loop {
            match (one.next(), other.next()) {
                (None, None) => return true,
                (Some(part), Some(text)) if part == text => {}
                (Some(part), Some(text)) if part.starts_with('{') && !text.is_empty() => {}
                _ => return false,
            }
        }
    };
    let operations = described.get(path).or_else(|| {
        described
            .iter()
            .find(|(template, _)| fits(template))
            .map(|(_, o)| o)
    });
    let Some(operations) = operations else {
        return assert_eq!(status, 404, "{method} {path}");
    };
    let name = if method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    match operations.get(name) {
        None => assert_eq!(status, 405, "{method} {path}"),
        Some(statuses) => {
            let is_default = status >= 400 && statuses.iter().any(|known| known == "default");
            let known = is_default || statuses.contains(&status.to_string());
            assert!(
                known,
                "{method} {path}: {status} is not described, only {statuses:?}"
            );
        }
    }
}
