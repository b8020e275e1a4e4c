//! The Job of one execution, and the ConfigMaps that carry what does not fit into it. Pure.

mod volumes;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvVar, EnvVarSource, PodSpec, PodTemplateSpec, ResourceRequirements,
    SecretKeySelector,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::expansion::literal;
use crate::rules::PodRules;
use volumes::{SCRIPT_FOLDER, files_config_map, script_config_map, volume_mounts, volumes};

/// The label that marks everything Executor makes, and its value.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// See [`LABEL_MANAGED_BY`].
pub const MANAGED_BY: &str = "executor";

/// The label that names the execution.
pub const LABEL_EXECUTION: &str = "executor.dev/execution";

/// The label with the attempt's number; absent on a first attempt.
pub const LABEL_ATTEMPT: &str = "executor.dev/attempt";

/// What tells a script which execution it is, unless its caller has set it otherwise.
pub const ENV_ID: &str = "EXECUTOR_ID";

/// What tells a script which attempt it is, counted from 1, unless its caller has set it otherwise.
pub const ENV_ATTEMPT: &str = "EXECUTOR_ATTEMPT";

/// The folder that a restricted script finds as its home, unless its caller has set it otherwise: its user is in no list
/// of the image's, and the root, where such a user is at home, cannot be written to.
const ENV_HOME: &str = "HOME";

/// The annotation with the digest of what was asked for: tells our own Job from a stranger's of the same name.
pub const ANNOTATION_SPEC_DIGEST: &str = "executor.dev/spec-digest";

/// The annotation that names whose Job it is: several Executors, each with a database of its own, may share a namespace.
pub const ANNOTATION_DATABASE: &str = "executor.dev/database";

/// The annotation of a Job that runs nothing any more and only keeps its name: until when, RFC 3339.
pub const ANNOTATION_NAME_HELD_UNTIL: &str = "executor.dev/name-held-until";

/// In front of the caller's own labels.
const CALLER_LABEL_PREFIX: &str = "label.executor.dev/";

/// The name of the one container, and of the script's key in its ConfigMap.
pub const CONTAINER_NAME: &str = "script";

/// Longer scripts are mounted as files. Linux takes at most 128 KiB in one argument of a program; half of that
/// leaves room for what wraps it, and keeps Jobs small in lists.
pub const INLINE_SCRIPT_LIMIT_BYTES: usize = 64 << 10;

/// Where a script starts, and where the caller's files are.
const WORKSPACE: &str = "/workspace";

/// A finished Job is deleted as soon as its outcome and log are stored. Should nobody do so for seven days, the
/// cluster does: far longer than any outage of ours, since a Job that goes early takes its log along.
const TTL_AFTER_FINISHED_SECONDS: i32 = 7 * 24 * 3600;

/// The longest deadline of a pod that the API takes, in seconds.
const POD_DEADLINE_LIMIT_SECONDS: u64 = i32::MAX as u64;

/// The longest name or value of a label, in characters.
const LABEL_LIMIT: usize = 63;

/// How much of a hash stands for a label that Kubernetes does not take, in bytes: 128 bits do not collide.
const LABEL_HASH_BYTES: usize = 16;

/// What is reserved of a disk that nobody asked for.
const NOTHING_RESERVED: &str = "0";

/// What to run and how, in the terms of this crate. Quantities and names are valid already; of files, no
/// path is also the folder of another.
#[derive(Clone, Default)]
pub struct RunSpec {
    /// The execution.
    pub id: Uuid,
    /// Which attempt it is, counted from 1.
    pub attempt: u32,
    /// The Job's name, derived from id and attempt alone: creating it twice is a conflict, never two Jobs. At most 55
    /// characters, since the ConfigMaps' names and the pod's are made from it.
    pub job_name: String,
    /// The digest of what was asked for.
    pub spec_digest: String,
    /// What tells the database that remembers the execution from others; empty says nothing.
    pub database: String,
    /// The image.
    pub image: String,
    /// The script's text.
    pub script: String,
    /// The command that the script's file is appended to; none means its own `#!` line, or `/bin/sh`.
    pub interpreter: Option<Vec<String>>,
    /// `"$@"` of the script.
    pub args: Vec<String>,
    /// Environment variables by name.
    pub env: BTreeMap<String, String>,
    /// Environment variables by name, from Secrets of the namespace.
    pub secret_env: BTreeMap<String, SecretKey>,
    /// Read-only files by their path under `/workspace`, without a leading slash.
    pub files: BTreeMap<String, Vec<u8>>,
    /// CPU, as in `250m`.
    pub cpu: Option<String>,
    /// Memory, as in `128Mi`.
    pub memory: Option<String>,
    /// Disk, as in `1Gi`; none for what the rules give.
    pub ephemeral_storage: Option<String>,
    /// Seconds between the polite signal and the last one.
    pub grace_seconds: u32,
    /// Seconds after which the kubelet ends the pod, counted from its start on the node: a backstop, since its end
    /// loses nothing but says little.
    pub pod_deadline_seconds: u64,
    /// The caller's labels; those that Kubernetes does not take as they are go hashed.
    pub labels: BTreeMap<String, String>,
    /// What holds for every pod.
    pub rules: PodRules,
}

