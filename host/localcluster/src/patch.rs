//! Merge patch (RFC 7396) and the part of strategic merge patch that maps and keyed lists need.

use serde_json::Value;

use crate::object;

/// Applies an RFC 7396 merge patch.
pub fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    for (key, value) in patch {
        if value.is_null() {
            object::remove(target, key);
        } else if value.is_object() {
            merge(&mut target[key], value);
        } else {
            target[key] = value.clone();
        }
    }
}

/// The key by which elements of a list are matched in a strategic merge; lists not named here are replaced.
fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => Some("name"),
        "ownerReferences" => Some("uid"),
        "conditions" => Some("type"),
        "volumeMounts" => Some("mountPath"),
        _ => None,
    }
}

/// Applies a strategic merge patch: maps merge, known lists merge by their key, `finalizers` unite, `$patch: delete` and
/// `$patch: replace` work, and `$deleteFromPrimitiveList/finalizers` takes out.
pub fn strategic(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Default::default());
    }
    if patch.get("$patch").is_some_and(|p| p == "replace") {
        *target = Value::Object(
            patch
                .iter()
                .filter(|(k, _)| *k != "$patch")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        );
        return;
    }
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(list), Some(gone)) = (
                target.get_mut(field).and_then(Value::as_array_mut),
                value.as_array(),
            ) {
                list.retain(|element| !gone.contains(element));
            }
        } else if key.starts_with('$') {
            // Order directives change nothing that is observable here.
        } else if value.is_null() {
            object::remove(target, key);
        } else if let (Some(merge_key), Some(elements)) = (merge_key(key), value.as_array()) {
            merge_list(&mut target[key], elements, merge_key);
        } else if let ("finalizers", Some(elements)) = (key.as_str(), value.as_array()) {
            unite(&mut target[key], elements);
        } else if value.is_object() {
            strategic(&mut target[key], value);
        } else {
            target[key] = value.clone();
        }
    }
}

fn merge_list(target: &mut Value, elements: &[Value], key: &str) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(list) = target.as_array_mut() else {
        return;
    };
    for element in elements {
        let position = list
            .iter()
            .position(|existing| existing[key] == element[key]);
        match (position, element["$patch"] == "delete") {
            (Some(index), true) => {
                list.remove(index);
            }
            (Some(index), false) => strategic(&mut list[index], element),
            (None, true) => {}
            (None, false) => list.push(element.clone()),
        }
    }
}

fn unite(target: &mut Value, elements: &[Value]) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(list) = target.as_array_mut() else {
        return;
    };
    for element in elements {
        if !list.contains(element) {
            list.push(element.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(apply: fn(&mut Value, &Value), before: Value, patch: Value, after: Value) {
        let mut target = before;
        apply(&mut target, &patch);
        assert_eq!(target, after, "{patch}");
    }

    #[test]
    fn merge_patch() {
        check(
            merge,
            json!({"a": 1, "b": {"c": 2, "d": 3}}),
            json!({"b": {"c": null, "e": 4}}),
            json!({"a": 1, "b": {"d": 3, "e": 4}}),
        );
        check(
            merge,
            json!({"a": [1, 2]}),
            json!({"a": [3]}),
            json!({"a": [3]}),
        );
        check(
            merge,
            json!({"spec": {"suspend": true}}),
            json!({"spec": {"suspend": false}}),
            json!({"spec": {"suspend": false}}),
        );
        check(
            merge,
            json!({}),
            json!({"m": {"l": {"x": "1", "y": null}}}),
            json!({"m": {"l": {"x": "1"}}}),
        );
    }

    #[test]
    fn strategic_patch() {
        let before = json!({"containers": [{"name": "a", "image": "1"}, {"name": "b"}], "finalizers": ["x"]});
        let patch = json!({"containers": [{"name": "a", "image": "2"}, {"name": "b", "$patch": "delete"}], "finalizers": ["y"]});
        check(
            strategic,
            before,
            patch,
            json!({"containers": [{"name": "a", "image": "2"}], "finalizers": ["x", "y"]}),
        );
        let gone = json!({"$deleteFromPrimitiveList/finalizers": ["x"]});
        check(
            strategic,
            json!({"finalizers": ["x", "y"]}),
            gone,
            json!({"finalizers": ["y"]}),
        );
        check(
            strategic,
            json!({"a": {"b": 1}}),
            json!({"a": {"$patch": "replace", "c": 2}}),
            json!({"a": {"c": 2}}),
        );
    }
}
