//! The use cases against a cluster in process and a real SQLite, in virtual time, with every fault on purpose.

mod batches;
mod cancels;
mod crashes;
mod dispatch;
mod dry_run;
mod endings;
mod follows;
mod forgetting;
mod lists;
mod queue;
mod retries;
mod rotations;
mod stories;
mod support;
mod ticks;
mod timeouts;
mod webhooks;
