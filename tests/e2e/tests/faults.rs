//! What breaks, and what must hold all the same: each test checks that its fault did fire.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use e2e::{Answer, Client, Ledger, Options, Seed, Stack, TICK_TOKEN, wait_for};
use serde_json::{Value, json};

const CALLERS: usize = 8;

/// A hundred short scripts after a restart, on two cores, with a kubelet that ends two pods a second.
const ALL_END_WITHIN: Duration = Duration::from_secs(300);

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// A tick that finds the lease held leaves at once: a database read, on a busy machine.
const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// The lease (5 s), then the next tick of the cron (10 s), then a start and some room on two cores.
const LEASE_MOVES_WITHIN: Duration = Duration::from_secs(5 + 10 + 8);

/// The cron expression of `spin.toml`: every so many seconds of the clock.
const CRON_SECONDS: u64 = 10;

/// Each test has its own hosts, and two cores cannot take all at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note_script(ledger: &Ledger, nonce: &str, code: u64) -> Value {
    let prelude = ledger.prelude(nonce);
    json!({
        "script": format!("{prelude}note start; sleep 0.2; note end; exit {code}"),
        "resources": { "cpu": "10m", "memory": "16Mi" },
    })
}

/// Each of these nonces started and ended exactly once, and no other started at all.
#[track_caller]
fn each_ran_once(ledger: &Ledger, nonces: impl Iterator<Item = String>) {
    let expected: BTreeMap<String, usize> = nonces.map(|nonce| (nonce, 1)).collect();
    for word in ["start", "end"] {
        let counts = ledger.count(word);
        let lost: Vec<_> = expected
            .keys()
            .filter(|n| !counts.contains_key(*n))
            .collect();
        let more: Vec<_> = counts
            .iter()
            .filter(|(n, c)| expected.get(*n) != Some(c))
            .collect();
        assert!(
            lost.is_empty() && more.is_empty(),
            "{word}: lost {lost:?}, too many {more:?}"
        );
    }
}

/// Waits for all of them and checks their exit codes.
#[track_caller]
fn all_end(client: &Client, accepted: &[(String, u64)]) {
    let end = Instant::now() + ALL_END_WITHIN;
    for (id, code) in accepted {
        let left = end.saturating_duration_since(Instant::now());
        let execution = client.finished(id, left);
        let outcome = if *code == 0 { "SUCCEEDED" } else { "FAILED" };
        assert_eq!(execution["outcome"], outcome, "{execution}");
        assert_eq!(execution["exitCode"], *code, "{execution}");
    }
}

#[track_caller]
fn no_job_is_left(stack: &Stack) {
    let left = stack.kube().jobs_left_after(Duration::from_secs(60));
    assert!(left.is_empty(), "Jobs left behind: {left:?}");
}

#[test]
fn the_host_is_killed_in_the_middle_of_a_hundred_submissions() {
    const SUBMISSIONS: usize = 100;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("kill");
    let mut seed = Seed::new("kill");
    let kill_after = 20 + usize::try_from(seed.below(50)).expect("small");
    println!("killing after {kill_after} accepted");
    let codes: Vec<u64> = (0..SUBMISSIONS).map(|_| seed.below(3)).collect();
    let client = stack.client();
    let accepted = Mutex::new(vec![None; SUBMISSIONS]);
    let (next, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (unanswered, given_up) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= SUBMISSIONS {
                        return;
                    }
                    let body = note_script(&ledger, &format!("kill-{number}"), codes[number]);
                    // The key makes it safe to ask again where the answer was lost.
                    let key = format!("kill-{number}");
                    while !given_up.load(Ordering::Relaxed) {
                        match client.try_post("/executions", &[("idempotency-key", &key)], &body) {
                            Ok(answer) if matches!(answer.status, 200 | 201) => {
                                let id = answer.id();
                                accepted.lock().expect("no caller panics")[number] = Some(id);
                                count.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                            Ok(answer) => panic!("{} {}", answer.status, answer.text()),
                            Err(_) => {
                                unanswered.fetch_add(1, Ordering::Relaxed);
                                std::thread::sleep(Duration::from_millis(100));
                            }
                        }
                    }
                }
            });
        }
        let limit = Duration::from_secs(120);
        let reached = e2e::poll(limit, || {
            (count.load(Ordering::Relaxed) >= kill_after).then_some(())
        });
        if reached.is_some() {
            stack.kill_host(0);
            println!("killed with {} accepted", count.load(Ordering::Relaxed));
            stack.restart_host(0);
            println!("serves again");
        }
        let done = e2e::poll(limit, || {
            (count.load(Ordering::Relaxed) == SUBMISSIONS).then_some(())
        });
        given_up.store(done.is_none(), Ordering::Relaxed);
    });
    let accepted = accepted.into_inner().expect("no caller panics");
    let accepted: Vec<(String, u64)> = accepted.into_iter().flatten().zip(codes).collect();
    assert_eq!(
        accepted.len(),
        SUBMISSIONS,
        "not all were accepted in the end"
    );
    let unanswered = unanswered.into_inner();
    assert!(
        unanswered > 0,
        "the kill did not fire while callers were at work"
    );
    println!("{unanswered} requests went unanswered");
    all_end(&stack.client(), &accepted);
    each_ran_once(
        &ledger,
        (0..SUBMISSIONS).map(|number| format!("kill-{number}")),
    );
    no_job_is_left(&stack);
}

