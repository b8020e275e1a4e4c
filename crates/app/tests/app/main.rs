//! The use cases against a cluster in process and a real SQLite, in virtual time, with every fault on purpose.

mod announcements;
mod batches;
mod cancels;
mod crashes;
mod dispatch;
mod drains;
mod dry_run;
mod endings;
mod follows;
mod forgetting;
mod lists;
mod metrics;
mod namespaces;
mod queue;
mod retries;
mod rotations;
mod settings;
mod stories;
mod support;
mod ticks;
mod timeouts;
mod traces;
mod webhooks;
