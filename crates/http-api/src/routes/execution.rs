//! `/executions/{id}`: one execution, now or when it is finished.

use app::{App, Platform};
use http::StatusCode;
use http::header::ETAG;
use http::request::Parts;

use super::wait::Wait;
use crate::answer::{Answer, Reply};
use crate::headers;
use crate::query::Query;
use crate::wire::{ExecutionJson, entity_tag};

/// `GET /executions/{id}`.
pub async fn get<P: Platform>(app: &App<P>, parts: &Parts, id: &str) -> Answer<P> {
    let id = super::id(id)?;
    let mut query = Query::parse(parts.uri.query(), &["wait"], &[])?;
    let wait = Wait::read(&mut query, &parts.headers)?;
    query.finish()?;
    app.migrate().await?;
    let view = match wait {
        Some(wait) => app.wait_until_finished(id, wait.limit()).await?,
        None => app.get(id).await?,
    };
    let view = view.ok_or_else(|| super::no_such(id))?;
    let tag = entity_tag(&view);
    let reply = if headers::none_match(&parts.headers, &tag) {
        let mut reply = Reply::text(StatusCode::NOT_MODIFIED, "");
        reply.response.headers_mut().clear();
        reply
    } else {
        Reply::json(StatusCode::OK, &ExecutionJson::of(&view))
    };
    Ok(Wait::applied(wait, reply.header_text(ETAG, &tag)))
}
