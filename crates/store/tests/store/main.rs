//! The store by its public interface, over a native SQLite.

mod claims;
mod executions;
mod leases;
mod lists;
mod migrations;
mod plans;
mod support;
