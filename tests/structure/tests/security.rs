//! What docs/SECURITY.md says is shown by tests that are there.

use std::collections::BTreeSet;
use std::fs;

use structure::{files, top};

/// A test's name says a whole sentence; what is shorter in the page is a setting or a header.
const MIN_UNDERSCORES: usize = 3;

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files(|path| path.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(&path).expect("a readable file");
        for behind in text.split("#[test]").skip(1) {
            let name = behind.split_once("fn ").map(|(_, rest)| rest);
            let name = name.and_then(|rest| rest.split_once('('));
            names.extend(name.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let page = fs::read_to_string(top().join("docs/SECURITY.md")).expect("it is there");
    let is_test = |name: &&str| {
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        name.bytes().all(word) && name.matches('_').count() >= MIN_UNDERSCORES
    };
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).filter(is_test).collect();
    assert!(named.len() >= 30, "{named:?}");
    let tests = tests();
    for name in named {
        assert!(tests.contains(name), "there is no test {name}");
    }
    for risk in 1..=10 {
        let begin = format!("| API{risk} ");
        let row = page.lines().find(|line| line.starts_with(&begin));
        let row = row.unwrap_or_else(|| panic!("nothing is said of API{risk}"));
        let shown = row.rsplit('|').nth(1).unwrap_or_default();
        let shown: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!shown.is_empty(), "API{risk} is shown by no test");
        for name in shown {
            assert!(tests.contains(name), "API{risk}: there is no test {name}");
        }
    }
}
