//! `retry`: which ends are tried again, and how often.

use domain::{Outcome, Retry};
use serde_json::Value;

use super::reader::{Object, Reader, child, kind_of};
use crate::limits::MAX_RETRIES;
use crate::problem::{shortened, unknown};

/// No retries where nothing is said, and of errors alone where only the limit is.
pub fn retry(object: &mut Object, reader: &mut Reader) -> Retry {
    let default = Retry::default();
    let Some(mut given) = object.object("retry", reader) else {
        return default;
    };
    let limit = match given.take("limit") {
        None => default.limit,
        Some(value) => limit(&value).unwrap_or_else(|| {
            let detail = format!("must be a whole number from 0 to {MAX_RETRIES}");
            reader.add(given.pointer("limit"), detail);
            default.limit
        }),
    };
    let outcomes = match given.take("on") {
        None => default.outcomes(),
        Some(value) => outcomes(value, &given.pointer("on"), reader),
    };
    given.refuse_unknown(&["limit", "on"], reader);
    Retry::of(limit, &outcomes)
}

fn limit(value: &Value) -> Option<u32> {
    let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
    number.filter(|n| *n <= MAX_RETRIES)
}

fn outcomes(value: Value, pointer: &str, reader: &mut Reader) -> Vec<Outcome> {
    let items = match value {
        Value::Array(items) if !items.is_empty() => items,
        Value::Array(_) => {
            let detail = "must name at least one outcome; leave `retry` out for no retries";
            reader.add(pointer.to_owned(), detail);
            return Vec::new();
        }
        other => {
            let detail = format!("must be an array of outcomes, not {}", kind_of(&other));
            reader.add(pointer.to_owned(), detail);
            return Vec::new();
        }
    };
    // More than there are outcomes cannot all be right, and need not all be told.
    if items.len() > Retry::OUTCOMES.len() {
        let most = Retry::OUTCOMES.len();
        let detail = format!("has {} outcomes; at most {most} are allowed", items.len());
        reader.add(pointer.to_owned(), detail);
        return Vec::new();
    }
    let mut outcomes = Vec::new();
    for (at, item) in items.into_iter().enumerate() {
        let pointer = child(pointer, &at.to_string());
        let Some(name) = reader.text(item, pointer.clone()) else {
            continue;
        };
        match Retry::OUTCOMES.into_iter().find(|o| o.as_str() == name) {
            Some(outcome) if outcomes.contains(&outcome) => {
                reader.add(pointer, "stands more than once");
            }
            Some(outcome) => outcomes.push(outcome),
            None => {
                let known = Retry::OUTCOMES.map(Outcome::as_str);
                let why = unknown("outcome to retry", &name, &known);
                reader.add(pointer, format!("`{}` {why}", shortened(&name)));
            }
        }
    }
    outcomes
}
