//! Query strings, read strictly: no unknown name, nothing twice that counts once.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::problem::{FieldError, Kind, Place, Problem, shortened, unknown};

/// The parameters of one request; each is taken once, and what is wrong is gathered.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads the part after `?`. Of `known`, those in `repeated` may stand more than once. What is wrong comes with
    /// [`Query::finish`].
    pub fn parse(raw: Option<&str>, known: &[&str], repeated: &[&str]) -> Self {
        let mut query = Self::default();
        for pair in raw.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                let detail = "is not percent-encoded UTF-8";
                query.add(name, detail);
                continue;
            };
            if !known.contains(&name.as_str()) {
                query.add(&name, unknown("query parameter", &name, known));
            } else if !repeated.contains(&name.as_str())
                && query.pairs.iter().any(|(n, _)| *n == name)
            {
                query.add(&name, "stands more than once");
            } else {
                query.pairs.push((name, value));
            }
        }
        query
    }

    /// Notes one error.
    pub fn add(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError {
            place: Place::Parameter(shortened(name)),
            detail: detail.into(),
        });
    }

    /// Takes the values of that name, in their order.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        let taken = self.pairs.extract_if(.., |(n, _)| n == name);
        taken.map(|(_, value)| value).collect()
    }

    /// Takes the value of that name.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.take_all(name).into_iter().next()
    }

    /// Takes a whole number.
    pub fn number(&mut self, name: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let text = self.take(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|n| digits && range.contains(n));
        if number.is_none() {
            let (least, most) = range.into_inner();
            self.add(
                name,
                format!("must be a whole number from {least} to {most}"),
            );
        }
        number
    }

    /// Takes a yes or no; absent is no.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.take(name).as_deref() {
            Some("true") => true,
            None | Some("false") => false,
            Some(_) => {
                self.add(name, "must be true or false");
                false
            }
        }
    }

    /// Takes a time.
    pub fn time(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.take(name)?;
        let time = text.parse().ok();
        if time.is_none() {
            let detail = "must be a time of RFC 3339 such as 2026-01-31T12:00:00Z; a plus sign in it is written %2B";
            self.add(name, detail);
        }
        time
    }

    /// Takes a name out of a closed set.
    pub fn one_of<T>(
        &mut self,
        name: &str,
        known: &[&str],
        from_name: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.take(name)?;
        let value = from_name(&text);
        if value.is_none() {
            let detail = format!("`{}` {}", shortened(&text), unknown(name, &text, known));
            self.add(name, detail);
        }
        value
    }

    /// # Errors
    /// Everything that was wrong with the query.
    pub fn finish(self) -> Result<(), Problem> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::of_errors(Kind::InvalidQuery, self.errors))
        }
    }
}

/// What may stand in a query as it is (RFC 3986: unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// That path with a query of those names and values.
pub fn url(path: &str, pairs: &[(&str, String)]) -> String {
    let query: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)))
        .collect();
    format!("{path}?{}", query.join("&"))
}

/// Undoes percent-encoding and the plus sign for a blank; none where it is broken or no UTF-8.
fn decode(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    let broken = |(at, byte): (usize, &u8)| *byte == b'%' && !(hex(at + 1) && hex(at + 2));
    if bytes.iter().enumerate().any(broken) {
        return None;
    }
    let blanks = text.replace('+', " ");
    let decoded = percent_decode_str(&blanks).decode_utf8().ok()?;
    Some(decoded.into_owned())
}
