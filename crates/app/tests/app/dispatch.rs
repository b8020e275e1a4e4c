//! From acceptance to a Job, whatever the API server answers.

use domain::{Reason, Status, WaitingKind};

use crate::support::{Bench, Effect, large_submission, refusal, submission};

const QUOTA: &str = "jobs.batch \"x\" is forbidden: exceeded quota: runs, requested: count/jobs.batch=1, \
                     used: count/jobs.batch=5, limited: count/jobs.batch=5";
const WEBHOOK: &str =
    "admission webhook \"policy.example.com\" denied the request: images must be signed";
const PERMISSION: &str = "jobs.batch is forbidden: User \"system:serviceaccount:runs:executor\" cannot create \
                          resource \"jobs\" in API group \"batch\" in the namespace \"runs\"";

#[test]
fn a_script_runs_once_and_its_log_is_kept() {
    for submission in [submission(), large_submission()] {
        let bench = Bench::new();
        bench.script(700, 0, "hello\n");
        let id = bench.submit_and_dispatch(&submission);
        assert!(bench.get(id).job_uid.is_some());
        let report = bench.tick(9);
        assert_eq!(
            (report.leader, report.finished, report.failures),
            (true, 1, 0)
        );
        bench.assert_ran_once(id, "hello\n");
        let requests = bench.world.requests.borrow();
        let first = |what: &str| requests.iter().position(|request| request == what);
        assert!(first("GET log").expect("read") < first("DELETE jobs").expect("deleted"));
    }
}

#[test]
fn an_instance_that_never_dispatched_leaves_it_to_the_tick() {
    let bench = Bench::new();
    let execution = bench.submit(&submission());
    // Its claim holds as long as the instance might still do it.
    assert_eq!(bench.tick(9).dispatched, 0);
    bench.world.pass(6);
    let report = bench.tick(9);
    assert_eq!((report.dispatched, report.finished), (1, 1));
    bench.assert_ran_once(execution.id, "");
}

#[test]
fn a_lost_reply_is_asked_for_again_by_name() {
    for effect in [Effect::Lost, Effect::Vanished] {
        let bench = Bench::new();
        bench.script(60_000, 0, "hello\n");
        bench.world.fault("POST jobs", 1, effect);
        let id = bench.submit_and_dispatch(&submission());
        assert!(bench.world.all_faults_fired());
        let waits = bench.get(id);
        assert!(
            waits.dispatched_at.is_some(),
            "it may run: it counts as dispatched"
        );
        assert_eq!(
            waits.waiting.expect("a reason").kind,
            WaitingKind::ApiServer
        );
        bench.world.pass(15);
        bench.tick(5);
        assert!(bench.get(id).job_uid.is_some(), "adopted or made");
        assert_eq!(bench.get(id).status, Status::Running);
        bench.world.pass(60);
        bench.tick(3);
        bench.assert_ran_once(id, "hello\n");
    }
}

#[test]
fn what_was_never_sent_goes_back_into_the_queue() {
    let bench = Bench::new();
    bench.world.fault("POST jobs", 3, Effect::NotSent);
    let id = bench.submit_and_dispatch(&submission());
    let waits = bench.get(id);
    assert_eq!((waits.status, waits.dispatched_at), (Status::Queued, None));
    let waiting = waits.waiting.expect("a reason");
    assert_eq!(waiting.kind, WaitingKind::ApiServer);
    assert!(
        waiting.message.contains("no full answer"),
        "{}",
        waiting.message
    );
    bench.tick(9);
    assert!(bench.world.all_faults_fired());
    bench.assert_ran_once(id, "");
}

#[test]
fn patience_is_had_as_long_as_the_api_server_asks() {
    let bench = Bench::new();
    let Effect::Answer(code, mut body) = refusal(429, "TooManyRequests", "slow down") else {
        unreachable!("a refusal is an answer")
    };
    body["details"]["retryAfterSeconds"] = 7.into();
    bench
        .world
        .fault("POST jobs", 1, Effect::Answer(code, body));
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(6);
    assert_eq!(bench.get(id).status, Status::Queued);
    assert_eq!(bench.world.jobs_made.get(), 0);
    bench.tick(3);
    bench.assert_ran_once(id, "");
}

