//! Methods, content types, headers and lengths.

use e2e::raw;

use crate::{check_problem, finish, shared};

const GOOD: &[u8] = br#"{"script":"echo never"}"#;

/// A well-formed UUID v7 that no execution has.
pub const NOBODY: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

/// What must come back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A problem with one of these statuses.
    Problem(&'static [u16]),
    /// 405 with this method in `Allow`.
    NotAllowed(&'static str),
    /// The host may answer by itself, in its own words, or close: what counts is that nothing is accepted.
    Host,
}

/// Bytes on a socket and what must come back.
pub struct Case {
    name: String,
    request: Vec<u8>,
    half_close: bool,
    expected: Expected,
}

/// The table.
pub fn cases() -> Vec<Case> {
    let mut cases = methods();
    cases.extend(content_types());
    cases.extend(headers());
    cases.extend(lengths());
    cases
}

fn case(name: impl Into<String>, request: Vec<u8>, expected: Expected) -> Case {
    Case {
        name: name.into(),
        request,
        half_close: false,
        expected,
    }
}

fn methods() -> Vec<Case> {
    let one = format!("/executions/{NOBODY}");
    let logs = format!("{one}/logs");
    let table: [(&str, &str, &'static str); 11] = [
        ("PUT", "/executions", "POST"),
        ("PATCH", "/executions", "POST"),
        ("DELETE", "/executions", "GET"),
        ("BREW", "/executions", "POST"),
        ("POST", &one, "GET"),
        ("PUT", &one, "GET"),
        ("PATCH", &one, "GET"),
        ("POST", &logs, "GET"),
        ("DELETE", &logs, "GET"),
        ("POST", "/healthz", "GET"),
        ("GET", "/internal/tick", "POST"),
    ];
    let cases = table.iter().map(|(method, path, allowed)| {
        let body = if *method == "GET" { &[][..] } else { GOOD };
        let request = raw::request(method, path, &[], body);
        case(
            format!("{method} {path}"),
            request,
            Expected::NotAllowed(allowed),
        )
    });
    cases.collect()
}

fn content_types() -> Vec<Case> {
    let types = [
        "text/xml",
        "application/yaml",
        "application/octet-stream",
        "image/png",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/jsonx",
        "nonsense",
        "",
    ];
    let mut cases: Vec<Case> = types
        .iter()
        .map(|kind| {
            let request = raw::post(&[("content-type", kind)], GOOD);
            case(
                format!("content-type {kind:?}"),
                request,
                Expected::Problem(&[415]),
            )
        })
        .collect();
    for encoding in ["gzip", "br", "nonsense"] {
        let headers = [
            ("content-type", "application/json"),
            ("content-encoding", encoding),
        ];
        let request = raw::post(&headers, GOOD);
        cases.push(case(
            format!("content-encoding {encoding}"),
            request,
            Expected::Problem(&[415]),
        ));
    }
    cases
}

fn headers() -> Vec<Case> {
    let bad = Expected::Problem(&[400]);
    let long = "k".repeat(256);
    let keyed = |name: &str, key: &str| {
        case(
            format!("idempotency key {name}"),
            raw::post(&[("idempotency-key", key)], GOOD),
            bad,
        )
    };
    let twice = raw::post(
        &[("idempotency-key", "one"), ("idempotency-key", "two")],
        GOOD,
    );
    let many: Vec<(String, String)> = (0..2000)
        .map(|n| (format!("x-{n}"), "v".to_owned()))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let huge = "h".repeat(2_000_000);
    vec![
        keyed("empty", ""),
        keyed("of 256 characters", &long),
        keyed("with a blank", "two words"),
        keyed("not ASCII", "schlüssel"),
        case("idempotency key twice", twice, bad),
        case(
            "two thousand headers",
            raw::post(&many, GOOD),
            Expected::Host,
        ),
        case(
            "a header of 2 MB",
            raw::post(&[("x-huge", &huge)], GOOD),
            Expected::Host,
        ),
        case(
            "a header without a name",
            b"GET /executions HTTP/1.1\r\nhost: x\r\n: v\r\n\r\n".to_vec(),
            Expected::Host,
        ),
        case("no HTTP at all", b"Hello?\r\n\r\n".to_vec(), Expected::Host),
        case(
            "TLS on a plain port",
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".to_vec(),
            Expected::Host,
        ),
        case(
            "HTTP 9",
            b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n".to_vec(),
            Expected::Host,
        ),
    ]
}

fn lengths() -> Vec<Case> {
    let too_large = Expected::Problem(&[413]);
    let large = vec![b' '; 20_000_000];
    let cut = &GOOD[..GOOD.len() - 5];
    let chunked = |tail: &[u8]| [&b"17\r\n"[..], GOOD, b"\r\n", tail].concat();
    let announced = GOOD.len().to_string();
    let longer = (GOOD.len() + 100).to_string();
    let mut broken_off = case(
        "a body that breaks off before its length",
        raw::post(&[("content-length", &longer)], GOOD),
        Expected::Host,
    );
    broken_off.half_close = true;
    let mut chunks_break_off = case(
        "chunks that break off",
        raw::post(&[("transfer-encoding", "chunked")], &chunked(b"")),
        Expected::Host,
    );
    chunks_break_off.half_close = true;
    vec![
        case("20 MB of blanks", raw::post(&[], &large), too_large),
        case(
            "20 MB of text",
            raw::post(&[], &vec![b'x'; 20_000_000]),
            too_large,
        ),
        case(
            "a length beyond all",
            raw::post(&[("content-length", "99999999999999999999")], GOOD),
            Expected::Host,
        ),
        case(
            "a negative length",
            raw::post(&[("content-length", "-1")], GOOD),
            Expected::Host,
        ),
        case(
            "a length that is no number",
            raw::post(&[("content-length", "many")], GOOD),
            Expected::Host,
        ),
        case(
            "two different lengths",
            raw::post(
                &[("content-length", &announced), ("content-length", "3")],
                GOOD,
            ),
            Expected::Host,
        ),
        case(
            "a length that cuts the JSON",
            raw::post(&[("content-length", "10")], GOOD),
            Expected::Problem(&[400]),
        ),
        case(
            "a body without its last bytes",
            raw::post(&[], cut),
            Expected::Problem(&[400]),
        ),
        case(
            "chunks of no size",
            raw::post(
                &[("transfer-encoding", "chunked")],
                b"zz\r\n{}\r\n0\r\n\r\n",
            ),
            Expected::Host,
        ),
        broken_off,
        chunks_break_off,
    ]
}

fn check(authority: &str, case: &Case) -> Result<(), String> {
    let answer = raw::exchange(authority, &case.request, case.half_close);
    match (case.expected, answer) {
        (Expected::Host, None) => Ok(()),
        (Expected::Host, Some(answer)) if (400..600).contains(&answer.status) => Ok(()),
        (Expected::Host, Some(answer)) => {
            Err(format!("answers {}: {}", answer.status, answer.text()))
        }
        (_, None) => Err("no answer".to_owned()),
        (Expected::Problem(statuses), Some(answer)) => check_problem(&answer, statuses, &[]),
        (Expected::NotAllowed(method), Some(answer)) => {
            let allow = answer.header("allow").unwrap_or_default();
            if !allow.split(',').any(|one| one.trim() == method) {
                return Err(format!(
                    "answers {} with Allow: {allow:?}, expected {method}",
                    answer.status
                ));
            }
            check_problem(&answer, &[405], &[])
        }
    }
}

#[test]
fn bad_http_is_refused() {
    let stack = shared();
    let authority = stack.client().authority().to_owned();
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(e) = check(&authority, case) {
            wrong.push(format!("{}: {e}", case.name));
        }
    }
    finish("bad HTTP", cases.len(), &wrong);
}
