//! `/executions/{id}`: one execution, now or when it is finished; and forgetting it.

use app::{App, Caller, Forgotten, Platform};
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;

use super::wait::Wait;
use crate::answer::{Answer, Reply};
use crate::headers;
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::wire::{ExecutionJson, entity_tag};

/// `GET /executions/{id}`.
pub async fn get<P: Platform>(app: &App<P>, caller: &Caller, parts: &Parts, id: &str) -> Answer<P> {
    let id = super::id(id)?;
    let mut query = Query::parse(parts.uri.query(), &["wait"], &[]);
    let wait = Wait::read(&mut query, &parts.headers);
    query.finish()?;
    let view = match wait {
        Some(wait) => app.wait_until_finished(caller, id, wait.limit()).await?,
        None => app.get(caller, id).await?,
    };
    let view = view.ok_or_else(|| super::no_such(id))?;
    let tag = entity_tag(&view);
    let reply = if headers::none_match(&parts.headers, &tag) {
        Reply::empty(StatusCode::NOT_MODIFIED)
    } else {
        Reply::json(StatusCode::OK, &ExecutionJson::of(&view))
    };
    Ok(Wait::applied(wait, reply.header_text(ETAG, &tag)))
}

/// `DELETE /executions/{id}`.
pub async fn delete<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: &str,
) -> Answer<P> {
    let id = super::id(id)?;
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    app.migrate().await?;
    match app.forget(caller, id).await? {
        Forgotten::Gone => Ok(Reply::empty(StatusCode::NO_CONTENT)),
        Forgotten::Unknown => Err(super::no_such(id).into()),
        Forgotten::Unfinished => {
            let detail = format!(
                "The execution {id} is not finished: only finished ones can be deleted. \
                 POST /executions/{id}/cancel ends it."
            );
            Err(Problem::new(Kind::NotFinished, detail).into())
        }
    }
}
