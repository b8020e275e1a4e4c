//! The core driven as a simulator drives it: in-process, with a clock that stands still and a seed.

use std::sync::Arc;

use jiff::Timestamp;
use localcluster::clock::ManualClock;
use localcluster::runner::simulated::SimulatedRunner;
use localcluster::{Body, Cluster, ClusterConfig, Disturbance, Request, Response};
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z in milliseconds.
const START: i64 = 1_767_225_600_000;

struct World {
    cluster: Cluster,
    clock: Arc<ManualClock>,
}

impl World {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let config = ClusterConfig {
            state_file: None,
            seed,
        };
        let cluster = Cluster::open(
            &config,
            Box::new(clock.clone()),
            Box::new(SimulatedRunner::default()),
        )
        .expect("opens");
        Self { cluster, clock }
    }

    fn send(&mut self, method: &str, target: &str, body: &Value) -> Response {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        self.cluster
            .handle(&Request::new(method, target, Some(kind), bytes))
    }

    fn call(&mut self, method: &str, target: &str, body: &Value) -> (u16, Value) {
        let response = self.send(method, target, body);
        let value = response.value().unwrap_or_else(|| panic!("{response:?}"));
        (response.status, value)
    }

    fn get(&mut self, target: &str) -> Value {
        self.call("GET", target, &Value::Null).1
    }

    /// Moves the clock and lets the controllers work.
    fn pass(&mut self, milliseconds: i64) -> Option<Timestamp> {
        self.clock.advance(milliseconds);
        self.cluster.tick().expect("tick")
    }

    fn pod(&mut self) -> Value {
        self.get("/api/v1/namespaces/ns/pods")["items"][0].clone()
    }
}

const JOBS: &str = "/apis/batch/v1/namespaces/ns/jobs";

fn job(name: &str, simulate: Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {
            "metadata": {"annotations": {"localcluster/simulate": simulate.to_string()}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "i"}]},
        }},
    })
}

fn at(milliseconds: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(START + milliseconds).ok()
}