#[test]
fn a_used_up_quota_and_missing_rights_are_waited_out() {
    for (message, kind) in [
        (QUOTA, WaitingKind::Quota),
        (PERMISSION, WaitingKind::ApiServer),
    ] {
        let bench = Bench::new();
        bench
            .world
            .fault("POST jobs", 2, refusal(403, "Forbidden", message));
        let id = bench.submit_and_dispatch(&submission());
        let waits = bench.get(id);
        assert_eq!((waits.status, waits.dispatched_at), (Status::Queued, None));
        let waiting = waits.waiting.expect("a reason");
        assert_eq!(waiting.kind, kind);
        assert!(
            waiting.message.contains(message),
            "the cluster's own words: {}",
            waiting.message
        );
        bench.tick(9);
        assert_eq!(bench.get(id).status, Status::Queued);
        bench.tick(9);
        assert!(bench.world.all_faults_fired());
        bench.assert_ran_once(id, "");
    }
}

#[test]
fn what_the_api_server_will_never_take_ends_at_once() {
    let invalid =
        "Job.batch \"x\" is invalid: spec.template.spec.containers[0].image: Required value";
    for (effect, reason, words) in [
        (
            refusal(422, "Invalid", invalid),
            Reason::InvalidSpec,
            invalid,
        ),
        (
            refusal(403, "Forbidden", WEBHOOK),
            Reason::AdmissionDenied,
            WEBHOOK,
        ),
        (
            refusal(400, "BadRequest", WEBHOOK),
            Reason::AdmissionDenied,
            WEBHOOK,
        ),
        (
            refusal(400, "BadRequest", "strict decoding error"),
            Reason::InvalidSpec,
            "strict decoding",
        ),
        (
            refusal(413, "RequestEntityTooLarge", "limit is 3145728"),
            Reason::InvalidSpec,
            "3145728",
        ),
    ] {
        let bench = Bench::new();
        bench.world.fault("POST jobs", 1, effect);
        let id = bench.submit_and_dispatch(&submission());
        let (execution, ended) = bench.finished(id);
        assert_eq!(ended, reason);
        let ending = execution.ending.expect("an ending");
        assert!(ending.message.contains(words), "{}", ending.message);
        assert!(
            bench.stored_log(id).complete,
            "it never ran: an empty log is all of it"
        );
        bench.tick(5);
        assert_eq!(bench.world.jobs_made.get(), 0);
    }
}

#[test]
fn a_job_whose_config_map_is_refused_does_not_stay() {
    let bench = Bench::new();
    bench
        .world
        .fault("POST configmaps", 1, refusal(400, "BadRequest", WEBHOOK));
    let id = bench.submit_and_dispatch(&large_submission());
    assert_eq!(bench.finished(id).1, Reason::AdmissionDenied);
    bench.tick(2);
    bench.assert_nothing_left();
}

#[test]
fn a_config_map_that_must_wait_keeps_its_job_suspended() {
    let bench = Bench::new();
    bench
        .world
        .fault("POST configmaps", 1, refusal(403, "Forbidden", QUOTA));
    let id = bench.submit_and_dispatch(&large_submission());
    assert_eq!(
        bench.world.names("pods"),
        Vec::<String>::new(),
        "it is suspended"
    );
    assert_eq!(
        bench.get(id).waiting.expect("a reason").kind,
        WaitingKind::Quota
    );
    bench.tick(9);
    bench.assert_ran_once(id, "");
}

