//! What an instance measures of its own work: its requests to the API server, and the clocks of the attempts that it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use domain::Execution;
use jiff::Timestamp;
use kubernetes::{Timeouts, Transport, TransportError, verb};
use store::{Measure, Tally};

use crate::report::Level;
use crate::{App, Platform, Runtime};

/// The verb of watches, each of which lasts as long as a tick.
const WATCH: &str = "watch";

/// The way to the API server, with each request counted by its verb and what came of it.
pub(crate) struct Metered<P: Platform> {
    transport: P::Transport,
    runtime: Rc<P::Runtime>,
    pub(crate) meter: Rc<Meter>,
}

/// What this instance has measured and not stored yet, and what it has spent.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// For the database's histograms.
    pub(crate) tally: Tally,
    /// Whether somebody stores the tally now and then, so that it needs to go with no other write.
    pub(crate) is_stored_regularly: Cell<bool>,
    requests: Cell<u64>,
    watches: Cell<u64>,
}

impl Meter {
    /// How many requests were answered or given up by the host, and how many of these were granted watches.
    pub(crate) fn requests(&self) -> (u64, u64) {
        (self.requests.get(), self.watches.get())
    }

    fn request(&self, verb: &str, result: &str, took: Duration) {
        self.requests.set(self.requests.get() + 1);
        if verb == WATCH && result == "200" {
            // Each tick has one, and whoever has nothing else to tell must not write for it: they go with the lease.
            self.watches.set(self.watches.get() + 1);
        } else {
            let label = format!("{verb} {result}");
            self.tally.observe(Measure::Request, &label, took);
        }
    }
}

impl<P: Platform> Metered<P> {
    pub(crate) fn new(transport: P::Transport, runtime: Rc<P::Runtime>, meter: Rc<Meter>) -> Self {
        Self {
            transport,
            runtime,
            meter,
        }
    }

    /// The way out itself, for what is no request to the API server.
    pub(crate) fn transport(&self) -> &P::Transport {
        &self.transport
    }
}

impl<P: Platform> Transport for Metered<P> {
    type Body = <P::Transport as Transport>::Body;

    async fn send(
        &self,
        request: http::Request<Vec<u8>>,
        timeouts: Timeouts,
    ) -> Result<http::Response<Self::Body>, TransportError> {
        let verb = verb(&request);
        let begun = self.runtime.now();
        let answer = self.transport.send(request, timeouts).await;
        let result = match &answer {
            Ok(response) => response.status().as_str().to_owned(),
            Err(TransportError::NotSent(_)) => "not_sent".to_owned(),
            Err(TransportError::Unknown(_)) => "no_answer".to_owned(),
        };
        let took = between(begun, self.runtime.now());
        self.meter.request(verb, &result, took);
        answer
    }
}

impl<P: Platform> App<P> {
    /// Measures the clocks of an attempt whose end was just stored, as far as they ran.
    pub(crate) fn measure_end(&self, ended: &Execution) {
        let tally = &self.meter.tally;
        let clock = |measure, from: Option<Timestamp>, to: Option<Timestamp>| {
            if let (Some(from), Some(to)) = (from, to) {
                tally.observe(measure, "", between(from, to));
            }
        };
        clock(Measure::Queue, Some(ended.due_at), ended.dispatched_at);
        clock(Measure::Start, ended.dispatched_at, ended.started_at);
        clock(Measure::Run, ended.started_at, ended.finished_at);
        let exit_code = ended.ending.as_ref().and_then(|ending| ending.exit_code);
        if exit_code.is_some() {
            clock(Measure::Settle, ended.finished_at, Some(self.now()));
        }
    }

    /// Stores what was measured. Nothing depends on it: where that fails it is stored later, or lost with the instance.
    pub(crate) async fn store_tally(&self) {
        let stored = self.store.flush(&self.meter.tally).await;
        if let Err(error) = stored.map_err(crate::Error::from) {
            let message = "what was measured could not be stored";
            self.report(Level::Warn, message, &[("error", &error.chain())]);
        }
    }
}

/// How long that was; nothing where clocks of several hosts make it less.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
