//! The durable copy: one SQLite file, written through, safe against a crash of the process (not of the machine).

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::storage::Key;

/// resourceVersions are reserved in blocks, so that one write covers many and a restart never repeats one.
const VERSION_BLOCK: u64 = 10_000;

/// Longest wait for the database's lock, in seconds: a predecessor that was just killed may still hold it.
const BUSY_SECONDS: u64 = 5;

/// The SQLite file of one state folder.
pub struct Persist {
    connection: Connection,
    reserved: u64,
    failure: Option<String>,
}

impl Persist {
    /// Opens or creates the file.
    pub fn open(file: &Path) -> Result<Self, String> {
        let connection = Connection::open(file).map_err(text)?;
        connection
            .busy_timeout(std::time::Duration::from_secs(BUSY_SECONDS))
            .map_err(text)?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
                 CREATE TABLE IF NOT EXISTS objects (resource TEXT, namespace TEXT, name TEXT, json TEXT NOT NULL,
                     PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
                 CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;",
            )
            .map_err(text)?;
        Ok(Self {
            connection,
            reserved: 0,
            failure: None,
        })
    }

    /// Every stored object.
    pub fn load(&mut self) -> Result<Vec<Value>, String> {
        let mut statement = self
            .connection
            .prepare("SELECT json FROM objects")
            .map_err(text)?;
        let rows = statement
            .query_map([], |row| row.get::<_, String>(0))
            .map_err(text)?;
        rows.map(|row| serde_json::from_str(&row.map_err(text)?).map_err(|e| e.to_string()))
            .collect()
    }

    /// The highest resourceVersion that may have been given out before; reserves the block above `version` or that.
    pub fn reserve_versions(&mut self, version: u64) -> Result<u64, String> {
        let stored: Option<String> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'version'", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(text)?;
        let start = stored
            .and_then(|s| s.parse().ok())
            .unwrap_or(0)
            .max(version);
        self.reserved = start + VERSION_BLOCK;
        self.connection
            .execute(
                "INSERT OR REPLACE INTO meta VALUES ('version', ?1)",
                params![self.reserved.to_string()],
            )
            .map_err(text)?;
        Ok(start)
    }

    /// Notes that `version` is given out, reserving more when the block is used up.
    pub fn use_version(&mut self, version: u64) {
        if version >= self.reserved {
            let result = self.reserve_versions(version).map(|_| ());
            self.note(result);
        }
    }

    /// Writes one object.
    pub fn put(&mut self, key: &Key, object: &Value) {
        let result = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4)")
            .and_then(|mut s| {
                s.execute(params![
                    key.resource.plural(),
                    key.namespace,
                    key.name,
                    object.to_string()
                ])
            });
        self.note(result.map(|_| ()).map_err(text));
    }

    /// Removes one object.
    pub fn remove(&mut self, key: &Key) {
        let result = self
            .connection
            .prepare_cached(
                "DELETE FROM objects WHERE resource = ?1 AND namespace = ?2 AND name = ?3",
            )
            .and_then(|mut s| s.execute(params![key.resource.plural(), key.namespace, key.name]));
        self.note(result.map(|_| ()).map_err(text));
    }

    /// Opens a transaction.
    pub fn begin(&mut self) {
        if self.connection.is_autocommit() {
            let result = self
                .connection
                .execute_batch("BEGIN IMMEDIATE")
                .map_err(text);
            self.note(result);
        }
    }

    /// Commits, and answers the first error since the last commit.
    pub fn commit(&mut self) -> Result<(), String> {
        if !self.connection.is_autocommit() {
            let result = self.connection.execute_batch("COMMIT").map_err(text);
            self.note(result);
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn note(&mut self, result: Result<(), String>) {
        if let (Err(error), None) = (result, &self.failure) {
            self.failure = Some(error);
        }
    }
}

fn text(error: rusqlite::Error) -> String {
    format!("state database: {error}")
}
