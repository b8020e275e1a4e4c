//! `/executions:batch`: accepting many executions at once, all or none.

use app::wire::{BatchJson, ExecutionJson};
use app::{App, BatchKey, Caller, Platform, SubmittedBatch, View};
use domain::{Execution, Submission};
use http::StatusCode;
use http::header::HeaderValue;
use http::request::Parts;

use super::executions::{bare, key_is_taken, queue_is_full, rules, tenant_is_limited};
use crate::answer::{Afterwards, Answer, Reply};
use crate::body::{self, BodyReader};
use crate::headers::{self, IDEMPOTENT_REPLAYED};
use crate::json;
use crate::limits::MAX_BATCH_BODY_BYTES;
use crate::problem::{Kind, Problem};
use crate::query::Query;
use crate::submission::parse_batch;

/// `POST /executions:batch`.
pub async fn create<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    body: &mut impl BodyReader,
) -> Answer<P> {
    let mut query = Query::parse(parts.uri.query(), &["dryRun"], &[]);
    let dry_run = query.flag("dryRun");
    query.finish()?;
    if dry_run {
        return Err(Problem::not_implemented("`dryRun` of a batch").into());
    }
    headers::check_content_type(&parts.headers)?;
    let key = headers::idempotency_key(&parts.headers)?;
    let bytes = body::read(&parts.headers, body, MAX_BATCH_BODY_BYTES).await?;
    let value = json::parse(&bytes)?;
    drop(bytes);
    let batch = parse_batch(value, &rules(app, caller))
        .map_err(|errors| Problem::of_errors(Kind::Validation, errors))?;
    let key = key.as_deref().map(|key| BatchKey {
        key,
        digest: &batch.digest,
    });
    match app.submit_batch(caller, batch.submissions, key).await? {
        SubmittedBatch::New(accepted) => Ok(new(app, accepted)),
        SubmittedBatch::Replayed(executions) => {
            let there: Vec<bool> = executions.iter().map(Option::is_some).collect();
            let views = app
                .views(executions.into_iter().flatten().collect())
                .await?;
            let mut views = views.into_iter();
            // Each in its place again, and nothing in that of a deleted one.
            let place = |is_there: bool| is_there.then(|| views.next()).flatten();
            let views = there.into_iter().map(place).collect();
            Ok(shown(StatusCode::OK, views)
                .header(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true")))
        }
        SubmittedBatch::Conflict(first) => Err(key_is_taken(first).into()),
        SubmittedBatch::QueueFull => Err(queue_is_full(app).into()),
        SubmittedBatch::Limited(limited) => Err(tenant_is_limited(limited).into()),
    }
}

fn new<P: Platform>(app: &App<P>, accepted: Vec<(Execution, Submission)>) -> Reply<P> {
    let views = accepted
        .iter()
        .map(|(e, _)| Some(bare(e.clone())))
        .collect();
    Reply {
        afterwards: Afterwards::of(app, accepted),
        ..shown(StatusCode::CREATED, views)
    }
}

fn shown<P: Platform>(status: StatusCode, views: Vec<Option<View>>) -> Reply<P> {
    let executions = views.iter().map(|v| v.as_ref().map(ExecutionJson::of));
    let executions = executions.collect();
    Reply::json(status, &BatchJson { executions })
}
