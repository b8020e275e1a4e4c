//! The list of executions: filters, newest first, in pages that stay stable while others insert.

use domain::{Execution, ExecutionId, Outcome, Reason, Status, Tenant};
use jiff::Timestamp;

use crate::claims::MAX_ROWS;
use crate::rows::{COLUMNS, execution, micros};
use crate::sql::{Builder, Sql};
use crate::{ExecutionStore, StoreError};

/// Which executions to list; each part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// In that status.
    pub status: Option<Status>,
    /// With that outcome.
    pub outcome: Option<Outcome>,
    /// For that reason.
    pub reason: Option<Reason>,
    /// With all these labels, each a key and its value.
    pub labels: Vec<(String, String)>,
    /// Accepted later than that.
    pub created_after: Option<Timestamp>,
    /// Accepted earlier than that.
    pub created_before: Option<Timestamp>,
}

/// A place in the list: the execution that the page before ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Its id.
    pub id: ExecutionId,
}

/// One page of the list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The executions, newest first.
    pub items: Vec<Execution>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<Cursor>,
}

impl<S: Sql> ExecutionStore<S> {
    /// The tenant's executions that the filter lets through, newest first, from the one after `after` on; at
    /// most `limit` and [`MAX_ROWS`]. The cost does not grow with the page's depth.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: &Filter,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, MAX_ROWS);
        // One more than asked for tells whether there is a next page.
        let statement = self
            .build("SELECT ")
            .text(COLUMNS)
            .listed(tenant, filter, after)
            .text(" LIMIT ")
            .bind(limit + 1)
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        let mut items: Vec<Execution> = rows.map(execution).collect::<Result<_, _>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| Cursor {
            created_at: last.created_at,
            id: last.id,
        });
        Ok(Page { items, next })
    }
}

impl Builder {
    /// From the index of the first label where there is one, else from that of the executions; both
    /// are in the order of the list. Of those in an unfinished status there are few, however many have the label.
    fn listed(mut self, tenant: &Tenant, filter: &Filter, after: Option<Cursor>) -> Self {
        let mut labels = filter.labels.iter();
        let from_labels = matches!(filter.status, None | Some(Status::Finished));
        let first = if from_labels { labels.next() } else { None };
        let (created_at, id) = if let Some((name, value)) = first {
            // SQLite takes the tables of a CROSS JOIN in the order in which they are written.
            self = self
                .text(" FROM labels AS first CROSS JOIN executions WHERE id = first.execution_id")
                .text(" AND first.execution_tenant = ")
                .bind(tenant.as_str())
                .text(" AND first.name = ")
                .bind(name.as_str())
                .text(" AND first.value = ")
                .bind(value.as_str());
            ("first.execution_created_at", "first.execution_id")
        } else {
            self = self
                .text(" FROM executions WHERE tenant = ")
                .bind(tenant.as_str());
            ("created_at", "id")
        };
        for (name, value) in labels {
            self = self
                .text(" AND EXISTS (SELECT 1 FROM labels AS other WHERE other.execution_id = id")
                .text(" AND other.name = ")
                .bind(name.as_str())
                .text(" AND other.value = ")
                .bind(value.as_str())
                .text(")");
        }
        let names = [
            ("status", filter.status.map(Status::as_str)),
            ("outcome", filter.outcome.map(Outcome::as_str)),
            ("reason", filter.reason.map(Reason::as_str)),
        ];
        for (column, name) in names {
            if let Some(name) = name {
                self = self.text(" AND ").text(column).text(" = ").bind(name);
            }
        }
        for (comparison, time) in [
            (" > ", filter.created_after),
            (" < ", filter.created_before),
        ] {
            if let Some(time) = time {
                self = self
                    .text(" AND ")
                    .text(created_at)
                    .text(comparison)
                    .bind(micros(time));
            }
        }
        if let Some(cursor) = after {
            self = self
                .text(&format!(" AND ({created_at}, {id}) < ("))
                .bind(micros(cursor.created_at))
                .text(", ")
                .bind(cursor.id.to_string())
                .text(")");
        }
        self.text(&format!(" ORDER BY {created_at} DESC, {id} DESC"))
    }
}