#[test]
fn a_strangers_job_of_the_same_name_is_left_alone() {
    let bench = Bench::new();
    let execution = bench.submit(&submission());
    let job = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": execution.job_name()},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "alpine:3"}]}}}});
    let (code, answer) = bench
        .world
        .ask("POST", "/apis/batch/v1/namespaces/runs/jobs", &job);
    assert_eq!(code, 201, "{answer}");
    bench
        .world
        .run(bench.app().dispatch_submitted(&execution, &submission()));
    assert_eq!(bench.finished(execution.id).1, Reason::InvalidSpec);
    bench.tick(9);
    assert_eq!(bench.world.names("jobs"), [execution.job_name()]);
}

#[test]
fn a_strangers_job_in_the_place_of_one_that_has_started_ends_it() {
    let bench = Bench::new();
    bench.script(60_000, 0, "hello\n");
    // Its pod is seen running, but no answer ever told the Job's uid.
    bench.world.fault("POST jobs", 1, Effect::Lost);
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(2);
    assert!(bench.world.all_faults_fired());
    let running = bench.get(id);
    assert_eq!((running.status, &running.job_uid), (Status::Running, &None));
    let jobs = "/apis/batch/v1/namespaces/runs/jobs";
    let name = running.job_name();
    let background = serde_json::json!({"propagationPolicy": "Background"});
    let target = format!("{jobs}/{name}");
    assert_eq!(bench.world.ask("DELETE", &target, &background).0, 200);
    let stranger = serde_json::json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "main", "image": "alpine:3"}]}}}});
    assert_eq!(bench.world.ask("POST", jobs, &stranger).0, 201);
    // Its pod goes without a watch that could tell.
    bench.world.pass(40);
    bench.world.compact();
    bench.tick(2);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::JobDeleted);
    let message = execution.ending.expect("an ending").message;
    assert_eq!(message, "its Job was replaced by another of the same name");
    assert_eq!(bench.world.names("jobs"), [name], "the stranger's stays");
}

#[test]
fn no_more_run_at_once_than_the_limit_says() {
    let bench = Bench::with_max_running(2);
    bench.script(3_000, 0, "");
    let ids: Vec<_> = (0..5)
        .map(|_| bench.submit_and_dispatch(&submission()))
        .collect();
    assert_eq!(bench.world.jobs_made.get(), 2);
    for _ in 0..6 {
        bench.tick(2);
        assert!(
            bench.world.names("jobs").len() <= 2,
            "{:?}",
            bench.world.names("jobs")
        );
    }
    for id in ids {
        assert_eq!(bench.finished(id).1, Reason::Completed);
    }
    assert_eq!(bench.world.jobs_made.get(), 5);
}

#[test]
fn what_went_back_into_the_queue_after_a_lost_answer_is_not_run_twice() {
    let bench = Bench::new();
    bench.script(3_000, 0, "hello\n");
    // On its way for long; then surely not asked for again, so it is queued.
    bench.world.fault("POST jobs", 1, Effect::Late);
    bench.world.fault("POST jobs", 1, Effect::NotSent);
    let id = bench.submit_and_dispatch(&submission());
    bench.world.pass(15);
    bench.tick(9);
    assert!(bench.world.all_faults_fired());
    assert_eq!(bench.finished(id).1, Reason::Completed);
    assert_eq!(bench.world.deliver_late(), [409], "its name is taken");
    bench.assert_ran_once(id, "hello\n");
}

#[test]
fn a_policy_that_came_since_does_not_end_what_runs() {
    let bench = Bench::new();
    bench.script(60_000, 0, "hello\n");
    bench.world.fault("POST jobs", 1, Effect::Lost);
    let id = bench.submit_and_dispatch(&submission());
    let denied = refusal(
        403,
        "Forbidden",
        "admission webhook \"w\" denied the request: no",
    );
    bench.world.fault("POST jobs", 1, denied);
    bench.world.pass(15);
    bench.tick(5);
    assert_eq!(bench.get(id).status, Status::Running);
    bench.world.heal();
    bench.world.pass(60);
    bench.tick(3);
    bench.assert_ran_once(id, "hello\n");
}
