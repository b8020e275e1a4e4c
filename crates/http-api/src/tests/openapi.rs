//! `GET /openapi.json` against what the program does: each route, parameter and member is in it, and nothing else.

use std::collections::BTreeSet;

use app::StoredLog;
use serde_json::{Map, Value, json};

use super::service::Service;
use crate::routes::PATHS;

/// A name that nothing has, and that is like no other.
const STRANGER: &str = "zzzzzzzz";

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// An execution with all that can be shown of one, and the document.
struct Scene {
    service: Service,
    id: String,
    document: Value,
}

fn scene() -> Scene {
    let secrets = r#"{"default":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
    let service = Service::with("webhook_secrets", secrets);
    let body = r#"{"script":"true","webhook":{"url":"https://example.org/"}}"#;
    let id = service.accept(body);
    service.finish(&id, 3, StoredLog::default());
    let answer = service.get("/openapi.json");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert!(!answer.text().contains("{{"), "a value is missing");
    let document = answer.json();
    Scene {
        service,
        id,
        document,
    }
}

impl Scene {
    /// What a reference leads to; anything else is itself.
    #[track_caller]
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(place) = value["$ref"].as_str() else {
            return value;
        };
        let pointer = place.strip_prefix('#').expect("a place in the document");
        let found = self.document.pointer(pointer);
        found.unwrap_or_else(|| panic!("{place} leads nowhere"))
    }

    fn paths(&self) -> &Map<String, Value> {
        self.document["paths"].as_object().expect("paths")
    }

    /// Each operation: its path, its method, and all of it.
    fn operations(&self) -> Vec<(&str, String, &Value)> {
        let mut all = Vec::new();
        for (path, item) in self.paths() {
            for method in METHODS {
                if let Some(operation) = item.get(method.to_lowercase()) {
                    all.push((path.as_str(), method.to_owned(), operation));
                }
            }
        }
        all
    }

    /// The parameters of an operation, with those of its path.
    fn parameters<'a>(&'a self, path: &str, operation: &'a Value) -> Vec<&'a Value> {
        let of = |value: &'a Value| value["parameters"].as_array().into_iter().flatten();
        let all = of(&self.paths()[path]).chain(of(operation));
        all.map(|parameter| self.resolved(parameter)).collect()
    }

    fn url(&self, path: &str) -> String {
        path.replace("{id}", &self.id)
            .replace("{number}", "1")
            .replace("{token}", "tok-1")
    }

    /// The value has the members of the schema, those that are required at least, and so on below.
    #[track_caller]
    fn fits(&self, place: &str, schema: &Value, value: &Value) {
        let schema = self.resolved(schema);
        if let Some(choices) = schema["anyOf"].as_array() {
            let null = |s: &&Value| s["type"] == "null";
            match value {
                Value::Null => assert!(choices.iter().any(|s| null(&s)), "{place} is null"),
                value => {
                    let other = choices.iter().find(|s| !null(s)).expect("another");
                    self.fits(place, other, value);
                }
            }
            return;
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let kinds = &schema["type"];
        let listed = kinds
            .as_array()
            .is_some_and(|all| all.contains(&json!(kind)));
        let whole = kind == "integer" && (kinds == "number" || kinds[0] == "number");
        assert!(
            kinds == kind || listed || whole,
            "{place} is {value}, not {kinds}"
        );
        if let Some(names) = schema["enum"].as_array() {
            assert!(
                names.contains(value),
                "{place} is {value}, none of {names:?}"
            );
        }
        if let Some(items) = value.as_array() {
            for (at, item) in items.iter().enumerate() {
                self.fits(&format!("{place}/{at}"), &schema["items"], item);
            }
        }
        if let (Some(members), Some(properties)) =
            (value.as_object(), schema["properties"].as_object())
        {
            for (name, member) in members {
                let property = properties.get(name);
                let property = property.unwrap_or_else(|| panic!("{place} has {name}"));
                self.fits(&format!("{place}/{name}"), property, member);
            }
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().expect("a name");
                assert!(members.contains_key(name), "{place} has no {name}");
            }
        }
    }

    /// The answer to that request fits what the document says of its status.
    #[track_caller]
    fn answers(&self, method: &str, path: &str, body: &str, status: u16) {
        let url = self.url(path);
        let answer = self.service.send(method, &url, &[], body);
        assert_eq!(answer.status, status, "{method} {url}: {}", answer.text());
        let operation = &self.paths()[path][method.to_lowercase()];
        let responses = &operation["responses"];
        let response = match responses.get(status.to_string()) {
            Some(response) => response,
            None => &responses["default"],
        };
        let media = answer.header("content-type").expect("a type");
        let schema = &self.resolved(response)["content"][media]["schema"];
        assert!(schema.is_object(), "{method} {path} {status} {media}");
        self.fits(&format!("{method} {url}"), schema, &answer.json());
    }
}

