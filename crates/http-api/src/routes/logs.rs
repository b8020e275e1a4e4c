//! `/executions/{id}/logs`: what the script wrote, live while it runs and from the store afterwards.

use app::{App, Caller, Log, LogFollower, LogOptions, Place, Platform, StoredLog};
use bytes::Bytes;
use domain::ExecutionId;
use http::StatusCode;
use http::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;

use crate::answer::{Answer, Reply};
use crate::body::{Body, Live};
use crate::limits::{MAX_RETRIES, MAX_SINCE_SECONDS, MAX_TAIL_LINES};
use crate::news::LogId;
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::sse::{self, Resume};

/// `X-Log-Complete`: whether all that the script wrote is in the answer, and that is known.
const LOG_COMPLETE: HeaderName = HeaderName::from_static("x-log-complete");

/// `X-Log-Lost-Bytes`: how many bytes of it are not kept.
const LOG_LOST_BYTES: HeaderName = HeaderName::from_static("x-log-lost-bytes");

/// `GET /executions/{id}/logs`.
pub async fn get<P: Platform>(app: &App<P>, caller: &Caller, parts: &Parts, id: &str) -> Answer<P> {
    let id = super::id(id)?;
    if sse::wanted(&parts.headers) {
        return lines(app, caller, parts, id).await;
    }
    let known = ["attempt", "tail", "sinceSeconds", "timestamps", "follow"];
    let mut query = Query::parse(parts.uri.query(), &known, &[]);
    let options = LogOptions {
        attempt: query.number("attempt", ATTEMPTS),
        tail_lines: query.number("tail", 0..=MAX_TAIL_LINES),
        since_seconds: query.number("sinceSeconds", 1..=MAX_SINCE_SECONDS),
        timestamps: query.flag("timestamps"),
        // Nothing is sent to a HEAD, so there is nothing to wait for.
        follow: query.flag("follow") && parts.method != http::Method::HEAD,
    };
    query.finish()?;
    let log = app
        .log(caller, id, &options)
        .await?
        .ok_or_else(|| super::no_such(id))?;
    match log {
        Log::Stored(log) => {
            if options.timestamps || options.since_seconds.is_some() {
                return Err(without_times().into());
            }
            Ok(reply(
                text(&log, options.tail_lines),
                log.complete,
                log.lost_bytes,
            ))
        }
        Log::Live(live) => {
            let mut reply = reply(Bytes::new(), false, 0);
            *reply.response.body_mut() = Body::Live(Live::of_log(live));
            Ok(reply)
        }
        Log::NoAttempt { last } => Err(no_such_attempt(id, last).into()),
        Log::NotYet => Ok(reply(Bytes::new(), false, 0)),
    }
}

/// The log as server-sent events, one a line.
async fn lines<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: ExecutionId,
) -> Answer<P> {
    // A place in a log counts from its beginning, so nothing can be left out here.
    let mut query = Query::parse(parts.uri.query(), &["attempt", "follow"], &[]);
    let asked = query.number("attempt", ATTEMPTS);
    query.flag("follow");
    query.finish()?;
    let (attempt, from) = match sse::resume(&parts.headers, LogId::read)? {
        Resume::Start => (asked, Place::START),
        // Whoever was cut off goes on with the attempt that was being read.
        Resume::After(LogId { attempt, place }) => (Some(asked.unwrap_or(attempt)), place),
        Resume::End => return Ok(sse::nothing_more()),
    };
    let view = app
        .get(caller, id)
        .await?
        .ok_or_else(|| super::no_such(id))?;
    let last = view.execution.attempt;
    if attempt.is_some_and(|attempt| attempt > last) {
        return Err(no_such_attempt(id, last).into());
    }
    let follower = LogFollower::new(id, attempt, from);
    Ok(sse::reply(Live::of_lines(follower)))
}

/// The numbers that an attempt may have: the first one, and every retry.
const ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=MAX_RETRIES + 1;

fn no_such_attempt(id: ExecutionId, last: u32) -> Problem {
    let detail = match last {
        1 => format!("The execution {id} has one attempt, the first."),
        last => format!("The execution {id} has {last} attempts so far."),
    };
    Problem::new(Kind::NotFound, detail)
}

fn without_times() -> Problem {
    let detail = "This execution is finished. Its log is kept as the script wrote it, without times: \
                  `timestamps` and `sinceSeconds` can be had only while it runs. Ask again without them.";
    Problem::new(Kind::LogWithoutTimes, detail)
}

fn reply<P: Platform>(text: Bytes, complete: bool, lost_bytes: u64) -> Reply<P> {
    let complete = HeaderValue::from_static(if complete { "true" } else { "false" });
    Reply::text(StatusCode::OK, text)
        .header(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
        .header(LOG_COMPLETE, complete)
        .header(LOG_LOST_BYTES, HeaderValue::from(lost_bytes))
}

/// Head, one line for what is left out, and tail; of all that the last lines, if so asked.
fn text(log: &StoredLog, tail_lines: Option<u32>) -> Bytes {
    let mut text = log.head.clone();
    if log.lost_bytes > 0 {
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("[… {} bytes left out …]\n", log.lost_bytes).as_bytes());
    }
    text.extend_from_slice(&log.tail);
    let start = match tail_lines {
        Some(lines) => last_lines(&text, lines),
        None => 0,
    };
    Bytes::from(text).slice(start..)
}

/// Where the last so many lines begin. A line break at the very end begins no further line.
fn last_lines(text: &[u8], lines: u32) -> usize {
    if lines == 0 {
        return text.len();
    }
    let within = text.strip_suffix(b"\n").unwrap_or(text);
    let breaks = within
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, b)| **b == b'\n');
    let mut breaks = breaks.map(|(at, _)| at + 1);
    breaks.nth(lines as usize - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    //! What is shown of a stored log.
    use super::*;

    fn log(head: &str, tail: &str, lost_bytes: u64) -> StoredLog {
        StoredLog {
            head: head.into(),
            tail: tail.into(),
            bytes: (head.len() + tail.len()) as u64 + lost_bytes,
            lost_bytes,
            complete: lost_bytes == 0,
        }
    }

    #[test]
    fn what_is_left_out_is_one_line() {
        for (head, tail, lost, expected) in [
            ("a\n", "b\n", 0, "a\nb\n"),
            ("a", "b", 0, "ab"),
            ("a\n", "b\n", 7, "a\n[… 7 bytes left out …]\nb\n"),
            ("a", "b", 7, "a\n[… 7 bytes left out …]\nb"),
            ("", "", 7, "[… 7 bytes left out …]\n"),
            ("", "", 0, ""),
        ] {
            assert_eq!(text(&log(head, tail, lost), None), expected);
        }
    }

    #[test]
    fn tail_counts_lines() {
        for (all, lines, expected) in [
            ("a\nb\nc\n", 0, ""),
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc", 1, "c"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n\n", 1, "\n"),
            ("a\nb\n\n", 2, "b\n\n"),
            ("a\nb", 2, "a\nb"),
            ("a\nb", 9, "a\nb"),
            ("\n", 1, "\n"),
            ("", 1, ""),
        ] {
            assert_eq!(
                text(&log(all, "", 0), Some(lines)),
                expected,
                "{all:?} {lines}"
            );
        }
    }
}
