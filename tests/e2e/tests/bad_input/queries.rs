//! Paths and query strings.

use e2e::raw;

use crate::http::NOBODY;
use crate::{check_problem, finish, shared};

/// Method, path with query, statuses, and what must be named.
pub type Case = (
    &'static str,
    String,
    &'static [u16],
    &'static [&'static str],
);

/// The table.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let bad: &[u16] = &[400];
    for (query, mentions) in [
        ("wait=abc", &["wait"][..]),
        ("wait=-1", &["wait"]),
        ("wait=61", &["wait", "60"]),
        ("wait=1.5", &["wait"]),
        ("wait=99999999999999999999", &["wait"]),
        ("wait=", &["wait"]),
        ("wait=1&wait=2", &["wait"]),
        ("wiat=3", &["wiat", "`wait`"]),
        ("wait=%zz", &["wait"]),
    ] {
        cases.push(("POST", format!("/executions?{query}"), bad, mentions));
    }
    for (query, mentions) in [
        ("status=DONE", &["status"][..]),
        ("status=queued", &["status", "QUEUED"]),
        ("outcome=OK", &["outcome"]),
        ("reason=Whatever", &["reason"]),
        ("limit=0", &["limit"]),
        ("limit=201", &["limit", "200"]),
        ("limit=ten", &["limit"]),
        ("limit=-1", &["limit"]),
        ("limit=1&limit=2", &["limit"]),
        ("cursor=garbage", &["cursor"]),
        ("cursor=eyJhIjoxfQ", &["cursor"]),
        ("cursor=", &["cursor"]),
        ("label=noequals", &["label"]),
        ("label==value", &["label"]),
        ("createdAfter=yesterday", &["createdAfter"]),
        ("createdBefore=2026-13-01T00:00:00Z", &["createdBefore"]),
        ("createdBefore=2026-01-01", &["createdBefore"]),
        ("createdAfter=2026-01-01T00:00:00", &["createdAfter"]),
        ("stauts=QUEUED", &["stauts", "`status`"]),
        ("label=a=%ff", &["label"]),
        ("nonsense=1", &["nonsense"]),
    ] {
        cases.push(("GET", format!("/executions?{query}"), bad, mentions));
    }
    let one = format!("/executions/{NOBODY}");
    for (path, statuses, mentions) in [
        (
            "/executions/not-a-uuid".to_owned(),
            bad,
            &["not-a-uuid"][..],
        ),
        (
            "/executions/01890a5dac96774bbcceb302099a8057".to_owned(),
            bad,
            &[],
        ),
        (format!("{one}0"), bad, &[]),
        (format!("/executions/%7B{NOBODY}%7D"), bad, &[]),
        (one.clone(), &[404], &[NOBODY]),
        (
            "/executions/00000000-0000-0000-0000-000000000000".to_owned(),
            &[404],
            &[],
        ),
        (format!("{one}/logs"), &[404], &[NOBODY]),
        (format!("{one}/"), &[404], &[]),
        (format!("{one}/unknown"), &[404], &[]),
        ("/executions/not-a-uuid/logs".to_owned(), bad, &[]),
        (format!("{one}?wait=x"), bad, &["wait"]),
        (format!("{one}?wiat=1"), bad, &["`wait`"]),
        (format!("{one}/logs?tail=-1"), bad, &["tail"]),
        (format!("{one}/logs?tail=all"), bad, &["tail"]),
        (format!("{one}/logs?tial=1"), bad, &["`tail`"]),
        (format!("{one}/logs?sinceSeconds=x"), bad, &["sinceSeconds"]),
        ("/execution".to_owned(), &[404], &[]),
        ("/Executions".to_owned(), &[404], &[]),
        ("/executions/".to_owned(), &[404], &[]),
        ("//executions".to_owned(), &[404], &[]),
        ("/executions/../healthz/x".to_owned(), &[400, 404], &[]),
        (format!("/{}", "p".repeat(5000)), &[404, 414], &[]),
    ] {
        cases.push(("GET", path, statuses, mentions));
    }
    cases
}

#[test]
fn bad_paths_and_queries_are_refused() {
    let stack = shared();
    let authority = stack.client().authority().to_owned();
    let cases = cases();
    let mut wrong = Vec::new();
    for (method, path, statuses, mentions) in &cases {
        let body: &[u8] = if *method == "POST" {
            br#"{"script":"echo never"}"#
        } else {
            &[]
        };
        let request = raw::request(method, path, &[], body);
        let checked = match raw::exchange(&authority, &request, false) {
            Some(answer) => check_problem(&answer, statuses, mentions),
            None => Err("no answer".to_owned()),
        };
        if let Err(e) = checked {
            let path = path.get(..100).unwrap_or(path);
            wrong.push(format!("{method} {path}: {e}"));
        }
    }
    finish("bad paths and queries", cases.len(), &wrong);
}
