//! Many submissions by several callers while things break, and what must be true of them all afterwards.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Answer, Client};
use crate::ledger::Ledger;
use crate::stack::Stack;
use crate::wait::Seed;

/// Callers that submit at once.
pub const CALLERS: usize = 8;

/// A hundred short scripts after a restart, on two cores, with a kubelet that ends two pods a second.
pub const ALL_END_WITHIN: Duration = Duration::from_secs(300);

/// An answer during an outage of the database: one refused connection, and one to a standby, on two busy cores.
pub const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// After the last fault all are accepted within this.
pub const ALL_ACCEPTED_WITHIN: Duration = Duration::from_secs(120);

/// Readiness waits for the next tick at most.
pub const READY_WITHIN: Duration = Duration::from_secs(45);

/// Between two tries of a caller whose host is away.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How long a script takes, in seconds.
const SHORT: &str = "0.2";

/// A short script that writes down its start and its end, and exits with that code.
pub fn note_script(ledger: &Ledger, nonce: &str, code: u64) -> Value {
    let prelude = ledger.prelude(nonce);
    json!({
        "script": format!("{prelude}note start; sleep {SHORT}; note end; exit {code}"),
        "resources": { "cpu": "10m", "memory": "16Mi" },
    })
}

/// Many submissions by several callers, each with its nonce, exit code and idempotency key.
pub struct Batch {
    name: &'static str,
    codes: Vec<u64>,
    /// The ids of those accepted so far.
    pub ids: Mutex<Vec<Option<String>>>,
    next: AtomicUsize,
    accepted: AtomicUsize,
    /// How many requests got no answer.
    pub unanswered: AtomicUsize,
    /// How many requests were refused for the moment.
    pub refused: AtomicUsize,
    /// Whether callers are to stop, whatever is left.
    pub given_up: AtomicBool,
    may_be_refused: bool,
    pace: Duration,
    answered_within: Option<Duration>,
}

impl Batch {
    /// So many submissions under that name, with exit codes by chance.
    pub fn new(name: &'static str, submissions: usize, seed: &mut Seed) -> Self {
        Self {
            name,
            codes: (0..submissions).map(|_| seed.below(3)).collect(),
            ids: Mutex::new(vec![None; submissions]),
            next: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            may_be_refused: false,
            pace: Duration::ZERO,
            answered_within: None,
        }
    }

    /// Callers take a 503 for what it says, and come again.
    pub fn that_may_be_refused(self) -> Self {
        Self {
            may_be_refused: true,
            ..self
        }
    }

    /// Callers rest that long after each submission, and insist on answers within a limit.
    pub fn paced(self, pace: Duration, answered_within: Duration) -> Self {
        Self {
            pace,
            answered_within: Some(answered_within),
            ..self
        }
    }

    /// One caller: submits until all are taken. Where an answer is lost it asks again with the same
    /// key, so that each is accepted once in the end.
    pub fn submit(&self, client: &Client, ledger: &Ledger) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.codes.len() {
                return;
            }
            let nonce = format!("{}-{number}", self.name);
            let body = note_script(ledger, &nonce, self.codes[number]);
            while !self.given_up.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = client.try_post("/executions", &[("idempotency-key", &nonce)], &body);
                if self
                    .answered_within
                    .is_some_and(|limit| asked.elapsed() > limit)
                {
                    eprintln!("{nonce}: no answer for {:?}", asked.elapsed());
                    self.given_up.store(true, Ordering::Relaxed);
                }
                match answer {
                    Ok(answer) if matches!(answer.status, 200 | 201) => {
                        self.ids.lock().expect("no caller panics")[number] = Some(answer.id());
                        self.accepted.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(self.pace);
                        break;
                    }
                    Ok(answer) if self.may_be_refused && is_honest_refusal(&answer) => {
                        self.refused.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(TRY_AGAIN_AFTER);
                    }
                    // Its failure shows in the count of those accepted.
                    Ok(answer) => {
                        eprintln!("{nonce} refused: {} {}", answer.status, answer.text());
                        self.given_up.store(true, Ordering::Relaxed);
                    }
                    Err(_) => {
                        self.unanswered.fetch_add(1, Ordering::Relaxed);
                        std::thread::sleep(TRY_AGAIN_AFTER);
                    }
                }
            }
        }
    }

    /// How many are accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The ids with their exit codes.
    ///
    /// # Panics
    /// When not all are accepted.
    #[track_caller]
    pub fn ids(&self) -> Vec<(String, u64)> {
        let ids = self.ids.lock().expect("no caller panics");
        let all: Vec<_> = ids
            .iter()
            .flatten()
            .cloned()
            .zip(self.codes.iter().copied())
            .collect();
        assert_eq!(
            all.len(),
            self.codes.len(),
            "not all were accepted in the end"
        );
        all
    }

    /// What the scripts write down.
    pub fn nonces(&self) -> impl Iterator<Item = String> {
        (0..self.codes.len()).map(|number| format!("{}-{number}", self.name))
    }
}

/// Lets the callers go when their test panics: a scope waits for them.
pub struct Watched<'a>(pub &'a Batch);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.given_up.store(true, Ordering::Relaxed);
        }
    }
}

/// A problem that says when to come again.
pub fn is_honest_refusal(answer: &Answer) -> bool {
    answer.status == 503
        && answer.header("content-type") == Some("application/problem+json")
        && answer.json()["type"] == "/problems/unavailable"
        && answer
            .header("retry-after")
            .is_some_and(|seconds| seconds.parse::<u32>().is_ok())
}

/// Each of these nonces started and ended exactly once, and no other started at all.
///
/// # Panics
/// When not.
#[track_caller]
pub fn each_ran_once(ledger: &Ledger, nonces: impl Iterator<Item = String>) {
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
///
/// # Panics
/// When one does not end in time, or ends otherwise.
#[track_caller]
pub fn all_end(client: &Client, accepted: &[(String, u64)]) {
    let end = Instant::now() + ALL_END_WITHIN;
    for (id, code) in accepted {
        let left = end.saturating_duration_since(Instant::now());
        let execution = client.finished(id, left);
        let outcome = if *code == 0 { "SUCCEEDED" } else { "FAILED" };
        assert_eq!(execution["outcome"], outcome, "{execution}");
        assert_eq!(execution["exitCode"], *code, "{execution}");
    }
}

/// Waits until nothing of the executions is left in the cluster.
///
/// # Panics
/// When something stays.
#[track_caller]
pub fn no_job_is_left(stack: &Stack) {
    let left = stack.kube().jobs_left_after(Duration::from_secs(60));
    assert!(left.is_empty(), "Jobs left behind: {left:?}");
}
