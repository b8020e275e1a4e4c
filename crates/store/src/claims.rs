//! Who works on what: taking executions from the queue, retrying creations, and what is due.
//!
//! A row that cannot be read is passed over as long as the same answer has readable ones, so that
//! it does not stop the work on others; alone, it is the error.

use std::collections::{BTreeMap, HashMap};

use domain::transition::Observation;
use domain::{Execution, ExecutionId, Submission, Tenant, transition};
use jiff::Timestamp;

use crate::places::DISPATCHED;
use crate::rows::{COLUMNS, Reader, changing_columns, count, execution, micros, rank, readable};
use crate::sql::{Builder, Sql, Statement, Value};
use crate::{ExecutionStore, Room, StoreError};

/// The submission of the row that a statement returns.
const BODY: &str = "(SELECT body FROM payloads WHERE execution_id = executions.id)";

/// At most this many are claimed in one call, since each comes with its script and files, about
/// 2 MiB at most, and the host limits an answer (Spin: 128 MiB).
pub const MAX_CLAIMS: u32 = 32;

/// At most this many executions are in one answer without their submissions: 1 KiB each as a rule.
pub const MAX_ROWS: u32 = 1_000;

/// Comes after each id in the order of bytes.
pub(crate) const BEHIND_ALL_IDS: &str = "g";

/// The number of the first changing column in [`dispatch`](ExecutionStore::dispatch)'s rows.
const FIRST_CHANGING: usize = 5;

impl<S: Sql> ExecutionStore<S> {
    /// Takes executions from the queues, of each tenant those of the highest priority first and of them the oldest, and the tenants in turn so that
    /// those with the fewest places go first, while there is room. They are stored as dispatched and claimed until `claim_until`: the caller is
    /// to create their Jobs. At most `limit` and [`MAX_CLAIMS`].
    ///
    /// No two callers get the same one, and the limit holds among all callers. Those postponed
    /// beyond `now` are passed over. When others take from the queue at
    /// the same time, fewer may be given than there was room for. Where there is no room, or nobody waits, it costs two reads of one
    /// index entry each.
    pub async fn claim_queued(
        &self,
        now: Timestamp,
        claim_until: Timestamp,
        room: impl Into<Room<'_>>,
        limit: u32,
    ) -> Result<Vec<(Execution, Submission)>, StoreError> {
        self.wake_postponed(now).await?;
        self.claim_ready(now, claim_until, room, limit).await
    }

    /// As [`claim_queued`](Self::claim_queued) without a look at those that were postponed until `now`: for whoever claims more often
    /// than they need be looked at. It costs one read where there is no room, or nobody waits.
    pub async fn claim_ready(
        &self,
        now: Timestamp,
        claim_until: Timestamp,
        room: impl Into<Room<'_>>,
        limit: u32,
    ) -> Result<Vec<(Execution, Submission)>, StoreError> {
        let room = room.into();
        let candidates = self.candidates(now, room, limit.min(MAX_CLAIMS)).await?;
        let steps: Vec<(&Execution, Execution)> = candidates
            .iter()
            .filter_map(|execution| {
                let next = transition(execution, &Observation::Dispatched, now)?;
                Some((execution, next))
            })
            .collect();
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let told = self.dispatches_told(&steps);
        let next: Vec<Execution> = steps.into_iter().map(|(_, next)| next).collect();
        let dispatch = self
            .dispatch(&next, claim_until, room.max_running)
            .text(" RETURNING id, ")
            .text(BODY);
        let mut statements: Vec<Statement> = self.wait_for_turn().into_iter().collect();
        let dispatched_at = statements.len();
        statements.extend(self.together(dispatch, told.into_iter().collect()));
        let answers = self.transaction(&statements).await?.unwrap_or_default();
        let answer = answers.into_iter().nth(dispatched_at).unwrap_or_default();
        let mut next: HashMap<String, Execution> =
            next.into_iter().map(|e| (e.id.to_string(), e)).collect();
        in_order(readable(answer.rows.into_iter().filter_map(|row| {
            let mut reader = Reader::new("payloads", row);
            let id = reader.text("execution_id");
            let execution = next.remove(&id.ok()?)?;
            Some(reader.submission(execution.id).map(|s| (execution, s)))
        })))
    }

