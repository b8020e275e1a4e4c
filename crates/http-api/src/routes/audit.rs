//! `GET /admin/audit`: who did what and what was refused, from where, the newest first.

use app::wire::Time;
use app::{App, AuditFilter, AuditRecord, Cursor, Platform};
use domain::{Action, Tenant};
use http::StatusCode;
use http::header::LINK;
use http::request::Parts;
use serde::Serialize;

use crate::answer::{Answer, Reply};
use crate::limits::{DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS};
use crate::query::{self, Query};
use crate::{cursor, problem};

/// What the list may be asked for.
const FILTERS: &[&str] = &[
    "tenant", "actor", "action", "after", "before", "limit", "cursor",
];

/// One record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordJson<'a> {
    id: String,
    at: Time,
    actor: Option<&'a str>,
    actor_name: Option<&'a str>,
    address: Option<String>,
    tenant: Option<&'a str>,
    action: &'static str,
    target: Option<&'a str>,
    decision: &'static str,
    problem: Option<String>,
    trace_id: Option<String>,
}

#[derive(Serialize)]
struct AuditJson<'a> {
    items: Vec<RecordJson<'a>>,
    next: Option<String>,
}

impl<'a> RecordJson<'a> {
    fn of(record: &'a AuditRecord) -> Self {
        let kind = record.problem.as_deref();
        Self {
            id: record.id.to_string(),
            at: Time(record.at),
            actor: record.origin.actor.as_deref(),
            actor_name: record.origin.name.as_deref(),
            address: record.origin.address.map(|address| address.to_string()),
            tenant: record.tenant.as_ref().map(Tenant::as_str),
            action: record.action.as_str(),
            target: record.target.as_deref(),
            decision: if kind.is_some() { "denied" } else { "allowed" },
            problem: kind.map(problem::type_of),
            trace_id: record.trace.map(|trace| format!("{:032x}", trace.trace)),
        }
    }
}

/// The list. That somebody reads it is not noted.
pub async fn list<P: Platform>(app: &App<P>, parts: &Parts) -> Answer<P> {
    let mut query = Query::parse(parts.uri.query(), FILTERS, &[]);
    let filter = filter(&mut query);
    let limit = query.number("limit", 1..=MAX_PAGE_ITEMS);
    let before = query.take("cursor").and_then(|text| {
        let cursor = cursor::decode(&text);
        if cursor.is_none() {
            query.add("cursor", "must be the `next` of a page before");
        }
        cursor.map(|cursor| cursor.id)
    });
    query.finish()?;
    let most = limit.unwrap_or(DEFAULT_PAGE_ITEMS);
    // One more than asked for tells whether there is a next page.
    let mut records = app.audit(&filter, most + 1, before).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let more = records.len() > most;
    records.truncate(most);
    let last = records.last().filter(|_| more);
    let next = last.map(|record| {
        cursor::encode(&Cursor {
            created_at: record.at,
            id: record.id,
        })
    });
    let url = next.as_deref().map(|next| next_url(&filter, limit, next));
    let items = records.iter().map(RecordJson::of).collect();
    let reply = Reply::json(StatusCode::OK, &AuditJson { items, next });
    Ok(match url {
        Some(url) => reply.header_text(LINK, &format!("<{url}>; rel=\"next\"")),
        None => reply,
    })
}

fn filter(query: &mut Query) -> AuditFilter {
    let actions = Action::ALL.map(Action::as_str);
    let tenant = query.take("tenant").and_then(|text| {
        let tenant = text.parse::<Tenant>();
        tenant
            .map_err(|wrong| query.add("tenant", wrong.to_string()))
            .ok()
    });
    AuditFilter {
        tenant,
        actor: query.take("actor"),
        action: query.one_of("action", &actions, Action::from_name),
        after: query.time("after"),
        before: query.time("before"),
    }
}

/// The URL of the next page, with all that this one was asked for.
fn next_url(filter: &AuditFilter, limit: Option<u32>, next: &str) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let tenant = filter.tenant.as_ref();
    pairs.extend(tenant.map(|t| ("tenant", t.as_str().to_owned())));
    pairs.extend(filter.actor.clone().map(|a| ("actor", a)));
    pairs.extend(filter.action.map(|a| ("action", a.as_str().to_owned())));
    pairs.extend(filter.after.map(|t| ("after", t.to_string())));
    pairs.extend(filter.before.map(|t| ("before", t.to_string())));
    pairs.extend(limit.map(|limit| ("limit", limit.to_string())));
    pairs.push(("cursor", next.to_owned()));
    query::url("/admin/audit", &pairs)
}
