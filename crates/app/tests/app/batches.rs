//! Batches: accepted at once, dispatched as far as there is room, each Job made once.

use app::{BatchKey, Caller, SubmittedBatch};
use domain::{Execution, Submission};

use crate::support::{Bench, Effect, submission};

/// Accepts a batch of that many; the Jobs are not created yet.
fn submit(bench: &Bench, items: usize) -> Vec<(Execution, Submission)> {
    let submissions = vec![submission(); items];
    match bench.world.run(
        bench
            .app()
            .submit_batch(&Caller::local(), submissions, None),
    ) {
        Ok(SubmittedBatch::New(accepted)) => accepted,
        other => panic!("it was not accepted: {other:?}"),
    }
}

/// What the instance that accepted them does after its answer; how many seconds it takes.
fn dispatch(bench: &Bench, accepted: &[(Execution, Submission)]) -> i64 {
    let before = bench.world.now();
    bench.world.run(bench.app().dispatch_accepted(accepted));
    bench.world.now().duration_since(before).as_secs()
}

#[test]
fn as_many_as_there_is_room_for_run_at_once_in_order() {
    let bench = Bench::with_max_running(10);
    bench.script(60_000, 0, "");
    let accepted = submit(&bench, 30);
    let mut ids: Vec<_> = accepted.iter().map(|(execution, _)| execution.id).collect();
    let in_order = ids.clone();
    ids.sort();
    assert_eq!(ids, in_order, "the queue keeps the order of the batch");
    let dispatched: Vec<bool> = accepted.iter().map(|(e, _)| e.is_dispatched()).collect();
    assert_eq!(dispatched, [[true; 10], [false; 10], [false; 10]].concat());
    dispatch(&bench, &accepted);
    assert_eq!(bench.world.jobs_made.get(), 10);
    for (execution, _) in &accepted[..10] {
        assert!(bench.get(execution.id).job_uid.is_some());
    }
}

#[test]
fn several_jobs_are_created_at_once_but_not_all() {
    let bench = Bench::new();
    bench.script(60_000, 0, "");
    let accepted = submit(&bench, 17);
    bench.world.fault("POST jobs", 17, Effect::Slow(2));
    // Eight at a time, and one.
    assert_eq!(dispatch(&bench, &accepted), 6);
    assert_eq!(bench.world.jobs_made.get(), 17);
}

#[test]
fn what_is_not_begun_in_time_is_left_to_the_tick_and_made_once() {
    let bench = Bench::new();
    bench.script(1_000, 0, "");
    let accepted = submit(&bench, 20);
    bench.world.fault("POST jobs", 8, Effect::Slow(7));
    dispatch(&bench, &accepted);
    assert_eq!(
        bench.world.count("POST jobs"),
        8,
        "the others could outlive their claims"
    );
    bench.world.pass(8);
    bench.tick(9);
    for (execution, _) in &accepted {
        bench.finished(execution.id);
    }
    assert_eq!(
        (bench.world.jobs_made.get(), bench.world.starts()),
        (20, 20)
    );
    bench.assert_nothing_left();
}

#[test]
fn an_instance_that_dies_leaves_its_batch_to_the_tick() {
    let bench = Bench::new();
    bench.script(1_000, 0, "");
    let accepted = submit(&bench, 5);
    bench.world.pass(15);
    bench.tick(9);
    for (execution, _) in &accepted {
        bench.finished(execution.id);
    }
    assert_eq!(bench.world.starts(), 5);
}

#[test]
fn a_key_gives_the_same_executions_again() {
    let bench = Bench::new();
    let submit = |digest| {
        let key = BatchKey { key: "k", digest };
        let batch = vec![submission(); 3];
        bench
            .world
            .run(bench.app().submit_batch(&Caller::local(), batch, Some(key)))
    };
    let Ok(SubmittedBatch::New(first)) = submit("d") else {
        panic!("it is new");
    };
    let executions: Vec<_> = first
        .into_iter()
        .map(|(execution, _)| Some(execution))
        .collect();
    match submit("d") {
        Ok(SubmittedBatch::Replayed(again)) => assert_eq!(again, executions),
        other => panic!("{other:?}"),
    }
    assert!(matches!(submit("e"), Ok(SubmittedBatch::Conflict(_))));
}
