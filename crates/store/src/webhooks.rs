//! Webhooks: the outbox of deliveries, claiming what is due, and what became of each attempt.
//!
//! A delivery is written in the transaction that stores the outcome, so none is lost and none is sent
//! for an outcome that was not stored. A claim is a time until which nobody else takes the delivery; who dies
//! meanwhile leaves it to the next, so a receiver may hear of one end more than once, never of none.

use domain::{Execution, ExecutionId, Tenant, Webhook};
use jiff::Timestamp;

use crate::rows::{Reader, count, micros, readable};
use crate::sql::{Builder, Sql, Statement};
use crate::{AuditRecord, ExecutionStore, StoreError, StoredLog};

/// At most this many deliveries are claimed in one call; more than one instance has in flight.
pub const MAX_DELIVERY_CLAIMS: u32 = 64;

/// At most this many deliveries of one execution are kept: whoever asks for more has an error in a loop.
pub const MAX_DELIVERIES: u32 = 100;

/// How a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is to be tried, for the first time or again.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// Nobody tries it any more.
    Failed,
    /// A later delivery was asked for while it was pending.
    Replaced,
}

impl DeliveryState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Failed, Self::Replaced];

    /// The name in the API and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
            Self::Replaced => "REPLACED",
        }
    }

    /// The state of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// One delivery with what became of its attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Counted from 1 within its execution.
    pub number: u32,
    /// How it stands.
    pub state: DeliveryState,
    /// When it was decided to deliver.
    pub created_at: Timestamp,
    /// While it is pending: when it is tried next, or, during an attempt, when the claim ends.
    pub next_at: Option<Timestamp>,
    /// Its attempts, in order. A number that is missing is one whose end nobody saw.
    pub attempts: Vec<Attempt>,
}

/// One attempt to deliver that came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1 within its delivery.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_micros: u64,
    /// The answer's status, if there was an answer.
    pub status_code: Option<u16>,
    /// Why it counts as failed.
    pub error: Option<String>,
}

/// A delivery that is the caller's to try until its claim ends.
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    /// The execution whose end is told.
    pub execution_id: ExecutionId,
    /// The delivery's number.
    pub delivery: u32,
    /// The number of the attempt to be made.
    pub attempt: u32,
    /// Where to.
    pub webhook: Webhook,
}

impl std::fmt::Debug for Claim {
    /// Without the URL, which may be as good as a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            execution_id,
            delivery,
            attempt,
            webhook,
        } = self;
        write!(
            f,
            "Claim({execution_id}/{delivery}/{attempt} signed by {})",
            webhook.secret_ref
        )
    }
}

/// What an attempt makes of its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is done.
    Delivered,
    /// It is tried again at that time.
    Again(Timestamp),
    /// It is not tried any more.
    Failed,
}

/// What became of asking for one more delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivered {
    /// It is pending, with this number.
    Pending(u32),
    /// The execution has no delivery of the number that was to be repeated.
    Missing,
    /// There are [`MAX_DELIVERIES`] already.
    TooMany,
}

impl<S: Sql> ExecutionStore<S> {
    /// The delivery of an end, if there is a webhook. It is due at once, whatever clock the end was read from.
    pub(crate) fn first_delivery(&self, finished: &Execution) -> Builder {
        let at = finished.finished_at.unwrap_or(finished.created_at);
        self.build(
            "INSERT INTO deliveries (execution_id, number, state, created_at, next_at) \
             SELECT execution_id, 1, ",
        )
        .bind(DeliveryState::Pending.as_str())
        .text(", ")
        .bind(micros(at))
        .text(", 0 FROM webhooks WHERE execution_id = ")
        .bind(finished.id.to_string())
        .text(" AND ")
        .if_changed()
    }

    /// The same of several ends, of those that come about.
    pub(crate) fn first_deliveries(&self, ends: &[(&Execution, &StoredLog)]) -> Builder {
        self.build(
            "INSERT INTO deliveries (execution_id, number, state, created_at, next_at) \
             SELECT webhooks.execution_id, 1, ",
        )
        .bind(DeliveryState::Pending.as_str())
        .text(", given.column3, 0 FROM ")
        .given(ends, |(finished, _)| {
            let at = finished.finished_at.unwrap_or(finished.created_at);
            vec![micros(at).into()]
        })
        // SQLite takes the tables of a CROSS JOIN in the order in which they are written.
        .text(" CROSS JOIN webhooks WHERE webhooks.execution_id = given.column1 AND ")
        .if_given()
    }

