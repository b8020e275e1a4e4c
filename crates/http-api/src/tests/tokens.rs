//! Tokens that callers make, list and revoke.

use serde_json::json;

use super::callers::{A, ADMIN, B, SMALLEST, accept, send, service};

#[test]
fn tokens_are_made_listed_and_revoked() {
    let service = service();
    let make = |body: &str| send(&service, ADMIN, "POST", "/admin/tokens", body);
    let made =
        make(r#"{"name":"ci","tenant":"b","role":"run","expiresAt":"2026-02-01T00:00:00Z"}"#);
    assert_eq!(made.status, 201, "{}", made.text());
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let place = format!("/admin/tokens/{id}");
    assert_eq!(made.header("location"), Some(&*place));
    assert_eq!(made.json()["createdBy"], "root");
    assert!(token.starts_with("exr_"), "{token}");
    let execution = accept(&service, &token, SMALLEST);
    let uri = format!("/executions/{execution}");
    assert_eq!(
        send(&service, B, "GET", &uri, "").status,
        200,
        "it is of that tenant"
    );
    assert_eq!(send(&service, A, "GET", &uri, "").status, 404);
    assert_eq!(
        send(&service, &token, "GET", "/admin/tokens", "").status,
        403
    );
    // What the tenant may have holds for it.
    let large = r#"{"script":"true","resources":{"cpu":"2"}}"#;
    assert_eq!(
        send(&service, &token, "POST", "/executions", large).status,
        422
    );

    let list = send(&service, ADMIN, "GET", "/admin/tokens", "");
    assert!(!list.text().contains(&token), "its text is told once");
    let items = &list.json()["items"];
    assert_eq!(items[0]["id"], *id);
    assert_eq!(items[0]["role"], "run");
    let hash: String = service
        .sqlite
        .connection()
        .query_row("SELECT hash FROM tokens", [], |row| row.get(0))
        .expect("one row");
    assert!(hash.len() == 64 && !hash.contains(&token[4..]), "{hash}");

    // One letter else is another's.
    let mut other = token.clone();
    other.replace_range(10..11, if &token[10..11] == "A" { "B" } else { "A" });
    assert_eq!(send(&service, &other, "GET", "/executions", "").status, 401);
    service.clock.advance(11 * 3600);
    assert_eq!(send(&service, &token, "GET", "/executions", "").status, 200);
    service.clock.advance(3600);
    assert_eq!(
        send(&service, &token, "GET", "/executions", "").status,
        401,
        "its time is over"
    );

    let lasting = make(r#"{"name":"for ever","tenant":"a","role":"read"}"#).json();
    let text = lasting["token"].as_str().expect("a token");
    assert_eq!(send(&service, text, "GET", "/executions", "").status, 200);
    let place = format!("/admin/tokens/{}", lasting["id"].as_str().expect("an id"));
    assert_eq!(send(&service, ADMIN, "DELETE", &place, "").status, 204);
    assert_eq!(send(&service, text, "GET", "/executions", "").status, 401);
    send(&service, ADMIN, "DELETE", &place, "").is_problem(404, "not-found", "no token");
}

#[test]
fn bad_wishes_for_tokens_are_refused_by_name() {
    let service = service();
    for (body, detail) in [
        ("{}", "`name`"),
        (r#"{"name":"a"}"#, "`/role` is required"),
        (r#"{"name":"a","role":"root"}"#, "is no known role"),
        (r#"{"name":"a","role":"run","tenant":"c"}"#, "does not name"),
        (r#"{"name":"a","role":"run","tenant":"A"}"#, "lowercase"),
        (
            r#"{"name":"a","role":"run","expiresAt":"2020-01-01T00:00:00Z"}"#,
            "yet to come",
        ),
        (
            r#"{"name":"a","role":"run","expiresAt":"soon"}"#,
            "yet to come",
        ),
        (
            r#"{"name":"a","role":"run","namespace":"x"}"#,
            "is no known field",
        ),
        ("[]", "must be an object"),
    ] {
        let answer = send(&service, ADMIN, "POST", "/admin/tokens", body);
        answer.is_problem(422, "validation", "");
        assert!(
            answer.text().contains(detail.trim_matches('`')),
            "{detail}: {}",
            answer.text()
        );
    }
    let list = send(&service, ADMIN, "GET", "/admin/tokens", "").json();
    assert_eq!(list["items"], json!([]));
}

#[test]
fn a_store_that_is_away_lets_nobody_in_by_a_token_of_its_own() {
    let service = service();
    let made = send(
        &service,
        ADMIN,
        "POST",
        "/admin/tokens",
        r#"{"name":"a","role":"read"}"#,
    );
    let token = made.json()["token"].as_str().expect("a token").to_owned();
    service
        .sqlite
        .connection()
        .execute_batch("DROP TABLE tokens")
        .expect("it drops");
    let answer = send(&service, &token, "GET", "/executions", "");
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert!(answer.failure.is_some());
    // Those of the settings need no store.
    assert_eq!(send(&service, A, "GET", "/executions", "").status, 200);
}
