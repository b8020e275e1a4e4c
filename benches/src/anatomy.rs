//! Where the time of an acceptance goes: requests that need more and more of what it needs, by one caller in turns.

use std::time::Duration;

use e2e::Options;

use crate::accept::submission;
use crate::database::Kind;
use crate::load::{self, Load};
use crate::report::{Figure, Group, percentile, ratio};
use crate::size::Size;
use crate::stage::{self, base};
use crate::wire::Server;

/// Requests of one kind in one turn.
const MOST: usize = 2_000;

/// One kind of request.
struct Step {
    what: &'static str,
    request: Vec<u8>,
    status: u16,
    times: Vec<Duration>,
    medians: Vec<f64>,
}

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Group {
    let (stack, database) = stage::start_on(
        kind,
        Options {
            variables: vec![("max_running".to_owned(), "1".to_owned())],
            ..Options::default()
        },
    );
    let client = stack.client();
    // It holds the only place, so that nothing is dispatched.
    let holder = client.submit(&submission("exec sleep 100000", 604_800));
    let server = Server::new(&base(&stack), "", None);
    let valid = submission("exit 0", 600).to_string();
    // Read and checked as a whole, and refused by its last rule.
    let invalid = submission(" ", 600).to_string();
    let step = |what, method: &str, path: &str, body: Option<&str>, status| Step {
        what,
        request: server.request(method, path, body),
        status,
        times: Vec::new(),
        medians: Vec::new(),
    };
    let one = format!("/executions/{holder}");
    let mut steps = [
        step(
            "the host alone: its own health",
            "GET",
            "/.well-known/spin/health",
            None,
            200,
        ),
        step(
            "an instance with its settings: /healthz",
            "GET",
            "/healthz",
            None,
            200,
        ),
        step(
            "reading and checking: a POST that is refused",
            "POST",
            "/executions",
            Some(&invalid),
            422,
        ),
        step("a connection and reads: GET by id", "GET", &one, None, 200),
        step(
            "everything: a POST that is accepted",
            "POST",
            "/executions",
            Some(&valid),
            201,
        ),
    ];
    let mut connection = database.connect();
    for _ in 0..size.rounds() {
        for step in &mut steps {
            let load = Load {
                callers: 1,
                time: size.turn(),
            };
            let measured = load::send(
                load,
                &server,
                &vec![step.request.clone(); MOST],
                step.status,
            );
            step.medians
                .push(percentile(&measured.latencies, 0.5).as_secs_f64());
            step.times.extend(measured.latencies);
        }
        connection.forget_but(&holder);
    }
    let about = format!(
        "What an acceptance is made of, on {}: p50 of requests that need more and more of it, by one caller, with dispatch shut.",
        kind.title()
    );
    let mut group = Group::new(&format!("anatomy-{}", kind.name()), &about);
    let [others @ .., whole] = &steps;
    for step in others {
        let figure = Figure::time(step.what, percentile(&step.times, 0.5));
        group.add(figure.by(ratio(&step.medians, &whole.medians), whole.what));
    }
    group.add(Figure::time(whole.what, percentile(&whole.times, 0.5)));
    group
}
