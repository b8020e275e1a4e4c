//! What callers send: requests, submissions, queries and cursors, through the routes of the API over a real SQLite.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;

use crate::input;
use crate::platform::Pieces;
use crate::service::{Answer, TOKENS, check, filled, service};

/// What anybody may ask for.
const PUBLIC: [&str; 4] = ["/executions/health", "/healthz", "/readyz", "/openapi.json"];

/// Larger queries are no query of a list any more, in bytes: hosts refuse such a URL.
const MAX_QUERY_BYTES: usize = 4_096;

/// More pages than this have more executions than there are.
const MAX_PAGES: usize = 4;

/// A whole request: a line with method and URL, lines of headers, an empty line, and the body. Every answer is one that the
/// description of the API names, and nobody without a token is told anything.
pub fn requests(data: &[u8]) {
    let (line, mut rest) = input::line(data);
    let Ok(line) = std::str::from_utf8(line) else {
        return;
    };
    let (method, uri) = line.split_once(' ').unwrap_or((line, "/"));
    let (Ok(method), Ok(uri)) = (
        Method::from_bytes(method.as_bytes()),
        Uri::try_from(filled(uri)),
    ) else {
        return;
    };
    // Hosts give a path with every request; none is of CONNECT's form.
    if uri.path().is_empty() {
        return;
    }
    let mut request = Request::new(());
    let mut has_token = false;
    loop {
        let (line, after) = input::line(rest);
        rest = after;
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = header(line) else {
            continue;
        };
        let text = value.as_bytes();
        has_token |= TOKENS
            .iter()
            .any(|(_, token)| text.ends_with(token.as_bytes()));
        request.headers_mut().append(name, value);
    }
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri.clone();
    // In two pieces, and now and then broken off.
    let (one, other) = rest.split_at(rest.len() / 2);
    let breaks = request.headers().contains_key("x-break-off");
    let answer = service().send(request.map(|()| Pieces::of(&[one, other], breaks)));
    check(&method, uri.path(), &answer);
    if !has_token && !PUBLIC.contains(&uri.path()) {
        assert!(
            [401, 404, 405].contains(&answer.status),
            "{uri}: {answer:?}"
        );
    }
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = HeaderName::from_bytes(&line[..colon]).ok()?;
    let value = String::from_utf8_lossy(line[colon + 1..].trim_ascii_start());
    // What is no UTF-8 goes in as it is.
    let value = match value {
        std::borrow::Cow::Borrowed(text) => HeaderValue::from_str(&filled(text)),
        std::borrow::Cow::Owned(_) => HeaderValue::from_bytes(line[colon + 1..].trim_ascii_start()),
    };
    Some((name, value.ok()?))
}

/// The body of a submission. What is accepted is shown as it was asked for, is a replay when it comes again in other words,
/// and has a Job that Kubernetes can take.
pub fn submissions(data: &[u8]) {
    let service = service();
    let key = [("idempotency-key", "k")];
    let send = |body: &[u8]| {
        let answer = service.ask_with(Method::POST, "/executions", "{run}", &key, body);
        check(&Method::POST, "/executions", &answer);
        answer
    };
    let first = send(data);
    if first.status != 201 {
        assert!([400, 422].contains(&first.status), "{first:?}");
        return;
    }
    let asked: Value = serde_json::from_slice(data).expect("what is accepted is JSON");
    let id = first.json()["id"].clone();
    let location = first.header("location").expect("a location");
    let shown = service.ask(Method::GET, location, "{read}", b"");
    check(&Method::GET, location, &shown);
    let shown = shown.json();
    assert_eq!(shown["id"], id);
    if let Some(labels) = asked["labels"].as_object() {
        assert_eq!(shown["labels"].as_object(), Some(labels));
    }
    let in_other_words = serde_json::to_vec_pretty(&asked).expect("JSON");
    let again = send(&in_other_words);
    assert_eq!((again.status, &again.json()["id"]), (200, &id), "{again:?}");
    let jobs = service.api_server.jobs.borrow();
    assert_eq!(
        jobs.len(),
        1,
        "there is room, so its Job is created at once"
    );
    let name = jobs[0].metadata.name.as_deref().unwrap_or_default();
    assert_eq!(name, format!("x-{}", id.as_str().unwrap_or_default()));
}

/// The query of a list. Whatever is answered goes on page by page to its end, and has nothing twice.
pub fn lists(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(&data[..data.len().min(MAX_QUERY_BYTES)]) else {
        return;
    };
    let mut url = format!("/executions?{}", filled(query));
    if Uri::try_from(&url).is_err() {
        return;
    }
    let service = service();
    let mut seen = BTreeSet::new();
    for page in 0..=MAX_PAGES {
        assert!(page < MAX_PAGES, "a list does not end");
        let answer = service.ask(Method::GET, &url, "{read}", b"");
        check(&Method::GET, "/executions", &answer);
        if page == 0 && answer.status == 400 {
            return;
        }
        assert_eq!(answer.status, 200, "{url}: {answer:?}");
        let list = answer.json();
        for item in list["items"].as_array().expect("items") {
            assert!(seen.insert(item["id"].to_string()), "{item} comes twice");
        }
        match next(&answer) {
            Some(next) => url = next,
            None => return assert!(list["next"].is_null()),
        }
    }
}

/// The URL of the next page.
fn next(answer: &Answer) -> Option<String> {
    let link = answer.header("link")?;
    let next = link
        .strip_prefix('<')
        .and_then(|l| l.strip_suffix(">; rel=\"next\""));
    Some(next.expect("a link to the next page").to_owned())
}

/// A cursor, as its text and as the bytes in it: exactly what we have written is taken, and all else is a `400`.
pub fn cursors(data: &[u8]) {
    let service = service();
    let takes = |text: &[u8]| {
        let cursor = percent_encode(text, NON_ALPHANUMERIC);
        let url = format!("/executions?cursor={cursor}");
        let answer = service.ask(Method::GET, &url, "{read}", b"");
        check(&Method::GET, "/executions", &answer);
        assert!([200, 400].contains(&answer.status), "{answer:?}");
        answer.status == 200
    };
    let data = &data[..data.len().min(64)];
    let expected = URL_SAFE_NO_PAD.decode(data).is_ok_and(|bytes| {
        // One spelling for each.
        is_place(&bytes) && URL_SAFE_NO_PAD.encode(&bytes).as_bytes() == data
    });
    assert_eq!(takes(data), expected, "as text");
    let text = URL_SAFE_NO_PAD.encode(data);
    assert_eq!(takes(text.as_bytes()), is_place(data), "as bytes");
}

/// A version, a time that there is in microseconds, and a UUID.
fn is_place(bytes: &[u8]) -> bool {
    let [1, rest @ ..] = bytes else {
        return false;
    };
    let time = rest
        .first_chunk::<8>()
        .map(|micros| i64::from_be_bytes(*micros));
    rest.len() == 24 && time.is_some_and(|micros| Timestamp::from_microsecond(micros).is_ok())
}
