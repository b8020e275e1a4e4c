//! What the configuration says about webhooks: which secrets sign, and which hosts may be told.

use std::collections::BTreeMap;

use http::Uri;

use super::guard::{AllowedHost, Target};
use super::schedule::Pauses;
use super::signature::Keys;

/// The secret that signs when a submission names none.
pub const DEFAULT_SECRET: &str = "default";

/// The longest name of a secret, in characters.
const MAX_NAME_CHARS: usize = 64;

/// What the configuration says about webhooks. The default has no secret and allows no inner host.
#[derive(Clone, Debug, Default)]
pub struct WebhookRules {
    secrets: BTreeMap<String, Keys>,
    allowed: Vec<AllowedHost>,
    /// Never told anything, whatever is allowed: behind a proxy that authenticates, whoever reaches it rules the cluster.
    api_server: Option<Target>,
    pauses: Pauses,
}

impl WebhookRules {
    /// Reads the rules: `secrets` is a JSON object from names to `whsec_<base64>`, or empty; `allowed_hosts` are
    /// globs, each perhaps with a scheme, separated by commas or blanks; `pauses` are seconds, or empty; `kube_url` is
    /// where the API server is.
    ///
    /// # Errors
    /// The name of the variable, and what is wrong with it; never its value.
    pub(crate) fn read(
        secrets: &str,
        allowed_hosts: &str,
        pauses: &str,
        kube_url: &str,
    ) -> Result<Self, (&'static str, String)> {
        let words = allowed_hosts.split(|c: char| c == ',' || c.is_whitespace());
        let allowed = words
            .filter(|word| !word.is_empty())
            .map(AllowedHost::parse)
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let problem = "is not a list of hosts such as `https://*.example.internal`";
                ("webhook_allowed_hosts", problem.to_owned())
            })?;
        Ok(Self {
            secrets: read_secrets(secrets).map_err(|problem| ("webhook_secrets", problem))?,
            allowed,
            api_server: Target::parse(kube_url).ok(),
            pauses: Pauses::read(pauses).map_err(|problem| ("webhook_pauses", problem))?,
        })
    }

    /// The URL, if webhooks may be sent there. Asked at the submission and again at each attempt.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with the place: "must be an https URL". Never with the URL.
    pub fn check_url(&self, url: &str) -> Result<Uri, String> {
        let target = Target::parse(url)?;
        if self.api_server.as_ref().is_some_and(|api| api.is(&target)) {
            return Err("must not name the Kubernetes API server".to_owned());
        }
        if !self.allowed.iter().any(|host| host.allows(&target)) {
            let api_server = self.api_server.as_ref();
            if api_server.is_some_and(|api| api.has_host_of(&target)) {
                return Err("must not name the Kubernetes API server's host".to_owned());
            }
            target.check_public()?;
        }
        Ok(target.uri)
    }

    /// Whether a secret of that name signs.
    pub fn has_secret(&self, name: &str) -> bool {
        self.secrets.contains_key(name)
    }

    /// How long is waited between two attempts.
    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    pub(super) fn keys(&self, name: &str) -> Option<&Keys> {
        self.secrets.get(name)
    }
}

