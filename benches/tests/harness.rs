//! The harness works: every measurement runs in its smallest size, and gives every figure beside its reference. What the figures
//! are is no matter of a test. It is on SQLite, or by `tests/postgres/with-postgres.sh` on PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{ClusterKind, HostKind};
use serde_json::Value;

/// Runs some measurements and gives the groups of their JSON.
fn run(names: &[&str]) -> Value {
    let file = std::env::temp_dir().join(format!("bench-{}-{}.json", std::process::id(), names[0]));
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["--size", "tiny", "--database", database(), "--json"])
        .arg(&file)
        .args(names)
        .env("EXECUTOR_DEVHOST", HostKind::Devhost.binary())
        .env("EXECUTOR_LOCALCLUSTER", ClusterKind::localcluster())
        .envs(
            names
                .contains(&"start")
                .then(|| ("EXECUTOR_BENCH_GUEST", guest())),
        )
        .output()
        .expect("the harness starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{names:?}: {errors}");
    let text = std::fs::read_to_string(&file).expect("it writes JSON");
    std::fs::remove_file(&file).expect("the file goes");
    let json: Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(
        (&json["schema"], &json["size"]),
        (&1.into(), &"tiny".into())
    );
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let groups = json["groups"].as_object().expect("groups");
    for (name, group) in groups {
        assert!(table.contains(&format!("## {name}\n")), "{table}");
        for figure in group["figures"].as_array().expect("figures") {
            let value = figure["value"].as_f64().expect("a number");
            assert!(value.is_finite() && value >= 0.0, "{name}: {figure}");
            has_its_reference(group, figure);
        }
    }
    json["groups"].clone()
}

/// The database to measure on.
fn database() -> &'static str {
    match std::env::var("EXECUTOR_TEST_POSTGRES") {
        Ok(url) if !url.is_empty() => "postgres",
        _ => "sqlite",
    }
}

/// The name of a group of that database.
fn on(what: &str) -> String {
    format!("{what}-{}", database())
}

/// The component of devhost's tests, for the host without Executor, built as they build it.
fn guest() -> PathBuf {
    let bench = Path::new(env!("CARGO_BIN_EXE_bench"));
    let target = bench.ancestors().nth(2);
    let target = target.expect("the binary lies in target/<profile>");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--package", "devhost-test-guest"])
        .args(["--target", "wasm32-wasip2", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the test guest is not built");
    target.join("wasm32-wasip2/debug/devhost_test_guest.wasm")
}

/// A ratio is finite, and the reference is a figure of the same group that was measured: more than nothing.
fn has_its_reference(group: &Value, figure: &Value) {
    let Some(reference) = figure["reference"].as_str() else {
        assert!(figure["ratio"].is_null(), "{figure}");
        return;
    };
    assert!(
        figure["ratio"].as_f64().is_some_and(f64::is_finite),
        "{figure}"
    );
    let of = group["figures"].as_array().and_then(|all| {
        let mut found = all.iter().filter(|other| other["what"] == reference);
        found.next()?["value"].as_f64()
    });
    assert!(of.is_some(), "{figure} has no reference in {group}");
}

fn value(groups: &Value, group: impl AsRef<str>, what: &str) -> f64 {
    let group = group.as_ref();
    let figures = groups[group]["figures"].as_array();
    let figures = figures.unwrap_or_else(|| panic!("no {group} in {groups}"));
    let figure = figures.iter().find(|figure| figure["what"] == what);
    let figure = figure.unwrap_or_else(|| panic!("no {what} in {figures:?}"));
    figure["value"].as_f64().expect("a number")
}

#[test]
fn accepting_is_measured_beside_raw_jobs_and_the_database() {
    let groups = run(&["accept", "anatomy"]);
    let whole = "everything: a POST that is accepted";
    assert!(value(&groups, on("anatomy"), whole) > 0.0);
    for side in [
        "POST /executions",
        "raw POST Job",
        "SQL floor",
        "the store natively",
    ] {
        for callers in ["1 caller", "32 callers"] {
            let what = format!("{side}, {callers}");
            assert!(value(&groups, on("accept"), &what) > 0.0, "{what}");
        }
    }
    let batch = "POST /executions:batch of 500, per execution, 1 caller";
    assert!(value(&groups, on("accept"), batch) > 0.0);
    let ended = "finished, from the first acceptance to the last end";
    assert!(value(&groups, on("accept-open"), ended) > 0.0);
    assert!(value(&groups, on("accept-open"), "raw POST Job, 32 callers") > 0.0);
}

#[test]
fn draining_flooding_idling_and_reading_are_measured() {
    let groups = run(&["drain", "flood", "idle", "records"]);
    let alone = "p99 of POST /executions, alone";
    assert!(value(&groups, on("flood"), alone) > 0.0);
    assert!(value(&groups, on("drain"), "drained") > 0.0);
    assert!(value(&groups, on("drain"), "raw POST Job, 16 callers") > 0.0);
    value(&groups, on("idle"), "processor time, 30 queued");
    value(&groups, on("idle"), "requests to the API server, 3 running");
    assert!(value(&groups, on("records"), "page 100, of 1000, p50") > 0.0);
    assert!(value(&groups, on("records"), "GET by id, of 100, p50") > 0.0);
}

#[test]
fn starting_and_ends_are_measured() {
    let groups = run(&["start", "latency"]);
    assert!(value(&groups, "start", "from the start to 200 of /readyz") > 0.0);
    assert!(value(&groups, "start", "memory of the host when ready") > 0.0);
    assert!(value(&groups, "start", "memory of the host alone") > 0.0);
    let alone = "from the start to 200 of the host alone";
    assert!(value(&groups, "start", alone) > 0.0);
    assert!(value(&groups, "start", "size of api.wasm") > 0.0);
    assert!(value(&groups, on("latency"), "at GET, p50") > 0.0);
}