/// The names that a refusal of a stranger says are known.
#[track_caller]
fn known(problem: &Value, place: &str) -> BTreeSet<String> {
    let errors = problem["errors"].as_array().expect("errors");
    let of_stranger = |error: &&Value| {
        error["pointer"] == format!("{place}/{STRANGER}") || error["parameter"] == STRANGER
    };
    let error = errors.iter().find(of_stranger);
    let error = error.unwrap_or_else(|| panic!("no error of {place}: {problem}"));
    let detail = error["detail"].as_str().expect("a detail");
    let (_, names) = detail.split_once("known: ").expect("a list");
    let names = names.split(", ").filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

fn keys(object: &Value) -> BTreeSet<String> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_route_is_in_it_with_its_methods_and_no_other() {
    let scene = scene();
    let described: BTreeSet<&str> = scene.paths().keys().map(String::as_str).collect();
    let routed: BTreeSet<&str> = PATHS.iter().copied().collect();
    assert_eq!(described, routed);
    for path in routed {
        let has = |method: &str| !scene.paths()[path][method.to_lowercase()].is_null();
        let mut methods: BTreeSet<&str> = METHODS.into_iter().filter(|m| has(m)).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        assert!(!methods.is_empty(), "{path}");
        // Of an id that nothing has, so that nothing is done.
        let url = path.replace("{id}", "019c13b0-4e40-7abc-8def-0123456789ab");
        let url = url.replace("{number}", "1").replace("{token}", "tok-1");
        for method in METHODS {
            let answer = scene.service.send(method, &url, &[], "");
            assert!(!answer.text().contains("There is nothing at"), "{path}");
            if methods.contains(method) {
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                assert_eq!(answer.status, 405, "{method} {path}");
                let allow = answer.header("allow").expect("Allow");
                assert_eq!(
                    allow.split(", ").collect::<BTreeSet<_>>(),
                    methods,
                    "{path}"
                );
            }
        }
    }
}

#[test]
fn every_query_parameter_is_in_it_and_no_other() {
    let scene = scene();
    for (path, method, operation) in scene.operations() {
        let parameters = scene.parameters(path, operation);
        let of_query = parameters.iter().filter(|p| p["in"] == "query");
        let described: BTreeSet<String> = of_query
            .map(|p| p["name"].as_str().expect("a name").to_owned())
            .collect();
        let url = format!("{}?{STRANGER}=1", scene.url(path));
        let answer = scene.service.send(&method, &url, &[], "{}");
        if answer.status == 400 {
            assert_eq!(known(&answer.json(), ""), described, "{method} {path}");
        } else {
            // Health, metrics and this document look at no query.
            assert!(described.is_empty(), "{method} {path}");
            assert_ne!(answer.status / 100, 4, "{method} {url}");
        }
    }
}

#[test]
fn every_field_of_a_submission_is_in_it_and_no_other() {
    let scene = scene();
    let schema = &scene.document["components"]["schemas"]["Submission"];
    let problem = |body: Value| {
        let answer = scene.service.post("/executions", &body.to_string());
        assert_eq!(answer.status, 422, "{}", answer.text());
        answer.json()
    };
    let stranger = json!({ STRANGER: 1 });
    let all = known(&problem(stranger.clone()), "");
    assert_eq!(keys(&schema["properties"]), all);
    assert_eq!(schema["additionalProperties"], false);
    for inner in ["resources", "timeouts", "retry", "webhook"] {
        let said = problem(json!({ "script": "true", inner: stranger }));
        let inner_schema = &schema["properties"][inner];
        assert_eq!(
            keys(&inner_schema["properties"]),
            known(&said, &format!("/{inner}"))
        );
        assert_eq!(inner_schema["additionalProperties"], false);
    }
    let said = problem(json!({ "script": "true", "files": { "a": stranger } }));
    let file = &schema["properties"]["files"]["additionalProperties"];
    assert_eq!(keys(&file["properties"]), known(&said, "/files/a"));
    let said = scene
        .service
        .post("/executions:batch", &stranger.to_string());
    let body = &scene.paths()["/executions:batch"]["post"]["requestBody"];
    let batch = &body["content"]["application/json"]["schema"];
    assert_eq!(keys(&batch["properties"]), known(&said.json(), ""));
}

#[test]
fn answers_have_the_members_that_it_says() {
    let scene = scene();
    let submission = r#"{"script":"true","labels":{"a":"b"}}"#;
    let batch = r#"{"executions":[{"script":"true"}]}"#;
    for (method, path, body, status) in [
        ("POST", "/executions", submission, 201),
        ("POST", "/executions", "{}", 422),
        ("POST", "/executions", "{", 400),
        ("POST", "/executions:batch", batch, 201),
        ("GET", "/executions", "", 200),
        ("GET", "/executions/{id}", "", 200),
        ("GET", "/executions/{id}/events", "", 200),
        ("GET", "/executions/{id}/deliveries", "", 200),
        (
            "POST",
            "/executions/{id}/deliveries/{number}/redeliver",
            "",
            202,
        ),
        ("POST", "/executions/{id}/cancel", "", 409),
        ("GET", "/readyz", "", 503),
        ("GET", "/openapi.json", "", 200),
        ("POST", "/internal/tick", "", 200),
        ("POST", "/admin/tokens", r#"{"name":"a","role":"run"}"#, 201),
        ("GET", "/admin/tokens", "", 200),
        ("GET", "/admin/audit", "", 200),
    ] {
        scene.answers(method, path, body, status);
    }
    // Every member of an execution is always there.
    let schema = &scene.document["components"]["schemas"]["Execution"];
    let required = schema["required"].as_array().expect("a list").len();
    assert_eq!(required, keys(&schema["properties"]).len());
}

#[test]
fn every_problem_is_in_it() {
    let scene = scene();
    let types = &scene.document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
    assert_eq!(
        types.as_array().map(Vec::len),
        Some(crate::problem::Kind::ALL.len())
    );
}

/// The rules of OpenAPI 3.1 that its own schema and text have, as far as this document uses them.
#[test]
fn it_is_sound() {
    let scene = scene();
    let document = &scene.document;
    assert_eq!(document["openapi"], "3.1.1");
    for member in ["title", "version"] {
        assert!(document["info"][member].is_string(), "{member}");
    }
    let mut names = BTreeSet::new();
    for (path, method, operation) in scene.operations() {
        let name = operation["operationId"].as_str().expect("an operationId");
        assert!(names.insert(name), "{name} stands twice");
        let responses = operation["responses"].as_object().expect("responses");
        assert!(responses.len() > 1, "{method} {path}");
        for (status, response) in responses {
            let good = status == "default" || status.parse().is_ok_and(|s: u16| s < 600);
            assert!(good, "{status}");
            assert!(
                scene.resolved(response)["description"].is_string(),
                "{path}"
            );
        }
        let mut seen = BTreeSet::new();
        for parameter in scene.parameters(path, operation) {
            let (name, place) = (&parameter["name"], &parameter["in"]);
            assert!(
                seen.insert((place.to_string(), name.to_string())),
                "{path} {name}"
            );
            assert!(parameter["schema"].is_object(), "{path} {name}");
            if place == "path" {
                assert_eq!(parameter["required"], true, "{path} {name}");
                let name = name.as_str().expect("a name");
                assert!(path.contains(&format!("{{{name}}}")), "{path} {name}");
            }
        }
        let in_path = path.matches('{').count();
        let described = seen.iter().filter(|(place, _)| place == "\"path\"");
        assert_eq!(described.count(), in_path, "{path}");
    }
    let text = document.to_string();
    for (kind, components) in document["components"].as_object().expect("components") {
        for name in components.as_object().expect("components").keys() {
            let used = text.contains(&format!("#/components/{kind}/{name}"));
            assert!(
                used || kind == "securitySchemes",
                "{kind}/{name} is not used"
            );
        }
    }
    references(document, &scene);
}

fn references(value: &Value, scene: &Scene) {
    match value {
        Value::Object(members) => {
            if members.contains_key("$ref") {
                scene.resolved(value);
            }
            members.values().for_each(|v| references(v, scene));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, scene)),
        _ => {}
    }
}
