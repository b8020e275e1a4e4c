//! The platform of the use cases in the simulation: one instance on one host, with that host's clock.

use std::cell::Cell;
use std::fmt::{Display, Write as _};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use app::{App, Config, Platform, Runtime};
use jiff::{SignedDuration, Timestamp};

use crate::database::Database;
use crate::wire::Wire;
use crate::world::{NAMESPACE, OWN_NAMESPACE, World};

/// What signs: 24 bytes, in base64.
const WEBHOOK_SECRETS: &str = r#"{"default":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;

/// A component's instance: one request or one tick.
#[derive(Default)]
pub struct Instance {
    /// What the history calls it.
    pub name: String,
    /// The host that it runs on.
    pub host: usize,
    /// When it was told that the lease is another's, by the true time; none while it has it.
    pub lease_lost: Cell<Option<i64>>,
    /// Whether it has begun a list of some kind.
    pub has_listed: Cell<bool>,
    has_had_lease: Cell<bool>,
}

impl Instance {
    /// One that begins now.
    pub fn new(name: String, host: usize) -> Rc<Self> {
        Rc::new(Self {
            name,
            host,
            ..Self::default()
        })
    }

    /// Notes an answer about the lease; answers whether this instance had it before.
    pub fn marks_lease(&self, has_it: bool) -> bool {
        let had_it = self.has_had_lease.get();
        self.has_had_lease.set(had_it || has_it);
        had_it
    }
}

/// The platform.
pub struct Simulated;

impl Platform for Simulated {
    type Transport = Wire;
    type Sql = Database;
    type Runtime = Time;
}

/// The use cases, in that instance.
pub fn app(world: &Rc<World>, instance: &Rc<Instance>, max_running: u32) -> App<Simulated> {
    let config = Config::read(|name| {
        let text = match name {
            "kube_url" => "http://cluster:8001".to_owned(),
            "kube_namespace" => NAMESPACE.to_owned(),
            "kube_token"
            | "kube_token_file"
            | "tick_token"
            | "metrics_token"
            | "webhook_allowed_hosts"
            | "webhook_pauses" => String::new(),
            "tokens" if world.has_own_namespace.get() => own_namespace(),
            "tokens" => String::new(),
            "webhook_secrets" => WEBHOOK_SECRETS.to_owned(),
            "default_image" => "alpine:3".to_owned(),
            "allowed_images" => "*".to_owned(),
            "max_cpu" => "4".to_owned(),
            "max_memory" | "max_ephemeral_storage" => "8Gi".to_owned(),
            "ttl_seconds" => "0".to_owned(),
            "audit_retention_days" => "1".to_owned(),
            "kubernetes_events" => "all".to_owned(),
            "max_queued" => "1000".to_owned(),
            "pod_profile" => "restricted".to_owned(),
            "pod_user" => "65532:65532".to_owned(),
            "default_ephemeral_storage" => "4Gi".to_owned(),
            "pod_runtime_class" | "pod_node_selector" | "pod_tolerations" => String::new(),
            "max_running" => max_running.to_string(),
            _ => "9.6".to_owned(),
        };
        Some(text)
    });
    let (world, instance) = (world.clone(), instance.clone());
    App::new(
        config.expect("valid settings"),
        Database {
            world: world.clone(),
            instance: instance.clone(),
        },
        Wire {
            world: world.clone(),
            instance: instance.clone(),
        },
        Time { world, instance },
    )
}

/// The setting that gives everybody in a history the other namespace.
fn own_namespace() -> String {
    let tenants = serde_json::json!({"default": {"namespace": OWN_NAMESPACE}});
    let token =
        serde_json::json!({"name": "a", "role": "run", "token": "a-token-that-nobody-sends"});
    serde_json::json!({"tenants": tenants, "tokens": [token]}).to_string()
}

/// The host's clock, chance that repeats, and the log.
pub struct Time {
    world: Rc<World>,
    instance: Rc<Instance>,
}

impl Runtime for Time {
    fn now(&self) -> Timestamp {
        let skew = self.world.skew.borrow()[self.instance.host];
        self.world.timestamp(self.world.now() + skew)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let duration = SignedDuration::try_from(duration).expect("a short sleep");
        // Rounded up, so that the time has come when it ends. A monotonic clock counts, not the host's.
        let milliseconds = duration.as_micros().max(0).unsigned_abs().div_ceil(1000);
        self.world
            .sleep(i64::try_from(milliseconds).unwrap_or(i64::MAX / 2))
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut chance = self.world.chance.borrow_mut();
        std::array::from_fn(|_| chance.number().to_be_bytes()[7])
    }

    fn log(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        let mut line = format!("{} says: {message}", self.instance.name);
        for (name, value) in fields {
            // Writing into a String cannot fail.
            let _ = write!(line, " {name}={value}");
        }
        self.world.note(&line);
    }
}
