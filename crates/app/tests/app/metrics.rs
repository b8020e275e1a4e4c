//! What is measured of the work: clocks, requests and what ticks spend.

use app::{Measure, Metrics, Timing};

use crate::support::*;

fn metrics(bench: &Bench) -> Metrics {
    let metrics = bench.world.run(bench.app().metrics());
    metrics.expect("the store answers")
}

fn timing(metrics: &Metrics, of: Measure, label: &str) -> Timing {
    let found = metrics
        .timings
        .iter()
        .find(|(measure, name, _)| (*measure, name.as_str()) == (of, label));
    found
        .map(|(_, _, timing)| timing.clone())
        .unwrap_or_default()
}

#[test]
fn the_clocks_of_an_attempt_are_measured_at_its_end() {
    let bench = Bench::new();
    bench.script(3_000, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    let before = metrics(&bench);
    assert_eq!(timing(&before, Measure::Run, ""), Timing::default());
    assert_eq!(before.figures.dispatches, 1);
    let created = timing(&before, Measure::Request, "create 201");
    assert_eq!(created.total, 1, "it goes with the Job's uid");
    assert!(before.lease.is_none() && !before.is_ticking);

    bench.tick(9);
    bench.finished(id);
    let after = metrics(&bench);
    for measure in [
        Measure::Queue,
        Measure::Start,
        Measure::Run,
        Measure::Settle,
    ] {
        assert_eq!(timing(&after, measure, "").total, 1, "{measure:?}");
    }
    let run = timing(&after, Measure::Run, "");
    assert!((2_000_000..4_000_000).contains(&run.micros), "{run:?}");
    assert_eq!(timing(&after, Measure::Request, "delete 200").total, 1);
}

#[test]
fn what_ticks_spend_goes_with_the_lease() {
    let bench = Bench::new();
    bench.tick(3);
    let first = metrics(&bench);
    let spent = first.lease.as_ref().expect("a lease").spent;
    assert_eq!((spent.terms, spent.watches, spent.failures), (1, 1, 0));
    assert_eq!(
        spent.requests, 4,
        "a look, a watch, and a list of two kinds"
    );
    assert!(spent.statements > 10);
    assert!((3_000_000..4_000_000).contains(&spent.micros), "{spent:?}");
    assert!(!first.is_ticking);
    bench.tick(3);
    let second = metrics(&bench);
    let spent = second.lease.as_ref().expect("a lease").spent;
    assert_eq!((spent.terms, spent.watches, spent.requests), (2, 2, 5));
    // A quiet tick has nothing to store but that.
    assert_eq!(first.timings, second.timings);
}

#[test]
fn requests_without_an_answer_are_counted_as_such() {
    let bench = Bench::new();
    bench.world.fault("LIST jobs", 1, Effect::Lost);
    bench.tick(3);
    let after = metrics(&bench);
    assert_eq!(timing(&after, Measure::Request, "list no_answer").total, 1);
    assert!(after.lease.expect("a lease").spent.failures > 0);
}
