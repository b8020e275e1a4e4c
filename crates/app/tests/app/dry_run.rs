//! Trying submissions out on a cluster: it is asked, and keeps nothing.

use app::{Caller, Trial};
use domain::{Reason, Status, Submission};

use crate::support::{Bench, Effect, large_submission, refusal, submission};

/// The trial in an instance of its own.
fn try_out(bench: &Bench, submission: &Submission) -> Result<Trial, app::Error> {
    bench
        .world
        .run(bench.app().try_out(&Caller::local(), submission))
}

#[test]
fn the_job_and_what_it_mounts_are_tried_and_not_kept() {
    for (submission, config_maps) in [(submission(), 0), (large_submission(), 1)] {
        let bench = Bench::new();
        // Neither asks the store: its end is no matter here.
        bench.world.database_down.set(true);
        let Ok(Trial::Fits(execution)) = try_out(&bench, &submission) else {
            panic!("it does not fit");
        };
        assert_eq!(
            (execution.status, execution.dispatched_at),
            (Status::Queued, None)
        );
        assert_eq!(bench.world.count("TRY jobs"), 1);
        assert_eq!(bench.world.count("TRY configmaps"), config_maps);
        assert_eq!(bench.world.requests.borrow().len(), 1 + config_maps);
        bench.world.pass(60);
        assert_eq!(bench.world.starts(), 0);
        bench.assert_nothing_left();
    }
}

#[test]
fn what_the_cluster_refuses_has_the_reason_that_it_would_end_with() {
    let bench = Bench::new();
    let wrong = Submission {
        image: String::new(),
        ..submission()
    };
    match try_out(&bench, &wrong) {
        Ok(Trial::Refused { reason, message }) => {
            assert_eq!(reason, Reason::InvalidSpec);
            assert!(message.contains("image"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let quota =
        "jobs.batch \"x\" is forbidden: exceeded quota: runs, requested: count/jobs.batch=1";
    bench
        .world
        .fault("TRY jobs", 1, refusal(403, "Forbidden", quota));
    match try_out(&bench, &submission()) {
        Ok(Trial::Refused { reason, .. }) => assert_eq!(reason, Reason::QuotaExceeded),
        other => panic!("{other:?}"),
    }
    bench
        .world
        .fault("TRY configmaps", 1, refusal(403, "Forbidden", quota));
    match try_out(&bench, &large_submission()) {
        Ok(Trial::Refused { reason, .. }) => assert_eq!(reason, Reason::QuotaExceeded),
        other => panic!("{other:?}"),
    }
    assert!(bench.world.all_faults_fired());
}

#[test]
fn an_api_server_that_is_away_has_no_verdict() {
    for effect in [Effect::NotSent, Effect::Vanished] {
        let bench = Bench::new();
        bench.world.fault("TRY jobs", 1, effect);
        let error = try_out(&bench, &submission()).expect_err("nobody knows");
        assert!(error.is_transient(), "{error:?}");
        assert!(bench.world.all_faults_fired());
    }
}
