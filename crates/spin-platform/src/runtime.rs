//! Clock, chance and log of the host, and the loop that an instance's work runs in.

use std::fmt::Display;
use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use app::Runtime;
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::postgres::Keeper;

/// Runs the work of one instance to its end. Whenever all of it waits, a database connection goes back to the host.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    wstd::runtime::block_on(async {
        let mut work = pin!(work);
        let mut keeper = Keeper::default();
        poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            if polled.is_pending() {
                keeper.poll(context);
            }
            polled
        })
        .await
    })
}

/// The host's clock, its random numbers, and stderr.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostRuntime;

impl Runtime for HostRuntime {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        wstd::task::sleep(duration.into()).await;
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let bytes = wasip2::random::random::get_random_bytes(N as u64);
        // WASI promises as many bytes as were asked for (wasi:random/random).
        std::array::from_fn(|i| bytes[i])
    }

    /// One JSON object on stderr, in one write.
    fn log(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        let mut line = Map::new();
        line.insert("time".to_owned(), Value::String(self.now().to_string()));
        line.insert("message".to_owned(), Value::String(message.to_owned()));
        for (name, value) in fields {
            line.insert((*name).to_owned(), Value::String(value.to_string()));
        }
        eprintln!("{}", Value::Object(line));
    }
}

/// Logs that an instance came to nothing, for want of anybody else to tell.
pub fn log_broken_off(error: &dyn Display) {
    let fields: [(&str, &dyn Display); 2] = [("level", &"error"), ("error", error)];
    HostRuntime.log("an instance broke off", &fields);
}
