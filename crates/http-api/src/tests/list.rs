//! `GET /executions`.

use app::StoredLog;
use serde_json::Value;

use super::service::Service;

fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

#[test]
fn pages_are_walked_by_their_links() {
    let service = Service::with("max_running", "100");
    let mut all: Vec<String> = (0..7)
        .map(|_| service.accept(r#"{"script":"true","labels":{"k/1":"a&b=c+é%"}}"#))
        .collect();
    all.push(service.accept(r#"{"script":"true"}"#));
    let mut uri = "/executions?limit=3&label=k%2F1%3Da%26b%3Dc%2B%C3%A9%25&status=QUEUED&createdAfter=2020-01-01T00:00:00Z".to_owned();
    let mut seen: Vec<String> = Vec::new();
    for (page_of, last) in [(3, false), (3, false), (1, true)] {
        let answer = service.get(&uri);
        let page = answer.json();
        assert_eq!(ids(&page).len(), page_of, "{page}");
        seen.extend(ids(&page).into_iter().map(str::to_owned));
        assert_eq!(
            (page["next"].is_null(), answer.header("link").is_none()),
            (last, last)
        );
        if let Some(link) = answer.header("link") {
            uri = link
                .strip_prefix('<')
                .expect("a link")
                .split_once(">; rel=\"next\"")
                .expect("next")
                .0
                .to_owned();
            assert!(uri.contains(&format!(
                "cursor={}",
                page["next"].as_str().expect("a cursor")
            )));
            assert!(uri.contains("label=k%2F1%3Da%26b%3Dc%2B%C3%A9%25"), "{uri}");
        }
    }
    let mut expected = all[..7].to_vec();
    expected.sort_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected, "newest first, none lost, none twice");
}

#[test]
fn filters_select() {
    let service = Service::with("max_running", "100");
    let good = service.accept(r#"{"script":"true","labels":{"team":"a"}}"#);
    let bad = service.accept(r#"{"script":"false","labels":{"team":"a","x":"y"}}"#);
    let open = service.accept(r#"{"script":"sleep 1"}"#);
    service.finish(&good, 0, StoredLog::default());
    service.finish(&bad, 1, StoredLog::default());
    for (query, expected) in [
        ("", vec![&open, &bad, &good]),
        ("status=FINISHED", vec![&bad, &good]),
        ("outcome=SUCCEEDED", vec![&good]),
        ("reason=NonZeroExit", vec![&bad]),
        ("status=QUEUED", vec![&open]),
        ("label=team=a&label=x=y", vec![&bad]),
        ("label=team=", vec![]),
        ("createdAfter=2026-01-31T12:00:00.000042Z", vec![]),
        (
            "createdBefore=2026-01-31T14%3A00%3A01%2B02%3A00",
            vec![&open, &bad, &good],
        ),
        ("&&limit=1&", vec![&open]),
    ] {
        let page = service.get(&format!("/executions?{query}")).json();
        assert_eq!(ids(&page), expected, "{query}");
    }
}
