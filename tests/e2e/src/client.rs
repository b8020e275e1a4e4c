//! The API as a well-behaved caller sees it.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http;

/// Longer than the longest wait that the API offers (60 s).
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);

/// What one `?wait=` asks for, in seconds: well below the API's own limit.
const WAIT_SECONDS: u64 = 20;

/// The request got no answer, so nobody knows what became of it.
#[derive(Debug)]
pub struct RequestFailed(pub String);

impl std::fmt::Display for RequestFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text, whatever it is.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("no JSON ({e}) in {} {:?}", self.status, self.text()))
    }

    /// This answer, if it has that status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// The `id` of the execution in the body.
    #[track_caller]
    pub fn id(&self) -> String {
        match self.json()["id"].as_str() {
            Some(id) => id.to_owned(),
            None => panic!("no id in {}", self.text()),
        }
    }
}

/// A caller of one Executor; clones share their connections.
#[derive(Clone)]
pub struct Client {
    base: String,
    agent: ureq::Agent,
}

impl Client {
    /// A caller of the Executor at `http://host:port`.
    pub fn new(base: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(ANSWERS_WITHIN))
            .build();
        Self {
            base: base.to_owned(),
            agent: config.into(),
        }
    }

    /// The `host:port` it calls.
    pub fn authority(&self) -> &str {
        self.base
            .split_once("://")
            .map_or(&*self.base, |(_, rest)| rest)
    }

    /// Sends a request and reads its whole answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, RequestFailed> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let failed = |e: ureq::Error| RequestFailed(format!("{method} {path}: {e}"));
        let broken = |e: http::Error| RequestFailed(format!("{method} {path}: {e}"));
        let mut response = match body {
            Some(body) => self.agent.run(request.body(body).map_err(broken)?),
            None => self.agent.run(request.body(()).map_err(broken)?),
        }
        .map_err(failed)?;
        let headers = response.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Ok(Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response
                .body_mut()
                .with_config()
                .limit(u64::MAX)
                .read_to_vec()
                .map_err(failed)?,
        })
    }

    /// `GET path`.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.get_with(path, &[])
    }

    /// `GET path` with headers.
    #[track_caller]
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        match self.send("GET", path, headers, None) {
            Ok(answer) => answer,
            Err(e) => panic!("{e}"),
        }
    }

    /// `POST path` with a JSON body and headers.
    #[track_caller]
    pub fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        match self.try_post(path, headers, body) {
            Ok(answer) => answer,
            Err(e) => panic!("{e}"),
        }
    }

    /// `POST path` with a JSON body and headers, where it may get no answer.
    pub fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, RequestFailed> {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.send("POST", path, &all, Some(body.to_string().as_bytes()))
    }

    /// Submits an execution and gives its id.
    ///
    /// # Panics
    /// When it was not accepted.
    #[track_caller]
    pub fn submit(&self, body: &Value) -> String {
        self.post_with("/executions", &[], body).expect(201).id()
    }

    /// The execution as it is now.
    #[track_caller]
    pub fn execution(&self, id: &str) -> Value {
        self.get(&format!("/executions/{id}")).expect(200).json()
    }

    /// Waits by `?wait=` until the execution is finished.
    ///
    /// # Panics
    /// When it is not within the limit.
    #[track_caller]
    pub fn finished(&self, id: &str, limit: Duration) -> Value {
        match self.try_finished(id, limit) {
            Ok(execution) => execution,
            Err(e) => panic!("{e}"),
        }
    }

    /// Waits by `?wait=` until the execution is finished, or says where it stands at the limit.
    pub fn try_finished(&self, id: &str, limit: Duration) -> Result<Value, String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            let wait = left.clamp(1, WAIT_SECONDS);
            let path = format!("/executions/{id}?wait={wait}");
            let answer = self.send("GET", &path, &[], None).map_err(|e| e.0)?;
            if answer.status != 200 {
                return Err(format!("GET {path}: {} {}", answer.status, answer.text()));
            }
            let execution = answer.json();
            if execution["status"] == "FINISHED" {
                return Ok(execution);
            }
            if Instant::now() >= end {
                return Err(format!("not FINISHED after {limit:?}: {execution}"));
            }
        }
    }

    /// The log as it is now.
    #[track_caller]
    pub fn log(&self, id: &str) -> Vec<u8> {
        self.get(&format!("/executions/{id}/logs")).expect(200).body
    }
}
