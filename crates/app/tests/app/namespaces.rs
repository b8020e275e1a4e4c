//! Tenants with namespaces of their own: their Jobs are there, their ends are seen there, and what fails in one concerns no other.

use std::collections::BTreeMap;

use app::{Caller, Canceled, Log, LogOptions, Submitted, Trial};
use domain::{Execution, ExecutionId, Reason, Status, WaitingKind};
use serde_json::json;

use crate::support::{Bench, Effect, large_submission, refusal, retried_submission, submission};

pub const FORBIDDEN: &str = "pods is forbidden: User \"executor\" cannot list resource \"pods\" in API group \"\" in the namespace \"red-runs\"";

/// Red and blue have a namespace each, green has none.
pub fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.place(&[
        ("red", Some("red-runs")),
        ("blue", Some("blue-runs")),
        ("green", None),
    ]);
    bench
}

pub fn caller(tenant: &str) -> Caller {
    Caller {
        tenant: tenant.parse().expect("a name"),
        ..Caller::local()
    }
}

pub fn submit(bench: &Bench, tenant: &str, submission: &domain::Submission) -> Execution {
    let (app, caller) = (bench.app(), caller(tenant));
    match bench.world.run(app.submit(&caller, submission, None)) {
        Ok(Submitted::New { execution, .. }) => execution,
        other => panic!("it was not accepted: {other:?}"),
    }
}

pub fn dispatch(bench: &Bench, tenant: &str) -> ExecutionId {
    dispatch_as(bench, tenant, &submission()).id
}

pub fn dispatch_as(bench: &Bench, tenant: &str, submission: &domain::Submission) -> Execution {
    let execution = submit(bench, tenant, submission);
    let app = bench.app();
    bench
        .world
        .run(app.dispatch_submitted(&execution, submission));
    execution
}

pub fn get(bench: &Bench, tenant: &str, id: ExecutionId) -> Execution {
    let view = bench.world.run(bench.app().get(&caller(tenant), id));
    view.expect("the store answers")
        .expect("it is there")
        .execution
}

#[track_caller]
pub fn reason(bench: &Bench, tenant: &str, id: ExecutionId) -> Reason {
    let execution = get(bench, tenant, id);
    let ending = execution.ending.as_ref();
    ending
        .unwrap_or_else(|| panic!("no end: {execution:?} {:?}", bench.world.lines))
        .reason
}

/// How many Jobs there are in each namespace that has some.
pub fn jobs(bench: &Bench) -> BTreeMap<&'static str, usize> {
    let count = |namespace| (namespace, bench.world.list_in(namespace, "jobs").len());
    let all = ["runs", "red-runs", "blue-runs"].map(count);
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Nobody tells of it but a list: the Job is deleted while no tick is at work, and the watch begins anew.
pub fn take_away_unseen(bench: &Bench, namespace: &str, execution: &Execution) {
    let target = format!(
        "/apis/batch/v1/namespaces/{namespace}/jobs/{}",
        execution.job_name()
    );
    let policy = json!({"propagationPolicy": "Background"});
    assert_eq!(bench.world.ask("DELETE", &target, &policy).0, 200);
    bench.world.pass(40);
    bench.world.compact();
}

#[test]
fn each_tenants_jobs_are_in_its_namespace_and_their_ends_are_seen() {
    let bench = bench();
    bench.script(2_000, 3, "hello\n");
    let tenants = ["red", "blue", "green"];
    let ids = tenants.map(|tenant| (tenant, dispatch(&bench, tenant)));
    assert_eq!(
        jobs(&bench),
        [("blue-runs", 1), ("red-runs", 1), ("runs", 1)].into()
    );
    let report = bench.tick(5);
    assert_eq!(
        (report.finished, report.failures),
        (3, 0),
        "{:?}",
        bench.world.lines
    );
    for (tenant, id) in ids {
        assert_eq!(reason(&bench, tenant, id), Reason::NonZeroExit);
        let log = bench.app();
        match bench
            .world
            .run(log.log(&caller(tenant), id, &LogOptions::default()))
        {
            Ok(Some(Log::Stored(log))) => {
                assert_eq!((&*log.head, log.complete), (&b"hello\n"[..], true))
            }
            _ => panic!("no stored log"),
        }
    }
    bench.world.pass(5);
    assert_eq!(
        jobs(&bench),
        BTreeMap::new(),
        "they are deleted where they were"
    );
    assert_eq!(bench.world.jobs_made.get(), 3);
}

