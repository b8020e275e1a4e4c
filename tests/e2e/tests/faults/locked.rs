//! Somebody else writes to the database, and does not come to an end.

use std::time::{Duration, Instant};

use e2e::{Options, Stack};
use serde_json::json;

use crate::{alone, is_honest_refusal};

/// So long the lock is waited for at least; a quick refusal would not have waited at all.
const WAITED: Duration = Duration::from_secs(4);

/// The refused one, and room on two busy cores.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn a_database_that_somebody_keeps_locked_is_waited_for_and_nothing_is_stored() {
    let _alone = alone();
    let stack = Stack::start(Options::default());
    let client = stack.client();
    let body = json!({ "script": "exit 0", "resources": { "cpu": "10m", "memory": "16Mi" } });
    let before = client.submit(&body);
    client.finished(&before, ENDS_WITHIN);
    let stored = || {
        let list = client.get("/executions").expect(200).json();
        list["items"].as_array().map(Vec::len)
    };
    let file = stack.shared_file("state").join("sqlite_db.db");
    let other = rusqlite::Connection::open(file).expect("the database");
    let patience = other.busy_timeout(ENDS_WITHIN);
    patience.expect("it waits for whoever writes now");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let since = Instant::now();
    let refused = client.post_with("/executions", &[], &body);
    let waited = since.elapsed();
    assert!(
        is_honest_refusal(&refused),
        "{} {}",
        refused.status,
        refused.text()
    );
    assert!(waited >= WAITED, "it was refused after {waited:?}");
    // Who only reads waits for nobody.
    assert_eq!(stored(), Some(1));
    other.execute_batch("ROLLBACK").expect("the lock's end");
    let id = client.submit(&body);
    client.finished(&id, ENDS_WITHIN);
    assert_eq!(stored(), Some(2));
}
