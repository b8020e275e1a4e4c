//! Signing in the form of Standard Webhooks (<https://www.standardwebhooks.com>, version 1): HMAC-SHA256.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

/// What a secret begins with, so that it is known for one wherever it is found.
const PREFIX: &str = "whsec_";

/// The length of a key, in bytes, as the standard has it.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// How many keys one name may have: the new one and the old one while receivers change over, and one to spare.
const MAX_KEYS: usize = 3;

/// The keys of one name: each of them signs, so that a receiver may know any of them.
#[derive(Clone)]
pub(super) struct Keys(Vec<Vec<u8>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// Reads `whsec_<base64>`, several separated by blanks; none where one of them is not of that form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let key = |word: &str| {
            let key = STANDARD.decode(word.strip_prefix(PREFIX)?).ok()?;
            KEY_BYTES.contains(&key.len()).then_some(key)
        };
        let keys: Vec<_> = text.split_whitespace().map(key).collect::<Option<_>>()?;
        (1..=MAX_KEYS).contains(&keys.len()).then_some(Self(keys))
    }

    /// The value of `webhook-signature`, for the message with that id, sent at that time in seconds since 1970.
    pub(super) fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signatures: Vec<String> = self
            .0
            .iter()
            .filter_map(|key| {
                // HMAC takes keys of every length; the error of the trait is for other algorithms.
                let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
                mac.update(format!("{id}.{timestamp}.").as_bytes());
                mac.update(body);
                let signature = STANDARD.encode(mac.finalize().into_bytes());
                Some(format!("v1,{signature}"))
            })
            .collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    //! Keys, and signatures as another's implementation has them.
    use super::*;

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    #[test]
    fn signatures_are_those_of_the_standard() {
        let signed = Keys::parse(ONE)
            .expect("a key")
            .sign("id", 1_700_000_000, b"{}");
        let theirs = standardwebhooks::Webhook::new(ONE).expect("a key");
        let theirs = theirs.sign("id", 1_700_000_000, b"{}").expect("it signs");
        assert_eq!(signed, theirs);
        let both = Keys::parse(&format!(" {OTHER}\n{ONE} ")).expect("two keys");
        let both = both.sign("id", 1_700_000_000, b"{}");
        assert!(both.ends_with(&format!(" {theirs}")), "{both}");
        assert_eq!(both.split(' ').count(), 2);
    }

    #[test]
    fn a_receiver_takes_each_of_two_keys() {
        let now = jiff::Timestamp::now().as_second();
        let both = Keys::parse(&format!("{ONE} {OTHER}")).expect("two keys");
        let mut headers = http::HeaderMap::new();
        for (name, value) in [
            ("webhook-id", "id".to_owned()),
            ("webhook-timestamp", now.to_string()),
            ("webhook-signature", both.sign("id", now, b"{}")),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        for key in [ONE, OTHER] {
            let receiver = standardwebhooks::Webhook::new(key).expect("a key");
            receiver.verify(b"{}", &headers).expect("it is ours");
            receiver.verify(b"{ }", &headers).expect_err("another body");
        }
    }

    #[test]
    fn bad_keys_are_refused_and_good_ones_not_shown() {
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        let many = [ONE; MAX_KEYS + 1].join(" ");
        for bad in [
            "",
            " ",
            "whsec_",
            "whsec_%",
            &ONE[6..],
            &short,
            &long,
            &many,
        ] {
            assert!(Keys::parse(bad).is_none(), "{bad}");
        }
        assert!(Keys::parse(&format!("{ONE} x")).is_none());
        assert_eq!(format!("{:?}", Keys::parse(ONE)), "Some(Keys(1))");
    }
}
