//! Small texts, each beside another reading of the same: quantities, images, URLs of webhooks, traces.

use std::net::IpAddr;

use domain::quantity::QuantityError;
use domain::{Quantity, TraceContext};
use http::Method;
use serde_json::json;
use url::{Host, Url};

use crate::service::{check, check_url, service};

/// The longest quantity that is read, in bytes.
const MAX_QUANTITY_BYTES: usize = 32;

/// Billionths of the largest quantity.
const MAX_NANOS: u128 = (i64::MAX as u128) * 1_000_000_000;

/// A quantity beside the grammar of Kubernetes, read another way: which of them are taken, and how much they are.
pub fn quantities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let read = text.parse::<Quantity>();
    let expected = Amount::read(text).filter(|_| text.len() <= MAX_QUANTITY_BYTES);
    match (&read, expected) {
        (Ok(quantity), Some(amount)) => {
            assert!(!amount.negative, "{text}");
            let nanos = amount.nanos().expect("a quantity in range");
            let same: Quantity = format!("{nanos}n").parse().expect("a quantity");
            assert_eq!(*quantity, same, "{text}");
            assert_eq!(quantity.as_str(), text);
            assert_eq!(quantity.is_zero(), nanos == 0);
            assert_eq!(quantity.is_whole(), nanos.is_multiple_of(1_000_000_000));
        }
        (Err(QuantityError::Syntax), Some(amount)) => {
            let minus_nothing = amount.negative && amount.nanos() == Some(0);
            assert!(minus_nothing, "{text} is a quantity for Kubernetes");
        }
        (Err(QuantityError::Negative), Some(amount)) => assert!(amount.negative, "{text}"),
        // Finer or larger than Kubernetes holds: it would be rounded there, and is refused here.
        (Err(QuantityError::Range), Some(amount)) => {
            assert!(
                amount.nanos().is_none() || amount.is_far_fetched(),
                "{text}"
            );
        }
        (Err(QuantityError::Range), None) => {
            // Digits of an exponent are counted before they are read.
            assert!(text.contains(['e', 'E']), "{text}");
        }
        (Err(QuantityError::Syntax), None) => {}
        (other, None) => panic!("{text} is no quantity for Kubernetes, but {other:?} here"),
    }
}

/// A decimal number with the power of its suffix.
struct Amount {
    negative: bool,
    /// All digits, without leading zeros.
    digits: String,
    /// How many of them are behind the point.
    places: i32,
    base: u128,
    exponent: i32,
}

impl Amount {
    /// By the grammar: a sign, digits with at most one point, a suffix.
    fn read(text: &str) -> Option<Self> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let suffix = unsigned.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &unsigned[..unsigned.len() - suffix.len()];
        if number.matches('.').count() > 1 || !number.contains(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let (base, exponent) = match suffix {
            "" => (10, 0),
            "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => {
                let steps = "KMGTPE".find(&suffix[..1])? as i32 + 1;
                (2, 10 * steps)
            }
            "k" | "M" | "G" | "T" | "P" | "E" => (10, 3 * ("kMGTPE".find(suffix)? as i32 + 1)),
            "m" | "u" | "n" => (10, -3 * ("mun".find(suffix)? as i32 + 1)),
            _ => {
                let exponent = suffix.strip_prefix(['e', 'E'])?;
                (10, exponent.parse().ok()?)
            }
        };
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let point = number.find('.').map_or(0, |at| number.len() - at - 1);
        Some(Self {
            negative: text.starts_with('-'),
            digits: digits.trim_start_matches('0').to_owned(),
            places: i32::try_from(point).ok()?,
            base,
            exponent,
        })
    }

    /// Whether it is one that nobody writes, and that is refused here though it comes to something: the smallest parts of a binary unit.
    fn is_far_fetched(&self) -> bool {
        self.base == 2 && self.places > 9
    }

    /// In billionths, where that is a whole number within Kubernetes' range.
    fn nanos(&self) -> Option<u128> {
        let zeros = self.digits.len() - self.digits.trim_end_matches('0').len();
        let zeros = i32::try_from(zeros).ok()?;
        let kept = self.digits.trim_end_matches('0');
        if kept.is_empty() {
            // However it is scaled; exponents of three digits are not read.
            return (self.exponent.abs() < 100).then_some(0);
        }
        let mut nanos: u128 = kept.parse().ok()?;
        let mut tens = 9 + zeros - self.places;
        if self.base == 10 {
            tens = tens.checked_add(self.exponent)?;
        } else {
            nanos = nanos.checked_mul(1 << self.exponent)?;
        }
        for _ in 0..tens.clamp(0, 40) {
            nanos = nanos.checked_mul(10)?;
        }
        for _ in 0..(-tens).clamp(0, 60) {
            if !nanos.is_multiple_of(10) {
                return None;
            }
            nanos /= 10;
        }
        (nanos <= MAX_NANOS).then_some(nanos)
    }
}

