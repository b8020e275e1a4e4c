//! `/executions`: accepting executions, and listing them.

use std::pin::pin;

use app::{App, Caller, Filter, Limited, Platform, Submitted, Trial, View};
use domain::{
    Execution, ExecutionId, Fault, Outcome, Quantity, Reason, Resources, Status, Submission,
};
use futures::future::{self, Either};
use http::StatusCode;
use http::header::{HeaderValue, LINK, LOCATION, RETRY_AFTER};
use http::request::Parts;
use serde_json::json;

use super::wait::Wait;
use crate::answer::{Afterwards, Answer, Reply};
use crate::body::{self, BodyReader};
use crate::headers::{self, IDEMPOTENT_REPLAYED};
use crate::limits::{
    DEFAULT_PAGE_ITEMS, MAX_BODY_BYTES, MAX_LABELS, MAX_PAGE_ITEMS, QUEUE_FULL_RETRY_SECONDS,
};
use crate::problem::{Kind, Problem, shortened};
use crate::query::{self, Query};
use crate::submission::{Rules, parse_submission};
use crate::wire::{ExecutionJson, PageJson, entity_tag};
use crate::{cursor, json};

/// `POST /executions`.
pub async fn create<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    body: &mut impl BodyReader,
) -> Answer<P> {
    let mut query = Query::parse(parts.uri.query(), &["wait", "dryRun"], &[]);
    let dry_run = query.flag("dryRun");
    let wait = Wait::read(&mut query, &parts.headers);
    query.finish()?;
    headers::check_content_type(&parts.headers)?;
    let key = headers::idempotency_key(&parts.headers)?;
    let bytes = body::read(&parts.headers, body, MAX_BODY_BYTES).await?;
    let value = json::parse(&bytes)?;
    drop(bytes);
    let submission = parse_submission(value, &rules(app, caller))
        .map_err(|errors| Problem::of_errors(Kind::Validation, errors))?;
    if dry_run {
        return try_out(app, caller, &submission).await;
    }
    let reply = match app.submit(caller, &submission, key.as_deref()).await? {
        Submitted::New {
            execution,
            queue_position,
            may_run,
        } => {
            let view = View {
                queue_position,
                ..bare(execution)
            };
            match wait.filter(|wait| !wait.limit().is_zero()) {
                Some(wait) => accepted_with_wait(app, caller, view, submission, wait).await,
                None => {
                    let reply = shown(StatusCode::CREATED, &view);
                    let next = may_run.then_some((view.execution, submission));
                    Reply {
                        afterwards: Afterwards::of(app, next.into_iter().collect()),
                        ..reply
                    }
                }
            }
        }
        Submitted::Replayed(execution) => {
            let view = match wait {
                Some(wait) => {
                    app.wait_until_finished(caller, execution.id, wait.limit())
                        .await?
                }
                None => Some(app.view(execution.clone()).await?),
            };
            let view = view.unwrap_or_else(|| bare(execution));
            shown(StatusCode::OK, &view)
                .header(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))
        }
        Submitted::Conflict(first) => return Err(key_is_taken(first).into()),
        Submitted::QueueFull => return Err(queue_is_full(app).into()),
        Submitted::Limited(limited) => return Err(tenant_is_limited(limited).into()),
    };
    Ok(Wait::applied(wait, reply))
}

/// The key belongs to the request of that execution.
pub(super) fn key_is_taken(first: ExecutionId) -> Problem {
    let detail = format!("This Idempotency-Key was used with another body, by execution {first}.");
    Problem::new(Kind::IdempotencyConflict, detail).member("executionId", json!(first.to_string()))
}

/// As many wait as may, or would with those of the request.
pub(super) fn queue_is_full<P: Platform>(app: &App<P>) -> Problem {
    let most = app.config().max_queued;
    let detail = format!(
        "No more than {most} executions may wait at once. Nothing of this request was kept; send it again later."
    );
    let after = HeaderValue::from_static(QUEUE_FULL_RETRY_SECONDS);
    Problem::new(Kind::QueueFull, detail).header(RETRY_AFTER, after)
}

/// The caller's tenant has, or does, as much as it may.
pub(super) fn tenant_is_limited(limited: Limited) -> Problem {
    let (kind, after, what) = match limited {
        Limited::Queue(most) => (
            Kind::QueueFull,
            QUEUE_FULL_RETRY_SECONDS.to_owned(),
            format!("No more than {most} executions of this tenant may wait at once."),
        ),
        Limited::Rate {
            per_minute,
            wait_seconds,
        } => (
            Kind::RateLimited,
            wait_seconds.to_string(),
            format!("This tenant may submit {per_minute} executions a minute."),
        ),
    };
    let detail = format!("{what} Nothing of this request was kept; send it again later.");
    let problem = Problem::new(kind, detail);
    // Digits always can be a header.
    match HeaderValue::from_str(&after) {
        Ok(after) => problem.header(RETRY_AFTER, after),
        Err(_) => problem,
    }
}

/// Shows what it would be. Nothing is kept, so there is nothing to wait for and no key to remember.
async fn try_out<P: Platform>(app: &App<P>, caller: &Caller, submission: &Submission) -> Answer<P> {
    match app.try_out(caller, submission).await? {
        Trial::Fits(execution) => {
            let view = bare(*execution);
            Ok(Reply::json(StatusCode::OK, &ExecutionJson::tried(&view)))
        }
        Trial::Refused { reason, message } => {
            let fault = reason.fault().map(Fault::as_str);
            let problem = Problem::new(Kind::ClusterRefuses, message)
                .member("reason", json!(reason.as_str()))
                .member("fault", json!(fault))
                .member("retryable", json!(reason.retryable()));
            Err(problem.into())
        }
    }
}

