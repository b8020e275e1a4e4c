//! What a host of a stack is told: its manifest, whom it believes, and its variables.

use std::path::PathBuf;
use std::process::Command;

use super::{Stack, TICK_TOKEN};
use crate::settings::{ClusterKind, authority, top};

/// Where the manifest of the images has the service account's folder.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Stack {
    /// The project's manifest, or what the images make of it, with the account's folder in that of the stack.
    pub(super) fn manifest(&self) -> PathBuf {
        let top = top();
        if !self.options.token_in_file {
            return top.join("spin.toml");
        }
        let made = Command::new(top.join("scripts/image"))
            .arg("--manifest")
            .output();
        let made = made.expect("scripts/image can be run");
        assert!(made.status.success(), "scripts/image --manifest: {made:?}");
        let text = String::from_utf8(made.stdout).expect("a manifest is text");
        let built = top.join("target/wasm32-wasip2/release");
        let text = text
            .replace(ACCOUNT, &self.folder.join("account").display().to_string())
            .replace(
                "source = \"api.wasm\"",
                &format!("source = \"{}/api.wasm\"", built.display()),
            )
            .replace(
                "source = \"reconciler.wasm\"",
                &format!("source = \"{}/reconciler.wasm\"", built.display()),
            );
        let file = self.folder.join("spin.toml");
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        file
    }

    /// Whose certificates are believed, where the API server has one.
    pub(super) fn runtime_config(&self) -> Option<PathBuf> {
        let ca = match (&self.kind, &self.tls) {
            (ClusterKind::Real(real), _) => real.ca.as_path(),
            (ClusterKind::Embedded, Some(tls)) => tls.believed(),
            (ClusterKind::Embedded, None) => return None,
        };
        let file = self.folder.join("runtime-config.toml");
        let host = authority(&self.kube_url).split(':').next();
        let text = format!(
            "[[client_tls]]\ncomponent_ids = [\"api\", \"reconciler\"]\nhosts = [{:?}]\nca_roots_file = {:?}\n",
            host.unwrap_or_default(),
            ca.display().to_string()
        );
        std::fs::write(&file, text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        Some(file)
    }

    pub(super) fn variables(&self) -> Vec<(String, String)> {
        let (token, namespace) = match &self.kind {
            ClusterKind::Embedded => {
                let namespace = self.options.namespace.as_deref().unwrap_or("default");
                // One that is in a file is in no variable.
                let token = if self.options.token_in_file {
                    ""
                } else {
                    &*self.kube_token
                };
                (token.to_owned(), namespace.to_owned())
            }
            ClusterKind::Real(real) => (real.token.clone(), real.namespace.clone()),
        };
        let mut variables = vec![
            ("kube_url".to_owned(), self.kube_url.clone()),
            ("kube_token".to_owned(), token),
            ("kube_namespace".to_owned(), namespace),
            ("tick_token".to_owned(), TICK_TOKEN.to_owned()),
        ];
        if let ClusterKind::Real(real) = &self.kind
            && let Some(image) = &real.image
        {
            variables.push(("default_image".to_owned(), image.clone()));
        }
        if let Some((server, url)) = &self.postgres {
            variables.extend(server.variables(url, self.database_network.as_ref()));
        }
        variables.extend(self.options.variables.iter().cloned());
        variables
    }
}
