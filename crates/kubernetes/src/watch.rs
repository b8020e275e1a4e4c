//! Reading a watch: one JSON object a line, in pieces cut anywhere.

use std::borrow::Cow;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::Error;
use crate::job_status::JobObservation;
use crate::pod::PodObservation;
use crate::transport::{Body, TransportError};
use crate::wire;

/// A line longer than this is no event of ours, in bytes: etcd takes objects up to 1.5 MiB, and JSON at most
/// doubles what people write.
const LINE_LIMIT_BYTES: usize = 4 << 20;

/// What can be listed and watched.
pub trait Observed: sealed::Sealed {}

mod sealed {
    //! Keeps the set of [`Observed`](super::Observed) closed.
    use super::*;

    pub trait Sealed: From<Self::Wire> + Sized {
        type Wire: DeserializeOwned;
        fn resource_version(&self) -> &str;
    }

    impl Sealed for JobObservation {
        type Wire = wire::Job;
        fn resource_version(&self) -> &str {
            &self.resource_version
        }
    }

    impl Sealed for PodObservation {
        type Wire = wire::Pod;
        fn resource_version(&self) -> &str {
            &self.resource_version
        }
    }
}

impl Observed for JobObservation {}
impl Observed for PodObservation {}

/// A change of an object, in the order in which the changes happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent<K> {
    /// It is new, or has come to match the selector.
    Added(K),
    /// It changed.
    Modified(K),
    /// It is gone, or no longer matches the selector; the value is its last state.
    Deleted(K),
    /// Nothing of interest happened up to this resource version.
    Bookmark(String),
}

/// A running watch. The server ends it at its timeout; go on from [`resource_version`](Self::resource_version).
pub struct WatchStream<K, B> {
    body: B,
    lines: Lines,
    resource_version: String,
    kind: PhantomData<fn() -> K>,
}

impl<K: Observed, B: Body> WatchStream<K, B> {
    pub(crate) fn new(body: B, resource_version: &str) -> Self {
        Self {
            body,
            lines: Lines::default(),
            resource_version: resource_version.to_owned(),
            kind: PhantomData,
        }
    }

    /// The version up to which everything has been given out: where the next watch goes on.
    pub fn resource_version(&self) -> &str {
        &self.resource_version
    }

    /// The next change; none when the server has ended the watch. A future that is dropped before it is
    /// ready loses no change.
    ///
    /// # Errors
    /// [`Error::Gone`] when the version is too old (list anew), what an `ERROR` event says otherwise, and what
    /// the transport says.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<K>>, Error> {
        loop {
            while let Some(line) = self.lines.next()? {
                let Some(event) = decode::<K>(line)? else {
                    continue;
                };
                let version = match &event {
                    WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) => sealed::Sealed::resource_version(object),
                    WatchEvent::Bookmark(version) => version,
                };
                if !version.is_empty() {
                    version.clone_into(&mut self.resource_version);
                }
                return Ok(Some(event));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.lines.push(&chunk),
                None if self.lines.is_empty() => return Ok(None),
                None => {
                    let text = "the watch ended in the middle of an event".to_owned();
                    return Err(TransportError::Unknown(text).into());
                }
            }
        }
    }
}

/// A line as the server writes it.
#[derive(Deserialize)]
struct Line<'l, T> {
    #[serde(borrow)]
    r#type: Cow<'l, str>,
    object: T,
}

fn read<'l, T: Deserialize<'l>>(line: &'l [u8]) -> Result<Line<'l, T>, Error> {
    serde_json::from_slice(line).map_err(Error::Malformed)
}

/// The event in a line; none for a type that is unknown, as the API's rules for newer servers ask.
fn decode<K: Observed>(line: &[u8]) -> Result<Option<WatchEvent<K>>, Error> {
    // What the object is depends on the type, but nearly always it is one that changed: only what cannot be read as one, or says that
    // it is none, is gone through once more.
    let change = read::<K::Wire>(line);
    let kind = match &change {
        Ok(change) => change.r#type.clone(),
        Err(_) => read::<Option<IgnoredAny>>(line)?.r#type,
    };
    Ok(Some(match &*kind {
        "ADDED" => WatchEvent::Added(K::from(change?.object)),
        "MODIFIED" => WatchEvent::Modified(K::from(change?.object)),
        "DELETED" => WatchEvent::Deleted(K::from(change?.object)),
        "BOOKMARK" => {
            let bookmark = read::<wire::Object>(line)?.object;
            WatchEvent::Bookmark(bookmark.metadata.resource_version)
        }
        "ERROR" => return Err(Error::from_status(read(line)?.object, 500, None)),
        _ => return Ok(None),
    }))
}

/// Lines out of pieces.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// Where the first line begins that was not given out.
    start: usize,
    /// Up to where there surely is no line's end.
    searched: usize,
}

