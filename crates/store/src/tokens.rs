//! Tokens that were made while the service runs: what is kept of each, never itself.

use domain::{Role, Tenant};
use jiff::Timestamp;

use crate::rows::{Column, Reader, micros, optional_micros, readable};
use crate::sql::{Sql, SqlError, Statement};
use crate::{AuditRecord, ExecutionStore, StoreError};

/// What is told of a token, in the order that [`read`] takes it.
const TOKEN: &str = "id, name, tenant, role, created_at, created_by, expires_at";

/// What is kept of a token besides its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// What it is revoked by, and named by in the audit.
    pub id: String,
    /// What its maker calls it.
    pub name: String,
    /// Whose executions it opens.
    pub tenant: Tenant,
    /// What it allows.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// The id or name of the token that made it.
    pub created_by: String,
    /// From when on it opens nothing; none for never.
    pub expires_at: Option<Timestamp>,
}

impl<S: Sql> ExecutionStore<S> {
    /// The token whose SHA-256, in lowercase hex, that is, if its time is not over at `now`. The first thing that is asked of a database,
    /// whose schema is brought up to date when it knows no tokens yet.
    pub async fn open_with_token(
        &self,
        hash: &str,
        now: Timestamp,
    ) -> Result<Option<TokenRow>, StoreError> {
        let found = match self.query_row(self.token_statement(hash, now)).await {
            Err(StoreError::Sql(SqlError::Other(_))) => {
                self.migrate().await?;
                self.query_row(self.token_statement(hash, now)).await?
            }
            found => found?,
        };
        found.map(read).transpose()
    }

    fn token_statement(&self, hash: &str, now: Timestamp) -> Statement {
        self.build("SELECT ")
            .text(TOKEN)
            .text(" FROM tokens WHERE hash = ")
            .bind(hash)
            .text(" AND (expires_at IS NULL OR expires_at > ")
            .bind(micros(now))
            .text(")")
            .statement()
    }

    /// Keeps a token by its SHA-256, in lowercase hex. Answers whether it is kept: there may be no more than `most`.
    /// Who asked for it is noted with that.
    pub async fn insert_token(
        &self,
        token: &TokenRow,
        hash: &str,
        most: u32,
        noted: Option<&AuditRecord>,
    ) -> Result<bool, StoreError> {
        let columns: Vec<Column> = vec![
            ("id", token.id.as_str().into()),
            ("hash", hash.into()),
            ("name", token.name.as_str().into()),
            ("tenant", token.tenant.as_str().into()),
            ("role", token.role.as_str().into()),
            ("created_at", micros(token.created_at).into()),
            ("created_by", token.created_by.as_str().into()),
            ("expires_at", optional_micros(token.expires_at)),
        ];
        let insert = self
            .insert_rows("tokens", vec![columns])
            .text("(SELECT count(*) FROM tokens) < ")
            .bind(most)
            .text(" RETURNING id");
        let written = self.run(&self.noted_with(insert, noted)).await?;
        Ok(written.is_some())
    }

    /// The tokens, the oldest first, no more than `most`.
    pub async fn tokens(&self, most: u32) -> Result<Vec<TokenRow>, StoreError> {
        let statement = self
            .build("SELECT ")
            .text(TOKEN)
            .text(" FROM tokens ORDER BY created_at, id LIMIT ")
            .bind(most)
            .statement();
        readable(self.query(statement).await?.rows.into_iter().map(read))
    }

    /// Takes one away. Answers whether there was one of that id. Who asked for it is noted with that.
    pub async fn delete_token(
        &self,
        id: &str,
        noted: Option<&AuditRecord>,
    ) -> Result<bool, StoreError> {
        let delete = self
            .build("DELETE FROM tokens WHERE id = ")
            .bind(id)
            .text(" RETURNING id");
        let written = self.run(&self.noted_with(delete, noted)).await?;
        Ok(written.is_some())
    }
}

fn read(row: Vec<crate::sql::Value>) -> Result<TokenRow, StoreError> {
    let mut reader = Reader::new("tokens", row);
    let (id, name) = (reader.text("id")?, reader.text("name")?);
    let tenant = reader.tenant()?;
    let role = reader.text("role")?;
    Ok(TokenRow {
        id,
        name,
        tenant,
        role: reader.name("role", &role, Role::from_name)?,
        created_at: reader.time("created_at")?,
        created_by: reader.text("created_by")?,
        expires_at: reader.optional_time("expires_at")?,
    })
}
