//! The setting `tokens`: tenants with their namespaces and limits, and tokens or what is kept of them.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Limits, Namespace, NoNamespace, Quantity, Role, Tenant};
use jiff::Timestamp;
use serde::Deserialize;

use super::Caller;
use super::text::{digest, unhex};

/// What stands before the SHA-256 of a token.
const HASHED: &str = "sha256:";

/// A shorter token than this can be guessed.
const MIN_TOKEN_CHARS: usize = 20;

/// The longest name of a token, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Who may call, by the settings. The default is nobody in particular: no token is needed.
#[derive(Clone, Default)]
pub struct Keyring {
    keys: Vec<Key>,
    tenants: BTreeMap<Tenant, Limits>,
    namespaces: BTreeMap<Tenant, Namespace>,
}

#[derive(Clone)]
struct Key {
    name: String,
    tenant: Tenant,
    role: Role,
    digest: [u8; 32],
    expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for Keyring {
    /// Names alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.keys.iter().map(|key| &key.name);
        f.debug_list().entries(names).finish()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyringJson {
    #[serde(default)]
    tenants: BTreeMap<String, TenantJson>,
    tokens: Vec<KeyJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeyJson {
    name: String,
    tenant: Option<String>,
    role: String,
    token: String,
    expires_at: Option<String>,
}

/// Where a tenant's scripts run, and what it may have, as the settings write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TenantJson {
    namespace: Option<String>,
    max_running: Option<u32>,
    max_queued: Option<u32>,
    per_minute: Option<u32>,
    max_cpu: Option<String>,
    max_memory: Option<String>,
    max_ephemeral_storage: Option<String>,
    allowed_images: Option<Vec<String>>,
}

impl Keyring {
    /// Reads it: a JSON object with `tokens` and perhaps `tenants`, or nothing.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the variable; never with a token.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        // Not the error's own text: that may quote a token.
        let json: KeyringJson = serde_json::from_str(text).map_err(|error| {
            format!(
                "is not of the form {{\"tenants\": {{…}}, \"tokens\": [{{\"name\", \"tenant\", \"role\", \"token\", \"expiresAt\"}}]}}: \
                 see line {}, column {}",
                error.line(),
                error.column()
            )
        })?;
        let (mut tenants, mut namespaces) = (BTreeMap::new(), BTreeMap::new());
        for (name, of_it) in json.tenants {
            let tenant = tenant(&name)?;
            if let Some(namespace) = of_it.namespace(&name)? {
                namespaces.insert(tenant.clone(), namespace);
            }
            tenants.insert(tenant, of_it.limits(&name)?);
        }
        let keys: Vec<Key> = json
            .tokens
            .into_iter()
            .map(KeyJson::read)
            .collect::<Result<_, String>>()?;
        if keys.is_empty() {
            return Err("has no token, so that nobody could call".to_owned());
        }
        let mut names = BTreeSet::new();
        match keys.iter().find(|key| !names.insert(&key.name)) {
            Some(twice) => Err(format!("has two tokens of the name `{}`", twice.name)),
            None => Ok(Self {
                keys,
                tenants,
                namespaces,
            }),
        }
    }

    /// Whether nobody needs a token.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whose token has that digest. Each is compared, and each in full, so that the time tells nothing of them.
    pub(super) fn find(&self, given: &[u8; 32], now: Timestamp) -> Option<Caller> {
        let mut found = None;
        for key in &self.keys {
            let pairs = key.digest.iter().zip(given);
            let difference = pairs.fold(0, |difference, (a, b)| difference | (a ^ b));
            if difference == 0 {
                found = Some(key);
            }
        }
        let key = found.filter(|key| key.expires_at.is_none_or(|at| now < at))?;
        Some(Caller {
            name: key.name.clone(),
            title: None,
            tenant: key.tenant.clone(),
            role: key.role,
            limits: self.limits(&key.tenant),
            from: None,
        })
    }

    /// Whether there is such a tenant: one of whom something is said, or with a token, in the settings, or the default one.
    pub fn knows(&self, tenant: &Tenant) -> bool {
        tenant.as_str() == Tenant::DEFAULT
            || self.tenants.contains_key(tenant)
            || self.keys.iter().any(|key| key.tenant == *tenant)
    }

    /// The tenants of whom it is said what they may have.
    pub(crate) fn tenants(&self) -> &BTreeMap<Tenant, Limits> {
        &self.tenants
    }

    /// What that tenant may have; all of it where nothing is said of it.
    pub fn limits(&self, tenant: &Tenant) -> Limits {
        self.tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// The namespace that its scripts run in; none where nothing is said of it, for the one of all.
    pub fn namespace(&self, tenant: &Tenant) -> Option<&Namespace> {
        self.namespaces.get(tenant)
    }

    /// The namespaces of those tenants who have one of their own.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }
}

fn tenant(name: &str) -> Result<Tenant, String> {
    name.parse()
        .map_err(|wrong| format!("has a tenant whose name is none: it {wrong}"))
}

impl KeyJson {
    fn read(self) -> Result<Key, String> {
        let name = self.name;
        let visible = name.bytes().all(|b| b.is_ascii_graphic());
        if !(1..=MAX_NAME_CHARS).contains(&name.len()) || !visible {
            return Err(format!(
                "has a token whose name is not 1 to {MAX_NAME_CHARS} visible ASCII characters"
            ));
        }
        let of = |wrong: &str| format!("has a token `{name}` whose {wrong}");
        let digest = match self.token.strip_prefix(HASHED) {
            Some(hash) => unhex(hash)
                .ok_or_else(|| of("`token` is not `sha256:` followed by 64 hex digits"))?,
            None if self.token.len() < MIN_TOKEN_CHARS
                || !self.token.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                return Err(of(&format!(
                    "`token` is neither `sha256:…` nor {MIN_TOKEN_CHARS} or more visible ASCII characters"
                )));
            }
            None => digest(self.token.as_bytes()),
        };
        let role = Role::from_name(&self.role);
        let role = role.ok_or_else(|| of("`role` is none of read, run, admin"))?;
        let expires_at = self.expires_at.map(|text| text.parse()).transpose();
        let expires_at = expires_at.map_err(|_| of("`expiresAt` is no time of RFC 3339"))?;
        let tenant = match &self.tenant {
            Some(name) => tenant(name)?,
            None => Tenant::default(),
        };
        Ok(Key {
            tenant,
            role,
            digest,
            expires_at,
            name,
        })
    }
}

impl TenantJson {
    fn namespace(&self, name: &str) -> Result<Option<Namespace>, String> {
        let read = self.namespace.as_deref().map(str::parse).transpose();
        read.map_err(|wrong: NoNamespace| {
            format!("has of the tenant `{name}` a `namespace` that {wrong}")
        })
    }

