//! Whether the service can do its work, told apart by what it stands on.

use jiff::{SignedDuration, Timestamp};
use store::{Dialect, Sql, StoreError};

use crate::report::Level;
use crate::tick::LEASE;
use crate::{App, Error, Platform, Runtime};

/// A tick renews its lease every few seconds, and the cron's period is 10 s: three missed periods
/// mean that nobody ticks.
const TICK_STALE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// How often looks at the store may write to it.
const LOOK_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// The state key of the last such look's time, RFC 3339.
const LAST_LOOK: &str = "lastReadiness";

/// Whether one thing works, else what is wrong with it, for the operator.
pub type Check = Result<(), String>;

/// What the service stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The database answers, and can be written.
    pub store: Check,
    /// The API server answers and takes our token.
    pub kubernetes: Check,
    /// Somebody ticks.
    pub tick: Check,
}

impl Readiness {
    /// Whether all of it works.
    pub fn is_ready(&self) -> bool {
        self.store.is_ok() && self.kubernetes.is_ok() && self.tick.is_ok()
    }
}

impl<P: Platform> App<P> {
    /// Asks each in turn. Takes as long as the API server's timeouts at most.
    pub async fn readiness(&self) -> Readiness {
        let (store, kubernetes, tick) = futures::join!(
            self.check_store(),
            self.check_kubernetes(),
            self.check_tick()
        );
        Readiness {
            store,
            kubernetes,
            tick,
        }
    }

    /// A database whose disk is full can be read all the same, but takes no submission: so it is written, but no more than
    /// once a second, however often and by however many it is asked.
    async fn check_store(&self) -> Check {
        self.look_at_store().await.map_err(|error| {
            let message = "the store is not ready";
            self.report(Level::Error, message, &[("error", &error.chain())]);
            self.shown(&error)
        })
    }

    async fn look_at_store(&self) -> Result<(), Error> {
        let now = self.runtime.now();
        let last = self.store.get_state(LAST_LOOK).await?;
        let last = last.and_then(|text| text.parse::<Timestamp>().ok());
        // Of a look in the future a clock was wrong.
        let is_recent = |at: Timestamp| (at..at + LOOK_INTERVAL).contains(&now);
        if last.is_some_and(is_recent) {
            return Ok(());
        }
        Ok(self.store.set_state(LAST_LOOK, &now.to_string()).await?)
    }

    /// What readiness tells of a failure. The words of an SQLite are about a file; those of a server may name hosts, users and
    /// databases, which are the log's.
    pub fn shown(&self, error: &Error) -> String {
        match error {
            Error::Store(StoreError::Sql(failure))
                if self.store.sql().dialect() != Dialect::Sqlite =>
            {
                failure.summary().to_owned()
            }
            other => other.chain(),
        }
    }

    async fn check_kubernetes(&self) -> Check {
        self.kubernetes
            .ready()
            .await
            .map_err(|error| Error::from(error).chain())
    }

    async fn check_tick(&self) -> Check {
        let lease = self.store.lease(LEASE).await;
        let lease = lease.map_err(|error| self.shown(&error.into()))?;
        let Some(at) = lease.map(|lease| lease.renewed_at) else {
            return Err("no tick has run yet".to_owned());
        };
        let age = self.runtime.now().duration_since(at);
        if age > TICK_STALE_AFTER {
            return Err(format!("the last tick was {} s ago", age.as_secs()));
        }
        Ok(())
    }
}
