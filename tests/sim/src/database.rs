//! The database as an instance reaches it: slow, busy, full or away at times; every write is looked at.

use std::rc::Rc;

use rusqlite::config::DbConfig;
use store::testing::Sqlite;
use store::{Dialect, Rows, Sql, SqlError, Statement, Value};

use crate::checks;
use crate::mutant::{self, Mutant};
use crate::platform::Instance;
use crate::world::World;

/// The longest a statement takes when the database is slow, in milliseconds.
const SLOW_MS: i64 = 900;

/// How long after it was told that the lease is another's a tick may still begin to look for work, in milliseconds:
/// the answer itself takes its time.
const LEASE_SLACK_MS: i64 = SLOW_MS + 100;

/// An instance's connection.
pub struct Database {
    /// Where.
    pub world: Rc<World>,
    /// Whose.
    pub instance: Rc<Instance>,
}

impl Sql for Database {
    fn dialect(&self) -> Dialect {
        self.world.sqlite.dialect()
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        let statements = self.before(vec![statement]).await?;
        let changes = statements.iter().any(changes_records);
        let statement = statements.into_iter().next().expect("as many as before");
        let about_lease = statement.sql.starts_with("INSERT INTO leases");
        let mut answer = self.world.sqlite.query(statement).await;
        self.after(changes).await?;
        if about_lease {
            self.after_lease(&mut answer);
        }
        answer
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        let statements = self.before(statements).await?;
        let changes = statements.iter().any(changes_records);
        let believed = statements.last().map(mutant::all_stored);
        let mut answer = self.world.sqlite.transaction(statements).await;
        self.after(changes).await?;
        if self.world.mutant == Some(Mutant::LossTakenForWritten) {
            let believed = believed.filter(|rows| !rows.is_empty());
            if let (Ok(answers), Some(rows)) = (&mut answer, believed) {
                let columns = Vec::new();
                *answers = Some(vec![Rows { columns, rows }]);
            }
        }
        answer
    }
}

impl Database {
    /// What goes wrong before anything is done.
    async fn before(&self, mut statements: Vec<Statement>) -> Result<Vec<Statement>, SqlError> {
        let world = &self.world;
        let (busy, full, slow) = {
            let faults = world.faults.borrow();
            let mut chance = world.chance.borrow_mut();
            (
                chance.per_mille(faults.busy),
                chance.per_mille(faults.full),
                chance.per_mille(faults.sql_slow),
            )
        };
        self.pass(slow).await;
        let away = world.store_away.get();
        if away.until > world.now() || busy {
            world.note(&format!("{}: the database is busy", self.instance.name));
            return Err(if away.silent {
                SqlError::Unavailable("made up".to_owned())
            } else {
                SqlError::Busy("made up".to_owned())
            });
        }
        if full && statements.iter().any(writes) {
            world.note(&format!("{}: the database is full", self.instance.name));
            return Err(SqlError::Full("made up".to_owned()));
        }
        for statement in &mut statements {
            self.look_at(statement);
            if let Some(mutant) = world.mutant {
                mutant.alter(statement);
            }
        }
        Ok(statements)
    }

    /// What is to be seen afterwards, and what goes wrong when everything is done.
    async fn after(&self, changes: bool) -> Result<(), SqlError> {
        let world = &self.world;
        if changes {
            let news = world.rows.borrow_mut().look(&world.sqlite, world.now());
            for line in news.lines {
                world.note(&format!("{} stored {line}", self.instance.name));
            }
            for what in news.broken {
                world.broken(what);
            }
            checks::places(world);
            for id in news.finished {
                checks::remember(world, &id);
            }
            for id in news.gone {
                checks::forgotten(world, &id);
            }
        }
        let lost = world.faults.borrow().sql_lost;
        let lost = world.chance.borrow_mut().per_mille(lost);
        self.pass(false).await;
        if lost {
            world.note(&format!(
                "{}: the database's answer is lost",
                self.instance.name
            ));
            return Err(SqlError::Unavailable("made up: answer lost".to_owned()));
        }
        Ok(())
    }

    /// The time that a statement takes: none in a quiet world, else others may go first.
    async fn pass(&self, slow: bool) {
        let world = &self.world;
        if !world.faults.borrow().jitter {
            return;
        }
        let milliseconds = {
            let mut chance = world.chance.borrow_mut();
            match (slow, chance.below(4)) {
                (true, _) => chance.between(50, SLOW_MS),
                (_, 0) => chance.between(1, 5),
                (_, 1) => 0,
                _ => return,
            }
        };
        world.sleep(milliseconds).await;
    }

