//! Reads the runtime configuration file, as far as devhost follows it, and refuses the rest by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// What a runtime configuration file may say to devhost. Without a file everything has its default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Where databases and compiled code are kept; the flag `--state-dir` is stronger.
    #[serde(default)]
    pub state_dir: Option<PathBuf>,
    /// `[sqlite_database.<name>]`, by name.
    #[serde(default)]
    pub sqlite_database: BTreeMap<String, SqliteDatabase>,
    /// `[[client_tls]]`.
    #[serde(default)]
    pub client_tls: Vec<ClientTls>,
    /// `[outbound_http]`.
    #[serde(default)]
    pub outbound_http: Option<OutboundHttp>,
}

/// One `[sqlite_database.<name>]`, by its `type`.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum SqliteDatabase {
    /// A file on this machine.
    Spin {
        /// The file, relative to the current folder. Without it the database is in memory, a new one at each open.
        #[serde(default)]
        path: Option<PathBuf>,
    },
    /// A libSQL server.
    Libsql {
        /// Where it is, by HTTP.
        url: String,
        /// What it wants to be shown; may be empty for a server that wants nothing.
        token: Secret,
    },
}

/// A text that is never printed.
#[derive(Deserialize)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// One `[[client_tls]]`: how these components trust, and show themselves to, these hosts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// The components that it is for.
    pub component_ids: Vec<String>,
    /// The host names (without a port) that it is for.
    pub hosts: Vec<String>,
    /// PEM file of the authorities to trust; the platform's are then trusted only if asked for.
    #[serde(default)]
    pub ca_roots_file: Option<PathBuf>,
    /// Trust the platform's authorities: by default only when `ca_roots_file` is absent.
    #[serde(default)]
    pub ca_use_platform_roots: Option<bool>,
    /// PEM file of the client's own certificate chain.
    #[serde(default)]
    pub client_cert_file: Option<PathBuf>,
    /// PEM file of the key that belongs to it.
    #[serde(default)]
    pub client_private_key_file: Option<PathBuf>,
}

/// `[outbound_http]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboundHttp {
    /// Keep connections for later requests. As in Spin it is off when the table is there and does not say so.
    #[serde(default)]
    pub connection_pooling: bool,
}

impl RuntimeConfig {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or says something that devhost does not follow (named in the error).
    pub fn load(path: &Path) -> Result<RuntimeConfig> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the runtime config {}", path.display()))?;
        Self::parse(&text)
            .with_context(|| format!("cannot use the runtime config {}", path.display()))
    }

    fn parse(text: &str) -> Result<RuntimeConfig> {
        let config: RuntimeConfig =
            toml::from_str(text).context("a key is missing, wrong, or not supported by devhost")?;
        for tls in &config.client_tls {
            ensure!(
                !tls.component_ids.is_empty() && !tls.hosts.is_empty(),
                "[[client_tls]] needs at least one of `component_ids` and one of `hosts`"
            );
            ensure!(
                tls.client_cert_file.is_some() == tls.client_private_key_file.is_some(),
                "[[client_tls]] needs `client_cert_file` and `client_private_key_file` together"
            );
        }
        Ok(config)
    }

    /// Whether outbound connections are kept for later requests.
    pub fn connection_pooling(&self) -> bool {
        self.outbound_http
            .as_ref()
            .is_none_or(|table| table.connection_pooling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_is_off_only_when_the_table_leaves_it_out() {
        let pooling = |text| RuntimeConfig::parse(text).unwrap().connection_pooling();
        assert!(pooling(""));
        assert!(!pooling("[outbound_http]"));
        assert!(pooling("[outbound_http]\nconnection_pooling = true"));
    }

    #[test]
    fn what_is_not_followed_is_named() {
        let error = |text| format!("{:#}", RuntimeConfig::parse(text).unwrap_err());
        assert!(error("[llm_compute]\ntype = \"spin\"").contains("llm_compute"));
        assert!(error("[sqlite_database.default]\ntype = \"turso\"").contains("turso"));
        let libsql = "[sqlite_database.default]\ntype = \"libsql\"\nurl = \"http://h\"";
        assert!(error(libsql).contains("token"));
        let more = format!("{libsql}\ntoken = \"t\"\npath = \"p\"");
        assert!(error(&more).contains("path"));
        let config = RuntimeConfig::parse(&format!("{libsql}\ntoken = \"hidden\"")).unwrap();
        assert!(!format!("{config:?}").contains("hidden"));
    }
}
