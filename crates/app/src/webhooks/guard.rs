//! Which URLs a webhook may name: the guard against being sent to what only we can reach.
//!
//! It goes by what stands in the URL. A public name that resolves to an inner address is for the host to stop,
//! which looks it up: see docs/OPERATIONS.md. Everything that two readers of URLs could read differently is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;

/// The longest URL, in bytes: what receivers, proxies and their logs take without complaint.
const MAX_URL_BYTES: usize = 2_048;

/// The longest name of a host, and of one of its parts, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// Names below these are looked up inside: by the machine, the local network, a cloud's or a cluster's own servers.
const INNER_SUFFIXES: [&str; 11] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "corp",
    "home",
    "home.arpa",
    "svc",
    "cluster.local",
];

/// IPv4 networks that are not the internet's (IANA's special-purpose registry, multicast, and class E).
const INNER_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 31, 196, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only IPv6 network that has public addresses; loopback, mapped, unique local, link-local and multicast ones lie outside.
const PUBLIC_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Those in it that are not public themselves, or carry an IPv4 address: IETF's own with Teredo, documentation, 6to4.
const INNER_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Where a URL leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As it is sent.
    pub(super) uri: Uri,
    https: bool,
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

impl Target {
    /// Reads an `http` or `https` URL, and nothing that is doubtful.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that begins with the place.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        const FORM: &str = "must be a URL of the form https://host/path";
        if url.len() > MAX_URL_BYTES {
            return Err(format!("must have at most {MAX_URL_BYTES} bytes"));
        }
        let doubtful = |b: u8| !b.is_ascii_graphic() || b == b'\\';
        if url.bytes().any(doubtful) {
            return Err(
                "must be ASCII without blanks and backslashes; encode the rest by %XX, a host by punycode"
                    .to_owned(),
            );
        }
        if url.contains('#') {
            return Err("must have no fragment".to_owned());
        }
        let uri: Uri = url.parse().map_err(|_| FORM.to_owned())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(FORM.to_owned()),
        };
        let authority = uri.authority().ok_or_else(|| FORM.to_owned())?.as_str();
        if authority.contains('@') {
            return Err("must have no user and password".to_owned());
        }
        let (host, port) = split(authority).ok_or_else(|| FORM.to_owned())?;
        let port = match port {
            None if https => 443,
            None => 80,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or("must have a port from 1 to 65535")?,
            Some(_) => return Err(FORM.to_owned()),
        };
        let host = Host::parse(host)?;
        Ok(Self {
            uri,
            https,
            host,
            port,
        })
    }

    /// # Errors
    /// Why it is not a place on the internet that is reached safely.
    pub(super) fn check_public(&self) -> Result<(), String> {
        if !self.https {
            return Err("must begin with https://".to_owned());
        }
        let public = match &self.host {
            Host::Address(IpAddr::V4(address)) => {
                !INNER_V4.iter().any(|network| within_v4(*address, *network))
            }
            Host::Address(IpAddr::V6(address)) => {
                within_v6(*address, PUBLIC_V6)
                    && !INNER_V6.iter().any(|network| within_v6(*address, *network))
            }
            // A name of one part is looked up in the domains of this machine's own network.
            Host::Name(name) => {
                name.contains('.') && !INNER_SUFFIXES.iter().any(|s| below(name, s))
            }
        };
        if public {
            Ok(())
        } else {
            Err(
                "must not name an inner host; webhook_allowed_hosts lists the exceptions"
                    .to_owned(),
            )
        }
    }

    /// Whether both are one server.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.port == other.port && self.has_host_of(other)
    }

    /// Whether both are on one host. This machine has many names.
    pub(super) fn has_host_of(&self, other: &Self) -> bool {
        self.host == other.host || (self.host.is_loopback() && other.host.is_loopback())
    }
}

/// Host and port of an authority without a user.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        return match rest {
            "" => Some((host, None)),
            rest => Some((host, Some(rest.strip_prefix(':')?))),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let address = inner.parse::<Ipv6Addr>();
            let address = address.map_err(|_| "must have an IPv6 address in its brackets")?;
            return Ok(Self::Address(address.into()));
        }
        let name = text.to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let good = |label: &str| {
            (1..=MAX_LABEL_BYTES).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if name.len() > MAX_NAME_BYTES || !name.split('.').all(good) {
            return Err("must have a host of letters, digits, hyphens and dots".to_owned());
        }
        // Many take `127.1`, `0177.0.0.1`, `0x7f000001` and `2130706433` for addresses: all but the usual form is refused.
        let last = name.rsplit('.').next().unwrap_or(name);
        let numeric = last.starts_with("0x") || last.bytes().all(|b| b.is_ascii_digit());
        if numeric {
            let address = name.parse::<Ipv4Addr>();
            let address = address.map_err(|_| "must have an IPv4 address in four decimal parts")?;
            return Ok(Self::Address(address.into()));
        }
        Ok(Self::Name(name.to_owned()))
    }

    fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => below(name, "localhost"),
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

/// Whether it is that domain or lies below it.
fn below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn within_v4(address: Ipv4Addr, (network, bits): (Ipv4Addr, u32)) -> bool {
    let shift = Ipv4Addr::BITS - bits;
    address.to_bits() >> shift == network.to_bits() >> shift
}

fn within_v6(address: Ipv6Addr, (network, bits): (Ipv6Addr, u32)) -> bool {
    let shift = Ipv6Addr::BITS - bits;
    address.to_bits() >> shift == network.to_bits() >> shift
}

/// An exception of the configuration: a glob of hosts, for https, or for http where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AllowedHost {
    https: bool,
    /// `*` is any text; the host of an IPv6 address stands without brackets.
    glob: String,
}

impl AllowedHost {
    /// Reads `host`, `https://host` or `http://host`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (https, glob) = match text.split_once("://") {
            None => (true, text),
            Some(("https", glob)) => (true, glob),
            Some(("http", glob)) => (false, glob),
            Some(_) => return None,
        };
        let fits =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'.' | b'-' | b'_' | b':');
        let inner = glob.strip_prefix('[').and_then(|g| g.strip_suffix(']'));
        // Outside of brackets a colon would be a port, and ports are not told apart.
        let glob = inner.or((!glob.contains(':')).then_some(glob))?;
        (!glob.is_empty() && glob.bytes().all(fits)).then(|| Self {
            https,
            glob: glob.to_ascii_lowercase(),
        })
    }

    pub(super) fn allows(&self, target: &Target) -> bool {
        let host = match &target.host {
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        self.https == target.https && fits(&self.glob, &host)
    }
}

/// Whether the text fits a glob in which `*` is any text.
fn fits(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        // Without a star, all of it must have fitted.
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
