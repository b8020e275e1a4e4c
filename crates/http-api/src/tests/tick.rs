//! `POST /internal/tick`.

use super::service::Service;

#[test]
fn a_configured_token_is_asked_for() {
    let service = Service::with("tick_token", "s3cret");
    for headers in [
        &[][..],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer s3cre")],
        &[("authorization", "Bearer s3cret2")],
        &[("authorization", "Basic s3cret")],
        &[("authorization", "s3cret")],
        &[
            ("authorization", "Bearer s3cret"),
            ("authorization", "Bearer s3cret"),
        ],
    ] {
        let answer = service.send("POST", "/internal/tick", headers, "");
        answer.is_problem(401, "unauthorized", "tick token");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.text().contains("s3cret"));
    }
}

#[test]
fn the_report_says_who_leads() {
    for (service, headers) in [
        (Service::default(), &[][..]),
        (
            Service::with("tick_token", "s3cret"),
            &[("authorization", "bearer s3cret")],
        ),
    ] {
        let answer = service.send("POST", "/internal/tick?budgetSeconds=0", headers, "");
        assert_eq!(answer.status, 200, "{answer:?}");
        let report = answer.json();
        assert_eq!(report["leader"], true, "{report}");
        for count in ["dispatched", "finished", "failures"] {
            assert!(report[count].is_u64(), "{report}");
        }
    }
}
