//! Brings the database's schema up to date, also when several processes start at once.

use crate::rows::Reader;
use crate::sql::{Builder, Dialect, Sql, SqlError, Statement};
use crate::{ExecutionStore, StoreError};

/// A step of the schema. Steps are never changed once released, only added.
struct Migration {
    /// Counted from 1. A number is left out where the step that had it never came to be.
    version: i64,
    name: &'static str,
    /// Statements, each ended by a semicolon at the end of a line after which no indented line comes: those within a trigger
    /// are its own. Lines that begin with `--` are comments.
    text: &'static str,
}

const SQLITE: &[Migration] = &[
    Migration {
        version: 1,
        name: "executions",
        text: include_str!("../migrations/sqlite/0001_executions.sql"),
    },
    Migration {
        version: 2,
        name: "priority",
        text: include_str!("../migrations/sqlite/0002_priority.sql"),
    },
    Migration {
        version: 3,
        name: "cancel and expiry",
        text: include_str!("../migrations/sqlite/0003_cancel_and_expiry.sql"),
    },
    Migration {
        version: 4,
        name: "webhooks",
        text: include_str!("../migrations/sqlite/0004_webhooks.sql"),
    },
    Migration {
        version: 5,
        name: "events",
        text: include_str!("../migrations/sqlite/0005_events.sql"),
    },
    Migration {
        version: 6,
        name: "retries",
        text: include_str!("../migrations/sqlite/0006_retries.sql"),
    },
    Migration {
        version: 7,
        name: "run timeouts",
        text: include_str!("../migrations/sqlite/0007_run_timeouts.sql"),
    },
    Migration {
        version: 8,
        name: "counters",
        text: include_str!("../migrations/sqlite/0008_counters.sql"),
    },
    Migration {
        version: 9,
        name: "followed logs",
        text: include_str!("../migrations/sqlite/0009_followed_logs.sql"),
    },
    Migration {
        version: 10,
        name: "creation in doubt",
        text: include_str!("../migrations/sqlite/0010_creation_in_doubt.sql"),
    },
    Migration {
        version: 11,
        name: "places",
        text: include_str!("../migrations/sqlite/0011_places.sql"),
    },
    Migration {
        version: 12,
        name: "tenants",
        text: include_str!("../migrations/sqlite/0012_tenants.sql"),
    },
    Migration {
        version: 13,
        name: "measures",
        text: include_str!("../migrations/sqlite/0013_measures.sql"),
    },
    Migration {
        version: 14,
        name: "audit",
        text: include_str!("../migrations/sqlite/0014_audit.sql"),
    },
    Migration {
        version: 15,
        name: "accepting",
        text: include_str!("../migrations/sqlite/0015_accepting.sql"),
    },
];

/// Nothing was released on PostgreSQL before version 10, so its first step makes the tables of all ten. Later steps have
/// the numbers of SQLite's.
const POSTGRES: &[Migration] = &[
    Migration {
        version: 10,
        name: "executions",
        text: include_str!("../migrations/postgres/0010_executions.sql"),
    },
    Migration {
        version: 11,
        name: "places",
        text: include_str!("../migrations/postgres/0011_places.sql"),
    },
    Migration {
        version: 12,
        name: "tenants",
        text: include_str!("../migrations/postgres/0012_tenants.sql"),
    },
    Migration {
        version: 13,
        name: "measures",
        text: include_str!("../migrations/postgres/0013_measures.sql"),
    },
    Migration {
        version: 14,
        name: "audit",
        text: include_str!("../migrations/postgres/0014_audit.sql"),
    },
    Migration {
        version: 15,
        name: "accepting",
        text: include_str!("../migrations/postgres/0015_accepting.sql"),
    },
];

/// Lets one process at a time make steps of the schema, until its commit. The number is "migr" in ASCII, and the schema's.
const MIGRATION_TURN: &str =
    "SELECT pg_advisory_xact_lock(1835624306, hashtext(current_schema()))::TEXT";

