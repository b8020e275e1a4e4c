//! The way in and out of one HTTP request, over `wasi:http/incoming-handler`.

use bytes::Bytes;
use http::{HeaderMap, Request};
use wasip2::http::types::{
    Fields, IncomingBody as WasiBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse,
    ResponseOutparam,
};
use wasip2::io::streams::OutputStream;

use crate::streams::{Reader, write_all};

/// The body of a request as it arrives. Fields are dropped in this order: children before their parents.
pub struct IncomingBody {
    reader: Option<Reader>,
    _body: Option<WasiBody>,
    _request: IncomingRequest,
}

impl IncomingBody {
    /// The next bytes, or none at the end.
    ///
    /// # Errors
    /// The host's words when the caller breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        match &mut self.reader {
            Some(reader) => reader.chunk().await,
            None => Ok(None),
        }
    }
}

/// The request as a value.
///
/// # Errors
/// What is wrong with its head, for the caller.
pub fn request(incoming: IncomingRequest) -> Result<Request<IncomingBody>, String> {
    let mut builder = Request::builder()
        .method(method(&incoming.method()).as_str())
        .uri(incoming.path_with_query().unwrap_or_else(|| "/".to_owned()));
    for (name, value) in incoming.headers().entries() {
        builder = builder.header(name, value);
    }
    let body = incoming.consume().ok();
    let reader = body
        .as_ref()
        .and_then(|body| body.stream().ok())
        .map(Reader::new);
    builder
        .body(IncomingBody {
            reader,
            _body: body,
            _request: incoming,
        })
        .map_err(|error| error.to_string())
}

fn method(method: &Method) -> String {
    match method {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(other) => other.clone(),
    }
}

/// An answer whose head is out; its body is written piece by piece.
pub struct Responder {
    stream: Option<OutputStream>,
    body: Option<OutgoingBody>,
}

impl Responder {
    /// Sends the head.
    ///
    /// # Errors
    /// When the host refuses it.
    pub fn start(out: ResponseOutparam, status: u16, headers: &HeaderMap) -> Result<Self, String> {
        let fields = Fields::new();
        for (name, value) in headers {
            fields
                .append(name.as_str(), value.as_bytes())
                .map_err(|e| format!("the header {name} is refused: {e:?}"))?;
        }
        let response = OutgoingResponse::new(fields);
        response
            .set_status_code(status)
            .map_err(|()| "the status is refused".to_owned())?;
        let body = response
            .body()
            .map_err(|()| "the response has no body".to_owned())?;
        let stream = body
            .write()
            .map_err(|()| "the body cannot be written".to_owned())?;
        ResponseOutparam::set(out, Ok(response));
        Ok(Self {
            stream: Some(stream),
            body: Some(body),
        })
    }

    /// Writes a piece of the body, as fast as the caller reads.
    ///
    /// # Errors
    /// When the caller has gone.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &self.stream {
            Some(stream) => write_all(stream, bytes).await,
            None => Ok(()),
        }
    }

    /// Ends the body properly. Dropping the responder instead breaks it off, and the caller sees that.
    ///
    /// # Errors
    /// When the caller has gone.
    pub fn finish(mut self) -> Result<(), String> {
        self.stream = None;
        match self.body.take() {
            Some(body) => OutgoingBody::finish(body, None).map_err(|code| format!("{code:?}")),
            None => Ok(()),
        }
    }
}
