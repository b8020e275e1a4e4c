//! Label selectors and field selectors of lists, watches and collection deletes.

use serde_json::Value;

use crate::resources::Resource;
use crate::status::Failure;

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    NotExists(String),
}

/// Both selectors of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

impl Selector {
    /// Parses `labelSelector` and `fieldSelector`; empty text selects everything.
    pub fn parse(resource: Resource, labels: &str, fields: &str) -> Result<Self, Failure> {
        let labels = parse_labels(labels).map_err(|reason| {
            Failure::bad_request(format!("unable to parse requirement: {reason}"))
        })?;
        let fields = parse_fields(resource, fields)?;
        Ok(Self { labels, fields })
    }

    /// Whether an object is selected.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels[key].as_str();
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|v| values.iter().any(|x| x == v))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|v| values.iter().all(|x| x != v))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::NotExists(key) => label(key).is_none(),
        }) && self
            .fields
            .iter()
            .all(|(path, equal, value)| (field(object, path) == *value) == *equal)
    }
}

fn field(object: &Value, path: &str) -> String {
    let value = path.split('.').fold(object, |value, key| &value[key]);
    match value {
        Value::String(text) => text.clone(),
        Value::Null if path == "status.successful" => "0".to_owned(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The fields each resource can be selected by, as the real server supports them.
fn selectable(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Pod => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Resource::Job => &["metadata.name", "metadata.namespace", "status.successful"],
        Resource::Event => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Resource::Secret => &["metadata.name", "metadata.namespace", "type"],
        Resource::Namespace => &["metadata.name", "status.phase"],
        Resource::ConfigMap => &["metadata.name", "metadata.namespace"],
    }
}

fn parse_fields(resource: Resource, text: &str) -> Result<Vec<(String, bool, String)>, Failure> {
    let mut result = Vec::new();
    for term in text.split(',').filter(|t| !t.is_empty()) {
        let (path, equal, value) = if let Some((path, value)) = term.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
            (path, true, value)
        } else {
            return Err(Failure::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{term}'"
            )));
        };
        if !selectable(resource).contains(&path) {
            let message = format!("field label not supported: {path}");
            let message = if resource == Resource::Job {
                format!("field label {path:?} not supported for batchv1.Job")
            } else if resource == Resource::Pod {
                message
            } else {
                format!(
                    "{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            };
            let version = resource.api_version();
            let message = format!(
                "Unable to find {version:?} that match label selector \"\", field selector {text:?}: {message}"
            );
            return Err(Failure::bad_request(message));
        }
        result.push((path.to_owned(), equal, value.to_owned()));
    }
    Ok(result)
}

/// Cuts at commas outside parentheses.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b',' if depth == 0 => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_terms(text)
        .into_iter()
        .map(|term| parse_requirement(term.trim()))
        .collect()
}

fn parse_requirement(term: &str) -> Result<Requirement, String> {
    let found = |what: &str| format!("found '{what}', expected: identifier");
    if term.is_empty() {
        return Err(found(""));
    }
    if let Some(key) = term.strip_prefix('!') {
        return Ok(Requirement::NotExists(checked_key(key.trim())?));
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Requirement::NotIn(
            checked_key(key.trim())?,
            vec![value.trim().to_owned()],
        ));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Requirement::In(
            checked_key(key.trim())?,
            vec![value.trim().to_owned()],
        ));
    }
    let Some((head, list)) = term.split_once('(') else {
        return Ok(Requirement::Exists(checked_key(term)?));
    };
    let list = list
        .strip_suffix(')')
        .ok_or_else(|| "found '', expected: ',' or ')'".to_owned())?;
    let values: Vec<String> = list.split(',').map(|v| v.trim().to_owned()).collect();
    match head.split_whitespace().collect::<Vec<_>>().as_slice() {
        [key, "in"] => Ok(Requirement::In(checked_key(key)?, values)),
        [key, "notin"] => Ok(Requirement::NotIn(checked_key(key)?, values)),
        _ => Err(found(head)),
    }
}

fn checked_key(key: &str) -> Result<String, String> {
    let fine = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if fine {
        Ok(key.to_owned())
    } else {
        Err(format!("found '{key}', expected: identifier"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &str, fields: &str, expected: bool) {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "x", "tier": "1"}}, "status": {"phase": "Running"}});
        let selector = Selector::parse(Resource::Pod, labels, fields)
            .unwrap_or_else(|e| panic!("{labels} {fields}: {}", e.message()));
        assert_eq!(selector.matches(&pod), expected, "{labels} {fields}");
    }

    #[test]
    fn labels() {
        check("", "", true);
        check("app=x", "", true);
        check("app==x,tier=1", "", true);
        check("app!=x", "", false);
        check("other!=x", "", true);
        check("app in (x, y),tier", "", true);
        check("app notin (x,y)", "", false);
        check("!app", "", false);
        check("!other", "", true);
        check("other", "", false);
    }

    #[test]
    fn fields() {
        check("", "metadata.name=a", true);
        check("", "metadata.name!=a", false);
        check("", "status.phase=Running,metadata.name==a", true);
        check("", "status.phase!=Running", false);
    }

    #[test]
    fn refusals() {
        for labels in ["a in x", "=x", "a in (x", "a b"] {
            assert_eq!(
                Selector::parse(Resource::Pod, labels, "")
                    .expect_err(labels)
                    .code,
                400
            );
        }
        assert_eq!(
            Selector::parse(Resource::Pod, "", "spec.nothing=1")
                .expect_err("field")
                .code,
            400
        );
    }
}
