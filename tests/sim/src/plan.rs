//! What a seed sets out to do: who submits what, when hosts tick and die, and what the environment does meanwhile.

use std::collections::BTreeMap;

use domain::{Resources, Retry, Submission, Timeouts, Webhook};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::pages::Pages;

/// The most executions of one history.
const MAX_SUBMISSIONS: usize = 12;

/// The most hosts.
const MAX_HOSTS: usize = 3;

/// How long faults go on, in milliseconds. Under a minute: a log that is unreadable for longer is given up, which is
/// another story.
const FAULTS_MS: [i64; 2] = [12_000, 45_000];

/// How far a host's clock is wrong at most, in milliseconds. Claims and leases are made for clocks that agree within
/// a few seconds.
const SKEW_MS: i64 = 3_000;

/// The most executions of a batch.
const MAX_BATCH: usize = 4;

/// A record that is kept so long after its end is forgotten within its history.
const SHORT_TTL_SECONDS: u32 = 20;

/// Longer than what is inlined: such a script goes into a ConfigMap.
const LARGE_SCRIPT_BYTES: usize = 70_000;

/// In so many histories of a thousand the tenant has a namespace of its own at some time.
const OWN_NAMESPACE_PER_MILLE: u32 = 300;

/// What a script does.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// Milliseconds from being told to start until running.
    pub start_ms: i64,
    /// Milliseconds from running until its end.
    pub run_ms: i64,
    /// Its exit code.
    pub exit_code: i32,
    /// The runtime's reason for its end, where it is a special one.
    pub reason: Option<&'static str>,
    /// The log is this, so many times.
    pub log: (String, usize),
    /// Whether SIGTERM does not end it.
    pub ignore_term: bool,
}

impl Script {
    /// As the simulated runner takes it.
    pub fn annotation(&self) -> Value {
        json!({"startMs": self.start_ms, "runMs": self.run_ms, "exitCode": self.exit_code, "reason": self.reason,
            "log": self.log.0, "logRepeat": self.log.1, "ignoreTerm": self.ignore_term})
    }

    /// Its whole output.
    pub fn output(&self) -> Vec<u8> {
        self.log.0.repeat(self.log.1).into_bytes()
    }
}

/// Something that happens at its time.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// The submission of that number is sent to a host; the same one again where it has an idempotency key.
    Submit(usize, usize),
    /// The batch is sent to a host.
    Batch(usize),
    /// The caller of that submission cancels it, by a host.
    Cancel(usize, usize),
    /// The caller of that submission has its record deleted, by a host.
    Forget(usize, usize),
    /// A host's cron fires.
    Cron(usize),
    /// A host dies with all it does.
    HostDown(usize),
    /// It is back.
    HostUp(usize),
    /// A host's clock is wrong by so many milliseconds.
    Skew(usize, i64),
    /// The API server is away for so many milliseconds; silently or not.
    ApiAway(i64, bool),
    /// The database is away (or else busy) for so many milliseconds.
    StoreAway(i64, bool),
    /// Somebody else takes the lease from whoever has it.
    StealLease,
    /// The API server forgets its history.
    Compact,
    /// Somebody deletes a pod of ours.
    DeletePod,
    /// Somebody deletes a Job of ours.
    DeleteJob,
    /// Somebody deletes a Job of ours, and makes another of the same name.
    ReplaceJob,
    /// A pod of ours is evicted.
    Evict,
    /// The node of a pod of ours gets lost.
    LoseNode,
    /// Somebody has left a Job of a record that is not there: of this database, or of another's.
    Orphan(bool),
    /// By the settings, from now on what is accepted runs in a namespace of its own, or in that of all again.
    Place(bool),
    /// Nothing goes wrong any more.
    Quiet,
}

/// One submission.
pub struct Planned {
    /// What is asked for.
    pub submission: Submission,
    /// The idempotency key.
    pub key: Option<String>,
    /// What its script does.
    pub script: Script,
}

