//! Mistakes made on purpose, by altering what leaves the use cases: each must be caught, and each invariant must
//! catch one.
//!
//! | invariant | mistakes that it catches |
//! |---|---|
//! | I1: ends within its bound, and is kept until then | [`NoRecovery`](Mutant::NoRecovery), [`VersionKeptAfterFailure`](Mutant::VersionKeptAfterFailure), [`MissForgotten`](Mutant::MissForgotten), [`ForgottenEarly`](Mutant::ForgottenEarly), [`LossTakenForWritten`](Mutant::LossTakenForWritten) |
//! | I2: at most one start | [`NoDoubt`](Mutant::NoDoubt) |
//! | I3: only forward, and what is finished stays | [`NoCompareAndSet`](Mutant::NoCompareAndSet) |
//! | I4: the outcome is the script's own end | [`GuessedSuccess`](Mutant::GuessedSuccess), [`NamespaceDropped`](Mutant::NamespaceDropped) |
//! | I5: the log is exact or flagged | [`LogCut`](Mutant::LogCut), [`DeletedBeforeLogRead`](Mutant::DeletedBeforeLogRead) |
//! | I6: same key, same id | [`KeyDropped`](Mutant::KeyDropped) |
//! | I7: nothing of ours is left, nothing of others touched | [`OrphanedPods`](Mutant::OrphanedPods), [`NoUidPrecondition`](Mutant::NoUidPrecondition), [`DatabaseIgnored`](Mutant::DatabaseIgnored), [`ListForgotten`](Mutant::ListForgotten) |
//! | I8: quiet means quiet | [`VersionDropped`](Mutant::VersionDropped) |
//! | I9: only the lease's holder looks for work | [`LostLeaseIgnored`](Mutant::LostLeaseIgnored) |
//! | I10: every webhook is told, as the record has it | [`WebhookUnsent`](Mutant::WebhookUnsent) |
//! | I11: no more have a place than may | [`LimitIgnored`](Mutant::LimitIgnored) |
//! | I12: a full list comes to its end, however many ticks it takes | [`ListBegunAnew`](Mutant::ListBegunAnew) |
//!
//! A new one is a variant, an entry of [`Mutant::ALL`], the place where it alters something, and its row here.

use std::fmt;
use std::str::FromStr;

use store::{Statement, Value};

