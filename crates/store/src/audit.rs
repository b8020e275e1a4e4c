//! The audit log: who did what and what was refused, from where; only ever added to, until a record's time is over.
//!
//! What changes something is noted in the write that changes it. That an execution was accepted stands in its own row (`created_by`),
//! so that it costs no other; a trigger notes it when that row goes. Triggers also refuse whatever would change a
//! record, or delete it before the time that `audit_retention` has.

use domain::{Action, ExecutionId, Origin, Tenant, TraceContext};
use jiff::{SignedDuration, Timestamp};

use crate::claims::MAX_ROWS;
use crate::rows::{Column, Reader, address_text, micros, readable};
use crate::sql::{Builder, Sql, Statement, Value};
use crate::{ExecutionStore, StoreError};

/// So many refusals are noted in one minute, and of each kind one: whoever tries tokens by the thousand writes no more than this.
pub const MAX_REFUSALS_PER_MINUTE: u32 = 20;

/// At most this many records go in one transaction: others wait to write meanwhile.
pub const MAX_AUDIT_FORGOTTEN: u32 = 1_000;

/// The columns of a record, in the order that [`read`] takes them.
const RECORD: &str =
    "id, at, actor, actor_name, address, tenant, action, target, problem, traceparent";

/// The same of an execution, as the record of its acceptance.
const ACCEPTANCE: &str = "id, created_at, created_by, created_by_name, created_from, tenant, \
     'execution.create', id AS target, CAST(NULL AS TEXT), traceparent";

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// A UUID of version 7, made at its time; that of an acceptance is the execution's own.
    pub id: ExecutionId,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who asked, and from where.
    pub origin: Origin,
    /// Whose tenant; none where nobody knows who asked.
    pub tenant: Option<Tenant>,
    /// What was asked for.
    pub action: Action,
    /// The id of what it was asked of, if it has one.
    pub target: Option<String>,
    /// Why it was refused: the kind of the problem that answered it; none for what was allowed, and done.
    pub problem: Option<String>,
    /// The trace that the request belonged to.
    pub trace: Option<TraceContext>,
}

/// Which records to list; each part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of that tenant.
    pub tenant: Option<Tenant>,
    /// By that token: its id, or its name where it is one of the settings.
    pub actor: Option<String>,
    /// Of that action.
    pub action: Option<Action>,
    /// Later than that.
    pub after: Option<Timestamp>,
    /// Earlier than that.
    pub before: Option<Timestamp>,
}

/// The names of what a table has for the parts of a filter.
struct Names {
    actor: &'static str,
    at: &'static str,
}

impl<S: Sql> ExecutionStore<S> {
    /// The records, the newest first, in the order of their ids; at most `limit` and [`MAX_ROWS`], older than that one.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        limit: u32,
        before: Option<ExecutionId>,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        let noted = Names {
            actor: "actor",
            at: "at",
        };
        let accepted = Names {
            actor: "created_by",
            at: "created_at",
        };
        let mut whole = self
            .build("SELECT * FROM (SELECT ")
            .text(RECORD)
            .text(" FROM audit WHERE true");
        if let Some(action) = filter.action {
            whole = whole.text(" AND action = ").bind(action.as_str());
        }
        whole = whole.fitting(filter, &noted, limit, before);
        if filter
            .action
            .is_none_or(|action| action == Action::ExecutionCreate)
        {
            whole = whole
                .text(") AS noted UNION ALL SELECT * FROM (SELECT ")
                .text(ACCEPTANCE)
                .text(" FROM executions WHERE created_by IS NOT NULL")
                .fitting(filter, &accepted, limit, before);
        }
        let statement = whole
            .text(") AS accepted ORDER BY id DESC LIMIT ")
            .bind(limit)
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(read))
    }

    /// Notes that something was refused, unless the same was in this minute, or as much as is noted in one. Answers whether it is noted.
    pub async fn note_refusal(&self, record: &AuditRecord) -> Result<bool, StoreError> {
        let minute = record.at.as_second().div_euclid(60);
        let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
        let once = [
            minute.to_string(),
            address_text(&record.origin).unwrap_or_default(),
            text(record.origin.actor.as_deref()),
            record.action.as_str().to_owned(),
            text(record.problem.as_deref()),
        ]
        .join(" ");
        // A flood is seen without waiting for the write lock. The exclamation mark is the character after the blank.
        let look = self
            .build("SELECT count(*), coalesce(max(CASE WHEN once = ")
            .bind(once.as_str())
            .text(" THEN 1 ELSE 0 END), 0) FROM audit WHERE once >= ")
            .bind(format!("{minute} "))
            .text(" AND once < ")
            .bind(format!("{minute}!"))
            .statement();
        let row = self.query_row(look).await?;
        let mut reader = Reader::new("audit", row.unwrap_or_default());
        let (noted, same) = (
            reader.number::<u32>("count")?,
            reader.number::<u32>("once")?,
        );
        if same > 0 || noted >= MAX_REFUSALS_PER_MINUTE {
            return Ok(false);
        }
        let mut columns = columns(record);
        columns.push(("once", once.into()));
        let statement = self
            .insert_rows("audit", vec![columns])
            .text("true ON CONFLICT (once) WHERE once IS NOT NULL DO NOTHING RETURNING id")
            .statement();
        Ok(self.query_row(statement).await?.is_some())
    }

    /// Lets records go that are from before that time, the oldest first, in one transaction; at most [`MAX_AUDIT_FORGOTTEN`]. Answers how
    /// many. From then on none from before it is noted when an execution is forgotten.
    pub async fn forget_audit(&self, before: Timestamp) -> Result<u32, StoreError> {
        // As a rule there is none. A read sees that without waiting for the write lock.
        let look = self
            .build("SELECT 1 FROM audit WHERE ")
            .older(before)
            .text(" ORDER BY id LIMIT 1")
            .statement();
        if self.query_row(look).await?.is_none() {
            return Ok(0);
        }
        let forward = self
            .build("UPDATE audit_retention SET before = ")
            .bind(micros(before))
            .text(" WHERE before < ")
            .bind(micros(before))
            .text(" RETURNING one")
            .statement();
        let delete = self
            .build("DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE ")
            .older(before)
            .text(" ORDER BY id LIMIT ")
            .bind(MAX_AUDIT_FORGOTTEN)
            .text(") RETURNING id")
            .statement();
        let answers = self.transaction(&[forward, delete]).await?;
        let gone = answers
            .and_then(|answers| answers.into_iter().next_back())
            .map_or(0, |answer| answer.rows.len());
        Ok(u32::try_from(gone).unwrap_or(u32::MAX))
    }

    /// Stores a record, up to the condition on which it is done.
    pub(crate) fn note(&self, record: &AuditRecord) -> Builder {
        self.insert_rows("audit", vec![columns(record)])
    }

    /// The part of a write that notes it, if it comes about.
    pub(crate) fn noted(&self, record: &AuditRecord) -> Builder {
        self.note(record).if_changed()
    }

    /// The statements of a write of one statement, and of its record where there is one: all or nothing.
    pub(crate) fn noted_with(
        &self,
        write: Builder,
        record: Option<&AuditRecord>,
    ) -> Vec<Statement> {
        let noted = record.map(|record| self.noted(record));
        self.together(write, noted.into_iter().collect())
    }
}