    /// Takes deliveries that are due at `now`, the longest due first; they are the caller's until
    /// `claim_until`. No two callers get the same one. At most `limit` and [`MAX_DELIVERY_CLAIMS`].
    pub async fn claim_deliveries(
        &self,
        now: Timestamp,
        claim_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Claim>, StoreError> {
        // As a rule there is none. A read sees that without waiting for the write lock.
        let look = self
            .build("SELECT 1 FROM deliveries WHERE next_at <= ")
            .bind(micros(now))
            // The order leads PostgreSQL to the index, whatever it believes to be there.
            .text(" ORDER BY next_at, execution_id, number LIMIT 1")
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(Vec::new());
        }
        let statement = self
            .build(
                "WITH due (due_id, due_number) AS \
                 (SELECT execution_id, number FROM deliveries WHERE next_at <= ",
            )
            .bind(micros(now))
            .text(" ORDER BY next_at, execution_id, number LIMIT ")
            .bind(limit.min(MAX_DELIVERY_CLAIMS))
            .skip_locked()
            .text(") UPDATE deliveries SET next_at = ")
            .bind(micros(claim_until))
            .text(", tries = tries + 1 WHERE next_at <= ")
            .bind(micros(now))
            .text(
                " AND (execution_id, number) IN (SELECT due_id, due_number FROM due) \
                 RETURNING execution_id, number, tries, \
                 (SELECT url FROM webhooks WHERE webhooks.execution_id = deliveries.execution_id), \
                 (SELECT secret_ref FROM webhooks \
                 WHERE webhooks.execution_id = deliveries.execution_id)",
            )
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        readable(rows.map(|row| {
            let mut reader = Reader::new("deliveries", row);
            let id = reader.text("execution_id")?;
            Ok(Claim {
                execution_id: reader.parsed("execution_id", &id)?,
                delivery: reader.number("number")?,
                attempt: reader.number("tries")?,
                webhook: Webhook {
                    url: reader.text("url")?,
                    secret_ref: reader.text("secret_ref")?,
                },
            })
        }))
    }

    /// Notes how the attempt of a claim ended, and what becomes of the delivery, in one transaction.
    ///
    /// A claim that ran out while the attempt was made decides nothing any more, since another has it; but
    /// what the receiver has taken is delivered, whoever brought it.
    pub async fn settle_delivery(
        &self,
        claim: &Claim,
        attempt: &Attempt,
        settled: Settled,
    ) -> Result<(), StoreError> {
        let (state, next_at) = match settled {
            Settled::Delivered => (DeliveryState::Delivered, None),
            Settled::Again(at) => (DeliveryState::Pending, Some(micros(at))),
            Settled::Failed => (DeliveryState::Failed, None),
        };
        let id = claim.execution_id.to_string();
        // Only where the delivery still is: its execution may have been deleted meanwhile.
        let note = self
            .build(
                "INSERT INTO delivery_attempts (execution_id, delivery, number, started_at, \
                 duration_micros, status_code, error) SELECT execution_id, number, ",
            )
            .bind(attempt.number)
            .text(", ")
            .bind(micros(attempt.started_at))
            .text(", ")
            .bind(count(attempt.duration_micros))
            .text(", ")
            .bind(attempt.status_code.map(u32::from))
            .text(", ")
            .bind(attempt.error.as_deref())
            .text(" FROM deliveries WHERE execution_id = ")
            .bind(id.as_str())
            .text(" AND number = ")
            .bind(claim.delivery)
            .text(" ON CONFLICT (execution_id, delivery, number) DO NOTHING")
            .statement();
        let decide = self
            .build("UPDATE deliveries SET state = ")
            .bind(state.as_str())
            .text(", next_at = ")
            .bind(next_at)
            .text(" WHERE execution_id = ")
            .bind(id.as_str())
            .text(" AND number = ")
            .bind(claim.delivery)
            .text(" AND state = ")
            .bind(DeliveryState::Pending.as_str());
        let decide = if settled == Settled::Delivered {
            decide
        } else {
            decide.text(" AND tries = ").bind(claim.attempt)
        };
        let mut statements: Vec<Statement> = self.hold(claim.execution_id).into_iter().collect();
        let counted = self.count_webhook_attempt(claim, settled);
        statements.extend([note, decide.statement(), counted]);
        self.transaction(&statements).await?;
        Ok(())
    }

