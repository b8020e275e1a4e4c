//! What the use cases need of the world.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;

/// A host with its three ways out: HTTP to the API server, SQL, and clock with chance.
pub trait Platform {
    /// Sends requests to the Kubernetes API server.
    type Transport: kubernetes::Transport;
    /// Runs SQL statements.
    type Sql: store::Sql;
    /// Time, chance and the log.
    type Runtime: Runtime;
}

/// Time, chance and the log.
pub trait Runtime {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Ends after that long.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()>;

    /// Bytes nobody can guess.
    fn random<const N: usize>(&self) -> [u8; N];

    /// Writes one structured line for the operator. Never script text, never a secret.
    fn log(&self, message: &str, fields: &[(&str, &dyn Display)]);
}
