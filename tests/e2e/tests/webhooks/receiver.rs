//! The receiver of webhooks: an HTTP server that answers each path by its plan, and keeps what it hears.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e::{poll, raw};
use serde_json::Value;
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

/// The secret that signs in every stack of this suite.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Longer than any sender waits for an answer.
const HANGS_FOR: Duration = Duration::from_secs(60);

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Receipt {
    /// It is answered with that status.
    Status(u16),
    /// The same, with one header.
    With(u16, &'static str, String),
    /// It is read, and never answered.
    Hang,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it was read to its end.
    pub at: Instant,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

#[derive(Default)]
struct State {
    plans: HashMap<String, VecDeque<Receipt>>,
    received: Vec<Received>,
}

/// A server that runs until the test process ends.
#[derive(Clone)]
pub struct Receiver {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Listens on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound address").port();
        let receiver = Self {
            port,
            state: Arc::default(),
        };
        let server = receiver.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                std::thread::spawn(move || server.serve(stream));
            }
        });
        receiver
    }

    /// `http://127.0.0.1:<port>`, as hosts allow it.
    pub fn origin(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The URL of that path, whose messages are answered by these receipts in order, and with 204 after them.
    pub fn plan(&self, path: &str, receipts: impl IntoIterator<Item = Receipt>) -> String {
        let receipts = receipts.into_iter().collect();
        self.state().plans.insert(path.to_owned(), receipts);
        format!("{}{path}", self.origin())
    }

    /// What has arrived at that path.
    pub fn received(&self, path: &str) -> Vec<Received> {
        let state = self.state();
        let fitting = state.received.iter().filter(|r| r.path == path);
        fitting.cloned().collect()
    }

    /// Waits until so many messages have arrived at that path.
    #[track_caller]
    pub fn wait_for(&self, path: &str, count: usize, limit: Duration) -> Vec<Received> {
        let enough = || Some(self.received(path)).filter(|r| r.len() >= count);
        poll(limit, enough).unwrap_or_else(|| {
            panic!(
                "{} of {count} messages at {path} in {limit:?}",
                self.received(path).len()
            )
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, mut stream: TcpStream) {
        let Some(received) = read(&mut stream) else {
            return;
        };
        let receipt = {
            let mut state = self.state();
            let plan = state.plans.get_mut(&received.path);
            let receipt = plan.and_then(VecDeque::pop_front);
            state.received.push(received);
            receipt.unwrap_or(Receipt::Status(204))
        };
        let (status, header) = match receipt {
            Receipt::Status(status) => (status, String::new()),
            Receipt::With(status, name, value) => (status, format!("{name}: {value}\r\n")),
            Receipt::Hang => {
                // Until the sender goes away.
                let _ = stream.set_read_timeout(Some(HANGS_FOR));
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        let length = if status == 204 {
            ""
        } else {
            "content-length: 0\r\n"
        };
        let answer =
            format!("HTTP/1.1 {status} As planned\r\n{header}{length}connection: close\r\n\r\n");
        // A sender that is gone by now hears nothing, which is its own doing.
        let _ = stream.write_all(answer.as_bytes());
    }
}

impl Received {
    /// A header's text.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        let value = value.unwrap_or_else(|| panic!("{name} is missing: {:?}", self.headers));
        value.to_str().expect("ASCII")
    }

    /// The body.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The signature is right and of this time, by the library that receivers use; and only for this body.
    #[track_caller]
    pub fn verify(&self) {
        let library = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        let verified = library.verify(&self.body, &self.headers);
        verified.unwrap_or_else(|e| panic!("{e}: {:?}", self.headers));
        let other = [&self.body[..], b" "].concat();
        assert!(library.verify(&other, &self.headers).is_err(), "any body");
    }

    /// Nothing that is only ours went out with it.
    #[track_caller]
    pub fn bears_no_token(&self) {
        assert!(
            !self.headers.contains_key("authorization"),
            "{:?}",
            self.headers
        );
        assert!(!self.headers.contains_key("cookie"), "{:?}", self.headers);
    }
}

/// Reads one request; none when it breaks off.
fn read(stream: &mut TcpStream) -> Option<Received> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(received) = parse(&bytes) {
            return Some(received);
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Received> {
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut lines = head.split("\r\n");
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name: HeaderName = name.parse().ok()?;
        headers.append(name, HeaderValue::from_str(value.trim()).ok()?);
    }
    let rest = &bytes[split + 4..];
    let length = headers.get("content-length");
    let body = match length.and_then(|l| l.to_str().ok()?.parse::<usize>().ok()) {
        Some(length) => rest.get(..length)?.to_vec(),
        None => raw::unchunk(rest, false)?,
    };
    Some(Received {
        at: Instant::now(),
        path,
        headers,
        body,
    })
}
