//! What a token looks like: a prefix that scanners for leaked secrets find, 32 bytes by chance, and a check of both.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Every token that we make begins with this.
pub const PREFIX: &str = "exr_";

/// How many bytes nobody can guess.
const RANDOM_BYTES: usize = 32;

/// How many bytes of a digest check the rest, so that what is mistyped or made up is refused without a look at the store: 6 characters.
/// That keeps nobody out who makes the effort, and need not.
const CHECK_BYTES: usize = 4;

/// The token of those bytes.
pub fn token(random: [u8; RANDOM_BYTES]) -> String {
    let body = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let check = check(&body);
    body + &check
}

/// Whether a token has the form of ours.
pub fn is_ours(token: &[u8]) -> bool {
    let Ok(token) = std::str::from_utf8(token) else {
        return false;
    };
    let length = PREFIX.len() + base64_len(RANDOM_BYTES);
    token.starts_with(PREFIX)
        && token
            .split_at_checked(length)
            .is_some_and(|(body, given)| check(body) == given)
}

/// How many characters that many bytes have in base64 without padding.
const fn base64_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(6)
}

fn check(body: &str) -> String {
    URL_SAFE_NO_PAD.encode(&Sha256::digest(body)[..CHECK_BYTES])
}

/// The SHA-256 of a token: what is kept of it. Nobody guesses 32 bytes, so nothing slower is needed.
pub fn digest(token: &[u8]) -> [u8; 32] {
    Sha256::digest(token).into()
}

/// In lowercase.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads 32 bytes in hex.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_form() {
        let token = token([7; 32]);
        assert_eq!(token.len(), 4 + 43 + 6);
        assert!(is_ours(token.as_bytes()), "{token}");
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert!(!is_ours(&other), "{at}");
        }
        for other in ["", "exr_", &token[1..], &token[..token.len() - 1]] {
            assert!(!is_ours(other.as_bytes()), "{other}");
        }
        assert!(!is_ours(b"exr_\xff"));
    }

    #[test]
    fn hex_is_read_as_it_is_written() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8 % 256).unwrap_or(0));
        assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        let bad = "g".repeat(64);
        for text in ["", "00", &bad, &"é".repeat(32)] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }
}