/// One value in a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretKey {
    /// The Secret's name.
    pub secret: String,
    /// The key in it.
    pub key: String,
}

/// What to create, in order: the Job; where there are ConfigMaps (then the Job is suspended), those, and then the
/// Job is unsuspended.
#[derive(Clone, Debug, PartialEq)]
pub struct Payload {
    /// The Job.
    pub job: Job,
    /// What it mounts. Without an owner yet: see [`with_owner`](Self::with_owner).
    pub config_maps: Vec<ConfigMap>,
}

impl Payload {
    /// Binds the ConfigMaps to the Job of that uid, so that they go when it goes.
    #[must_use]
    pub fn with_owner(mut self, uid: &str) -> Self {
        let owner = OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: self.job.metadata.name.clone().unwrap_or_default(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        for config_map in &mut self.config_maps {
            config_map.metadata.owner_references = Some(vec![owner.clone()]);
        }
        self
    }
}

/// The Job of an execution, and what it mounts.
pub fn payload(spec: &RunSpec) -> Payload {
    let command = command(spec);
    let config_maps: Vec<ConfigMap> = [
        command.script_file.then(|| script_config_map(spec)),
        files_config_map(spec),
    ]
    .into_iter()
    .flatten()
    .collect();
    let job = Job {
        metadata: ObjectMeta {
            name: Some(spec.job_name.clone()),
            ..metadata(spec)
        },
        spec: Some(JobSpec {
            // One pod, once: a second try is decided by us, never by the Job.
            parallelism: Some(1),
            completions: Some(1),
            backoff_limit: Some(0),
            suspend: (!config_maps.is_empty()).then_some(true),
            ttl_seconds_after_finished: Some(TTL_AFTER_FINISHED_SECONDS),
            template: PodTemplateSpec {
                metadata: Some(metadata(spec)),
                spec: Some(pod_spec(spec, command)),
            },
            ..JobSpec::default()
        }),
        status: None,
    };
    Payload { job, config_maps }
}

/// A Job under the name of that one which never makes a pod: until then, whoever asks for that one late is told that it
/// exists.
pub fn placeholder(spec: &RunSpec, until: Timestamp) -> Job {
    let mut job = payload(spec).job;
    let annotations = job.metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION_NAME_HELD_UNTIL.to_owned(), until.to_string());
    if let Some(spec) = job.spec.as_mut() {
        spec.suspend = Some(true);
        spec.parallelism = Some(0);
    }
    job
}

