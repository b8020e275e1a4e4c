//! Drives the real `devhost` with the test guest, and shows what components may rely on.

mod config;
mod cron;
mod http;
mod outbound;
mod shutdown;
mod sqlite;
mod support;
mod upstream;
