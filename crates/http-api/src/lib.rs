//! The HTTP API: an `http::Request` becomes an `http::Response`, over the use cases of `app`.
//!
//! `routes/` mirrors the URLs; `submission/` checks what is posted, `app::wire` writes what is answered, `problem` says
//! what went wrong. Nothing here knows a host: a shell hands in the request and its body, sends the reply, runs
//! what is left to do afterwards and logs the failure.

mod answer;
mod body;
mod cursor;
mod exposition;
mod gate;
mod headers;
mod json;
pub mod limits;
mod news;
mod problem;
mod query;
mod routes;
mod sse;
mod submission;

pub use answer::{Afterwards, Reply};
pub use body::{Body, BodyReader, Live};

// The JSON of executions: webhooks send it too.
use app::wire;
use app::{App, Platform};
use http::{Method, Request};

/// Answers one request. Where a route needs the database, its schema is brought up to date first.
pub async fn handle<P: Platform, B: BodyReader>(app: &App<P>, request: Request<B>) -> Reply<P> {
    let (parts, mut body) = request.into_parts();
    let head = parts.method == Method::HEAD;
    app.serve_in_trace(headers::traceparent(&parts.headers));
    let reply = match routes::answer(app, &parts, &mut body).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(parts.uri.path()),
    };
    reply.finished(head)
}

#[cfg(test)]
mod tests;