/// All of it.
pub struct Plan {
    /// How many hosts there are.
    pub hosts: usize,
    /// How many executions may run at once.
    pub max_running: u32,
    /// Milliseconds from one cron to the next.
    pub period_ms: i64,
    /// How full lists come.
    pub pages: Pages,
    /// The submissions.
    pub submissions: Vec<Planned>,
    /// From that submission on they are one batch.
    pub batch_from: usize,
    /// The batch's idempotency key.
    pub batch_key: Option<&'static str>,
    /// What happens when.
    pub actions: Vec<(i64, Action)>,
    /// When faults end.
    pub quiet_at: i64,
}

impl Plan {
    /// The plan of a seed, and what is said of namespaces by a chance of its own, so that histories without go on as they did before there
    /// were any.
    pub fn draw(chance: &mut Chance, places: &mut Chance) -> Self {
        let hosts = 1 + chance.below(MAX_HOSTS);
        let quiet_at = chance.between(FAULTS_MS[0], FAULTS_MS[1]);
        let count = 1 + chance.below(MAX_SUBMISSIONS);
        let submissions: Vec<Planned> = (0..count).map(|n| planned(chance, n)).collect();
        let batch_from = if chance.per_mille(250) {
            count - (1 + chance.below(MAX_BATCH.min(count)))
        } else {
            count
        };
        let batch_key = chance.per_mille(600).then_some("key-of-batch");
        let mut actions = Vec::new();
        submit(
            chance,
            hosts,
            quiet_at,
            &submissions[..batch_from],
            &mut actions,
        );
        if batch_from < count {
            for _ in 0..tries(chance, batch_key.is_some()) {
                let at = chance.between(0, quiet_at * 2 / 3);
                actions.push((at, Action::Batch(chance.below(hosts))));
            }
        }
        for wish in [Action::Cancel, Action::Forget] {
            if chance.per_mille(300) {
                for _ in 0..1 + chance.below(4) {
                    let wish = wish(chance.below(count), chance.below(hosts));
                    actions.push((chance.between(0, quiet_at - 1), wish));
                }
            }
        }
        let period_ms = chance.pick(&[2_000, 5_000, 10_000]);
        for host in 0..hosts {
            actions.push((chance.between(0, period_ms), Action::Cron(host)));
        }
        environment(chance, hosts, quiet_at, &mut actions);
        if places.per_mille(OWN_NAMESPACE_PER_MILLE) {
            actions.push((0, Action::Place(places.per_mille(700))));
            for _ in 0..places.below(3) {
                let at = places.between(0, quiet_at * 2 / 3);
                actions.push((at, Action::Place(places.per_mille(500))));
            }
        }
        actions.push((quiet_at, Action::Quiet));
        Self {
            hosts,
            max_running: chance.pick(&[1, 2, 3, 100, 100]),
            period_ms,
            pages: Pages::draw(chance),
            submissions,
            batch_from,
            batch_key,
            actions,
            quiet_at,
        }
    }
}

/// How often something is sent: what has no idempotency key is sent once.
fn tries(chance: &mut Chance, has_key: bool) -> usize {
    if has_key { 1 + chance.below(3) } else { 1 }
}

fn submit(
    chance: &mut Chance,
    hosts: usize,
    quiet_at: i64,
    submissions: &[Planned],
    actions: &mut Vec<(i64, Action)>,
) {
    for (number, planned) in submissions.iter().enumerate() {
        for _ in 0..tries(chance, planned.key.is_some()) {
            let at = chance.between(0, quiet_at * 2 / 3);
            actions.push((at, Action::Submit(number, chance.below(hosts))));
        }
    }
}

/// What the environment does while faults go on. Each seed has some of it.
fn environment(chance: &mut Chance, hosts: usize, until: i64, actions: &mut Vec<(i64, Action)>) {
    for kind in 0..12 {
        if !chance.per_mille(250) {
            continue;
        }
        for _ in 0..1 + chance.below(3) {
            let at = chance.between(0, until - 1);
            let host = chance.below(hosts);
            let outage = chance.between(200, 12_000);
            let silent = chance.per_mille(500);
            match kind {
                0 => {
                    actions.push((at, Action::HostDown(host)));
                    let back = (at + outage).min(until);
                    actions.push((back, Action::HostUp(host)));
                }
                1 => actions.push((at, Action::Skew(host, chance.between(-SKEW_MS, SKEW_MS)))),
                2 => actions.push((at, Action::ApiAway(outage, silent))),
                3 => actions.push((at, Action::StoreAway(outage / 2, silent))),
                4 => actions.push((at, Action::Compact)),
                5 => actions.push((at, Action::DeletePod)),
                6 => actions.push((at, Action::DeleteJob)),
                7 => actions.push((at, Action::StealLease)),
                8 => actions.push((at, Action::Evict)),
                9 => actions.push((at, Action::LoseNode)),
                10 => actions.push((at, Action::Orphan(silent))),
                _ => actions.push((at, Action::ReplaceJob)),
            }
        }
    }
}

