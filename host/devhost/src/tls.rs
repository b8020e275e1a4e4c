//! What outbound TLS trusts and shows, per component and host, from `[[client_tls]]` of the runtime configuration.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::runtime_config::ClientTls;

/// The platform's authorities, read at the first request that needs them: reading takes a while.
static PLATFORM_ROOTS: LazyLock<Vec<CertificateDer<'static>>> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        crate::log::line(
            "devhost",
            &format!("a platform certificate is left out: {error}"),
        );
    }
    found.certs
});

static DEFAULT_CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(PLATFORM_ROOTS.iter().cloned());
    Arc::new(with_alpn(
        builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
});

/// The TLS settings of one component: by host, and the default for all others.
#[derive(Debug, Default)]
pub struct TlsConfigs(HashMap<String, Arc<ClientConfig>>);

impl TlsConfigs {
    /// Reads the files of the entries that name this component. They are read once; a change needs a restart, as in Spin.
    ///
    /// # Errors
    /// A file cannot be read or holds no usable certificate or key.
    pub fn load(component: &str, entries: &[ClientTls]) -> Result<TlsConfigs> {
        let mut configs = HashMap::new();
        for entry in entries {
            if !entry.component_ids.iter().any(|id| id == component) {
                continue;
            }
            let config = load_config(entry)
                .with_context(|| format!("[[client_tls]] for {}", entry.hosts.join(", ")))?;
            for host in &entry.hosts {
                configs.insert(host.clone(), Arc::clone(&config));
            }
        }
        Ok(TlsConfigs(configs))
    }

    /// The settings for requests to `host`.
    pub fn for_host(&self, host: &str) -> Arc<ClientConfig> {
        self.0.get(host).unwrap_or(&DEFAULT_CONFIG).clone()
    }
}

fn load_config(entry: &ClientTls) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = &entry.ca_roots_file {
        for certificate in read_certificates(path)? {
            roots
                .add(certificate)
                .with_context(|| format!("{} holds a bad authority", path.display()))?;
        }
    }
    if entry
        .ca_use_platform_roots
        .unwrap_or(entry.ca_roots_file.is_none())
    {
        roots.add_parsable_certificates(PLATFORM_ROOTS.iter().cloned());
    }
    let builder = builder().with_root_certificates(roots);
    let config = match (&entry.client_cert_file, &entry.client_private_key_file) {
        (Some(certificates), Some(key)) => {
            let chain = read_certificates(certificates)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .with_context(|| format!("cannot read the key {}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .context("the client's certificate and key do not fit together")?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(with_alpn(config)))
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", path.display()))?;
    ensure!(
        !certificates.is_empty(),
        "{} holds no certificate",
        path.display()
    );
    Ok(certificates)
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring offers the cipher suites of TLS 1.2 and 1.3")
}

/// As Spin does, offer HTTP/2 first: the Kubernetes API server takes it.
fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
