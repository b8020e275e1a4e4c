//! Kills at random moments while submissions go on: of the host, and of what the cluster is made of.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use e2e::{Admin, Client, Options, Seed, Stack, poll, wait_for};
use serde_json::Value;

use crate::{Batch, CALLERS, Watched, alone, no_job_is_left};

/// Each of the callers comes again within a few seconds.
const MISSED_WITHIN: Duration = Duration::from_secs(60);

/// How many submissions there are, unless `EXECUTOR_E2E_SUBMISSIONS` says; the full size is 1,000.
const SUBMISSIONS: usize = 60;

/// How many kills there are, unless `EXECUTOR_E2E_KILLS` says; the full size is 200.
const KILLS: usize = 12;

/// The longest pause before the next kill: long enough for a tick to get somewhere, in some of them.
const PAUSE_MILLIS: u64 = 2500;

/// The longest that one program stays away.
const AWAY_MILLIS: u64 = 1500;

/// All of them end so soon after the last kill: a kubelet on two cores ends two pods a second, and what it does not
/// know after a restart it looks at again every few seconds.
const ALL_END_WITHIN: Duration = Duration::from_secs(240);

/// More time for each submission.
const EACH_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// At most one in so many may be given up by the cluster: each start that a killed kubelet had in hand.
const MAX_GIVEN_UP_PART: usize = 4;

/// At most one in so many kills makes the Job controller create a second pod: Kubernetes promises no more, and none of the
/// other kills may do so. One was seen in 200.
const MAX_MADE_TWICE_PART: usize = 50;

/// A caller rests after each submission, so that they are spread over the kills.
fn pace(submissions: usize, kills: usize) -> Duration {
    let each_kill = Duration::from_millis(PAUSE_MILLIS / 2 + 1000);
    let rounds = u32::try_from(submissions.div_ceil(CALLERS)).unwrap_or(u32::MAX);
    each_kill * u32::try_from(kills).unwrap_or(u32::MAX) / rounds.max(1)
}

fn size(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is a whole number"))
    })
}

/// What is killed, and how often of ten times.
fn victim(seed: &mut Seed, admin: Option<&Admin>) -> &'static str {
    match (seed.below(10), admin) {
        (0..6, _) => "host",
        (6, _) | (_, None) => "kube-apiserver",
        (7..9, Some(_)) => "kubelet",
        (_, Some(_)) => "kube-controller-manager",
    }
}

fn kill(stack: &mut Stack, victim: &str, away: Duration) {
    // Not a wait for a condition: the moments themselves are what is tried.
    match (victim, stack.admin()) {
        ("host", _) => {
            stack.kill_host(0);
            std::thread::sleep(away);
            stack.restart_host(0);
        }
        ("kube-apiserver", _) => {
            stack.stop_api_server();
            std::thread::sleep(away);
            stack.start_api_server();
        }
        (program, Some(admin)) => {
            admin.program(program, "stop");
            std::thread::sleep(away);
            admin.program(program, "start");
        }
        (program, None) => panic!("the embedded cluster has no {program}"),
    }
}

