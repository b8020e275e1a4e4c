//! Bodies: no JSON at all (400), and JSON that asks for what cannot be (422, all errors at once).

use e2e::raw;
use serde_json::{Value, json};

use crate::{check_problem, finish, shared};

/// A body that is JSON, where its error must point to, and what must be named there.
pub struct Invalid {
    name: &'static str,
    body: Value,
    pointer: &'static str,
    mentions: &'static [&'static str],
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({ "script": "echo never" });
    body[field] = value;
    body
}

/// The table of well-formed but invalid bodies.
pub fn invalid() -> Vec<Invalid> {
    let mut cases = Vec::new();
    let mut add = |name, body, pointer, mentions| {
        cases.push(Invalid {
            name,
            body,
            pointer,
            mentions,
        });
    };
    add("script missing", json!({}), "", &["script"]);
    add("script null", json!({ "script": null }), "/script", &[]);
    add("script a number", json!({ "script": 42 }), "/script", &[]);
    add(
        "script a list",
        json!({ "script": ["echo"] }),
        "/script",
        &[],
    );
    add("script empty", json!({ "script": "" }), "/script", &[]);
    add(
        "script blank",
        json!({ "script": " \n\t " }),
        "/script",
        &[],
    );
    add(
        "script with NUL",
        json!({ "script": "echo a\u{0}b" }),
        "/script",
        &[],
    );
    add(
        "script over 1 MiB",
        json!({ "script": "x".repeat(1024 * 1024 + 1) }),
        "/script",
        &[],
    );
    add(
        "unknown field, near script",
        json!({ "scirpt": "x", "script": "x" }),
        "/scirpt",
        &["`script`"],
    );
    add(
        "unknown field, other case",
        json!({ "Script": "x", "script": "x" }),
        "/Script",
        &["`script`"],
    );
    add(
        "unknown field, near env",
        with("envs", json!({})),
        "/envs",
        &["`env`"],
    );
    add(
        "unknown field, near nothing",
        with("qqqqqqqq", json!(1)),
        "/qqqqqqqq",
        &["qqqqqqqq"],
    );

    add(
        "interpreter a string",
        with("interpreter", json!("python3")),
        "/interpreter",
        &[],
    );
    add(
        "interpreter empty",
        with("interpreter", json!([])),
        "/interpreter",
        &[],
    );
    add(
        "interpreter with an empty command",
        with("interpreter", json!([""])),
        "/interpreter",
        &[],
    );
    add(
        "interpreter with a number",
        with("interpreter", json!(["sh", 1])),
        "/interpreter/1",
        &[],
    );
    add(
        "interpreter with NUL",
        with("interpreter", json!(["s\u{0}h"])),
        "/interpreter/0",
        &[],
    );
    add("args a string", with("args", json!("one")), "/args", &[]);
    add(
        "args with null",
        with("args", json!(["one", null])),
        "/args/1",
        &[],
    );
    add(
        "args with NUL",
        with("args", json!(["a\u{0}"])),
        "/args/0",
        &[],
    );
    add(
        "args too long for Linux",
        with("args", json!(["x".repeat(200_000)])),
        "/args",
        &[],
    );
    add(
        "args too many",
        with("args", json!(vec!["x"; 100_000])),
        "/args",
        &[],
    );
    add("image empty", with("image", json!("")), "/image", &[]);
    add("image a number", with("image", json!(1.37)), "/image", &[]);
    add(
        "image with a blank",
        with("image", json!("busybox latest")),
        "/image",
        &[],
    );

    let resources = |value| with("resources", value);
    add("resources a list", resources(json!([])), "/resources", &[]);
    add(
        "cpu negative",
        resources(json!({ "cpu": "-1" })),
        "/resources/cpu",
        &[],
    );
    add(
        "cpu no quantity",
        resources(json!({ "cpu": "a lot" })),
        "/resources/cpu",
        &[],
    );
    add(
        "cpu true",
        resources(json!({ "cpu": true })),
        "/resources/cpu",
        &[],
    );
    add(
        "cpu zero",
        resources(json!({ "cpu": "0" })),
        "/resources/cpu",
        &[],
    );
    add(
        "cpu over the maximum",
        resources(json!({ "cpu": "1000" })),
        "/resources/cpu",
        &["4"],
    );
    add(
        "cpu with a blank",
        resources(json!({ "cpu": " 1" })),
        "/resources/cpu",
        &[],
    );
    add(
        "memory with a wrong suffix",
        resources(json!({ "memory": "128MiB" })),
        "/resources/memory",
        &[],
    );
    add(
        "memory in capital kilo",
        resources(json!({ "memory": "128K" })),
        "/resources/memory",
        &[],
    );
    add(
        "memory beyond all numbers",
        resources(json!({ "memory": "1e99" })),
        "/resources/memory",
        &[],
    );
    add(
        "memory over the maximum",
        resources(json!({ "memory": "999Ti" })),
        "/resources/memory",
        &["8Gi"],
    );
    add(
        "memory empty",
        resources(json!({ "memory": "" })),
        "/resources/memory",
        &[],
    );
    add(
        "memory NaN",
        resources(json!({ "memory": "NaN" })),
        "/resources/memory",
        &[],
    );
    add(
        "disk not whole",
        resources(json!({ "ephemeralStorage": "0.5" })),
        "/resources/ephemeralStorage",
        &[],
    );
    add(
        "resource near memory",
        resources(json!({ "memroy": "1Mi" })),
        "/resources/memroy",
        &["`memory`"],
    );
    add(
        "resource unknown",
        resources(json!({ "gpu": "1" })),
        "/resources/gpu",
        &["gpu"],
    );

    add("env a list", with("env", json!(["A=1"])), "/env", &[]);
    add(
        "env name with a digit first",
        with("env", json!({ "1A": "x" })),
        "/env/1A",
        &[],
    );
    add(
        "env name with a dash",
        with("env", json!({ "A-B": "x" })),
        "/env/A-B",
        &[],
    );
    add(
        "env name with a slash",
        with("env", json!({ "A/B~": "x" })),
        "/env/A~1B~0",
        &[],
    );
    add(
        "env name empty",
        with("env", json!({ "": "x" })),
        "/env/",
        &[],
    );
    add(
        "env name not ASCII",
        with("env", json!({ "É": "x" })),
        "/env/É",
        &[],
    );
    add(
        "env value a number",
        with("env", json!({ "A": 1 })),
        "/env/A",
        &[],
    );
    add(
        "env value null",
        with("env", json!({ "A": null })),
        "/env/A",
        &[],
    );
    add(
        "env value with NUL",
        with("env", json!({ "A": "\u{0}" })),
        "/env/A",
        &[],
    );
    add(
        "env value too long for Linux",
        with("env", json!({ "A": "x".repeat(200_000) })),
        "/env",
        &[],
    );
    cases.extend(invalid_rest());
    cases
}

