//! The cron trigger: at each match of the expression a fresh instance of the component is called.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bindings::cron::CronPre;
use crate::bindings::cron::fermyon::spin_cron::cron_types::Metadata;
use crate::instance::{Guest, InstanceState};
use crate::log;

/// The clock is looked at this often at least, since it may be set while the trigger waits.
const LONGEST_NAP: Duration = Duration::from_millis(500);

/// One `[[trigger.cron]]`.
pub struct CronTrigger {
    guest: Arc<Guest>,
    pre: CronPre<InstanceState>,
    cron: Cron,
    instances: Arc<Semaphore>,
}

impl CronTrigger {
    /// Reads the expression (six or seven fields, seconds first, UTC) and checks that the component can be called.
    ///
    /// # Errors
    /// The expression is wrong, or the component does not export `handle-cron-event`.
    pub fn new(
        guest: Arc<Guest>,
        expression: &str,
        instances: Arc<Semaphore>,
    ) -> Result<CronTrigger> {
        let cron = parse(expression).with_context(|| {
            format!("cron_expression {expression:?} of component {:?}", guest.id)
        })?;
        let pre = CronPre::new(guest.pre().clone())
            .map_err(anyhow::Error::from)
            .with_context(|| format!("component {:?} has no cron handler", guest.id))?;
        Ok(CronTrigger {
            guest,
            pre,
            cron,
            instances,
        })
    }

    /// Calls the component at each match until `stop`. Calls may overlap; matches that went by unseen are not made up
    /// for.
    pub async fn run(self: Arc<Self>, tasks: TaskTracker, stop: CancellationToken) {
        loop {
            let next = match self.cron.find_next_occurrence(&Utc::now(), false) {
                Ok(next) => next,
                Err(error) => {
                    let text = format!("{} will not be called any more: {error}", self.guest.id);
                    return log::line("devhost", &text);
                }
            };
            if !wait_until(next, &stop).await {
                return;
            }
            let trigger = Arc::clone(&self);
            tasks.spawn(async move {
                if let Err(error) = trigger.call().await {
                    let text = format!("{} failed on its cron event: {error:#}", trigger.guest.id);
                    log::line("devhost", &text);
                }
            });
        }
    }

    async fn call(&self) -> Result<()> {
        let _permit = self
            .instances
            .try_acquire()
            .map_err(|_| anyhow!("too many instances run at once"))?;
        let timestamp =
            u64::try_from(Utc::now().timestamp()).context("the clock is before 1970")?;
        let mut store = self.guest.new_store();
        let instance = self.pre.instantiate_async(&mut store).await?;
        instance
            .call_handle_cron_event(&mut store, Metadata { timestamp })
            .await?
            .map_err(|error| anyhow!("the guest answered {error:?}"))
    }
}

fn parse(expression: &str) -> Result<Cron> {
    let fields = expression.split_whitespace().count();
    ensure!(
        fields == 6 || fields == 7,
        "it has {fields} fields, not the six (seconds first) or seven (with years)"
    );
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Optional)
        .build();
    Ok(parser.parse(expression)?)
}

/// Waits for the moment; false when `stop` came first.
async fn wait_until(moment: DateTime<Utc>, stop: &CancellationToken) -> bool {
    while let Ok(rest) = (moment - Utc::now()).to_std()
        && !rest.is_zero()
    {
        tokio::select! {
            () = stop.cancelled() => return false,
            () = tokio::time::sleep(rest.min(LONGEST_NAP)) => {}
        }
    }
    !stop.is_cancelled()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, after: &str) -> String {
        let after: DateTime<Utc> = after.parse().unwrap();
        parse(expression)
            .unwrap()
            .find_next_occurrence(&after, false)
            .unwrap()
            .to_rfc3339()
    }

    #[test]
    fn seconds_come_first_and_years_last() {
        assert_eq!(
            next("*/10 * * * * *", "2026-01-01T00:00:05Z"),
            "2026-01-01T00:00:10+00:00"
        );
        assert_eq!(
            next("0 30 1 * * * *", "2026-01-01T01:30:00Z"),
            "2026-01-02T01:30:00+00:00"
        );
        assert_eq!(
            next("0 0 0 1 1 * 2030", "2026-01-01T00:00:00Z"),
            "2030-01-01T00:00:00+00:00"
        );
    }

    #[test]
    fn other_numbers_of_fields_are_refused() {
        for bad in ["", "* * * * *", "* * * * * * * *", "61 * * * * *"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
