//! The PostgreSQL server dies and its standby takes over, while callers submit to three replicas: nobody is restarted, nothing that was
//! accepted is lost, and nothing runs twice. It needs `tests/postgres/with-postgres.sh --standby`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::batch::{
    ALL_ACCEPTED_WITHIN, ALL_END_WITHIN, ANSWERS_WITHIN, Batch, CALLERS, READY_WITHIN, Watched,
    all_end, each_ran_once, is_honest_refusal, no_job_is_left,
};
use e2e::{Options, Seed, Stack, not_applicable, poll, wait_for};
use postgres::{Client, NoTls};
use serde_json::json;

/// As many as with one server.
const REPLICAS: usize = 3;

/// What is submitted in all, by all callers.
const SUBMISSIONS: usize = 60;

/// A caller rests for so long after each submission, so that callers are at work before, during and after.
const PACE: Duration = Duration::from_millis(500);

/// How long nobody takes writes: long enough for every replica to tell of it, and for ticks to fail.
const AWAY: Duration = Duration::from_secs(12);

/// Three replicas whose database has a standby; none where there is no such.
fn replicas() -> Option<Stack> {
    if std::env::var("EXECUTOR_E2E_DATABASE").as_deref() != Ok("postgres")
        || std::env::var_os("EXECUTOR_TEST_POSTGRES_STANDBY").is_none()
    {
        not_applicable(
            "a standby that takes over",
            "it needs EXECUTOR_E2E_DATABASE=postgres and with-postgres.sh --standby",
        );
        return None;
    }
    let mut stack = Stack::start(Options::default());
    while stack.add_host() + 1 < REPLICAS {}
    Some(stack)
}

#[test]
fn a_standby_takes_over() {
    let Some(stack) = replicas() else {
        return;
    };
    let server = stack.postgres().expect("a stack on PostgreSQL");
    let ledger = stack.ledger("failover");
    let batch = Batch::new("failover", SUBMISSIONS, &mut Seed::new("failover"))
        .paced(PACE, ANSWERS_WITHIN)
        .that_may_be_refused();
    let clients: Vec<_> = (0..REPLICAS).map(|host| stack.client_of(host)).collect();
    let before = clients[0].submit(&json!({ "script": "echo before" }));
    clients[0].finished(&before, ALL_END_WITHIN);
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        for caller in 0..CALLERS {
            let (client, batch, ledger) = (&clients[caller % REPLICAS], &batch, &ledger);
            scope.spawn(move || batch.submit(client, ledger));
        }
        let begun = poll(ALL_END_WITHIN, || {
            (batch.accepted() >= SUBMISSIONS / 3).then_some(())
        });
        assert!(begun.is_some(), "only {} accepted", batch.accepted());
        server.kill();
        let away = Instant::now();
        // The standby answers, but nobody is sent there for as long as it only reads.
        for client in &clients {
            let read = client.get(&format!("/executions/{before}"));
            assert!(is_honest_refusal(&read), "{} {}", read.status, read.text());
            let ready = client.get("/readyz").expect(503).json();
            assert_eq!(ready["checks"]["store"]["ok"], false, "{ready}");
        }
        wait_for("every caller to be refused", ANSWERS_WITHIN, || {
            (batch.refused.load(Ordering::Relaxed) >= CALLERS).then_some(())
        });
        // Not a wait for a condition: an outage has a length.
        std::thread::sleep(AWAY.saturating_sub(away.elapsed()));
        let accepted = batch.accepted();
        server.promote_standby();
        println!("taken over {:?} after the kill", away.elapsed());
        assert!(accepted < SUBMISSIONS, "all were accepted before it");
        let taken = Instant::now();
        wait_for("the first to be accepted", ANSWERS_WITHIN, || {
            (batch.accepted() > accepted).then_some(())
        });
        println!("accepting {:?} after that", taken.elapsed());
        let all = poll(ALL_ACCEPTED_WITHIN, || {
            (batch.accepted() == SUBMISSIONS).then_some(())
        });
        batch.given_up.store(all.is_none(), Ordering::Relaxed);
    });
    println!(
        "{} requests were refused, with the time to try again",
        batch.refused.load(Ordering::Relaxed)
    );
    let unanswered = batch.unanswered.load(Ordering::Relaxed);
    assert_eq!(unanswered, 0, "requests got no answer");
    for client in &clients {
        wait_for("/readyz to be 200 again", READY_WITHIN, || {
            (client.get("/readyz").status == 200).then_some(())
        });
        let told = client.execution(&before);
        assert_eq!(told["outcome"], "SUCCEEDED", "{told}");
    }
    all_end(&clients[0], &batch.ids());
    each_ran_once(&ledger, batch.nonces());
    no_job_is_left(&stack);
    assert!(!server.answers(), "the killed server is back");
    are_there(server.standby().expect("a standby"));
}

/// Executor's connections are at the server that has taken over, in whatever database.
#[track_caller]
fn are_there(url: &str) {
    let mut client = Client::connect(url, NoTls).expect("the new server answers");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'executor'";
    let row = client.query_one(sql, &[]).expect("it counts");
    let count: i64 = row.get(0);
    println!("{count} connections at the new server");
    assert!(count > 0, "no connection is there");
}
