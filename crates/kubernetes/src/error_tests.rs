//! Which answer is which error, and what may follow from it.

use super::*;

fn status(code: u16, reason: &str, message: &str) -> Error {
    let body = format!(
        r#"{{"kind":"Status","status":"Failure","metadata":{{}},"code":{code},"reason":"{reason}","message":{message:?}}}"#
    );
    Error::refusal(code, None, body.as_bytes())
}

/// The variant's name, whether it is retryable, and whether it is definite.
fn check(error: &Error, name: &str, retryable: bool, definite: bool) {
    let debug = format!("{error:?}");
    assert_eq!(debug.split([' ', '(', '{']).next(), Some(name), "{debug}");
    assert_eq!(
        (error.is_retryable(), error.is_definite()),
        (retryable, definite),
        "{debug}"
    );
}

#[test]
fn the_reason_decides_where_it_is_known() {
    for (code, reason, name, retryable, definite) in [
        (400, "BadRequest", "BadRequest", false, true),
        (401, "Unauthorized", "Unauthorized", false, true),
        (403, "Forbidden", "Forbidden", false, true),
        (404, "NotFound", "NotFound", false, true),
        (409, "AlreadyExists", "AlreadyExists", false, false),
        (409, "Conflict", "Conflict", true, true),
        (410, "Expired", "Gone", false, true),
        (410, "Gone", "Gone", false, true),
        (413, "RequestEntityTooLarge", "RequestTooLarge", false, true),
        (422, "Invalid", "Invalid", false, true),
        (429, "TooManyRequests", "TooManyRequests", true, true),
        (500, "InternalError", "Unavailable", true, false),
        (500, "ServerTimeout", "Unavailable", true, false),
        (503, "ServiceUnavailable", "Unavailable", true, false),
        (504, "Timeout", "Unavailable", true, false),
        (405, "MethodNotAllowed", "Unexpected", false, true),
        // The reason outweighs a code that says something else.
        (500, "AlreadyExists", "AlreadyExists", false, false),
        (403, "NotFound", "NotFound", false, true),
    ] {
        check(&status(code, reason, "text"), name, retryable, definite);
    }
}

#[test]
fn the_code_decides_where_the_reason_is_unknown_or_the_body_is_no_status() {
    for (code, name, retryable, definite) in [
        (301, "Unexpected", false, false),
        (400, "BadRequest", false, true),
        (401, "Unauthorized", false, true),
        (403, "Forbidden", false, true),
        (404, "NotFound", false, true),
        (409, "Conflict", true, true),
        (410, "Gone", false, true),
        (418, "Unexpected", false, true),
        (422, "Invalid", false, true),
        (429, "TooManyRequests", true, true),
        (500, "Unavailable", true, false),
        (502, "Unavailable", true, false),
        (504, "Unavailable", true, false),
    ] {
        check(
            &status(code, "SomethingNew", "text"),
            name,
            retryable,
            definite,
        );
        check(
            &Error::refusal(code, None, b"<h1>Bad gateway</h1>"),
            name,
            retryable,
            definite,
        );
        check(&Error::refusal(code, None, b""), name, retryable, definite);
        check(
            &Error::refusal(code, None, b"{}"),
            name,
            retryable,
            definite,
        );
    }
}

#[test]
fn failures_without_an_answer_tell_whether_it_may_have_happened() {
    check(
        &TransportError::NotSent(String::new()).into(),
        "Transport",
        true,
        true,
    );
    check(
        &TransportError::Unknown(String::new()).into(),
        "Transport",
        true,
        false,
    );
    check(
        &Error::BodyTooLarge { limit_bytes: 1 },
        "BodyTooLarge",
        false,
        false,
    );
    check(&Error::BadInput(String::new()), "BadInput", false, true);
}

#[test]
fn quota_permission_and_admission_are_told_apart() {
    for (message, quota, permission) in [
        (
            "jobs.batch \"x-1\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: count/jobs.batch=9, limited: count/jobs.batch=9",
            true,
            false,
        ),
        (
            "jobs.batch \"x-1\" is forbidden: status unknown for quota: q, resources: count/jobs.batch",
            true,
            false,
        ),
        (
            "jobs.batch \"x-1\" is forbidden: failed quota: q: must specify limits.cpu for: script",
            false,
            false,
        ),
        (
            "jobs.batch is forbidden: User \"system:serviceaccount:runs:executor\" cannot create resource \"jobs\" in API group \"batch\" in the namespace \"runs\"",
            false,
            true,
        ),
        (
            "jobs.batch \"x-1\" is forbidden: unable to create new content in namespace runs because it is being terminated",
            false,
            false,
        ),
        (
            "admission webhook \"policy.example\" denied the request: no latest tag",
            false,
            false,
        ),
    ] {
        match status(403, "Forbidden", message) {
            Error::Forbidden {
                is_quota,
                is_permission,
                ..
            } => assert_eq!((is_quota, is_permission), (quota, permission), "{message}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn patience_comes_from_the_header_or_the_body() {
    let body = br#"{"kind":"Status","code":429,"reason":"TooManyRequests","details":{"retryAfterSeconds":7}}"#;
    let after = |header| Error::refusal(429, header, body).retry_after();
    assert_eq!(after(None), Some(Duration::from_secs(7)));
    assert_eq!(
        after(Some(Duration::from_secs(3))),
        Some(Duration::from_secs(3))
    );
    assert_eq!(Error::refusal(503, None, b"{}").retry_after(), None);
}

#[test]
fn each_cause_of_an_invalid_object_is_kept() {
    let body = br#"{"code":422,"reason":"Invalid","message":"Job \"x\" is invalid","details":{"name":"x","causes":[
        {"reason":"FieldValueInvalid","message":"bad quantity","field":"spec.template.spec.containers[0].resources.limits[cpu]"}]}}"#;
    let Error::Invalid { causes, .. } = Error::refusal(422, None, body) else {
        panic!("not invalid")
    };
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldValueInvalid");
    assert!(causes[0].field.ends_with("limits[cpu]"));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let error = Error::refusal(500, None, "é".repeat(5000).as_bytes());
    let Error::Unavailable { message, .. } = error else {
        panic!("not unavailable")
    };
    assert!(message.len() <= MESSAGE_LIMIT_BYTES + '…'.len_utf8());
    assert!(message.ends_with("é…"));
}

#[test]
fn a_list_that_is_too_old_says_where_to_go_on() {
    let gone = |metadata: &str| {
        let body = format!(
            r#"{{"kind":"Status","status":"Failure","metadata":{metadata},"code":410,"reason":"Expired","message":"too old"}}"#
        );
        Error::refusal(410, None, body.as_bytes())
    };
    assert_eq!(
        gone(r#"{"continue":"eyJ2Ijoi"}"#).continue_token(),
        Some("eyJ2Ijoi")
    );
    for without in ["{}", "null", r#"{"continue":""}"#] {
        let error = gone(without);
        assert_eq!(error.continue_token(), None, "{without}");
        assert!(error.is_gone() && error.is_refused_place());
    }
    let strange = status(400, "BadRequest", "continue key is not valid");
    assert!(strange.is_refused_place() && !strange.is_gone());
    assert!(!status(503, "ServiceUnavailable", "").is_refused_place());
}
