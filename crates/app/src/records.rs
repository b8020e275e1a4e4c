//! Records as this instance has last read or written them, so that what follows need not read them again.
//!
//! A tick sees each execution a dozen times between its dispatch and its end. By a record from here something is written at
//! most: the write compares the generation, and where that fails the record is read.

use std::cell::RefCell;
use std::collections::HashMap;

use domain::{Execution, ExecutionId, Status};

/// So many are kept at most, of about 1 KiB each: an instance that ticks has a few MiB to spare, and what is beyond is read.
const MAX_RECORDS: usize = 4_096;

/// Executions by their ids.
#[derive(Default)]
pub(crate) struct Records {
    unfinished: RefCell<HashMap<ExecutionId, Execution>>,
    /// Those whose ends were just stored, until their Jobs are retired.
    ended: RefCell<HashMap<ExecutionId, Execution>>,
}

impl Records {
    /// Keeps it for what is seen next, if there is room.
    pub fn keep(&self, execution: Execution) {
        keep(&mut self.unfinished.borrow_mut(), execution);
    }

    /// Takes it: whoever writes by it keeps what was written.
    pub fn take(&self, id: ExecutionId) -> Option<Execution> {
        self.unfinished.borrow_mut().remove(&id)
    }

    /// Keeps one as it was just stored, if there is room: for what is seen next, or at its end for whoever retires its Job right after
    /// that.
    pub fn keep_stored(&self, stored: &Execution, creation_in_doubt: bool) {
        let records = match stored.status {
            Status::Finished => &self.ended,
            _ => &self.unfinished,
        };
        let stored = Execution {
            creation_in_doubt,
            ..stored.clone()
        };
        keep(&mut records.borrow_mut(), stored);
    }

    /// Takes one whose end was stored.
    pub fn take_ended(&self, id: ExecutionId) -> Option<Execution> {
        self.ended.borrow_mut().remove(&id)
    }
}

fn keep(records: &mut HashMap<ExecutionId, Execution>, execution: Execution) {
    if records.len() < MAX_RECORDS || records.contains_key(&execution.id) {
        records.insert(execution.id, execution);
    }
}
