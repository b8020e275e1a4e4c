//! `/healthz`, `/executions/health` and `/readyz`: whether the process lives, and whether it can work.

use app::{App, Check, Platform};
use http::StatusCode;
use serde::Serialize;

use crate::answer::Reply;

/// It answers, so it lives. Asks nothing else.
pub fn alive<P: Platform>() -> Reply<P> {
    Reply::text(StatusCode::OK, "ok\n")
}

#[derive(Serialize)]
struct ReadinessJson {
    status: &'static str,
    checks: ChecksJson,
}

#[derive(Serialize)]
struct ChecksJson {
    store: CheckJson,
    kubernetes: CheckJson,
    tick: CheckJson,
}

#[derive(Serialize)]
struct CheckJson {
    ok: bool,
    detail: Option<String>,
}

impl From<Check> for CheckJson {
    fn from(check: Check) -> Self {
        Self {
            ok: check.is_ok(),
            detail: check.err(),
        }
    }
}

/// Asks what the service stands on: 200 if all of it works, else 503 with what does not.
pub async fn ready<P: Platform>(app: &App<P>) -> Reply<P> {
    // A schema that cannot be brought up to date shows as a store that does not answer.
    let migrated = app.migrate().await.map_err(|error| app.shown(&error));
    let mut readiness = app.readiness().await;
    readiness.store = readiness.store.and(migrated);
    let ready = readiness.is_ready();
    let (status, word) = if ready {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready")
    };
    let json = ReadinessJson {
        status: word,
        checks: ChecksJson {
            store: readiness.store.into(),
            kubernetes: readiness.kubernetes.into(),
            tick: readiness.tick.into(),
        },
    };
    Reply::json(status, &json)
}
