//! What `POST /executions` takes and refuses, without the service around it.

use domain::{Resources, Submission};
use serde_json::{Value, json};

use crate::limits::*;
use crate::problem::{FieldError, Place};
use crate::submission::{Rules, parse_submission};

/// Checks a body under some configuration.
pub fn submit(body: Value) -> Result<Submission, Vec<FieldError>> {
    let allowed = ["busybox:*".to_owned(), "ghcr.io/acme/*".to_owned()];
    let rules = Rules {
        default_image: "busybox",
        allowed_images: &allowed,
        tenant_images: None,
        max_resources: Resources {
            cpu: "4".parse().expect("a quantity"),
            memory: "8Gi".parse().expect("a quantity"),
            ephemeral_storage: Some("16Gi".parse().expect("a quantity")),
        },
        ttl_seconds: 3600,
        webhooks: &app::WebhookRules::default(),
    };
    parse_submission(body, &rules)
}

/// The body is refused for exactly these places, each with a detail that contains the text.
#[track_caller]
pub fn check(body: Value, expected: &[(&str, &str)]) {
    let shown: String = body.to_string().chars().take(200).collect();
    let errors = submit(body).expect_err(&shown);
    let found: Vec<(&str, &str)> = errors
        .iter()
        .map(|error| match &error.place {
            Place::Pointer(pointer) => (pointer.as_str(), error.detail.as_str()),
            Place::Parameter(name) => panic!("a parameter in a body: {name}"),
        })
        .collect();
    assert_eq!(found.len(), expected.len(), "{shown}: {found:?}");
    for (pointer, detail) in expected {
        let fits = |(p, d): &(&str, &str)| p == pointer && d.contains(detail);
        assert!(
            found.iter().any(fits),
            "{shown}: {pointer} {detail} not in {found:?}"
        );
    }
}

/// One field beside a good script is refused at its own place, or at one below.
#[track_caller]
pub fn check_field(name: &str, value: Value, pointer: &str, detail: &str) {
    check(json!({"script": "true", name: value}), &[(pointer, detail)]);
}

#[test]
fn the_smallest_request_gets_the_defaults() {
    let submission = submit(json!({"script": "echo Hello"})).expect("valid");
    assert_eq!(submission.image, "busybox");
    assert_eq!(submission.resources.cpu.as_str(), DEFAULT_CPU);
    assert_eq!(submission.resources.memory.as_str(), DEFAULT_MEMORY);
    assert_eq!(submission.resources.ephemeral_storage, None);
    assert_eq!(submission.timeouts, domain::Timeouts::default());
    assert_eq!((submission.interpreter, submission.args), (None, vec![]));
    assert_eq!(submission.digest.len(), 64);
}

#[test]
fn every_field_is_taken() {
    let submission = submit(json!({
        "script": "print('é \u{1f980}')",
        "interpreter": ["python3", "-u"],
        "args": ["", "two words", "$HOME"],
        "image": "ghcr.io/acme/python:3.13",
        "resources": {"cpu": 1, "memory": "64Mi", "ephemeralStorage": 1e9},
        "env": {"_A1": "", "B": "x=y\n"},
        "files": {"a/b.txt": {"text": "é"}, "c": {"base64": "AP8="}, "d": {"text": "\0"}},
        "timeouts": {"queueSeconds": 1, "startSeconds": 86400, "runSeconds": 604800, "graceSeconds": 0},
        "labels": {"team/app": "a b", "x": ""},
    }))
    .expect("valid");
    assert_eq!(submission.interpreter.expect("given"), ["python3", "-u"]);
    assert_eq!(submission.args, ["", "two words", "$HOME"]);
    assert_eq!(submission.resources.cpu, "1".parse().expect("a quantity"));
    let disk = submission.resources.ephemeral_storage.expect("given");
    assert_eq!(disk, "1G".parse().expect("a quantity"));
    assert_eq!(submission.env["B"], "x=y\n");
    assert_eq!(submission.files["c"], [0, 255]);
    assert_eq!(submission.files["a/b.txt"], "é".as_bytes());
    assert_eq!(submission.timeouts.grace_seconds, 0);
    assert_eq!(submission.labels["team/app"], "a b");
}

