//! The cron trigger's entry: notes when it starts and ends, so that tests can see calls and overlaps.

use std::time::Duration;

use crate::sql;
use bindings::{Error, Guest, Metadata};

#[expect(
    unsafe_code,
    reason = "generated: the way from the canonical ABI to Rust"
)]
mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/spin-cron@2.0.0.wit", world: "spin-cron" });
    use super::Cron;
    export!(Cron);
}

struct Cron;

impl Guest for Cron {
    fn handle_cron_event(metadata: Metadata) -> Result<(), Error> {
        let note = |what: &str| {
            sql::note(&format!("cron {what} {}", metadata.timestamp)).map_err(Error::Other)
        };
        note("start")?;
        match spin_sdk::variables::get("cron_mode").as_deref() {
            Ok("trap") => panic!("asked to trap in cron"),
            Ok("error") => return Err(Error::Other("asked to fail in cron".to_owned())),
            _ => {}
        }
        let pause = spin_sdk::variables::get("cron_pause_ms").unwrap_or_default();
        std::thread::sleep(Duration::from_millis(pause.parse().unwrap_or(0)));
        note("end")
    }
}
