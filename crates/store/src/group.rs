//! Steps of several executions that are stored at once: one transaction on SQLite, one statement on PostgreSQL.
//!
//! A tick that drains a queue stores what happens to a hundred executions at a time, and each write has a price of its own: the way
//! to the database and back, the lock, the disk. Here each row has its own compare-and-set, and what belongs to a step is written
//! where that one has come about: those that were too late neither hold up the others nor are taken for written.

use std::collections::{HashMap, HashSet};

use domain::{Execution, Status};

use crate::events::told_rows;
use crate::rows::{Reader, changing_columns, count};
use crate::sql::{Builder, Dialect, Sql, Statement, Value};
use crate::{ExecutionStore, MAX_ROWS, Step, StoreError, StoredLog};

/// The number of the first changing column in the rows of the write.
const FIRST_CHANGING: usize = 4;

/// One of several steps.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The step.
    pub step: Step<'a>,
    /// The log, of one that is finished by it.
    pub log: Option<&'a StoredLog>,
}

/// What became of one of several steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Landed {
    /// It is stored, with all that belongs to it.
    Stored {
        /// Whether a request for its Job may still arrive, as the store has it now; no generation says so.
        creation_in_doubt: bool,
    },
    /// Nothing of it is: another generation is stored, or it is finished, or gone. Read it again.
    NotStored,
}

