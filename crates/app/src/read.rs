//! Reading executions: one, one when it is finished, many.

use std::collections::HashMap;
use std::time::Duration;

use domain::{AttemptRecord, Execution, ExecutionId, Status};
use jiff::Timestamp;
use store::{Cursor, Filter, Page};

use crate::{App, Caller, Error, Platform, Runtime};

/// The first look after the start of a wait comes after this, and each pause is a fifth longer than the one before: so what waiting adds
/// to an end is about a fifth of the time that it took, while that is short.
const WAIT_FIRST_INTERVAL: Duration = Duration::from_millis(15);

/// A waiter looks at least this often: what waiting adds to an end stays a fraction of a second.
const WAIT_LAST_INTERVAL: Duration = Duration::from_millis(200);

/// An execution as a caller sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The record.
    pub execution: Execution,
    /// Its place in the queue, from 1, while it is there for its first attempt.
    pub queue_position: Option<u64>,
    /// The attempts before the one that it is at, in their order.
    pub earlier: Vec<AttemptRecord>,
}

impl<P: Platform> App<P> {
    /// The execution of that id, if the caller's tenant has one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, caller: &Caller, id: ExecutionId) -> Result<Option<View>, Error> {
        match self.store.get_of(&caller.tenant, id).await? {
            Some(execution) => Ok(Some(self.view(execution).await?)),
            None => Ok(None),
        }
    }

    /// The record with what is computed for the reader.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn view(&self, execution: Execution) -> Result<View, Error> {
        let queue_position = self.store.queue_position(&execution).await?;
        let earlier = self.attempts_before(std::slice::from_ref(&execution));
        let earlier = earlier.await?.remove(&execution.id).unwrap_or_default();
        Ok(View {
            execution,
            queue_position,
            earlier,
        })
    }

    /// The same of many, as lists show them: without their places in the queue.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn views(&self, executions: Vec<Execution>) -> Result<Vec<View>, Error> {
        let mut earlier = self.attempts_before(&executions).await?;
        let view = |execution: Execution| View {
            queue_position: None,
            earlier: earlier.remove(&execution.id).unwrap_or_default(),
            execution,
        };
        Ok(executions.into_iter().map(view).collect())
    }

    /// One read for all that are at a later attempt, and none where there is no such one.
    pub(crate) async fn attempts_before(
        &self,
        executions: &[Execution],
    ) -> Result<HashMap<ExecutionId, Vec<AttemptRecord>>, Error> {
        let later = executions.iter().filter(|e| e.attempt > 1);
        let ids: Vec<ExecutionId> = later.map(|e| e.id).collect();
        let mut all: HashMap<_, Vec<_>> = HashMap::new();
        for (id, attempt) in self.store.earlier_attempts(&ids).await? {
            all.entry(id).or_default().push(attempt);
        }
        Ok(all)
    }

    /// The execution once it is finished, or as it is when the limit has passed.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn wait_until_finished(
        &self,
        caller: &Caller,
        id: ExecutionId,
        limit: Duration,
    ) -> Result<Option<View>, Error> {
        let deadline = self
            .runtime
            .now()
            .saturating_add(limit)
            .unwrap_or(Timestamp::MAX);
        let mut interval = WAIT_FIRST_INTERVAL;
        loop {
            let Some(execution) = self.store.get_of(&caller.tenant, id).await? else {
                return Ok(None);
            };
            let left =
                Duration::try_from(deadline.duration_since(self.runtime.now())).unwrap_or_default();
            if execution.status == Status::Finished || left.is_zero() {
                return Ok(Some(self.view(execution).await?));
            }
            self.runtime.sleep(interval.min(left)).await;
            interval = (interval * 6 / 5).min(WAIT_LAST_INTERVAL);
        }
    }

    /// One page of the executions of the caller's tenant, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: &Filter,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Page, Error> {
        let tenant = &caller.tenant;
        Ok(self.store.list(tenant, filter, limit, after).await?)
    }
}
