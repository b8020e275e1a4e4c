//! Which route answers which URL, and whom; each file here answers for one.

mod audit;
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
mod tokens;
mod wait;

use std::str::FromStr;

use app::{App, Caller, Platform};
use domain::{Action, ExecutionId, Role};
use http::Method;
use http::header::{ALLOW, HeaderValue};
use http::request::Parts;

use crate::answer::{Answer, Refusal};
use crate::body::BodyReader;
use crate::gate;
use crate::problem::{Kind, Problem, shortened};

/// What there is, by its path. A new one must say whom it answers, else it does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
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
    Tokens,
    Token(&'a str),
    Audit,
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
    ("/admin/tokens", Route::Tokens),
    ("/admin/audit", Route::Audit),
];

/// Every path there is, as the description of the API writes them. Its tests ask each.
#[cfg(test)]
pub const PATHS: [&str; 17] = [
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
    "/admin/tokens",
    "/admin/tokens/{token}",
    "/admin/audit",
];

pub fn route(path: &str) -> Route<'_> {
    if let Some((_, route)) = FIXED.iter().find(|(fixed, _)| *fixed == path) {
        return *route;
    }
    if let Some(token) = path.strip_prefix("/admin/tokens/") {
        let is_name = !token.is_empty() && !token.contains('/');
        return if is_name {
            Route::Token(token)
        } else {
            Route::Unknown
        };
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

/// What a caller must be for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody, from anywhere: it tells nothing that is not public.
    Everyone,
    /// Whoever has the token of that purpose, else one who may do everything.
    Purpose(Purpose),
    /// A caller with that role, or more.
    Role(Role),
}

/// What a token of the settings may be for, instead of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `tick_token`.
    Tick,
    /// `metrics_token`.
    Metrics,
}

const READ: Access = Access::Role(Role::Read);
const RUN: Access = Access::Role(Role::Run);
const ADMIN: Access = Access::Role(Role::Admin);

impl Route<'_> {
    /// Its methods, each with who may use it. HEAD goes with GET. This is the only place that says so.
    pub const fn offers(self) -> &'static [(&'static str, Access)] {
        match self {
            Self::Executions => &[("GET", READ), ("POST", RUN)],
            Self::Batch | Self::Cancel(_) | Self::Redeliver(..) => &[("POST", RUN)],
            Self::Execution(_) => &[("GET", READ), ("DELETE", RUN)],
            Self::Logs(_) | Self::Events(_) | Self::Deliveries(_) => &[("GET", READ)],
            Self::Health | Self::Ready | Self::Description => &[("GET", Access::Everyone)],
            Self::Metrics => &[("GET", Access::Purpose(Purpose::Metrics))],
            Self::Tick => &[("POST", Access::Purpose(Purpose::Tick))],
            Self::Tokens => &[("GET", ADMIN), ("POST", ADMIN)],
            Self::Token(_) => &[("DELETE", ADMIN)],
            Self::Audit => &[("GET", ADMIN)],
            Self::Unknown => &[],
        }
    }

    /// What somebody asks for who uses that method, as the audit log names it; none where everybody may.
    fn action(self, method: &Method) -> Option<Action> {
        let post = *method == Method::POST;
        let delete = *method == Method::DELETE;
        Some(match self {
            Self::Executions | Self::Batch if post => Action::ExecutionCreate,
            Self::Executions | Self::Batch => Action::ExecutionList,
            Self::Execution(_) if delete => Action::ExecutionDelete,
            Self::Execution(_) => Action::ExecutionGet,
            Self::Logs(_) => Action::LogGet,
            Self::Events(_) => Action::EventList,
            Self::Cancel(_) => Action::ExecutionCancel,
            Self::Deliveries(_) => Action::DeliveryList,
            Self::Redeliver(..) => Action::DeliveryCreate,
            Self::Tokens if post => Action::TokenCreate,
            Self::Tokens => Action::TokenList,
            Self::Token(_) => Action::TokenRevoke,
            Self::Audit => Action::AuditList,
            Self::Metrics => Action::MetricGet,
            Self::Tick => Action::TickRun,
            Self::Health | Self::Ready | Self::Description | Self::Unknown => return None,
        })
    }

    /// The id of what it is asked of. What is none may be anything, a token by mistake too, and is not kept.
    fn target(self) -> Option<String> {
        match self {
            Self::Execution(id)
            | Self::Logs(id)
            | Self::Events(id)
            | Self::Cancel(id)
            | Self::Deliveries(id)
            | Self::Redeliver(id, _) => self::id(id).ok().map(|id| id.to_string()),
            Self::Token(id) if app::is_token_id(id) => Some(id.to_owned()),
            _ => None,
        }
    }

    /// Who may use that method; none where there is no such method.
    fn access(self, method: &Method) -> Option<Access> {
        let method = match *method {
            Method::HEAD => "GET",
            _ => method.as_str(),
        };
        let mut offers = self.offers().iter();
        offers.find(|(name, _)| *name == method).map(|(_, a)| *a)
    }
}

