//! Who calls: a tenant, what its token allows, where its scripts run, and what the tenant may have at once.

use std::fmt;
use std::str::FromStr;

use crate::quantity::Quantity;

/// The longest name of a tenant, in characters: with a prefix it still fits a label of Kubernetes (63).
pub const MAX_TENANT_CHARS: usize = 40;

/// Whose executions they are. Callers of one tenant see all of that tenant's, and nothing of another's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(String);

/// A text is no name of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTenant;

impl fmt::Display for NoTenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "must have 1 to {MAX_TENANT_CHARS} lowercase letters, digits and dashes, with no dash at its ends"
        )
    }
}

impl Tenant {
    /// The tenant of whoever needs no token, and of all that was accepted before there were tenants.
    pub const DEFAULT: &'static str = "default";

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Self::DEFAULT.to_owned())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tenant {
    type Err = NoTenant;

    fn from_str(text: &str) -> Result<Self, NoTenant> {
        is_label(text, MAX_TENANT_CHARS)
            .then(|| Self(text.to_owned()))
            .ok_or(NoTenant)
    }
}

/// The longest name of a namespace, in characters: that of a label of DNS.
pub const MAX_NAMESPACE_CHARS: usize = 63;

/// A namespace of Kubernetes that scripts run in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

/// A text is no name of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNamespace;

impl fmt::Display for NoNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "must have 1 to {MAX_NAMESPACE_CHARS} lowercase letters, digits and dashes, with no dash at its ends"
        )
    }
}

impl Namespace {
    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Namespace {
    type Err = NoNamespace;

    fn from_str(text: &str) -> Result<Self, NoNamespace> {
        is_label(text, MAX_NAMESPACE_CHARS)
            .then(|| Self(text.to_owned()))
            .ok_or(NoNamespace)
    }
}

/// Whether that is a label of DNS (RFC 1123) of so many characters at most.
fn is_label(text: &str, most: usize) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=most).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What a token allows; each role may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// To see the tenant's executions.
    Read,
    /// To submit, cancel, delete and tell again.
    Run,
    /// To make and revoke tokens of every tenant, and to see what is counted and noted of all.
    Admin,
}

impl Role {
    /// Every role, the least first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Run, Self::Admin];

    /// The name in the API, the settings and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Run => "run",
            Self::Admin => "admin",
        }
    }

    /// The role of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// What a tenant may have, beside what the settings allow everybody; none is no limit of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How many of its executions have a Job at once.
    pub running: Option<u32>,
    /// How many of them may wait for that at once.
    pub queued: Option<u32>,
    /// How many it may submit in a minute.
    pub per_minute: Option<u32>,
    /// The largest CPU that one may ask for, in cores.
    pub cpu: Option<Quantity>,
    /// The largest memory, in bytes.
    pub memory: Option<Quantity>,
    /// The largest ephemeral storage, in bytes.
    pub ephemeral_storage: Option<Quantity>,
    /// Globs of the images that it may name.
    pub images: Option<Vec<String>>,
}

#[cfg(test)]
mod tests {
    //! Names of tenants and namespaces, and the order of the roles.
    use super::*;

    #[test]
    fn tenants_have_names_that_fit_everywhere() {
        let longest = "a".repeat(MAX_TENANT_CHARS);
        for name in ["a", "billing", "team-7", "0", &longest] {
            assert_eq!(
                name.parse::<Tenant>().map(|t| t.to_string()),
                Ok(name.to_owned())
            );
        }
        let too_long = format!("{longest}a");
        for name in ["", "-a", "a-", "A", "a b", "a_b", "é", "a/b", &too_long] {
            assert_eq!(name.parse::<Tenant>(), Err(NoTenant), "{name:?}");
        }
        assert_eq!(Tenant::DEFAULT.parse(), Ok(Tenant::default()));
    }

    #[test]
    fn namespaces_have_the_names_that_kubernetes_takes() {
        let longest = "n".repeat(MAX_NAMESPACE_CHARS);
        for name in ["a", "billing-runs", "0", &longest] {
            assert_eq!(
                name.parse::<Namespace>().map(|n| n.to_string()),
                Ok(name.to_owned())
            );
        }
        let too_long = format!("{longest}n");
        for name in [
            "", "-a", "a-", "A", "a b", "a_b", "a.b", "é", "a/b", &too_long,
        ] {
            assert_eq!(name.parse::<Namespace>(), Err(NoNamespace), "{name:?}");
        }
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may() {
        assert!(Role::ALL.is_sorted());
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("Admin"), None);
    }
}
