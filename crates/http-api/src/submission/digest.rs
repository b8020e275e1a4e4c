//! The digest of a request, which tells a replay from another request.

use std::fmt::Write as _;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256, in lowercase hex, of the value written without blanks and with its members sorted by name.
pub fn of(value: &Value) -> String {
    let mut hash = Sha256::new();
    add(value, &mut hash);
    let mut hex = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Sorts by itself: whether the map does is a feature that any other crate may switch.
fn add(value: &Value, hash: &mut Sha256) {
    match value {
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                add(item, hash);
                hash.update(b",");
            }
            hash.update(b"]");
        }
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            hash.update(b"{");
            for (name, value) in sorted {
                hash.update(Value::from(name.as_str()).to_string());
                hash.update(b":");
                add(value, hash);
                hash.update(b",");
            }
            hash.update(b"}");
        }
        plain => hash.update(plain.to_string()),
    }
}

#[cfg(test)]
mod tests {
    //! What is the same request, and what is not.
    use serde_json::json;

    use super::of;

    #[test]
    fn only_the_meaning_counts() {
        let a: serde_json::Value =
            serde_json::from_str(r#"{"script":"x","env":{"A":"1","B":"2"}}"#).expect("JSON");
        let b: serde_json::Value =
            serde_json::from_str(r#"{ "env" : {"B":"2", "A":"\u0031"}, "script":"x" }"#)
                .expect("JSON");
        assert_eq!(of(&a), of(&b));
        assert_eq!(of(&a).len(), 64);
        for (one, other) in [
            (json!(["a", "b"]), json!(["a,b"])),
            (json!(["a", ["b"]]), json!([["a"], "b"])),
            (json!({"a": "1"}), json!({"a": 1})),
            (json!({"a": {"b": "c"}}), json!({"a": {}, "b": "c"})),
            (json!(["a", "b"]), json!(["b", "a"])),
        ] {
            assert_ne!(of(&one), of(&other), "{one} {other}");
        }
    }
}
