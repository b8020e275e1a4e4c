//! HTTP/1.1 by hand, for requests that no decent client would send.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::client::Answer;

/// How long a server may be silent: it may wait for a body that never comes, but not for ever.
const SILENCE: Duration = Duration::from_secs(40);

/// Sends the bytes as they are and reads the answer; none when the server closed without one.
///
/// With `half_close` the sending side is closed after the bytes, so that a body that was promised
/// longer ends there.
///
/// # Panics
/// When the server says nothing at all for a long time, or what it says is no HTTP.
pub fn exchange(authority: &str, request: &[u8], half_close: bool) -> Option<Answer> {
    let mut reading = TcpStream::connect(authority)
        .unwrap_or_else(|e| panic!("cannot connect to {authority}: {e}"));
    reading
        .set_read_timeout(Some(SILENCE))
        .expect("a timeout above zero is fine");
    reading
        .set_write_timeout(Some(SILENCE))
        .expect("a timeout above zero is fine");
    let mut writing = reading.try_clone().expect("a socket can be copied");
    std::thread::scope(|scope| {
        // A server may answer before it has read a large body, and not read on.
        scope.spawn(move || {
            let sent = writing.write_all(request);
            if sent.is_ok() && half_close {
                let _ = writing.shutdown(Shutdown::Write);
            }
        });
        let answer = read_answer(&mut reading);
        let _ = reading.shutdown(Shutdown::Both);
        answer
    })
}

/// Sends the bytes and reads what comes in that time, or up to the end: an answer that is cut off in its midst.
///
/// # Panics
/// When there is no connection.
pub fn exchange_for(authority: &str, request: &[u8], time: Duration) -> Option<Answer> {
    let mut stream = TcpStream::connect(authority)
        .unwrap_or_else(|e| panic!("cannot connect to {authority}: {e}"));
    stream.write_all(request).expect("a small request is sent");
    let until = Instant::now() + time;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            break;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
        }
    }
    parse(&bytes, true)
}

fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&bytes, false) {
            return Some(answer);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return parse(&bytes, true),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {
                return parse(&bytes, true);
            }
            Err(e) => panic!(
                "no answer: {e}; so far {:?}",
                String::from_utf8_lossy(&bytes)
            ),
        }
    }
}

/// The answer if it is complete; at the end of the stream what has come is all there is.
fn parse(bytes: &[u8], ended: bool) -> Option<Answer> {
    let split = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &bytes[split + 4..];
    let header = |name: &str| {
        let found = headers.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    };
    let body = if header("transfer-encoding").is_some_and(|t| t.contains("chunked")) {
        unchunk(rest, ended)?
    } else if let Some(length) = header("content-length").and_then(|l| l.parse::<usize>().ok()) {
        if rest.len() < length && !ended {
            return None;
        }
        rest[..rest.len().min(length)].to_vec()
    } else if ended {
        rest.to_vec()
    } else {
        return None;
    };
    Some(Answer {
        status,
        headers,
        body,
    })
}

/// The body that comes in chunks, if it is complete; where the stream has ended, what there is of it.
pub fn unchunk(mut rest: &[u8], ended: bool) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let part = rest.windows(2).position(|w| w == b"\r\n").and_then(|line| {
            let size = std::str::from_utf8(&rest[..line]).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let data = rest.get(line + 2..line + 2 + size)?;
            Some((data, rest.get(line + 2 + size + 2..).unwrap_or_default()))
        });
        match part {
            Some(([], _)) => return Some(body),
            Some((data, more)) => {
                body.extend_from_slice(data);
                rest = more;
            }
            None => return ended.then_some(body),
        }
    }
}

/// A POST of `/executions` with the usual headers, and those given in place of or beside them.
pub fn post(headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    request("POST", "/executions", headers, body)
}

/// A request with `host`, `connection: close`, and, where not given, a JSON `content-type` for a
/// body and the right `content-length`.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let given = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nhost: executor.test\r\nconnection: close\r\n");
    if !body.is_empty() && !given("content-type") {
        head.push_str("content-type: application/json\r\n");
    }
    if !given("content-length")
        && !given("transfer-encoding")
        && (!body.is_empty() || method == "POST")
    {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_are_complete_by_length_by_chunks_or_by_the_end() {
        let by_length = b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(parse(by_length, false).expect("complete").body, b"abc");
        assert!(parse(&by_length[..by_length.len() - 1], false).is_none());
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(parse(chunked, false).expect("complete").body, b"abc");
        assert!(parse(&chunked[..chunked.len() - 6], false).is_none());
        let open = b"HTTP/1.0 200 OK\r\n\r\nabc";
        assert!(parse(open, false).is_none());
        assert_eq!(parse(open, true).expect("complete").body, b"abc");
    }
}
