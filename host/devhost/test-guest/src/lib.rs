//! The component that the tests of devhost run: each path shows one thing that a host must do. Natively it is empty.

#[cfg(target_family = "wasm")]
mod cron;
#[cfg(target_family = "wasm")]
mod fetch;
#[cfg(target_family = "wasm")]
mod http;
#[cfg(target_family = "wasm")]
mod pg;
#[cfg(target_family = "wasm")]
mod sql;