#[test]
fn a_tick_with_nothing_changed_costs_a_watch_for_each_namespace_and_lists_nothing() {
    let bench = bench();
    dispatch(&bench, "red");
    assert!(bench.tick(3).listed);
    bench.world.statements();
    bench.world.placed.take();
    assert!(!bench.tick(3).listed);
    let idle = bench.world.statements();
    let placed = bench.world.placed.take();
    let watches = [
        "WATCH pods in blue-runs",
        "WATCH pods in red-runs",
        "WATCH pods in runs",
    ];
    let mut asked: Vec<&str> = placed.iter().map(String::as_str).collect();
    asked.sort_unstable();
    assert_eq!(
        asked, watches,
        "each goes on from where the tick before was"
    );
    // The same without anybody's own namespace: one row less is read, and two writes less leave it.
    let mut other = Bench::new();
    other.tick(3);
    other.place(&[]);
    other.world.statements();
    other.tick(3);
    let alone = other.world.statements();
    assert!(
        idle <= alone + 2,
        "{idle} statements, {alone} with one namespace"
    );
}

#[test]
fn what_the_watch_of_another_namespace_has_missed_is_mended_by_its_full_list() {
    let bench = bench();
    bench.script(600_000, 0, "");
    let (red, blue) = (dispatch(&bench, "red"), dispatch(&bench, "blue"));
    bench.tick(3);
    take_away_unseen(&bench, "red-runs", &get(&bench, "red", red));
    let report = bench.tick(3);
    assert!(report.listed);
    assert_eq!(reason(&bench, "red", red), Reason::JobDeleted);
    assert_eq!(get(&bench, "blue", blue).status, Status::Running);
}

#[test]
fn a_long_list_of_another_namespace_goes_on_from_tick_to_tick() {
    let bench = bench();
    bench.script(600_000, 0, "");
    let ids: Vec<_> = (0..9).map(|_| dispatch(&bench, "red")).collect();
    let others: Vec<_> = (0..3).map(|_| dispatch(&bench, "blue")).collect();
    bench.tick(3);
    bench.world.page.set(Some(2));
    for what in ["LIST pods", "LIST jobs"] {
        bench.world.fault(what, u32::MAX, Effect::Slow(1));
    }
    take_away_unseen(&bench, "red-runs", &get(&bench, "red", ids[0]));
    take_away_unseen(&bench, "red-runs", &get(&bench, "red", ids[8]));
    bench.tick(7);
    let state = bench.state("namespaces");
    assert!(
        state.contains("\"continue\":\""),
        "it is under way: {state}"
    );
    for _ in 0..20 {
        bench.tick(3);
    }
    let state = bench.state("namespaces");
    assert!(!state.contains("\"begun\""), "it is over: {state}");
    for (number, id) in ids.iter().enumerate() {
        if [0, 8].contains(&number) {
            assert_eq!(reason(&bench, "red", *id), Reason::JobDeleted);
        } else {
            assert_eq!(get(&bench, "red", *id).status, Status::Running);
        }
    }
    for id in others {
        assert_eq!(get(&bench, "blue", id).status, Status::Running);
    }
    assert!(!bench.tick(3).listed, "all is compared");
}

