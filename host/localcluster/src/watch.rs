//! Watches: a place in the history, and what to send from there.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::resources::Resource;
use crate::selectors::Selector;
use crate::status::Failure;
use crate::storage::{Change, Record};

/// How long a watch without `timeoutSeconds` lasts, in seconds; the real server draws between 30 and 60 minutes.
pub const DEFAULT_TIMEOUT_SECONDS: i64 = 45 * 60;

/// Seconds between bookmarks, as the real server sends them.
const BOOKMARK_SECONDS: i64 = 60;

/// Seconds before the end of a watch at which a last bookmark is sent.
const BOOKMARK_BEFORE_END_SECONDS: i64 = 2;

/// Changes looked at in one poll, so that one slow reader does not hold the lock for long.
const MAX_RECORDS_PER_POLL: usize = 500;

/// One watch's place.
#[derive(Debug)]
pub struct WatchCursor {
    pub(crate) resource: Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) selector: Selector,
    pub(crate) version: u64,
    pub(crate) bookmarks: bool,
    /// Objects to send first, as if added.
    pub(crate) initial: Vec<Arc<Value>>,
    /// Whether the end of the initial objects is marked.
    pub(crate) mark_initial_end: bool,
    pub(crate) ends: Timestamp,
    pub(crate) next_bookmark: Timestamp,
}

/// What a watch has to send.
#[derive(Debug)]
pub struct WatchPoll {
    /// The events in their order.
    events: Vec<(&'static str, Arc<Value>)>,
    /// Whether the watch is over.
    pub done: bool,
    /// Whether there is more at once.
    pub more: bool,
    /// When to poll again although nothing changed.
    pub next: Timestamp,
}

impl WatchPoll {
    /// The events as lines, JSON, each ended by a newline. Writing them takes long beside finding them, and needs no cluster.
    pub fn frames(&self) -> Vec<u8> {
        let mut frames = Vec::new();
        for (kind, object) in &self.events {
            frames.extend_from_slice(b"{\"type\":\"");
            frames.extend_from_slice(kind.as_bytes());
            frames.extend_from_slice(b"\",\"object\":");
            // Writing JSON into memory cannot fail.
            let _ = serde_json::to_writer(&mut frames, &**object);
            frames.extend_from_slice(b"}\n");
        }
        frames
    }
}

pub(crate) fn seconds_after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(time)
}

/// When the next bookmark is due.
pub(crate) fn next_bookmark(now: Timestamp, ends: Timestamp) -> Timestamp {
    let last = seconds_after(ends, -BOOKMARK_BEFORE_END_SECONDS);
    let regular = seconds_after(now, BOOKMARK_SECONDS);
    if last > now {
        regular.min(last)
    } else {
        regular
    }
}

impl Cluster {
    /// What this watch has to send now.
    pub fn poll_watch(&self, cursor: &mut WatchCursor) -> WatchPoll {
        let now = self.now();
        let initial = cursor.initial.drain(..);
        let mut events: Vec<_> = initial.map(|object| ("ADDED", object)).collect();
        if std::mem::take(&mut cursor.mark_initial_end) {
            let annotations = json!({"k8s.io/initial-events-end": "true"});
            events.push(("BOOKMARK", bookmark(cursor, Some(annotations))));
        }
        if cursor.version < self.storage.compacted() {
            let failure = Failure::too_old(cursor.version, self.storage.compacted());
            events.push(("ERROR", Arc::from(failure.body)));
            return WatchPoll {
                events,
                done: true,
                more: false,
                next: now,
            };
        }
        let mut seen = 0;
        for record in self
            .storage
            .since(cursor.version)
            .take(MAX_RECORDS_PER_POLL)
        {
            seen += 1;
            cursor.version = record.version;
            if record.key.resource == cursor.resource
                && cursor
                    .namespace
                    .as_ref()
                    .is_none_or(|n| *n == record.key.namespace)
            {
                events.extend(event(record, &cursor.selector));
            }
        }
        let done = now >= cursor.ends;
        if cursor.bookmarks && (now >= cursor.next_bookmark) && !done {
            events.push(("BOOKMARK", bookmark(cursor, None)));
            cursor.next_bookmark = next_bookmark(now, cursor.ends);
        }
        let next = if cursor.bookmarks {
            cursor.ends.min(cursor.next_bookmark)
        } else {
            cursor.ends
        };
        WatchPoll {
            events,
            done,
            more: seen == MAX_RECORDS_PER_POLL,
            next,
        }
    }
}

/// One change as this selector sees it: an object that stops matching is deleted to the watcher.
fn event(record: &Record, selector: &Selector) -> Option<(&'static str, Arc<Value>)> {
    let now = record.change != Change::Deleted && selector.matches(&record.object);
    let before = record
        .previous
        .as_ref()
        .is_some_and(|previous| selector.matches(previous));
    match (before, now) {
        (false, false) => None,
        (false, true) => Some(("ADDED", record.object.clone())),
        (true, true) => Some(("MODIFIED", record.object.clone())),
        (true, false) if record.change == Change::Deleted => {
            Some(("DELETED", record.object.clone()))
        }
        (true, false) => {
            // The last matching state, under the version of the change that ended the match.
            let mut last = record.previous.as_deref().cloned().unwrap_or_default();
            last["metadata"]["resourceVersion"] = json!(record.version.to_string());
            Some(("DELETED", Arc::new(last)))
        }
    }
}

fn bookmark(cursor: &WatchCursor, annotations: Option<Value>) -> Arc<Value> {
    let mut object = json!({
        "kind": cursor.resource.kind(), "apiVersion": cursor.resource.api_version(),
        "metadata": {"resourceVersion": cursor.version.to_string(), "creationTimestamp": null},
    });
    if let Some(annotations) = annotations {
        object["metadata"]["annotations"] = annotations;
    }
    Arc::new(object)
}
