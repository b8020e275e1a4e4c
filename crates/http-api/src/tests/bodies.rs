//! Bodies that are no JSON, and bodies made by chance.

use super::chance::Chance;
use super::submission::submit;
use crate::json::parse;
use crate::limits::MAX_JSON_DEPTH;
use crate::problem::Kind;

#[test]
fn what_is_no_json_is_refused() {
    let deep = "[".repeat(MAX_JSON_DEPTH + 1) + &"]".repeat(MAX_JSON_DEPTH + 1);
    let very_deep = "[".repeat(100_000);
    for (body, detail) in [
        (&b""[..], "empty"),
        (b" \r\n\t", "empty"),
        (b"{", "EOF"),
        (b"{\"script\":\"x\"", "EOF"),
        (b"{\"script\":\"x\",}", "trailing comma"),
        (b"{\"script\":\"x\"} x", "trailing characters"),
        (b"{\"script\":\"x\"}{}", "trailing characters"),
        (b"{'script':'x'}", "key must be a string"),
        (b"script=x", "expected"),
        (b"{\"script\":\"\xff\"}", "unicode"),
        (b"{\"script\":\"\\ud800\"}", "escape"),
        (b"{\"script\":\"a\nb\"}", "control character"),
        (
            b"{\"script\":\"x\",\"script\":\"y\"}",
            "`script` stands twice",
        ),
        (
            b"{\"timeouts\":{\"runSeconds\":1e999}}",
            "number out of range",
        ),
        (b"{\"timeouts\":{\"runSeconds\":01}}", "number"),
        (b"NaN", "expected"),
        (b"\xfe\xff\x00{", "expected"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (deep.as_bytes(), "nested deeper than 16"),
        (very_deep.as_bytes(), "nested deeper than 16"),
    ] {
        let problem = parse(body).expect_err(&String::from_utf8_lossy(&body[..body.len().min(99)]));
        assert_eq!(problem.kind(), Kind::InvalidJson);
        let text = problem.into_response("/executions").into_body();
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(text.contains(detail), "{detail} not in {text}");
    }
}

/// Bodies from which the random ones are made.
const SEEDS: &[&str] = &[
    r#"{"script":"echo Hello && sleep 1 && echo Done","resources":{"cpu":"250m","memory":"128Mi"}}"#,
    r#"{"script":"x","interpreter":["sh","-c"],"args":["a"],"image":"busybox:1","env":{"A":"b"},"labels":{"a":"b"}}"#,
    r#"{"script":"x","files":{"a/b":{"text":"c"},"d":{"base64":"AP8="}},"timeouts":{"runSeconds":1}}"#,
];

#[test]
fn no_bytes_make_it_panic() {
    let mut chance = Chance::from_environment();
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut body = chance.pick(SEEDS).as_bytes().to_vec();
        chance.mutate(&mut body);
        if let Ok(value) = parse(&body) {
            match submit(value) {
                Ok(_) => accepted += 1,
                Err(errors) => assert!(!errors.is_empty()),
            }
        }
    }
    assert!(accepted > 0, "some mutations are harmless");
}