fn columns(record: &AuditRecord) -> Vec<Column> {
    let text = |text: Option<&str>| -> Value { text.into() };
    vec![
        ("id", record.id.to_string().into()),
        ("at", micros(record.at).into()),
        ("actor", text(record.origin.actor.as_deref())),
        ("actor_name", text(record.origin.name.as_deref())),
        ("address", address_text(&record.origin).into()),
        ("tenant", text(record.tenant.as_ref().map(Tenant::as_str))),
        ("action", record.action.as_str().into()),
        ("target", text(record.target.as_deref())),
        ("problem", text(record.problem.as_deref())),
        ("traceparent", record.trace.map(|t| t.to_string()).into()),
    ]
}

fn read(row: Vec<Value>) -> Result<AuditRecord, StoreError> {
    let mut reader = Reader::new("audit", row);
    let id = reader.text("id")?;
    let id = reader.parsed("id", &id)?;
    let at = reader.time("at")?;
    let origin = reader.origin()?;
    let tenant = reader.optional_text("tenant")?;
    let tenant = tenant.and_then(|name| name.parse().ok());
    let action = reader.text("action")?;
    Ok(AuditRecord {
        id,
        at,
        origin,
        tenant,
        action: reader.name("action", &action, Action::from_name)?,
        target: reader.optional_text("target")?,
        problem: reader.optional_text("problem")?,
        trace: reader
            .optional_text("traceparent")?
            .as_deref()
            .and_then(TraceContext::parse),
    })
}

/// The first id of that time's millisecond.
fn first_of(time: Timestamp) -> String {
    ExecutionId::new(time, [0; 10]).to_string()
}

impl Builder {
    /// From before that time. The id leads to the index, and says the same but for the millisecond.
    fn older(self, time: Timestamp) -> Self {
        self.text("id < ")
            .bind(first_of(time + SignedDuration::from_millis(1)))
            .text(" AND at < ")
            .bind(micros(time))
    }

    /// And that the filter lets through, with the order and the limit of a page.
    fn fitting(
        mut self,
        filter: &AuditFilter,
        names: &Names,
        limit: u32,
        before: Option<ExecutionId>,
    ) -> Self {
        if let Some(tenant) = &filter.tenant {
            self = self.text(" AND tenant = ").bind(tenant.as_str());
        }
        if let Some(actor) = &filter.actor {
            self = self
                .text(&format!(" AND {} = ", names.actor))
                .bind(actor.as_str());
        }
        if let Some(after) = filter.after {
            self = self
                .text(" AND id >= ")
                .bind(first_of(after))
                .text(&format!(" AND {} > ", names.at))
                .bind(micros(after));
        }
        if let Some(time) = filter.before {
            self = self
                .text(" AND id < ")
                .bind(first_of(time + SignedDuration::from_millis(1)))
                .text(&format!(" AND {} < ", names.at))
                .bind(micros(time));
        }
        if let Some(id) = before {
            self = self.text(" AND id < ").bind(id.to_string());
        }
        self.text(" ORDER BY id DESC LIMIT ").bind(limit)
    }
}
