//! Every reason from a real cause: outcome, fault, words, log, each within its bound.
//!
//! On the real cluster everything is what Kubernetes itself does. With `EXECUTOR_E2E_RECORD=1` what it sent is written
//! down as fixtures for the tests of `app`, see [`record`].

mod causes;
mod node;
mod policies;
mod record;
mod table;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is done to the node disturbs every pod: it waits for the other causes, and they for it.
static NODE: RwLock<()> = RwLock::new(());

fn node_is_left_alone() -> RwLockReadGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    NODE.read().unwrap_or_else(PoisonError::into_inner)
}

fn node_is_ours() -> RwLockWriteGuard<'static, ()> {
    NODE.write().unwrap_or_else(PoisonError::into_inner)
}