fn invalid_rest() -> Vec<Invalid> {
    let mut cases = Vec::new();
    let mut add = |name, body, pointer, mentions| {
        cases.push(Invalid {
            name,
            body,
            pointer,
            mentions,
        });
    };
    let files = |value| with("files", value);
    add("files a list", files(json!([])), "/files", &[]);
    add(
        "file out of its folder",
        files(json!({ "../x": { "text": "" } })),
        "/files/..~1x",
        &[],
    );
    add(
        "file with .. inside",
        files(json!({ "a/../b": { "text": "" } })),
        "/files/a~1..~1b",
        &[],
    );
    add(
        "file with an absolute path",
        files(json!({ "/etc/passwd": { "text": "" } })),
        "/files/~1etc~1passwd",
        &[],
    );
    add(
        "file without a name",
        files(json!({ "": { "text": "" } })),
        "/files/",
        &[],
    );
    add(
        "file with NUL in its name",
        files(json!({ "a\u{0}": { "text": "" } })),
        "/files/a",
        &[],
    );
    add(
        "file of two kinds",
        files(json!({ "a": { "text": "", "base64": "" } })),
        "/files/a",
        &[],
    );
    add(
        "file of no kind",
        files(json!({ "a": {} })),
        "/files/a",
        &[],
    );
    add(
        "file as a string",
        files(json!({ "a": "text" })),
        "/files/a",
        &[],
    );
    add(
        "file that is no base64",
        files(json!({ "a": { "base64": "!!!!" } })),
        "/files/a",
        &[],
    );
    add(
        "file field near text",
        files(json!({ "a": { "txet": "" } })),
        "/files/a",
        &["`text`"],
    );
    add(
        "files over 700 KiB",
        files(json!({ "a": { "text": "x".repeat(700 * 1024 + 1) } })),
        "/files",
        &[],
    );
    add(
        "file that is a folder too",
        files(json!({ "a": { "text": "" }, "a/b": { "text": "" } })),
        "/files",
        &[],
    );

    let timeouts = |value| with("timeouts", value);
    add("timeouts a number", timeouts(json!(60)), "/timeouts", &[]);
    add(
        "run clock zero",
        timeouts(json!({ "runSeconds": 0 })),
        "/timeouts/runSeconds",
        &[],
    );
    add(
        "run clock negative",
        timeouts(json!({ "runSeconds": -1 })),
        "/timeouts/runSeconds",
        &[],
    );
    add(
        "run clock broken",
        timeouts(json!({ "runSeconds": 1.5 })),
        "/timeouts/runSeconds",
        &[],
    );
    add(
        "run clock a string",
        timeouts(json!({ "runSeconds": "10" })),
        "/timeouts/runSeconds",
        &[],
    );
    add(
        "run clock for ever",
        timeouts(json!({ "runSeconds": 1e15 })),
        "/timeouts/runSeconds",
        &[],
    );
    add(
        "grace negative",
        timeouts(json!({ "graceSeconds": -1 })),
        "/timeouts/graceSeconds",
        &[],
    );
    add(
        "clock near startSeconds",
        timeouts(json!({ "startSecond": 1 })),
        "/timeouts/startSecond",
        &["`startSeconds`"],
    );

    let many: serde_json::Map<String, Value> =
        (0..17).map(|n| (format!("l{n}"), json!("x"))).collect();
    add(
        "labels too many",
        with("labels", Value::Object(many)),
        "/labels",
        &["16"],
    );
    add(
        "label value a number",
        with("labels", json!({ "a": 1 })),
        "/labels/a",
        &[],
    );
    add(
        "label name empty",
        with("labels", json!({ "": "x" })),
        "/labels/",
        &[],
    );
    add(
        "label value with NUL",
        with("labels", json!({ "a": "\u{0}" })),
        "/labels/a",
        &[],
    );
    add(
        "label value too long",
        with("labels", json!({ "a": "x".repeat(10_000) })),
        "/labels/a",
        &[],
    );
    add(
        "labels a list",
        with("labels", json!(["a"])),
        "/labels",
        &[],
    );
    cases
}

