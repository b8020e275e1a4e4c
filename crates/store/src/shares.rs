//! Whose turn it is where several tenants wait: those have it who have the fewest places, so that no queue of one keeps another's waiting.
//!
//! What each tenant has is a counter, kept by triggers (`migrations/*/0013_tenants.sql`); the default tenant has what is left of all. Which
//! tenants wait is read from the index of the queue, from one to the next, whatever waits of each.

use std::collections::{BTreeMap, VecDeque};

use domain::{Execution, Limits, Tenant};
use jiff::{SignedDuration, Timestamp};

use crate::places::{DISPATCHED, POSTPONED, READY};
use crate::rows::{COLUMNS, Reader, execution, micros, readable};
use crate::sql::{Builder, Dialect, Sql, Statement};
use crate::{ExecutionStore, StoreError};

/// What a tenant may submit in, and how much of it at once.
const MINUTE: SignedDuration = SignedDuration::from_secs(60);

/// How many places the tenants but the default one have, together.
const OTHERS: &str = "(SELECT CAST(coalesce(sum(value), 0) AS BIGINT) FROM counters WHERE name = 'tenant dispatched')";

/// A limit of its tenant's own that keeps something from being accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// No more than so many of the tenant may wait.
    Queue(u32),
    /// No more than so many may be submitted in a minute.
    Rate {
        /// How many.
        per_minute: u32,
        /// After so many seconds there may be room for the same.
        wait_seconds: u32,
    },
}

/// For whom there is room among those that run at once.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// How many may be dispatched and unfinished.
    pub max_running: u32,
    /// Of these tenants no more than so many are taken now, whatever they may have.
    pub held: Option<&'a BTreeMap<Tenant, u32>>,
}

impl From<u32> for Room<'_> {
    fn from(max_running: u32) -> Self {
        Self {
            max_running,
            held: None,
        }
    }
}

/// A tenant of whom something waits.
#[derive(Debug)]
struct Waiting {
    tenant: Tenant,
    /// How many places it has.
    running: u32,
    /// How many it may have.
    most: u32,
}