impl Lines {
    fn push(&mut self, piece: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole line that is not blank, without its end.
    fn next(&mut self) -> Result<Option<&[u8]>, Error> {
        let range = loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                if self.searched - self.start > LINE_LIMIT_BYTES {
                    return Err(Error::BodyTooLarge {
                        limit_bytes: LINE_LIMIT_BYTES,
                    });
                }
                return Ok(None);
            };
            let range = self.start..self.searched + found;
            self.start = range.end + 1;
            self.searched = self.start;
            if range.len() > LINE_LIMIT_BYTES {
                return Err(Error::BodyTooLarge {
                    limit_bytes: LINE_LIMIT_BYTES,
                });
            }
            if !self.buffer[range.clone()].trim_ascii().is_empty() {
                break range;
            }
        };
        Ok(Some(&self.buffer[range]))
    }

    /// Whether nothing but blanks is left.
    fn is_empty(&self) -> bool {
        self.buffer[self.start..].trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    //! Watches cut at every byte, broken off, too long, and with news of newer servers.
    use super::*;
    use crate::fake::{FakeBody, ready};

    const EVENTS: &str = concat!(
        r#"{"type":"ADDED","object":{"kind":"Pod","metadata":{"name":"é","resourceVersion":"1"},"status":{"phase":"Pending"}}}"#,
        "\n",
        r#"{"type":"SOMETHING_NEW","object":{"x":[]}}"#,
        "\n",
        "\r\n",
        r#"{"object":{"metadata":{"name":"b","resourceVersion":"2"}},"type":"MODIFIED"}"#,
        "\n",
        r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"3","creationTimestamp":null}}}"#,
        "\n",
        r#"{"type":"DELETED","object":{"metadata":{"name":"c","resourceVersion":"4"}}}"#,
        "\n",
    );

    type Stream = WatchStream<PodObservation, FakeBody>;

    fn all(body: FakeBody) -> (Vec<String>, String, Option<Error>) {
        let mut stream = Stream::new(body, "0");
        let mut seen = Vec::new();
        loop {
            match ready(stream.next()) {
                Ok(Some(WatchEvent::Added(pod))) => seen.push(format!("+{}", pod.name)),
                Ok(Some(WatchEvent::Modified(pod))) => seen.push(format!("~{}", pod.name)),
                Ok(Some(WatchEvent::Deleted(pod))) => seen.push(format!("-{}", pod.name)),
                Ok(Some(WatchEvent::Bookmark(version))) => seen.push(format!("@{version}")),
                Ok(None) => return (seen, stream.resource_version, None),
                Err(error) => return (seen, stream.resource_version, Some(error)),
            }
        }
    }

    #[test]
    fn the_cut_does_not_matter() {
        let expected = ["+é", "~b", "@3", "-c"];
        for step in 1..=EVENTS.len() {
            let (seen, version, error) = all(FakeBody::in_pieces(EVENTS.as_bytes(), step));
            assert_eq!(
                (seen, version.as_str()),
                (expected.map(str::to_owned).to_vec(), "4"),
                "step {step}"
            );
            assert!(error.is_none());
        }
        for cut in 1..EVENTS.len() {
            let (first, second) = EVENTS.as_bytes().split_at(cut);
            let mut lines = Lines::default();
            let mut count = 0;
            for piece in [first, second] {
                lines.push(piece);
                while lines.next().expect("short").is_some() {
                    count += 1;
                }
            }
            assert_eq!((count, lines.is_empty()), (5, true), "cut {cut}");
        }
    }

    #[test]
    fn an_end_in_the_middle_is_told_from_an_end() {
        let cut = &EVENTS.as_bytes()[..EVENTS.len() - 2];
        let (seen, version, error) = all(FakeBody::in_pieces(cut, 11));
        assert_eq!((seen.len(), version.as_str()), (3, "3"));
        assert!(matches!(
            error,
            Some(Error::Transport(TransportError::Unknown(_)))
        ));
        let (seen, _, error) = all(FakeBody::in_pieces(EVENTS.as_bytes(), 11).then_breaks());
        assert_eq!(seen.len(), 4);
        assert!(matches!(
            error,
            Some(Error::Transport(TransportError::Unknown(_)))
        ));
    }

    #[test]
    fn an_error_event_is_the_error_it_names() {
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","message":"too old resource version: 1 (9)","code":410}}"#;
        let (_, version, error) = all(FakeBody::in_pieces(format!("{gone}\n").as_bytes(), 7));
        assert!(matches!(error, Some(Error::Gone { .. })));
        assert_eq!(version, "0");
        let other = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":500,\"reason\":\"InternalError\"}}\n";
        assert!(matches!(
            all(FakeBody::in_pieces(other.as_bytes(), 7)).2,
            Some(Error::Unavailable { code: 500, .. })
        ));
    }

    #[test]
    fn rubbish_and_endless_lines_are_errors() {
        for rubbish in [
            "<html>\n",
            "{\"type\":\"ADDED\"}\n",
            "{\"type\":\"ADDED\",\"object\":[3,4]\n",
        ] {
            assert!(
                matches!(
                    all(FakeBody::in_pieces(rubbish.as_bytes(), 3)).2,
                    Some(Error::Malformed(_))
                ),
                "{rubbish}"
            );
        }
        let endless = vec![b'x'; LINE_LIMIT_BYTES + 1];
        let (_, _, error) = all(FakeBody::in_pieces(&endless, 1 << 16));
        assert!(matches!(
            error,
            Some(Error::BodyTooLarge {
                limit_bytes: LINE_LIMIT_BYTES
            })
        ));
    }
}
