//! One tenant floods, another goes on submitting: what the one does to the other's answers.
//!
//! The flood is ten times what the tenant may submit, so nine of ten requests are refused. How hard it can push is bounded by its callers in
//! the second flood, which sends as fast as it is answered: that one shares the machine's cores with everybody, and has no target.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Options, wait_for};

use crate::accept::submission;
use crate::database::Kind;
use crate::load::{self, Load};
use crate::report::{Figure, Group, percentile, ratio};
use crate::size::Size;
use crate::stage::base;
use crate::wire::Server;
use crate::{say, stage};

/// Both tenants; `red` may submit ten a second.
const TOKENS: &str = r#"{"tenants": {"red": {"perMinute": 600}, "blue": {}}, "tokens": [
    {"name": "red", "tenant": "red", "role": "run", "token": "token-of-red-for-figures"},
    {"name": "blue", "tenant": "blue", "role": "run", "token": "token-of-blue-for-figures"}]}"#;

const RED: &str = "token-of-red-for-figures";
const BLUE: &str = "token-of-blue-for-figures";

/// Callers of the flood.
const CALLERS: u32 = 8;

/// Between two requests of each of them: 100 a second in all.
const PACE: Duration = Duration::from_millis(80);

/// The target of the project's plan.
const TARGET: f64 = 2.0;

/// A start, on busy cores.
const START_WITHIN: Duration = Duration::from_secs(120);

/// What becomes of a flood's requests.
#[derive(Default)]
struct Flood {
    is_over: AtomicBool,
    accepted: AtomicUsize,
    refused: AtomicUsize,
}

impl Flood {
    /// One caller of it, until it is over. They begin one after another, so that they do not send all at once for ever after.
    fn call(&self, server: &Server, request: &[u8], pace: Duration, number: u32) {
        let mut connection = server.connect().expect("a connection");
        std::thread::sleep(pace * number / CALLERS);
        while !self.is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let answer = connection.exchange(request).expect("an answer");
            let count = match answer.status {
                201 => &self.accepted,
                429 => &self.refused,
                other => panic!("{other}: {}", String::from_utf8_lossy(&answer.body)),
            };
            count.fetch_add(1, Ordering::Relaxed);
            // A pace, not a wait for a condition.
            std::thread::sleep(pace.saturating_sub(begun.elapsed()));
        }
    }
}

/// Ends a flood, however its measurement ends: else its callers would call for ever.
struct Ends<'f>(&'f Flood);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Runs it on that database.
pub fn measure(size: Size, kind: Kind) -> Group {
    let variables = [("max_running", "1"), ("tokens", TOKENS)];
    let (stack, database) = stage::start_on(
        kind,
        Options {
            variables: variables
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .to_vec(),
            ..Options::default()
        },
    );
    let holder = shut(&stack.client());
    let (red, blue) = (
        Server::new(&base(&stack), RED, None),
        Server::new(&base(&stack), BLUE, None),
    );
    let body = submission("exit 0", 600).to_string();
    let requests = vec![blue.request("POST", "/executions", Some(&body)); most(size)];
    let of_red = red.request("POST", "/executions", Some(&body));
    let load = Load {
        callers: 1,
        time: size.turn(),
    };
    let mut connection = database.connect();
    let (mut alone, mut beside, mut beside_all) = (Vec::new(), Vec::new(), Vec::new());
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..size.rounds() {
        say(&format!("flood on {}: round {}", kind.name(), round + 1));
        alone.push(load::send(load, &blue, &requests, 201));
        connection.forget_but(&holder);
        for (pace, measured) in [(PACE, &mut beside), (Duration::ZERO, &mut beside_all)] {
            let flood = Flood::default();
            std::thread::scope(|scope| {
                let (flood, red, of_red) = (&flood, &red, &of_red);
                let _ends = Ends(flood);
                for number in 0..CALLERS {
                    scope.spawn(move || flood.call(red, of_red, pace, number));
                }
                // Past what a minute without submissions has saved up, nearly all is refused.
                wait_for("the first refusal", START_WITHIN, || {
                    (flood.refused.load(Ordering::Relaxed) > 0).then_some(())
                });
                measured.push(load::send(load, &blue, &requests, 201));
            });
            accepted += flood.accepted.into_inner();
            refused += flood.refused.into_inner();
            connection.forget_but(&holder);
        }
    }
    let p99 = |rounds: &[load::Measured]| -> Vec<f64> {
        let of = |round: &load::Measured| percentile(&round.latencies, 0.99).as_secs_f64();
        rounds.iter().map(of).collect()
    };
    let all = |rounds: &[load::Measured]| {
        let all: Vec<Duration> = rounds.iter().flat_map(|r| r.latencies.clone()).collect();
        percentile(&all, 0.99)
    };
    let about = format!(
        "Dispatch is shut. One caller of a tenant submits, alone, and beside {CALLERS} of another tenant, which may submit ten a second: they \
         send 100 a second, then as fast as they are answered. {accepted} of theirs were accepted in all, {refused} refused."
    );
    let mut group = Group::new(&format!("flood-{}", kind.name()), &about);
    let reference = "p99 of POST /executions, alone";
    let by = |rounds: &[load::Measured]| ratio(&p99(rounds), &p99(&alone));
    group.add(Figure::time(reference, all(&alone)));
    group.add(
        Figure::time(
            "p99 of POST /executions, beside 100 a second of another tenant",
            all(&beside),
        )
        .by(by(&beside), reference)
        .at_most(TARGET),
    );
    group.add(
        Figure::time(
            "p99 of POST /executions, beside all that another tenant's callers can send",
            all(&beside_all),
        )
        .by(by(&beside_all), reference),
    );
    group
}

/// Submits what holds the only place, and waits until it runs.
fn shut(client: &e2e::Client) -> String {
    let bearer = format!("Bearer {BLUE}");
    let headers = [("authorization", &*bearer)];
    let body = submission("exec sleep 100000", 604_800);
    let id = client
        .post_with("/executions", &headers, &body)
        .expect(201)
        .id();
    wait_for(
        "the execution that holds the place to run",
        START_WITHIN,
        || {
            let now = client.get_with(&format!("/executions/{id}"), &headers);
            (now.expect(200).json()["status"] == "RUNNING").then_some(())
        },
    );
    id
}

/// More requests than are answered in one turn.
fn most(size: Size) -> usize {
    size.pick(20_000, 5_000, 500)
}