impl<S: Sql> ExecutionStore<S> {
    /// Stores the next generations of several executions, each if the one before it is stored now, as [`update`](Self::update)
    /// does, or, where there is a log, as [`finish`](Self::finish). Gives what became of each, in their order. Of several steps of
    /// one execution only the first is tried; of more than [`MAX_ROWS`] none behind these.
    ///
    /// What the cluster counts by itself is told by [`add_events`](Self::add_events) alone, and never here; what somebody has done and is to
    /// be [noted](Step::noted) is written by itself.
    ///
    /// # Errors
    /// When the database does not do it. As a rule nothing is stored then; it may be one of them alone that keeps all from it.
    pub async fn write_all(&self, changes: &[Change<'_>]) -> Result<Vec<Landed>, StoreError> {
        let mut ids = HashSet::new();
        let tried: Vec<&Change<'_>> = changes
            .iter()
            .filter(|change| ids.insert(change.step.next.id))
            .take(MAX_ROWS as usize)
            .collect();
        if tried.is_empty() {
            return Ok(Vec::new());
        }
        let statements = self.group(&tried);
        let answers = self.run_all(&statements).await?.unwrap_or_default();
        let mut landed = HashMap::new();
        for row in answers.into_iter().next_back().unwrap_or_default().rows {
            let mut reader = Reader::new("executions", row);
            let id = reader.text("id")?;
            let creation_in_doubt = reader.integer("creation_in_doubt")? != 0;
            landed.insert(id, Landed::Stored { creation_in_doubt });
        }
        // Each is stored once: what comes later of the same execution finds nothing.
        let became = changes.iter().map(|change| {
            let id = change.step.next.id.to_string();
            landed.remove(&id).unwrap_or(Landed::NotStored)
        });
        Ok(became.collect())
    }

    /// On SQLite what belongs to the steps comes first, by the same condition: nobody else writes meanwhile.
    fn group(&self, changes: &[&Change<'_>]) -> Vec<Statement> {
        let steps = self.set_all(changes);
        let mut parts: Vec<Builder> = self.all_told(changes).into_iter().collect();
        let ends: Vec<(&Execution, &StoredLog)> = changes
            .iter()
            .filter_map(|change| Some((change.step.next, change.log?)))
            .collect();
        if !ends.is_empty() {
            parts.push(self.logs_of(&ends));
            parts.push(self.forget_followed_of(&ends));
            parts.push(self.first_deliveries(&ends));
            parts.push(self.count_all_finished(&ends));
        }
        match self.sql().dialect() {
            Dialect::Postgres => self.together(steps, parts),
            Dialect::Sqlite => {
                let parts = parts.into_iter().map(Builder::statement);
                parts.chain([steps.must_change()]).collect()
            }
        }
    }

    /// The compare-and-sets. A claim ends when the Job's uid is known, or when it is not dispatched any more.
    fn set_all(&self, changes: &[&Change<'_>]) -> Builder {
        self.build("UPDATE executions SET ")
            .changing_from("given", FIRST_CHANGING, changes[0].step.next)
            .text(", claim_until = claim_until * given.column3 FROM ")
            .rows("given", changes.iter().copied().map(changed_row).collect())
            .text(
                " WHERE executions.id = given.column1 AND executions.generation = given.column2 \
                 AND executions.status <> 'FINISHED' RETURNING id, creation_in_doubt",
            )
    }

    /// What the timelines say of the steps; none where that is nothing.
    fn all_told(&self, changes: &[&Change<'_>]) -> Option<Builder> {
        let rows = changes.iter().map(|change| change.step);
        let rows: Vec<Vec<Value>> = rows
            .flat_map(|step| told_rows(step.next, step.entries))
            .collect();
        (!rows.is_empty()).then(|| self.tell_all(rows, Builder::if_given))
    }

    fn logs_of(&self, ends: &[(&Execution, &StoredLog)]) -> Builder {
        self.build("INSERT INTO logs (execution_id, head, tail) SELECT given.column1, given.column3, given.column4 FROM ")
            .given(ends, |(_, log)| {
                vec![log.head.clone().into(), log.tail.clone().into()]
            })
            .text(" WHERE ")
            .if_given()
            .text(
                " ON CONFLICT (execution_id) DO UPDATE SET head = excluded.head, tail = excluded.tail",
            )
    }

    fn forget_followed_of(&self, ends: &[(&Execution, &StoredLog)]) -> Builder {
        self.build("DELETE FROM followed_logs WHERE execution_id IN (SELECT given.column1 FROM ")
            .given(ends, |_| Vec::new())
            .text(" WHERE ")
            .if_given()
            .text(")")
    }
}

/// A row of the write: the [`key`], whether its Job is in doubt from then on, and the changing columns.
fn changed_row(change: &Change<'_>) -> Vec<Value> {
    debug_assert!(change.step.noted.is_none(), "it is written by itself");
    let mut next = change.step.next.clone();
    next.log = change.log.map_or(next.log, |log| Some(log.summary()));
    let unconfirmed = next.is_dispatched() && next.job_uid.is_none();
    let mut values = key(&next);
    values.push(unconfirmed.into());
    values.extend(changing_columns(&next).into_iter().map(|(_, value)| value));
    values
}

/// What a row begins with: the id, and the generation that is to be stored now.
pub(crate) fn key(next: &Execution) -> Vec<Value> {
    debug_assert!(next.generation > 0, "something is stored before it");
    vec![
        next.id.to_string().into(),
        count(next.generation.saturating_sub(1)).into(),
    ]
}

impl Builder {
    /// The ends as the table `given`: their [`key`], and what else is wanted of each.
    pub(crate) fn given(
        self,
        ends: &[(&Execution, &StoredLog)],
        more: impl Fn(&(&Execution, &StoredLog)) -> Vec<Value>,
    ) -> Self {
        let row = |end: &(&Execution, &StoredLog)| {
            debug_assert_eq!(end.0.status, Status::Finished, "it ends with this");
            key(end.0).into_iter().chain(more(end)).collect()
        };
        self.rows("given", ends.iter().map(row).collect())
    }

    /// The condition that the step of a row of `given` comes about: on PostgreSQL that it has, which the statement itself says; on
    /// SQLite that it will, since the parts come before it and nobody else writes meanwhile.
    pub(crate) fn if_given(self) -> Self {
        match self.dialect() {
            Dialect::Postgres => {
                self.text("EXISTS (SELECT 1 FROM changed WHERE changed.id = given.column1)")
            }
            Dialect::Sqlite => self.text(
                "EXISTS (SELECT 1 FROM executions WHERE executions.id = given.column1 \
                 AND executions.generation = given.column2 AND executions.status <> 'FINISHED')",
            ),
        }
    }
}
