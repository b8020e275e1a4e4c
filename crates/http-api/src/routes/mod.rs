//! Which route answers which URL; each file here answers for one.

mod batch;
mod cancel;
mod deliveries;
mod events;
mod execution;
mod executions;
mod health;
mod logs;
mod metrics;
mod openapi;
mod tick;
mod wait;

use std::str::FromStr;

use app::{App, Platform};
use domain::ExecutionId;
use http::Method;
use http::header::{ALLOW, HeaderValue};
use http::request::Parts;

use crate::answer::Answer;
use crate::body::BodyReader;
use crate::problem::{Kind, Problem, shortened};

/// What there is, by its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Executions,
    Batch,
    Execution(&'a str),
    Logs(&'a str),
    Cancel(&'a str),
    Deliveries(&'a str),
    /// Of that execution, the delivery with that number.
    Redeliver(&'a str, &'a str),
    Events(&'a str),
    Health,
    Ready,
    Metrics,
    Description,
    Tick,
    Unknown,
}

/// Paths of the service itself; `/executions/health` comes before the ids.
const FIXED: &[(&str, Route<'static>)] = &[
    ("/executions", Route::Executions),
    ("/executions/health", Route::Health),
    ("/healthz", Route::Health),
    ("/readyz", Route::Ready),
    ("/internal/tick", Route::Tick),
    ("/executions:batch", Route::Batch),
    ("/metrics", Route::Metrics),
    ("/openapi.json", Route::Description),
];

/// Every path there is, as the description of the API writes them. Its tests ask each.
#[cfg(test)]
pub const PATHS: [&str; 14] = [
    "/executions",
    "/executions/health",
    "/healthz",
    "/readyz",
    "/internal/tick",
    "/executions:batch",
    "/metrics",
    "/openapi.json",
    "/executions/{id}",
    "/executions/{id}/logs",
    "/executions/{id}/events",
    "/executions/{id}/cancel",
    "/executions/{id}/deliveries",
    "/executions/{id}/deliveries/{number}/redeliver",
];

fn route(path: &str) -> Route<'_> {
    if let Some((_, route)) = FIXED.iter().find(|(fixed, _)| *fixed == path) {
        return *route;
    }
    let Some(rest) = path.strip_prefix("/executions/") else {
        return Route::Unknown;
    };
    let (id, below) = match rest.split_once('/') {
        Some((id, below)) => (id, Some(below)),
        None => (rest, None),
    };
    match below {
        _ if id.is_empty() => Route::Unknown,
        None => Route::Execution(id),
        Some("logs") => Route::Logs(id),
        Some("events") => Route::Events(id),
        Some("cancel") => Route::Cancel(id),
        Some("deliveries") => Route::Deliveries(id),
        Some(below) => match below.split('/').collect::<Vec<_>>()[..] {
            ["deliveries", number, "redeliver"] => Route::Redeliver(id, number),
            _ => Route::Unknown,
        },
    }
}

/// Finds the route and lets it answer.
pub async fn answer<P: Platform, B: BodyReader>(
    app: &App<P>,
    parts: &Parts,
    body: &mut B,
) -> Answer<P> {
    let path = parts.uri.path();
    let get = matches!(parts.method, Method::GET | Method::HEAD);
    match route(path) {
        Route::Executions if get => executions::list(app, parts).await,
        Route::Executions if parts.method == Method::POST => {
            executions::create(app, parts, body).await
        }
        Route::Executions => Err(not_allowed(parts, "GET, HEAD, POST").into()),
        Route::Batch if parts.method == Method::POST => batch::create(app, parts, body).await,
        Route::Batch => Err(not_allowed(parts, "POST").into()),
        Route::Execution(id) if get => execution::get(app, parts, id).await,
        Route::Execution(id) if parts.method == Method::DELETE => {
            execution::delete(app, parts, id).await
        }
        Route::Execution(_) => Err(not_allowed(parts, "GET, HEAD, DELETE").into()),
        Route::Logs(id) if get => logs::get(app, parts, id).await,
        Route::Events(id) if get => events::get(app, parts, id).await,
        Route::Health if get => Ok(health::alive()),
        Route::Ready if get => Ok(health::ready(app).await),
        Route::Metrics if get => metrics::get(app).await,
        Route::Description if get => Ok(openapi::get()),
        Route::Deliveries(id) if get => deliveries::list(app, parts, id).await,
        Route::Redeliver(id, number) if parts.method == Method::POST => {
            deliveries::redeliver(app, parts, id, number).await
        }
        Route::Redeliver(..) => Err(not_allowed(parts, "POST").into()),
        Route::Logs(_)
        | Route::Events(_)
        | Route::Deliveries(_)
        | Route::Health
        | Route::Ready
        | Route::Metrics
        | Route::Description => Err(not_allowed(parts, "GET, HEAD").into()),
        Route::Tick if parts.method == Method::POST => tick::run(app, parts).await,
        Route::Cancel(id) if parts.method == Method::POST => cancel::request(app, parts, id).await,
        Route::Cancel(_) => Err(not_allowed(parts, "POST").into()),
        Route::Tick => Err(not_allowed(parts, "POST").into()),
        Route::Unknown => {
            let detail = format!("There is nothing at {}.", shortened(path));
            Err(Problem::new(Kind::NotFound, detail).into())
        }
    }
}

fn not_allowed(parts: &Parts, allowed: &'static str) -> Problem {
    let detail = format!(
        "{} is not possible here; {allowed} {}.",
        shortened(parts.method.as_str()),
        if allowed.contains(',') { "are" } else { "is" }
    );
    Problem::new(Kind::MethodNotAllowed, detail).header(ALLOW, HeaderValue::from_static(allowed))
}

/// Reads an id from the path.
fn id(text: &str) -> Result<ExecutionId, Problem> {
    ExecutionId::from_str(text).map_err(|_| {
        let detail = format!(
            "`{}` is not a UUID of the form 01890a5d-ac96-774b-bcce-b302099a8057.",
            shortened(text)
        );
        Problem::new(Kind::InvalidId, detail)
    })
}

/// No execution has that id.
fn no_such(id: ExecutionId) -> Problem {
    Problem::new(Kind::NotFound, format!("There is no execution {id}."))
}

#[cfg(test)]
mod tests {
    //! The table of routes.
    use super::{FIXED, PATHS, Route, route};

    #[test]
    fn paths_find_their_routes() {
        for (path, expected) in [
            ("/executions", Route::Executions),
            ("/executions/health", Route::Health),
            ("/metrics", Route::Metrics),
            ("/openapi.json", Route::Description),
            ("/executions:batch", Route::Batch),
            ("/executions:batches", Route::Unknown),
            ("/executions/x", Route::Execution("x")),
            ("/executions/x/logs", Route::Logs("x")),
            ("/executions/x/cancel", Route::Cancel("x")),
            ("/executions/x/events", Route::Events("x")),
            ("/executions/", Route::Unknown),
            ("/executions//logs", Route::Unknown),
            ("/executions/x/", Route::Unknown),
            ("/executions/x/logs/", Route::Unknown),
            ("/executions/x/deliveries", Route::Deliveries("x")),
            (
                "/executions/x/deliveries/1/redeliver",
                Route::Redeliver("x", "1"),
            ),
            ("/executions/x/deliverieses", Route::Unknown),
            ("/executions/x/deliveries/", Route::Unknown),
            ("/executions/x/deliveries/1", Route::Unknown),
            ("/executions/x/deliveries/1/redeliver/", Route::Unknown),
            ("/Executions", Route::Unknown),
            ("/", Route::Unknown),
            ("", Route::Unknown),
            ("*", Route::Unknown),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
        for (path, _) in FIXED {
            assert!(PATHS.contains(path), "{path}");
        }
    }
}
