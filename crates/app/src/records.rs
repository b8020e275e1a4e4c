//! Records as this instance has last read or written them, so that what follows need not read them again.
//!
//! A tick sees each execution a dozen times between its dispatch and its end. By a record from here something is written at
//! most: the write compares the generation, and where that fails the record is read. What is asked for at once is read at once: a tick
//! begins without any record, and the watch tells it of all that happened since the one before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use domain::{Execution, ExecutionId, Status};
use futures::lock::Mutex;

use crate::writes::let_others;
use crate::{App, Error, Platform};

/// So many are kept at most, of about 1 KiB each: an instance that ticks has a few MiB to spare, and what is beyond is read.
const MAX_RECORDS: usize = 4_096;

/// Executions by their ids.
#[derive(Default)]
pub(crate) struct Records {
    unfinished: RefCell<HashMap<ExecutionId, Execution>>,
    /// Those whose ends were just stored, until their Jobs are retired.
    ended: RefCell<HashMap<ExecutionId, Execution>>,
    /// Those that somebody asks for and nobody reads yet.
    wanted: RefCell<Vec<Rc<Wanted>>>,
    /// Whoever has it reads.
    turn: Mutex<()>,
}

/// A record that somebody waits for.
struct Wanted {
    id: ExecutionId,
    /// As somebody has read it since it is asked for.
    record: RefCell<Option<Execution>>,
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

impl<P: Platform> App<P> {
    /// The record as it is stored now: read together with those that others ask for at the same time.
    ///
    /// # Errors
    /// When the store cannot say.
    pub(crate) async fn read_record(&self, id: ExecutionId) -> Result<Option<Execution>, Error> {
        let record = RefCell::default();
        let own = Rc::new(Wanted { id, record });
        self.records.wanted.borrow_mut().push(own.clone());
        let_others().await;
        let _turn = self.records.turn.lock().await;
        if let Some(record) = own.record.take() {
            return Ok(Some(record));
        }
        let mut others = self.records.wanted.take();
        // Nobody waits for what is held by the list alone.
        others.retain(|wanted| !Rc::ptr_eq(wanted, &own) && Rc::strong_count(wanted) > 1);
        if others.is_empty() {
            return Ok(self.store.get(id).await?);
        }
        let ids: Vec<ExecutionId> = others.iter().map(|o| o.id).chain([id]).collect();
        // Whoever finds theirs not among them asks for it alone: it may be another's that cannot be read.
        let found = self.store.get_many(&ids).await.unwrap_or_default();
        let mut found: HashMap<_, _> = found.into_iter().map(|e| (e.id, e)).collect();
        for other in others {
            other.record.replace(found.get(&other.id).cloned());
        }
        match found.remove(&id) {
            None => Ok(self.store.get(id).await?),
            record => Ok(record),
        }
    }
}

fn keep(records: &mut HashMap<ExecutionId, Execution>, execution: Execution) {
    if records.len() < MAX_RECORDS || records.contains_key(&execution.id) {
        records.insert(execution.id, execution);
    }
}