#[test]
fn invalid_bodies_are_refused_by_the_field() {
    let stack = shared();
    let client = stack.client();
    let cases = invalid();
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = match client.try_post("/executions", &[], &case.body) {
            Ok(answer) => answer,
            Err(e) => {
                wrong.push(format!("{}: {e}", case.name));
                continue;
            }
        };
        if let Err(e) = check_problem(&answer, &[422], case.mentions) {
            wrong.push(format!("{}: {e}", case.name));
            continue;
        }
        let errors = answer.json()["errors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let points = errors.iter().any(|error| {
            let pointer = error["pointer"].as_str().unwrap_or("none");
            let detail = error["detail"].as_str().unwrap_or_default();
            pointer.trim_start_matches('#').starts_with(case.pointer) && !detail.is_empty()
        });
        if !points {
            wrong.push(format!(
                "{}: no error at {:?}: {}",
                case.name,
                case.pointer,
                answer.text()
            ));
        }
    }
    finish("invalid bodies", cases.len(), &wrong);
}

#[test]
fn all_errors_come_at_once() {
    let stack = shared();
    let body = json!({
        "script": "",
        "args": [1],
        "env": { "1": "x" },
        "resources": { "cpu": "x", "memory": "y" },
        "timeouts": { "runSeconds": 0 },
        "labels": { "a": 1 },
        "nonsense": true,
    });
    let answer = stack
        .client()
        .post_with("/executions", &[], &body)
        .expect(422);
    let errors = answer.json()["errors"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let has = |field: &str| {
        let mut pointers = errors.iter().filter_map(|e| e["pointer"].as_str());
        pointers.any(|p| p.trim_start_matches('#').starts_with(field))
    };
    for field in [
        "/script",
        "/args",
        "/env",
        "/resources/cpu",
        "/resources/memory",
        "/timeouts",
        "/labels",
        "/nonsense",
    ] {
        assert!(has(field), "no error at {field}: {}", answer.text());
    }
}

/// Bodies that are no JSON object in UTF-8.
pub fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let good = r#"{"script":"echo never"}"#;
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let with_mark = |mark: &[u8], body: &[u8]| [mark, body].concat();
    let nested = |open: &str, close: &str| {
        let (open, close) = (open.repeat(100_000), close.repeat(100_000));
        format!(r#"{{"script":"x","args":{open}1{close}}}"#).into_bytes()
    };
    vec![
        ("nothing", Vec::new()),
        ("blanks only", b" \n ".to_vec()),
        ("an open brace", b"{".to_vec()),
        ("words", b"echo Hello".to_vec()),
        ("a form", b"script=echo+Hello&wait=1".to_vec()),
        ("cut in a string", b"{\"script\":\"echo ne".to_vec()),
        ("cut before the end", b"{\"script\":\"echo never\"".to_vec()),
        (
            "more after the end",
            b"{\"script\":\"echo never\"} {}".to_vec(),
        ),
        ("a comma too many", b"{\"script\":\"echo never\",}".to_vec()),
        ("single quotes", b"{'script':'echo never'}".to_vec()),
        (
            "a comment",
            b"{\"script\":\"echo never\" /* really */}".to_vec(),
        ),
        (
            "NaN",
            b"{\"script\":\"x\",\"timeouts\":{\"runSeconds\":NaN}}".to_vec(),
        ),
        (
            "a line end in a string",
            b"{\"script\":\"echo\nnever\"}".to_vec(),
        ),
        (
            "half of a surrogate pair",
            b"{\"script\":\"echo \\ud800\"}".to_vec(),
        ),
        ("an unknown escape", b"{\"script\":\"echo \\x41\"}".to_vec()),
        ("invalid UTF-8", b"{\"script\":\"echo \xff\xfe\"}".to_vec()),
        ("overlong UTF-8", b"{\"script\":\"echo \xc0\xaf\"}".to_vec()),
        (
            "a byte order mark",
            with_mark(b"\xef\xbb\xbf", good.as_bytes()),
        ),
        ("UTF-16", utf16.clone()),
        ("UTF-16 with its mark", with_mark(b"\xff\xfe", &utf16)),
        (
            "NUL bytes after the end",
            with_mark(good.as_bytes(), b"\0\0\0"),
        ),
        ("only NUL bytes", vec![0; 1000]),
        ("deeply nested lists", nested("[", "]")),
        ("deeply nested objects", nested("{\"a\":", "}")),
        ("lists that never close", vec![b'['; 1_000_000]),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("a string", b"\"echo never\"".to_vec()),
        ("a number", b"42".to_vec()),
        (
            "a field twice",
            b"{\"script\":\"echo a\",\"script\":\"echo b\"}".to_vec(),
        ),
        (
            "a number beyond all",
            b"{\"script\":\"x\",\"timeouts\":{\"runSeconds\":1e999}}".to_vec(),
        ),
        (
            "gzip",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xabV*N.\xca,(Q\xb2\x02\0".to_vec(),
        ),
    ]
}

#[test]
fn malformed_bodies_are_refused() {
    let stack = shared();
    let authority = stack.client().authority().to_owned();
    let cases = malformed();
    let mut wrong = Vec::new();
    for (name, body) in &cases {
        let request = raw::post(&[("content-type", "application/json")], body);
        let checked = match raw::exchange(&authority, &request, false) {
            // Both are right where JSON is well-formed in itself, or a matter of its number range.
            Some(answer) => check_problem(&answer, &[400, 422], &[]),
            None => Err("no answer".to_owned()),
        };
        if let Err(e) = checked {
            wrong.push(format!("{name}: {e}"));
        }
    }
    finish("malformed bodies", cases.len(), &wrong);
}
