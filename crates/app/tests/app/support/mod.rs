//! A bench for the use cases: a cluster in process, a database in memory, virtual time. Nothing here sleeps.

mod fault;
mod receiver;
mod runner;
mod wire;
mod world;

pub use fault::{Effect, no_container, refusal};
pub use receiver::{Receipt, SECRET};
pub use world::World;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use app::{
    App, Caller, Canceled, Config, Log, LogOptions, Platform, StoredLog, Submitted, TickReport,
};
use domain::{
    Execution, ExecutionId, Reason, Resources, Retry, Status, Submission, Timeouts, Webhook,
};
use serde_json::json;
use store::testing::Sqlite;
use wire::{Database, Wire};
use world::Time;

/// Longer than what is inlined: such a script goes into a ConfigMap.
pub const LARGE_SCRIPT_BYTES: usize = 70_000;

/// The platform of the tests.
pub struct Host;

impl Platform for Host {
    type Transport = Wire;
    type Sql = Database;
    type Runtime = Time;
}

/// One database and one cluster, and an instance of the app whenever one is asked for.
pub struct Bench {
    /// The cluster and the time.
    pub world: Rc<World>,
    sqlite: Sqlite,
    max_running: u32,
    kubernetes_events: &'static str,
    tokens: String,
}

impl Bench {
    /// An empty database with its schema, an empty cluster.
    pub fn new() -> Self {
        Self::with_max_running(100)
    }

    /// The same with that limit.
    pub fn with_max_running(max_running: u32) -> Self {
        let bench = Self {
            world: World::new(),
            sqlite: Sqlite::memory(),
            max_running,
            kubernetes_events: "none",
            tokens: String::new(),
        };
        let app = bench.app();
        bench.world.run(app.migrate()).expect("the schema is made");
        bench
    }

    /// Another limit for instances from now on.
    pub fn set_max_running(&mut self, max_running: u32) {
        self.max_running = max_running;
    }

    /// Instances from now on tell the cluster of those steps.
    pub fn announce(&mut self, steps: &'static str) {
        self.kubernetes_events = steps;
    }

    /// From now on these tenants are in the settings, each with a namespace of its own or with none.
    pub fn place(&mut self, tenants: &[(&str, Option<&str>)]) {
        let said = |namespace: &Option<&str>| match namespace {
            Some(namespace) => json!({"namespace": namespace}),
            None => json!({}),
        };
        let tenants = tenants.iter();
        let tenants: BTreeMap<_, _> = tenants.map(|(name, of)| (name, said(of))).collect();
        let token = json!({"name": "a", "role": "admin", "token": "a-token-for-somebody-else"});
        self.tokens = json!({"tenants": tenants, "tokens": [token]}).to_string();
    }

    /// A fresh instance, as each request and each tick gets one.
    pub fn app(&self) -> App<Host> {
        let config = Config::read(|name| {
            let text = match name {
                "kube_url" => "http://cluster:8001".to_owned(),
                "kube_namespace" => "runs".to_owned(),
                "kube_token" => "a-token-for-the-api-server-alone".to_owned(),
                "kube_token_file"
                | "tick_token"
                | "metrics_token"
                | "webhook_allowed_hosts"
                | "webhook_pauses" => String::new(),
                "webhook_secrets" => json!({"default": SECRET}).to_string(),
                "tokens" => self.tokens.clone(),
                "default_image" => "alpine:3".to_owned(),
                "allowed_images" => "*".to_owned(),
                "max_cpu" => "4".to_owned(),
                "max_memory" | "max_ephemeral_storage" => "8Gi".to_owned(),
                "max_running" => self.max_running.to_string(),
                "ttl_seconds" => "3600".to_owned(),
                "audit_retention_days" => "1".to_owned(),
                "kubernetes_events" => self.kubernetes_events.to_owned(),
                "max_queued" => "1000".to_owned(),
                "pod_profile" => "restricted".to_owned(),
                "pod_user" => "65532:65532".to_owned(),
                "default_ephemeral_storage" => "4Gi".to_owned(),
                "pod_runtime_class" | "pod_node_selector" | "pod_tolerations" => String::new(),
                _ => "9.6".to_owned(),
            };
            Some(text)
        });
        let (world, sqlite) = (self.world.clone(), self.sqlite.clone());
        App::new(
            config.expect("valid settings"),
            Database {
                world: world.clone(),
                sqlite,
            },
            Wire(world.clone()),
            Time(world),
        )
    }

    /// How the next pods behave, as `localcluster/simulate` says.
    pub fn script(&self, run_ms: i64, exit_code: i32, log: &str) {
        let script = json!({"runMs": run_ms, "exitCode": exit_code, "log": log});
        self.world.script.replace(script);
    }

    /// How the pods of each attempt behave; of those beyond, as the last one.
    pub fn attempts(&self, scripts: &[(i64, i32, &str)]) {
        let script = |(run_ms, exit_code, log): &(i64, i32, &str)| json!({"runMs": run_ms, "exitCode": exit_code, "log": log});
        self.world
            .script
            .replace(scripts.iter().map(script).collect());
    }

    /// Accepts a submission; its Job is not created yet.
    pub fn submit(&self, submission: &Submission) -> Execution {
        match self
            .world
            .run(self.app().submit(&Caller::local(), submission, None))
        {
            Ok(Submitted::New { execution, .. }) => execution,
            other => panic!("it was not accepted: {other:?}"),
        }
    }

