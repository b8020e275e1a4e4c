//! `/executions/{id}/deliveries`: what became of telling the webhook, and telling it once more.

use app::wire::Time;
use app::{App, Attempt, Caller, Delivery, DeliveryState, MAX_DELIVERIES, Platform, Redelivered};
use http::StatusCode;
use http::header::LOCATION;
use http::request::Parts;
use serde::Serialize;
use serde_json::json;

use crate::answer::{Answer, Reply};
use crate::problem::{Kind, Problem, shortened};
use crate::query::Query;

/// The deliveries of one execution. The URL is not shown: it may be as good as a secret.
#[derive(Serialize)]
struct DeliveriesJson<'a> {
    items: Vec<DeliveryJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeliveryJson<'a> {
    number: u32,
    state: &'static str,
    created_at: Time,
    next_attempt_at: Option<Time>,
    attempts: Vec<AttemptJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttemptJson<'a> {
    number: u32,
    started_at: Time,
    duration_seconds: f64,
    status_code: Option<u16>,
    error: Option<&'a str>,
}

impl<'a> From<&'a Delivery> for DeliveryJson<'a> {
    fn from(delivery: &'a Delivery) -> Self {
        // The first attempt is due before all times, whatever clock the end was read from.
        let next = delivery.next_at.map(|at| at.max(delivery.created_at));
        Self {
            number: delivery.number,
            state: delivery.state.as_str(),
            created_at: Time(delivery.created_at),
            next_attempt_at: next.map(Time),
            attempts: delivery.attempts.iter().map(AttemptJson::from).collect(),
        }
    }
}

impl<'a> From<&'a Attempt> for AttemptJson<'a> {
    fn from(attempt: &'a Attempt) -> Self {
        Self {
            number: attempt.number,
            started_at: Time(attempt.started_at),
            // Attempts take seconds, so all their microseconds are exact in a double.
            duration_seconds: attempt.duration_micros as f64 / 1e6,
            status_code: attempt.status_code,
            error: attempt.error.as_deref(),
        }
    }
}

/// `GET /executions/{id}/deliveries`.
pub async fn list<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: &str,
) -> Answer<P> {
    let id = super::id(id)?;
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    let deliveries = app
        .deliveries(caller, id)
        .await?
        .ok_or_else(|| super::no_such(id))?;
    let items = deliveries.iter().map(DeliveryJson::from).collect();
    Ok(Reply::json(StatusCode::OK, &DeliveriesJson { items }))
}

/// `POST /executions/{id}/deliveries/{number}/redeliver`.
pub async fn redeliver<P: Platform>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    id: &str,
    number: &str,
) -> Answer<P> {
    let id = super::id(id)?;
    Query::parse(parts.uri.query(), &[], &[]).finish()?;
    let missing = || {
        let detail = format!("The execution {id} has no delivery {}.", shortened(number));
        Problem::new(Kind::NotFound, detail)
    };
    let digits = number.bytes().all(|b| b.is_ascii_digit());
    let asked = number.parse::<u32>().ok();
    let asked = asked.filter(|n| digits && *n > 0).ok_or_else(missing)?;
    app.migrate().await?;
    match app.redeliver(caller, id, asked).await? {
        Redelivered::Pending(number) => {
            let state = DeliveryState::Pending.as_str();
            let body = json!({"number": number, "state": state});
            Ok(Reply::json(StatusCode::ACCEPTED, &body)
                .header_text(LOCATION, &format!("/executions/{id}/deliveries")))
        }
        Redelivered::Missing => Err(missing().into()),
        Redelivered::TooMany => {
            let detail = format!("At most {MAX_DELIVERIES} deliveries of one execution are kept.");
            Err(Problem::new(Kind::TooManyDeliveries, detail).into())
        }
    }
}
