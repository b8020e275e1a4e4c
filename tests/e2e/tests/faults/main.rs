//! What breaks, and what must hold all the same: each test checks that its fault did fire.

mod disk;
mod hosts;
mod kill;
mod kills;
mod locked;
mod network;
mod outage;

use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e::batch::{
    ALL_END_WITHIN, Batch, CALLERS, Watched, all_end, each_ran_once, is_honest_refusal,
    no_job_is_left, note_script,
};

/// Each test has its own hosts, and two cores cannot take all at once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // Another test's failure is no reason to fail this one.
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}
