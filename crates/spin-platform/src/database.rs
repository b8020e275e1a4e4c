//! The database that the settings name: the SQLite called `default`, or a PostgreSQL.

use store::{Dialect, Rows, Sql, SqlError, Statement};

use crate::address::Address;
use crate::postgres::SpinPostgres;
use crate::sqlite::SpinSqlite;

/// A database of the host.
pub enum Database {
    /// Spin's SQLite, which may be a libSQL server.
    Sqlite(SpinSqlite),
    /// A PostgreSQL server.
    Postgres(SpinPostgres),
}

impl Database {
    /// The database of the variable `database_url`: empty for SQLite, else the address of a PostgreSQL.
    ///
    /// # Errors
    /// When the address is unusable, or the SQLite cannot be opened; never with a part of the address. Whether a server
    /// is there shows with the first statement.
    pub fn open(url: &str) -> Result<Self, String> {
        if url.trim().is_empty() {
            return SpinSqlite::open()
                .map(Self::Sqlite)
                .map_err(|e| format!("the database cannot be opened: {e}"));
        }
        Address::read(url)
            .map(|address| Self::Postgres(SpinPostgres::new(address)))
            .map_err(|problem| format!("the variable database_url {problem}"))
    }
}

impl Sql for Database {
    fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(sqlite) => sqlite.dialect(),
            Self::Postgres(postgres) => postgres.dialect(),
        }
    }

    async fn query(&self, statement: Statement) -> Result<Rows, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.query(statement).await,
            Self::Postgres(postgres) => postgres.query(statement).await,
        }
    }

    async fn transaction(&self, statements: Vec<Statement>) -> Result<Option<Vec<Rows>>, SqlError> {
        match self {
            Self::Sqlite(sqlite) => sqlite.transaction(statements).await,
            Self::Postgres(postgres) => postgres.transaction(statements).await,
        }
    }
}
