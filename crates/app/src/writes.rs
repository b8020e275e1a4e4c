//! Steps of several executions, stored together: whoever comes while a write is under way goes into the next one.
//!
//! A tick carries out the news of many pods at once, and each step waits for its own to be stored before it acts on it. The first who comes
//! writes, and takes along who is there by then. A step that comes alone waits for nobody; one that comes right behind a write waits a
//! moment for others, since a write costs nearly the same whatever is in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use domain::{Entry, Execution, ExecutionId};
use jiff::Timestamp;
use store::{Change, Landed, Step, StoreError, StoredLog, Written};

use crate::{App, Error, Platform, Runtime};

/// So many are written together at most: as many as are worked on at once, and a write that others wait a few milliseconds for.
const MOST_TOGETHER: usize = 64;

/// After so much text of logs no more is taken along: with the largest log on top it stays under what a host takes at once.
const LOGS_AT_ONCE_BYTES: usize = 1 << 20;

/// So long after a write others are waited for before the next: thirty of them where a queue is drained, and far less than anybody
/// sees.
const APART: Duration = Duration::from_millis(8);

/// How often others are let go on first before a write, as long as that brings any along: what an answer of the API server wakes
/// comes to its step in two or three turns.
const TURNS_FOR_OTHERS: u32 = 4;

/// The steps that wait to be written, and those that are being written.
#[derive(Default)]
pub(crate) struct Writes {
    waiting: RefCell<VecDeque<Rc<Slot>>>,
    group: RefCell<Vec<Rc<Slot>>>,
    /// Somebody writes.
    is_taken: Cell<bool>,
    /// When the last write was over.
    written_at: Cell<Option<Timestamp>>,
}

/// One step, and what became of it.
struct Slot {
    next: Execution,
    told: Vec<Entry>,
    log: Option<StoredLog>,
    became: RefCell<Option<Result<Landed, StoreError>>>,
    waker: RefCell<Option<Waker>>,
    /// Those who go on from this step.
    followers: RefCell<Vec<Waker>>,
}

impl Slot {
    fn change(&self) -> Change<'_> {
        Change {
            step: Step::new(&self.next, &self.told),
            log: self.log.as_ref(),
        }
    }

    fn log_bytes(&self) -> usize {
        let log = self.log.as_ref();
        log.map_or(0, |log| log.head.len() + log.tail.len())
    }

    fn is_open(&self) -> bool {
        self.became.borrow().is_none()
    }

    fn settle(&self, became: Result<Landed, StoreError>) {
        self.became.replace(Some(became));
        self.wake();
        self.wake_followers();
    }

    fn wake_followers(&self) {
        self.followers.take().into_iter().for_each(Waker::wake);
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A step while somebody waits for it. Who does not any more is not written.
struct Wait<'w> {
    writes: &'w Writes,
    slot: Rc<Slot>,
}

/// The right to write.
struct Turn<'w> {
    writes: &'w Writes,
}

