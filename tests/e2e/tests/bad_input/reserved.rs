//! What the contract has and this version has not is refused by its name, not ignored.

use serde_json::{Value, json};

use crate::{check_problem, finish, shared};

/// Any of these, as long as the feature is named: it depends on whether a field, a route or a kind
/// of answer is missing.
const REFUSED: &[u16] = &[400, 404, 405, 406, 422, 501];

/// A request, and the feature that must be named.
pub struct Case {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<Value>,
    feature: &'static str,
}

/// The table.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.push(Case {
        method: "POST",
        path: "/executions".to_owned(),
        headers: Vec::new(),
        body: Some(json!({
            "script": "echo never",
            "secretEnv": { "A": { "secret": "s", "key": "k" } },
        })),
        feature: "secretEnv",
    });
    let routes = [("POST", "/executions:batch?dryRun=true".to_owned(), "dryRun")];
    for (method, path, feature) in routes {
        let body = (method == "POST").then(|| json!({ "script": "echo never" }));
        cases.push(Case {
            method,
            path,
            headers: Vec::new(),
            body,
            feature,
        });
    }
    cases
}

#[test]
fn reserved_features_are_refused_by_name() {
    let stack = shared();
    let client = stack.client();
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        let body = case.body.as_ref().map(|body| body.to_string().into_bytes());
        let checked = match client.send(case.method, &case.path, &case.headers, body.as_deref()) {
            Ok(answer) => check_problem(&answer, REFUSED, &[case.feature]),
            Err(e) => Err(e.to_string()),
        };
        if let Err(e) = checked {
            wrong.push(format!(
                "{} {} ({}): {e}",
                case.method, case.path, case.feature
            ));
        }
    }
    finish("reserved features", cases.len(), &wrong);
}
