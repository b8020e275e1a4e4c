//! The types of the fields that clients of Jobs send: a value of another type is 400, as when the real server decodes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::quantity;
use crate::resources::Resource;
use crate::status::Failure;

/// The type of one field.
enum Type {
    Text,
    Int(&'static str),
    Bool,
    Bytes,
    Quantity,
    List(&'static Type),
    Map(&'static Type),
    Object(&'static str, &'static [(&'static str, Type)]),
}

use Type::{Bool, Bytes, Int, List, Map, Object, Quantity, Text};

const META: Type = Object(
    "ObjectMeta",
    &[
        ("name", Text),
        ("generateName", Text),
        ("namespace", Text),
        ("uid", Text),
        ("resourceVersion", Text),
        ("labels", Map(&Text)),
        ("annotations", Map(&Text)),
        ("finalizers", List(&Text)),
        (
            "ownerReferences",
            List(&Object(
                "OwnerReference",
                &[
                    ("apiVersion", Text),
                    ("kind", Text),
                    ("name", Text),
                    ("uid", Text),
                    ("controller", Bool),
                    ("blockOwnerDeletion", Bool),
                ],
            )),
        ),
    ],
);

const KEY_REF: Type = Object(
    "SecretKeySelector",
    &[("name", Text), ("key", Text), ("optional", Bool)],
);

const ITEMS: Type = List(&Object(
    "KeyToPath",
    &[("key", Text), ("path", Text), ("mode", Int("int32"))],
));

const CONTAINER: Type = Object(
    "Container",
    &[
        ("name", Text),
        ("image", Text),
        ("imagePullPolicy", Text),
        ("command", List(&Text)),
        ("args", List(&Text)),
        ("workingDir", Text),
        (
            "env",
            List(&Object(
                "EnvVar",
                &[
                    ("name", Text),
                    ("value", Text),
                    (
                        "valueFrom",
                        Object(
                            "EnvVarSource",
                            &[
                                ("configMapKeyRef", KEY_REF),
                                ("secretKeyRef", KEY_REF),
                                (
                                    "fieldRef",
                                    Object("ObjectFieldSelector", &[("fieldPath", Text)]),
                                ),
                            ],
                        ),
                    ),
                ],
            )),
        ),
        (
            "resources",
            Object(
                "ResourceRequirements",
                &[("limits", Map(&Quantity)), ("requests", Map(&Quantity))],
            ),
        ),
        (
            "volumeMounts",
            List(&Object(
                "VolumeMount",
                &[
                    ("name", Text),
                    ("mountPath", Text),
                    ("subPath", Text),
                    ("readOnly", Bool),
                ],
            )),
        ),
        ("terminationMessagePath", Text),
        ("terminationMessagePolicy", Text),
        ("securityContext", Object("SecurityContext", &[])),
    ],
);

const POD_SPEC: Type = Object(
    "PodSpec",
    &[
        ("containers", List(&CONTAINER)),
        ("initContainers", List(&CONTAINER)),
        (
            "volumes",
            List(&Object(
                "Volume",
                &[
                    ("name", Text),
                    (
                        "configMap",
                        Object(
                            "ConfigMapVolumeSource",
                            &[
                                ("name", Text),
                                ("items", ITEMS),
                                ("defaultMode", Int("int32")),
                                ("optional", Bool),
                            ],
                        ),
                    ),
                    (
                        "secret",
                        Object(
                            "SecretVolumeSource",
                            &[
                                ("secretName", Text),
                                ("items", ITEMS),
                                ("defaultMode", Int("int32")),
                                ("optional", Bool),
                            ],
                        ),
                    ),
                    (
                        "emptyDir",
                        Object(
                            "EmptyDirVolumeSource",
                            &[("medium", Text), ("sizeLimit", Quantity)],
                        ),
                    ),
                    (
                        "projected",
                        Object("ProjectedVolumeSource", &[("defaultMode", Int("int32"))]),
                    ),
                ],
            )),
        ),
        ("restartPolicy", Text),
        ("activeDeadlineSeconds", Int("int64")),
        ("terminationGracePeriodSeconds", Int("int64")),
        ("shareProcessNamespace", Bool),
        ("automountServiceAccountToken", Bool),
        ("enableServiceLinks", Bool),
        ("serviceAccountName", Text),
        ("nodeSelector", Map(&Text)),
        ("securityContext", Object("PodSecurityContext", &[])),
    ],
);

const JOB_SPEC: Type = Object(
    "JobSpec",
    &[
        ("parallelism", Int("int32")),
        ("completions", Int("int32")),
        ("backoffLimit", Int("int32")),
        ("activeDeadlineSeconds", Int("int64")),
        ("ttlSecondsAfterFinished", Int("int32")),
        ("suspend", Bool),
        (
            "template",
            Object("PodTemplateSpec", &[("metadata", META), ("spec", POD_SPEC)]),
        ),
    ],
);

const JOB: Type = Object("Job", &[("metadata", META), ("spec", JOB_SPEC)]);
const POD: Type = Object("Pod", &[("metadata", META), ("spec", POD_SPEC)]);
const CONFIG_MAP: Type = Object(
    "ConfigMap",
    &[
        ("metadata", META),
        ("data", Map(&Text)),
        ("binaryData", Map(&Bytes)),
        ("immutable", Bool),
    ],
);
const SECRET: Type = Object(
    "Secret",
    &[
        ("metadata", META),
        ("data", Map(&Bytes)),
        ("stringData", Map(&Text)),
        ("immutable", Bool),
        ("type", Text),
    ],
);
const OTHER: Type = Object("Object", &[("metadata", META)]);

/// Checks the types of an object's fields.
pub fn check(resource: Resource, object: &Value) -> Result<(), Failure> {
    let schema = match resource {
        Resource::Job => &JOB,
        Resource::Pod => &POD,
        Resource::ConfigMap => &CONFIG_MAP,
        Resource::Secret => &SECRET,
        Resource::Event | Resource::Namespace => &OTHER,
    };
    visit(schema, object, "", "").map_err(|problem| {
        let kind = resource.kind();
        let version = resource
            .api_version()
            .rsplit('/')
            .next()
            .unwrap_or_default();
        Failure::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {problem}"
        ))
    })
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(value: &Value, owner: &str, path: &str, wanted: &str) -> String {
    let path = path.trim_start_matches('.');
    format!(
        "json: cannot unmarshal {} into Go struct field {owner}.{path} of type {wanted}",
        kind_of(value)
    )
}

fn visit(schema: &Type, value: &Value, owner: &str, path: &str) -> Result<(), String> {
    if value.is_null() {
        return Ok(());
    }
    let wrong = |wanted: &str| Err(mismatch(value, owner, path, wanted));
    match schema {
        Text if !value.is_string() => wrong("string"),
        Bool if !value.is_boolean() => wrong("bool"),
        Int(name) => match value {
            Value::Number(number) => match number.as_i64() {
                Some(number) if *name == "int64" || i32::try_from(number).is_ok() => Ok(()),
                _ => {
                    let path = path.trim_start_matches('.');
                    Err(format!(
                        "json: cannot unmarshal number {number} into Go struct field {owner}.{path} of type {name}"
                    ))
                }
            },
            _ => wrong(name),
        },
        Quantity => match value {
            Value::String(text) if quantity::parse(text).is_some() => Ok(()),
            Value::Number(_) => Ok(()),
            _ => Err(quantity::ERROR.to_owned()),
        },
        Bytes => match value.as_str() {
            Some(text) => match STANDARD.decode(text) {
                Ok(_) => Ok(()),
                Err(base64::DecodeError::InvalidByte(at, _)) => {
                    Err(format!("illegal base64 data at input byte {at}"))
                }
                Err(_) => Err(format!(
                    "illegal base64 data at input byte {}",
                    text.len().saturating_sub(1)
                )),
            },
            None => wrong("[]uint8"),
        },
        List(element) => match value.as_array() {
            Some(list) => list
                .iter()
                .try_for_each(|item| visit(element, item, owner, path)),
            None => wrong(&format!("[]{}", type_name(element))),
        },
        Map(element) => match value.as_object() {
            Some(map) => map
                .iter()
                .try_for_each(|(_, item)| visit(element, item, owner, path)),
            None => wrong(&format!("map[string]{}", type_name(element))),
        },
        Object(name, fields) => match value.as_object() {
            // Go names the innermost structure.
            Some(_) => fields.iter().try_for_each(|(field, schema)| {
                visit(schema, &value[*field], name, &format!("{path}.{field}"))
            }),
            None => wrong(&format!("v1.{name}")),
        },
        Text | Bool => Ok(()),
    }
}

fn type_name(schema: &Type) -> String {
    match schema {
        Text => "string".to_owned(),
        Bool => "bool".to_owned(),
        Int(name) => (*name).to_owned(),
        Bytes => "[]uint8".to_owned(),
        Quantity => "resource.Quantity".to_owned(),
        Object(name, _) => format!("v1.{name}"),
        List(element) => format!("[]{}", type_name(element)),
        Map(element) => format!("map[string]{}", type_name(element)),
    }
}
