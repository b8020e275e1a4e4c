//! The store by its public interface, over a native SQLite.

mod executions;
mod support;
