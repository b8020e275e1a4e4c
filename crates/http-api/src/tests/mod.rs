//! Tests of the API; the files mirror the routes.

mod anything;
mod audit;
mod batch;
mod bodies;
mod callers;
mod cancel;
mod chance;
mod deliveries;
mod docs;
mod dry_run;
mod events;
mod execution;
mod executions;
mod health;
mod list;
mod logs;
mod metrics;
mod monitoring;
mod openapi;
mod policies;
mod queue_full;
mod refused;
mod retries;
mod service;
mod submission;
mod tick;
