//! The store by its public interface, over a native SQLite.
#![expect(
    clippy::cloned_ref_to_slice_refs,
    reason = "answers are compared with arrays, some of one element"
)]

mod batches;
mod cancels;
mod claims;
mod events;
mod executions;
mod figures;
mod followed;
mod forget;
mod leases;
mod lists;
mod migrations;
mod plans;
mod retries;
mod support;
mod webhooks;