    /// Accepts a submission and creates its Job, as the instance that answers the POST does.
    pub fn submit_and_dispatch(&self, submission: &Submission) -> ExecutionId {
        let execution = self.submit(submission);
        self.world
            .run(self.app().dispatch_submitted(&execution, submission));
        execution.id
    }

    /// Notes a cancel, and answers whether its instance is to carry it out.
    pub fn cancel(&self, id: ExecutionId) -> bool {
        match self.world.run(self.app().cancel(&Caller::local(), id)) {
            Ok(Canceled::Accepted { to_carry_out, .. }) => to_carry_out,
            other => panic!("it was not accepted: {other:?}"),
        }
    }

    /// The clock and its sleep, for what a test does beside.
    pub fn time(&self) -> Time {
        Time(self.world.clone())
    }

    /// Changes the database behind the store's back.
    pub fn sql(&self, statements: &str) {
        self.sqlite
            .connection()
            .execute_batch(statements)
            .expect("valid SQL");
    }

    /// A fact that a tick keeps for the next one; empty when it keeps none.
    pub fn state(&self, name: &str) -> String {
        let read = "SELECT coalesce(max(value), '') FROM state WHERE name = ?";
        let row = self
            .sqlite
            .connection()
            .query_row(read, [name], |row| row.get(0));
        row.expect("a row")
    }

    /// One tick of that many seconds, in an instance of its own.
    pub fn tick(&self, seconds: u64) -> TickReport {
        let report = self
            .world
            .run(self.app().tick(Duration::from_secs(seconds)));
        report.expect("the tick has its lease")
    }

    /// The record.
    pub fn get(&self, id: ExecutionId) -> Execution {
        let view = self
            .world
            .run(self.app().get(&Caller::local(), id))
            .expect("the store answers");
        view.expect("it is there").execution
    }

    /// The record of one that is finished, with its reason.
    pub fn finished(&self, id: ExecutionId) -> (Execution, Reason) {
        let execution = self.get(id);
        assert_eq!(
            execution.status,
            Status::Finished,
            "{execution:?}\n{:#?}",
            self.world.lines
        );
        let reason = execution.ending.as_ref().expect("an ending").reason;
        (execution, reason)
    }

    /// What its timeline tells, one word a line.
    pub fn kinds(&self, id: ExecutionId) -> Vec<String> {
        let events = self.world.run(self.app().events(&Caller::local(), id));
        let events = events.expect("the store answers").expect("it is there");
        events.into_iter().map(|event| event.entry.kind).collect()
    }

    /// The log that is stored.
    pub fn stored_log(&self, id: ExecutionId) -> StoredLog {
        match self
            .world
            .run(self.app().log(&Caller::local(), id, &LogOptions::default()))
        {
            Ok(Some(Log::Stored(log))) => log,
            _ => panic!("no stored log of {id}"),
        }
    }

    /// Holds of every execution that ran to a good end: one Job ever, its log whole, nothing left behind.
    pub fn assert_ran_once(&self, id: ExecutionId, log: &str) {
        let (execution, reason) = self.finished(id);
        assert_eq!(reason, Reason::Completed, "{execution:?}");
        let stored = self.stored_log(id);
        assert_eq!(String::from_utf8_lossy(&stored.head), log);
        assert!(stored.complete);
        assert_eq!(self.world.jobs_made.get(), 1, "how often a Job was made");
        assert_eq!(self.world.starts(), 1, "how often a pod was started");
        self.assert_nothing_left();
    }

    /// No Job, pod or ConfigMap is left in the cluster, once the Jobs that only keep their names have kept them long enough.
    pub fn assert_nothing_left(&self) {
        let held = |job: &serde_json::Value| {
            job["metadata"]["annotations"]["executor.dev/name-held-until"].is_string()
        };
        if self.world.list("jobs").iter().any(held) {
            self.world.pass(20 * 60);
            self.tick(3);
        }
        // Deletion in the background takes its time, but none of ours.
        self.world.pass(30);
        for kind in ["jobs", "pods", "configmaps"] {
            assert_eq!(
                self.world.names(kind),
                Vec::<String>::new(),
                "{kind} are left"
            );
        }
    }
}

/// What a caller asks for.
pub fn submission() -> Submission {
    let quantity = |text: &str| text.parse().expect("a quantity");
    Submission {
        script: "echo hello".to_owned(),
        interpreter: None,
        args: Vec::new(),
        image: "alpine:3".to_owned(),
        resources: Resources {
            cpu: quantity("100m"),
            memory: quantity("64Mi"),
            ephemeral_storage: None,
        },
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        timeouts: Timeouts::default(),
        retry: Retry::default(),
        priority: 0,
        labels: BTreeMap::new(),
        ttl_seconds: 24 * 3600,
        webhook: None,
        digest: "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03".to_owned(),
    }
}

/// The same, and its end is to be told.
pub fn hooked_submission() -> Submission {
    let webhook = Webhook {
        url: "https://example.org/hook?key=hidden".to_owned(),
        secret_ref: "default".to_owned(),
    };
    Submission {
        webhook: Some(webhook),
        ..submission()
    }
}

/// The same, tried again that often whatever went wrong.
pub fn retried_submission(limit: u32) -> Submission {
    Submission {
        retry: Retry::of(limit, &Retry::OUTCOMES),
        ..submission()
    }
}

/// The same with a script that needs a ConfigMap.
pub fn large_submission() -> Submission {
    Submission {
        script: format!("echo hello\n#{}\n", "x".repeat(LARGE_SCRIPT_BYTES)),
        ..submission()
    }
}