/// The reference of an image: what is accepted comes from where the settings allow, as a container runtime reads it.
pub fn images(data: &[u8]) {
    let Ok(image) = std::str::from_utf8(data) else {
        return;
    };
    let body = json!({ "script": "true", "image": image }).to_string();
    let answer = service().ask(Method::POST, "/executions", "{run}", body.as_bytes());
    check(&Method::POST, "/executions", &answer);
    if answer.status != 201 {
        return assert_eq!(answer.status, 422, "{answer:?}");
    }
    assert_eq!(answer.json()["image"], image);
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-:/@[]+".contains(c);
    assert!(image.chars().all(fits), "{image:?}");
    let (registry, path) = match image.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        // Uppercase is no folder of Docker Hub's.
        Some((first, _)) if first.contains(char::is_uppercase) => panic!("{image:?}"),
        _ => ("docker.io", image),
    };
    let allowed = match registry {
        "docker.io" => true,
        "ghcr.io" => path.starts_with("a/"),
        _ => false,
    };
    assert!(allowed, "{image:?} is of {registry}");
    let (name, digest) = path.split_once('@').unwrap_or((path, "a:"));
    assert!(
        digest.matches(':').count() == 1 && !digest.contains('/'),
        "{image:?}"
    );
    let name = name.split_once(':').map_or(name, |(name, _)| name);
    for part in name.split('/') {
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        assert!(part.starts_with(ends) && part.ends_with(ends), "{image:?}");
        assert!(
            !part.contains("..") && !part.contains(char::is_uppercase),
            "{image:?}"
        );
    }
}

/// The URL of a webhook: what the guard lets through, another reader of URLs sends to the same public host.
pub fn urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(sent) = check_url(text) else {
        return;
    };
    // One that refuses it sends nowhere.
    let Ok(url) = Url::parse(text) else {
        return;
    };
    let host = sent.host().expect("a host").to_ascii_lowercase();
    let port = sent.port_u16();
    assert!(
        url.username().is_empty() && url.password().is_none(),
        "{text:?}"
    );
    assert_eq!(url.fragment(), None, "{text:?}");
    assert_eq!(Some(url.scheme()), sent.scheme_str(), "{text:?}");
    let default = if url.scheme() == "https" { 443 } else { 80 };
    assert_eq!(
        url.port_or_known_default(),
        Some(port.unwrap_or(default)),
        "{text:?}"
    );
    match url.host().expect("a host") {
        Host::Domain(name) => {
            assert_eq!(name, host, "{text:?}");
            let name = name.trim_end_matches('.');
            assert!(
                name.contains('.') && !name.ends_with(".localhost"),
                "{text:?}"
            );
            if name.ends_with(".internal") {
                let allowed = url.scheme() == "http" && name.ends_with(".allowed.internal");
                return assert!(allowed, "{text:?}");
            }
            assert!(
                !name.ends_with(".local") && !name.ends_with(".svc"),
                "{text:?}"
            );
        }
        Host::Ipv4(address) => check_public(address.into(), text),
        Host::Ipv6(address) => check_public(address.into(), text),
    }
    assert_eq!(url.scheme(), "https", "{text:?}");
}

/// No address of this machine, of a network of its own, or of nobody.
fn check_public(address: IpAddr, text: &str) {
    let inner = match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0b1100_0000 == 64;
            v4.is_private()
                || v4.is_link_local()
                || v4.is_broadcast()
                || v4.is_documentation()
                || shared
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    let canonical = address.to_canonical();
    let nobody = canonical.is_loopback() || canonical.is_unspecified() || canonical.is_multicast();
    assert!(!inner && !nobody, "{text:?} is an inner address");
}

/// A `traceparent`: what is read is written as one that reads the same.
pub fn traces(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(trace) = TraceContext::parse(text) else {
        return;
    };
    assert!(trace.trace != 0 && trace.parent != 0, "{text}");
    let written = trace.to_string();
    assert_eq!(TraceContext::parse(&written), Some(trace), "{text}");
    assert_eq!(
        written.as_bytes()[2..],
        text.as_bytes()[2..written.len()],
        "{text}"
    );
}
