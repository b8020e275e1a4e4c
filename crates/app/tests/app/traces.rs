//! Traces: what a caller's request says of its own is told to the API server, to receivers and in the log.

use app::{Caller, Submitted};
use domain::{ExecutionId, TraceContext};

use crate::support::*;

const CALLERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Accepts and dispatches as the instance does that serves a request with that header.
fn submit(bench: &Bench, traceparent: Option<&str>) -> ExecutionId {
    let app = bench.app();
    app.serve_in_trace(traceparent.and_then(TraceContext::parse));
    let asked = hooked_submission();
    let Ok(Submitted::New { execution, .. }) =
        bench.world.run(app.submit(&Caller::local(), &asked, None))
    else {
        panic!("it was not accepted");
    };
    bench.world.run(app.dispatch_submitted(&execution, &asked));
    execution.id
}

#[test]
fn the_callers_trace_goes_on_to_the_api_server_the_receiver_and_the_log() {
    let bench = Bench::new();
    bench.script(1_000, 0, "hello\n");
    let id = submit(&bench, Some(CALLERS));
    bench.tick(9);
    bench.finished(id);
    let execution = bench.get(id);
    assert_eq!(execution.trace, TraceContext::parse(CALLERS));

    let traced = bench.world.traced.borrow();
    for what in ["POST jobs", "DELETE jobs"] {
        let found = traced.iter().find(|(request, _)| request == what);
        let (_, text) = found.unwrap_or_else(|| panic!("no {what} in {traced:?}"));
        goes_on(text);
    }
    let received = bench.world.received.borrow();
    goes_on(received[0].header("traceparent"));
    let lines = bench.world.lines.borrow();
    let line = lines.iter().find(|line| line.starts_with("finished "));
    let line = line.expect("a line about its end");
    for field in [
        "level=info".to_owned(),
        "trace_id=4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
        format!("executionId={id}"),
        "reason=Completed".to_owned(),
        "tick=".to_owned(),
        "span_id=".to_owned(),
    ] {
        assert!(line.contains(&field), "no {field} in {line}");
    }
}

/// It is of the caller's trace and flags, and another span.
#[track_caller]
fn goes_on(text: &str) {
    let ours = TraceContext::parse(text).expect("it is well-formed");
    let callers = TraceContext::parse(CALLERS).expect("it is well-formed");
    assert_eq!((ours.trace, ours.flags), (callers.trace, callers.flags));
    assert_ne!(ours.parent, callers.parent);
}

#[test]
fn who_says_nothing_gets_a_trace_with_the_id_of_the_execution() {
    let bench = Bench::new();
    let id = submit(&bench, None);
    assert_eq!(bench.get(id).trace, None, "nothing is stored for it");
    let traced = bench.world.traced.borrow();
    let (_, text) = traced.first().expect("a request");
    let own = TraceContext::parse(text).expect("it is well-formed");
    assert_eq!((own.trace, own.flags), (id.0.as_u128(), 0));
}
