//! ConfigMaps and Secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::names;
use crate::status::Cause;

/// Most bytes of data in a ConfigMap or Secret, keys and values together for ConfigMaps, values for Secrets.
const MAX_DATA_BYTES: usize = 1024 * 1024;

/// Checks keys and size.
pub fn check(object: &Value, causes: &mut Vec<Cause>) {
    let secret = object["kind"] == "Secret";
    let mut total = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in object[field].as_object().into_iter().flatten() {
            causes.extend(
                names::config_key(key)
                    .iter()
                    .map(|e| Cause::invalid(format!("{field}[{key}]"), &json!(key), e)),
            );
            let text = value.as_str().unwrap_or_default();
            let encoded = secret || field == "binaryData";
            total += if encoded {
                STANDARD.decode(text).map_or(0, |bytes| bytes.len())
            } else {
                text.len()
            };
        }
    }
    if total > MAX_DATA_BYTES {
        causes.push(Cause::too_long(
            if secret { "data" } else { "" },
            MAX_DATA_BYTES,
        ));
    }
}

/// An immutable one stays as it is.
pub fn update(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    if old["immutable"] != true {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if new["immutable"] != true {
        causes.push(Cause::forbidden("immutable", detail));
    }
    for field in ["data", "binaryData"] {
        if old[field] != new[field] {
            causes.push(Cause::forbidden(field, detail));
        }
    }
}
