//! The database as an instance reaches it: slow, busy, full or away at times; every write is looked at.

use std::rc::Rc;

use store::{Dialect, Rows, Sql, SqlError, Statement, Value};

use crate::mutant::Mutant;
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
        let statement = statements.into_iter().next().expect("as many as before");
        let mut answer = self.world.sqlite.query(statement.clone()).await;
        self.after(std::slice::from_ref(&statement)).await?;
        self.after_lease(&statement, &mut answer);
        answer
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        let statements = self.before(statements).await?;
        let answer = self.world.sqlite.transaction(statements.clone()).await;
        self.after(&statements).await?;
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
            self.mutate(statement);
        }
        Ok(statements)
    }

    /// What is to be seen afterwards, and what goes wrong when everything is done.
    async fn after(&self, statements: &[Statement]) -> Result<(), SqlError> {
        let world = &self.world;
        if statements.iter().any(writes) {
            let (news, broken) = world.rows.borrow_mut().look(&world.sqlite, world.now());
            for line in news {
                world.note(&format!("{} stored {line}", self.instance.name));
            }
            for what in broken {
                world.broken(what);
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
        world.mix(format!("{:?}", statement.params).as_bytes());
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

    /// The mistakes that are made on purpose.
    fn mutate(&self, statement: &mut Statement) {
        if self.world.mutant == Some(Mutant::NoCompareAndSet) {
            let sql = statement
                .sql
                .replace(" AND generation = ", " AND 0 <= ")
                .replace("executions.generation = ", "0 <= ")
                .replace(" AND status <> 'FINISHED' RETURNING", " RETURNING");
            statement.sql = sql.into();
        }
    }

    /// Learns from the lease's answer whether this instance has it; lies about it for a mutant.
    fn after_lease(&self, statement: &Statement, answer: &mut Result<Rows, SqlError>) {
        if !statement.sql.starts_with("INSERT INTO leases") {
            return;
        }
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

fn writes(statement: &Statement) -> bool {
    !statement.sql.starts_with("SELECT")
}
