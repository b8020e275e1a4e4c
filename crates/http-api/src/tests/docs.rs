//! `docs/API.md` names what there is.

use crate::problem::Kind;

#[test]
fn every_problem_is_documented() {
    let docs = include_str!("../../../../docs/API.md");
    for kind in Kind::ALL {
        let (slug, _, status) = kind.parts();
        let row = format!("| `/problems/{slug}` | {} |", status.as_u16());
        assert!(docs.contains(&row), "{row} is missing");
    }
}