/// Finds the route and lets it answer, if the caller may ask for that. What is refused for want of rights is noted.
pub async fn answer<P: Platform, B: BodyReader>(
    app: &App<P>,
    parts: &Parts,
    body: &mut B,
) -> Answer<P> {
    let answer = answer_unnoted(app, parts, body).await;
    if let Err(Refusal::Problem(problem)) = &answer
        && let Some((kind, caller)) = problem.denial()
    {
        let route = route(parts.uri.path());
        if let Some(action) = route.action(&parts.method) {
            let from = gate::client(&parts.headers);
            app.note_refusal(caller, from, action, route.target(), kind)
                .await;
        }
    }
    answer
}

async fn answer_unnoted<P: Platform, B: BodyReader>(
    app: &App<P>,
    parts: &Parts,
    body: &mut B,
) -> Answer<P> {
    let path = parts.uri.path();
    let route = route(path);
    if route == Route::Unknown {
        let detail = format!("There is nothing at {}.", shortened(path));
        return Err(Problem::new(Kind::NotFound, detail).into());
    }
    match route.access(&parts.method) {
        None => Err(not_allowed(parts, route).into()),
        Some(Access::Everyone) => everyone(app, route).await,
        Some(Access::Purpose(Purpose::Tick)) => tick::run(app, parts).await,
        Some(Access::Purpose(Purpose::Metrics)) => metrics::get(app, parts).await,
        Some(Access::Role(role)) => {
            let caller = gate::admit(app, parts, role).await?;
            answer_caller(app, &caller, parts, body, route).await
        }
    }
}

/// What needs no caller.
async fn everyone<P: Platform>(app: &App<P>, route: Route<'_>) -> Answer<P> {
    Ok(match route {
        Route::Ready => health::ready(app).await,
        Route::Description => openapi::get(),
        _ => health::alive(),
    })
}

/// What a caller may ask for, of whom it is known that it may.
async fn answer_caller<P: Platform, B: BodyReader>(
    app: &App<P>,
    caller: &Caller,
    parts: &Parts,
    body: &mut B,
    route: Route<'_>,
) -> Answer<P> {
    let post = parts.method == Method::POST;
    let delete = parts.method == Method::DELETE;
    match route {
        Route::Executions if post => executions::create(app, caller, parts, body).await,
        Route::Executions => executions::list(app, caller, parts).await,
        Route::Batch => batch::create(app, caller, parts, body).await,
        Route::Execution(id) if delete => execution::delete(app, caller, parts, id).await,
        Route::Execution(id) => execution::get(app, caller, parts, id).await,
        Route::Logs(id) => logs::get(app, caller, parts, id).await,
        Route::Events(id) => events::get(app, caller, parts, id).await,
        Route::Cancel(id) => cancel::request(app, caller, parts, id).await,
        Route::Deliveries(id) => deliveries::list(app, caller, parts, id).await,
        Route::Redeliver(id, number) => deliveries::redeliver(app, caller, parts, id, number).await,
        Route::Tokens if post => tokens::create(app, caller, parts, body).await,
        Route::Tokens => tokens::list(app, parts).await,
        Route::Token(id) => tokens::revoke(app, caller, parts, id).await,
        Route::Audit => audit::list(app, parts).await,
        Route::Health
        | Route::Ready
        | Route::Description
        | Route::Metrics
        | Route::Tick
        | Route::Unknown => Err(not_allowed(parts, route).into()),
    }
}

fn not_allowed(parts: &Parts, route: Route<'_>) -> Problem {
    let mut methods = Vec::new();
    for (method, _) in route.offers() {
        methods.push(*method);
        if *method == "GET" {
            methods.push("HEAD");
        }
    }
    let detail = format!(
        "{} is not possible here; {} {}.",
        shortened(parts.method.as_str()),
        methods.join(", "),
        if methods.len() > 1 { "are" } else { "is" }
    );
    let problem = Problem::new(Kind::MethodNotAllowed, detail);
    // Our own names always can be a header.
    match HeaderValue::from_str(&methods.join(", ")) {
        Ok(allowed) => problem.header(ALLOW, allowed),
        Err(_) => problem,
    }
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
            ("/admin/tokens", Route::Tokens),
            ("/admin/tokens/x", Route::Token("x")),
            ("/admin/tokens/", Route::Unknown),
            ("/admin/tokens/x/y", Route::Unknown),
            ("/admin/audit", Route::Audit),
            ("/admin/audit/x", Route::Unknown),
            ("/admin", Route::Unknown),
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