#[test]
fn null_is_as_good_as_absent() {
    let nulls = json!({
        "script": "true", "interpreter": null, "args": null, "image": null, "resources": null, "env": null,
        "files": null, "timeouts": {"runSeconds": null}, "labels": null, "retry": null, "webhook": null,
    });
    submit(nulls).expect("valid");
    check(json!({"script": null}), &[("/script", "is required")]);
}

#[test]
fn bodies_that_are_no_object_are_refused() {
    for body in [json!([]), json!("x"), json!(1), json!(null), json!(true)] {
        check(body, &[("", "must be an object")]);
    }
    check(json!({}), &[("/script", "is required")]);
}

#[test]
fn scripts_are_refused() {
    for (script, detail) in [
        (json!(1), "must be a string, not a number"),
        (json!(["true"]), "not an array"),
        (json!({}), "not an object"),
        (json!(false), "not a boolean"),
        (json!(""), "blank"),
        (json!(" \n\t\u{a0}"), "blank"),
        (json!("echo \0"), "NUL"),
        (json!("x".repeat(MAX_SCRIPT_BYTES + 1)), "at most 1048576"),
        (
            json!("é".repeat(MAX_SCRIPT_BYTES / 2 + 1)),
            "has 1048578 bytes",
        ),
    ] {
        check(json!({"script": script}), &[("/script", detail)]);
    }
    submit(json!({"script": "x".repeat(MAX_SCRIPT_BYTES)})).expect("just fits");
}

#[test]
fn commands_are_refused() {
    let long = "x".repeat(MAX_ARGUMENT_BYTES + 1);
    for (field, value, pointer, detail) in [
        ("interpreter", json!([]), "/interpreter", "non-empty"),
        ("interpreter", json!([""]), "/interpreter", "non-empty"),
        (
            "interpreter",
            json!(["sh", ""]),
            "/interpreter",
            "non-empty",
        ),
        (
            "interpreter",
            json!("python3"),
            "/interpreter",
            "array of strings",
        ),
        (
            "interpreter",
            json!(["python3", 3]),
            "/interpreter/1",
            "must be a string",
        ),
        ("interpreter", json!(["a\0b"]), "/interpreter/0", "NUL"),
        ("interpreter", json!([long]), "/interpreter", "Linux"),
        (
            "interpreter",
            json!(vec!["x"; MAX_INTERPRETER + 1]),
            "/interpreter",
            "at most 64",
        ),
        ("args", json!("x"), "/args", "array of strings"),
        ("args", json!({"0": "x"}), "/args", "array of strings"),
        ("args", json!([null]), "/args/0", "not null"),
        ("args", json!(["a", ["b"]]), "/args/1", "must be a string"),
        ("args", json!(["\0"]), "/args/0", "NUL"),
        ("args", json!([long]), "/args", "Linux"),
        (
            "args",
            json!(vec!["x"; MAX_ARGS + 1]),
            "/args",
            "at most 1024",
        ),
        (
            "args",
            json!(vec!["x".repeat(100_000); 3]),
            "/args",
            "in all",
        ),
    ] {
        let expected = if pointer == "/interpreter/0" {
            vec![(pointer, detail), ("/interpreter", "non-empty")]
        } else {
            vec![(pointer, detail)]
        };
        check(json!({"script": "true", field: value}), &expected);
    }
    submit(json!({"script": "true", "args": ["x".repeat(MAX_ARGUMENT_BYTES)]})).expect("just fits");
}

#[test]
fn images_are_refused() {
    for (image, detail) in [
        (json!(1), "must be a string"),
        (json!(""), "image reference"),
        (json!("Busybox:1"), "image reference"),
        (json!("busybox:1 "), "image reference"),
        (json!("busybox:1\0"), "NUL"),
        (
            json!("alpine:3"),
            "allowed images: busybox:*, ghcr.io/acme/*",
        ),
        (json!("ghcr.io/evil/x"), "allowed images"),
        (json!("busybox:5000/x"), "allowed images"),
    ] {
        check_field("image", image, "/image", detail);
    }
    for image in [
        "busybox",
        "busybox:1.36",
        "docker.io/library/busybox:1",
        "ghcr.io/acme/a/b",
    ] {
        submit(json!({"script": "true", "image": image})).expect(image);
    }
}