#[test]
fn nothing_happens_before_its_time() {
    let mut world = World::new(1);
    let (status, _) = world.call(
        "POST",
        JOBS,
        &job(
            "a",
            json!({"startMs": 2_000, "runMs": 3_000, "exitCode": 4, "log": "out"}),
        ),
    );
    assert_eq!(status, 201);
    assert_eq!(
        world.get("/api/v1/pods")["items"],
        json!([]),
        "controllers run in tick only"
    );
    assert_eq!(world.pass(0), at(2_000));
    assert_eq!(
        world.pod()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ContainerCreating"
    );
    assert_eq!(world.pass(2_000), at(5_000));
    assert_eq!(world.pod()["status"]["phase"], "Running");
    assert_eq!(world.get(&format!("{JOBS}/a"))["status"]["active"], 1);
    assert_eq!(world.pass(3_000), None);
    let pod = world.pod();
    assert_eq!(pod["status"]["phase"], "Failed");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["startedAt"]),
        (&json!(4), &json!("2026-01-01T00:00:02Z"))
    );
    assert_eq!(ended["finishedAt"], "2026-01-01T00:00:05Z");
    let job = world.get(&format!("{JOBS}/a"));
    let kinds: Vec<&Value> = job["status"]["conditions"]
        .as_array()
        .expect("conditions")
        .iter()
        .map(|c| &c["type"])
        .collect();
    assert_eq!(kinds, ["FailureTarget", "Failed"]);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |seed| {
        let mut world = World::new(seed);
        for name in ["a", "b"] {
            world.call("POST", JOBS, &job(name, json!({"runMs": 10})));
            world.pass(20);
        }
        (
            world.get("/api/v1/pods"),
            world.get(JOBS),
            world.get("/api/v1/events"),
        )
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn every_step_shows_in_a_watch() {
    let mut world = World::new(2);
    let response = world.send(
        "GET",
        "/api/v1/namespaces/ns/pods?watch=1&resourceVersion=1&timeoutSeconds=10",
        &Value::Null,
    );
    let Body::Watch(mut watch) = response.body else {
        panic!("no watch")
    };
    world.call("POST", JOBS, &job("a", json!({"startMs": 5, "runMs": 5})));
    world.pass(0);
    world.pass(5);
    world.pass(5);
    let poll = world.cluster.poll_watch(&mut watch);
    let events: Vec<Value> = poll
        .frames()
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    let state = |event: &Value| {
        let state = &event["object"]["status"]["containerStatuses"][0]["state"];
        state
            .as_object()
            .and_then(|s| s.keys().next().cloned())
            .unwrap_or_default()
    };
    let mut steps: Vec<String> = events
        .iter()
        .map(|e| {
            format!(
                "{} {} {}",
                e["type"].as_str().expect("type"),
                e["object"]["status"]["phase"].as_str().expect("phase"),
                state(e)
            )
        })
        .collect();
    steps.dedup();
    assert_eq!(
        steps,
        [
            "ADDED Pending ",
            "MODIFIED Pending ",
            "MODIFIED Pending waiting",
            "MODIFIED Running running",
            "MODIFIED Running terminated",
            "MODIFIED Succeeded terminated",
        ]
    );
    assert!(!poll.done);
    world.pass(10_000);
    assert!(world.cluster.poll_watch(&mut watch).done);
}

#[test]
fn compaction_ends_watches_and_pages() {
    let mut world = World::new(3);
    for name in ["a", "b", "c"] {
        world.call(
            "POST",
            "/api/v1/namespaces/ns/configmaps",
            &json!({"metadata": {"name": name}}),
        );
    }
    let page = world.get("/api/v1/namespaces/ns/configmaps?limit=2");
    let token = page["metadata"]["continue"]
        .as_str()
        .expect("more")
        .to_owned();
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    world.call("DELETE", "/api/v1/namespaces/ns/configmaps/c", &Value::Null);
    let rest = world.get(&format!(
        "/api/v1/namespaces/ns/configmaps?limit=2&continue={token}"
    ));
    assert_eq!(
        rest["items"][0]["metadata"]["name"], "c",
        "the page is of the moment of the first"
    );
    world.cluster.compact();
    let (status, _) = world.call(
        "GET",
        &format!("/api/v1/namespaces/ns/configmaps?limit=2&continue={token}"),
        &Value::Null,
    );
    assert_eq!(status, 410);
    let response = world.send(
        "GET",
        "/api/v1/configmaps?watch=1&resourceVersion=2",
        &Value::Null,
    );
    let Body::Watch(mut watch) = response.body else {
        panic!("no watch")
    };
    let poll = world.cluster.poll_watch(&mut watch);
    assert!(poll.done && String::from_utf8_lossy(&poll.frames()).contains("\"code\":410"));
}

#[test]
fn failed_pods_are_replaced_up_to_the_limit() {
    let mut world = World::new(4);
    let mut object = job("a", json!({"exitCode": 1}));
    object["spec"]["backoffLimit"] = json!(2);
    world.call("POST", JOBS, &object);
    let count = |world: &mut World| {
        world.get("/api/v1/pods")["items"]
            .as_array()
            .expect("items")
            .len()
    };
    world.pass(0);
    assert_eq!(count(&mut world), 1);
    world.pass(9_999);
    assert_eq!(count(&mut world), 1);
    world.pass(1);
    assert_eq!(count(&mut world), 2);
    world.pass(20_000);
    assert_eq!(count(&mut world), 3);
    world.pass(600_000);
    assert_eq!(count(&mut world), 3);
    assert_eq!(world.get(&format!("{JOBS}/a"))["status"]["failed"], 3);
}

#[test]
fn a_deleted_pod_ends_by_its_grace_and_counts_once() {
    let mut world = World::new(5);
    world.call(
        "POST",
        JOBS,
        &job("a", json!({"runMs": 1_000_000, "ignoreTerm": true})),
    );
    world.pass(0);
    let pod = world.pod()["metadata"]["name"]
        .as_str()
        .expect("name")
        .to_owned();
    world.call(
        "DELETE",
        &format!("/api/v1/namespaces/ns/pods/{pod}?gracePeriodSeconds=7"),
        &Value::Null,
    );
    world.pass(0);
    world.pass(6_999);
    assert_eq!(world.get(&format!("{JOBS}/a"))["status"]["failed"], 1);
    assert!(world.pod()["metadata"]["deletionTimestamp"].is_string());
    assert!(
        world.get(&format!("{JOBS}/a"))["status"]["conditions"]
            .to_string()
            .contains("FailureTarget")
    );
    world.pass(1);
    assert_eq!(world.get("/api/v1/pods")["items"], json!([]));
    let job = world.get(&format!("{JOBS}/a"));
    assert_eq!(job["status"]["failed"], 1);
    assert!(
        job["status"]["conditions"]
            .to_string()
            .contains("\"Failed\"")
    );
}

#[test]
fn an_evicted_pod_says_why_before_it_is_killed_and_a_lost_node_kills_nothing() {
    for (what, reason, code) in [
        (Disturbance::Evicted, "Evicted", Some(137)),
        (Disturbance::NodeLost, "NodeLost", None),
    ] {
        let mut world = World::new(1);
        let (status, _) = world.call("POST", JOBS, &job("a", json!({"runMs": 60_000})));
        assert_eq!(status, 201);
        world.pass(0);
        world.pass(1);
        let name = world.pod()["metadata"]["name"].clone();
        let name = name.as_str().expect("a name");
        assert!(!world.cluster.disturb("ns", "other", what));
        assert!(world.cluster.disturb("ns", name, what));
        let told = world.pod()["status"].clone();
        assert_eq!(
            (&told["reason"], &told["phase"]),
            (&json!(reason), &json!("Running"))
        );
        world.pass(1);
        let state = world.pod()["status"]["containerStatuses"][0]["state"].clone();
        assert_eq!(state["terminated"]["exitCode"], json!(code), "{state}");
        assert_eq!(world.pod()["status"]["reason"], reason);
    }
}
