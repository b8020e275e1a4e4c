//! Which host and which cluster to use, and where their binaries are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What serves Executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKind {
    /// Our own host for tests and laptops.
    Devhost,
    /// `spin up` with the cron plugin.
    Spin,
}

/// What runs the scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterKind {
    /// Our embedded API server with local processes for pods.
    Embedded,
    /// A real Kubernetes, started beforehand.
    Real(RealCluster),
}

/// What keeps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file in the state folder.
    Sqlite,
    /// A PostgreSQL server, started beforehand.
    Postgres,
}

impl DatabaseKind {
    /// Reads `EXECUTOR_E2E_DATABASE`.
    pub fn from_env() -> Self {
        match std::env::var("EXECUTOR_E2E_DATABASE").as_deref() {
            Err(_) | Ok("" | "sqlite") => Self::Sqlite,
            Ok("postgres") => Self::Postgres,
            Ok(other) => panic!("EXECUTOR_E2E_DATABASE is sqlite or postgres, not {other}"),
        }
    }
}

/// Where a real cluster is, from `target/cluster/env`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealCluster {
    /// `https://host:port` of the API server.
    pub url: String,
    /// The file of the certificate authority, PEM.
    pub ca: PathBuf,
    /// A bearer token with only the rights that Executor uses.
    pub token: String,
    /// The namespace for Jobs.
    pub namespace: String,
    /// The image to run scripts in; none for Executor's default.
    pub image: Option<String>,
    /// kubectl of its version.
    pub kubectl: PathBuf,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
}

impl HostKind {
    /// Reads `EXECUTOR_E2E_HOST`.
    pub fn from_env() -> Self {
        match std::env::var("EXECUTOR_E2E_HOST").as_deref() {
            Err(_) | Ok("" | "devhost") => Self::Devhost,
            Ok("spin") => Self::Spin,
            Ok(other) => panic!("EXECUTOR_E2E_HOST is devhost or spin, not {other}"),
        }
    }

    /// The command that serves, without its flags.
    pub fn binary(self) -> PathBuf {
        match self {
            Self::Devhost => binary("EXECUTOR_DEVHOST", "devhost"),
            Self::Spin => PathBuf::from("spin"),
        }
    }
}

impl ClusterKind {
    /// Reads `EXECUTOR_E2E_CLUSTER`, and the environment file of a real one.
    pub fn from_env() -> Self {
        match std::env::var("EXECUTOR_E2E_CLUSTER").as_deref() {
            Err(_) | Ok("" | "embedded") => Self::Embedded,
            Ok("real") => Self::Real(RealCluster::read(&top().join("target/cluster/env"))),
            Ok(other) => panic!("EXECUTOR_E2E_CLUSTER is embedded or real, not {other}"),
        }
    }

    /// Whether it is a real Kubernetes.
    pub fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    /// The binary of the embedded API server.
    pub fn localcluster() -> PathBuf {
        binary("EXECUTOR_LOCALCLUSTER", "localcluster")
    }
}

impl RealCluster {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file)
            .unwrap_or_else(|e| panic!("{}: {e}; run scripts/cluster up", file.display()));
        let values: BTreeMap<&str, &str> = text
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("export ").split_once('='))
            .map(|(key, value)| (key.trim(), value.trim().trim_matches(['"', '\''])))
            .collect();
        let value = |key: &str| match values.get(key) {
            Some(value) => (*value).to_owned(),
            None => panic!("{} has no {key}", file.display()),
        };
        Self {
            url: value("CLUSTER_URL"),
            ca: PathBuf::from(value("CLUSTER_CA")),
            token: value("CLUSTER_TOKEN"),
            namespace: value("CLUSTER_NAMESPACE"),
            image: values.get("CLUSTER_IMAGE").map(|image| (*image).to_owned()),
            kubectl: PathBuf::from(value("CLUSTER_KUBECTL")),
            kubeconfig: PathBuf::from(value("CLUSTER_KUBECONFIG")),
        }
    }

    /// The host part of the URL: the node's address, which pods reach too.
    pub fn host(&self) -> &str {
        let authority = authority(&self.url);
        authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host)
    }
}

/// The `host:port` of a URL.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// The top folder of the project.
pub fn top() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .expect("tests/e2e is two levels below the top")
        .to_owned()
}

/// The binary named by the variable, else the one built beside this test.
fn binary(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable}={} is no file", path.display());
        return path;
    }
    let test = std::env::current_exe().expect("a test knows its own path");
    // A test is target/<profile>/deps/<name>-<hash>.
    let path = test
        .ancestors()
        .nth(2)
        .expect("a test lies in target/<profile>/deps")
        .join(name);
    assert!(
        path.is_file(),
        "{} is not there: run `cargo build -p {name}`, or set {variable}, or use scripts/test",
        path.display()
    );
    path
}
