//! Three replicas on one PostgreSQL: they share the work and its limits, and neither a replica's death nor the server's, nor the network
//! between them, loses or doubles anything.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use e2e::batch::{
    ALL_ACCEPTED_WITHIN, ALL_END_WITHIN, ANSWERS_WITHIN, Batch, CALLERS, READY_WITHIN, Watched,
    all_end, each_ran_once, is_honest_refusal, no_job_is_left,
};
use e2e::{Options, Postgres, Seed, Stack, not_applicable, poll, wait_for};
use serde_json::json;

/// As many as can die in turn while there is always one to ask.
const REPLICAS: usize = 3;

/// Fewer than callers want at once, so that the limit shows.
const MAX_RUNNING: usize = 10;

/// Between two kills.
const KILL_EVERY: Duration = Duration::from_secs(1);

/// How long replicas are killed for, in seconds, unless `EXECUTOR_E2E_KILL_SECONDS` says; the full length is 60.
const KILL_SECONDS: u64 = 20;

/// How often the server is killed.
const SERVER_KILLS: usize = 2;

/// How long the server stays away each time: long enough for every caller to hear of it.
const SERVER_AWAY: Duration = Duration::from_secs(2);

/// Packets to the server vanish at least for so long, in which nobody may wait for it in vain twice.
const CUT: Duration = Duration::from_secs(20);

/// The first answers into a cut: what was sent is given up after 5 s, connections that were idle by 10 s, and then a new one is
/// tried, for 5 s. What the relay sends again, since it hears no acknowledgement, gets through and keeps a few alive a little longer.
/// Without limits of ours it would be a quarter of an hour.
const CUT_IS_SEEN_WITHIN: Duration = Duration::from_secs(45);

/// The answers after those, which only try a new connection.
const CUT_IS_KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// After a cut: the tick that waits gives up, and the next one begins.
const RECOVERS_WITHIN: Duration = Duration::from_secs(45);

/// Each test has its own hosts, and two cores cannot take all at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three replicas with a limit; none where the records are not in PostgreSQL.
fn replicas(what: &str) -> Option<Stack> {
    let mut stack = on_postgres(
        what,
        Options {
            variables: vec![("max_running".to_owned(), MAX_RUNNING.to_string())],
            ..Options::default()
        },
    )?;
    while stack.add_host() + 1 < REPLICAS {}
    Some(stack)
}

/// A stack of one host; none where the records are not in PostgreSQL.
fn on_postgres(what: &str, options: Options) -> Option<Stack> {
    if std::env::var("EXECUTOR_E2E_DATABASE").as_deref() != Ok("postgres") {
        not_applicable(what, "it needs EXECUTOR_E2E_DATABASE=postgres");
        return None;
    }
    Some(Stack::start(options))
}

fn server(stack: &Stack) -> &Postgres {
    stack.postgres().expect("a stack on PostgreSQL")
}

#[test]
fn three_replicas_share_the_work_and_its_limit() {
    const SUBMISSIONS: usize = 300;
    let _alone = alone();
    let Some(stack) = replicas("three replicas at work") else {
        return;
    };
    let ledger = stack.ledger("share");
    let batch = Batch::new("share", SUBMISSIONS, &mut Seed::new("share"));
    let clients: Vec<_> = (0..REPLICAS).map(|host| stack.client_of(host)).collect();
    let started = Instant::now();
    // The crons of all three fire at the same moments: whoever has the lease works, the others leave.
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (client, batch, ledger) = (&clients[caller % REPLICAS], &batch, &ledger);
            scope.spawn(move || batch.submit(client, ledger));
        }
    });
    println!("all accepted after {:?}", started.elapsed());
    all_end(&clients[0], &batch.ids());
    println!("all ended after {:?}", started.elapsed());
    each_ran_once(&ledger, batch.nonces());
    let most = ledger.most_between("start", "end");
    println!("{most} ran at once at most");
    assert!(most <= MAX_RUNNING, "{most} ran at once");
    assert!(
        most * 2 > MAX_RUNNING,
        "only {most} ran at once: the limit was not tried"
    );
    for (id, _) in batch.ids().iter().step_by(SUBMISSIONS / 10) {
        let path = format!("/executions/{id}");
        let told: Vec<_> = clients
            .iter()
            .map(|client| client.get(&path).expect(200).body)
            .collect();
        assert!(told.windows(2).all(|two| two[0] == two[1]), "{path}");
    }
    no_job_is_left(&stack);
}

