//! Bodies: how requests come in, a piece at a time, and how answers go out.

use std::pin::pin;

use app::{App, LiveLog, LogFollower, Platform, TimelineFollower};
use bytes::Bytes;
use futures::future::{self, Either};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};

use crate::limits::{KEEP_ALIVE_INTERVAL, MAX_DRAINED_BYTES};
use crate::problem::{Kind, Problem};
use crate::{news, sse};

/// A request's body, given by the shell.
pub trait BodyReader {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the body breaks off; the text says how, for the caller.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, String>>;
}

/// A body that is there already, as tests have it.
impl BodyReader for Option<Bytes> {
    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        Ok(self.take().filter(|bytes| !bytes.is_empty()))
    }
}

/// An answer's body.
pub enum Body<P: Platform> {
    /// All of it.
    Full(Bytes),
    /// Bytes that come as they are written.
    Live(Live<P>),
}

impl<P: Platform> std::fmt::Debug for Body<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({} bytes)", bytes.len()),
            Self::Live(_) => f.write_str("Live"),
        }
    }
}

/// An answer that grows.
pub struct Live<P: Platform>(Source<P>);

enum Source<P: Platform> {
    /// A log as it is written.
    Log(LiveLog<P>),
    /// Something followed as server-sent events, whose opening may still be due.
    Events {
        opening: bool,
        followed: Followed<P>,
    },
}

enum Followed<P: Platform> {
    Log(Box<LogFollower<P>>),
    Timeline(TimelineFollower),
}

impl<P: Platform> Live<P> {
    /// The bytes of a log.
    pub(crate) const fn of_log(log: LiveLog<P>) -> Self {
        Self(Source::Log(log))
    }

    /// The lines of a log, as events.
    pub(crate) fn of_lines(follower: LogFollower<P>) -> Self {
        Self::of_events(Followed::Log(Box::new(follower)))
    }

    /// The lines of a timeline, as events.
    pub(crate) const fn of_timeline(follower: TimelineFollower) -> Self {
        Self::of_events(Followed::Timeline(follower))
    }

    const fn of_events(followed: Followed<P>) -> Self {
        Self(Source::Events {
            opening: true,
            followed,
        })
    }

    /// The next bytes to send; none at the end.
    ///
    /// # Errors
    /// When the source breaks off: the answer must be broken off too, not ended. The text is for the operator.
    pub async fn chunk(&mut self, app: &App<P>) -> Result<Option<Bytes>, String> {
        let chunk = match &mut self.0 {
            Source::Log(log) => log.chunk().await,
            Source::Events { opening, followed } => {
                if std::mem::take(opening) {
                    return Ok(Some(Bytes::from_static(sse::OPENING.as_bytes())));
                }
                // What a follower waits for may be dropped, nothing of it is lost.
                let news = pin!(followed.next(app));
                match future::select(news, pin!(app.sleep(KEEP_ALIVE_INTERVAL))).await {
                    Either::Left((news, _)) => news,
                    Either::Right(_) => Ok(Some(Bytes::from_static(sse::KEEP_ALIVE.as_bytes()))),
                }
            }
        };
        chunk.map_err(|error| error.chain())
    }
}

impl<P: Platform> Followed<P> {
    async fn next(&mut self, app: &App<P>) -> Result<Option<Bytes>, app::Error> {
        let text = match self {
            Self::Log(log) => {
                let news = log.next(app).await?;
                news.map(|new| news::log_events(&new, log.attempt()))
            }
            Self::Timeline(timeline) => {
                let news = timeline.next(app).await?;
                news.map(|new| news::timeline_events(&new, timeline.last()))
            }
        };
        Ok(text.map(Bytes::from))
    }
}

/// Reads the whole body, if it has no more bytes than that.
///
/// # Errors
/// `body-too-large` over the limit, `incomplete-body` when it breaks off or is shorter than it said.
pub async fn read(
    headers: &HeaderMap,
    body: &mut impl BodyReader,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let said = said_length(headers)?;
    if said.is_some_and(|length| length > limit as u64) {
        // Who asks before sending has not sent yet: all the others are heard out.
        if !headers.contains_key(EXPECT) {
            drain(body, 0).await;
        }
        return Err(too_large(limit));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = body.chunk().await.map_err(broken_off)? {
        if bytes.len() + chunk.len() > limit {
            let seen = bytes.len() + chunk.len();
            drop(bytes);
            drain(body, seen).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    match said {
        Some(length) if length != bytes.len() as u64 => Err(Problem::new(
            Kind::IncompleteBody,
            format!(
                "The body has {} bytes, but Content-Length says {length}.",
                bytes.len()
            ),
        )),
        _ => Ok(bytes),
    }
}

fn said_length(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(CONTENT_LENGTH) else {
        return Ok(None);
    };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| {
        Problem::new(
            Kind::InvalidHeader,
            "The header Content-Length is no number.",
        )
    })
}

/// Throws away what still comes, up to a limit.
async fn drain(body: &mut impl BodyReader, mut seen: usize) {
    while seen <= MAX_DRAINED_BYTES {
        match body.chunk().await {
            Ok(Some(chunk)) => seen += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("The body is over {limit} bytes, the most that is taken here.");
    Problem::new(Kind::BodyTooLarge, detail)
}

/// What exactly broke is the connection's business, and the caller may not even hear this.
fn broken_off(_: String) -> Problem {
    Problem::new(
        Kind::IncompleteBody,
        "The body ended before it was complete.",
    )
}
