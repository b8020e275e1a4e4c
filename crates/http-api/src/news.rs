//! Timelines and followed logs as the API writes them: JSON, and server-sent events.

use std::fmt;

use app::wire::{ExecutionJson, Time};
use app::{Event, FollowedLog, LogNews, Place, TimelineNews, View};
use serde::Serialize;

use crate::sse;

/// A timeline.
#[derive(Serialize)]
pub struct TimelineJson<'a> {
    /// In the order in which it happened first.
    pub items: Vec<EventJson<'a>>,
}

/// One line of a timeline.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventJson<'a> {
    sequence: u32,
    at: Time,
    r#type: &'a str,
    message: &'a str,
    source: &'a str,
    count: u32,
    last_at: Time,
}

impl<'a> EventJson<'a> {
    /// The line as its caller sees it.
    pub fn of(event: &'a Event) -> Self {
        let entry = &event.entry;
        Self {
            sequence: event.sequence,
            at: Time(entry.at),
            r#type: &entry.kind,
            message: &entry.message,
            source: &entry.source,
            count: entry.count,
            last_at: Time(entry.last_at),
        }
    }
}

/// The names of the events that are no lines.
mod event_name {
    pub const PART: &str = "part";
    pub const LOST: &str = "lost";
    pub const GAP: &str = "gap";
    pub const END: &str = "end";
}

/// The news of a timeline as server-sent events; `last` is the number of its last line.
pub fn timeline_events(news: &TimelineNews, last: u32) -> String {
    let mut out = String::new();
    match news {
        TimelineNews::Lines(lines) => {
            for event in lines {
                let id = event.sequence.to_string();
                sse::write(&mut out, None, &id, &json(&EventJson::of(event)));
            }
        }
        TimelineNews::End(view) => write_end(&mut out, view, &sse::end_id(last)),
    }
    out
}

/// A place in the log of an attempt, as the id of an event. That of a first attempt is the place alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId {
    /// The attempt's number.
    pub attempt: u32,
    /// The place in its log.
    pub place: Place,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.attempt {
            1 => self.place.fmt(f),
            later => write!(f, "{later}:{}", self.place),
        }
    }
}

impl LogId {
    /// Reads it again; none where it is none.
    pub fn read(text: &str) -> Option<Self> {
        let (attempt, place) = match text.split_once(':') {
            Some((attempt, place)) => (attempt.parse().ok().filter(|n| *n > 1)?, place),
            None => (1, text),
        };
        let place = place.parse().ok()?;
        Some(Self { attempt, place })
    }
}

/// The news of that attempt's log as server-sent events. What is no UTF-8 in it is shown as U+FFFD.
pub fn log_events(news: &FollowedLog, attempt: u32) -> String {
    let id = |place| LogId { attempt, place };
    let mut out = String::new();
    let news = match news {
        FollowedLog::News(news) => news,
        FollowedLog::End { view, place } => {
            write_end(&mut out, view, &sse::end_id(id(*place)));
            return out;
        }
    };
    for one in news {
        let id = id(one.place()).to_string();
        match one {
            LogNews::Line { bytes, goes_on, .. } => {
                let name = goes_on.then_some(event_name::PART);
                // The other half of the line break that DOS and terminals have.
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                sse::write(&mut out, name, &id, &String::from_utf8_lossy(bytes));
            }
            LogNews::Lost { bytes, .. } => {
                let data = format!("{{\"lostBytes\":{bytes}}}");
                sse::write(&mut out, Some(event_name::LOST), &id, &data);
            }
            LogNews::Gap => sse::write(&mut out, Some(event_name::GAP), &id, "{}"),
        }
    }
    out
}

fn write_end(out: &mut String, view: &View, id: &str) {
    let data = json(&ExecutionJson::of(view));
    sse::write(out, Some(event_name::END), id, &data);
}

/// Values that cannot be written as JSON do not occur: all names are strings.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
