//! Devhost runs a Spin application (`spin.toml` and its components) on wasmtime, without Spin. For laptops and tests.

mod allowed_hosts;
mod app;
mod bindings;
pub mod cli;
mod connector;
mod cron_trigger;
mod engine;
mod http_trigger;
mod instance;
mod libsql;
mod log;
mod manifest;
mod outbound;
mod postgres;
mod routes;
mod runtime_config;
mod signals;
mod sqlite;
mod tls;
mod variables;

pub use app::up;
