//! `/executions/{id}/events`: the timeline, at once or as it grows.

use app::{App, Caller, Platform, TimelineFollower};
use http::StatusCode;
use http::request::Parts;

use crate::answer::{Answer, Reply};
use crate::body::Live;
use crate::news::{EventJson, TimelineJson};
use crate::query::Query;
use crate::sse::{self, Resume};

/// `GET /executions/{id}/events`.
pub async fn get<P: Platform>(app: &App<P>, caller: &Caller, parts: &Parts, id: &str) -> Answer<P> {
    let id = super::id(id)?;
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    let follows = sse::wanted(&parts.headers);
    let resume = sse::resume(&parts.headers, |text| {
        text.parse::<u32>().ok().filter(|n| n.to_string() == text)
    });
    let after = match resume {
        // The header means something only to who reads events.
        _ if !follows => 0,
        Ok(Resume::Start) => 0,
        Ok(Resume::After(sequence)) => sequence,
        Ok(Resume::End) => return Ok(sse::nothing_more()),
        Err(problem) => return Err(problem.into()),
    };
    if follows {
        app.get(caller, id)
            .await?
            .ok_or_else(|| super::no_such(id))?;
        let follower = TimelineFollower::new(id, after);
        return Ok(sse::reply(Live::of_timeline(follower)));
    }
    let events = app
        .events(caller, id)
        .await?
        .ok_or_else(|| super::no_such(id))?;
    let items = events.iter().map(EventJson::of).collect();
    Ok(Reply::json(StatusCode::OK, &TimelineJson { items }))
}
