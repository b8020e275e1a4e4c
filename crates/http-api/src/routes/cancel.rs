//! `/executions/{id}/cancel`: asking for an end.

use app::{App, Caller, Canceled, Platform};
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;
use serde_json::json;

use crate::answer::{Afterwards, Answer, Reply};
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::wire::{ExecutionJson, entity_tag};

/// `POST /executions/{id}/cancel`. A body is not read: there is nothing to say in it.
pub async fn request<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: &str,
) -> Answer<P> {
    let id = super::id(id)?;
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    app.migrate().await?;
    match app.cancel(caller, id).await? {
        Canceled::Unknown => Err(super::no_such(id).into()),
        Canceled::Finished(execution) => {
            let ending = execution.ending.as_ref();
            let outcome = ending.map_or("", |ending| ending.outcome().as_str());
            let reason = ending.map_or("", |ending| ending.reason.as_str());
            let detail = format!("The execution {id} is finished: {outcome} ({reason}).");
            let problem = Problem::new(Kind::Finished, detail)
                .member("outcome", json!(outcome))
                .member("reason", json!(reason));
            Err(problem.into())
        }
        Canceled::Accepted {
            execution,
            to_carry_out,
        } => {
            let view = app.view(execution).await?;
            let reply = Reply::json(StatusCode::ACCEPTED, &ExecutionJson::of(&view))
                .header_text(ETAG, &entity_tag(&view));
            Ok(Reply {
                afterwards: to_carry_out.then_some(Afterwards::Cancel(id)),
                ..reply
            })
        }
    }
}
