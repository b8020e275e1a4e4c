//! Reading members of JSON objects while errors are gathered, not thrown.

use serde_json::{Map, Value};

use crate::limits::MAX_LISTED_ERRORS;
use crate::problem::{FieldError, Place, shortened, unknown};

/// Gathers the errors of one request.
#[derive(Debug, Default)]
pub struct Reader {
    errors: Vec<FieldError>,
}

impl Reader {
    /// Notes one error at that JSON Pointer.
    pub fn add(&mut self, pointer: String, detail: impl Into<String>) {
        self.errors.push(FieldError {
            place: Place::Pointer(pointer),
            detail: detail.into(),
        });
    }

    /// How many errors there are so far.
    pub fn count(&self) -> usize {
        self.errors.len()
    }

    /// All that was noted.
    pub fn into_errors(self) -> Vec<FieldError> {
        self.errors
    }

    /// The text, or nothing and an error where it is none or cannot go to a process.
    pub fn text(&mut self, value: Value, pointer: String) -> Option<String> {
        match value {
            Value::String(text) if text.contains('\0') => {
                self.add(pointer, "must not contain the character NUL (U+0000)");
                None
            }
            Value::String(text) => Some(text),
            other => {
                self.add(
                    pointer,
                    format!("must be a string, not {}", kind_of(&other)),
                );
                None
            }
        }
    }
}

/// What a value is, in words.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The JSON Pointer of a member, or of an item by its number.
pub fn child(parent: &str, name: &str) -> String {
    let name = shortened(name).replace('~', "~0").replace('/', "~1");
    format!("{parent}/{name}")
}

/// A JSON object of the request, whose members are taken one by one.
#[derive(Debug)]
pub struct Object {
    members: Map<String, Value>,
    pointer: String,
}

impl Object {
    /// The members, and where the object stands.
    pub fn new(members: Map<String, Value>, pointer: String) -> Self {
        Self { members, pointer }
    }

    /// Where that member stands.
    pub fn pointer(&self, name: &str) -> String {
        child(&self.pointer, name)
    }

    /// Takes a member; null is as good as absent.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a member that must be a string.
    pub fn text(&mut self, name: &str, reader: &mut Reader) -> Option<String> {
        let value = self.take(name)?;
        reader.text(value, self.pointer(name))
    }

    /// Takes a member that must be an object.
    pub fn object(&mut self, name: &str, reader: &mut Reader) -> Option<Self> {
        match self.take(name)? {
            Value::Object(members) => Some(Self::new(members, self.pointer(name))),
            other => {
                let detail = format!("must be an object, not {}", kind_of(&other));
                reader.add(self.pointer(name), detail);
                None
            }
        }
    }

    /// Takes a member that must be an array of strings; those that are none are noted and left out.
    pub fn texts(&mut self, name: &str, most: usize, reader: &mut Reader) -> Option<Vec<String>> {
        let pointer = self.pointer(name);
        match self.take(name)? {
            Value::Array(items) if items.len() > most => {
                let detail = format!("has {} strings; at most {most} are allowed", items.len());
                reader.add(pointer, detail);
                None
            }
            Value::Array(items) => Some(
                items
                    .into_iter()
                    .enumerate()
                    .filter_map(|(at, item)| reader.text(item, child(&pointer, &at.to_string())))
                    .collect(),
            ),
            other => {
                let detail = format!("must be an array of strings, not {}", kind_of(&other));
                reader.add(pointer, detail);
                None
            }
        }
    }

    /// How many members are left.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// All members, with the pointer of each.
    pub fn into_members(self) -> impl Iterator<Item = (String, String, Value)> {
        let pointer = self.pointer;
        self.members.into_iter().map(move |(name, value)| {
            let at = child(&pointer, &name);
            (name, at, value)
        })
    }

    /// Notes what the contract has but this version has not.
    pub fn refuse_later(&mut self, later: &[&str], reader: &mut Reader) {
        for name in later {
            if self.take(name).is_some() {
                reader.add(self.pointer(name), "is not supported yet");
            }
        }
    }

    /// Notes what belongs elsewhere.
    pub fn refuse_elsewhere(&mut self, elsewhere: &[(&str, &str)], reader: &mut Reader) {
        for (name, hint) in elsewhere {
            if self.members.remove(*name).is_some() {
                reader.add(self.pointer(name), *hint);
            }
        }
    }

    /// Notes every member with another name than these; a null does not make it known. Beyond what is listed they are
    /// only counted: a body has room for a million of them, and the nearest known name of each takes its time.
    pub fn refuse_unknown(&self, known: &[&str], reader: &mut Reader) {
        let is_unknown = |name: &&String| !known.contains(&name.as_str());
        let mut strangers = self.members.keys().filter(is_unknown);
        for name in strangers.by_ref().take(MAX_LISTED_ERRORS) {
            reader.add(self.pointer(name), unknown("field", name, known));
        }
        let more = strangers.count();
        if more > 0 {
            let detail = format!("has {more} more unknown fields");
            reader.add(self.pointer.clone(), detail);
        }
    }
}
