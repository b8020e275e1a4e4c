//! What of the files reaches the pod as volumes, and the ConfigMaps that carry it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, EmptyDirVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{CONTAINER_NAME, RunSpec, WORKSPACE, disk_limit, metadata};

/// Where the script's file is, when it is one.
pub(super) const SCRIPT_FOLDER: &str = "/executor";

/// What programs expect to be writable everywhere. A volume where the root file system is not.
const TMP: &str = "/tmp";

/// Read and execute for all, written for nobody: images run scripts as any user.
const READ_ONLY_EXECUTABLE: i32 = 0o555;

pub(super) fn volumes(spec: &RunSpec, script_file: bool) -> Vec<Volume> {
    let config_map = |name: &str, config_map: String| Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map,
            default_mode: Some(READ_ONLY_EXECUTABLE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let scratch = |name: &str| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: disk_limit(spec).map(Quantity),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let mut volumes = vec![scratch("workspace")];
    if spec.rules.is_restricted() {
        volumes.push(scratch("tmp"));
    }
    if script_file {
        volumes.push(config_map("script", script_config_map_name(spec)));
    }
    if !spec.files.is_empty() {
        volumes.push(config_map("files", files_config_map_name(spec)));
    }
    volumes
}

pub(super) fn volume_mounts(spec: &RunSpec, script_file: bool) -> Vec<VolumeMount> {
    let mount = |name: &str, path: String| VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("workspace", WORKSPACE.to_owned())];
    if spec.rules.is_restricted() {
        mounts.push(mount("tmp", TMP.to_owned()));
    }
    // Made by the runtime on its way to a file, a folder would be root's; as a part of the workspace it is everybody's.
    mounts.extend(folders(spec).into_iter().map(|folder| VolumeMount {
        sub_path: Some(folder.to_owned()),
        ..mount("workspace", format!("{WORKSPACE}/{folder}"))
    }));
    if script_file {
        mounts.push(VolumeMount {
            read_only: Some(true),
            ..mount("script", SCRIPT_FOLDER.to_owned())
        });
    }
    mounts.extend(
        spec.files
            .keys()
            .enumerate()
            .map(|(number, path)| VolumeMount {
                read_only: Some(true),
                sub_path: Some(file_key(number)),
                ..mount("files", format!("{WORKSPACE}/{path}"))
            }),
    );
    mounts
}

/// The folders below the workspace that hold the caller's files, outer ones first.
fn folders(spec: &RunSpec) -> BTreeSet<&str> {
    let paths = spec.files.keys();
    let folders = paths.filter_map(|path| path.rsplit_once('/'));
    folders.map(|(folder, _)| folder).collect()
}

fn script_config_map_name(spec: &RunSpec) -> String {
    format!("{}-script", spec.job_name)
}

fn files_config_map_name(spec: &RunSpec) -> String {
    format!("{}-files", spec.job_name)
}

/// Paths have characters that keys cannot have, so files are numbered in the order of their paths.
fn file_key(number: usize) -> String {
    format!("f{number}")
}

pub(super) fn script_config_map(spec: &RunSpec) -> ConfigMap {
    config_map(
        spec,
        script_config_map_name(spec),
        [(CONTAINER_NAME.to_owned(), spec.script.as_bytes())],
    )
}

pub(super) fn files_config_map(spec: &RunSpec) -> Option<ConfigMap> {
    let files = spec
        .files
        .values()
        .enumerate()
        .map(|(number, bytes)| (file_key(number), bytes.as_slice()));
    (!spec.files.is_empty()).then(|| config_map(spec, files_config_map_name(spec), files))
}

fn config_map<'a>(
    spec: &RunSpec,
    name: String,
    contents: impl IntoIterator<Item = (String, &'a [u8])>,
) -> ConfigMap {
    let (mut data, mut binary_data) = (BTreeMap::new(), BTreeMap::new());
    for (key, bytes) in contents {
        match plain_text(bytes) {
            Some(text) => drop(data.insert(key, text.to_owned())),
            None => drop(binary_data.insert(key, ByteString(bytes.to_vec()))),
        }
    }
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name),
            ..metadata(spec)
        },
        data: (!data.is_empty()).then_some(data),
        binary_data: (!binary_data.is_empty()).then_some(binary_data),
        // The kubelet then does not watch it for changes, and nobody changes what runs.
        immutable: Some(true),
    }
}

/// The bytes as text that a person can read with kubectl. JSON writes other control characters as six, so a
/// script full of them would not fit into a request; base64 takes a third more, whatever the bytes are.
fn plain_text(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = |c: char| !c.is_control() || matches!(c, '\n' | '\t' | '\r');
    text.chars().all(is_plain).then_some(text)
}
