//! What request headers say, each read strictly by its own standard.

use domain::TraceContext;
use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, IF_NONE_MATCH,
};
use sha2::{Digest, Sha256};

use crate::limits::{MAX_IDEMPOTENCY_KEY_BYTES, MAX_WAIT_SECONDS};
use crate::problem::{Kind, Problem, shortened};

/// `Idempotency-Key`.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// `Idempotent-Replayed`, on answers that repeat an earlier one.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// `Prefer` (RFC 7240).
pub const PREFER: HeaderName = HeaderName::from_static("prefer");

/// `Preference-Applied` (RFC 7240).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Whether the body is said to be JSON in UTF-8, or nothing is said. `application/x-www-form-urlencoded` is what
/// `curl -d` says of everything, so it is taken for JSON too.
pub fn check_content_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |what: &str| {
        let detail = format!(
            "{what}; send application/json in UTF-8, another type that ends in +json, or no Content-Type."
        );
        Err(Problem::new(Kind::UnsupportedMediaType, detail))
    };
    if let Some(encoding) = headers.get(CONTENT_ENCODING) {
        let encoding = shown(encoding);
        if !encoding.eq_ignore_ascii_case("identity") {
            return refuse(&format!(
                "The Content-Encoding `{encoding}` is not supported"
            ));
        }
    }
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return Ok(());
    };
    let value = shown(value);
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("").to_ascii_lowercase();
    let json = media_type == "application/json"
        || media_type == "application/x-www-form-urlencoded"
        || media_type
            .split_once('/')
            .is_some_and(|(kind, sub)| !kind.is_empty() && sub.len() > 5 && sub.ends_with("+json"));
    if !json {
        return refuse(&format!("The Content-Type `{value}` is not supported"));
    }
    for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
        let value = value.trim().trim_matches('"');
        let utf8 = value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("utf8");
        if name.trim().eq_ignore_ascii_case("charset") && !utf8 {
            return refuse(&format!("The charset `{value}` is not supported"));
        }
    }
    Ok(())
}

/// A header's value as text for people.
fn shown(value: &HeaderValue) -> String {
    shortened(String::from_utf8_lossy(value.as_bytes()).trim())
}

/// The idempotency key, if there is one: 1 to 255 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        let detail = "The header Idempotency-Key stands more than once.";
        return Err(Problem::new(Kind::InvalidHeader, detail));
    }
    match value.to_str() {
        Ok(key)
            if (1..=MAX_IDEMPOTENCY_KEY_BYTES).contains(&key.len())
                && key.bytes().all(|b| b.is_ascii_graphic()) =>
        {
            Ok(Some(key.to_owned()))
        }
        _ => {
            let detail = format!(
                "The header Idempotency-Key must have 1 to {MAX_IDEMPOTENCY_KEY_BYTES} visible ASCII characters."
            );
            Err(Problem::new(Kind::InvalidHeader, detail))
        }
    }
}

/// The seconds of `Prefer: wait=N`, cut to the longest wait. All that is not understood is ignored, malformed waits
/// too, and of two waits the first counts (RFC 7240, section 2).
pub fn preferred_wait(headers: &HeaderMap) -> Option<u32> {
    let mut fields = headers.get_all(PREFER).iter();
    let wait = fields.find_map(|field| {
        let text = String::from_utf8_lossy(field.as_bytes());
        let mut preferences = split_unquoted(&text, ',').into_iter();
        preferences.find_map(wait_value)
    })?;
    let digits = match wait.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => &wait,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Digits that are no number are too many of them.
    let seconds = digits.parse::<u32>().unwrap_or(u32::MAX);
    Some(seconds.min(MAX_WAIT_SECONDS))
}

/// The value of this preference, quoted or not, if its name is `wait`. Parameters behind a semicolon are none of it.
fn wait_value(preference: &str) -> Option<String> {
    let token = *split_unquoted(preference, ';').first()?;
    let (name, value) = token.split_once('=').unwrap_or((token, ""));
    let is_wait = name.trim().eq_ignore_ascii_case("wait");
    is_wait.then(|| value.trim().to_owned())
}

/// The parts between the separators that stand in no quoted string (RFC 9110, section 5.6.4).
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let is_separator = |c: char| {
        let splits = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        splits
    };
    text.split(is_separator).collect()
}

/// Whether `If-None-Match` names that entity tag, by the weak comparison of RFC 9110, section 8.8.3.2.
pub fn none_match(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    headers.get_all(IF_NONE_MATCH).iter().any(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        // Our own tags have no comma in them.
        text.split(',')
            .any(|one| one.trim() == "*" || opaque(one) == opaque(tag))
    })
}

/// What the one `traceparent` says, if it is well-formed (W3C Trace Context, section 3.2).
pub fn traceparent(headers: &HeaderMap) -> Option<TraceContext> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    TraceContext::parse(value.to_str().ok()?)
}

/// Whether `Authorization: Bearer …` carries that token. Takes as long for a wrong one as for the right one.
pub fn bears(headers: &HeaderMap, token: &str) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let bytes = value.as_bytes();
    let Some((scheme, given)) = bytes.split_at_checked(7) else {
        return false;
    };
    // The digests are as long as each other, whatever was given, and say nothing of how much of it was right.
    let (given, token) = (Sha256::digest(given), Sha256::digest(token));
    let difference = given
        .iter()
        .zip(token.iter())
        .fold(0, |difference, (a, b)| difference | (a ^ b));
    scheme.eq_ignore_ascii_case(b"bearer ") && difference == 0
}

#[cfg(test)]
mod tests {
    //! The preference `wait`, in every form that it comes in.
    use super::*;

    #[track_caller]
    fn check(fields: &[&str], expected: Option<u32>) {
        let mut headers = HeaderMap::new();
        for field in fields {
            let value = HeaderValue::from_bytes(field.as_bytes()).expect("a value");
            headers.append(PREFER, value);
        }
        assert_eq!(preferred_wait(&headers), expected, "{fields:?}");
    }

    #[test]
    fn a_wait_is_found_among_other_preferences() {
        for field in [
            "wait=7",
            "Wait = 7",
            "wait=\"7\"",
            "wait=007; x=\"1, wait=9\"",
            "respond-async, wait=7",
            ", ,wait=7,",
            "x=\"a, wait=9\", wait=7",
            "x=\"a\\\", wait=9\", wait=7",
            "return=minimal;wait=9, wait=7",
            "wait=7, wait=8",
        ] {
            check(&[field], Some(7));
        }
        check(&["respond-async", "wait=7", "wait=8"], Some(7));
        check(&["wait=0"], Some(0));
        check(&["wait=61"], Some(MAX_WAIT_SECONDS));
        check(&["wait=99999999999999999999"], Some(MAX_WAIT_SECONDS));
    }

    #[test]
    fn what_is_no_wait_is_ignored() {
        check(&[], None);
        for field in [
            "",
            "respond-async",
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=\"7",
            "wait=7\"",
            "wait=soon",
            "wait=-1",
            "wait=+1",
            "wait=1.5",
            "wait=1 s",
            "waits=7",
            "x=\"wait=7\"",
            "x=\"a, wait=7",
            "x; wait=7",
            "wait=é",
            "wait=soon, wait=7",
        ] {
            check(&[field], None);
        }
        check(&["wait=soon", "wait=7"], None);
    }
}