#[test]
fn the_host_is_killed_while_scripts_run() {
    const SCRIPTS: u64 = 6;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("running");
    let client = stack.client();
    let accepted: Vec<(String, u64)> = (0..SCRIPTS)
        .map(|n| {
            let prelude = ledger.prelude(&format!("running-{n}"));
            let script =
                format!("{prelude}note start; echo one; sleep 8; echo two; note end; exit {n}");
            let resources = json!({ "cpu": "10m", "memory": "16Mi" });
            (
                client.submit(&json!({ "script": script, "resources": resources })),
                n,
            )
        })
        .collect();
    wait_for("all scripts to start", Duration::from_secs(60), || {
        (ledger.count("start").len() == accepted.len()).then_some(())
    });
    let ended = ledger.count("end").len();
    stack.kill_host(0);
    assert!(ended < accepted.len(), "all had ended before the kill");
    stack.restart_host(0);
    let client = stack.client();
    all_end(&client, &accepted);
    for (id, _) in &accepted {
        assert_eq!(
            client.log(id),
            b"one\ntwo\n",
            "the log of what ran over the kill"
        );
    }
    each_ran_once(&ledger, (0..SCRIPTS).map(|n| format!("running-{n}")));
    no_job_is_left(&stack);
}

#[test]
fn the_api_server_is_away_for_twenty_seconds() {
    const SUBMISSIONS: u64 = 20;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("outage");
    let client = stack.client();
    let before = client.submit(&note_script(&ledger, "before", 0));
    assert_eq!(
        client.finished(&before, Duration::from_secs(60))["outcome"],
        "SUCCEEDED"
    );
    wait_for("/readyz to be 200", Duration::from_secs(30), || {
        (client.get("/readyz").status == 200).then_some(())
    });

    stack.stop_api_server();
    let away_since = Instant::now();
    let accepted: Vec<(String, u64)> = (0..SUBMISSIONS)
        .map(|n| {
            let answer = client.post_with(
                "/executions",
                &[],
                &note_script(&ledger, &format!("outage-{n}"), n),
            );
            let answer = answer.expect(201);
            assert_eq!(answer.json()["status"], "QUEUED", "{}", answer.text());
            (answer.id(), n)
        })
        .collect();
    println!(
        "accepted during the outage after {:?}",
        away_since.elapsed()
    );
    let unready = wait_for("/readyz to be 503", OUTAGE, || {
        Some(client.get("/readyz")).filter(|answer| answer.status == 503)
    });
    println!("/readyz during the outage: {}", unready.text());
    let check = unready.json()["checks"]["kubernetes"].clone();
    let said = check["detail"]
        .as_str()
        .is_some_and(|detail| !detail.is_empty());
    assert!(
        check["ok"] == false && said,
        "/readyz must say what is wrong: {}",
        unready.text()
    );
    assert_eq!(
        client.get("/healthz").status,
        200,
        "the process itself is well"
    );
    for (id, _) in &accepted {
        assert_eq!(client.execution(id)["status"], "QUEUED");
    }
    // The outage itself has a length; nothing is waited for here.
    std::thread::sleep(OUTAGE.saturating_sub(away_since.elapsed()));
    assert!(
        !stack.kube().answers(),
        "the API server came back by itself"
    );
    assert!(
        ledger.count("start").len() == 1,
        "something ran during the outage"
    );

    stack.start_api_server();
    all_end(&client, &accepted);
    wait_for("/readyz to be 200 again", Duration::from_secs(30), || {
        (client.get("/readyz").status == 200).then_some(())
    });
    let nonces = (0..SUBMISSIONS).map(|n| format!("outage-{n}"));
    each_ran_once(&ledger, nonces.chain(["before".to_owned()]));
    no_job_is_left(&stack);
}

