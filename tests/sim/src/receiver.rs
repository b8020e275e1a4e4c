//! The receiver of webhooks: out of reach, hanging, failing or gone at times; it keeps what it was told.

use std::rc::Rc;

use kubernetes::TransportError;
use serde_json::Value;

use crate::mutant::Mutant;
use crate::world::World;

/// The longest way to it and back, in milliseconds.
const LONGEST_WAY_MS: i64 = 300;

/// Longer than anybody waits for an answer, in milliseconds.
const HANGS_MS: i64 = 60_000;

/// A message that arrived.
pub struct Message {
    /// The execution's id, by the message's header.
    pub id: String,
    /// When, in milliseconds of the true time.
    pub at: i64,
    /// What it says.
    pub body: Value,
    /// What was answered; none where no answer came.
    pub status: Option<u16>,
}

/// Takes a message, or does not; answers its status.
pub async fn receive(
    world: &Rc<World>,
    who: &str,
    request: http::Request<Vec<u8>>,
) -> Result<u16, TransportError> {
    if world.mutant == Some(Mutant::WebhookUnsent) {
        return Ok(204);
    }
    let (way, refuses, hangs, gone, fails) = {
        let faults = world.faults.borrow();
        let mut chance = world.chance.borrow_mut();
        (
            chance.between(1, LONGEST_WAY_MS),
            chance.per_mille(faults.receiver_refuses),
            chance.per_mille(faults.receiver_hangs),
            chance.per_mille(faults.receiver_gone),
            chance.per_mille(faults.receiver_fails),
        )
    };
    world.sleep(way).await;
    if refuses {
        return Err(TransportError::NotSent("made up: refused".to_owned()));
    }
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let id = header("webhook-id").unwrap_or_default().to_owned();
    if header("webhook-signature").is_none() {
        world.broken(format!("I10: {who} told of {id} without a signature"));
    }
    let status = match (hangs, gone, fails) {
        (true, ..) => None,
        (_, true, _) => Some(410),
        (.., true) => Some(500),
        _ => Some(204),
    };
    world.note(&format!(
        "{who} tells of {}: {status:?}",
        crate::rows::short(&id)
    ));
    world.told.borrow_mut().push(Message {
        id,
        at: world.now(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        status,
    });
    match status {
        Some(status) => Ok(status),
        None => {
            world.sleep(HANGS_MS).await;
            Err(TransportError::Unknown("made up: no answer".to_owned()))
        }
    }
}
