//! Answers on their way out: a response, and what is still to do when it has gone.

use app::{App, Platform};
use bytes::Bytes;
use domain::{Execution, ExecutionId, Submission};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde::Serialize;

use crate::body::Body;
use crate::problem::{Kind, Problem};

/// After so many seconds a caller may try again what failed in passing.
const RETRY_AFTER_SECONDS: &str = "1";

/// What [`handle`](crate::handle) gives the shell to send, to run and to log.
#[derive(Debug)]
pub struct Reply<P: Platform> {
    /// The answer.
    pub response: Response<Body<P>>,
    /// To be run after the answer went out, by the same instance.
    pub afterwards: Option<Afterwards>,
    /// For the operator's log: why the answer is a 500 or 503. Never script text, never a secret.
    pub failure: Option<String>,
}

/// What is still to do, so that nobody waits for the API server.
#[derive(Debug)]
pub enum Afterwards {
    /// To create the Jobs of executions that were just accepted, as far as there is room: each as it was accepted, with what was asked for.
    Dispatch(Vec<(Execution, Submission)>),
    /// To carry out a cancel that was just noted.
    Cancel(ExecutionId),
}

impl Afterwards {
    /// What is left to do for those just accepted: nothing for what must wait in the queue.
    pub fn of<P: Platform>(
        app: &App<P>,
        mut accepted: Vec<(Execution, Submission)>,
    ) -> Option<Self> {
        accepted.retain(|(execution, _)| app.is_to_be_dispatched(execution));
        (!accepted.is_empty()).then_some(Self::Dispatch(accepted))
    }

    /// What was accepted, each with what was asked for.
    #[cfg(test)]
    pub fn accepted(&self) -> &[(Execution, Submission)] {
        match self {
            Self::Dispatch(accepted) => accepted,
            Self::Cancel(_) => &[],
        }
    }

    /// Does it. What goes wrong here is mended by the next tick.
    pub async fn run<P: Platform>(self, app: &App<P>) {
        match self {
            Self::Dispatch(accepted) => app.dispatch_accepted(&accepted).await,
            Self::Cancel(id) => app.carry_out_cancel(id).await,
        }
    }
}

/// Why a route does not answer with what was asked for.
#[derive(Debug)]
pub enum Refusal {
    /// The caller's doing, or a state that the caller can know.
    Problem(Box<Problem>),
    /// Ours, or that of what we stand on.
    Failure(Box<app::Error>),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<app::Error> for Refusal {
    fn from(error: app::Error) -> Self {
        Self::Failure(Box::new(error))
    }
}

/// What a route answers.
pub type Answer<P> = Result<Reply<P>, Refusal>;

impl Refusal {
    /// The refusal as an answer to the request of that path. The causes of failures are not the caller's to see.
    pub fn into_reply<P: Platform>(self, instance: &str) -> Reply<P> {
        let (problem, failure) = match self {
            Self::Problem(problem) => (*problem, None),
            Self::Failure(error) if error.is_transient() => {
                let detail = "Something that Executor stands on does not answer just now; GET /readyz tells what. \
                              Try again in a moment.";
                let problem = Problem::new(Kind::Unavailable, detail).header(
                    http::header::RETRY_AFTER,
                    HeaderValue::from_static(RETRY_AFTER_SECONDS),
                );
                (problem, Some(error.chain()))
            }
            Self::Failure(error) => {
                let detail = "Executor could not do this; its log says why.";
                (Problem::new(Kind::Internal, detail), Some(error.chain()))
            }
        };
        let response = problem.into_response(instance).map(Bytes::from);
        Reply {
            failure,
            ..Reply::of(response)
        }
    }
}

impl<P: Platform> Reply<P> {
    /// A whole answer with nothing to do afterwards.
    pub fn of(response: Response<Bytes>) -> Self {
        Self {
            response: response.map(Body::Full),
            afterwards: None,
            failure: None,
        }
    }

    /// No body, and nothing said about one.
    pub fn empty(status: StatusCode) -> Self {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = status;
        Self::of(response)
    }

    /// Plain text.
    pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Self {
        let mut response = Response::new(text.into());
        *response.status_mut() = status;
        Self::of(response).header(
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        )
    }

    /// JSON. Values that cannot be written as JSON do not occur: all names are strings.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        let mut response =
            Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
        *response.status_mut() = status;
        Self::of(response).header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// The same with one header more.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }

    /// The same with a header made of our own numbers, ids and tags; text that no header can carry is left out.
    pub fn header_text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => self.header(name, value),
            Err(_) => self,
        }
    }

    /// The last touch: length and caching; for HEAD the body goes.
    pub fn finished(mut self, head: bool) -> Self {
        let status = self.response.status();
        if head {
            *self.response.body_mut() = Body::Full(Bytes::new());
        } else if let Body::Full(bytes) = self.response.body()
            && !matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT)
        {
            let length = HeaderValue::from(bytes.len());
            self.response.headers_mut().insert(CONTENT_LENGTH, length);
        }
        // States change at any time; what has an entity tag may be kept, but must be asked about.
        let caching = HeaderValue::from_static(
            if self.response.headers().contains_key(http::header::ETAG) {
                "no-cache"
            } else {
                "no-store"
            },
        );
        self.response.headers_mut().insert(CACHE_CONTROL, caching);
        self
    }
}