#[test]
fn a_namespace_that_may_not_be_looked_into_stops_no_other_and_is_named() {
    let bench = bench();
    bench.tick(1);
    bench.script(3_000, 0, "hello\n");
    let (red, blue) = (dispatch(&bench, "red"), dispatch(&bench, "blue"));
    for what in [
        "WATCH pods in red-runs",
        "LIST pods in red-runs",
        "LIST jobs in red-runs",
    ] {
        bench
            .world
            .fault(what, u32::MAX, refusal(403, "Forbidden", FORBIDDEN));
    }
    let report = bench.tick(9);
    assert!(report.failures > 0);
    assert_eq!(reason(&bench, "blue", blue), Reason::Completed);
    assert_eq!(
        get(&bench, "red", red).status,
        Status::Queued,
        "nobody could see"
    );
    let told = |line: &&String| line.contains("namespace=red-runs") && line.contains("cannot list");
    assert_eq!(
        bench.world.lines.borrow().iter().filter(told).count(),
        2,
        "{:#?}",
        bench.world.lines
    );
    // Of the others no list is made for that, and they are told of as ever.
    bench.world.placed.take();
    let another = dispatch(&bench, "green");
    bench.tick(9);
    assert_eq!(reason(&bench, "green", another), Reason::Completed);
    let placed = bench.world.placed.take();
    let listed = |name: &&String| name.starts_with("LIST") && !name.ends_with("in red-runs");
    assert_eq!(
        placed.iter().filter(listed).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    bench.world.heal();
    bench.tick(5);
    assert_eq!(reason(&bench, "red", red), Reason::Completed);
}

#[test]
fn a_namespace_that_takes_no_jobs_uses_up_nobody_elses_turn() {
    for (code, reason_word, words) in [
        (
            403,
            "Forbidden",
            "exceeded quota: runs, requested: pods=1, used: pods=0, limited: pods=0",
        ),
        (
            403,
            "Forbidden",
            "jobs.batch is forbidden: User \"executor\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"red-runs\"",
        ),
        (404, "NotFound", "namespaces \"red-runs\" not found"),
    ] {
        let mut bench = Bench::with_max_running(1);
        bench.place(&[("red", Some("red-runs")), ("blue", Some("blue-runs"))]);
        bench.script(3_600_000, 0, "");
        bench.submit_and_dispatch(&submission());
        for _ in 0..60 {
            submit(&bench, "red", &submission());
        }
        let waiting = submit(&bench, "red", &submission()).id;
        // Who comes last, behind all of them.
        let blues: Vec<_> = (0..20)
            .map(|_| submit(&bench, "blue", &submission()).id)
            .collect();
        bench.set_max_running(100);
        bench.world.fault(
            "POST jobs in red-runs",
            u32::MAX,
            refusal(code, reason_word, words),
        );
        bench.world.placed.take();
        bench.tick(9);
        for id in blues {
            assert_eq!(get(&bench, "blue", id).status, Status::Running, "{words}");
        }
        let tried = bench.world.placed.take();
        let tried = tried
            .iter()
            .filter(|name| *name == "POST jobs in red-runs")
            .count();
        assert!((4..=4 + 10 + 9).contains(&tried), "{tried} tries in 9 s");
        let (app, red, all) = (bench.app(), caller("red"), app::Filter::default());
        let refused = bench.world.run(app.list(&red, &all, 100, None));
        let refused = refused.expect("the store answers").items;
        let told = refused
            .iter()
            .filter_map(|execution| execution.waiting.as_ref());
        let told: Vec<_> = told
            .filter(|waiting| waiting.kind != WaitingKind::Concurrency)
            .collect();
        assert!(
            told.iter().any(|waiting| waiting.message.contains(words)),
            "{told:?}"
        );
        bench.world.heal();
        bench.tick(9);
        assert!(get(&bench, "red", waiting).is_dispatched(), "{words}");
    }
}

#[test]
fn cancels_retries_and_timeouts_are_carried_out_where_it_runs() {
    let bench = bench();
    bench.script(600_000, 0, "hello\n");
    let id = dispatch(&bench, "red");
    bench.tick(2);
    let canceled = bench.world.run(bench.app().cancel(&caller("red"), id));
    assert!(matches!(
        canceled,
        Ok(Canceled::Accepted {
            to_carry_out: true,
            ..
        })
    ));
    bench.world.run(bench.app().carry_out_cancel(id));
    bench.tick(5);
    assert_eq!(reason(&bench, "red", id), Reason::CanceledByCaller);

    bench.attempts(&[(500, 1, "one\n"), (500, 0, "two\n")]);
    let retried = dispatch_as(&bench, "blue", &retried_submission(1));
    bench.tick(9);
    assert_eq!(reason(&bench, "blue", retried.id), Reason::Completed);
    assert_eq!(get(&bench, "blue", retried.id).attempt, 2);

    bench.script(600_000, 0, "late\n");
    let mut short = submission();
    short.timeouts.run_seconds = 2;
    let late = dispatch_as(&bench, "red", &short);
    for _ in 0..3 {
        bench.tick(9);
    }
    assert_eq!(reason(&bench, "red", late.id), Reason::RunTimeout);
    bench.world.pass(30);
    assert_eq!(jobs(&bench), BTreeMap::new());
    let placed = bench.world.placed.take();
    let elsewhere = placed.iter().filter(|name| name.ends_with(" in runs"));
    let about_jobs: Vec<_> = elsewhere.filter(|name| !name.contains("pods")).collect();
    assert!(
        about_jobs.iter().all(|name| *name == "LIST jobs in runs"),
        "{about_jobs:?}"
    );
}

#[test]
fn large_scripts_trials_and_announcements_go_where_it_runs() {
    let mut bench = bench();
    bench.announce("all");
    bench.script(1_000, 1, "hello\n");
    let large = dispatch_as(&bench, "red", &large_submission());
    assert_eq!(bench.world.list_in("red-runs", "configmaps").len(), 1);
    assert_eq!(bench.world.list_in("runs", "configmaps").len(), 0);
    bench.tick(5);
    assert_eq!(reason(&bench, "red", large.id), Reason::NonZeroExit);
    let told = bench.world.list_in("red-runs", "events");
    assert!(
        told.iter().any(|event| event["reason"] == "Finished"),
        "{told:?}"
    );

    let trial = bench
        .world
        .run(bench.app().try_out(&caller("blue"), &large_submission()));
    assert!(matches!(trial, Ok(Trial::Fits(_))));
    let placed = bench.world.placed.take();
    for what in [
        "TRY jobs in blue-runs",
        "TRY configmaps in blue-runs",
        "GET log in red-runs",
        "POST events in red-runs",
    ] {
        assert!(
            placed.iter().any(|name| name == what),
            "no {what}: {placed:?}"
        );
    }
    assert!(!placed.iter().any(|name| name == "POST events in runs"));
}

#[test]
fn a_namespace_that_takes_no_events_keeps_no_other_from_being_told() {
    let mut bench = bench();
    bench.announce("all");
    bench.script(1_000, 0, "");
    let refused = refusal(403, "Forbidden", "events is forbidden");
    bench
        .world
        .fault("POST events in red-runs", u32::MAX, refused);
    dispatch(&bench, "red");
    dispatch(&bench, "blue");
    bench.tick(5);
    let told = bench.world.list_in("blue-runs", "events");
    assert!(
        told.iter().any(|event| event["reason"] == "Finished"),
        "{told:?}"
    );
    let lines = bench.world.lines.borrow();
    let left_out =
        |line: &&String| line.contains("left out") && line.contains("namespace=red-runs");
    assert!(lines.iter().any(|line| left_out(&line)), "{lines:#?}");
}

#[test]
fn a_pod_in_another_namespace_is_no_news_of_the_execution_that_it_names() {
    let bench = bench();
    bench.script(600_000, 0, "");
    // Its Job's uid is not known yet, so that nothing but the namespace tells them apart.
    bench.world.fault("POST jobs", 1, Effect::Lost);
    let id = dispatch(&bench, "red");
    let name = get(&bench, "red", id).job_name();
    let forged = json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "executor", "executor.dev/execution": id.to_string()}},
        "spec": {"template": {"metadata": {
            "labels": {"app.kubernetes.io/managed-by": "executor", "executor.dev/execution": id.to_string()},
            "annotations": {"localcluster/simulate": "{\"runMs\":1000,\"exitCode\":0}"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "alpine:3"}]}}}});
    let (code, answer) =
        bench
            .world
            .ask("POST", "/apis/batch/v1/namespaces/blue-runs/jobs", &forged);
    assert_eq!(code, 201, "{answer}");
    for _ in 0..2 {
        bench.tick(9);
    }
    assert_eq!(
        get(&bench, "red", id).status,
        Status::Running,
        "its own pod runs"
    );
    assert_eq!(
        jobs(&bench),
        [("blue-runs", 1), ("red-runs", 1)].into(),
        "the other's is left alone"
    );
}