impl Writes {
    fn add(&self, slot: Slot) -> Wait<'_> {
        let slot = Rc::new(slot);
        self.waiting.borrow_mut().push_back(slot.clone());
        Wait { writes: self, slot }
    }

    fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    /// Waits until no step of that execution is to be written any more: its record is at hand afterwards, and need not be read.
    pub(crate) async fn follow(&self, id: ExecutionId) {
        poll_fn(|context| {
            let (waiting, group) = (self.waiting.borrow(), self.group.borrow());
            let mut open = waiting.iter().chain(&*group).filter(|slot| slot.is_open());
            let Some(slot) = open.find(|slot| slot.next.id == id) else {
                return Poll::Ready(());
            };
            slot.followers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Somebody who waits may have the turn.
    fn pass_on(&self) {
        if !self.is_taken.get()
            && let Some(first) = self.waiting.borrow().front()
        {
            first.wake();
        }
    }
}

impl<'w> Wait<'w> {
    /// Waits until somebody has written it, or until it is its turn to write.
    async fn turn(&self) -> Option<Turn<'w>> {
        poll_fn(|context| {
            if !self.slot.is_open() {
                return Poll::Ready(None);
            }
            if !self.writes.is_taken.replace(true) {
                return Poll::Ready(Some(Turn {
                    writes: self.writes,
                }));
            }
            self.slot.waker.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let is_it = |slot: &Rc<Slot>| Rc::ptr_eq(slot, &self.slot);
        self.writes.waiting.borrow_mut().retain(|slot| !is_it(slot));
        self.slot.wake_followers();
        self.writes.pass_on();
    }
}

impl Turn<'_> {
    /// Takes those that wait, as many as go together.
    fn take(&self) -> Vec<Rc<Slot>> {
        let mut waiting = self.writes.waiting.borrow_mut();
        let mut group = self.writes.group.borrow_mut();
        let mut bytes = 0;
        while group.len() < MOST_TOGETHER && bytes < LOGS_AT_ONCE_BYTES {
            let Some(slot) = waiting.pop_front() else {
                break;
            };
            bytes += slot.log_bytes();
            group.push(slot);
        }
        group.clone()
    }
}

impl Drop for Turn<'_> {
    /// What was not written, since whoever had the turn is gone, waits again.
    fn drop(&mut self) {
        let mut waiting = self.writes.waiting.borrow_mut();
        for slot in self.writes.group.take().into_iter().rev() {
            if slot.is_open() {
                waiting.push_front(slot);
            }
        }
        drop(waiting);
        self.writes.is_taken.set(false);
        self.writes.pass_on();
    }
}

impl<P: Platform> App<P> {
    /// Stores the next generation of an execution with what its timeline says of it and, where that ends it, its log: together with
    /// those of others that are at hand.
    ///
    /// # Errors
    /// When the store does not do it.
    pub(crate) async fn write(
        &self,
        next: &Execution,
        told: &[Entry],
        log: Option<&StoredLog>,
    ) -> Result<Landed, Error> {
        let wait = self.writes.add(Slot {
            next: next.clone(),
            told: told.to_vec(),
            log: log.cloned(),
            became: RefCell::default(),
            waker: RefCell::default(),
            followers: RefCell::default(),
        });
        // Who has the turn may find so many before it that its own is not among those that go together.
        while let Some(turn) = wait.turn().await {
            self.write_together(turn).await;
        }
        let became = wait.slot.became.take();
        // There is no turn any more since it is settled.
        Ok(became.unwrap_or(Ok(Landed::NotStored))?)
    }

    /// Writes what is there, and tells each what became of its own.
    async fn write_together(&self, turn: Turn<'_>) {
        if let Some(written_at) = self.writes.written_at.get() {
            let since = self.runtime.now().duration_since(written_at);
            let rest =
                Duration::try_from(since).map_or(Duration::ZERO, |d| APART.saturating_sub(d));
            if !rest.is_zero() {
                self.runtime.sleep(rest).await;
            }
        }
        for _ in 0..TURNS_FOR_OTHERS {
            let before = self.writes.len();
            let_others().await;
            if self.writes.len() == before {
                break;
            }
        }
        let group = turn.take();
        let changes: Vec<Change<'_>> = group.iter().map(|slot| slot.change()).collect();
        match self.store.write_all(&changes).await {
            Ok(became) => {
                for (slot, became) in group.iter().zip(became) {
                    if let Landed::Stored { creation_in_doubt } = became {
                        // Before anybody goes on from it.
                        self.records.keep_stored(&slot.next, creation_in_doubt);
                    }
                    slot.settle(Ok(became));
                }
            }
            // It may be one of them that the database does not take.
            Err(error) if group.len() > 1 && !error.is_transient() => {
                for slot in &group {
                    slot.settle(self.write_alone(slot).await);
                }
            }
            Err(error) => {
                for slot in &group {
                    slot.settle(Err(error.clone()));
                }
            }
        }
        self.writes.written_at.set(Some(self.runtime.now()));
    }

    async fn write_alone(&self, slot: &Slot) -> Result<Landed, StoreError> {
        let Change { step, log } = slot.change();
        let written = match log {
            Some(log) => self.store.finish(step, log).await?,
            None => self.store.update(step).await?,
        };
        if written != Written::Updated {
            return Ok(Landed::NotStored);
        }
        let stored = self.store.get(slot.next.id).await?;
        Ok(Landed::Stored {
            creation_in_doubt: stored.is_none_or(|stored| stored.creation_in_doubt),
        })
    }
}

/// Lets every other task of the instance go on first.
pub(crate) async fn let_others() {
    let mut has_waited = false;
    poll_fn(|context| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    //! Whose turn it is, whoever goes away.
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::observe::tests::dispatched;

    fn slot() -> Slot {
        Slot {
            next: dispatched(),
            told: Vec::new(),
            log: None,
            became: RefCell::default(),
            waker: RefCell::default(),
            followers: RefCell::default(),
        }
    }

    /// Its turn, nothing where somebody has written it, or none yet.
    fn poll<'w>(wait: &Wait<'w>) -> Option<Option<Turn<'w>>> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(wait.turn()).poll(&mut context) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_at_a_time_writes_for_all_that_are_there() {
        let writes = Writes::default();
        let (first, second) = (writes.add(slot()), writes.add(slot()));
        let turn = poll(&first).flatten().expect("nobody writes");
        assert!(poll(&second).is_none(), "it waits");
        let group = turn.take();
        let late = writes.add(slot());
        assert_eq!(group.len(), 2);
        for slot in &group {
            slot.settle(Ok(Landed::NotStored));
        }
        drop(turn);
        assert!(poll(&first).expect("it is settled").is_none());
        assert!(poll(&second).expect("it is settled").is_none());
        let turn = poll(&late).flatten().expect("it is its turn");
        assert_eq!(turn.take().len(), 1);
    }

    #[test]
    fn what_a_writer_that_is_gone_has_taken_is_written_by_the_next() {
        let writes = Writes::default();
        let (first, second) = (writes.add(slot()), writes.add(slot()));
        let turn = poll(&first).flatten().expect("nobody writes");
        assert!(poll(&second).is_none(), "it waits");
        turn.take();
        drop(turn);
        drop(first);
        let turn = poll(&second).flatten().expect("it is its turn");
        let group = turn.take();
        // Who went away has nothing written any more.
        assert_eq!(group.len(), 1);
        assert!(Rc::ptr_eq(&group[0], &second.slot));
    }

    #[test]
    fn who_goes_on_from_a_step_waits_until_it_is_written_or_given_up() {
        let writes = Writes::default();
        let mut context = Context::from_waker(Waker::noop());
        for gives_up in [false, true] {
            let first = writes.add(slot());
            let id = first.slot.next.id;
            let mut follows = pin!(writes.follow(id));
            assert!(follows.as_mut().poll(&mut context).is_pending());
            if gives_up {
                drop(first);
            } else {
                let turn = poll(&first).flatten().expect("nobody writes");
                let group = turn.take();
                let is_pending = follows.as_mut().poll(&mut context).is_pending();
                assert!(is_pending, "it is being written");
                group[0].settle(Ok(Landed::NotStored));
            }
            assert!(follows.as_mut().poll(&mut context).is_ready());
        }
        let mut nobody = pin!(writes.follow(slot().next.id));
        assert!(nobody.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn long_logs_go_a_few_at_a_time() {
        let writes = Writes::default();
        let long = || Slot {
            log: Some(StoredLog {
                head: vec![0; LOGS_AT_ONCE_BYTES / 2],
                ..StoredLog::default()
            }),
            ..slot()
        };
        let all: Vec<_> = (0..5).map(|_| writes.add(long())).collect();
        let turn = poll(&all[0]).flatten().expect("nobody writes");
        assert_eq!(turn.take().len(), 2);
        assert_eq!(writes.len(), 3);
    }
}