fn pod_spec(spec: &RunSpec, command: Command) -> PodSpec {
    let volumes = volumes(spec, command.script_file);
    let pod = PodSpec {
        containers: vec![container(spec, command)],
        restart_policy: Some("Never".to_owned()),
        // On the pod, not on the Job: the Job's own deadline would delete the pod, and with it the log.
        active_deadline_seconds: Some(
            spec.pod_deadline_seconds
                .clamp(1, POD_DEADLINE_LIMIT_SECONDS) as i64,
        ),
        termination_grace_period_seconds: Some(spec.grace_seconds.into()),
        automount_service_account_token: Some(false),
        // Else each Service of the namespace would be in the script's environment.
        enable_service_links: Some(false),
        // The script is then not process 1, which ignores every signal that it has not asked for, its own
        // `kill -TERM $$` included. What it leaves behind is still killed with its container.
        share_process_namespace: Some(true),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    spec.rules.place(pod)
}

fn container(spec: &RunSpec, command: Command) -> Container {
    Container {
        name: CONTAINER_NAME.to_owned(),
        image: Some(spec.image.clone()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(
            command
                .argv
                .iter()
                .map(|argument| literal(argument))
                .collect(),
        ),
        env: env(spec),
        working_dir: Some(WORKSPACE.to_owned()),
        volume_mounts: Some(volume_mounts(spec, command.script_file)),
        resources: Some(resources(spec)),
        security_context: Some(spec.rules.rights()),
        // The last lines of a failed script survive even where its log does not.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// What the container runs.
struct Command {
    argv: Vec<String>,
    /// Whether the script is a file, to be mounted.
    script_file: bool,
}

fn command(spec: &RunSpec) -> Command {
    let file = format!("{SCRIPT_FOLDER}/{CONTAINER_NAME}");
    let (argv, script_file) = match &spec.interpreter {
        Some(interpreter) => ([interpreter.as_slice(), &[file]].concat(), true),
        None if spec.script.starts_with("#!") => (vec![file], true),
        None if can_be_inline(&spec.script) => (
            ["/bin/sh", "-c", &spec.script, CONTAINER_NAME]
                .map(str::to_owned)
                .to_vec(),
            false,
        ),
        None => (vec!["/bin/sh".to_owned(), file], true),
    };
    Command {
        argv: [argv.as_slice(), &spec.args].concat(),
        script_file,
    }
}

/// Whether the text can follow `sh -c`: neither too long, nor taken for options, nor with the character at which
/// every argument of a program ends.
fn can_be_inline(script: &str) -> bool {
    script.len() <= INLINE_SCRIPT_LIMIT_BYTES
        && !script.starts_with(['-', '+'])
        && !script.contains('\0')
}

fn env(spec: &RunSpec) -> Option<Vec<EnvVar>> {
    let home = spec.rules.is_restricted();
    let own = [
        Some((ENV_ID, spec.id.hyphenated().to_string())),
        Some((ENV_ATTEMPT, spec.attempt.to_string())),
        home.then(|| (ENV_HOME, WORKSPACE.to_owned())),
    ];
    let is_free = |name: &str| !spec.env.contains_key(name) && !spec.secret_env.contains_key(name);
    let own = own
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_free(name))
        .map(|(name, value)| EnvVar {
            name: name.to_owned(),
            value: Some(value),
            value_from: None,
        });
    let plain = spec.env.iter().map(|(name, value)| EnvVar {
        name: name.clone(),
        value: Some(literal(value)),
        value_from: None,
    });
    let secret = spec.secret_env.iter().map(|(name, from)| EnvVar {
        name: name.clone(),
        value: None,
        value_from: Some(EnvVarSource {
            secret_key_ref: Some(SecretKeySelector {
                name: from.secret.clone(),
                key: from.key.clone(),
                optional: None,
            }),
            ..EnvVarSource::default()
        }),
    });
    let env: Vec<_> = own.chain(plain).chain(secret).collect();
    (!env.is_empty()).then_some(env)
}

/// What it may use is what is reserved for it, but for a disk that it did not ask for.
fn resources(spec: &RunSpec) -> ResourceRequirements {
    let disk = spec.ephemeral_storage.as_ref();
    let of = |disk: Option<String>| {
        [
            ("cpu", spec.cpu.clone()),
            ("memory", spec.memory.clone()),
            ("ephemeral-storage", disk),
        ]
        .into_iter()
        .filter_map(|(name, quantity)| Some((name.to_owned(), Quantity(quantity?))))
        .collect()
    };
    let unasked = spec
        .rules
        .disk
        .as_ref()
        .map(|_| NOTHING_RESERVED.to_owned());
    ResourceRequirements {
        requests: Some(of(disk.cloned().or(unasked))),
        limits: Some(of(disk_limit(spec))),
        ..ResourceRequirements::default()
    }
}

/// How much it may write, in all and to each folder: what it asked for, else what the rules say.
fn disk_limit(spec: &RunSpec) -> Option<String> {
    let asked = spec.ephemeral_storage.as_ref();
    asked.or(spec.rules.disk.as_ref()).cloned()
}

/// The labels and annotations of everything that is made for an execution.
fn metadata(spec: &RunSpec) -> ObjectMeta {
    let mut labels: BTreeMap<String, String> = spec
        .labels
        .iter()
        .map(|(name, value)| {
            let (name, value) = (label_text(name, false), label_text(value, true));
            (format!("{CALLER_LABEL_PREFIX}{name}"), value)
        })
        .collect();
    labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGED_BY.to_owned());
    labels.insert(LABEL_EXECUTION.to_owned(), spec.id.hyphenated().to_string());
    if spec.attempt > 1 {
        labels.insert(LABEL_ATTEMPT.to_owned(), spec.attempt.to_string());
    }
    let mut annotations =
        BTreeMap::from([(ANNOTATION_SPEC_DIGEST.to_owned(), spec.spec_digest.clone())]);
    if !spec.database.is_empty() {
        annotations.insert(ANNOTATION_DATABASE.to_owned(), spec.database.clone());
    }
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// The text where Kubernetes takes it in a label, else a hash of it.
fn label_text(text: &str, may_be_empty: bool) -> String {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric(),
        _ => may_be_empty,
    };
    if ends_well && bytes.len() <= LABEL_LIMIT && bytes.iter().all(inner) {
        return text.to_owned();
    }
    let mut hash = "sha256-".to_owned();
    for byte in &Sha256::digest(bytes)[..LABEL_HASH_BYTES] {
        // Writing into a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