use crate::world::OWN_NAMESPACE;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Status writes do not compare the generation, nor whether it is finished.
    NoCompareAndSet,
    /// Deletions have no uid for a precondition.
    NoUidPrecondition,
    /// Jobs are deleted without their pods and ConfigMaps.
    OrphanedPods,
    /// A tick whose lease was lost goes on.
    LostLeaseIgnored,
    /// The Job is deleted before its log is read.
    DeletedBeforeLogRead,
    /// That a creation may still arrive is not noted, so names are free as soon as Jobs are deleted.
    NoDoubt,
    /// The resourceVersion is stored though what it stands for is not carried out yet, or failed.
    VersionKeptAfterFailure,
    /// Nobody takes up a creation whose instance died.
    NoRecovery,
    /// Records are forgotten as soon as they are finished.
    ForgottenEarly,
    /// A script that fails is said to have ended well.
    GuessedSuccess,
    /// The last byte of a log's head is not stored, and nothing says so.
    LogCut,
    /// Idempotency keys are not stored.
    KeyDropped,
    /// Whose Job it is does not matter to the sweeper.
    DatabaseIgnored,
    /// No resourceVersion is stored, so that each tick begins with a full list.
    VersionDropped,
    /// Webhooks count as delivered and are not sent.
    WebhookUnsent,
    /// What has a place is not counted.
    LimitIgnored,
    /// How far the full list is is not stored.
    ListBegunAnew,
    /// What a tick has left of the full list is passed over.
    ListForgotten,
    /// That something was missed which only another list tells is not stored.
    MissForgotten,
    /// Of steps that are written together, those whose row was another's meanwhile are taken for written.
    LossTakenForWritten,
    /// The namespace that an execution is accepted for is not stored, so that ticks go by another one.
    NamespaceDropped,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::NoCompareAndSet,
        Self::NoUidPrecondition,
        Self::OrphanedPods,
        Self::LostLeaseIgnored,
        Self::DeletedBeforeLogRead,
        Self::NoDoubt,
        Self::VersionKeptAfterFailure,
        Self::NoRecovery,
        Self::ForgottenEarly,
        Self::GuessedSuccess,
        Self::LogCut,
        Self::KeyDropped,
        Self::DatabaseIgnored,
        Self::VersionDropped,
        Self::WebhookUnsent,
        Self::LimitIgnored,
        Self::ListBegunAnew,
        Self::ListForgotten,
        Self::MissForgotten,
        Self::LossTakenForWritten,
        Self::NamespaceDropped,
    ];

    /// Makes the mistake where it is one of a statement.
    pub fn alter(self, statement: &mut Statement) {
        let sql = &statement.sql;
        match self {
            Self::NoCompareAndSet => {
                let altered = sql
                    .replace(" AND generation = ", " AND 0 <= ")
                    .replace("executions.generation = ", "0 <= ")
                    .replace(" AND status <> 'FINISHED' RETURNING", " RETURNING")
                    .replace(
                        " AND executions.status <> 'FINISHED' RETURNING",
                        " RETURNING",
                    );
                statement.sql = altered.into();
            }
            Self::NoRecovery => {
                let never = " AND claim_until < 0 AND 0 <= ";
                statement.sql = sql.replace(" AND claim_until <= ", never).into();
            }
            Self::NoDoubt => {
                statement.sql = sql
                    .replace("creation_in_doubt = 1", "creation_in_doubt = 0")
                    .into();
            }
            Self::LimitIgnored => {
                statement.sql = sql
                    .replace("label = 'dispatched'), 0)", "label = ''), 0)")
                    .into();
            }
            Self::ForgottenEarly if sql.contains("ttl_seconds * 1000000 <= ") => {
                statement.params[0] = Value::Integer(i64::MAX);
            }
            Self::GuessedSuccess if statement.params.contains(&"NonZeroExit".into()) => {
                for value in &mut statement.params {
                    match value {
                        Value::Text(text) if text == "FAILED" => *value = "SUCCEEDED".into(),
                        Value::Text(text) if text == "NonZeroExit" => *value = "Completed".into(),
                        _ => {}
                    }
                }
            }
            Self::LogCut if sql.starts_with("INSERT INTO logs") => {
                let blobs = statement.params.iter_mut();
                // The head comes before the tail.
                let head = blobs.filter_map(|value| match value {
                    Value::Blob(bytes) => Some(bytes),
                    _ => None,
                });
                if let Some(head) = head.into_iter().next() {
                    head.pop();
                }
            }
            Self::KeyDropped
                if sql.contains("INSERT INTO new_executions")
                    || sql.starts_with("INSERT INTO executions") =>
            {
                let keys = |value: &&mut Value| matches!(value, Value::Text(text) if text.starts_with("key-"));
                statement
                    .params
                    .iter_mut()
                    .filter(keys)
                    .for_each(|key| *key = Value::Null);
            }
            Self::NamespaceDropped
                if sql.contains("INSERT INTO new_executions")
                    || sql.starts_with("INSERT INTO executions") =>
            {
                let named = |value: &&mut Value| **value == OWN_NAMESPACE.into();
                let names = statement.params.iter_mut().filter(named);
                names.for_each(|name| *name = Value::Null);
            }
            Self::VersionDropped
                if sql.starts_with("INSERT INTO state")
                    && statement.params[0] == "podsResourceVersion".into() =>
            {
                statement.params[1] = "".into();
            }
            Self::ListBegunAnew if is_listing(statement) => {
                let again = text_of(&statement.params[1]).contains("\"again\":true");
                let wanted = if again { "{\"again\":true}" } else { "" };
                statement.params[1] = wanted.into();
            }
            Self::MissForgotten if is_listing(statement) => {
                let text = text_of(&statement.params[1]);
                let known = text.replace("\"again\":true", "\"again\":false");
                let is_over = known.contains("\"pass\":null");
                statement.params[1] = if is_over { "" } else { known.as_str() }.into();
            }
            _ => {}
        }
    }
}

/// The ids of the steps that a statement stores together, each with the answer that it was stored; none of any other statement.
pub fn all_stored(statement: &Statement) -> Vec<Vec<Value>> {
    let rows = statement.sql.split_once("FROM (VALUES ");
    let rows = rows.and_then(|(_, rest)| rest.split_once(") AS given WHERE executions.id = "));
    let Some((rows, _)) = rows else {
        return Vec::new();
    };
    let count = rows.split("), (").count();
    let ids = statement.params.chunks(statement.params.len() / count);
    ids.map(|row| vec![row[0].clone(), Value::Integer(0)])
        .collect()
}

/// Whether it stores how far the full list is.
fn is_listing(statement: &Statement) -> bool {
    statement.sql.starts_with("INSERT INTO state") && statement.params[0] == "listing".into()
}

fn text_of(value: &Value) -> &str {
    match value {
        Value::Text(text) => text,
        _ => "",
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mutant| mutant.to_string() == text)
            .ok_or_else(|| format!("no such mutant; there are {:?}", Self::ALL))
    }
}
