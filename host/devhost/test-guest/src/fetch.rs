//! Outbound requests: the answer's status and body, or the error code, as text.

use std::collections::BTreeMap;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasip2::io::streams::StreamError;

/// How a stream ended early: with the HTTP error behind it if there is one.
pub fn explain(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => {
            match wasip2::http::types::http_error_code(&error) {
                Some(code) => format!("{code:?}"),
                None => error.to_debug_string(),
            }
        }
    }
}

/// Sends a GET to `url`, or with `post=1` the caller's body as it arrives.
pub fn fetch(
    query: &BTreeMap<String, String>,
    incoming: &IncomingRequest,
) -> Result<IncomingResponse, String> {
    let url = query.get("url").ok_or("no url")?;
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" {
        Scheme::Https
    } else {
        Scheme::Http
    };
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| "bad scheme")?;
    request
        .set_authority(Some(authority))
        .map_err(|()| "bad authority")?;
    request
        .set_path_with_query(Some(&path))
        .map_err(|()| "bad path")?;
    let post = query.contains_key("post");
    if post {
        request
            .set_method(&Method::Post)
            .map_err(|()| "bad method")?;
    }
    let body = request.body().map_err(|()| "no body")?;
    let pending = outgoing_handler::handle(request, Some(options(query)?))
        .map_err(|error| format!("{error:?}"))?;
    if post {
        pass_on(incoming, &body)?;
    }
    OutgoingBody::finish(body, None).map_err(|error| format!("{error:?}"))?;
    pending.subscribe().block();
    let result: Result<IncomingResponse, ErrorCode> = pending
        .get()
        .ok_or("not ready")?
        .map_err(|()| "taken already")?;
    result.map_err(|error| format!("{error:?}"))
}

fn options(query: &BTreeMap<String, String>) -> Result<RequestOptions, String> {
    let options = RequestOptions::new();
    let nanoseconds = |name: &str| {
        let milliseconds: Option<u64> = query.get(name).and_then(|text| text.parse().ok());
        milliseconds.map(|milliseconds| milliseconds * 1_000_000)
    };
    let set = "an option is refused";
    options
        .set_connect_timeout(nanoseconds("connect"))
        .map_err(|()| set)?;
    options
        .set_first_byte_timeout(nanoseconds("first_byte"))
        .map_err(|()| set)?;
    options
        .set_between_bytes_timeout(nanoseconds("between_bytes"))
        .map_err(|()| set)?;
    Ok(options)
}

fn pass_on(incoming: &IncomingRequest, body: &OutgoingBody) -> Result<(), String> {
    let from = incoming.consume().map_err(|()| "the body is taken")?;
    let from = from.stream().map_err(|()| "the stream is taken")?;
    let to = body.write().map_err(|()| "the body is taken")?;
    loop {
        match from.blocking_read(64 * 1024) {
            Ok(bytes) => crate::http::write(&to, &bytes).map_err(explain)?,
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(explain(error)),
        }
    }
}