#[test]
fn resources_are_refused() {
    check_field(
        "resources",
        json!("250m"),
        "/resources",
        "must be an object",
    );
    check_field("resources", json!([]), "/resources", "must be an object");
    for (name, value, detail) in [
        ("cpu", json!("lots"), "not a Kubernetes quantity"),
        ("cpu", json!(""), "not a Kubernetes quantity"),
        ("cpu", json!("-1"), "must not be negative"),
        ("cpu", json!(-1), "must not be negative"),
        ("cpu", json!(0), "1m or more"),
        ("cpu", json!("0"), "1m or more"),
        ("cpu", json!("0.0001"), "thousandths"),
        ("cpu", json!("5"), "is 5; the configured maximum is 4"),
        ("cpu", json!(4.001), "the configured maximum is 4"),
        ("cpu", json!("1 "), "not a Kubernetes quantity"),
        ("cpu", json!(true), "not a boolean"),
        ("cpu", json!({"limit": "1"}), "not an object"),
        ("memory", json!("128MiB"), "not a Kubernetes quantity"),
        ("memory", json!("128mi"), "not a Kubernetes quantity"),
        ("memory", json!("0"), "6Mi or more"),
        ("memory", json!("128m"), "whole number of bytes"),
        ("memory", json!("5Mi"), "6Mi or more"),
        ("memory", json!("9Gi"), "the configured maximum is 8Gi"),
        ("memory", json!("1e99"), "out of the range"),
        ("memory", json!(["1Gi"]), "not an array"),
        ("ephemeralStorage", json!("0"), "1 or more"),
        ("ephemeralStorage", json!("1.5"), "whole number of bytes"),
        (
            "ephemeralStorage",
            json!("1Ti"),
            "the configured maximum is 16Gi",
        ),
    ] {
        let pointer = format!("/resources/{name}");
        check_field("resources", json!({name: value}), &pointer, detail);
    }
    check_field(
        "resources",
        json!({"Memory": "1Gi"}),
        "/resources/Memory",
        "did you mean `memory`?",
    );
    check_field(
        "resources",
        json!({"gpu": 1}),
        "/resources/gpu",
        "Known: cpu, memory",
    );
}

#[test]
fn environments_are_refused() {
    check_field("env", json!(["A=1"]), "/env", "must be an object");
    for (name, value, detail) in [
        ("A", json!(1), "must be a string"),
        ("A", json!(null), "not null"),
        ("A", json!({}), "not an object"),
        ("A", json!("\0"), "NUL"),
        ("1A", json!("x"), "C identifier"),
        ("A-B", json!("x"), "C identifier"),
        ("A B", json!("x"), "C identifier"),
        ("A=B", json!("x"), "C identifier"),
        ("", json!("x"), "C identifier"),
        ("É", json!("x"), "C identifier"),
        (
            "A",
            json!("x".repeat(MAX_ARGUMENT_BYTES - 1)),
            "with its name",
        ),
    ] {
        check_field("env", json!({name: value}), &format!("/env/{name}"), detail);
    }
    check_field("env", json!({"a/b~c": "x"}), "/env/a~1b~0c", "C identifier");
    let many: serde_json::Map<_, _> = (0..=MAX_ENV)
        .map(|i| (format!("E{i}"), json!("")))
        .collect();
    check_field("env", many.into(), "/env", "at most 512");
    let big = "x".repeat(100_000);
    check_field(
        "env",
        json!({"A": big, "B": big, "C": big}),
        "/env",
        "in all",
    );
    submit(json!({"script": "true", "env": {"A": "x".repeat(MAX_ARGUMENT_BYTES - 2)}}))
        .expect("just fits");
}

