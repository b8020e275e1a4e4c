//! Where Jobs are: each execution keeps the namespace that it was accepted for, whatever the settings say later.

use domain::{Execution, ExecutionId, Namespace};

use crate::claims::{BEHIND_ALL_IDS, MAX_ROWS};
use crate::places::{DISPATCHED, ELSEWHERE};
use crate::rows::{COLUMNS, Reader, execution, readable};
use crate::sql::{Builder, Sql};
use crate::{ExecutionStore, StoreError};

/// The namespace whose executions are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within<'a> {
    /// Its name.
    pub namespace: &'a str,
    /// Whether it is the one of those whose tenants have none of their own.
    pub is_default: bool,
}

impl<S: Sql> ExecutionStore<S> {
    /// The namespaces of their own that unfinished executions are in; also those that wait, since they may run and end before the next look. Read from one to the next, so that it costs
    /// one index entry for each, however many executions there are.
    pub async fn namespaces_in_use(&self) -> Result<Vec<Namespace>, StoreError> {
        let statement = self
            .build(
                "SELECT in_use.name FROM (WITH RECURSIVE found (name) AS (SELECT (SELECT namespace FROM executions WHERE ",
            )
            .text(ELSEWHERE)
            .text(" ORDER BY namespace LIMIT 1) UNION ALL SELECT (SELECT namespace FROM executions WHERE ")
            .text(ELSEWHERE)
            .text(
                " AND namespace > found.name ORDER BY namespace LIMIT 1) FROM found WHERE found.name IS NOT NULL) \
                 SELECT name FROM found WHERE name IS NOT NULL) AS in_use",
            )
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        let names = rows.map(|row| Reader::new("executions", row).namespace());
        // One that cannot be read is no name that Kubernetes takes: nothing is there.
        Ok(names.filter_map(Result::ok).flatten().collect())
    }

    /// The unfinished executions whose Job exists or existed in that namespace, in the order of their ids, from the
    /// one after `after` on, up to `upto`; at most `limit` and [`MAX_ROWS`].
    pub async fn unfinished_dispatched(
        &self,
        within: Within<'_>,
        after: Option<ExecutionId>,
        upto: Option<ExecutionId>,
        limit: u32,
    ) -> Result<Vec<Execution>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .text(" FROM executions WHERE ")
            .within(within)
            .text(" AND job_uid IS NOT NULL AND id > ")
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .text(" AND id <= ")
            .bind(upto.map_or_else(|| BEHIND_ALL_IDS.to_owned(), |id| id.to_string()))
            .text(" ORDER BY id LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(execution))
    }
}

impl Builder {
    /// Dispatched, unfinished, and in that namespace: by the index of the one or of the others.
    fn within(self, within: Within<'_>) -> Self {
        if within.is_default {
            // Somebody may have given a tenant the one of all by its name.
            self.text(DISPATCHED)
                .text(" AND (namespace IS NULL OR namespace = ")
                .bind(within.namespace)
                .text(")")
        } else {
            self.text(ELSEWHERE)
                .text(" AND dispatched_at IS NOT NULL AND namespace = ")
                .bind(within.namespace)
        }
    }
}
