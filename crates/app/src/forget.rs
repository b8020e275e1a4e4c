//! Forgetting a finished execution by its caller's word.

use domain::{Action, ExecutionId};
use store::Written;

use crate::{App, Caller, Error, Platform};

/// What became of the wish to forget an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgotten {
    /// It is gone, with all that belonged to it.
    Gone,
    /// It is not finished; nothing was changed.
    Unfinished,
    /// There is none of that id.
    Unknown,
}

impl<P: Platform> App<P> {
    /// Removes the record of a finished execution of the caller's tenant, its script, labels and log; its idempotency key is free again.
    ///
    /// # Errors
    /// When the store cannot do it; then nothing was changed.
    pub async fn forget(&self, caller: &Caller, id: ExecutionId) -> Result<Forgotten, Error> {
        let record = self.record(caller, Action::ExecutionDelete, &id.to_string());
        let written = self.store.forget(&caller.tenant, id, Some(&record)).await?;
        Ok(match written {
            Written::Updated => Forgotten::Gone,
            Written::Stale => Forgotten::Unfinished,
            Written::Missing => Forgotten::Unknown,
        })
    }
}