/// How often the change to WAL is tried. It fails at once, without the host's busy timeout, while
/// another process writes; between two tries that process is waited for.
const WAL_TRIES: u32 = 20;

impl Dialect {
    const fn migrations(self) -> &'static [Migration] {
        match self {
            Self::Sqlite => SQLITE,
            Self::Postgres => POSTGRES,
        }
    }

    /// The number of the last step that this version knows.
    pub(crate) fn newest(self) -> i64 {
        self.migrations().last().map_or(0, |m| m.version)
    }
}

impl Migration {
    /// One by one, since Spin runs only the first statement of a text and says nothing.
    fn statements(&self) -> Vec<String> {
        let code = self
            .text
            .lines()
            .filter(|line| !line.trim_start().starts_with("--") && !line.trim().is_empty());
        let mut statements: Vec<String> = Vec::new();
        for line in code {
            match statements.last_mut() {
                Some(last) if line.starts_with(' ') || !last.ends_with(';') => {
                    last.push('\n');
                    last.push_str(line);
                }
                _ => statements.push(line.to_owned()),
            }
        }
        let without_end = |statement: String| statement.trim_end_matches(';').to_owned();
        statements.into_iter().map(without_end).collect()
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// Brings the schema up to date. Costs one read when it is; may be called by any number of
    /// processes at once. A newer schema than this version knows is left as it is: migrations only add.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let migrations = self.sql.dialect().migrations();
        let newest = self.sql.dialect().newest();
        match self.version().await {
            Ok(version) if version >= newest => return Ok(()),
            // An empty database has no table to read from; if the reason is another, what follows
            // fails as well and says why.
            Ok(_) | Err(StoreError::Sql(SqlError::Schema(_) | SqlError::Other(_))) => {}
            Err(error) => return Err(error),
        }
        self.use_wal().await?;
        self.make_version_table().await?;
        let version = self.version().await?;
        for migration in migrations.iter().filter(|m| m.version > version) {
            // Whoever stores the version first makes the step; for the others nothing is changed.
            let mut statements = self.migration_turn();
            statements.push(self.take_version(migration));
            let steps = migration.statements();
            statements.extend(steps.iter().map(|step| self.build(step).statement()));
            self.transaction_as_it_is(&statements).await?;
        }
        Ok(())
    }

    async fn make_version_table(&self) -> Result<(), StoreError> {
        let integer = match self.sql.dialect() {
            Dialect::Sqlite => "INTEGER",
            Dialect::Postgres => "BIGINT",
        };
        let table = format!(
            "CREATE TABLE IF NOT EXISTS schema_migrations \
             (version {integer} PRIMARY KEY NOT NULL, name TEXT NOT NULL)"
        );
        let mut statements = self.migration_turn();
        statements.push(self.build(&table).statement());
        self.transaction_as_it_is(&statements).await?;
        Ok(())
    }

    /// SQLite has one writer at a time. In PostgreSQL two who make one table at once hurt a constraint of the catalogue,
    /// IF NOT EXISTS or not.
    fn migration_turn(&self) -> Vec<Statement> {
        match self.sql.dialect() {
            Dialect::Sqlite => Vec::new(),
            Dialect::Postgres => vec![self.build(MIGRATION_TURN).statement()],
        }
    }

