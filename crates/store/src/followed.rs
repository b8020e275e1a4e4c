//! What followers of running scripts have read of their logs: stored so that others can read on from there.

use domain::{ExecutionId, Namespace};

use crate::rows::{Reader, count};
use crate::sql::{Builder, Sql, Statement};
use crate::{ExecutionStore, MAX_ROWS, StoreError};

/// At most this many are stored in one transaction, since others wait to write meanwhile. Most logs are short; whoever has
/// long ones, of up to 2 MiB, gives a few at a time.
const MAX_SAVED: usize = 64;

/// On PostgreSQL the write of an end does not see, and so does not delete, what was stored while it waited for its row. That is
/// left there until the record is forgotten, and counts for nothing.
///
/// Each is asked for by its id: an EXISTS is one with a join to PostgreSQL, which then reads all executions where it believes, as of a table
/// so small that it is never analyzed, that many logs are followed.
const UNFINISHED: &str = "(SELECT status FROM executions WHERE id = execution_id) <> 'FINISHED'";

/// The log of a script that runs, as far as it was read. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FollowedLog {
    /// The pod's name.
    pub pod: String,
    /// Its uid: a log goes on in the same pod only.
    pub pod_uid: String,
    /// Its beginning.
    pub head: Vec<u8>,
    /// Whether what comes next is no part of the beginning.
    pub head_is_closed: bool,
    /// The last of what was read after it.
    pub tail: Vec<u8>,
    /// How many bytes were read, or are known to be lost.
    pub bytes: u64,
    /// The time of the last line, as Kubernetes wrote it; none before the first one.
    pub stamp: Option<String>,
    /// How many bytes of lines with that time were read.
    pub stamp_bytes: u64,
    /// Tells them from others.
    pub stamp_check: u64,
}

/// What is stored of the log of an unfinished execution, and where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedOf {
    /// Whose it is.
    pub id: ExecutionId,
    /// The namespace of its pod, as its execution has it.
    pub namespace: Option<Namespace>,
    /// What was read.
    pub log: FollowedLog,
}

impl<S: Sql> ExecutionStore<S> {
    /// Stores what was read of running executions' logs, over what was stored of them before; of the same pod only where
    /// there is more. Of one that is finished meanwhile nothing is stored. Changes no generation.
    pub async fn save_followed(
        &self,
        logs: &[(ExecutionId, FollowedLog)],
    ) -> Result<(), StoreError> {
        for some in logs.chunks(MAX_SAVED) {
            let statements: Vec<Statement> = some
                .iter()
                .map(|(id, log)| self.followed_statement(*id, log))
                .collect();
            self.transaction(&statements).await?;
        }
        Ok(())
    }

    fn followed_statement(&self, id: ExecutionId, log: &FollowedLog) -> Statement {
        self.build(
            "INSERT INTO followed_logs (execution_id, pod, pod_uid, head, head_is_closed, tail, bytes, stamp, \
             stamp_bytes, stamp_check) SELECT id, ",
        )
        .bind(log.pod.as_str())
        .text(", ")
        .bind(log.pod_uid.as_str())
        .text(", ")
        .bind(log.head.clone())
        .text(", ")
        .bind(i64::from(log.head_is_closed))
        .text(", ")
        .bind(log.tail.clone())
        .text(", ")
        .bind(count(log.bytes))
        .text(", ")
        .bind(log.stamp.as_deref())
        .text(", ")
        .bind(count(log.stamp_bytes))
        .text(", ")
        .bind(log.stamp_check.cast_signed())
        .text(" FROM executions WHERE id = ")
        .bind(id.to_string())
        .text(
            " AND status <> 'FINISHED'",
        )
        // Its end, where it is just being stored, is waited for and seen.
        .postgres(" FOR SHARE")
        .text(
            " ON CONFLICT (execution_id) DO UPDATE SET pod = excluded.pod, \
             pod_uid = excluded.pod_uid, head = excluded.head, head_is_closed = excluded.head_is_closed, \
             tail = excluded.tail, bytes = excluded.bytes, stamp = excluded.stamp, \
             stamp_bytes = excluded.stamp_bytes, stamp_check = excluded.stamp_check \
             WHERE excluded.bytes > followed_logs.bytes OR excluded.pod_uid <> followed_logs.pod_uid",
        )
        .statement()
    }

    /// What was read of the log of an unfinished execution.
    pub async fn followed(&self, id: ExecutionId) -> Result<Option<FollowedLog>, StoreError> {
        let found = self.followed_many(&[id]).await?;
        Ok(found.into_iter().next().map(|found| found.log))
    }

    /// What was read of the logs of those executions that are unfinished, in no particular order. Each may be 2 MiB, and a host limits an
    /// answer, so whoever asks for many asks for a few at a time.
    pub async fn followed_many(&self, ids: &[ExecutionId]) -> Result<Vec<FollowedOf>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let statement = self
            .build(
                "SELECT execution_id, pod, pod_uid, head, head_is_closed, tail, bytes, stamp, stamp_bytes, \
                 stamp_check, (SELECT namespace FROM executions WHERE id = execution_id) FROM followed_logs WHERE execution_id IN (",
            )
            .commas(ids, |b, id| b.bind(id.to_string()))
            .text(")")
            .postgres(" AND ")
            .postgres(UNFINISHED)
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        rows.map(|row| {
            let mut reader = Reader::new("followed_logs", row);
            let id = reader.text("execution_id")?;
            let id = reader.parsed("execution_id", &id)?;
            let log = FollowedLog {
                pod: reader.text("pod")?,
                pod_uid: reader.text("pod_uid")?,
                head: reader.blob("head")?,
                head_is_closed: reader.integer("head_is_closed")? != 0,
                tail: reader.blob("tail")?,
                bytes: reader.number("bytes")?,
                stamp: reader.optional_text("stamp")?,
                stamp_bytes: reader.number("stamp_bytes")?,
                stamp_check: reader.integer("stamp_check")?.cast_unsigned(),
            };
            let namespace = reader.namespace()?;
            Ok(FollowedOf { id, namespace, log })
        })
        .collect()
    }

    /// The unfinished executions of whose logs something is stored, the oldest first; at most `limit` and [`MAX_ROWS`].
    pub async fn followed_ids(&self, limit: u32) -> Result<Vec<ExecutionId>, StoreError> {
        let statement = self
            .build("SELECT execution_id FROM followed_logs")
            .postgres(" WHERE ")
            .postgres(UNFINISHED)
            .text(" ORDER BY execution_id LIMIT ")
            .bind(limit.min(MAX_ROWS))
            .statement();
        let rows = self.query(statement).await?.rows.into_iter();
        rows.map(|row| {
            let mut reader = Reader::new("followed_logs", row);
            let id = reader.text("execution_id")?;
            reader.parsed("execution_id", &id)
        })
        .collect()
    }

    /// What was read of a log while the script ran is not needed once its end is stored.
    pub(crate) fn forget_followed(&self, id: ExecutionId) -> Builder {
        self.build("DELETE FROM followed_logs WHERE execution_id = ")
            .bind(id.to_string())
            .text(" AND ")
            .if_changed()
    }
}
