//! What goes wrong by chance, and how often. Each seed has some kinds of faults and not others, so that each kind is
//! also met alone.

use serde_json::{Value, json};

use crate::chance::Chance;

/// How often each thing goes wrong, of a thousand times.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// A request never leaves.
    pub not_sent: u32,
    /// A request is not carried out, and nobody can know.
    pub vanished: u32,
    /// A request is carried out, and its answer is lost.
    pub lost: u32,
    /// A request is carried out after its sender has given up.
    pub late: u32,
    /// A request that may be repeated is carried out twice.
    pub twice: u32,
    /// The API server refuses.
    pub refused: u32,
    /// An answer takes seconds.
    pub slow: u32,
    /// An answer's body breaks off.
    pub cut: u32,
    /// The database is busy.
    pub busy: u32,
    /// It is full.
    pub full: u32,
    /// It does what it was asked for, and its answer is lost.
    pub sql_lost: u32,
    /// It takes its time.
    pub sql_slow: u32,
    /// An instance dies at some await.
    pub crash: u32,
    /// The receiver of webhooks is not reached.
    pub receiver_refuses: u32,
    /// It takes the message, and its answer never comes.
    pub receiver_hangs: u32,
    /// It answers 500.
    pub receiver_fails: u32,
    /// It answers 410.
    pub receiver_gone: u32,
    /// Whether requests and statements take times that vary at all.
    pub jitter: bool,
}

impl Faults {
    /// Those of a seed.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut rate = |rates: [u32; 3]| {
            if chance.per_mille(400) {
                chance.pick(&rates)
            } else {
                0
            }
        };
        Self {
            not_sent: rate([10, 50, 200]),
            vanished: rate([10, 50, 200]),
            lost: rate([10, 50, 200]),
            late: rate([10, 50, 200]),
            twice: rate([20, 100, 300]),
            refused: rate([10, 50, 200]),
            slow: rate([10, 50, 150]),
            cut: rate([10, 50, 200]),
            busy: rate([5, 20, 100]),
            full: rate([5, 20, 100]),
            sql_lost: rate([5, 20, 100]),
            sql_slow: rate([5, 20, 50]),
            crash: rate([100, 300, 700]),
            receiver_refuses: rate([50, 200, 500]),
            receiver_hangs: rate([50, 200, 500]),
            receiver_fails: rate([50, 200, 500]),
            receiver_gone: rate([20, 50, 100]),
            jitter: true,
        }
    }
}

/// A refusal of that kind of request, in the API server's form, and whether it was carried out all the same.
pub fn refusal(chance: &mut Chance, what: &str) -> (u16, Value, bool) {
    const COMMON: &[(u16, &str)] = &[
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
        (504, "Timeout"),
        (401, "Unauthorized"),
    ];
    let special: &[(u16, &str)] = match what {
        "POST jobs" => &[(403, "Quota"), (409, "Conflict"), (404, "NotFound")],
        "POST configmaps" => &[(409, "Conflict")],
        "PATCH jobs" | "DELETE jobs" => &[(409, "Conflict")],
        "WATCH pods" | "LIST pods" | "LIST jobs" => &[(410, "Expired"), (410, "Expired")],
        _ => &[],
    };
    let (code, reason) = chance.pick(&[COMMON, special].concat());
    let (reason, message) = match reason {
        "Quota" => (
            "Forbidden",
            "jobs.batch is forbidden: exceeded quota: compute",
        ),
        other => (other, "made up by the simulator"),
    };
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": reason, "message": message});
    (code, status, code >= 500 && chance.per_mille(500))
}
