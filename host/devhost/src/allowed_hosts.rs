//! `allowed_outbound_hosts`: which `scheme://host:port` a component may call, with Spin's wildcards.

use std::net::IpAddr;

use anyhow::{Context, Result, bail, ensure};
use url::Host;

/// The patterns of one component.
#[derive(Debug, Default)]
pub struct AllowedHosts(Vec<Pattern>);

#[derive(Debug)]
struct Pattern {
    /// None for any.
    scheme: Option<String>,
    host: HostPattern,
    port: PortPattern,
}

#[derive(Debug)]
enum HostPattern {
    Any,
    /// Everything below this domain; with its leading dot.
    Below(String),
    Exactly(Host),
    /// Every address with these leading bits.
    Network(IpAddr, u8),
}

#[derive(Debug)]
enum PortPattern {
    Any,
    Exactly(u16),
    /// From the first up to, not including, the second.
    Range(u16, u16),
}

impl AllowedHosts {
    /// Reads patterns whose templates were expanded before.
    ///
    /// # Errors
    /// A pattern is not of the form `scheme://host[:port]`.
    pub fn parse(patterns: &[String]) -> Result<AllowedHosts> {
        patterns
            .iter()
            .map(|pattern| {
                parse_pattern(pattern.trim())
                    .with_context(|| format!("{pattern:?} is no allowed_outbound_hosts pattern"))
            })
            .collect::<Result<_>>()
            .map(AllowedHosts)
    }

    /// Whether a request to this destination is allowed. Without a port the scheme's own one counts.
    pub fn allows(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let Ok(host) = Host::parse(host) else {
            return false;
        };
        let port = port.or_else(|| default_port(scheme));
        self.0.iter().any(|pattern| {
            pattern
                .scheme
                .as_deref()
                .is_none_or(|allowed| allowed == scheme)
                && pattern.host.allows(&host)
                && pattern.port.allows(port)
        })
    }
}

impl HostPattern {
    fn allows(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exactly(allowed), host) => allowed == host,
            (Self::Below(suffix), Host::Domain(domain)) => domain.ends_with(suffix.as_str()),
            (Self::Network(network, bits), Host::Ipv4(address)) => {
                contains(*network, *bits, IpAddr::V4(*address))
            }
            (Self::Network(network, bits), Host::Ipv6(address)) => {
                contains(*network, *bits, IpAddr::V6(*address))
            }
            (Self::Below(_) | Self::Network(..), _) => false,
        }
    }
}

impl PortPattern {
    fn allows(&self, port: Option<u16>) -> bool {
        match (self, port) {
            (Self::Any, _) => true,
            (Self::Exactly(allowed), Some(port)) => *allowed == port,
            (Self::Range(from, to), Some(port)) => (*from..*to).contains(&port),
            (_, None) => false,
        }
    }
}

fn contains(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(bits);
            network.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(bits);
            network.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        "postgres" => Some(5432),
        _ => None,
    }
}

fn parse_pattern(pattern: &str) -> Result<Pattern> {
    let (scheme, rest) = pattern
        .split_once("://")
        .context("it has no scheme: use `scheme://host:port`, each of which may be `*`")?;
    ensure!(
        scheme == "*" || (!scheme.is_empty() && scheme.chars().all(char::is_alphabetic)),
        "its scheme {scheme:?} is neither letters nor `*`"
    );
    let (network, port) = match rest.rsplit_once(':') {
        Some((network, port)) if network.contains('/') => (network, port),
        _ => (rest, ""),
    };
    if let Some(network) = parse_network(network) {
        return Ok(Pattern {
            scheme: some_scheme(scheme),
            host: network,
            port: parse_port(port, scheme)?,
        });
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    ensure!(!rest.contains('/'), "it has a path");
    // The last colon separates the port, unless it is inside the brackets of an IPv6 address.
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (rest, ""),
    };
    Ok(Pattern {
        scheme: some_scheme(scheme),
        host: parse_host(host)?,
        port: parse_port(port, scheme)?,
    })
}

fn some_scheme(scheme: &str) -> Option<String> {
    (scheme != "*").then(|| scheme.to_owned())
}

/// `10.0.0.0/8` and the like; anything else is for [`parse_host`].
fn parse_network(text: &str) -> Option<HostPattern> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits: u8 = bits.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some(HostPattern::Network(address, bits))
}

