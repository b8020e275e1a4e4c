//! Two hosts on one state: one ticks at a time, and another takes over when it is gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Answer, Client, Options, Seed, Stack, TICK_TOKEN, wait_for};
use serde_json::json;

use crate::{ALL_END_WITHIN, Batch, CALLERS, all_end, alone, each_ran_once, no_job_is_left};

/// A tick that finds the lease held leaves at once: a database read, on a busy machine.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// The lease (5 s), then the next tick of the cron (10 s), then a start and some room on two cores.
const LEASE_MOVES_WITHIN: Duration = Duration::from_secs(5 + 10 + 8);

/// The cron expression of `spin.toml`: every so many seconds of the clock.
const CRON_SECONDS: u64 = 10;

/// Between two ticks of a caller that found the lease held.
const TICK_AGAIN_AFTER: Duration = Duration::from_millis(200);

fn tick(client: &Client) -> (Answer, Duration) {
    let authorization = format!("Bearer {TICK_TOKEN}");
    let started = Instant::now();
    let headers = [("authorization", authorization.as_str())];
    let answer = client.send("POST", "/internal/tick", &headers, Some(b""));
    (
        answer.unwrap_or_else(|e| panic!("{e}")).expect(200),
        started.elapsed(),
    )
}

fn cron_phase() -> Duration {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock after 1970");
    let period = Duration::from_secs(CRON_SECONDS);
    Duration::from_nanos(
        u64::try_from(now.as_nanos() % period.as_nanos()).expect("ten seconds fit"),
    )
}

/// Starts a second host on the same state early in a period of the cron, so that its own cron has
/// not fired yet: until then whoever holds the lease is the first host.
fn second_host_before_its_first_tick(stack: &mut Stack) -> Option<usize> {
    wait_for(
        "the start of a cron period",
        Duration::from_secs(2 * CRON_SECONDS),
        || {
            (1000..2500)
                .contains(&cron_phase().as_millis())
                .then_some(())
        },
    );
    let started = Instant::now();
    let host = stack.add_host();
    let in_time = started.elapsed() < Duration::from_secs(CRON_SECONDS - 4);
    in_time.then_some(host)
}

#[test]
fn one_of_two_hosts_ticks_and_the_lease_moves_on_after_a_kill() {
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let first = stack.client();
    let id = first.submit(&json!({ "script": "echo led by the first host" }));
    first.finished(&id, Duration::from_secs(60));
    let second = second_host_before_its_first_tick(&mut stack);
    let second = second.expect("a second host serves within six seconds");
    let client = stack.client_of(second);
    assert_eq!(
        client.execution(&id)["status"],
        "FINISHED",
        "both hosts have one state"
    );

    let (answer, took) = tick(&client);
    println!(
        "tick while the lease is held: {} after {took:?}",
        answer.text()
    );
    assert_eq!(
        answer.json()["leader"],
        false,
        "the first host's tick holds the lease"
    );
    assert!(took < LEAVES_WITHIN, "it left after {took:?} only");

    stack.kill_host(0);
    let killed = Instant::now();
    let id = client.submit(&json!({ "script": "echo led by the second host" }));
    let execution = client.finished(&id, LEASE_MOVES_WITHIN);
    println!("finished {:?} after the kill", killed.elapsed());
    assert_eq!(execution["outcome"], "SUCCEEDED", "{execution}");
}

/// Ticks all the time, and counts how often the lease was held by another.
fn keep_ticking(client: &Client, stop: &AtomicBool, held: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        if tick(client).0.json()["leader"] == false {
            held.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(TICK_AGAIN_AFTER);
        }
    }
}

#[test]
fn two_hosts_with_overlapping_ticks_run_everything_once() {
    const SUBMISSIONS: usize = 100;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let second = stack.add_host();
    let clients = [stack.client(), stack.client_of(second)];
    let ledger = stack.ledger("overlap");
    let batch = Batch::new("overlap", SUBMISSIONS, &mut Seed::new("overlap"));
    let (stop, held) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ended = std::thread::scope(|scope| {
        // Ticks at both hosts, beside those of both crons.
        for client in &clients {
            scope.spawn(|| keep_ticking(client, &stop, &held));
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (client, batch, ledger) = (&clients[caller % 2], &batch, &ledger);
                scope.spawn(move || batch.submit(client, ledger))
            })
            .collect();
        let submitted = callers.into_iter().all(|caller| caller.join().is_ok());
        let end = Instant::now() + ALL_END_WITHIN;
        let ids = batch.ids.lock().map(|ids| ids.clone()).unwrap_or_default();
        let ended = ids.iter().flatten().all(|id| {
            let left = end.saturating_duration_since(Instant::now());
            clients[0].try_finished(id, left).is_ok()
        });
        // Nothing may panic before this: the tickers go on until told.
        stop.store(true, Ordering::Relaxed);
        submitted && ended
    });
    assert!(ended, "not all ended");
    all_end(&clients[1], &batch.ids());
    let held = held.into_inner();
    assert!(
        held > 0,
        "no tick ever found the lease held: they did not overlap"
    );
    println!("{held} ticks found the lease held");
    each_ran_once(&ledger, batch.nonces());
    no_job_is_left(&stack);
}
