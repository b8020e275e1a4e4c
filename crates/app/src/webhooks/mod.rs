//! Webhooks: telling a receiver that an execution is finished, signed, as often as it takes.

mod guard;
mod request;
mod rules;
mod schedule;
mod signature;

pub use rules::{DEFAULT_SECRET, WebhookRules};

use std::time::Duration;

use domain::{Action, ExecutionId};
use futures::future::{self, Either};
use jiff::SignedDuration;
use kubernetes::{Timeouts, Transport};
use store::{Attempt, Claim, Delivery, Redelivered, Settled};

use crate::report::{Fields, Level};
use crate::{App, Caller, Error, Platform, Runtime};
use schedule::Answered;

/// A receiver in reach connects in milliseconds, one across the world in less than a second; five allow for lost packets.
const CONNECT: Duration = Duration::from_secs(5);

/// From the attempt's beginning until the head of the answer. A receiver should take the message and work on it later.
pub(crate) const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// For how long a delivery is its claimer's: an attempt, and every try to store what came of it.
pub(crate) const CLAIM: SignedDuration = SignedDuration::from_secs(30);

/// Only the head of an answer is read. The host's own limit is a little longer than the attempt's, which says more.
const TIMEOUTS: Timeouts = Timeouts {
    connect: CONNECT,
    first_byte: ATTEMPT_LIMIT.saturating_add(Duration::from_secs(1)),
    between_bytes: ATTEMPT_LIMIT,
};

impl<P: Platform> App<P> {
    /// The deliveries of that execution's end, if the caller's tenant has such an execution; none before its end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliveries(
        &self,
        caller: &Caller,
        id: ExecutionId,
    ) -> Result<Option<Vec<Delivery>>, Error> {
        if self.store.get_of(&caller.tenant, id).await?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.store.deliveries(id).await?))
    }

    /// Asks for one more delivery, as the one of that number; the next tick makes it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn redeliver(
        &self,
        caller: &Caller,
        id: ExecutionId,
        number: u32,
    ) -> Result<Redelivered, Error> {
        let record = self.record(caller, Action::DeliveryCreate, &id.to_string());
        let (tenant, now) = (&caller.tenant, self.now());
        let asked = self.store.redeliver(tenant, id, number, now, Some(&record));
        Ok(asked.await?)
    }

    /// Makes one attempt of that many whole seconds at most, and stores what came of it.
    ///
    /// # Errors
    /// When the store fails. Then the claim runs out and somebody tries again, so that a receiver may hear twice.
    pub(crate) async fn deliver(&self, claim: &Claim, limit: Duration) -> Result<(), Error> {
        let started_at = self.now();
        let answered = self.send_webhook(claim, limit).await?;
        let ended_at = self.now();
        let took = ended_at.duration_since(started_at).as_micros();
        let attempt = Attempt {
            number: claim.attempt,
            started_at,
            duration_micros: u64::try_from(took).unwrap_or(0),
            status_code: answered.status_code(),
            error: answered.error(),
        };
        let [.., chance] = self.runtime.random::<8>();
        let pauses = self.config.webhooks.pauses();
        let settled = pauses.settled(&answered, claim.attempt, ended_at, chance);
        self.store.settle_delivery(claim, &attempt, settled).await?;
        if settled == Settled::Failed {
            let why = attempt.error.as_deref().unwrap_or_default();
            let fields: Fields<'_> = &[("delivery", &claim.delivery), ("error", &why)];
            let message = "a webhook was given up";
            self.report_of_id(Level::Error, claim.execution_id, message, fields)
                .await;
        }
        Ok(())
    }

    async fn send_webhook(&self, claim: &Claim, limit: Duration) -> Result<Answered, Error> {
        let Some(execution) = self.store.get(claim.execution_id).await? else {
            return Ok(Answered::Withdrawn);
        };
        let view = self.view(execution).await?;
        let now = self.now();
        let traceparent = self.traceparent(&view.execution);
        let rules = &self.config.webhooks;
        let request = match request::build(&view, &claim.webhook, rules, now, &traceparent) {
            Ok(request) => request,
            Err(refusal) => return Ok(Answered::Nothing(refusal)),
        };
        // The API server's token and the like are added by its client; this goes past it.
        let answer = self
            .kubernetes
            .transport()
            .transport()
            .send(request, TIMEOUTS);
        let patience = self.runtime.sleep(limit);
        Ok(
            match future::select(std::pin::pin!(answer), std::pin::pin!(patience)).await {
                Either::Left((Ok(response), _)) => Answered::of(&response, self.now()),
                Either::Left((Err(error), _)) => Answered::Nothing(error.to_string()),
                Either::Right(((), _)) => Answered::Nothing(format!(
                    "the receiver did not answer within {} s",
                    limit.as_secs()
                )),
            },
        )
    }
}