#[test]
fn a_replica_is_killed_every_second() {
    let _alone = alone();
    let Some(mut stack) = replicas("replicas that are killed") else {
        return;
    };
    let seconds = std::env::var("EXECUTOR_E2E_KILL_SECONDS").map_or(KILL_SECONDS, |text| {
        text.parse()
            .expect("EXECUTOR_E2E_KILL_SECONDS is a whole number")
    });
    let length = Duration::from_secs(seconds);
    // About five a second, so that callers are at work all the time.
    let submissions = usize::try_from(seconds * 5).expect("small");
    let pace = length.mul_f64(CALLERS as f64 / submissions as f64);
    let ledger = stack.ledger("dying");
    let batch = Batch::new("dying", submissions, &mut Seed::new("dying"))
        .paced(pace, ANSWERS_WITHIN)
        .that_may_be_refused();
    let clients: Vec<_> = (0..REPLICAS).map(|host| stack.client_of(host)).collect();
    let mut kills = 0;
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        for caller in 0..CALLERS {
            let (client, batch, ledger) = (&clients[caller % REPLICAS], &batch, &ledger);
            scope.spawn(move || batch.submit(client, ledger));
        }
        let begun = Instant::now();
        while begun.elapsed() < length {
            let next = Instant::now() + KILL_EVERY;
            stack.kill_host(kills % REPLICAS);
            stack.restart_host(kills % REPLICAS);
            kills += 1;
            // Not a wait for a condition: the pace of the kills.
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        let all = poll(ALL_ACCEPTED_WITHIN, || {
            (batch.accepted() == submissions).then_some(())
        });
        batch.given_up.store(all.is_none(), Ordering::Relaxed);
    });
    let unanswered = batch.unanswered.load(Ordering::Relaxed);
    println!(
        "{kills} kills; {unanswered} requests went unanswered, {} were refused",
        batch.refused.load(Ordering::Relaxed)
    );
    assert!(kills >= REPLICAS, "only {kills} kills");
    assert!(unanswered > 0, "no kill fired while callers were at work");
    let last = Instant::now();
    all_end(&stack.client(), &batch.ids());
    println!("all had ended {:?} after the last kill", last.elapsed());
    each_ran_once(&ledger, batch.nonces());
    let most = ledger.most_between("start", "end");
    assert!(most <= MAX_RUNNING, "{most} ran at once");
    no_job_is_left(&stack);
}

#[test]
fn the_server_is_killed_and_comes_back() {
    const SUBMISSIONS: usize = 60;
    let _alone = alone();
    let Some(stack) = replicas("a PostgreSQL that is killed") else {
        return;
    };
    let ledger = stack.ledger("server");
    let batch = Batch::new("server", SUBMISSIONS, &mut Seed::new("server"))
        .paced(Duration::from_millis(500), ANSWERS_WITHIN)
        .that_may_be_refused();
    let clients: Vec<_> = (0..REPLICAS).map(|host| stack.client_of(host)).collect();
    let before = clients[0].submit(&json!({ "script": "echo before" }));
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        for caller in 0..CALLERS {
            let (client, batch, ledger) = (&clients[caller % REPLICAS], &batch, &ledger);
            scope.spawn(move || batch.submit(client, ledger));
        }
        for kill in 1..=SERVER_KILLS {
            let enough = SUBMISSIONS * kill / (SERVER_KILLS + 2);
            poll(ALL_END_WITHIN, || {
                (batch.accepted() >= enough).then_some(())
            });
            server(&stack).kill();
            let away = Instant::now();
            let refused = batch.refused.load(Ordering::Relaxed);
            let read = clients[1].get(&format!("/executions/{before}"));
            assert!(is_honest_refusal(&read), "{} {}", read.status, read.text());
            ready_tells_nothing_of_the_server(&stack);
            wait_for("callers to be refused", ANSWERS_WITHIN, || {
                (batch.refused.load(Ordering::Relaxed) > refused).then_some(())
            });
            std::thread::sleep(SERVER_AWAY.saturating_sub(away.elapsed()));
            server(&stack).start();
            println!("killed, and back after {:?}", away.elapsed());
        }
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
    wait_for("/readyz to be 200 again", READY_WITHIN, || {
        (clients[2].get("/readyz").status == 200).then_some(())
    });
    all_end(&clients[0], &batch.ids());
    each_ran_once(&ledger, batch.nonces());
    no_job_is_left(&stack);
}

