//! Who calls, and what for: tokens from the settings and from the store, each of a tenant and with a role.
//!
//! Of a token its SHA-256 is kept, never itself. Without any in the settings nobody needs one; whether that is right for a caller is
//! the business of who answers it.

mod keyring;
mod text;

use std::net::IpAddr;

use domain::{Action, Limits, Role, Tenant};
use jiff::Timestamp;
use store::TokenRow;

pub use keyring::Keyring;
use text::{digest, hex};

use crate::{App, Error, Platform, Runtime};

/// So many tokens are kept in the store at most: they are listed in one answer.
pub const MAX_TOKENS: u32 = 1_000;

/// The name of whoever needs no token.
const LOCAL: &str = "local";

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What its token is called; `local` for one that needs none.
    pub name: String,
    /// What its maker calls it, if that is not its id.
    pub title: Option<String>,
    /// Whose executions it sees and submits.
    pub tenant: Tenant,
    /// What it may do.
    pub role: Role,
    /// What its tenant may have.
    pub limits: Limits,
    /// Where it calls from, as far as the host tells.
    pub from: Option<IpAddr>,
}

impl Caller {
    /// Whoever calls where no token is needed: it may do everything there is.
    pub fn local() -> Self {
        Self {
            name: LOCAL.to_owned(),
            title: None,
            tenant: Tenant::default(),
            role: Role::Admin,
            limits: Limits::default(),
            from: None,
        }
    }
}

/// What the ids of tokens begin with that are kept in the store.
const ID: &str = "tok-";

/// How many hex digits follow.
const ID_DIGITS: usize = 16;

/// Whether that is the id of a token, as those in the store have them.
pub fn is_token_id(text: &str) -> bool {
    text.strip_prefix(ID).is_some_and(|digits| {
        digits.len() == ID_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// What a token is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What its maker calls it.
    pub name: String,
    /// Whose executions it opens.
    pub tenant: Tenant,
    /// What it allows.
    pub role: Role,
    /// From when on it opens nothing; none for never.
    pub expires_at: Option<Timestamp>,
}

/// A token that was just made. Its text is told once, and nowhere kept.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// What is kept of it.
    pub row: TokenRow,
    /// What its caller is to send.
    pub text: String,
}

impl std::fmt::Debug for IssuedToken {
    /// Without the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedToken({:?})", self.row)
    }
}

/// What became of the wish for a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Issued {
    /// It is made, and works from now on.
    New(IssuedToken),
    /// There are [`MAX_TOKENS`] already.
    TooMany,
}

impl<P: Platform> App<P> {
    /// Whose token that is; none for one that nobody has, that is revoked or whose time is over. Brings the database's schema up to date
    /// where it has to look there, which costs one read and no more.
    ///
    /// # Errors
    /// When the store cannot say.
    pub async fn caller_of(&self, token: &[u8]) -> Result<Option<Caller>, Error> {
        let now = self.runtime.now();
        let digest = digest(token);
        if let Some(caller) = self.config.callers.find(&digest, now) {
            return Ok(Some(caller));
        }
        // What we never made need not be looked for.
        if !text::is_ours(token) {
            return Ok(None);
        }
        let found = self.store.open_with_token(&hex(&digest), now).await?;
        // Of a tenant that is gone from the settings nobody knows what it may have.
        let found = found.filter(|row| self.config.callers.knows(&row.tenant));
        Ok(found.map(|row| Caller {
            name: row.id,
            title: Some(row.name),
            limits: self.config.callers.limits(&row.tenant),
            tenant: row.tenant,
            role: row.role,
            from: None,
        }))
    }

    /// Makes a token. Whoever asks is noted as its maker.
    ///
    /// # Errors
    /// When the store cannot take it; then there is none.
    pub async fn issue_token(&self, by: &Caller, wanted: NewToken) -> Result<Issued, Error> {
        let text = text::token(self.runtime.random());
        let row = TokenRow {
            id: format!("{ID}{}", hex(&self.runtime.random::<{ ID_DIGITS / 2 }>())),
            name: wanted.name,
            tenant: wanted.tenant,
            role: wanted.role,
            created_at: self.runtime.now(),
            created_by: by.name.clone(),
            expires_at: wanted.expires_at,
        };
        let hash = hex(&digest(text.as_bytes()));
        let record = self.record(by, Action::TokenCreate, &row.id);
        let stored = self
            .store
            .insert_token(&row, &hash, MAX_TOKENS, Some(&record))
            .await?;
        Ok(if stored {
            Issued::New(IssuedToken { row, text })
        } else {
            Issued::TooMany
        })
    }

    /// The tokens that are in the store, the oldest first; those whose time is over too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, Error> {
        Ok(self.store.tokens(MAX_TOKENS).await?)
    }

    /// Revokes one: from then on it opens nothing. Answers whether there was one of that id in the store.
    ///
    /// # Errors
    /// When the store cannot do it; then it still works.
    pub async fn revoke_token(&self, by: &Caller, id: &str) -> Result<bool, Error> {
        let record = self.record(by, Action::TokenRevoke, id);
        Ok(self.store.delete_token(id, Some(&record)).await?)
    }
}
