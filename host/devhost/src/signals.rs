//! The signals that ask devhost to end.

use std::fmt;

use anyhow::{Context, Result};
use tokio::signal::unix::{self, SignalKind};

/// Listens for both signals, from the moment it is made.
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

/// Which one came.
#[derive(Clone, Copy, Debug)]
pub enum Ending {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// The system does not let us.
    pub fn new() -> Result<Signals> {
        let listen = |kind| unix::signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
        }
    }
}

impl Ending {
    /// What a process that died of the signal would leave behind: 128 and its number.
    pub fn exit_code(self) -> i32 {
        match self {
            Ending::Terminate => 128 + 15,
            Ending::Interrupt => 128 + 2,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Terminate => "SIGTERM",
            Ending::Interrupt => "SIGINT",
        })
    }
}
