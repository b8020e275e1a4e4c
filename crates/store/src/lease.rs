//! Leases, for what only one may do at a time, and the reconciler's small facts.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::rows::{Reader, count, micros};
use crate::sql::Sql;
use crate::{ExecutionStore, StoreError};

/// A lease that the caller holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Grows each time the lease is taken anew; stays when it is renewed in time.
    pub fence: i64,
}

/// A lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseRow {
    /// Who has it, or had it last.
    pub holder: String,
    /// Which taking it is.
    pub fence: i64,
    /// When the holder took it.
    pub acquired_at: Timestamp,
    /// When the holder last renewed it.
    pub renewed_at: Timestamp,
    /// When others may take it; 1970 once it was given back.
    pub expires_at: Timestamp,
    /// What all who have given it back have spent.
    pub spent: Spent,
}

/// What the holders of a lease have spent while they had it. Those that never gave it back have noted nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many of them there were.
    pub terms: u64,
    /// How long they had it, in microseconds.
    pub micros: u64,
    /// Statements to the database.
    pub statements: u64,
    /// Requests to the API server.
    pub requests: u64,
    /// Watches among those that the API server has granted.
    pub watches: u64,
    /// What went wrong and was left to the next.
    pub failures: u64,
}

impl Spent {
    /// Each with its column.
    fn columns(&self) -> [(&'static str, u64); 6] {
        [
            ("terms", self.terms),
            ("micros", self.micros),
            ("statements", self.statements),
            ("requests", self.requests),
            ("watches", self.watches),
            ("failures", self.failures),
        ]
    }
}

impl<S: Sql> ExecutionStore<S> {
    /// Takes the lease if nobody has it or it has expired at `now`, or renews it for the same
    /// holder; none when somebody else has it. One statement.
    ///
    /// Every holder needs a name of its own, two ticks of one process included.
    pub async fn acquire_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let now = micros(now);
        let statement = self
            .build(
                "INSERT INTO leases (name, holder, fence, acquired_at, renewed_at, expires_at) VALUES (",
            )
            .bind(name)
            .text(", ")
            .bind(holder)
            .text(", 1, ")
            .bind(now)
            .text(", ")
            .bind(now)
            .text(", ")
            .bind(micros(expires))
            // `renewed_at` of the new row is now. In SET and WHERE, `leases` is the row before.
            .text(
                ") ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, \
                 fence = leases.fence + CASE WHEN leases.expires_at <= excluded.renewed_at \
                 THEN 1 ELSE 0 END, \
                 acquired_at = CASE WHEN leases.expires_at <= excluded.renewed_at \
                 THEN excluded.acquired_at ELSE leases.acquired_at END, \
                 renewed_at = excluded.renewed_at, expires_at = excluded.expires_at \
                 WHERE leases.expires_at <= excluded.renewed_at OR leases.holder = excluded.holder \
                 RETURNING fence",
            )
            .statement();
        let Some(row) = self.query_row(statement).await? else {
            return Ok(None);
        };
        let fence = Reader::new("leases", row).integer("fence")?;
        Ok(Some(Lease { fence }))
    }

    /// Gives the lease back, if that holder has it, and notes what was spent in that time.
    pub async fn release_lease(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        spent: &Spent,
    ) -> Result<(), StoreError> {
        let statement = self
            .build("UPDATE leases SET expires_at = 0, renewed_at = ")
            .bind(micros(now))
            .text(", ")
            .commas(spent.columns(), |b, (column, value)| {
                b.text(&format!("{column} = {column} + "))
                    .bind(count(value))
            })
            .text(" WHERE name = ")
            .bind(name)
            .text(" AND holder = ")
            .bind(holder)
            .statement();
        self.query(statement).await?;
        Ok(())
    }

    /// The lease as it is stored; none when nobody ever had it.
    pub async fn lease(&self, name: &str) -> Result<Option<LeaseRow>, StoreError> {
        let statement = self
            .build(
                "SELECT holder, fence, acquired_at, renewed_at, expires_at, \
                 terms, micros, statements, requests, watches, failures FROM leases WHERE name = ",
            )
            .bind(name)
            .statement();
        let Some(row) = self.query_row(statement).await? else {
            return Ok(None);
        };
        let mut reader = Reader::new("leases", row);
        Ok(Some(LeaseRow {
            holder: reader.text("holder")?,
            fence: reader.integer("fence")?,
            acquired_at: reader.time("acquired_at")?,
            renewed_at: reader.time("renewed_at")?,
            expires_at: reader.time("expires_at")?,
            spent: Spent {
                terms: reader.number("terms")?,
                micros: reader.number("micros")?,
                statements: reader.number("statements")?,
                requests: reader.number("requests")?,
                watches: reader.number("watches")?,
                failures: reader.number("failures")?,
            },
        }))
    }

    /// A small fact by its name, such as a resource version.
    pub async fn get_state(&self, key: &str) -> Result<Option<String>, StoreError> {
        let statement = self
            .build("SELECT value FROM state WHERE name = ")
            .bind(key)
            .statement();
        let row = self.query_row(statement).await?;
        row.map(|row| Reader::new("state", row).text("value"))
            .transpose()
    }

    /// Several of them in one statement, in the order of `keys`.
    pub async fn get_states<const N: usize>(
        &self,
        keys: [&str; N],
    ) -> Result<[Option<String>; N], StoreError> {
        let statement = self
            .build("SELECT name, value FROM state WHERE name IN (")
            .commas(keys, |b, key| b.bind(key))
            .text(")")
            .statement();
        let mut found = HashMap::new();
        for row in self.query(statement).await?.rows {
            let mut reader = Reader::new("state", row);
            found.insert(reader.text("name")?, reader.text("value")?);
        }
        Ok(keys.map(|key| found.remove(key)))
    }

    /// A small fact that never changes: stores this value if there is none yet, and gives what is stored then.
    pub async fn settle_state(&self, key: &str, value: &str) -> Result<String, StoreError> {
        if let Some(settled) = self.get_state(key).await? {
            return Ok(settled);
        }
        let statement = self
            .build("INSERT INTO state (name, value) VALUES (")
            .bind(key)
            .text(", ")
            .bind(value)
            .text(") ON CONFLICT (name) DO NOTHING")
            .statement();
        self.query(statement).await?;
        let settled = self.get_state(key).await?;
        Ok(settled.unwrap_or_else(|| value.to_owned()))
    }

    /// Stores a small fact, over the one before.
    pub async fn set_state(&self, key: &str, value: &str) -> Result<(), StoreError> {
        let statement = self
            .build("INSERT INTO state (name, value) VALUES (")
            .bind(key)
            .text(", ")
            .bind(value)
            .text(") ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .statement();
        self.query(statement).await?;
        Ok(())
    }

    /// The same by the holder of a lease only; answers whether it was that. Whoever is slow to learn that another has the lease
    /// thus takes nothing back that the other has written.
    pub async fn set_state_while_holding(
        &self,
        lease: &str,
        holder: &str,
        key: &str,
        value: &str,
    ) -> Result<bool, StoreError> {
        let statement = self
            .build("INSERT INTO state (name, value) SELECT ")
            .bind(key)
            .text(", ")
            .bind(value)
            .text(" FROM leases WHERE name = ")
            .bind(lease)
            .text(" AND holder = ")
            .bind(holder)
            // Whoever takes it at this moment waits, or was first and is seen.
            .postgres(" FOR SHARE")
            .text(" ON CONFLICT (name) DO UPDATE SET value = excluded.value RETURNING name")
            .statement();
        Ok(self.query_row(statement).await?.is_some())
    }
}