fn planned(chance: &mut Chance, number: usize) -> Planned {
    let quantity = |text: &str| text.parse().expect("a quantity");
    let large = chance.per_mille(150);
    let text = format!("echo {number}\n");
    let script = if large {
        format!("{text}#{}\n", "x".repeat(LARGE_SCRIPT_BYTES))
    } else {
        text
    };
    let unavailable = chance.per_mille(60);
    let image = match (unavailable, chance.per_mille(30)) {
        (true, _) => "registry.example/does-not-exist:1",
        (_, true) => "No/Image//Name",
        _ => "alpine:3",
    };
    let submission = Submission {
        script,
        interpreter: None,
        args: Vec::new(),
        image: image.to_owned(),
        resources: Resources {
            cpu: quantity("100m"),
            memory: quantity("64Mi"),
            ephemeral_storage: None,
        },
        env: BTreeMap::new(),
        files: BTreeMap::new(),
        timeouts: Timeouts {
            queue_seconds: chance.pick(&[8, 60, 86_400, 86_400]),
            start_seconds: if unavailable {
                chance.pick(&[5, 20])
            } else {
                chance.pick(&[6, 30, 300, 300])
            },
            run_seconds: chance.pick(&[3, 20, 600, 600]),
            grace_seconds: chance.pick(&[0, 1, 5]),
        },
        // By the number, so that chance plans the rest of each history as it would without.
        retry: Retry::of([0, 0, 1, 2][number % 4], &Retry::OUTCOMES),
        // By this the checks know it again.
        labels: BTreeMap::from([("number".to_owned(), number.to_string())]),
        priority: i32::from(chance.pick(&[0_i8, 0, 0, -5, 100])),
        // The shorter one ends within a history.
        ttl_seconds: chance.pick(&[SHORT_TTL_SECONDS, 7 * 86_400, 7 * 86_400, 7 * 86_400]),
        webhook: chance.per_mille(350).then(|| Webhook {
            url: format!("https://receiver.example/{number}"),
            secret_ref: "default".to_owned(),
        }),
        digest: format!("{:064x}", number + 1),
    };
    Planned {
        submission,
        key: chance.per_mille(400).then(|| format!("key-{number}")),
        script: behaviour(chance, number),
    }
}

fn behaviour(chance: &mut Chance, number: usize) -> Script {
    let start_ms = match chance.below(8) {
        0 => chance.between(2_000, 12_000),
        // About when a claim runs out.
        1 => chance.between(13_000, 17_000),
        2 | 3 => 0,
        _ => chance.between(5, 800),
    };
    let run_ms = match chance.below(8) {
        0 | 1 => 0,
        2 => chance.between(2_000, 6_000),
        3 => chance.between(10_000, 18_000),
        _ => chance.between(1, 1_500),
    };
    let (exit_code, reason) =
        chance.pick(&[(0, None), (0, None), (3, None), (137, Some("OOMKilled"))]);
    let mut line = format!("line of {number}\n");
    let times = match chance.below(40) {
        0 => {
            // Over what is kept of head and tail together; in long lines, since each costs the simulation its time.
            line.insert_str(0, &"long ".repeat(200));
            (5 << 19) / line.len()
        }
        1..10 => 0,
        10..20 => 1,
        _ => 1 + chance.below(50),
    };
    Script {
        start_ms,
        run_ms,
        exit_code,
        reason,
        log: (line, times),
        ignore_term: chance.per_mille(200),
    }
}