impl<S: Sql> ExecutionStore<S> {
    /// What the settings allow that tenant.
    pub(crate) fn limits(&self, tenant: &Tenant) -> Limits {
        self.tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// The first of the queues, no more than there is room for now: of each tenant in the order of its queue, and place for place
    /// the tenant's who then has the fewest.
    pub(crate) async fn candidates(
        &self,
        now: Timestamp,
        room: Room<'_>,
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        let (mut waiting, running) = self.waiting_tenants().await?;
        for one in &mut waiting {
            if let Some(more) = room.held.and_then(|held| held.get(&one.tenant)) {
                one.most = one.most.min(one.running.saturating_add(*more));
            }
        }
        let room = limit.min(room.max_running.saturating_sub(running));
        waiting.retain(|one| one.running < one.most);
        if room == 0 || waiting.is_empty() {
            return Ok(Vec::new());
        }
        // Of those who have as many, another one is the first each time.
        let turn = usize::try_from(now.as_millisecond().unsigned_abs()).unwrap_or(0);
        let turn = turn % waiting.len();
        waiting.rotate_left(turn);
        waiting.sort_by_key(|one| one.running);
        waiting.truncate(usize::try_from(room).unwrap_or(usize::MAX));
        let rows = self.query(self.heads(&waiting, room)).await?.rows;
        let heads = readable(rows.into_iter().map(execution))?;
        Ok(dealt(heads, waiting, room))
    }

    /// The tenants of whom something is ready, and how many places all have.
    async fn waiting_tenants(&self) -> Result<(Vec<Waiting>, u32), StoreError> {
        let statement = self
            .build(
                "SELECT waiting.name, coalesce((SELECT value FROM counters \
                 WHERE counters.name = 'tenant dispatched' AND label = waiting.name), 0), ",
            )
            .text(OTHERS)
            .text(", ")
            .running()
            .text(
                " FROM (WITH RECURSIVE found (name) AS (SELECT (SELECT tenant FROM executions WHERE ",
            )
            .text(READY)
            .text(
                " ORDER BY tenant LIMIT 1) UNION ALL SELECT (SELECT tenant FROM executions WHERE ",
            )
            .text(READY)
            .text(
                " AND tenant > found.name ORDER BY tenant LIMIT 1) FROM found WHERE found.name IS NOT NULL) \
                 SELECT name FROM found WHERE name IS NOT NULL) AS waiting",
            )
            .statement();
        let mut waiting = Vec::new();
        let mut all = 0;
        for row in self.query(statement).await?.rows {
            let mut reader = Reader::new("counters", row);
            let tenant = reader.tenant()?;
            let (own, others) = (reader.integer("value")?, reader.integer("value")?);
            let running = reader.integer("value")?;
            let own = match tenant.as_str() {
                Tenant::DEFAULT => running - others,
                _ => own,
            };
            all = u32::try_from(running.max(0)).unwrap_or(u32::MAX);
            let most = self.limits(&tenant).running.unwrap_or(u32::MAX);
            waiting.push(Waiting {
                tenant,
                running: u32::try_from(own.max(0)).unwrap_or(u32::MAX),
                most,
            });
        }
        Ok((waiting, all))
    }

    /// The first of each of their queues, as many as they may get.
    fn heads(&self, waiting: &[Waiting], room: u32) -> Statement {
        let mut builder = self.build("");
        for (number, one) in waiting.iter().enumerate() {
            let before = if number == 0 { "" } else { " UNION ALL " };
            builder = builder
                .text(before)
                .text("SELECT * FROM (SELECT ")
                .text(COLUMNS)
                .text(" FROM executions WHERE ")
                .text(READY)
                .text(" AND tenant = ")
                .bind(one.tenant.as_str())
                // A number, by which PostgreSQL chooses the index.
                .text(" ORDER BY rank, created_at, id LIMIT ")
                .bind(room.min(one.most - one.running))
                .text(&format!(") AS queue_{number}"));
        }
        builder.statement()
    }

    /// How much of what the tenant may submit in a minute so many are, in microseconds; none where there is no such limit.
    pub(crate) fn rate_cost(&self, tenant: &Tenant, count: u32) -> Option<i64> {
        let per_minute = self.limits(tenant).per_minute?;
        Some(cost(per_minute, count))
    }

    /// Takes so many from what the tenant may submit in a minute, and gives a row where there was as much; none where there is no such
    /// limit. What was not submitted for a minute is not saved up for longer.
    pub(crate) fn take_from_rate(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        count: u32,
    ) -> Option<Builder> {
        let (cost, now) = (self.rate_cost(tenant, count)?, micros(now));
        let greatest = self.sql().dialect().greatest();
        let taken = |b: Builder| {
            b.text(greatest)
                .text("(rates.busy_until, ")
                .bind(now)
                .text(") + ")
                .bind(cost)
        };
        let builder = self
            .build("INSERT INTO rates (tenant, busy_until) SELECT ")
            .bind(tenant.as_str())
            .text(", ")
            .bind(now.saturating_add(cost))
            .text(if cost <= minute() {
                " WHERE true"
            } else {
                " WHERE false"
            })
            .text(" ON CONFLICT (tenant) DO UPDATE SET busy_until = ");
        let builder = taken(builder).text(" WHERE ");
        Some(
            taken(builder)
                .text(" <= ")
                .bind(now.saturating_add(minute()))
                .text(" RETURNING busy_until"),
        )
    }

    /// Which limit of its own keeps the tenant from so many more, if one does.
    pub(crate) async fn limited(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        count: u32,
    ) -> Result<Option<Limited>, StoreError> {
        let limits = self.limits(tenant);
        if let Some(per_minute) = limits.per_minute {
            let look = self
                .build("SELECT tenant, busy_until FROM rates WHERE tenant = ")
                .bind(tenant.as_str())
                .statement();
            let busy_until = match self.query_row(look).await? {
                Some(row) => {
                    let mut reader = Reader::new("rates", row);
                    reader.text("tenant")?;
                    reader.integer("busy_until")?
                }
                None => 0,
            };
            let now = micros(now);
            let over = busy_until.max(now) - now + cost(per_minute, count) - minute();
            if over > 0 {
                let seconds = u32::try_from((over + 999_999) / 1_000_000).unwrap_or(u32::MAX);
                return Ok(Some(Limited::Rate {
                    per_minute,
                    wait_seconds: seconds.clamp(1, 60),
                }));
            }
        }
        let Some(most) = limits.queued else {
            return Ok(None);
        };
        let look = self
            .build("SELECT 1 WHERE true")
            .tenants_queue_takes(tenant, count, Some(most));
        let is_full = self.query_row(look.statement()).await?.is_none();
        Ok(is_full.then_some(Limited::Queue(most)))
    }

    /// The same as it is seen before anything is written, on SQLite where the tenant has a rate: who is over it asks the most often, and a transaction that
    /// comes to nothing keeps everybody else from writing. On PostgreSQL it keeps nobody.
    pub(crate) async fn limited_at_a_look(
        &self,
        tenant: &Tenant,
        now: Timestamp,
        count: u32,
    ) -> Result<Option<Limited>, StoreError> {
        let has_rate = self.limits(tenant).per_minute.is_some();
        if has_rate && self.sql().dialect() == Dialect::Sqlite {
            return self.limited(tenant, now, count).await;
        }
        Ok(None)
    }

    /// Counts the tenants' places anew.
    pub(crate) fn recount_tenants(&self) -> [Statement; 2] {
        let others = format!("FROM executions WHERE {DISPATCHED} AND tenant <> 'default'");
        let none = format!(
            "UPDATE counters SET value = 0 WHERE name = 'tenant dispatched' AND value <> 0 \
             AND label NOT IN (SELECT tenant {others})"
        );
        let some = format!(
            "INSERT INTO counters (name, label, value) \
             SELECT 'tenant dispatched', tenant, count(*) {others} GROUP BY tenant \
             ON CONFLICT (name, label) DO UPDATE SET value = excluded.value WHERE counters.value <> excluded.value"
        );
        [none, some].map(|text| self.build(&text).statement())
    }
}

/// A minute, in microseconds.
fn minute() -> i64 {
    i64::try_from(MINUTE.as_micros()).unwrap_or(i64::MAX)
}

/// How long so many fill a rate of that many in a minute, in microseconds.
fn cost(per_minute: u32, count: u32) -> i64 {
    minute() / i64::from(per_minute.max(1)) * i64::from(count)
}

/// So many of them, place for place the first of the tenant who has the fewest.
fn dealt(heads: Vec<Execution>, mut waiting: Vec<Waiting>, room: u32) -> Vec<Execution> {
    let mut queues: BTreeMap<Tenant, VecDeque<Execution>> = BTreeMap::new();
    for execution in heads {
        let queue = queues.entry(execution.tenant.clone()).or_default();
        queue.push_back(execution);
    }
    let mut dealt = Vec::new();
    for _ in 0..room {
        // Of several it is the first.
        let next = waiting
            .iter_mut()
            .filter(|one| one.running < one.most)
            .filter(|one| {
                queues
                    .get(&one.tenant)
                    .is_some_and(|queue| !queue.is_empty())
            })
            .min_by_key(|one| one.running);
        let Some(next) = next else {
            break;
        };
        next.running += 1;
        dealt.extend(queues.get_mut(&next.tenant).and_then(VecDeque::pop_front));
    }
    dealt
}

impl Builder {
    /// How many places that tenant has.
    pub(crate) fn running_of(self, tenant: &Tenant) -> Self {
        match tenant.as_str() {
            Tenant::DEFAULT => self.text("(").running().text(" - ").text(OTHERS).text(")"),
            name => self
                .text("coalesce((SELECT value FROM counters WHERE name = 'tenant dispatched' AND label = ")
                .bind(name)
                .text("), 0)"),
        }
    }

    /// And the tenant has a place left, where it may not have any number.
    pub(crate) fn tenant_has_room(self, tenant: &Tenant, limits: &Limits) -> Self {
        match limits.running {
            Some(most) => self.text(" AND ").running_of(tenant).text(" < ").bind(most),
            None => self,
        }
    }

    /// And so many more make it no more than that many of the tenant's in the queue. Counts no further than it must.
    pub(crate) fn tenants_queue_takes(self, tenant: &Tenant, more: u32, most: Option<u32>) -> Self {
        let Some(most) = most else {
            return self;
        };
        let counted = |b: Self, which: &str, name: &str| {
            b.text("(SELECT count(*) FROM (SELECT 1 FROM executions WHERE ")
                .text(which)
                .text(" AND tenant = ")
                .bind(tenant.as_str())
                .text(" LIMIT ")
                .bind(most)
                .text(") AS ")
                .text(name)
                .text(")")
        };
        let builder = counted(self.text(" AND "), READY, "ready").text(" + ");
        counted(builder, POSTPONED, "postponed")
            .text(" + ")
            .bind(more)
            .text(" <= ")
            .bind(most)
    }
}
