//! The receiver of webhooks: it keeps what it is told, and does with it what the test says.

use std::future::pending;

use http::{HeaderMap, Request};
use jiff::Timestamp;
use kubernetes::TransportError;
use serde_json::Value;

use super::world::World;

/// The secret that signs.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What becomes of a message.
#[derive(Clone, Copy, Debug)]
pub enum Receipt {
    /// It is answered with that status.
    Status(u16),
    /// The same, with one header.
    With(u16, &'static str, &'static str),
    /// It is never answered.
    Hang,
    /// It does not arrive.
    Refused,
}

/// A message that arrived.
#[derive(Clone, Debug)]
pub struct Received {
    /// When.
    pub at: Timestamp,
    /// All of it.
    pub request: Request<Vec<u8>>,
}

impl Received {
    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.request.headers().get(name);
        value
            .unwrap_or_else(|| panic!("{name} is missing"))
            .to_str()
            .expect("ASCII")
    }

    /// The body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(self.request.body()).expect("JSON")
    }

    /// The signature is right, by another's implementation, and of this time.
    #[track_caller]
    pub fn verify(&self) {
        let timestamp: i64 = self.header("webhook-timestamp").parse().expect("a number");
        assert_eq!(timestamp, self.at.as_second());
        let receiver = standardwebhooks::Webhook::new(SECRET).expect("a secret");
        let id = self.header("webhook-id");
        let signature = receiver.sign(id, timestamp, self.request.body());
        assert_eq!(
            self.header("webhook-signature"),
            signature.expect("it signs")
        );
    }
}

impl World {
    pub(super) async fn receive(
        &self,
        request: Request<Vec<u8>>,
    ) -> Result<(u16, HeaderMap), TransportError> {
        let receipt = self.receipts.borrow_mut().pop_front();
        if matches!(receipt, Some(Receipt::Refused)) {
            return Err(TransportError::NotSent("ConnectionRefused".to_owned()));
        }
        let at = self.now();
        self.received.borrow_mut().push(Received { at, request });
        self.stepped().await;
        let mut headers = HeaderMap::new();
        let status = match receipt {
            None | Some(Receipt::Refused) => 204,
            Some(Receipt::Status(status)) => status,
            Some(Receipt::With(status, name, value)) => {
                headers.insert(name, value.parse().expect("a value"));
                status
            }
            Some(Receipt::Hang) => pending().await,
        };
        Ok((status, headers))
    }
}