#[test]
fn programs_are_killed_at_random_moments_during_submissions() {
    let _alone = alone();
    let submissions = size("EXECUTOR_E2E_SUBMISSIONS", SUBMISSIONS);
    let kills = size("EXECUTOR_E2E_KILLS", KILLS);
    let mut stack = Stack::start(Options::default());
    let ledger = stack.ledger("kills");
    let mut seed = Seed::new("kills");
    let batch = Batch::new("kills", submissions, &mut seed)
        .paced(pace(submissions, kills), Duration::MAX)
        .that_may_be_refused();
    let client = stack.client();
    let admin = stack.admin();
    let begun = Instant::now();
    let mut killed = BTreeMap::new();
    std::thread::scope(|scope| {
        let _watched = Watched(&batch);
        for _ in 0..CALLERS {
            scope.spawn(|| batch.submit(&client, &ledger));
        }
        // The host stays away until somebody has missed it: by chance alone it might not be seen that it was.
        stack.kill_host(0);
        wait_for("a caller to miss the host", MISSED_WITHIN, || {
            (batch.unanswered.load(Ordering::Relaxed) > 0).then_some(())
        });
        stack.restart_host(0);
        for _ in 0..kills {
            std::thread::sleep(Duration::from_millis(seed.below(PAUSE_MILLIS)));
            let victim = victim(&mut seed, admin.as_ref());
            let away = Duration::from_millis(seed.below(AWAY_MILLIS));
            kill(&mut stack, victim, away);
            *killed.entry(victim).or_insert(0) += 1;
        }
        let all = poll(ALL_END_WITHIN, || {
            (batch.accepted() == submissions).then_some(())
        });
        batch.given_up.store(all.is_none(), Ordering::Relaxed);
    });
    println!("{kills} kills in {:?}: {killed:?}", begun.elapsed());
    let unanswered = batch.unanswered.load(Ordering::Relaxed);
    println!(
        "{unanswered} requests went unanswered, {} were refused",
        batch.refused.load(Ordering::Relaxed)
    );
    assert!(unanswered > 0, "no kill fired while callers were at work");
    let last = Instant::now();
    let ends = ends(&stack.client(), &batch.ids());
    println!("all had ended {:?} after the last kill", last.elapsed());
    let nonces: Vec<String> = batch.nonces().collect();
    let (starts, completed) = (ledger.count("start"), ledger.count("end"));
    let strangers: Vec<_> = starts.keys().filter(|n| !nonces.contains(n)).collect();
    assert!(strangers.is_empty(), "nobody submitted {strangers:?}");
    let mut wrong = Vec::new();
    let mut made_twice = 0;
    let mut reasons = BTreeMap::new();
    for ((nonce, (id, code)), end) in nonces.iter().zip(batch.ids()).zip(&ends) {
        *reasons.entry(end["reason"].to_string()).or_insert(0) += 1;
        let count = |counts: &BTreeMap<String, usize>| counts.get(nonce).copied().unwrap_or(0);
        if stack.is_real()
            && count(&starts) == 2
            && stack.kube().may_have_made_two_pods(&format!("x-{id}"))
        {
            made_twice += 1;
        } else if !is_honest(end, code, count(&starts), count(&completed)) {
            wrong.push(format!("{nonce} {id}: {} starts, {end}", count(&starts)));
        }
    }
    println!(
        "{} of {submissions} accepted ended: {reasons:?}",
        ends.len()
    );
    let given_up = ends.iter().filter(|end| end["outcome"] == "ERROR").count();
    assert!(
        given_up * MAX_GIVEN_UP_PART <= submissions,
        "{given_up} were given up"
    );
    println!(
        "{made_twice} Jobs got a second pod by their controller, which had no answer at the first"
    );
    assert!(
        made_twice * MAX_MADE_TWICE_PART <= kills,
        "{made_twice} were started twice by the Job controller"
    );
    assert!(wrong.is_empty(), "{} are wrong: {wrong:#?}", wrong.len());
    no_job_is_left(&stack);
}

/// Waits for all of them.
#[track_caller]
fn ends(client: &Client, accepted: &[(String, u64)]) -> Vec<Value> {
    let number = u32::try_from(accepted.len()).unwrap_or(u32::MAX);
    let last = Instant::now() + ALL_END_WITHIN + EACH_ENDS_WITHIN * number;
    accepted
        .iter()
        .map(|(id, _)| client.finished(id, last.saturating_duration_since(Instant::now())))
        .collect()
}

/// What the API says is what the script wrote down. No kill here ends a container, so every script that has started runs to
/// its end; but a kubelet that is killed while it starts one gives it up.
fn is_honest(end: &Value, code: u64, starts: usize, completed: usize) -> bool {
    let outcome = if code == 0 { "SUCCEEDED" } else { "FAILED" };
    match end["reason"].as_str() {
        Some("Evicted") => starts == 0,
        Some("Lost") => starts <= 1,
        _ => (starts, completed) == (1, 1) && end["outcome"] == outcome && end["exitCode"] == code,
    }
}