/// What the configuration says about requests of that caller.
pub(super) fn rules<'a, P: Platform>(app: &'a App<P>, caller: &'a Caller) -> Rules<'a> {
    let (config, limits) = (app.config(), &caller.limits);
    let least = |all: &Quantity, own: &Option<Quantity>| match own {
        Some(own) if own < all => own.clone(),
        _ => all.clone(),
    };
    Rules {
        default_image: &config.default_image,
        allowed_images: &config.allowed_images,
        tenant_images: limits.images.as_deref(),
        max_resources: Resources {
            cpu: least(&config.max_cpu, &limits.cpu),
            memory: least(&config.max_memory, &limits.memory),
            ephemeral_storage: Some(least(
                &config.max_ephemeral_storage,
                &limits.ephemeral_storage,
            )),
        },
        ttl_seconds: config.ttl_seconds,
        webhooks: &config.webhooks,
    }
}

/// It is stored, so from here on nothing makes the answer another one than 201.
async fn accepted_with_wait<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    view: View,
    submission: Submission,
    wait: Wait,
) -> Reply<P> {
    let execution = app.take_submitted(view.execution).await;
    let ended = {
        let end = pin!(app.wait_until_finished(caller, execution.id, wait.limit()));
        let dispatch = pin!(app.dispatch_submitted(&execution, &submission));
        match future::select(end, dispatch).await {
            Either::Left((view, _)) => (view, false),
            Either::Right(((), end)) => (end.await, true),
        }
    };
    let (view, dispatched) = ended;
    let view = view
        .ok()
        .flatten()
        .unwrap_or_else(|| bare(execution.clone()));
    // A creation that takes longer than the wait is begun again afterwards: its Job's name keeps it from being two.
    let left = !dispatched && view.execution.status != Status::Finished;
    let accepted = if left {
        vec![(execution, submission)]
    } else {
        Vec::new()
    };
    Reply {
        afterwards: Afterwards::of(app, accepted),
        ..shown(StatusCode::CREATED, &view)
    }
}

/// The record alone, of one that is at its first attempt.
pub(super) fn bare(execution: Execution) -> View {
    View {
        execution,
        queue_position: None,
        earlier: Vec::new(),
    }
}

fn shown<P: Platform>(status: StatusCode, view: &View) -> Reply<P> {
    Reply::json(status, &ExecutionJson::of(view))
        .header_text(LOCATION, &format!("/executions/{}", view.execution.id))
        .header_text(http::header::ETAG, &entity_tag(view))
}

/// What a list may be asked for.
const FILTERS: &[&str] = &[
    "status",
    "outcome",
    "reason",
    "label",
    "createdAfter",
    "createdBefore",
    "limit",
    "cursor",
];

/// `GET /executions`.
pub async fn list<P: Platform>(app: &App<P>, caller: &Caller, parts: &Parts) -> Answer<P> {
    let mut query = Query::parse(parts.uri.query(), FILTERS, &["label"]);
    let filter = filter(&mut query);
    let limit = query.number("limit", 1..=MAX_PAGE_ITEMS);
    let after = query.take("cursor").and_then(|text| {
        let cursor = cursor::decode(&text);
        if cursor.is_none() {
            query.add("cursor", "must be the `next` of a page before");
        }
        cursor
    });
    query.finish()?;
    let page = app
        .list(caller, &filter, limit.unwrap_or(DEFAULT_PAGE_ITEMS), after)
        .await?;
    let next = page.next.as_ref().map(cursor::encode);
    let views = app.views(page.items).await?;
    let link = next
        .as_deref()
        .map(|next| format!("<{}>; rel=\"next\"", next_url(&filter, limit, next)));
    let items = views.iter().map(ExecutionJson::of).collect();
    let reply = Reply::json(StatusCode::OK, &PageJson { items, next });
    Ok(match link {
        Some(link) => reply.header_text(LINK, &link),
        None => reply,
    })
}

fn filter(query: &mut Query) -> Filter {
    let statuses = Status::ALL.map(Status::as_str);
    let outcomes = Outcome::ALL.map(Outcome::as_str);
    let reasons: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    Filter {
        status: query.one_of("status", &statuses, Status::from_name),
        outcome: query.one_of("outcome", &outcomes, Outcome::from_name),
        reason: query.one_of("reason", &reasons, Reason::from_name),
        labels: labels(query),
        created_after: query.time("createdAfter"),
        created_before: query.time("createdBefore"),
    }
}

fn labels(query: &mut Query) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let given = query.take_all("label");
    if given.len() > MAX_LABELS {
        query.add("label", format!("may stand at most {MAX_LABELS} times"));
        return labels;
    }
    for text in given {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
                labels.push((name.to_owned(), value.to_owned()));
            }
            _ => {
                let detail = format!("`{}` must be name=value", shortened(&text));
                query.add("label", detail);
            }
        }
    }
    labels
}

/// The URL of the next page, with all that this one was asked for.
fn next_url(filter: &Filter, limit: Option<u32>, next: &str) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    pairs.extend(filter.status.map(|s| ("status", s.as_str().to_owned())));
    pairs.extend(filter.outcome.map(|o| ("outcome", o.as_str().to_owned())));
    pairs.extend(filter.reason.map(|r| ("reason", r.as_str().to_owned())));
    let labels = filter.labels.iter();
    pairs.extend(labels.map(|(name, value)| ("label", format!("{name}={value}"))));
    pairs.extend(
        filter
            .created_after
            .map(|t| ("createdAfter", t.to_string())),
    );
    pairs.extend(
        filter
            .created_before
            .map(|t| ("createdBefore", t.to_string())),
    );
    pairs.extend(limit.map(|limit| ("limit", limit.to_string())));
    pairs.push(("cursor", next.to_owned()));
    query::url("/executions", &pairs)
}