#[test]
fn overdue_ones_that_nobody_can_look_at_keep_no_others_waiting() {
    let bench = bench();
    bench.script(600_000, 0, "");
    let mut short = submission();
    short.timeouts.start_seconds = 5;
    // More than are looked at at once, and all before the other one.
    bench
        .world
        .fault("POST jobs in red-runs", u32::MAX, Effect::Vanished);
    let reds: Vec<_> = (0..70).map(|_| submit(&bench, "red", &short)).collect();
    for red in &reds {
        let dispatched = bench.app();
        bench.world.run(dispatched.dispatch_submitted(red, &short));
    }
    bench.world.fault(
        "LIST pods in red-runs",
        u32::MAX,
        refusal(403, "Forbidden", FORBIDDEN),
    );
    bench.world.fault(
        "GET jobs in red-runs",
        u32::MAX,
        refusal(403, "Forbidden", FORBIDDEN),
    );
    bench
        .world
        .fault("POST jobs in blue-runs", u32::MAX, Effect::Vanished);
    bench.world.pass(1);
    let blue = submit(&bench, "blue", &short);
    let dispatched = bench.app();
    bench
        .world
        .run(dispatched.dispatch_submitted(&blue, &short));
    bench.world.pass(5);
    bench.tick(5);
    assert_eq!(
        reason(&bench, "blue", blue.id),
        Reason::StartTimeout,
        "{:#?}",
        bench.world.lines
    );
    assert!(
        reds.iter()
            .all(|red| get(&bench, "red", red.id).status == Status::Queued)
    );
}