fn parse_host(host: &str) -> Result<HostPattern> {
    if host == "*" {
        return Ok(HostPattern::Any);
    }
    if host == "self" || host == "self.alt" || host.ends_with(".spin.internal") {
        bail!("calls between components ({host:?}) are not supported by devhost");
    }
    if let Some(domain) = host.strip_prefix("*.") {
        let Host::Domain(domain) = Host::parse(domain)? else {
            bail!("after `*.` comes a domain");
        };
        return Ok(HostPattern::Below(format!(".{domain}")));
    }
    ensure!(
        !host.contains('*'),
        "`*` stands only for the whole host or its first part"
    );
    Ok(HostPattern::Exactly(
        Host::parse(host).with_context(|| format!("bad host {host:?}"))?,
    ))
}

fn parse_port(port: &str, scheme: &str) -> Result<PortPattern> {
    let number = |text: &str| -> Result<u16> {
        text.parse()
            .with_context(|| format!("{text:?} is no port number"))
    };
    if port == "*" {
        return Ok(PortPattern::Any);
    }
    if port.is_empty() {
        return default_port(scheme)
            .map(PortPattern::Exactly)
            .with_context(|| format!("it has no port, and {scheme:?} has no usual one"));
    }
    match port.split_once("..") {
        Some((from, to)) => Ok(PortPattern::Range(number(from)?, number(to)?)),
        None => Ok(PortPattern::Exactly(number(port)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, scheme: &str, host: &str, port: Option<u16>) -> bool {
        AllowedHosts::parse(&[pattern.to_owned()])
            .unwrap_or_else(|e| panic!("{pattern}: {e:#}"))
            .allows(scheme, host, port)
    }

    #[test]
    fn every_part_must_match() {
        assert!(allows(
            "http://127.0.0.1:8001",
            "http",
            "127.0.0.1",
            Some(8001)
        ));
        assert!(!allows(
            "http://127.0.0.1:8001",
            "https",
            "127.0.0.1",
            Some(8001)
        ));
        assert!(!allows(
            "http://127.0.0.1:8001",
            "http",
            "127.0.0.2",
            Some(8001)
        ));
        assert!(!allows("http://127.0.0.1:8001", "http", "127.0.0.1", None));
        assert!(allows("https://example.com", "https", "example.com", None));
        assert!(allows(
            "https://example.com/",
            "https",
            "EXAMPLE.com",
            Some(443)
        ));
        assert!(!allows(
            "https://example.com",
            "https",
            "www.example.com",
            None
        ));
    }

    #[test]
    fn wildcards_ranges_and_networks() {
        assert!(allows("*://*:*", "http", "anything", Some(1)));
        assert!(allows(
            "https://*.example.com",
            "https",
            "a.b.example.com",
            None
        ));
        assert!(!allows(
            "https://*.example.com",
            "https",
            "example.com",
            None
        ));
        assert!(allows("http://*:8000..8010", "http", "h", Some(8009)));
        assert!(!allows("http://*:8000..8010", "http", "h", Some(8010)));
        assert!(allows("http://10.0.0.0/8", "http", "10.1.2.3", None));
        assert!(!allows("http://10.0.0.0/8", "http", "11.1.2.3", None));
        let some = "postgres://10.0.0.0/24:6432";
        assert!(allows(some, "postgres", "10.0.0.7", Some(6432)));
        assert!(!allows(some, "postgres", "10.0.0.7", Some(5432)));
        assert!(!allows(some, "postgres", "10.0.1.7", Some(6432)));
        assert!(allows(
            "postgres://fd00::/8",
            "postgres",
            "[fd00::1]",
            Some(5432)
        ));
        assert!(allows(
            "postgres://fd00::/8:*",
            "postgres",
            "[fd00::1]",
            Some(1)
        ));
        assert!(allows("http://[::1]:80", "http", "[::1]", None));
        assert!(allows("http://0.0.0.0/0", "http", "11.1.2.3", None));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in [
            "*",
            "",
            "example.com",
            "http://a/path",
            "http://*a.b",
            "x://h",
            "http://h:port",
            "http://self",
        ] {
            assert!(AllowedHosts::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