#[test]
fn files_are_refused() {
    check_field("files", json!([]), "/files", "must be an object");
    for (path, pointer, detail) in [
        ("", "/files/", "path as its name"),
        ("/etc/passwd", "/files/~1etc~1passwd", "relative"),
        ("../x", "/files/..~1x", "`..`"),
        ("a/../b", "/files/a~1..~1b", "`..`"),
        ("./a", "/files/.~1a", "`.`"),
        ("..", "/files/..", "`..`"),
        ("a//b", "/files/a~1~1b", "empty"),
        ("a/", "/files/a~1", "slash"),
        ("a\0b", "/files/a\u{fffd}b", "control characters"),
        ("a\nb", "/files/a\u{fffd}b", "control characters"),
    ] {
        check_field("files", json!({path: {"text": "x"}}), pointer, detail);
    }
    for (entry, pointer, detail) in [
        (json!("text"), "/files/a", "{\"text\": …}"),
        (json!(null), "/files/a", "not null"),
        (json!({}), "/files/a", "exactly one"),
        (
            json!({"text": "x", "base64": "eA=="}),
            "/files/a",
            "exactly one",
        ),
        (json!({"text": 1}), "/files/a/text", "must be a string"),
        (json!({"base64": []}), "/files/a/base64", "must be a string"),
        (json!({"base64": "eA"}), "/files/a/base64", "padded"),
        (
            json!({"base64": "eA==\n"}),
            "/files/a/base64",
            "nothing else",
        ),
        (json!({"base64": "e-_="}), "/files/a/base64", "RFC 4648"),
        (json!({"base64": "eB=="}), "/files/a/base64", "RFC 4648"),
        (
            json!({"text": "x", "mode": "0755"}),
            "/files/a/mode",
            "no known field",
        ),
        (
            json!({"text": "x", "Base64": "x"}),
            "/files/a/Base64",
            "did you mean `base64`?",
        ),
    ] {
        check_field("files", json!({"a": entry}), pointer, detail);
    }
    let folder = json!({"a": {"text": ""}, "a/b": {"text": ""}, "a.b": {"text": ""}});
    check_field("files", folder, "/files/a~1b", "cannot lie in `a`");
    let segment = "s".repeat(MAX_PATH_SEGMENT_BYTES + 1);
    let errors = submit(json!({"script": "true", "files": {segment: {"text": ""}}}));
    assert!(
        errors.expect_err("too long")[0]
            .detail
            .contains("at most 255 bytes")
    );
    let many: serde_json::Map<_, _> = (0..=MAX_FILES)
        .map(|i| (format!("f{i}"), json!({"text": ""})))
        .collect();
    check_field("files", many.into(), "/files", "at most 256");
    let half = json!({"text": "x".repeat(MAX_FILES_BYTES / 2 + 1)});
    check_field("files", json!({"a": half, "b": half}), "/files", "in all");
}

#[test]
fn unknown_fields_are_refused_by_name() {
    for (name, detail) in [
        ("Script", "did you mean `script`?"),
        ("scripts", "did you mean `script`?"),
        ("enviroment", "did you mean `env`?"),
        ("environment", "did you mean `env`?"),
        ("timeout", "did you mean `timeouts`?"),
        ("resource", "did you mean `resources`?"),
        ("arguments", "known: script"),
        ("label", "did you mean `labels`?"),
        ("command", "known: script"),
        ("", "no known field"),
        ("wait", "belongs in the query"),
        ("cpu", "belongs under `resources`"),
        ("idempotencyKey", "belongs in a header"),
        ("secretEnv", "not supported yet"),
        ("webhookUrl", "belongs under `webhook`"),
    ] {
        check_field(name, json!("x"), &format!("/{name}"), detail);
    }
}

#[test]
fn countless_unknown_fields_are_counted() {
    let mut body: serde_json::Map<_, _> = (0..MAX_LISTED_ERRORS + 1_000)
        .map(|n| (format!("strange{n}"), json!(1)))
        .collect();
    body.insert("script".to_owned(), json!("true"));
    let errors = submit(body.into()).expect_err("they are unknown");
    assert_eq!(errors.len(), MAX_LISTED_ERRORS + 1);
    let last = errors.last().expect("errors");
    assert_eq!(last.place, Place::Pointer(String::new()));
    assert_eq!(last.detail, "has 1000 more unknown fields");
}

#[test]
fn all_errors_are_told_at_once() {
    check(
        json!({
            "script": 1, "image": "?", "resources": {"cpu": "x", "memory": "x", "y": 1}, "env": {"1": 2},
            "files": {"/": 3}, "timeouts": {"runSeconds": 0}, "labels": {"a": 1}, "retry": {"limit": -1}, "z": 1, "args": 7,
        }),
        &[
            ("/script", "string"),
            ("/image", "reference"),
            ("/resources/cpu", "quantity"),
            ("/resources/memory", "quantity"),
            ("/resources/y", "known"),
            ("/env/1", "identifier"),
            ("/env/1", "string"),
            ("/files/~1", "relative"),
            ("/files/~1", "text"),
            ("/timeouts/runSeconds", "whole"),
            ("/labels/a", "string"),
            ("/retry/limit", "from 0 to 10"),
            ("/z", "known"),
            ("/args", "array"),
        ],
    );
}