#[test]
fn scripts_that_run_while_the_api_server_is_away_are_seen_to_their_end() {
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("away");
    let client = stack.client();
    let prelude = ledger.prelude("away");
    let script = format!("{prelude}note start; sleep 6; note end; exit 5");
    let id = client
        .submit(&json!({ "script": script, "resources": { "cpu": "10m", "memory": "16Mi" } }));
    wait_for(
        "the script to be seen running",
        Duration::from_secs(60),
        || (client.execution(&id)["status"] == "RUNNING").then_some(()),
    );
    stack.stop_api_server();
    let status = client.execution(&id)["status"].clone();
    assert_eq!(
        status, "RUNNING",
        "it ended before the API server went away"
    );
    stack.start_api_server();
    let execution = client.finished(&id, ALL_END_WITHIN);
    let starts = ledger.count("start");
    assert_eq!(
        starts,
        BTreeMap::from([("away".to_owned(), 1)]),
        "it started once"
    );
    if stack.is_real() || ledger.count("end").len() == 1 {
        assert_eq!(execution["exitCode"], 5, "it ran to its end: {execution}");
        assert_eq!(execution["outcome"], "FAILED", "{execution}");
    } else {
        // The embedded cluster is the node as well, and its pods may end with it: then nobody
        // may claim that the script did well.
        println!("the pod went with the embedded cluster: {execution}");
        assert_ne!(execution["outcome"], "SUCCEEDED", "{execution}");
    }
}

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

#[test]
fn two_hosts_with_overlapping_ticks_run_everything_once() {
    const SUBMISSIONS: usize = 100;
    let _alone = alone();
    let mut stack = Stack::start(Options::default());
    let second = stack.add_host();
    let clients = [stack.client(), stack.client_of(second)];
    let ledger = stack.ledger("overlap");
    let mut seed = Seed::new("overlap");
    let codes: Vec<u64> = (0..SUBMISSIONS).map(|_| seed.below(3)).collect();
    let accepted = Mutex::new(vec![None; SUBMISSIONS]);
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Ticks at both hosts all the time, beside those of both crons.
        for client in &clients {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if tick(client).0.json()["leader"] == false {
                        refused.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(200));
                    }
                }
            });
        }
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let client = &clients[caller % 2];
                let (next, codes, accepted, ledger) = (&next, &codes, &accepted, &ledger);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= SUBMISSIONS {
                            return;
                        }
                        let nonce = format!("overlap-{number}");
                        let id = client.submit(&note_script(ledger, &nonce, codes[number]));
                        accepted.lock().expect("no caller panics")[number] = Some(id);
                    }
                })
            })
            .collect();
        let submitted = callers
            .into_iter()
            .map(|caller| caller.join())
            .all(|r| r.is_ok());
        let done = accepted
            .lock()
            .map(|a| a.iter().flatten().cloned().collect::<Vec<_>>());
        let done = done.unwrap_or_default();
        let end = Instant::now() + ALL_END_WITHIN;
        let ended = done.iter().all(|id| {
            let left = end.saturating_duration_since(Instant::now());
            clients[0].try_finished(id, left).is_ok()
        });
        // Before anything panics: the tickers go on until told.
        stop.store(true, Ordering::Relaxed);
        assert!(submitted, "a submission was refused");
        assert!(ended, "not all ended");
    });
    let accepted = accepted.into_inner().expect("no caller panics");
    let accepted: Vec<(String, u64)> = accepted.into_iter().flatten().zip(codes).collect();
    assert_eq!(accepted.len(), SUBMISSIONS);
    all_end(&clients[1], &accepted);
    let refused = refused.into_inner();
    assert!(
        refused > 0,
        "no tick ever found the lease held: they did not overlap"
    );
    println!("{refused} ticks found the lease held");
    each_ran_once(
        &ledger,
        (0..SUBMISSIONS).map(|number| format!("overlap-{number}")),
    );
    no_job_is_left(&stack);
}
