//! Stacks for figures: those of `tests/e2e`, with a tick at once instead of the cron's next match.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Options, Stack, TICK_TOKEN};

use crate::database::{Database, Kind};

/// The period of the cron trigger, in seconds.
const PERIOD_SECONDS: u64 = 10;

/// How often a condition is looked at that costs something.
const LOOK: Duration = Duration::from_millis(500);

/// Starts a cluster and a host.
pub fn start(options: Options) -> Stack {
    let stack = Stack::start(options);
    tick(&stack);
    stack
}

/// The same on a database of that kind.
pub fn start_on(kind: Kind, mut options: Options) -> (Stack, Database) {
    match kind {
        Kind::Sqlite => {
            let stack = start(options);
            let file = stack.shared_file("state").join("sqlite_db.db");
            (stack, Database::Sqlite(file))
        }
        Kind::Postgres => {
            let database = Database::new(kind, PathBuf::new());
            let url = database.url().unwrap_or_default();
            let authority = url
                .split(['/', '@'])
                .find(|part| part.contains(':') && !part.ends_with(':'));
            let hosts = format!("postgres://{}", authority.unwrap_or_default());
            options
                .variables
                .push(("database_url".to_owned(), url.to_owned()));
            options.variables.push(("database_hosts".to_owned(), hosts));
            (start(options), database)
        }
    }
}

/// Starts its host again, which was killed.
pub fn restart(stack: &mut Stack) {
    stack.restart_host(0);
    tick(stack);
}

/// The base URL of its host.
pub fn base(stack: &Stack) -> String {
    format!("http://{}", stack.client().authority())
}

/// Waits for a condition that costs something to look at, so that the looks are not in the figures.
///
/// # Panics
/// When it does not come in that time.
pub fn wait_patiently(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(LOOK);
    }
}

/// Asks for a tick until the cron's first. A host that was killed may have left its lease, so it is asked again and again.
fn tick(stack: &Stack) {
    let client = stack.client();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = now.map_or(0, |now| now.as_secs());
    let end = Instant::now() + Duration::from_secs(PERIOD_SECONDS - seconds % PERIOD_SECONDS);
    std::thread::spawn(move || {
        let token = format!("Bearer {TICK_TOKEN}");
        loop {
            let left = end.saturating_duration_since(Instant::now()).as_secs();
            let path = format!("/internal/tick?budgetSeconds={left}");
            // A host that was killed meanwhile answers nothing; then there is nothing to tick either.
            let answer = client.send("POST", &path, &[("authorization", &token)], None);
            let led = answer.map_or(true, |answer| answer.json()["leader"] == true);
            if led || left == 0 {
                return;
            }
            std::thread::sleep(LOOK);
        }
    });
}
