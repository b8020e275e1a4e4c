//! The fields that are text: script, interpreter, args, env and labels.

use std::collections::BTreeMap;

use super::reader::{Object, Reader};
use crate::limits::{
    MAX_ARGS, MAX_ARGS_BYTES, MAX_ARGUMENT_BYTES, MAX_ENV, MAX_ENV_BYTES, MAX_INTERPRETER,
    MAX_LABEL_KEY_CHARS, MAX_LABEL_VALUE_CHARS, MAX_LABELS, MAX_SCRIPT_BYTES,
};

/// `script`: required and not blank.
pub fn script(object: &mut Object, reader: &mut Reader) -> String {
    let pointer = object.pointer("script");
    let Some(value) = object.take("script") else {
        reader.add(pointer, "is required");
        return String::new();
    };
    let Some(script) = reader.text(value, pointer.clone()) else {
        return String::new();
    };
    if script.len() > MAX_SCRIPT_BYTES {
        let detail = format!(
            "has {} bytes; at most {MAX_SCRIPT_BYTES} are allowed",
            script.len()
        );
        reader.add(pointer, detail);
    } else if script.trim().is_empty() {
        reader.add(pointer, "must not be blank");
    }
    script
}

/// `interpreter`: a command with its first arguments.
pub fn interpreter(object: &mut Object, reader: &mut Reader) -> Option<Vec<String>> {
    let pointer = object.pointer("interpreter");
    let words = object.texts("interpreter", MAX_INTERPRETER, reader)?;
    if words.is_empty() || words.iter().any(String::is_empty) {
        reader.add(
            pointer.clone(),
            "must be a non-empty array of non-empty strings",
        );
    }
    check_strings(&words, &pointer, reader);
    Some(words)
}

/// `args`: the script's own arguments; empty ones are arguments too.
pub fn args(object: &mut Object, reader: &mut Reader) -> Vec<String> {
    let pointer = object.pointer("args");
    let args = object.texts("args", MAX_ARGS, reader).unwrap_or_default();
    check_strings(&args, &pointer, reader);
    args
}

fn check_strings(words: &[String], pointer: &str, reader: &mut Reader) {
    if words.iter().any(|word| word.len() > MAX_ARGUMENT_BYTES) {
        let detail = format!(
            "has a string over {MAX_ARGUMENT_BYTES} bytes, which is the most that Linux takes"
        );
        reader.add(pointer.to_owned(), detail);
    }
    let bytes: usize = words.iter().map(String::len).sum();
    if bytes > MAX_ARGS_BYTES {
        let detail = format!("has {bytes} bytes in all; at most {MAX_ARGS_BYTES} are allowed");
        reader.add(pointer.to_owned(), detail);
    }
}

/// `env`: environment variables by name.
pub fn env(object: &mut Object, reader: &mut Reader) -> BTreeMap<String, String> {
    let here = object.pointer("env");
    let mut env = BTreeMap::new();
    let Some(given) = object.object("env", reader) else {
        return env;
    };
    if given.len() > MAX_ENV {
        let detail = format!(
            "has {} variables; at most {MAX_ENV} are allowed",
            given.len()
        );
        reader.add(here, detail);
        return env;
    }
    for (name, pointer, value) in given.into_members() {
        if !is_c_identifier(&name) {
            let detail =
                "must be named by a C identifier: letters, digits and underscores, no digit first";
            reader.add(pointer.clone(), detail);
        }
        let Some(value) = reader.text(value, pointer.clone()) else {
            continue;
        };
        // Linux takes `NAME=value` as one string.
        if name.len() + 1 + value.len() > MAX_ARGUMENT_BYTES {
            let detail = format!(
                "is over {MAX_ARGUMENT_BYTES} bytes with its name, which is the most that Linux takes"
            );
            reader.add(pointer, detail);
        }
        env.insert(name, value);
    }
    let bytes: usize = env.iter().map(|(n, v)| n.len() + 1 + v.len()).sum();
    if bytes > MAX_ENV_BYTES {
        let detail = format!("has {bytes} bytes in all; at most {MAX_ENV_BYTES} are allowed");
        reader.add(here, detail);
    }
    env
}

fn is_c_identifier(name: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(word)
}

/// `labels`: the caller's own names and values, to find executions by.
pub fn labels(object: &mut Object, reader: &mut Reader) -> BTreeMap<String, String> {
    let here = object.pointer("labels");
    let mut labels = BTreeMap::new();
    let Some(given) = object.object("labels", reader) else {
        return labels;
    };
    if given.len() > MAX_LABELS {
        let detail = format!(
            "has {} labels; at most {MAX_LABELS} are allowed",
            given.len()
        );
        reader.add(here, detail);
        return labels;
    }
    for (name, pointer, value) in given.into_members() {
        let hidden = |c: char| c.is_control() || c.is_whitespace() || c == '=';
        if name.is_empty() || name.chars().count() > MAX_LABEL_KEY_CHARS || name.contains(hidden) {
            let detail = format!(
                "must be named by 1 to {MAX_LABEL_KEY_CHARS} visible characters without `=`"
            );
            reader.add(pointer.clone(), detail);
        }
        let Some(value) = reader.text(value, pointer.clone()) else {
            continue;
        };
        if value.chars().count() > MAX_LABEL_VALUE_CHARS || value.contains(char::is_control) {
            let detail = format!(
                "must have at most {MAX_LABEL_VALUE_CHARS} characters, and no control characters"
            );
            reader.add(pointer, detail);
        }
        labels.insert(name, value);
    }
    labels
}
