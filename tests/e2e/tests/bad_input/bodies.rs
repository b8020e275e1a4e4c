//! Bodies: no JSON at all (400), and JSON that asks for what cannot be (422, all errors at once).

use e2e::raw;
use serde_json::json;

use crate::fields::invalid;
use crate::{check_problem, finish, shared};

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
#[rustfmt::skip] // One line for each case reads as a table.
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
