//! The use cases: submit, get, wait, list, read logs, cancel, forget, tick. Pure of hosts: all I/O goes through [`Platform`].
//!
//! Nothing here is kept between two calls: each HTTP request and each tick makes its own [`App`]
//! in a fresh component instance, and SQL and the API server hold the truth.

mod announce;
mod apply;
mod audit;
mod callers;
mod cancel;
mod collector;
mod config;
mod dispatch;
mod dry_run;
mod error;
mod events;
mod explain;
mod follow;
mod followers;
mod forget;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod lines;
mod logs;
mod meter;
mod metrics;
mod namespaces;
mod observe;
mod platform;
mod pods;
mod read;
mod readiness;
#[cfg(test)]
mod recorded;
mod records;
mod report;
mod retire;
mod submit;
mod tick;
mod webhooks;
pub mod wire;
mod writes;

pub use announce::Announced;
pub use callers::{Caller, Issued, IssuedToken, Keyring, MAX_TOKENS, NewToken, is_token_id};
pub use cancel::Canceled;
pub use config::{Config, ConfigError, MAX_TTL_SECONDS};
pub use dry_run::Trial;
pub use error::Error;
pub use events::{TimelineFollower, TimelineNews};
pub use follow::{FollowedLog, LogFollower};
pub use forget::Forgotten;
pub use lines::{LogNews, MAX_LINE_BYTES, NoPlace, Place};
pub use logs::{LiveLog, Log, LogOptions};
pub use metrics::Metrics;
pub use platform::{Platform, Runtime};
pub use read::View;
pub use readiness::{Check, Readiness};
pub use submit::{Submitted, SubmittedBatch};
pub use tick::TickReport;
pub use webhooks::{DEFAULT_SECRET, WebhookRules};

// What the callers of this crate need of the rooms behind it.
pub use store::{
    Attempt, AuditFilter, AuditRecord, BatchKey, Cursor, Delivery, DeliveryState, Event, Figures,
    Filter, LeaseRow, Limited, MAX_DELIVERIES, Measure, Page, Redelivered, Spent, StoredLog,
    Timing, TokenRow,
};

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use announce::Announcements;
use domain::{ContainerEnd, ExecutionId, TraceContext};
use followers::Follower;
use kubernetes::Client;
use meter::{Meter, Metered};
use records::Records;
use report::Level;
use store::ExecutionStore;
use writes::Writes;

/// The state key of the database's own mark.
const DATABASE: &str = "database";

/// Executor's use cases over one platform.
pub struct App<P: Platform> {
    config: Config,
    store: ExecutionStore<P::Sql>,
    kubernetes: Client<Metered<P>>,
    runtime: Rc<P::Runtime>,
    meter: Rc<Meter>,
    /// What the served request said of its trace.
    trace: Cell<Option<TraceContext>>,
    /// What this instance does, as a part of traces; made by chance when it is asked for.
    span: Cell<Option<u64>>,
    is_tick: Cell<bool>,
    database: OnceCell<String>,
    /// How containers of pods that are being deleted ended, by the pods' uids, as this instance's watch has seen it:
    /// between two looks at such a pod it may be gone with its end.
    seen_ends: RefCell<HashMap<String, ContainerEnd>>,
    records: Records,
    announcements: Announcements,
    /// What is about to be stored.
    writes: Writes,
    /// The logs that this instance follows, if it ticks.
    // In order: they are stored one after the other, and the simulator replays histories.
    followers: RefCell<BTreeMap<ExecutionId, Rc<Follower>>>,
}

impl<P: Platform> App<P> {
    /// Puts the use cases together. Opens nothing and sends nothing yet.
    pub fn new(config: Config, sql: P::Sql, transport: P::Transport, runtime: P::Runtime) -> Self {
        let (runtime, meter) = (Rc::new(runtime), Rc::<Meter>::default());
        let metered = Metered::new(transport, runtime.clone(), meter.clone());
        let kubernetes = Client::new(config.kubernetes(), metered);
        let store = ExecutionStore::new(sql)
            .with_max_queued(config.max_queued)
            .with_tenants(config.callers.tenants().clone());
        Self {
            config,
            store,
            kubernetes,
            runtime,
            meter,
            trace: Cell::default(),
            span: Cell::default(),
            is_tick: Cell::default(),
            database: OnceCell::new(),
            seen_ends: RefCell::default(),
            records: Records::default(),
            announcements: Announcements::default(),
            writes: Writes::default(),
            followers: RefCell::default(),
        }
    }

    /// The settings, as read at the start.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The time now, by the platform's clock.
    pub fn now(&self) -> jiff::Timestamp {
        self.runtime.now()
    }

    /// What tells this database from those of other Executors in the namespace: made once, by chance, and kept in it.
    ///
    /// # Errors
    /// When the database cannot be read, or written the first time.
    pub(crate) async fn database(&self) -> Result<&str, Error> {
        if let Some(known) = self.database.get() {
            return Ok(known);
        }
        let new = tick::hex(&self.runtime.random::<16>());
        let settled = self.store.settle_state(DATABASE, &new).await?;
        Ok(self.database.get_or_init(|| settled))
    }

    /// Ends after that long.
    pub async fn sleep(&self, duration: std::time::Duration) {
        self.runtime.sleep(duration).await;
    }

    /// Tells the operator why a caller got a 500 or 503.
    pub fn log_failure(&self, error: &str) {
        self.report(Level::Error, "a request failed", &[("error", &error)]);
    }

    /// Brings the schema up to date; one read when it is. Called first by what changes executions that are there. What accepts or reads
    /// needs it not: the store sees an older schema by itself.
    ///
    /// # Errors
    /// When the database cannot be reached or written.
    pub async fn migrate(&self) -> Result<(), Error> {
        Ok(self.store.migrate().await?)
    }
}
