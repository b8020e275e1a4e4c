//! HTTP/1.1 on one kept connection, with as little between the clock and the socket as can be.
//!
//! Both sides of a ratio are asked through this, so what it costs is in both alike. It knows what answers of an API look
//! like: a length or chunks, no trailers that matter, no informational answers.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A server that is silent for so long has failed; far beyond any figure.
const SILENCE: Duration = Duration::from_secs(60);

/// What one read takes at most.
const CHUNK_BYTES: usize = 16 * 1024;

/// Where requests go.
#[derive(Clone)]
pub struct Server {
    /// `host:port`.
    authority: String,
    tls: Option<Arc<ClientConfig>>,
    /// Header lines of every request, each with its line's end.
    headers: String,
}

/// One connection, kept from request to request.
pub struct Connection {
    stream: Box<dyn Stream>,
    /// What was read; an answer begins at its beginning.
    buffer: Vec<u8>,
    is_closing: bool,
    server: Server,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The status of an answer, and its body as it was sent, chunk by chunk joined.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Server {
    /// The server at `scheme://host:port`, called with that bearer token if it is not empty; `https` is trusted by the
    /// certificates in the file.
    ///
    /// # Panics
    /// When the file has none.
    pub fn new(url: &str, token: &str, ca: Option<&Path>) -> Self {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let host = rest.split('/').next().unwrap_or(rest);
        let port = if scheme == "https" { 443 } else { 80 };
        let authority = match host.rsplit_once(':') {
            Some(_) => host.to_owned(),
            None => format!("{host}:{port}"),
        };
        let mut headers = format!("host: {host}\r\n");
        if !token.is_empty() {
            headers += &format!("authorization: Bearer {token}\r\n");
        }
        Self {
            authority,
            tls: (scheme == "https").then(|| tls(ca)),
            headers,
        }
    }

    /// The bytes of a request; `body` is JSON.
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> Vec<u8> {
        let mut text = format!("{method} {path} HTTP/1.1\r\n{}", self.headers);
        if let Some(body) = body {
            text += &format!(
                "content-type: application/json\r\ncontent-length: {}\r\n",
                body.len()
            );
        }
        text += "\r\n";
        text += body.unwrap_or_default();
        text.into_bytes()
    }

    /// A new connection.
    ///
    /// # Errors
    /// When there is none to be had.
    pub fn connect(&self) -> io::Result<Connection> {
        Ok(Connection {
            stream: self.stream()?,
            buffer: Vec::new(),
            is_closing: false,
            server: self.clone(),
        })
    }

    fn stream(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.authority)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = self
            .authority
            .rsplit_once(':')
            .map_or(&*self.authority, |(host, _)| host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }
}

fn tls(ca: Option<&Path>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        let certificates = CertificateDer::pem_file_iter(ca)
            .unwrap_or_else(|e| panic!("{}: {e}", ca.display()))
            .flatten();
        roots.add_parsable_certificates(certificates);
    }
    assert!(!roots.is_empty(), "https needs the file of a CA");
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
    Arc::new(config)
}

impl Connection {
    /// Sends a request of [`Server::request`] and reads its whole answer.
    ///
    /// # Errors
    /// When the connection breaks or what comes is no HTTP.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        if self.is_closing {
            self.stream = self.server.stream()?;
            self.buffer.clear();
            self.is_closing = false;
        }
        self.stream.write_all(request)?;
        self.stream.flush()?;
        loop {
            if let Some((answer, length, is_closing)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
                self.is_closing = is_closing;
                return Ok(answer);
            }
            let mut chunk = [0; CHUNK_BYTES];
            match self.stream.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}

/// The answer at the beginning of the bytes, its length there, and whether the server closes after it; none where more
/// is to come.
fn parse(bytes: &[u8]) -> io::Result<Option<(Answer, usize, bool)>> {
    let Some(split) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&bytes[..split]).to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or(io::ErrorKind::InvalidData)?;
    let header = |name: &str| {
        let mut found = head.split("\r\n").filter_map(|line| line.split_once(':'));
        found.find(|(n, _)| *n == name).map(|(_, v)| v.trim())
    };
    let is_closing = header("connection") == Some("close");
    let start = split + 4;
    let rest = &bytes[start..];
    let body = if header("transfer-encoding").is_some_and(|t| t.contains("chunked")) {
        chunks(rest)
    } else {
        let length: usize = header("content-length")
            .map_or(Some(0), |text| text.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        rest.get(..length).map(|body| (body.to_vec(), length))
    };
    Ok(body.map(|(body, length)| (Answer { status, body }, start + length, is_closing)))
}

/// The joined chunks and their length with all that is between, if they are all there.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let rest = &bytes[at..];
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        let data = rest.get(line + 2..line + 2 + size)?;
        rest.get(line + 2 + size..line + 4 + size)?;
        body.extend_from_slice(data);
        at += line + 4 + size;
        if size == 0 {
            return Some((body, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_by_length_or_by_chunks_and_the_next_begins_there() {
        let by_length = b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 ";
        let (answer, length, closing) = parse(by_length).expect("HTTP").expect("complete");
        assert_eq!(
            (answer.status, &answer.body[..], closing),
            (201, &b"abc"[..], false)
        );
        assert_eq!(&by_length[length..], b"HTTP/1.1 ");
        assert!(parse(&by_length[..length - 1]).expect("HTTP").is_none());

        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        let (answer, length, closing) = parse(chunked).expect("HTTP").expect("complete");
        assert_eq!(
            (&answer.body[..], length, closing),
            (&b"abc"[..], chunked.len(), true)
        );
        for end in 0..chunked.len() {
            assert!(
                parse(&chunked[..end]).expect("HTTP").is_none(),
                "cut at {end}"
            );
        }
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_says_who_calls_and_how_much_comes() {
        let server = Server::new("http://127.0.0.1:1/", "secret", None);
        let text = String::from_utf8(server.request("POST", "/x", Some("{}"))).expect("text");
        assert_eq!(
            text,
            "POST /x HTTP/1.1\r\nhost: 127.0.0.1:1\r\nauthorization: Bearer secret\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
        assert_eq!(server.authority, "127.0.0.1:1");
    }
}
