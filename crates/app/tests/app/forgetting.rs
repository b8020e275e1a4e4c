//! Records that go: by time, and by their caller's word.

use app::{AuditFilter, Caller, Forgotten};
use domain::{ExecutionId, Submission};

use crate::support::{Bench, Effect, submission};

fn kept_for(seconds: u32) -> Submission {
    Submission {
        ttl_seconds: seconds,
        ..submission()
    }
}

fn is_there(bench: &Bench, id: ExecutionId) -> bool {
    let view = bench.world.run(bench.app().get(&Caller::local(), id));
    view.expect("the store answers").is_some()
}

#[test]
fn a_record_is_forgotten_when_its_time_is_over_and_not_before() {
    let bench = Bench::new();
    bench.script(500, 0, "hello\n");
    let short = bench.submit_and_dispatch(&kept_for(60));
    let long = bench.submit_and_dispatch(&kept_for(600));
    bench.tick(3);
    bench.finished(short);
    bench.world.pass(50);
    assert_eq!(bench.tick(3).forgotten, 0);
    bench.world.pass(10);
    let report = bench.tick(3);
    assert_eq!((report.forgotten, report.failures), (1, 0));
    assert!(!is_there(&bench, short) && is_there(&bench, long));
    bench.assert_nothing_left();
}

#[test]
fn what_is_kept_for_no_time_goes_within_a_tick() {
    let bench = Bench::new();
    bench.script(500, 0, "hello\n");
    let id = bench.submit_and_dispatch(&kept_for(0));
    assert_eq!(bench.tick(9).forgotten, 1);
    assert!(!is_there(&bench, id));
    // Its pod's last events tell of an execution that nobody knows any more.
    assert_eq!(bench.tick(3).failures, 0);
    bench.assert_nothing_left();
}

#[test]
fn only_a_finished_one_is_forgotten_by_word() {
    let bench = Bench::new();
    bench.script(5_000, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    let forget = || {
        let answer = bench.world.run(bench.app().forget(&Caller::local(), id));
        answer.expect("the store answers")
    };
    assert_eq!(forget(), Forgotten::Unfinished);
    bench.tick(9);
    assert_eq!(forget(), Forgotten::Gone);
    assert_eq!(forget(), Forgotten::Unknown);
    bench.assert_nothing_left();
}

#[test]
fn a_job_that_nobody_remembers_is_swept_after_a_while() {
    let bench = Bench::new();
    bench.script(500, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.world.fault("DELETE jobs", u32::MAX, Effect::NotSent);
    bench.tick(3);
    let forgotten = bench.world.run(bench.app().forget(&Caller::local(), id));
    assert_eq!(forgotten.expect("the store answers"), Forgotten::Gone);
    bench.world.heal();
    let report = bench.tick(3);
    assert_eq!((report.listed, report.swept), (true, 0), "it is too young");
    assert_eq!(bench.world.names("jobs").len(), 1);
    bench.world.pass(600);
    let report = bench.tick(3);
    assert_eq!((report.failures, report.swept), (0, 1));
    let metrics = bench.world.run(bench.app().metrics());
    let figures = metrics.expect("the store answers").figures;
    assert_eq!((figures.swept, figures.deleted, figures.kept()), (1, 1, 0));
    bench.assert_nothing_left();
}

#[test]
fn who_submitted_is_known_after_the_record_is_gone_and_until_the_audit_log_lets_it_go() {
    let bench = Bench::new();
    bench.script(500, 0, "hello\n");
    let id = bench.submit_and_dispatch(&kept_for(0));
    let noted = || {
        let filter = AuditFilter::default();
        let records = bench.world.run(bench.app().audit(&filter, 9, None));
        let records = records.expect("the store answers");
        records.iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(noted(), [id]);
    bench.tick(9);
    assert!(!is_there(&bench, id));
    assert_eq!(noted(), [id]);
    // The setting says a day. It is looked after with a full list.
    bench.world.pass(24 * 3600 - 60);
    assert!(bench.tick(9).listed);
    assert_eq!(noted(), [id]);
    bench.world.pass(400);
    assert!(bench.tick(9).listed);
    assert_eq!(noted(), []);
}
