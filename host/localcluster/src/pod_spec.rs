//! Defaults of pods, and what can be read off their spec alone.

use serde_json::{Value, json};

use crate::object;
use crate::validate::quantity;
use crate::volumes::Blocked;

/// CPUs the node claims to have. More than any sensible laptop, so that only absurd requests are unschedulable.
const NODE_CPUS: f64 = 1024.0;

/// Memory the node claims to have, in bytes (4 TiB).
const NODE_MEMORY_BYTES: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0;

/// Images whose path holds this cannot be pulled: the hook by which tests see a missing image.
const MISSING_IMAGE: &str = "does-not-exist";

/// Fills in a pod spec what the real API server fills in.
pub fn default_pod(spec: &mut Value) {
    object::default(spec, "restartPolicy", json!("Always"));
    object::default(spec, "terminationGracePeriodSeconds", json!(30));
    object::default(spec, "dnsPolicy", json!("ClusterFirst"));
    object::default(spec, "schedulerName", json!("default-scheduler"));
    object::default(spec, "securityContext", json!({}));
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        default_container(container);
    }
    for volume in spec
        .get_mut("volumes")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        for source in ["configMap", "secret", "projected"] {
            if volume[source].is_object() {
                object::default(&mut volume[source], "defaultMode", json!(420));
            }
        }
    }
}

fn default_container(container: &mut Value) {
    object::default(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    object::default(container, "terminationMessagePolicy", json!("File"));
    object::default(container, "resources", json!({}));
    let image = container["image"].as_str().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
    object::default(
        container,
        "imagePullPolicy",
        json!(if latest { "Always" } else { "IfNotPresent" }),
    );
    let limits = container["resources"]["limits"].clone();
    for (name, limit) in limits.as_object().into_iter().flatten() {
        object::default(&mut container["resources"]["requests"], name, limit.clone());
    }
    for variable in container
        .get_mut("env")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if variable["valueFrom"]["fieldRef"].is_object() {
            object::default(
                &mut variable["valueFrom"]["fieldRef"],
                "apiVersion",
                json!("v1"),
            );
        }
    }
}

/// The quality-of-service class.
pub fn qos_class(spec: &Value) -> &'static str {
    let mut guaranteed = true;
    let mut any = false;
    for container in object::items(&spec["containers"]) {
        let (limits, requests) = (
            &container["resources"]["limits"],
            &container["resources"]["requests"],
        );
        for name in ["cpu", "memory"] {
            any |= !limits[name].is_null() || !requests[name].is_null();
            guaranteed &= !limits[name].is_null()
                && quantity::of(&limits[name]) == quantity::of(&requests[name]);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// The names of the containers.
pub fn container_names(pod: &Value) -> Vec<String> {
    object::items(&pod["spec"]["containers"])
        .filter_map(|c| c["name"].as_str().map(str::to_owned))
        .collect()
}

/// The image of one container.
pub fn image(pod: &Value, container: &str) -> String {
    let found = object::items(&pod["spec"]["containers"]).find(|c| c["name"] == container);
    found
        .and_then(|c| c["image"].as_str())
        .unwrap_or_default()
        .to_owned()
}

/// Why the scheduler finds no node, if it does not.
pub fn unschedulable(pod: &Value) -> Option<String> {
    let asked = |name: &str| -> f64 {
        object::items(&pod["spec"]["containers"])
            .filter_map(|c| quantity::of(&c["resources"]["requests"][name]))
            .sum()
    };
    let tail = "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let selector = pod["spec"]["nodeSelector"]
        .as_object()
        .into_iter()
        .flatten();
    let known = |key: &str, value: &Value| match key {
        "kubernetes.io/os" => value == "linux",
        "kubernetes.io/hostname" => value == crate::pod_lifecycle::NODE_NAME,
        "kubernetes.io/arch" => true,
        _ => false,
    };
    let mut reasons = Vec::new();
    if selector.into_iter().any(|(key, value)| !known(key, value)) {
        reasons.push("1 node(s) didn't match Pod's node affinity/selector");
    }
    if asked("cpu") > NODE_CPUS {
        reasons.push("1 Insufficient cpu");
    }
    if asked("memory") > NODE_MEMORY_BYTES {
        reasons.push("1 Insufficient memory");
    }
    (!reasons.is_empty()).then(|| {
        format!(
            "0/1 nodes are available: {}. no new claims to deallocate, {tail}",
            reasons.join(", ")
        )
    })
}

/// Whether an image can be had: every name that can be read can, but for the ones tests use.
pub fn check_image(image: &str) -> Result<(), Blocked> {
    if !valid_reference(image) {
        let message = format!(
            "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: invalid reference format"
        );
        return Err(Blocked::InvalidImage(message));
    }
    if image.contains(MISSING_IMAGE) {
        let message = format!(
            "failed to pull and unpack image {image:?}: failed to resolve reference {image:?}: {image}: not found"
        );
        return Err(Blocked::Image {
            image: image.to_owned(),
            message,
        });
    }
    Ok(())
}

/// `[host[:port]/]path[:tag][@digest]`, with lower-case path parts.
fn valid_reference(image: &str) -> bool {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    if digest.is_some_and(|d| {
        d.split_once(':')
            .is_none_or(|(_, hex)| hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()))
    }) {
        return false;
    }
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let (path, tag) = match name[start..].find(':') {
        Some(colon) => (&name[..start + colon], Some(&name[start + colon + 1..])),
        None => (name, None),
    };
    let tag_fine = |t: &str| {
        (1..=128).contains(&t.len())
            && t.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            && !t.starts_with(['.', '-'])
    };
    if tag.is_some_and(|t| !tag_fine(t)) {
        return false;
    }
    let mut parts = path.split('/').peekable();
    let first = *parts.peek().unwrap_or(&"");
    if path.contains('/')
        && (first.contains(['.', ':'])
            || first == "localhost"
            || first.bytes().any(|b| b.is_ascii_uppercase()))
    {
        parts.next();
    }
    parts.all(|part| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references() {
        for good in [
            "busybox",
            "busybox:1.37",
            "docker.io/library/busybox:1.37",
            "localhost:5000/a/b",
            "a@sha256:0123456789abcdef0123456789abcdef",
        ] {
            assert!(valid_reference(good), "{good}");
        }
        for bad in [
            "",
            "Busybox",
            "busybox:",
            "a b",
            "a//b",
            "-a",
            "a:b c",
            "busybox:1.37:2",
            "a@sha256:xyz",
            "UPPER/case/Image",
        ] {
            assert!(!valid_reference(bad), "{bad}");
        }
    }
}
