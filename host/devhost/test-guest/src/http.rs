//! The HTTP trigger's entry: the path says what to show.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::{fetch, pg, sql};

wasip2::http::proxy::export!(Http);

struct Http;

impl wasip2::exports::http::incoming_handler::Guest for Http {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = parse(query);
        let argument = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        match path {
            "/echo" => echo(&request, out),
            "/after" => after(out, argument("pause_ms")),
            "/endless" => endless(out),
            "/fetch" => match fetch::fetch(&query, &request) {
                Ok(response) => {
                    let body = response.consume().expect("the body is there");
                    let answer = Answer::start(out, response.status());
                    answer.copy(&body.stream().expect("the stream is there"));
                }
                Err(error) => Answer::start(out, 502).finish_with(&error),
            },
            "/trap" => panic!("asked to trap"),
            "/silent" => {}
            "/trap-after" => {
                Answer::start(out, 200).finish_with("answered");
                panic!("asked to trap after the answer");
            }
            _ => {
                let (status, text) = match simple(path, &argument, &request) {
                    Ok(text) => (200, text),
                    Err(text) => (400, text),
                };
                Answer::start(out, status).finish_with(&text);
            }
        }
    }
}

/// What takes a few words and answers with a text.
fn simple<'a>(
    path: &str,
    argument: &dyn Fn(&'a str) -> &'a str,
    request: &IncomingRequest,
) -> Result<String, String> {
    match path {
        "/sql" => sql::run(argument("database"), &read_all(request), &[]),
        "/pg" => pg::run(argument("address"), &read_all(request)),
        "/pg-execute" => {
            let (statement, parameter) = (argument("statement"), argument("parameter"));
            pg::execute(argument("address"), statement, parameter)
        }
        "/pg-trap" => pg::trap(argument("address"), &read_all(request)),
        "/pg-poll" => pg::poll(argument("address")),
        "/pg-types" => pg::types(argument("address")),
        "/pg-nulls" => pg::nulls(argument("address")),
        "/pg-bad-parameters" => pg::bad_parameters(argument("address")),
        "/transaction" => sql::transaction(argument("end")),
        "/types" => sql::types(),
        "/open-many" => Ok(sql::open_many()),
        "/variable" => {
            spin_sdk::variables::get(argument("name")).map_err(|error| format!("{error:?}"))
        }
        "/environment" => Ok(format!("{:?}", std::env::vars().collect::<Vec<_>>())),
        "/file" => std::fs::read_to_string(argument("path")).map_err(|error| error.to_string()),
        "/write" => std::fs::write(argument("path"), "")
            .map(|()| String::new())
            .map_err(|error| error.to_string()),
        "/print" => {
            println!("to stdout");
            eprintln!("to stderr");
            Ok(String::new())
        }
        "/headers" => Ok(headers(request)),
        "/note-and-pause" => {
            sql::note("pausing")?;
            std::thread::sleep(milliseconds(argument("ms")));
            sql::note("the pause is over")?;
            Ok("paused".to_owned())
        }
        "/compute" => {
            let end = Instant::now() + milliseconds(argument("ms"));
            while Instant::now() < end {}
            Ok("computed".to_owned())
        }
        _ => Ok(format!("at {path}")),
    }
}

fn milliseconds(text: &str) -> Duration {
    Duration::from_millis(text.parse().unwrap_or(0))
}

/// Sends each piece of the request's body back as it comes.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is there");
    Answer::start(out, 200).copy(&body.stream().expect("the stream is there"));
}

/// Answers at once and goes on.
fn after(out: ResponseOutparam, pause_ms: &str) {
    Answer::start(out, 200).finish_with("answered");
    std::thread::sleep(milliseconds(pause_ms));
    sql::note("after the answer").expect("the note is kept");
}

/// Writes until the client is gone, and notes that it saw this.
fn endless(out: ResponseOutparam) {
    let answer = Answer::start(out, 200);
    let stream = answer.body.write().expect("the body is there");
    while write(&stream, b"more\n").is_ok() {
        std::thread::sleep(Duration::from_millis(10));
    }
    sql::note("the client is gone").expect("the note is kept");
}

fn headers(request: &IncomingRequest) -> String {
    let entries = request.headers().entries();
    let lines = entries
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value)));
    lines.collect()
}

fn read_all(request: &IncomingRequest) -> String {
    let body: IncomingBody = request.consume().expect("the body is there");
    let stream = body.stream().expect("the stream is there");
    let mut bytes = Vec::new();
    while let Ok(more) = stream.blocking_read(64 * 1024) {
        bytes.extend_from_slice(&more);
    }
    String::from_utf8(bytes).expect("the body is text")
}

/// Splits a query and decodes `%XX`.
fn parse(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).expect("two digits follow %"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).expect("the query is text")
}

/// An answer whose head is out.
struct Answer {
    body: OutgoingBody,
}

impl Answer {
    fn start(out: ResponseOutparam, status: u16) -> Answer {
        let response = OutgoingResponse::new(Fields::new());
        response
            .set_status_code(status)
            .expect("the status is valid");
        let body = response.body().expect("the body is there");
        ResponseOutparam::set(out, Ok(response));
        Answer { body }
    }

    fn finish_with(self, text: &str) {
        let stream = self.body.write().expect("the body is there");
        write(&stream, text.as_bytes()).expect("the client reads");
        drop(stream);
        OutgoingBody::finish(self.body, None).expect("the body ends");
    }

    /// Writes what comes from `from` piece by piece; an error there becomes the last line.
    fn copy(self, from: &InputStream) {
        let stream = self.body.write().expect("the body is there");
        loop {
            match from.blocking_read(64 * 1024) {
                Ok(bytes) => write(&stream, &bytes).expect("the client reads"),
                Err(StreamError::Closed) => break,
                Err(error) => {
                    let text = format!("\nbroken off: {}", fetch::explain(error));
                    write(&stream, text.as_bytes()).expect("the client reads");
                    break;
                }
            }
        }
        drop(stream);
        OutgoingBody::finish(self.body, None).expect("the body ends");
    }
}

/// Writes all of it, in the pieces that one call may take.
pub fn write(stream: &OutputStream, bytes: &[u8]) -> Result<(), StreamError> {
    bytes
        .chunks(4096)
        .try_for_each(|piece| stream.blocking_write_and_flush(piece))
}