    /// Writes those that still are as they were read, as far as there is room: the one with number n
    /// when n more may run, and of its tenant so many more as well. All in one statement, which reads the count before it writes.
    pub(crate) fn dispatch(
        &self,
        next: &[Execution],
        claim_until: Timestamp,
        max_running: u32,
    ) -> Builder {
        // How many of each tenant there are so far.
        let mut numbers: BTreeMap<&Tenant, i64> = BTreeMap::new();
        let rows = (1_i64..).zip(next).map(|(number, execution)| {
            let of_tenant = numbers.entry(&execution.tenant).or_insert(0_i64);
            *of_tenant += 1;
            let mut values: Vec<Value> = vec![
                number.into(),
                execution.id.to_string().into(),
                count(execution.generation.saturating_sub(1)).into(),
                (*of_tenant).into(),
            ];
            values.extend(changing_columns(execution).into_iter().map(|(_, v)| v));
            values
        });
        let rows = rows.collect();
        let dispatch = self
            .build("UPDATE executions SET ")
            .changing_from("taken", FIRST_CHANGING, &next[0])
            .text(", claim_until = ")
            .bind(micros(claim_until))
            .text(" FROM ")
            .rows("taken", rows)
            .text(
                " WHERE executions.id = taken.column2 \
                 AND executions.generation = taken.column3 AND executions.status <> 'FINISHED' \
                 AND taken.column1 <= ",
            )
            .bind(max_running)
            .text(" - ")
            .running();
        numbers.into_keys().fold(dispatch, |dispatch, tenant| {
            match self.limits(tenant).running {
                Some(most) => dispatch
                    .text(" AND (executions.tenant <> ")
                    .bind(tenant.as_str())
                    .text(" OR taken.column4 <= ")
                    .bind(most)
                    .text(" - ")
                    .running_of(tenant)
                    .text(")"),
                None => dispatch,
            }
        })
    }

    /// Takes executions that are dispatched, unfinished and not canceled, whose Job's uid is not known, and
    /// whose claim has run out: somebody went away between storing the dispatch and storing the uid. They
    /// are claimed for the caller until `claim_until`, and their creation is in doubt from then on; neither changes the
    /// generation. The longest unclaimed first; at most `limit` and [`MAX_CLAIMS`].
    pub async fn claim_unconfirmed(
        &self,
        now: Timestamp,
        claim_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<(Execution, Submission)>, StoreError> {
        // As a rule there is none. A read sees that without waiting for the write lock.
        let look = self
            .build("SELECT 1 FROM executions WHERE ")
            .unclaimed(now)
            // The order leads PostgreSQL to the index, whatever it believes to be there.
            .text(" ORDER BY claim_until, id LIMIT 1")
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(Vec::new());
        }
        let statement = self
            .build("WITH free (free_id) AS (SELECT id FROM executions WHERE ")
            .unclaimed(now)
            .text(" ORDER BY claim_until, id LIMIT ")
            .bind(limit.min(MAX_CLAIMS))
            .skip_locked()
            .text(") UPDATE executions SET creation_in_doubt = 1, claim_until = ")
            .bind(micros(claim_until))
            // Said here as well since PostgreSQL looks at this again when another claimer was first.
            .text(" WHERE claim_until <= ")
            .bind(micros(now))
            .text(" AND id IN (SELECT free_id FROM free) RETURNING ")
            .text(COLUMNS)
            .text(", ")
            .text(BODY)
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        in_order(readable(rows.map(|row| {
            let mut reader = Reader::new("executions", row);
            let execution = reader.execution()?;
            let submission = reader.submission(execution.id)?;
            Ok((execution, submission))
        })))
    }

    /// Notes that a request for its Job may still arrive, whatever becomes of it; that does not change the generation.
    pub async fn doubt_creation(&self, id: ExecutionId) -> Result<(), StoreError> {
        let statement = self
            .build("UPDATE executions SET creation_in_doubt = 1 WHERE id = ")
            .bind(id.to_string())
            .statement();
        self.query(statement).await?;
        Ok(())
    }

    /// The unfinished executions whose clock has run out at `now`, in the order of their deadlines;
    /// at most `limit` and [`MAX_ROWS`].
    pub async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<Execution>, StoreError> {
        self.due_behind(now, None, limit).await
    }

    /// The same without those up to that one: for whoever could not end some of them.
    pub async fn due_behind(
        &self,
        now: Timestamp,
        last: Option<&Execution>,
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        let builder = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM executions WHERE deadline_at <= ")
            .bind(micros(now));
        let last = last.and_then(|last| Some((last.id, last.deadline()?.1)));
        let builder = match last {
            Some((id, at)) => builder
                .text(" AND (deadline_at, id) > (")
                .bind(micros(at))
                .text(", ")
                .bind(id.to_string())
                .text(")"),
            None => builder,
        };
        let statement = builder
            .text(" ORDER BY deadline_at, id LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(execution))
    }
}

/// In the queue's order: RETURNING gives rows in no particular order.
fn in_order(
    claimed: Result<Vec<(Execution, Submission)>, StoreError>,
) -> Result<Vec<(Execution, Submission)>, StoreError> {
    let mut claimed = claimed?;
    claimed.sort_by_key(|(execution, _)| (rank(execution), execution.created_at, execution.id));
    Ok(claimed)
}

impl Builder {
    /// Dispatched, unfinished, not canceled, without a known Job, and claimed by nobody at that time.
    fn unclaimed(self, now: Timestamp) -> Self {
        self.text(DISPATCHED)
            .text(" AND job_uid IS NULL AND cancel_requested_at IS NULL AND claim_until <= ")
            .bind(micros(now))
    }
}
