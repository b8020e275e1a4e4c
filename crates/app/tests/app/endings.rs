//! From a script's end to the stored outcome: the log first, the Job's deletion last.

use domain::{Outcome, Reason, Status};
use serde_json::json;

use crate::support::{Bench, Effect, no_container, refusal, submission};

fn unreadable() -> Effect {
    refusal(
        500,
        "InternalError",
        "Get \"https://n1:10250/containerLogs\": dial tcp: connection refused",
    )
}

fn pods_path(bench: &Bench) -> String {
    let pods = bench.world.names("pods");
    format!("/api/v1/namespaces/runs/pods/{}", pods[0])
}

#[test]
fn exit_codes_and_their_logs_are_kept() {
    for (code, outcome, reason) in [
        (0, Outcome::Succeeded, Reason::Completed),
        (42, Outcome::Failed, Reason::NonZeroExit),
        (137, Outcome::Failed, Reason::Signaled),
    ] {
        let bench = Bench::new();
        bench.script(500, code, "out\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(3);
        let (execution, ended) = bench.finished(id);
        let ending = execution.ending.expect("an ending");
        assert_eq!(
            (ended, ended.outcome(), ending.exit_code),
            (reason, outcome, Some(code))
        );
        assert_eq!(bench.stored_log(id).head, b"out\n");
        bench.assert_nothing_left();
    }
}

#[test]
fn an_end_that_is_told_several_times_is_carried_out_once() {
    let bench = Bench::new();
    bench.script(500, 0, "out\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.tick(3);
    bench.assert_ran_once(id, "out\n");
    // One follows it, and one reads its end.
    assert!(bench.world.count("GET log") <= 2);
    assert_eq!(bench.world.count("DELETE jobs"), 1);
}

#[test]
fn a_log_that_is_unreadable_for_a_while_is_waited_for() {
    // Three reads in one attempt, so twenty refusals are several attempts of several lists.
    for effect in [
        unreadable(),
        no_container(),
        Effect::NotSent,
        Effect::Cut(1),
        Effect::Cut(2),
    ] {
        let bench = Bench::new();
        bench.script(500, 0, "hello\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.world.fault("GET log", 20, effect);
        // What the watch told and could not be carried out is left to a list.
        let report = bench.tick(9);
        assert!(bench.world.all_faults_fired());
        assert!(report.failures > 0 && report.listed, "{report:?}");
        assert_eq!(report.finished, 1, "{report:?}");
        bench.assert_ran_once(id, "hello\n");
    }
}

#[test]
fn a_log_that_stays_unreadable_is_given_up_after_a_minute() {
    let bench = Bench::new();
    bench.script(500, 42, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    bench.world.fault("GET log", u32::MAX, unreadable());
    for _ in 0..5 {
        bench.tick(9);
        assert_ne!(bench.get(id).status, Status::Finished, "too early");
        assert_eq!(bench.world.count("DELETE jobs"), 0);
    }
    bench.world.pass(10);
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::NonZeroExit);
    let kept = execution.log.expect("a summary");
    assert_eq!((kept.bytes, kept.complete), (0, false));
    bench.assert_nothing_left();
}

#[test]
fn the_words_of_a_node_are_no_log() {
    for deleted in [false, true] {
        let bench = Bench::new();
        bench.script(2_000, 42, "hello\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.world.fault("GET log", u32::MAX, no_container());
        bench.tick(1);
        if deleted {
            bench.world.ask(
                "DELETE",
                &pods_path(&bench),
                &json!({"gracePeriodSeconds": 30}),
            );
        }
        bench.tick(9);
        // Where the pod stays, its container may be found again.
        if !deleted {
            assert_ne!(bench.get(id).status, Status::Finished, "too early");
            bench.world.pass(60);
            bench.tick(9);
        }
        let (execution, _) = bench.finished(id);
        let kept = execution.log.expect("a summary");
        assert_eq!((kept.bytes, kept.complete), (0, false), "{deleted}");
        bench.assert_nothing_left();
    }
}

#[test]
fn an_unreadable_log_does_not_keep_a_timeout_from_ending_either() {
    // The kubelet is out of reach and stays so: its pod is reported as running for ever.
    let bench = Bench::new();
    bench.script(3_600_000, 0, "hello\n");
    let mut submission = submission();
    submission.timeouts.run_seconds = 20;
    let id = bench.submit_and_dispatch(&submission);
    bench.tick(2);
    bench.world.fault("GET log", u32::MAX, unreadable());
    bench.world.pass(25);
    bench.tick(9);
    assert_eq!(
        bench.get(id).status,
        Status::Running,
        "the log is waited for"
    );
    bench.world.pass(60);
    bench.tick(9);
    let (execution, reason) = bench.finished(id);
    assert_eq!(reason, Reason::RunTimeout);
    assert!(!execution.log.expect("a summary").complete);
    bench.assert_nothing_left();
}

#[test]
fn a_job_deleted_by_somebody_ends_as_such() {
    for while_ticking in [true, false] {
        let bench = Bench::new();
        bench.script(60_000, 0, "");
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(2);
        assert_eq!(bench.get(id).status, Status::Running);
        let path = format!(
            "/apis/batch/v1/namespaces/runs/jobs/{}",
            bench.get(id).job_name()
        );
        let options = json!({"propagationPolicy": "Background"});
        let (code, answer) = bench.world.ask("DELETE", &path, &options);
        assert_eq!(code, 200, "{answer}");
        if !while_ticking {
            // Past the history that a watch could still tell.
            bench.world.pass(400);
        }
        bench.tick(2);
        assert_eq!(
            bench.finished(id).1,
            Reason::JobDeleted,
            "while ticking: {while_ticking}"
        );
        assert_eq!(bench.world.jobs_made.get(), 1);
        bench.assert_nothing_left();
    }
}

#[test]
fn a_pod_deleted_by_somebody_ends_as_such() {
    for grace_seconds in [30, 0] {
        let bench = Bench::new();
        bench.script(60_000, 0, "so far\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.tick(2);
        let options = json!({"gracePeriodSeconds": grace_seconds});
        let (code, answer) = bench.world.ask("DELETE", &pods_path(&bench), &options);
        assert!(code == 200 || code == 202, "{code} {answer}");
        bench.tick(3);
        assert_eq!(
            bench.finished(id).1,
            Reason::JobDeleted,
            "grace {grace_seconds}"
        );
        assert_eq!(bench.world.jobs_made.get(), 1);
        bench.assert_nothing_left();
    }
}

#[test]
fn a_job_that_cannot_be_deleted_now_is_deleted_by_a_later_tick() {
    for effect in [
        Effect::NotSent,
        Effect::Vanished,
        Effect::Lost,
        unreadable(),
    ] {
        let bench = Bench::new();
        bench.script(500, 0, "hello\n");
        let id = bench.submit_and_dispatch(&submission());
        bench.world.fault("DELETE jobs", 2, effect);
        bench.tick(2);
        assert_eq!(bench.finished(id).1, Reason::Completed);
        bench.world.pass(10);
        bench.tick(3);
        bench.assert_ran_once(id, "hello\n");
    }
}

#[test]
fn a_failure_after_the_watch_has_ended_still_makes_the_next_tick_list() {
    // The deadline's work is in flight when the watch of the same tick has come to its end.
    let bench = Bench::new();
    bench.world.script.replace(json!({"startMs": 600_000}));
    let mut submission = submission();
    submission.timeouts.start_seconds = 5;
    let id = bench.submit_and_dispatch(&submission);
    bench.tick(1);
    bench.world.pass(4);
    bench.world.fault("DELETE jobs", 1, Effect::Slow(9));
    bench.world.fault("DELETE jobs", 1, Effect::NotSent);
    bench.tick(2);
    let (_, reason) = bench.finished(id);
    assert_eq!(reason, Reason::StartTimeout);
    bench.tick(2);
    bench.tick(2);
    bench.assert_nothing_left();
}

#[test]
fn the_api_server_being_away_is_no_outcome() {
    let bench = Bench::new();
    bench.script(8_000, 0, "hello\n");
    let id = bench.submit_and_dispatch(&submission());
    for what in [
        "LIST jobs",
        "LIST pods",
        "WATCH pods",
        "GET log",
        "DELETE jobs",
        "GET jobs",
    ] {
        bench.world.fault(what, u32::MAX, Effect::NotSent);
    }
    for _ in 0..3 {
        let report = bench.tick(9);
        assert!(report.failures > 0);
    }
    assert_ne!(bench.get(id).status, Status::Finished);
    bench.world.heal();
    bench.tick(9);
    bench.assert_ran_once(id, "hello\n");
}

#[test]
fn another_executors_jobs_in_the_namespace_are_left_alone() {
    let ours = Bench::new();
    let labels = json!({"app.kubernetes.io/managed-by": "executor",
        "executor.dev/execution": "01890a5d-ac96-774b-bcce-b302099a8057"});
    // Of an older version, which said nothing, and of another database.
    let theirs = json!({"executor.dev/database": "another"});
    for (name, annotations) in [("x-old", json!({})), ("x-theirs", theirs)] {
        let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
            "spec": {"template": {"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never",
                "containers": [{"name": "script", "image": "alpine:3"}]}}}});
        let (code, answer) = ours
            .world
            .ask("POST", "/apis/batch/v1/namespaces/runs/jobs", &job);
        assert_eq!(code, 201, "{answer}");
    }
    for _ in 0..2 {
        let report = ours.tick(3);
        assert_eq!(
            (report.failures, report.finished, report.swept),
            (0, 0, 0),
            "{:?}",
            ours.world.lines
        );
        assert!(report.listed);
        assert_eq!(ours.world.names("jobs"), ["x-old", "x-theirs"]);
        ours.world.pass(3_600);
    }
}
