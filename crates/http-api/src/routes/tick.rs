//! `POST /internal/tick`: one tick, for whoever keeps the time where no cron trigger does.

use std::time::Duration;

use app::{App, Platform, TickReport};
use domain::Role;
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use serde::Serialize;

use crate::answer::{Answer, Reply};
use crate::limits::MAX_TICK_SECONDS;
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::{gate, headers};

#[derive(Serialize)]
struct TickJson<'a> {
    leader: bool,
    holder: Option<&'a str>,
    dispatched: u32,
    finished: u32,
    forgotten: u32,
    swept: u32,
    listed: bool,
    failures: u32,
}

impl<'a> From<&'a TickReport> for TickJson<'a> {
    fn from(report: &'a TickReport) -> Self {
        Self {
            leader: report.leader,
            holder: report.holder.as_deref(),
            dispatched: report.dispatched,
            finished: report.finished,
            forgotten: report.forgotten,
            swept: report.swept,
            listed: report.listed,
            failures: report.failures,
        }
    }
}

/// For whoever has the token of ticks, or may do everything where there is none. Ticks for the configured budget, or for `?budgetSeconds=`.
pub async fn run<P: Platform>(app: &App<P>, parts: &Parts) -> Answer<P> {
    let Some(token) = app.config().tick_token() else {
        gate::admit(app, parts, Role::Admin).await?;
        return tick(app, parts).await;
    };
    if !headers::bears(&parts.headers, token) {
        let detail = "Send the configured tick token: Authorization: Bearer <token>.";
        let problem = Problem::new(Kind::Unauthorized, detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Err(problem.into());
    }
    tick(app, parts).await
}

async fn tick<P: Platform>(app: &App<P>, parts: &Parts) -> Answer<P> {
    let mut query = Query::parse(parts.uri.query(), &["budgetSeconds"], &[]);
    let asked = query.number("budgetSeconds", 0..=MAX_TICK_SECONDS);
    query.finish()?;
    let budget = match asked {
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => app.config().tick_budget,
    };
    app.migrate().await?;
    let report = app.tick(budget).await?;
    Ok(Reply::json(StatusCode::OK, &TickJson::from(&report)))
}
