//! `files`: read-only files under the working folder.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::reader::{Object, Reader, kind_of};
use crate::limits::{MAX_FILE_PATH_BYTES, MAX_FILES, MAX_FILES_BYTES, MAX_PATH_SEGMENT_BYTES};
use crate::problem::shortened;

/// The files by path; what is wrong is noted and left out.
pub fn files(object: &mut Object, reader: &mut Reader) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let here = object.pointer("files");
    let Some(given) = object.object("files", reader) else {
        return files;
    };
    if given.len() > MAX_FILES {
        let detail = format!("has {} files; at most {MAX_FILES} are allowed", given.len());
        reader.add(here, detail);
        return files;
    }
    for (path, pointer, value) in given.into_members() {
        if let Some(wrong) = wrong_path(&path) {
            reader.add(pointer.clone(), wrong);
        }
        let content = content(value, &pointer, reader).unwrap_or_default();
        files.insert(path, content);
    }
    let bytes: usize = files.values().map(Vec::len).sum();
    if bytes > MAX_FILES_BYTES {
        let detail = format!("are {bytes} bytes in all; at most {MAX_FILES_BYTES} are allowed");
        reader.add(here.clone(), detail);
    }
    for path in files.keys() {
        let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
        for folder in folders.filter(|folder| files.contains_key(*folder)) {
            let detail = format!("cannot lie in `{}`, which is a file", shortened(folder));
            reader.add(super::reader::child(&here, path), detail);
        }
    }
    files
}

/// Why this is no path of a file under the working folder.
fn wrong_path(path: &str) -> Option<String> {
    let wrong = if path.is_empty() {
        "must have a path as its name"
    } else if path.len() > MAX_FILE_PATH_BYTES {
        return Some(format!(
            "must be a path of at most {MAX_FILE_PATH_BYTES} bytes"
        ));
    } else if path.starts_with('/') {
        "must be a relative path, under /workspace"
    } else if path.ends_with('/') {
        "must be the path of a file, so must not end in a slash"
    } else if path.chars().any(char::is_control) {
        "must be a path without control characters"
    } else if path
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        "must be a path without empty, `.` and `..` segments"
    } else if path.split('/').any(|s| s.len() > MAX_PATH_SEGMENT_BYTES) {
        return Some(format!(
            "must be a path of segments of at most {MAX_PATH_SEGMENT_BYTES} bytes"
        ));
    } else {
        return None;
    };
    Some(wrong.to_owned())
}

fn content(value: Value, pointer: &str, reader: &mut Reader) -> Option<Vec<u8>> {
    let members = match value {
        Value::Object(members) => members,
        other => {
            let kind = kind_of(&other);
            let detail = format!("must be {{\"text\": …}} or {{\"base64\": …}}, not {kind}");
            reader.add(pointer.to_owned(), detail);
            return None;
        }
    };
    let mut entry = Object::new(members, pointer.to_owned());
    entry.refuse_unknown(&["text", "base64"], reader);
    match (entry.take("text"), entry.take("base64")) {
        // A file may hold any character, NUL as well.
        (Some(Value::String(text)), None) => Some(text.into_bytes()),
        (None, Some(Value::String(text))) => {
            let decoded = STANDARD.decode(text);
            if decoded.is_err() {
                let detail =
                    "must be base64 of RFC 4648, section 4: padded, and nothing else in it";
                reader.add(entry.pointer("base64"), detail);
            }
            decoded.ok()
        }
        (Some(other), None) => {
            let detail = format!("must be a string, not {}", kind_of(&other));
            reader.add(entry.pointer("text"), detail);
            None
        }
        (None, Some(other)) => {
            let detail = format!("must be a string, not {}", kind_of(&other));
            reader.add(entry.pointer("base64"), detail);
            None
        }
        _ => {
            let detail = "must have exactly one of `text` and `base64`";
            reader.add(pointer.to_owned(), detail);
            None
        }
    }
}
