//! Namespaces of tenants in settings that change: what was accepted before is looked after where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::{Reason, Status};

use crate::namespaces::{
    FORBIDDEN, bench, dispatch, dispatch_as, get, jobs, reason, submit, take_away_unseen,
};
use crate::support::{Bench, Effect, refusal, submission};

/// What a tick watches.
fn watched(bench: &Bench) -> Vec<String> {
    bench.world.placed.take();
    bench.tick(1);
    let placed = bench.world.placed.take().into_iter();
    let names = placed.filter_map(|what| what.strip_prefix("WATCH pods in ").map(str::to_owned));
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

#[test]
fn a_setting_that_changes_loses_nothing_that_runs_or_waits() {
    let mut bench = bench();
    bench.script(4_000, 0, "hello\n");
    let running = dispatch(&bench, "red");
    bench.tick(1);
    let queued = submit(&bench, "red", &submission()).id;
    // From now on red runs with all others, and nobody has `red-runs`.
    bench.place(&[("red", None)]);
    let after = dispatch(&bench, "red");
    assert_eq!(jobs(&bench), [("red-runs", 1), ("runs", 1)].into());
    bench.world.pass(20);
    for _ in 0..3 {
        bench.tick(9);
    }
    for id in [running, queued, after] {
        assert_eq!(reason(&bench, "red", id), Reason::Completed);
    }
    // The claim on the second had run out, so that its name is held; and let go, though nothing else is left there.
    assert_eq!(jobs(&bench), [("red-runs", 1)].into());
    assert_eq!(watched(&bench), ["blue-runs", "red-runs", "runs"]);
    bench.world.pass(20 * 60);
    bench.tick(3);
    bench.world.pass(5);
    assert_eq!(jobs(&bench), BTreeMap::new());
    // A list that finds nothing is the last one.
    assert_eq!(bench.state("namespaces"), "");
    assert_eq!(watched(&bench), ["runs"]);
}

#[test]
fn a_job_that_a_tick_could_not_delete_is_found_though_it_left_nothing_and_the_setting_is_gone() {
    let mut bench = bench();
    bench.script(500, 0, "hello\n");
    let id = dispatch(&bench, "red");
    bench.world.fault("DELETE jobs", u32::MAX, Effect::NotSent);
    let app = bench.app();
    bench.world.run(async {
        let trouble = async {
            app::Runtime::sleep(&bench.time(), Duration::from_secs(3)).await;
            bench.world.database_down.set(true);
        };
        let (ended, ()) = futures::join!(app.tick(Duration::from_secs(4)), trouble);
        assert!(ended.is_err(), "not even its lease could be given back");
    });
    bench.world.heal();
    bench.place(&[]);
    assert_eq!(reason(&bench, "red", id), Reason::Completed);
    assert_eq!(jobs(&bench), [("red-runs", 1)].into());
    bench.world.pass(6);
    bench.tick(3);
    bench.world.pass(5);
    assert_eq!(jobs(&bench), BTreeMap::new());
}

#[test]
fn a_namespace_that_nobody_wants_and_that_may_not_be_looked_into_is_let_go() {
    let mut bench = bench();
    bench.tick(1);
    bench.place(&[]);
    for what in ["WATCH pods in red-runs", "LIST pods in red-runs"] {
        let refused = refusal(403, "Forbidden", FORBIDDEN);
        bench.world.fault(what, u32::MAX, refused);
    }
    bench.tick(3);
    bench.world.heal();
    assert_eq!(watched(&bench), ["blue-runs", "runs"]);
    bench.world.pass(300);
    bench.tick(3);
    let more = "nothing is there, and a request may still arrive";
    assert_eq!(watched(&bench), ["blue-runs", "runs"], "{more}");
    bench.world.pass(20 * 60);
    bench.tick(3);
    assert_eq!(watched(&bench), ["runs"], "nothing is left in the other");
}

#[test]
fn a_job_that_comes_late_is_found_though_nobody_wants_its_namespace_any_more() {
    let mut bench = bench();
    // Its creation is in doubt, so its name is to be held; and that request is on its way for long.
    bench.world.fault("POST jobs", 1, Effect::Vanished);
    bench.world.fault("POST jobs", 1, Effect::Late);
    let mut hurried = submission();
    hurried.timeouts.start_seconds = 5;
    let submitted = dispatch_as(&bench, "red", &hurried);
    bench.place(&[]);
    bench.world.pass(5);
    bench.tick(3);
    assert_eq!(reason(&bench, "red", submitted.id), Reason::StartTimeout);
    for _ in 0..2 {
        bench.world.pass(300);
        bench.tick(3);
    }
    assert_eq!(jobs(&bench), BTreeMap::new());
    assert_eq!(bench.world.deliver_late(), [201]);
    assert_eq!(jobs(&bench), [("red-runs", 1)].into());
    for _ in 0..2 {
        bench.world.pass(20 * 60);
        bench.tick(3);
    }
    assert_eq!(jobs(&bench), BTreeMap::new());
    assert_eq!(bench.world.starts(), 0);
    assert_eq!(watched(&bench), ["runs"]);
}

#[test]
fn a_job_that_goes_while_its_namespace_is_in_no_setting_is_missed() {
    let mut bench = bench();
    bench.script(600_000, 0, "");
    let (red, blue) = (dispatch(&bench, "red"), dispatch(&bench, "blue"));
    bench.tick(3);
    bench.place(&[("blue", Some("blue-runs"))]);
    take_away_unseen(&bench, "red-runs", &get(&bench, "red", red));
    bench.tick(3);
    assert_eq!(reason(&bench, "red", red), Reason::JobDeleted);
    assert_eq!(get(&bench, "blue", blue).status, Status::Running);
}

#[test]
fn the_namespace_of_all_may_be_a_tenants_by_name() {
    let mut bench = Bench::new();
    bench.place(&[("red", Some("runs"))]);
    bench.script(600_000, 0, "");
    let (named, other) = (
        dispatch(&bench, "red"),
        bench.submit_and_dispatch(&submission()),
    );
    bench.tick(3);
    assert_eq!(watched(&bench), ["runs"], "it is one");
    take_away_unseen(&bench, "runs", &get(&bench, "red", named));
    bench.tick(3);
    assert_eq!(reason(&bench, "red", named), Reason::JobDeleted);
    assert_eq!(bench.get(other).status, Status::Running);
}
