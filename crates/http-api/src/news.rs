//! Timelines and followed logs as the API writes them: JSON, and server-sent events.

use app::wire::{ExecutionJson, Time};
use app::{Event, FollowedLog, LogNews, TimelineNews, View};
use domain::Execution;
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
        TimelineNews::End(execution) => write_end(&mut out, execution, &sse::end_id(last)),
    }
    out
}

/// The news of a log as server-sent events. What is no UTF-8 in it is shown as U+FFFD.
pub fn log_events(news: &FollowedLog) -> String {
    let mut out = String::new();
    let news = match news {
        FollowedLog::News(news) => news,
        FollowedLog::End { execution, place } => {
            write_end(&mut out, execution, &sse::end_id(place));
            return out;
        }
    };
    for one in news {
        let id = one.place().to_string();
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

fn write_end(out: &mut String, execution: &Execution, id: &str) {
    let view = View {
        execution: execution.clone(),
        queue_position: None,
    };
    sse::write(
        out,
        Some(event_name::END),
        id,
        &json(&ExecutionJson::of(&view)),
    );
}

/// Values that cannot be written as JSON do not occur: all names are strings.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