    fn limits(self, name: &str) -> Result<Limits, String> {
        let quantity = |of: &str, text: Option<String>| -> Result<Option<Quantity>, String> {
            let read = text.map(|text| text.parse::<Quantity>()).transpose();
            read.map_err(|wrong| format!("has of the tenant `{name}` a `{of}` that {wrong}"))
        };
        let counts = [self.max_running, self.max_queued, self.per_minute];
        if counts.contains(&Some(0)) {
            return Err(format!(
                "has of the tenant `{name}` a limit of 0: to keep it out, take its tokens away"
            ));
        }
        Ok(Limits {
            running: self.max_running,
            queued: self.max_queued,
            per_minute: self.per_minute,
            cpu: quantity("maxCpu", self.max_cpu)?,
            memory: quantity("maxMemory", self.max_memory)?,
            ephemeral_storage: quantity("maxEphemeralStorage", self.max_ephemeral_storage)?,
            images: self.allowed_images,
        })
    }
}

#[cfg(test)]
mod tests {
    //! Reading the setting, and finding who calls.
    use super::*;

    const TOKEN: &str = "a-token-of-twenty-chars";

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_token_or_its_hash_is_found_until_its_time_is_over() {
        let hash = super::super::hex(&digest(TOKEN.as_bytes()));
        for token in [TOKEN.to_owned(), format!("sha256:{hash}")] {
            let text = format!(
                r#"{{"tenants":{{"billing":{{"maxRunning":3,"maxCpu":"2"}}}},"tokens":[
                {{"name":"other","role":"admin","token":"another-token-of-chars"}},
                {{"name":"ci","tenant":"billing","role":"run","token":"{token}","expiresAt":"2026-01-31T12:00:01Z"}}]}}"#
            );
            let keyring = Keyring::read(&text).expect("good");
            assert!(!keyring.is_open());
            let given = digest(TOKEN.as_bytes());
            let caller = keyring.find(&given, now()).expect("known");
            assert_eq!((caller.name.as_str(), caller.role), ("ci", Role::Run));
            assert_eq!(caller.tenant.as_str(), "billing");
            assert_eq!(caller.limits.running, Some(3));
            let later = now() + jiff::SignedDuration::from_secs(1);
            assert_eq!(keyring.find(&given, later), None);
            assert_eq!(
                keyring.find(&digest(b"a-token-of-twenty-char"), now()),
                None
            );
            let admin = keyring.find(&digest(b"another-token-of-chars"), now());
            assert_eq!(admin.expect("known").tenant, Tenant::default());
            assert!(!format!("{keyring:?}").contains("token-of"), "{keyring:?}");
        }
        assert!(Keyring::read("").expect("good").is_open());
    }

    #[test]
    fn a_tenant_runs_in_the_namespace_that_is_said_of_it() {
        let text = format!(
            r#"{{"tenants":{{"billing":{{"namespace":"billing-runs","maxRunning":3}},"reports":{{}},"default":{{"namespace":"ours"}}}},
            "tokens":[{{"name":"a","role":"run","token":"{TOKEN}"}}]}}"#
        );
        let keyring = Keyring::read(&text).expect("good");
        let of = |name: &str| {
            let tenant = name.parse().expect("a name");
            keyring.namespace(&tenant).map(Namespace::as_str)
        };
        assert_eq!(of("billing"), Some("billing-runs"));
        assert_eq!(of(Tenant::DEFAULT), Some("ours"));
        assert_eq!((of("reports"), of("unheard-of")), (None, None));
        let all: Vec<_> = keyring.namespaces().map(Namespace::as_str).collect();
        assert_eq!(all, ["billing-runs", "ours"]);
        let billing = "billing".parse().expect("a name");
        assert_eq!(keyring.limits(&billing).running, Some(3));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_token() {
        let one = |member: &str, value: &str| {
            let mut token = serde_json::json!({"name": "a", "role": "run", "token": TOKEN});
            token[member] = value.into();
            serde_json::json!({"tokens": [token]}).to_string()
        };
        let tenants = |limits: &str| {
            format!(
                r#"{{"tenants":{{"t":{limits}}},"tokens":[{{"name":"a","role":"run","token":"{TOKEN}"}}]}}"#
            )
        };
        for (text, said) in [
            ("[]".to_owned(), "form"),
            (r#"{"tokens":[]}"#.to_owned(), "no token"),
            (format!(r#"{{"tokens":["{TOKEN}"]}}"#), "line 1"),
            (one("role", "root"), "`role`"),
            (one("tenant", "A B"), "tenant"),
            (one("token", "short"), "20 or more"),
            (one("token", "sha256:12"), "64 hex digits"),
            (one("token", "with a blank in the midst of it"), "visible"),
            (one("name", ""), "name"),
            (one("expiresAt", "soon"), "`expiresAt`"),
            (one("namespace", "x"), "form"),
            (tenants(r#"{"maxRunning":0}"#), "limit of 0"),
            (tenants(r#"{"maxCpu":"lots"}"#), "`maxCpu`"),
            (tenants(r#"{"namespaces":"x"}"#), "form"),
            (
                tenants(r#"{"namespace":""}"#),
                "tenant `t` a `namespace` that must have 1 to 63",
            ),
            (
                tenants(r#"{"namespace":"Billing_Runs"}"#),
                "no dash at its ends",
            ),
            (tenants(r#"{"namespace":["x"]}"#), "form"),
        ] {
            let wrong = Keyring::read(&text).expect_err(&text);
            assert!(wrong.contains(said), "{wrong}: {said}");
            assert!(
                !wrong.contains(TOKEN) && !wrong.contains("short"),
                "{wrong}"
            );
        }
        let twice = format!(
            r#"{{"tokens":[{{"name":"a","role":"run","token":"{TOKEN}"}},{{"name":"a","role":"run","token":"{TOKEN}2"}}]}}"#
        );
        assert!(Keyring::read(&twice).expect_err("twice").contains("`a`"));
    }
}
