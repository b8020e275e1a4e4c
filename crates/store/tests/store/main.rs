//! The store by its public interface: over a native SQLite, or over the PostgreSQL that EXECUTOR_TEST_POSTGRES names
//! (`tests/postgres/with-postgres.sh cargo test -p store`), or the libSQL of EXECUTOR_TEST_LIBSQL (`tests/libsql/with-libsql.sh`).
#![expect(
    clippy::cloned_ref_to_slice_refs,
    reason = "answers are compared with arrays, some of one element"
)]

mod audit;
mod batches;
mod cancels;
mod claims;
mod database;
mod depths;
mod events;
mod executions;
mod figures;
mod followed;
mod forget;
mod groups;
mod idempotency;
mod idle;
mod leases;
mod left_open;
mod lists;
mod migrations;
mod namespaces;
mod places;
mod plans;
mod plans_postgres;
mod races;
mod retries;
mod shares;
mod support;
mod tallies;
mod tenants;
mod waits;
mod webhooks;
