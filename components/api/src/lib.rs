//! The HTTP trigger's entry: every route, one fresh instance for each request, which goes on after the answer is out.

use bytes::Bytes;
use http_api::{Body, BodyReader};
use spin_platform::{IncomingBody, Responder, SpinApp, SpinHost, StartError, block_on};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Api;

wasip2::http::proxy::export!(Api);

impl wasip2::exports::http::incoming_handler::Guest for Api {
    fn handle(incoming: IncomingRequest, out: ResponseOutparam) {
        // What fails here failed towards a caller who has gone, or a host that refuses us: only the log is left.
        if let Err(error) = block_on(answer(incoming, out)) {
            spin_platform::log_broken_off(&error);
        }
    }
}

async fn answer(incoming: IncomingRequest, out: ResponseOutparam) -> Result<(), StartError> {
    let app = spin_platform::app()?;
    let request = spin_platform::request(incoming).map_err(StartError)?;
    let reply = http_api::handle(&app, request.map(Incoming)).await;
    if let Some(failure) = &reply.failure {
        app.log_failure(failure);
    }
    let sent = send(&app, out, reply.response).await;
    if let Some(afterwards) = reply.afterwards {
        afterwards.run(&app).await;
    }
    sent.map_err(StartError)
}

async fn send(
    app: &SpinApp,
    out: ResponseOutparam,
    response: http::Response<Body<SpinHost>>,
) -> Result<(), String> {
    let (head, body) = response.into_parts();
    let mut responder = Responder::start(out, head.status.as_u16(), &head.headers)?;
    match body {
        Body::Full(bytes) => responder.write(&bytes).await?,
        Body::Live(mut live) => {
            while let Some(bytes) = live.chunk(app).await? {
                responder.write(&bytes).await?;
            }
        }
    }
    responder.finish()
}

/// The request's body, as `http-api` reads it.
struct Incoming(IncomingBody);

impl BodyReader for Incoming {
    async fn chunk(&mut self) -> Result<Option<Bytes>, String> {
        self.0.chunk().await
    }
}