    /// Answers when the database does, and has its tables.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.sql.query(self.version_statement()).await?;
        Ok(())
    }

    fn take_version(&self, migration: &Migration) -> Statement {
        self.build("INSERT INTO schema_migrations (version, name) VALUES (")
            .bind(migration.version)
            .text(", ")
            .bind(migration.name)
            .text(") ON CONFLICT (version) DO NOTHING RETURNING version")
            .must_change()
    }

    fn version_statement(&self) -> Statement {
        self.build("SELECT coalesce(max(version), 0) FROM schema_migrations")
            .statement()
    }

    async fn version(&self) -> Result<i64, StoreError> {
        let answer = self.query_as_it_is(&self.version_statement()).await?;
        let row = answer.rows.into_iter().next().unwrap_or_default();
        Reader::new("schema_migrations", row).integer("version")
    }

    /// Readers and the one writer do not hinder each other in WAL, and a commit is one sync. The
    /// mode is kept in the file. `synchronous` stays FULL: a power cut loses nothing accepted.
    async fn use_wal(&self) -> Result<(), StoreError> {
        match self.sql.dialect() {
            Dialect::Sqlite => {}
            Dialect::Postgres => return Ok(()),
        }
        let mut last = String::new();
        for _ in 0..WAL_TRIES {
            let pragma = self.build("PRAGMA journal_mode = WAL").statement();
            match self.sql.query(pragma).await {
                Err(SqlError::Busy(text)) => last = text,
                Err(SqlError::Unavailable(text)) => return Err(SqlError::Unavailable(text).into()),
                // A server behind the same interface, such as libSQL, chooses its mode itself.
                Ok(_) | Err(_) => return Ok(()),
            }
            // Unlike the pragma, a transaction that will write waits until the other is done.
            let read = self.build("SELECT count(*) FROM sqlite_master").statement();
            self.transaction_as_it_is(&[read]).await?;
        }
        Err(SqlError::Busy(last).into())
    }
}

impl Builder {
    /// That every step of the schema is made that this version knows. On an older one a new row could go without what a step has
    /// triggers for, and nothing would fail.
    pub(crate) fn up_to_date(self) -> Self {
        let newest = self.dialect().newest();
        self.text(&format!(
            "EXISTS (SELECT 1 FROM schema_migrations WHERE version = {newest})"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_without_gaps() {
        for (expected, migration) in (1..).zip(SQLITE) {
            assert_eq!(migration.version, expected, "{}", migration.name);
        }
    }

    #[test]
    fn every_step_since_version_10_is_made_in_every_dialect() {
        let since = |migrations: &[Migration]| -> Vec<i64> {
            let versions = migrations.iter().map(|m| m.version);
            versions.filter(|version| *version >= 10).collect()
        };
        assert_eq!(since(POSTGRES), since(SQLITE));
    }

    #[test]
    fn what_is_accepted_has_all_that_is_read_back() {
        // Whoever gives a column that the newest of them does not name gives it for nothing.
        for (dialect, made, before, behind) in [
            (Dialect::Sqlite, "new_executions_insert", "NEW.", ","),
            (Dialect::Postgres, "accept_executions(", " ", ","),
        ] {
            let texts = dialect.migrations().iter().map(|m| m.text);
            let newest = texts.rev().find(|text| text.contains(made));
            let words = newest.expect("it is made").replace(['\n', ')'], ",");
            for column in crate::rows::COLUMNS.split(", ") {
                // Nobody is in doubt of what was not begun.
                let named = words.contains(&format!("{before}{column}{behind}"));
                assert!(named || column == "creation_in_doubt", "{column} in {made}");
            }
        }
    }

    #[test]
    fn a_text_is_split_into_single_statements() {
        let migration = Migration {
            version: 1,
            name: "test",
            text: "-- a; b\nCREATE TABLE a (b TEXT);\n\n  -- c\nCREATE TABLE d\n(e TEXT);\n\
                   CREATE TRIGGER f AFTER INSERT ON a\n    BEGIN\n    DELETE FROM d;\n    -- g\n    END;\nDROP TABLE h;",
        };
        assert_eq!(
            migration.statements(),
            [
                "CREATE TABLE a (b TEXT)",
                "CREATE TABLE d\n(e TEXT)",
                "CREATE TRIGGER f AFTER INSERT ON a\n    BEGIN\n    DELETE FROM d;\n    END",
                "DROP TABLE h",
            ]
        );
    }
}
