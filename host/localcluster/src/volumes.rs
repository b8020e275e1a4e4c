//! What a pod needs from other objects before it can start: volumes and environment.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::object;
use crate::pod_spec;
use crate::resources::Resource;
use crate::runner::{ContainerStart, Mount, PodStart, Volume, VolumeFile};
use crate::storage::Key;

/// Permission bits of volume files unless the pod says otherwise.
const DEFAULT_MODE: u64 = 0o644;

/// Why a pod cannot start yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocked {
    /// A volume's source is missing.
    Mount(String),
    /// A variable's source is missing.
    Config(String),
    /// The image's name cannot be read.
    InvalidImage(String),
    /// The image cannot be pulled.
    Image {
        /// Its name.
        image: String,
        /// What the registry would say.
        message: String,
    },
}

/// Everything resolved, or the first thing that is missing, in the kubelet's order: volumes, image, environment.
pub fn resolve(
    cluster: &Cluster,
    pod: &Value,
    deadline: Option<Timestamp>,
) -> Result<PodStart, Blocked> {
    let namespace = object::namespace(pod);
    let volumes: Vec<Volume> = object::items(&pod["spec"]["volumes"])
        .map(|volume| resolve_volume(cluster, namespace, volume))
        .collect::<Result<_, _>>()?;
    let containers = object::items(&pod["spec"]["containers"])
        .map(|container| {
            pod_spec::check_image(container["image"].as_str().unwrap_or_default())?;
            resolve_container(cluster, pod, container)
        })
        .collect::<Result<_, _>>()?;
    Ok(PodStart {
        uid: object::uid(pod).to_owned(),
        name: object::name(pod).to_owned(),
        volumes,
        containers,
        deadline,
        grace_seconds: pod["spec"]["terminationGracePeriodSeconds"]
            .as_u64()
            .unwrap_or(30),
        simulate: pod["metadata"]["annotations"]["localcluster/simulate"]
            .as_str()
            .and_then(|text| serde_json::from_str(text).ok()),
    })
}

fn resolve_volume(cluster: &Cluster, namespace: &str, volume: &Value) -> Result<Volume, Blocked> {
    let name = volume["name"].as_str().unwrap_or_default().to_owned();
    let failed = |message: String| {
        Blocked::Mount(format!(
            "MountVolume.SetUp failed for volume {name:?} : {message}"
        ))
    };
    let files = if volume["configMap"].is_object() {
        let source = &volume["configMap"];
        source_files(
            cluster,
            namespace,
            Resource::ConfigMap,
            source,
            &source["name"],
            source["defaultMode"].as_u64(),
        )
        .map_err(failed)?
    } else if volume["secret"].is_object() {
        let source = &volume["secret"];
        source_files(
            cluster,
            namespace,
            Resource::Secret,
            source,
            &source["secretName"],
            source["defaultMode"].as_u64(),
        )
        .map_err(failed)?
    } else if volume["projected"].is_object() {
        let mode = volume["projected"]["defaultMode"].as_u64();
        let mut files = Vec::new();
        for source in object::items(&volume["projected"]["sources"]) {
            for (field, resource) in [
                ("configMap", Resource::ConfigMap),
                ("secret", Resource::Secret),
            ] {
                if source[field].is_object() {
                    files.extend(
                        source_files(
                            cluster,
                            namespace,
                            resource,
                            &source[field],
                            &source[field]["name"],
                            mode,
                        )
                        .map_err(failed)?,
                    );
                }
            }
        }
        files
    } else {
        Vec::new()
    };
    Ok(Volume { name, files })
}

fn source_files(
    cluster: &Cluster,
    namespace: &str,
    resource: Resource,
    source: &Value,
    name: &Value,
    default_mode: Option<u64>,
) -> Result<Vec<VolumeFile>, String> {
    let name = name.as_str().unwrap_or_default();
    let kind = resource.kind().to_lowercase();
    let Some(object) = cluster.get(&Key::new(resource, namespace, name)) else {
        return if source["optional"] == true {
            Ok(Vec::new())
        } else {
            Err(format!("{kind} {name:?} not found"))
        };
    };
    let mode = default_mode.unwrap_or(DEFAULT_MODE);
    let file = |path: &str, data: Vec<u8>, mode: u64| VolumeFile {
        path: path.to_owned(),
        data,
        mode: mode as u32,
    };
    if !source["items"].is_array() {
        return Ok(entries(&object)
            .into_iter()
            .map(|(key, data)| file(&key, data, mode))
            .collect());
    }
    let mut files = Vec::new();
    for item in object::items(&source["items"]) {
        let key = item["key"].as_str().unwrap_or_default();
        match entry(&object, key) {
            Some(data) => files.push(file(
                item["path"].as_str().unwrap_or(key),
                data,
                item["mode"].as_u64().unwrap_or(mode),
            )),
            None if source["optional"] == true => {}
            None => {
                return Err(format!(
                    "{kind} references non-existent {} key: {key}",
                    if kind == "secret" { "secret" } else { "config" }
                ));
            }
        }
    }
    Ok(files)
}

fn decode(text: &Value) -> Vec<u8> {
    STANDARD
        .decode(text.as_str().unwrap_or_default())
        .unwrap_or_default()
}

fn entries(object: &Value) -> Vec<(String, Vec<u8>)> {
    let secret = object["kind"] == "Secret";
    let plain = object["data"].as_object().into_iter().flatten();
    let bytes = |value: &Value| {
        if secret {
            decode(value)
        } else {
            value.as_str().unwrap_or_default().as_bytes().to_vec()
        }
    };
    let mut all: Vec<_> = plain
        .map(|(key, value)| (key.clone(), bytes(value)))
        .collect();
    all.extend(
        object["binaryData"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), decode(value))),
    );
    all
}

