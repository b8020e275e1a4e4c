//! Sending a request with our credentials, and what an answer that is none comes to.

use std::time::Duration;

use http::StatusCode;
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use serde::de::DeserializeOwned;

use super::Client;
use crate::body;
use crate::config::bearer;
use crate::error::Error;
use crate::transport::{Timeouts, Transport};

/// The body of a refusal, in bytes: what is beyond adds nothing that a person would read.
pub(super) const REFUSAL_LIMIT_BYTES: usize = 64 << 10;

/// A pause longer than this is not believed: five minutes, so that a broken server cannot stop us for good.
pub(super) const RETRY_AFTER_LIMIT: Duration = Duration::from_secs(300);

pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(super) const ANYTHING: HeaderValue = HeaderValue::from_static("*/*");

impl<T: Transport> Client<T> {
    pub(super) async fn call<W: DeserializeOwned>(
        &self,
        request: http::Request<Vec<u8>>,
        limit_bytes: usize,
    ) -> Result<W, Error> {
        let mut response = self.send(request, JSON, Timeouts::CALL).await?;
        let bytes = body::whole(response.body_mut(), limit_bytes).await?;
        serde_json::from_slice(&bytes).map_err(Error::Malformed)
    }

    pub(super) async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        accept: HeaderValue,
        timeouts: Timeouts,
    ) -> Result<http::Response<T::Body>, Error> {
        let mut response = self.send_authorized(request, accept, timeouts).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        let bytes = body::beginning(response.body_mut(), REFUSAL_LIMIT_BYTES).await;
        Err(Error::refusal(code.as_u16(), retry_after, &bytes))
    }

    /// Sends it with the token as it is now; and where the API server refuses that one and there is a newer by then, once
    /// more with that: a refused request has had no effect.
    async fn send_authorized(
        &self,
        request: http::Request<Vec<u8>>,
        accept: HeaderValue,
        timeouts: Timeouts,
    ) -> Result<http::Response<T::Body>, Error> {
        let token = self.config.token()?;
        let request = self.config.complete(request, accept, token.as_deref())?;
        let again = self.config.token_may_change().then(|| request.clone());
        let response = self.transport.send(request, timeouts).await?;
        let (StatusCode::UNAUTHORIZED, Some(mut again)) = (response.status(), again) else {
            return Ok(response);
        };
        match self.config.token() {
            Ok(Some(newer)) if token.as_deref() != Some(&*newer) => {
                drop(response);
                again.headers_mut().insert(AUTHORIZATION, bearer(&newer)?);
                Ok(self.transport.send(again, timeouts).await?)
            }
            _ => Ok(response),
        }
    }
}

/// Kubernetes writes whole seconds here; a date, which HTTP allows too, is passed over.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
