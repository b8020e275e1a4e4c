//! Server-sent events, as the HTML standard has them: `text/event-stream`, read by `EventSource`.

use app::Platform;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::answer::Reply;
use crate::body::{Body, Live};
use crate::problem::{Kind, Problem, shortened};

/// The type of such an answer.
const EVENT_STREAM: &str = "text/event-stream";

/// Where a reader goes on.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Asks proxies of the nginx family not to hold events back.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What the id of the last event of all ends with.
const END_MARK: &str = ".end";

/// The first thing that is sent, so that the head goes out at once: after so many milliseconds a reader that was cut
/// off comes back.
pub const OPENING: &str = "retry: 1000\n\n";

/// A comment, which readers pass over.
pub const KEEP_ALIVE: &str = ": still here\n\n";

/// Whether the request asks for events.
pub fn wanted(headers: &HeaderMap) -> bool {
    headers.get_all(ACCEPT).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        text.split(',')
            .any(|one| one.split(';').next().unwrap_or("").trim() == EVENT_STREAM)
    })
}

/// Where the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume<T> {
    /// From the beginning.
    Start,
    /// After the event with that id.
    After(T),
    /// After the last event of all.
    End,
}

/// Reads `Last-Event-ID`.
///
/// # Errors
/// `invalid-header`, when it is not the id of an event.
pub fn resume<T>(
    headers: &HeaderMap,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Resume<T>, Problem> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Ok(Resume::Start);
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    if text.is_empty() {
        return Ok(Resume::Start); // What an EventSource has that saw no id.
    }
    let (id, ended) = match text.strip_suffix(END_MARK) {
        Some(id) => (id, true),
        None => (text.as_ref(), false),
    };
    match read(id) {
        Some(_) if ended => Ok(Resume::End),
        Some(id) => Ok(Resume::After(id)),
        None => {
            let detail = format!(
                "The header Last-Event-ID is `{}`, which is no id of an event here; leave it out to begin at the beginning.",
                shortened(&text)
            );
            Err(Problem::new(Kind::InvalidHeader, detail))
        }
    }
}

/// An answer of events that come as they happen; for a HEAD just its head.
pub fn reply<P: Platform>(live: Live<P>) -> Reply<P> {
    let mut reply = Reply::text(StatusCode::OK, "")
        .header(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM))
        .header(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    *reply.response.body_mut() = Body::Live(live);
    reply
}

/// The answer to a reader that has had the last event: no content, after which an `EventSource` does not come back.
pub fn nothing_more<P: Platform>() -> Reply<P> {
    let mut reply = Reply::text(StatusCode::NO_CONTENT, Bytes::new());
    reply.response.headers_mut().clear();
    reply
}

/// The id of the last event of all, which comes after the event with that id.
pub fn end_id(id: impl std::fmt::Display) -> String {
    format!("{id}{END_MARK}")
}

/// Writes one event; without a name it is a `message`. Each line of the data gets a field of its own: LF, CR LF and CR
/// all are line breaks there, and readers get them as LF.
pub fn write(out: &mut String, name: Option<&str>, id: &str, data: &str) {
    if let Some(name) = name {
        out.push_str("event: ");
        out.push_str(name);
        out.push('\n');
    }
    out.push_str("id: ");
    out.push_str(id);
    out.push('\n');
    for line in data.replace("\r\n", "\n").split(['\n', '\r']) {
        out.push_str("data: ");
        out.push_str(line);
        out.push('\n');
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    //! The form of events, and what asks for them.
    use super::*;

    #[test]
    fn each_line_of_the_data_is_a_field() {
        for (data, expected) in [
            ("", "id: 7\ndata: \n\n"),
            (" a: b", "id: 7\ndata:  a: b\n\n"),
            (
                "a\rb\r\nc\n",
                "id: 7\ndata: a\ndata: b\ndata: c\ndata: \n\n",
            ),
        ] {
            let mut out = String::new();
            write(&mut out, None, "7", data);
            assert_eq!(out, expected);
        }
        let mut out = String::new();
        write(&mut out, Some("end"), &end_id(7), "{}");
        assert_eq!(out, "event: end\nid: 7.end\ndata: {}\n\n");
    }

    #[test]
    fn only_its_own_type_asks_for_events() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.9", true),
            ("text/*", false),
            ("*/*", false),
            ("text/event-streams", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wanted(&headers), expected, "{accept}");
        }
        assert!(!wanted(&HeaderMap::new()));
    }

    #[test]
    fn an_id_tells_where_to_go_on() {
        let read = |text: &str| text.parse::<u32>().ok();
        for (id, expected) in [
            ("", Some(Resume::Start)),
            ("7", Some(Resume::After(7))),
            ("7.end", Some(Resume::End)),
            ("x", None),
            (".end", None),
            ("7.end.end", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LAST_EVENT_ID, HeaderValue::from_static(id));
            assert_eq!(resume(&headers, read).ok(), expected, "{id:?}");
        }
        assert_eq!(resume(&HeaderMap::new(), read).ok(), Some(Resume::Start));
    }
}
