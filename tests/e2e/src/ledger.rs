//! Where scripts write down that they ran, out of Executor's reach.
//!
//! A tiny HTTP server in the test: pods of a real cluster share no file with the test, but reach the
//! node's address. On the embedded cluster scripts append to a file, since a host need not have `nc`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A script that connects and says nothing must not hold the ledger up.
const SILENCE: Duration = Duration::from_secs(10);

/// What has been written down: a line for each start and each end.
pub struct Ledger {
    kind: Kind,
}

enum Kind {
    File(PathBuf),
    Server {
        host: String,
        port: u16,
        lines: Arc<Mutex<Vec<String>>>,
    },
}

impl Ledger {
    /// A file that scripts on this machine append to.
    pub fn file(path: PathBuf) -> Self {
        std::fs::write(&path, "").unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            kind: Kind::File(path),
        }
    }

    /// A server on all addresses, which pods reach at `host`.
    pub fn server(host: &str) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").expect("some port is free");
        let port = listener.local_addr().expect("a bound address").port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&lines);
        // It lives as long as the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let written = Arc::clone(&written);
                std::thread::spawn(move || serve(stream, &written));
            }
        });
        Self {
            kind: Kind::Server {
                host: host.to_owned(),
                port,
                lines,
            },
        }
    }

    /// Shell functions for the head of a script: `note WORD` writes `WORD NONCE` down, and a script
    /// that cannot write ends with exit code 99.
    pub fn prelude(&self, nonce: &str) -> String {
        match &self.kind {
            Kind::File(path) => format!(
                "note() {{ echo \"$1 {nonce}\" >>'{}' || exit 99; }}\n",
                path.display()
            ),
            // By `nc` with a number for an address: a static BusyBox may crash where names are looked up, in wget too.
            Kind::Server { host, port, .. } => format!(
                "note() {{ printf 'GET /%s/{nonce} HTTP/1.0\\r\\n\\r\\n' \"$1\" | \
                 nc -w 20 {host} {port} | grep -q '200 OK' || exit 99; }}\n"
            ),
        }
    }

    /// How often each nonce was written down with that word.
    pub fn count(&self, word: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in self.lines() {
            if let Some((first, nonce)) = line.split_once(' ')
                && first == word
            {
                *counts.entry(nonce.to_owned()).or_insert(0) += 1;
            }
        }
        counts
    }

    /// The most nonces that had noted one word and not yet the other, at any time: how many ran at once, by their own words.
    pub fn most_between(&self, first: &str, last: &str) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for line in self.lines() {
            match line.split_once(' ') {
                Some((word, _)) if word == first => now += 1,
                Some((word, _)) if word == last => now = now.saturating_sub(1),
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    fn lines(&self) -> Vec<String> {
        match &self.kind {
            Kind::File(path) => std::fs::read_to_string(path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
                .lines()
                .map(str::to_owned)
                .collect(),
            Kind::Server { lines, .. } => lines.lock().expect("no writer panics").clone(),
        }
    }
}

/// Answers one `GET /word/nonce`, writing it down first: an answer that is lost counts as a start.
fn serve(mut stream: TcpStream, written: &Mutex<Vec<String>>) {
    let _ = stream.set_read_timeout(Some(SILENCE));
    let mut line = String::new();
    let mut reader = BufReader::new(&stream);
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or_default();
    let Some((word, nonce)) = path.trim_start_matches('/').split_once('/') else {
        return;
    };
    written
        .lock()
        .expect("no writer panics")
        .push(format!("{word} {nonce}"));
    let mut header = String::new();
    while reader.read_line(&mut header).is_ok_and(|n| n > 2) {
        header.clear();
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_count_what_was_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Ledger::file(folder.path().join("ledger"));
        let script = format!("{}note start; note end", file.prelude("n1"));
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .status();
        assert!(status.expect("sh runs").success());
        assert_eq!(file.count("start"), BTreeMap::from([("n1".to_owned(), 1)]));
        assert_eq!(file.count("end").len(), 1);
        let script = format!(
            "{0}note start; {1}note start; {0}note end",
            file.prelude("n1"),
            file.prelude("n2")
        );
        let status = std::process::Command::new("sh")
            .args(["-c", &script])
            .status();
        assert!(status.expect("sh runs").success());
        assert_eq!(file.most_between("start", "end"), 2);

        let server = Ledger::server("127.0.0.1");
        let script = format!("{}note start; note start", server.prelude("n2"));
        let status = std::process::Command::new("busybox")
            .args(["sh", "-c", &script])
            .status();
        assert!(status.expect("busybox runs").success());
        assert_eq!(
            server.count("start"),
            BTreeMap::from([("n2".to_owned(), 2)])
        );
        assert!(server.count("end").is_empty());
    }
}
