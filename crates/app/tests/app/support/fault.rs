//! What can go wrong between us and the API server.

use serde_json::{Value, json};

use super::world::World;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Effect {
    /// It never leaves.
    NotSent,
    /// It is carried out, and its answer is lost.
    Lost,
    /// It is not carried out, and nobody can know.
    Vanished,
    /// Nobody can know, and it is carried out by [`World::deliver_late`].
    Late,
    /// It is not carried out; this is the answer.
    Answer(u16, Value),
    /// The answer is this text, and more may come.
    Log(String),
    /// The answer is this text, with the status of a success, in place of what was asked for.
    Words(String),
    /// The answer's body breaks off in the middle of its so manieth piece, counted from 1, the end being one too.
    Cut(u32),
    /// The answer comes after so many seconds.
    Slow(i64),
}

/// An effect on the next requests of one kind.
pub struct Fault {
    what: String,
    times: u32,
    effect: Effect,
}

impl World {
    /// The next so many requests of that kind go wrong, in whichever namespace, or in the one that it names (`POST jobs in runs`).
    pub fn fault(&self, what: &str, times: u32, effect: Effect) {
        let what = what.to_owned();
        self.faults.borrow_mut().push(Fault {
            what,
            times,
            effect,
        });
    }

    /// From now on everything goes well.
    pub fn heal(&self) {
        self.faults.borrow_mut().clear();
        self.database_down.set(false);
    }

    /// Whether every planned fault has been met as often as planned.
    pub fn all_faults_fired(&self) -> bool {
        self.faults.borrow().iter().all(|fault| fault.times == 0)
    }

    pub(super) fn take_fault(&self, what: &str, placed: &str) -> Option<Effect> {
        let mut faults = self.faults.borrow_mut();
        let is_meant = |f: &&mut Fault| (f.what == what || f.what == placed) && f.times > 0;
        let fault = faults.iter_mut().find(is_meant)?;
        fault.times -= 1;
        Some(fault.effect.clone())
    }
}

/// A refusal in the API server's form.
pub fn refusal(code: u16, reason: &str, message: &str) -> Effect {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message});
    Effect::Answer(code, status)
}

/// What a kubelet says in place of a log while its runtime does not know the container.
pub fn no_container() -> Effect {
    let id = "2a54b0a8c26f3d5e745d8f8e1e29909b7b4d1525de297782b759b7d653ba3614";
    Effect::Words(format!(
        "unable to retrieve container logs for containerd://{id}"
    ))
}