fn entry(object: &Value, key: &str) -> Option<Vec<u8>> {
    entries(object)
        .into_iter()
        .find(|(name, _)| name == key)
        .map(|(_, data)| data)
}

fn resolve_container(
    cluster: &Cluster,
    pod: &Value,
    container: &Value,
) -> Result<ContainerStart, Blocked> {
    let mut env: Vec<(String, String)> = Vec::new();
    for source in object::items(&container["envFrom"]) {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        for (field, resource) in [
            ("configMapRef", Resource::ConfigMap),
            ("secretRef", Resource::Secret),
        ] {
            if source[field].is_object() {
                for (key, value) in env_source(cluster, pod, resource, &source[field])? {
                    set(&mut env, format!("{prefix}{key}"), value);
                }
            }
        }
    }
    for variable in object::items(&container["env"]) {
        let name = variable["name"].as_str().unwrap_or_default().to_owned();
        if variable["valueFrom"].is_object() {
            if let Some(value) = value_from(cluster, pod, &variable["valueFrom"])? {
                set(&mut env, name, value);
            }
        } else {
            let value = expand(variable["value"].as_str().unwrap_or_default(), &env);
            set(&mut env, name, value);
        }
    }
    let words = |field: &str| {
        object::items(&container[field])
            .filter_map(|w| w.as_str())
            .map(|w| expand(w, &env))
            .collect::<Vec<_>>()
    };
    let argv = words("command").into_iter().chain(words("args")).collect();
    let mounts = object::items(&container["volumeMounts"])
        .map(|mount| resolve_mount(pod, mount))
        .collect();
    Ok(ContainerStart {
        name: container["name"].as_str().unwrap_or_default().to_owned(),
        argv,
        env,
        working_dir: container["workingDir"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        mounts,
        termination_message_path: container["terminationMessagePath"]
            .as_str()
            .unwrap_or("/dev/termination-log")
            .to_owned(),
        termination_message_from_log: container["terminationMessagePolicy"]
            == "FallbackToLogsOnError",
    })
}

fn resolve_mount(pod: &Value, mount: &Value) -> Mount {
    let volume = mount["name"].as_str().unwrap_or_default();
    // The kubelet mounts these volumes read-only whatever the mount says.
    let source = object::items(&pod["spec"]["volumes"]).find(|v| v["name"] == volume);
    let fixed = source.is_some_and(|v| {
        v["configMap"].is_object() || v["secret"].is_object() || v["projected"].is_object()
    });
    Mount {
        volume: volume.to_owned(),
        path: mount["mountPath"].as_str().unwrap_or_default().to_owned(),
        sub_path: mount["subPath"].as_str().unwrap_or_default().to_owned(),
        read_only: fixed || mount["readOnly"] == true,
    }
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    env.retain(|(n, _)| *n != name);
    env.push((name, value));
}

fn env_source(
    cluster: &Cluster,
    pod: &Value,
    resource: Resource,
    source: &Value,
) -> Result<Vec<(String, String)>, Blocked> {
    let name = source["name"].as_str().unwrap_or_default();
    match cluster.get(&Key::new(resource, object::namespace(pod), name)) {
        Some(object) => Ok(entries(&object)
            .into_iter()
            .map(|(k, v)| (k, String::from_utf8_lossy(&v).into_owned()))
            .collect()),
        None if source["optional"] == true => Ok(Vec::new()),
        None => Err(Blocked::Config(format!(
            "{} {name:?} not found",
            resource.kind().to_lowercase()
        ))),
    }
}

fn value_from(cluster: &Cluster, pod: &Value, source: &Value) -> Result<Option<String>, Blocked> {
    if let Some(path) = source["fieldRef"]["fieldPath"].as_str() {
        return Ok(Some(field_path(pod, path)));
    }
    for (field, resource) in [
        ("configMapKeyRef", Resource::ConfigMap),
        ("secretKeyRef", Resource::Secret),
    ] {
        let reference = &source[field];
        if !reference.is_object() {
            continue;
        }
        let (name, key) = (
            reference["name"].as_str().unwrap_or_default(),
            reference["key"].as_str().unwrap_or_default(),
        );
        let namespace = object::namespace(pod);
        let found = cluster.get(&Key::new(resource, namespace, name));
        let optional = reference["optional"] == true;
        return match found.as_ref().map(|object| entry(object, key)) {
            Some(Some(data)) => Ok(Some(String::from_utf8_lossy(&data).into_owned())),
            _ if optional => Ok(None),
            Some(None) => Err(Blocked::Config(format!(
                "couldn't find key {key} in {} {namespace}/{name}",
                resource.kind()
            ))),
            None => Err(Blocked::Config(format!(
                "{} {name:?} not found",
                resource.kind().to_lowercase()
            ))),
        };
    }
    Ok(Some(String::new()))
}

fn field_path(pod: &Value, path: &str) -> String {
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let value = map.split('.').fold(pod, |value, part| &value[part]);
        return value[key].as_str().unwrap_or_default().to_owned();
    }
    let value = path.split('.').fold(pod, |value, part| &value[part]);
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// Replaces `$(NAME)` by known variables; `$$` is one `$`; what is unknown stays as it is.
pub fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match env.iter().find(|(n, _)| n == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion() {
        let env = [("A".to_owned(), "1".to_owned())];
        let cases = [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $ ${A} $(A", "$A $ ${A} $(A"),
            ("$$$(A)", "$1"),
            ("é$", "é$"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }
}