fn read_secrets(text: &str) -> Result<BTreeMap<String, Keys>, String> {
    if text.is_empty() {
        return Ok(BTreeMap::new());
    }
    // Not the error's own text: that may quote a secret.
    let read: BTreeMap<String, String> = serde_json::from_str(text)
        .map_err(|_| "is no JSON object from names to secrets".to_owned())?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    read.into_iter()
        .map(|(name, secret)| {
            let length = name.chars().count();
            if !(1..=MAX_NAME_CHARS).contains(&length) || !name.chars().all(fits) {
                return Err(format!(
                    "has a name that is not 1 to {MAX_NAME_CHARS} letters, digits, `-`, `_` and `.`"
                ));
            }
            match Keys::parse(&secret) {
                Some(keys) => Ok((name, keys)),
                None => Err(format!(
                    "has under `{name}` no `whsec_` followed by 24 to 64 bytes in base64"
                )),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    //! The table of URLs.
    use super::*;

    const PROXY: &str = "http://127.0.0.1:8001";

    fn rules(allowed: &str) -> WebhookRules {
        rules_beside(allowed, PROXY)
    }

    fn rules_beside(allowed: &str, kube_url: &str) -> WebhookRules {
        WebhookRules::read("", allowed, "", kube_url).expect("good settings")
    }

    #[track_caller]
    fn refused(rules: &WebhookRules, url: &str, detail: &str) {
        let why = rules.check_url(url).expect_err(url);
        assert!(why.contains(detail), "{url}: {why}");
    }

    #[test]
    fn public_hosts_are_told() {
        let rules = rules("");
        for url in [
            "https://example.org",
            "https://example.org:8443/a/b?c=%20#".trim_end_matches('#'),
            "https://EXAMPLE.org./",
            "https://xn--bcher-kva.example/",
            "https://a_b.example.org/",
            "https://localhost.example.org/",
            "https://local.example/",
            "https://svc.example/",
            "https://notlocalhost.example/",
            "https://8.8.8.8/",
            "https://172.32.0.1/",
            "https://100.128.0.1/",
            "https://[2606:4700::1111]/",
            "https://[2a00:1450::1]:443/x",
        ] {
            let uri = rules
                .check_url(url)
                .unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(uri, url, "what was checked is what is sent");
        }
    }

    #[test]
    fn inner_hosts_are_not_told() {
        let rules = rules("");
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "postgres",
            "printer.local",
            "vault.internal",
            "metadata.google.internal",
            "kubernetes.default.svc",
            "a.b.svc.cluster.local",
            "nas.lan",
            "x.home.arpa",
            "127.0.0.1",
            "127.0.0.1.",
            "127.255.255.254",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
            "[::7f00:1]",
            "[64:ff9b::a00:1]",
            "[fc00::1]",
            "[fd12::1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[2001::1]",
            "[2001:db8::1]",
            "[2002:7f00:1::]",
            "[3fff::1]",
            "[5f00::1]",
        ] {
            let why = rules
                .check_url(&format!("https://{host}/"))
                .expect_err(host);
            assert!(
                why.contains("inner host") || why.contains("API server's host"),
                "{host}: {why}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let rules = rules("*");
        for (url, detail) in [
            ("", "https://host/path"),
            ("example.org", "https://host/path"),
            ("/path", "https://host/path"),
            ("//example.org/", "https://host/path"),
            ("ftp://example.org/", "https://host/path"),
            ("https:example.org", "https://host/path"),
            ("https:///path", ""),
            ("https://user@example.org/", "user"),
            ("https://user:pass@example.org/", "user"),
            ("https://example.org@127.0.0.1/", "user"),
            ("https://example.org\\@127.0.0.1/", "backslashes"),
            ("https://example.org /", "blanks"),
            ("https://example.org/\r\nx", "blanks"),
            ("https://b\u{fc}cher.example/", "punycode"),
            ("https://example.org/#a", "fragment"),
            ("https://example.org#@127.0.0.1/", "fragment"),
            ("https://127.1/", "four decimal parts"),
            ("https://2130706433/", "four decimal parts"),
            ("https://0x7f000001/", "four decimal parts"),
            ("https://0x7f.0.0.0x1/", "four decimal parts"),
            ("https://0177.0.0.1/", "four decimal parts"),
            ("https://127.0.0.01/", "four decimal parts"),
            ("https://1.2.3.4.5/", "four decimal parts"),
            ("https://256.0.0.1/", "four decimal parts"),
            ("https://%31%32%37.0.0.1/", ""),
            ("https://ex%61mple.org/", ""),
            ("https://example..org/", "letters"),
            ("https://.example.org/", "letters"),
            ("https://example.org:0/", "port"),
            ("https://example.org:65536/", "port"),
            ("https://example.org:/", ""),
            ("https://example.org:+1/", ""),
            ("https://[::1/", ""),
            ("https://[127.0.0.1]/", ""),
            ("https://[fe80::1%25eth0]/", ""),
            ("https://[::1]x/", ""),
        ] {
            refused(&rules, url, detail);
        }
        refused(
            &rules,
            &format!("https://example.org/{}", "x".repeat(2_048)),
            "2048 bytes",
        );
    }

    #[test]
    fn the_configuration_makes_exceptions() {
        let rules = rules("hooks.default.svc, http://*.example.internal https://10.1.*\n[fd00::1]");
        for url in [
            "https://hooks.default.svc/",
            "http://a.example.internal:8080/",
            "https://10.1.2.3/",
            "https://[fd00:0::1]/",
        ] {
            rules
                .check_url(url)
                .unwrap_or_else(|why| panic!("{url}: {why}"));
        }
        for url in [
            "http://hooks.default.svc/",
            "https://hooks.default.svc.evil.local/",
            "https://other.default.svc/",
            "https://a.example.internal/",
            "http://example.internal/",
            "http://example.org/",
            "https://10.2.0.1/",
            "https://[fd00::2]/",
        ] {
            refused(&rules, url, "");
        }
    }

    #[test]
    fn the_api_server_is_never_told() {
        let all = rules("http://* *");
        for host in [
            "127.0.0.1",
            "127.0.0.2",
            "localhost",
            "LocalHost.",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            refused(&all, &format!("http://{host}:8001/api"), "API server");
            all.check_url(&format!("http://{host}:9000/"))
                .expect("another port of it is allowed");
        }
        let cluster = rules_beside("", "https://api.example.org");
        refused(&cluster, "https://API.example.org./", "API server");
        refused(
            &cluster,
            "https://api.example.org:8443/",
            "API server's host",
        );
        cluster
            .check_url("https://example.org/")
            .expect("another host");
    }
}