    fn look_at(&self, statement: &Statement) {
        let world = &self.world;
        world.mix(self.instance.name.as_bytes());
        world.mix(statement.sql.as_bytes());
        for value in &statement.params {
            match value {
                Value::Null => world.mix_number(0),
                Value::Integer(number) => world.mix_number(number.cast_unsigned()),
                Value::Real(number) => world.mix_number(number.to_bits()),
                Value::Text(text) => world.mix(text.as_bytes()),
                Value::Blob(bytes) => world.mix(bytes),
            }
        }
        if let Some(counted) = world.counted.borrow_mut().as_mut()
            && writes(statement)
            && !statement.sql.contains("leases")
        {
            let state = statement.sql.contains("INTO state");
            counted.push(if state { "SQL state" } else { "SQL write" }.to_owned());
        }
        let looks_for_work = statement.sql.contains("deadline_at <= ");
        if looks_for_work
            && let Some(lost) = self.instance.lease_lost.get()
            && world.now() > lost + LEASE_SLACK_MS
        {
            world.broken(format!(
                "I9: {} goes on though its lease is another's since {} ms",
                self.instance.name,
                world.now() - lost
            ));
            // Once is enough.
            self.instance.lease_lost.set(None);
        }
    }

    /// Learns from the lease's answer whether this instance has it; lies about it for a mutant.
    fn after_lease(&self, answer: &mut Result<Rows, SqlError>) {
        let Ok(rows) = answer else { return };
        let had_it = self.instance.marks_lease(!rows.rows.is_empty());
        self.instance.lease_lost.set(
            (rows.rows.is_empty() && had_it)
                .then(|| self.instance.lease_lost.get().unwrap_or(self.world.now())),
        );
        if rows.rows.is_empty() && had_it && self.world.mutant == Some(Mutant::LostLeaseIgnored) {
            *rows = Rows {
                columns: vec!["fence".to_owned()],
                rows: vec![vec![Value::Integer(1)]],
            };
        }
    }
}

thread_local! {
    static DATABASE: Sqlite = migrated();
}

/// A database in memory with its schema, and nothing in it. It is the same for all histories of a thread, so that neither the schema
/// is made nor a statement parsed for each: a fifth of their time. One history at a time may have it.
pub fn emptied() -> Sqlite {
    let sqlite = DATABASE.with(Sqlite::clone);
    let connection = sqlite.connection();
    if !connection.is_autocommit() {
        connection
            .execute_batch("ROLLBACK")
            .expect("a transaction was left");
    }
    // The executions first: a trigger counts what goes with them.
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('schema_migrations', 'audit_retention') \
         ORDER BY name <> 'executions', name";
    let mut read = connection.prepare_cached(tables).expect("a schema");
    let names = read.query_map([], |row| row.get::<_, String>(0));
    for name in names.expect("the tables are read") {
        let name = name.expect("a table");
        let empty = format!("DELETE FROM {name}");
        let mut empty = connection.prepare_cached(&empty).expect("a table");
        empty.execute([]).expect("the table is emptied");
    }
    drop(read);
    connection
        .execute("UPDATE audit_retention SET before = 0", [])
        .expect("nothing has been let go");
    sqlite
}

fn migrated() -> Sqlite {
    let sqlite = Sqlite::memory();
    // Else a statement is parsed again whenever the planner might do better with its new values: a third of all time.
    sqlite
        .connection()
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .expect("SQLite takes the setting");
    // In peace: migrations have tests of their own.
    let store = store::ExecutionStore::new(&sqlite);
    store::testing::ready(store.migrate()).expect("the schema is made");
    // Between two histories everything goes, however young.
    let keepers = "DROP TRIGGER audit_kept; DROP TRIGGER audit_retention_forward;";
    let dropped = sqlite.connection().execute_batch(keepers);
    dropped.expect("the triggers are there");
    sqlite
}

/// Triggers change counters alone: what changes a record names its table.
fn changes_records(statement: &Statement) -> bool {
    writes(statement) && statement.sql.contains("executions")
}

fn writes(statement: &Statement) -> bool {
    !statement.sql.starts_with("SELECT")
}
