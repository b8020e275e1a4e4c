//! Servers that the guest calls: plain or with TLS, quick, silent or stalling.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The first byte of a TLS handshake.
const TLS_RECORD: u8 = 0x16;

/// A server whose path says how it behaves. It serves until the test process ends.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Receiver<String>,
    go: Sender<()>,
}

struct Talk {
    seen: Sender<String>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Upstream {
    /// Without TLS.
    pub fn plain() -> Upstream {
        Upstream::start(None)
    }

    /// With TLS.
    pub fn tls(config: ServerConfig) -> Upstream {
        Upstream::start(Some(Arc::new(config)))
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let connections = Arc::new(AtomicUsize::new(0));
        let (seen_sender, seen) = channel();
        let (go, go_receiver) = channel();
        let go_receiver = Arc::new(Mutex::new(go_receiver));
        let counter = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                counter.fetch_add(1, Ordering::SeqCst);
                let talk = Talk {
                    seen: seen_sender.clone(),
                    go: Arc::clone(&go_receiver),
                };
                let tls = tls.clone();
                std::thread::spawn(move || match tls {
                    None => serve(stream, &talk),
                    Some(config) => {
                        let session =
                            ServerConnection::new(config).expect("the config is complete");
                        serve(StreamOwned::new(session, stream), &talk);
                    }
                });
            }
        });
        Upstream {
            address,
            connections,
            seen,
            go,
        }
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until it has read the text, in the body of `/upload`.
    pub fn wait_to_see(&self, text: &str) {
        let mut all = String::new();
        while !all.contains(text) {
            match self.seen.recv_timeout(crate::support::LIMIT) {
                Ok(more) => all.push_str(&more),
                Err(error) => panic!("{error}: saw only {all:?}, not {text:?}"),
            }
        }
    }

    /// Lets `/stream` go on.
    pub fn go_on(&self) {
        self.go.send(()).expect("it runs");
    }
}

/// Serves one connection until the client closes it.
fn serve(mut stream: impl Read + Write, talk: &Talk) {
    while let Some(path) = read_head(&mut stream) {
        let answered = match path.as_str() {
            "/silent" => hold(&mut stream),
            "/stall" => stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nstart")
                .and_then(|()| hold(&mut stream)),
            "/close" => return,
            "/stream" => send_stream(&mut stream, talk),
            "/upload" => {
                receive(&mut stream, talk);
                answer(&mut stream, "received")
            }
            _ => answer(&mut stream, "hello"),
        };
        if answered.is_err() {
            return;
        }
    }
}

fn answer(stream: &mut impl Write, text: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}",
        text.len()
    )?;
    stream.flush()
}

/// Says nothing until the client is gone.
fn hold(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    stream.flush()?;
    while stream.read(&mut [0; 64])? > 0 {}
    Ok(())
}

fn send_stream(stream: &mut impl Write, talk: &Talk) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst")?;
    stream.flush()?;
    if talk.go.lock().unwrap().recv().is_ok() {
        stream.write_all(b" then")?;
    }
    stream.flush()
}

/// Passes on what comes, until the end of a chunked body.
fn receive(stream: &mut impl Read, talk: &Talk) {
    let mut end = String::new();
    let mut buffer = [0; 1024];
    while !end.ends_with("0\r\n\r\n") {
        let Ok(count @ 1..) = stream.read(&mut buffer) else {
            return;
        };
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        end.push_str(&text);
        if talk.seen.send(text).is_err() {
            return;
        }
    }
}

/// The path of the next request; none when the client is gone.
fn read_head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
        // A client that begins with a TLS record is wrong here.
        if head[0] == TLS_RECORD {
            return None;
        }
    }
    let head = String::from_utf8(head).ok()?;
    head.split(' ').nth(1).map(str::to_owned)
}
