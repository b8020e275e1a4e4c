//! `image`: the grammar of image references, and the list of those allowed.
//!
//! The grammar is that of <https://github.com/distribution/reference>.

use super::Rules;
use super::reader::{Object, Reader};
use crate::limits::{MAX_IMAGE_BYTES, MAX_IMAGE_NAME_BYTES};

/// The image to run in: the named one, or the configured one.
pub fn image(object: &mut Object, rules: &Rules<'_>, reader: &mut Reader) -> String {
    let Some(image) = object.text("image", reader) else {
        return rules.default_image.to_owned();
    };
    if !is_reference(&image) {
        let detail = "must be an image reference such as docker.io/library/python:3.13 or \
                      ghcr.io/owner/name@sha256:…";
        reader.add(object.pointer("image"), detail);
    } else if image != rules.default_image {
        let lists = [Some(rules.allowed_images), rules.tenant_images];
        let mut lists = lists.into_iter().flatten();
        if let Some(allowed) = lists.find(|globs| !is_allowed(&image, globs)) {
            let detail = format!("is not among the allowed images: {}", allowed.join(", "));
            reader.add(object.pointer("image"), detail);
        }
    }
    image
}

/// Whether one of the globs fits. Both are compared in full, so that `alpine*` does not allow the registry
/// `alpine.example.com`.
fn is_allowed(image: &str, globs: &[String]) -> bool {
    let image = in_full(image);
    globs
        .iter()
        .any(|glob| glob == "*" || matches(&in_full(glob), &image))
}

/// The reference with the registry and the folder that Docker's short names leave out.
fn in_full(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((first, _)) if is_domain(first) || first.contains('*') => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// Whether the first part of a name is a registry, and not a folder on Docker Hub.
fn is_domain(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.contains(char::is_uppercase)
}

/// `*` is any text, `?` any character; in the registry, before the first slash, neither is a slash: else
/// `*.example.com/x` would allow `evil.io/a.example.com/x`.
fn matches(glob: &str, text: &str) -> bool {
    // For each place in the text whether the glob so far leads there: bounded work, whatever the glob.
    let text: Vec<char> = text.chars().collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    let mut in_registry = true;
    for c in glob.chars() {
        let any = |other: char| !in_registry || other != '/';
        if c == '*' {
            for at in 0..text.len() {
                reached[at + 1] |= reached[at] && any(text[at]);
            }
        } else {
            for at in (0..text.len()).rev() {
                let fits = text[at] == c || (c == '?' && any(text[at]));
                reached[at + 1] = reached[at] && fits;
            }
            reached[0] = false;
        }
        in_registry &= c != '/';
    }
    reached[text.len()]
}

fn is_reference(text: &str) -> bool {
    if text.len() > MAX_IMAGE_BYTES {
        return false;
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    // A colon after the last slash begins the tag; one before it a port.
    let name_end = rest.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match rest[name_end..].split_once(':') {
        Some((last, tag)) => (&rest[..name_end + last.len()], Some(tag)),
        None => (rest, None),
    };
    digest.is_none_or(is_digest) && tag.is_none_or(is_tag) && is_name(name)
}

fn is_name(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((first, path)) if is_domain(first) => {
            if !is_host(first) {
                return false;
            }
            path
        }
        _ => name,
    };
    // 64 hex digits alone would be taken for the id of an image.
    let is_id = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
    name.len() <= MAX_IMAGE_NAME_BYTES && !is_id && path.split('/').all(is_component)
}

/// A domain name, an IPv4 address or an IPv6 address in brackets; with a port or without.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rfind(':') {
        Some(at) if !text.ends_with(']') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    };
    let is_port = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_v6 = |h: &str| {
        h.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok())
    };
    port.is_none_or(is_port) && (host.split('.').all(is_label) || is_v6(host))
}

/// Runs of lowercase letters and digits, joined by one dot, one or two underscores, or any hyphens.
fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let joint =
        |j: &str| matches!(j, "." | "_" | "__") || (!j.is_empty() && j.bytes().all(|b| b == b'-'));
    text.starts_with(word)
        && text.ends_with(word)
        && text.split(word).filter(|j| !j.is_empty()).all(joint)
}

/// A letter, digit or underscore, then up to 127 of these, dots and hyphens.
fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// An algorithm, a colon, and at least 32 hex digits; the usual algorithms with just their length.
fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else {
        return false;
    };
    let part = |p: &str| {
        p.starts_with(|c: char| c.is_ascii_alphabetic())
            && p.bytes().all(|b| b.is_ascii_alphanumeric())
    };
    let length = match algorithm {
        "sha256" => hex.len() == 64,
        "sha512" => hex.len() == 128,
        _ => hex.len() >= 32,
    };
    length
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
        && algorithm.split(['-', '_', '+', '.']).all(part)
}

#[cfg(test)]
mod tests {
    //! References and globs, by example.
    use super::{in_full, is_reference, matches};

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in [
            "busybox",
            "busybox:1.36",
            "library/busybox",
            "docker.io/library/busybox:latest",
            "localhost/x",
            "localhost:5000/a/b:v1",
            "127.0.0.1:5000/x",
            "[::1]:5000/x",
            "[::1]/x",
            "ghcr.io/a-b/c_d/e__f/g.h:V1_x-y.z",
            "a--b",
            "REG.example/x",
            &format!("busybox@{digest}"),
            &format!("ghcr.io/x/y:1@{digest}"),
            &"a".repeat(255),
        ] {
            assert!(is_reference(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "Busybox",
            "busybox:",
            "busybox:-x",
            "busybox latest",
            "busybox:la test",
            "/busybox",
            "busybox/",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a:b:c",
            "busybox@sha256:abc",
            "busybox@",
            "busybox@sha256",
            "host:port/x",
            "-x.example/y",
            "[::g]/x",
            "http://docker.io/x",
            "ünicode",
            &"a".repeat(256),
            &format!("x:{}", "t".repeat(129)),
            &"a".repeat(64),
            &format!("x@{digest}@{digest}"),
        ] {
            assert!(!is_reference(bad), "{bad}");
        }
    }

    #[test]
    fn globs() {
        for (glob, image, expected) in [
            ("alpine", "alpine", true),
            ("alpine", "docker.io/library/alpine", true),
            ("docker.io/library/alpine", "alpine", true),
            ("alpine", "alpine:3", false),
            ("alpine:*", "alpine:3.22", true),
            ("alpine*", "alpine.example.com/x", false),
            ("python:*", "python:5000/x", false),
            ("docker.io/*", "busybox:1.36", true),
            ("docker.io/*", "me/x", true),
            ("docker.io/*", "ghcr.io/me/x", false),
            ("me/*", "me/x:1", true),
            ("ghcr.io/acme/*", "ghcr.io/acme/x/y:1", true),
            ("ghcr.io/acme/*", "ghcr.io/acme-evil/x", false),
            ("*.example.com/*", "a.example.com/x/y", true),
            ("*.example.com/*", "evil.io/a.example.com/x", false),
            ("*/tools", "quay.io/tools", true),
            ("alpine:3.?", "alpine:3.9", true),
            ("alpine:3.?", "alpine:3.22", false),
            ("*a*a*a*a/b", &"a".repeat(255), false),
        ] {
            let fits = matches(&in_full(glob), &in_full(image));
            assert_eq!(fits, expected, "{glob} {image}");
        }
        assert_eq!(in_full("quay.io/x"), "quay.io/x");
    }
}
