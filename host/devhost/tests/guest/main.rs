//! Drives the real `devhost` with the test guest, and shows what components may rely on.

mod config;
mod cron;
mod http;
mod libsql;
mod outbound;
mod postgres;
mod relay;
mod shutdown;
mod sqlite;
mod support;
mod upstream;
