//! Small readers over objects kept as JSON values.

use std::collections::BTreeSet;

use serde_json::Value;

/// `metadata.<field>` as text; empty when missing.
pub fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    meta(object, "name")
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    meta(object, "namespace")
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    meta(object, "uid")
}

/// Whether deletion was asked for and is waiting for somebody.
pub fn deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// The elements of an array field; none when missing.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> BTreeSet<String> {
    items(&object["metadata"]["finalizers"])
        .filter_map(|f| f.as_str().map(str::to_owned))
        .collect()
}

/// Whether `metadata.finalizers` has this one.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    items(&object["metadata"]["finalizers"]).any(|f| f == finalizer)
}

/// Takes one finalizer off, and the empty list with it.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) {
    let Some(list) = object["metadata"]["finalizers"].as_array_mut() else {
        return;
    };
    list.retain(|f| f != finalizer);
    if list.is_empty() {
        remove(&mut object["metadata"], "finalizers");
    }
}

/// Adds one finalizer unless it is there.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if has_finalizer(object, finalizer) {
        return;
    }
    match object["metadata"]["finalizers"].as_array_mut() {
        Some(list) => list.push(finalizer.into()),
        None => object["metadata"]["finalizers"] = serde_json::json!([finalizer]),
    }
}

/// Removes a key from an object value.
pub fn remove(value: &mut Value, key: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(key);
    }
}

/// Sets a key only when it is missing or null.
pub fn default(value: &mut Value, key: &str, fallback: Value) {
    if value[key].is_null() {
        value[key] = fallback;
    }
}

/// Parses an RFC 3339 time field.
pub fn time(value: &Value) -> Option<jiff::Timestamp> {
    value.as_str()?.parse().ok()
}

/// `status.phase` of a pod.
pub fn phase(pod: &Value) -> &str {
    pod["status"]["phase"].as_str().unwrap_or_default()
}

/// Whether a pod has ended.
pub fn terminal(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Sets or replaces the condition of this type; answers whether anything changed.
pub fn set_condition(status: &mut Value, condition: Value) -> bool {
    if !status["conditions"].is_array() {
        status["conditions"] = Value::Array(Vec::new());
    }
    let Some(list) = status["conditions"].as_array_mut() else {
        return false;
    };
    let Some(existing) = list.iter_mut().find(|c| c["type"] == condition["type"]) else {
        list.push(condition);
        return true;
    };
    if existing["status"] == condition["status"] && existing["reason"] == condition["reason"] {
        return false;
    }
    *existing = condition;
    true
}

/// Whether a condition of this type is `True`.
pub fn condition_true(object: &Value, kind: &str) -> bool {
    items(&object["status"]["conditions"]).any(|c| c["type"] == kind && c["status"] == "True")
}
