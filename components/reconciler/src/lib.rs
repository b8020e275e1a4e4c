//! The cron trigger's entry: one tick each time it fires. Overlapping calls leave, by the lease in the store.

use bindings::{Error, Guest, Metadata};
use spin_platform::{block_on, log_broken_off};

/// What wit-bindgen makes of `wit/`.
#[expect(unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: "../../wit/spin-cron@2.0.0.wit", world: "spin-cron" });
    use super::Reconciler;
    export!(Reconciler);
}

struct Reconciler;

impl Guest for Reconciler {
    fn handle_cron_event(_: Metadata) -> Result<(), Error> {
        let app = spin_platform::app().map_err(|error| failed(error.to_string()))?;
        let budget = app.config().tick_budget;
        block_on(async {
            app.migrate().await?;
            app.scheduled_tick(budget).await.map(|_| ())
        })
        .map_err(|error: app::Error| failed(error.chain()))
    }
}

/// The host is told, and has a log of its own form; ours has a line too.
fn failed(error: String) -> Error {
    log_broken_off(&error);
    Error::Other(error)
}