    /// Asks for the end to be told once more, as the delivery with that number did: a new delivery that is due at
    /// once. One that is pending is replaced by it, so at most one of an execution is pending. Of another tenant's execution
    /// nothing is found.
    pub async fn redeliver(
        &self,
        tenant: &Tenant,
        id: ExecutionId,
        number: u32,
        now: Timestamp,
        noted: Option<&AuditRecord>,
    ) -> Result<Redelivered, StoreError> {
        // It never becomes another's, so what is asked first still holds then.
        if self.get_of(tenant, id).await?.is_none() {
            return Ok(Redelivered::Missing);
        }
        let text = id.to_string();
        let replace = self
            .build("UPDATE deliveries SET state = ")
            .bind(DeliveryState::Replaced.as_str())
            .text(", next_at = NULL WHERE execution_id = ")
            .bind(text.as_str())
            .text(" AND state = ")
            .bind(DeliveryState::Pending.as_str())
            .statement();
        let next = self
            .build(
                "INSERT INTO deliveries (execution_id, number, state, created_at, next_at) \
                 SELECT ",
            )
            .bind(text.as_str())
            .text(", number + 1, ")
            .bind(DeliveryState::Pending.as_str())
            .text(", ")
            .bind(micros(now))
            .text(", ")
            .bind(micros(now))
            .text(" FROM deliveries WHERE execution_id = ")
            .bind(text.as_str())
            .text(" AND number = (SELECT max(number) FROM deliveries WHERE execution_id = ")
            .bind(text.as_str())
            .text(") AND number >= ")
            .bind(number)
            .text(" AND number < ")
            .bind(MAX_DELIVERIES)
            .text(" RETURNING number")
            .must_change();
        let mut statements: Vec<Statement> = self.hold(id).into_iter().collect();
        statements.extend([replace, next]);
        let next_at = statements.len() - 1;
        // The transaction has ended where there is no next one.
        let noted = noted.map(|record| self.note(record));
        statements.extend(noted.map(|note| note.text("true").statement()));
        if let Some(answers) = self.transaction(&statements).await? {
            let row = answers.into_iter().nth(next_at);
            let row = row.and_then(|answer| answer.rows.into_iter().next());
            let mut reader = Reader::new("deliveries", row.unwrap_or_default());
            return Ok(Redelivered::Pending(reader.number("number")?));
        }
        let exists = self
            .build("SELECT 1 FROM deliveries WHERE execution_id = ")
            .bind(text.as_str())
            .text(" AND number = ")
            .bind(number)
            .statement();
        let exists = self.query_row(exists).await?.is_some();
        Ok(if exists {
            Redelivered::TooMany
        } else {
            Redelivered::Missing
        })
    }

    /// The deliveries of an execution with their attempts, in order; none before its end, or without a webhook.
    pub async fn deliveries(&self, id: ExecutionId) -> Result<Vec<Delivery>, StoreError> {
        let statement = self
            .build(
                "SELECT execution_id, number, state, created_at, next_at FROM deliveries \
                 WHERE execution_id = ",
            )
            .bind(id.to_string())
            .text(" ORDER BY number LIMIT ")
            .bind(MAX_DELIVERIES)
            .statement();
        let rows = self.query(statement).await?.rows;
        let mut deliveries = Vec::with_capacity(rows.len());
        for row in rows {
            let mut reader = Reader::new("deliveries", row);
            reader.text("execution_id")?;
            let number = reader.number("number")?;
            let state = reader.text("state")?;
            deliveries.push(Delivery {
                number,
                state: reader.name("state", &state, DeliveryState::from_name)?,
                created_at: reader.time("created_at")?,
                next_at: reader.optional_time("next_at")?,
                attempts: Vec::new(),
            });
        }
        if !deliveries.is_empty() {
            self.read_attempts(id, &mut deliveries).await?;
        }
        Ok(deliveries)
    }

    async fn read_attempts(
        &self,
        id: ExecutionId,
        deliveries: &mut [Delivery],
    ) -> Result<(), StoreError> {
        let statement = self
            .build(
                "SELECT execution_id, delivery, number, started_at, duration_micros, status_code, \
                 error FROM delivery_attempts WHERE execution_id = ",
            )
            .bind(id.to_string())
            .text(" ORDER BY delivery, number")
            .statement();
        for row in self.query(statement).await?.rows {
            let mut reader = Reader::new("delivery_attempts", row);
            reader.text("execution_id")?;
            let delivery: u32 = reader.number("delivery")?;
            let attempt = Attempt {
                number: reader.number("number")?,
                started_at: reader.time("started_at")?,
                duration_micros: reader.number("duration_micros")?,
                status_code: reader.optional_number("status_code")?,
                error: reader.optional_text("error")?,
            };
            if let Some(of) = deliveries.iter_mut().find(|d| d.number == delivery) {
                of.attempts.push(attempt);
            }
        }
        Ok(())
    }
}
