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
    /// When it was seen gone, in milliseconds of the true time.
    pub gone_seen: Option<i64>,
    /// It waited in the queue when its Job was seen, by a request that had been taken for lost, and has had a place since.
    pub was_taken_late: bool,
    /// Everything that a status write may change, in one text.
    content: String,
}

/// What a look has shown.
#[derive(Default)]
pub struct News {
    /// What is new, one line each.
    pub lines: Vec<String>,
    /// What must not be.
    pub broken: Vec<String>,
    /// The ids of those that are finished now.
    pub finished: Vec<String>,
    /// The ids of those that are gone now.
    pub gone: Vec<String>,
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

/// What a [content](Row::content) has of what is not there.
const NO_UID: &str = " uid= ";
const NOT_DISPATCHED: &str = " dispatched= ";
const NOT_STARTED: &str = " started= ";

fn rank(status: &str) -> usize {
    ["QUEUED", "RUNNING", "FINISHED"]
        .iter()
        .position(|s| *s == status)
        .unwrap_or(usize::MAX)
}

impl Row {
    /// What is wrong with that for what comes next.
    fn wrong_next(&self, generation: i64, status: &str) -> Option<&'static str> {
        if self.gone_seen.is_some() {
            Some("what was gone is there again")
        } else if self.status == "FINISHED" {
            Some("what is finished changed")
        } else if generation != self.generation + 1 {
            Some("it was changed without the next generation")
        } else if rank(status) < rank(&self.status) {
            Some("its status went back")
        } else {
            None
        }
    }
}

impl Rows {
    /// Looks at all records.
    pub fn look(&mut self, sqlite: &Sqlite, now: i64) -> News {
        let mut news = News::default();
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
        for (id, row) in &mut self.seen {
            // Both are in the order of ids.
            let is_there = rows.binary_search_by(|other| other.0.cmp(id)).is_ok();
            if is_there || row.gone_seen.is_some() {
                continue;
            }
            row.gone_seen = Some(now);
            news.lines.push(format!("{} is gone", short(id)));
            news.gone.push(id.clone());
            if row.status != "FINISHED" {
                let was = &row.status;
                news.broken.push(format!("I1: {id} is gone, and was {was}"));
            }
        }
        for (id, generation, status, content) in rows {
            let before = self.seen.get(&id);
            if before.is_some_and(|b| {
                b.gone_seen.is_none()
                    && b.generation == generation
                    && b.status == status
                    && b.content == content
            }) {
                continue;
            }
            let line = format!("{} gen {generation} {status} {content}", short(&id));
            if let Some(before) = before
                && let Some(wrong) = before.wrong_next(generation, &status)
            {
                let was = format!("{} {}", before.status, before.content);
                news.broken.push(format!(
                    "I3: {wrong}: {id} generation {} {was} -> {line}",
                    before.generation
                ));
            }
            news.lines.push(line);
            let was_queued = before.is_some_and(|b| b.content.contains(NOT_DISPATCHED));
            // Whoever dispatches it knows of no Job yet.
            let sees_a_job = !content.contains(NO_UID) || !content.contains(NOT_STARTED);
            let was_taken_late = !content.contains(NOT_DISPATCHED)
                && (was_queued && sees_a_job || before.is_some_and(|b| b.was_taken_late));
            let is_finished = status == "FINISHED";
            if is_finished {
                news.finished.push(id.clone());
            }
            let row = Row {
                generation,
                status,
                finished_seen: is_finished.then_some(now),
                gone_seen: None,
                was_taken_late,
                content,
            };
            self.seen.insert(id, row);
        }
        news
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
