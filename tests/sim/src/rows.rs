//! The records as they are stored, looked at after every write: forward only, one generation at a time.

use std::collections::BTreeMap;

use store::testing::Sqlite;

/// One record at one generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Counts from 1.
    pub generation: i64,
    /// `QUEUED`, `RUNNING` or `FINISHED`.
    pub status: String,
    /// When it was seen finished, in milliseconds of the true time.
    pub finished_seen: Option<i64>,
    /// Everything that a status write may change, in one text.
    content: String,
}

/// All of them, by id.
#[derive(Default)]
pub struct Rows {
    seen: BTreeMap<String, Row>,
}

const READ: &str = "SELECT id, generation, status, coalesce(outcome, '') || ' ' || coalesce(reason, '') || \
     ' exit=' || coalesce(exit_code, '') || ' uid=' || coalesce(job_uid, '') || \
     ' dispatched=' || coalesce(dispatched_at, '') || ' started=' || coalesce(started_at, '') || \
     ' finished=' || coalesce(finished_at, '') || ' log=' || coalesce(log_bytes, '') || '-' || \
     coalesce(log_lost_bytes, '') || '-' || coalesce(log_complete, '') || ' ' || \
     coalesce(waiting_kind, '') || ' ' || coalesce(waiting_message, '') || ' ' || coalesce(message, '') \
     FROM executions ORDER BY id";

fn rank(status: &str) -> usize {
    ["QUEUED", "RUNNING", "FINISHED"]
        .iter()
        .position(|s| *s == status)
        .unwrap_or(usize::MAX)
}

impl Rows {
    /// Looks at all records; answers what is new, one line each, and what must not be.
    pub fn look(&mut self, sqlite: &Sqlite, now: i64) -> (Vec<String>, Vec<String>) {
        let (mut news, mut broken) = (Vec::new(), Vec::new());
        let mut read = sqlite.connection().prepare_cached(READ).expect("a schema");
        let rows = read.query_map([], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, String>(2)?,
                row.get::<_, String>(3)?,
            ))
        });
        let rows: Vec<_> = rows
            .expect("the records are read")
            .map(|row| row.expect("a record"))
            .collect();
        let gone = self
            .seen
            .iter()
            .filter(|(id, _)| !rows.iter().any(|row| row.0 == **id));
        for (id, row) in gone {
            if row.status != "FINISHED" {
                broken.push(format!("I1: {id} is gone, and was {}", row.status));
            }
        }
        for (id, generation, status, content) in rows {
            let before = self.seen.get(&id);
            if before.is_some_and(|b| {
                b.generation == generation && b.status == status && b.content == content
            }) {
                continue;
            }
            news.push(format!(
                "{} gen {generation} {status} {content}",
                short(&id)
            ));
            if let Some(before) = before {
                let wrong = if before.status == "FINISHED" {
                    Some("what is finished changed")
                } else if generation != before.generation + 1 {
                    Some("it was changed without the next generation")
                } else if rank(&status) < rank(&before.status) {
                    Some("its status went back")
                } else {
                    None
                };
                if let Some(wrong) = wrong {
                    let was = format!("{} {}", before.status, before.content);
                    broken.push(format!(
                        "I3: {wrong}: {id} generation {} {was} -> {generation} {status} {content}",
                        before.generation
                    ));
                }
            }
            let finished_seen = (status == "FINISHED").then_some(now);
            let row = Row {
                generation,
                status,
                finished_seen,
                content,
            };
            self.seen.insert(id, row);
        }
        (news, broken)
    }

    /// As last seen.
    pub fn all(&self) -> &BTreeMap<String, Row> {
        &self.seen
    }
}

/// Enough of an id for people: its random end, since those of one history begin alike.
pub fn short(id: &str) -> &str {
    id.get(id.len().saturating_sub(6)..).unwrap_or(id)
}