#[test]
fn packets_to_the_server_are_dropped() {
    const SUBMISSIONS: usize = 24;
    let _alone = alone();
    let options = Options {
        database_through_network: true,
        ..Options::default()
    };
    let Some(stack) = on_postgres("a network to PostgreSQL that drops packets", options) else {
        return;
    };
    let network = stack.database_network().expect("it was asked for");
    let (client, ledger) = (stack.client(), stack.ledger("dropped"));
    // Several callers at once, so that several connections are in the pool when it happens.
    let batch = Batch::new("dropped", SUBMISSIONS, &mut Seed::new("dropped"));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| batch.submit(&client, &ledger));
        }
    });
    let mut ids = batch.ids();
    all_end(&client, &ids);
    let prelude = ledger.prelude("over");
    let script = format!("{prelude}note start; sleep 10; note end; exit 4");
    let small = json!({ "cpu": "10m", "memory": "16Mi" });
    let over = client.submit(&json!({ "script": script, "resources": small }));
    wait_for("a script that runs", ALL_END_WITHIN, || {
        ledger.count("start").contains_key("over").then_some(())
    });
    let path = format!("/executions/{over}");
    ids.push((over, 4));
    network.cut();
    let cut = Instant::now();
    let refused = || {
        let asked = Instant::now();
        let answer = client.get(&path);
        assert!(
            is_honest_refusal(&answer),
            "{} {}",
            answer.status,
            answer.text()
        );
        asked.elapsed()
    };
    let first = refused();
    println!("the first answer into the cut came after {first:?}");
    assert!(first < CUT_IS_SEEN_WITHIN, "it took {first:?}");
    while cut.elapsed() < CUT {
        refused();
    }
    let later = refused();
    println!("a later one after {later:?}");
    assert!(later < CUT_IS_KNOWN_WITHIN, "it took {later:?}");
    assert!(!network.connects(), "the cut has mended itself");
    network.mend();
    let mended = Instant::now();
    wait_for("an answer", RECOVERS_WITHIN, || {
        (client.get(&path).status == 200).then_some(())
    });
    println!("answered {:?} after the end of the cut", mended.elapsed());
    wait_for("/readyz to be 200 again", RECOVERS_WITHIN, || {
        (client.get("/readyz").status == 200).then_some(())
    });
    all_end(&client, &ids);
    each_ran_once(&ledger, batch.nonces().chain(["over".to_owned()]));
    no_job_is_left(&stack);
}

/// It says which part fails, and leaves hosts, users and the database's own words to the log.
#[track_caller]
fn ready_tells_nothing_of_the_server(stack: &Stack) {
    let answer = stack.client_of(2).get("/readyz").expect(503);
    let check = answer.json()["checks"]["store"].clone();
    assert_eq!(
        check,
        json!({ "ok": false, "detail": "the database cannot be reached" })
    );
    let text = answer.text();
    assert!(!text.contains(server(stack).authority()), "{text}");
}
