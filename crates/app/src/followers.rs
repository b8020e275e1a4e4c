//! Logs that are followed while their scripts run, so that nothing is missing of them where the node rotates them.
//!
//! The log API gives a node's newest file only. Who follows from the start has all of it all the same; who comes later, or
//! lost the thread, reads on from the place and knows whether something is missing between.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use domain::{Execution, ExecutionId};
use jiff::{SignedDuration, Timestamp};
use kubernetes::{Error as KubernetesError, PodObservation};
use store::{FollowedLog, FollowedOf, StoredLog};

use crate::collector::{Collector, Place, Stamped};
use crate::logs::{LOG_PATIENCE, LOG_READ_ATTEMPTS, LOG_READ_PAUSE, log_is_not_there};
use crate::report::Level;
use crate::{App, Error, Platform, Runtime};

/// So many logs are followed at once by one tick, each in up to 2 MiB: half of what a host gives an instance as a rule. Those
/// beyond are read at their end.
pub(crate) const MAX_FOLLOWERS: usize = 128;

/// So long after its start was seen a script's log is begun to be followed: one that ends before is read once, at its end, which
/// spares the API server and the node a request. No node rotates in that time but by a rare chance: they look every ten seconds.
const BEGUN_AFTER: Duration = Duration::from_millis(200);

/// The pause before a log is opened again that broke, or that ended while its script runs on.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// How long the end of a script waits for the end of its followed log. Where the node takes longer to end the stream, reading
/// on is quicker.
const END_PATIENCE: SignedDuration = SignedDuration::from_millis(50);

/// How often it looks meanwhile.
const END_LOOK: Duration = Duration::from_millis(2);

/// How long it waits where the node has rotated the log just now, so that only the stream still has what is missing.
const ROTATED_PATIENCE: SignedDuration = SignedDuration::from_secs(2);

/// A stream that ended so long before its script was seen ended, in all likelihood ended for another reason.
const END_AFTER_STREAM: SignedDuration = SignedDuration::from_secs(3);

/// Kubelets before 1.30 end a stream when they rotate the log (Kubernetes issue 115701), which they do beyond 10 MiB by
/// default. A stream of fewer bytes than this, a tenth of that, surely did not end for that reason.
const UNROTATED_BYTES: u64 = 1 << 20;

/// So much text is stored in one transaction at least, if there is as much: with the largest log on top it stays under what a
/// host takes at once.
const SAVED_AT_ONCE_BYTES: usize = 1 << 20;

/// After so many bytes what was read is stored for the first time, long before a node rotates anything away.
const FIRST_SAVE_BYTES: u64 = 1 << 20;

/// The log of one pod as far as it was read, and whether it is being read.
pub(crate) struct Follower {
    namespace: String,
    pod: String,
    pod_uid: String,
    state: RefCell<State>,
    /// Nobody needs more of it.
    done: Cell<bool>,
}

struct State {
    collector: Collector,
    stamped: Stamped,
    /// How many bytes the stream has brought that is open, or was last.
    streamed: u64,
    /// When the stream came to its end as a stream should.
    ended: Option<Timestamp>,
    is_open: bool,
    /// What the store has, in bytes; none where it has nothing.
    saved: Option<u64>,
}

impl Follower {
    /// That of a pod, from its beginning or from what is stored of it.
    fn of(pod: &PodObservation, stored: Option<&FollowedLog>) -> Rc<Self> {
        let stored = stored.filter(|stored| stored.pod_uid == pod.uid);
        Self::new(&pod.namespace, &pod.name, &pod.uid, stored)
    }

    fn new(namespace: &str, pod: &str, pod_uid: &str, stored: Option<&FollowedLog>) -> Rc<Self> {
        Rc::new(Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            pod_uid: pod_uid.to_owned(),
            state: RefCell::new(State {
                collector: stored.map(Collector::restored).unwrap_or_default(),
                stamped: Stamped::from(stored.and_then(Place::restored)),
                streamed: 0,
                ended: None,
                is_open: false,
                saved: stored.map(|stored| stored.bytes),
            }),
            done: Cell::new(false),
        })
    }

    /// All that was read so far.
    pub fn log(&self) -> StoredLog {
        self.state.borrow().collector.log()
    }

    /// When its stream came to its end.
    pub fn ended(&self) -> Option<Timestamp> {
        self.state.borrow().ended
    }

    /// Whether the stream's end was its script's, whose end is seen now.
    fn is_whole(&self, now: Timestamp) -> bool {
        let state = self.state.borrow();
        state.streamed < UNROTATED_BYTES
            && state
                .ended
                .is_some_and(|ended| now.duration_since(ended) <= END_AFTER_STREAM)
    }

    fn has_read_nothing(&self) -> bool {
        let state = self.state.borrow();
        state.stamped.place().is_none() && state.collector.bytes() == 0
    }

    /// What is to be stored of it, if that is anything new.
    fn unsaved(&self) -> Option<FollowedLog> {
        let state = self.state.borrow();
        let is_new = state
            .saved
            .is_none_or(|saved| state.collector.bytes() > saved);
        let place = state.stamped.place();
        let log = || state.collector.to_store(&self.pod, &self.pod_uid, place);
        (is_new && !self.done.get()).then(log)
    }
}

/// A log that was read on from where its stream was.
struct ReadOn {
    log: StoredLog,
    /// Something is missing before what was read on.
    gap: bool,
}

/// How a log is read on from a place.
fn options(place: Option<&Place>, follow: bool) -> kubernetes::LogOptions {
    kubernetes::LogOptions {
        follow,
        timestamps: true,
        since_time: place.and_then(Place::since),
        ..Default::default()
    }
}

impl<P: Platform> App<P> {
    /// The follower of that pod's log in this instance.
    pub(crate) fn follower(&self, id: ExecutionId, pod_uid: &str) -> Option<Rc<Follower>> {
        let followers = self.followers.borrow();
        let follower = followers.get(&id)?;
        (follower.pod_uid == pod_uid).then(|| follower.clone())
    }

    /// One that goes on from what is stored, or from the log's beginning. It is not being read.
    pub(crate) async fn restored_follower(
        &self,
        id: ExecutionId,
        pod: &PodObservation,
    ) -> Result<Rc<Follower>, Error> {
        let stored = self.store.followed(id).await?;
        Ok(Follower::of(pod, stored.as_ref()))
    }

    /// The one that reads that pod's log in this instance, or else one that nobody reads yet; and whether it is the former.
    pub(crate) async fn any_follower(
        &self,
        id: ExecutionId,
        pod: &PodObservation,
    ) -> Result<(Rc<Follower>, bool), Error> {
        Ok(match self.follower(id, &pod.uid) {
            Some(follower) => (follower, true),
            None => (self.restored_follower(id, pod).await?, false),
        })
    }

    /// Waits for the end of its stream.
    pub(crate) async fn until_ended(&self, follower: &Follower) {
        while follower.ended().is_none() {
            self.runtime.sleep(END_LOOK * 10).await;
        }
    }

    /// Notes a log to be followed. None where it is followed already, or too many are.
    pub(crate) fn add_follower(
        &self,
        id: ExecutionId,
        pod: &PodObservation,
    ) -> Option<Rc<Follower>> {
        let mut followers = self.followers.borrow_mut();
        // That of an earlier attempt was dropped with its end.
        if followers.contains_key(&id) || followers.len() >= MAX_FOLLOWERS {
            return None;
        }
        let follower = Follower::of(pod, None);
        followers.insert(id, follower.clone());
        Some(follower)
    }

    /// The same of those that a tick before has followed, a few of them.
    pub(crate) async fn resume_followers(
        &self,
        ids: &[ExecutionId],
    ) -> Result<Vec<(ExecutionId, Rc<Follower>)>, Error> {
        let mut stored = self.store.followed_many(ids).await?;
        // In order: the simulator replays histories.
        stored.sort_by_key(|stored| stored.id);
        let mut followers = self.followers.borrow_mut();
        let mut resumed = Vec::new();
        for FollowedOf { id, namespace, log } in stored {
            if followers.contains_key(&id) || followers.len() >= MAX_FOLLOWERS {
                continue;
            }
            let namespace = self.name_of(namespace.as_ref());
            let follower = Follower::new(namespace, &log.pod, &log.pod_uid, Some(&log));
            followers.insert(id, follower.clone());
            resumed.push((id, follower));
        }
        Ok(resumed)
    }

    /// Nobody needs it any more: its execution has its outcome, or another pod.
    pub(crate) fn drop_follower(&self, id: ExecutionId) {
        if let Some(follower) = self.followers.borrow_mut().remove(&id) {
            follower.done.set(true);
        }
    }

    /// Follows until nobody needs it. Whatever breaks is begun again from the place that was reached.
    pub(crate) async fn follow(&self, id: ExecutionId, follower: &Rc<Follower>) {
        if follower.has_read_nothing() {
            self.runtime.sleep(BEGUN_AFTER).await;
        }
        while !follower.done.get() {
            match self.follow_once(id, follower).await {
                Err(Error::Kubernetes(error)) if error.is_not_found() => return,
                Ok(()) | Err(_) => self.runtime.sleep(REOPEN_PAUSE).await,
            }
        }
    }

    /// Opens the log at its place, and reads until the stream ends.
    pub(crate) async fn follow_once(
        &self,
        id: ExecutionId,
        follower: &Rc<Follower>,
    ) -> Result<(), Error> {
        let place = follower.state.borrow().stamped.place().cloned();
        let options = options(place.as_ref(), true);
        let client = self.kubernetes_in(&follower.namespace);
        let mut stream = client.read_log(&follower.pod, &options).await?;
        {
            let mut state = follower.state.borrow_mut();
            state.stamped = Stamped::from(place);
            (state.streamed, state.ended, state.is_open) = (0, None, true);
        }
        let end = loop {
            match stream.chunk().await {
                Ok(Some(chunk)) => {
                    let state = &mut *follower.state.borrow_mut();
                    state.streamed += chunk.len() as u64;
                    state.stamped.push(&chunk, &mut state.collector);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            }
            let is_much = {
                let state = follower.state.borrow();
                state.saved.is_none() && state.collector.bytes() >= FIRST_SAVE_BYTES
            };
            if is_much && let Err(error) = self.save(&[(id, follower.clone())]).await {
                break Err(error);
            }
        };
        let mut state = follower.state.borrow_mut();
        state.is_open = false;
        end?;
        // Words of the node's own, or nothing of what was there before: not the end of this log.
        if !state.stamped.was_strange() && !state.stamped.is_seeking() {
            state.ended = Some(self.runtime.now());
        }
        Ok(())
    }

    /// Stores what is new of those: short logs many in one transaction, since each transaction keeps other writers waiting.
    async fn save(&self, followers: &[(ExecutionId, Rc<Follower>)]) -> Result<(), Error> {
        let mut rest = followers;
        while !rest.is_empty() {
            let mut logs = Vec::new();
            let mut bytes = 0;
            let mut taken = 0;
            for (id, follower) in rest {
                taken += 1;
                if let Some(log) = follower.unsaved() {
                    bytes += log.head.len() + log.tail.len();
                    logs.push((*id, log));
                }
                if bytes >= SAVED_AT_ONCE_BYTES {
                    break;
                }
            }
            self.store.save_followed(&logs).await?;
            let stored = logs.iter().map(|(id, log)| (*id, log.bytes));
            let stored: BTreeMap<ExecutionId, u64> = stored.collect();
            for (id, follower) in &rest[..taken] {
                if let Some(bytes) = stored.get(id) {
                    follower.state.borrow_mut().saved = Some(*bytes);
                }
            }
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Stores what is new of all, for the next tick and for whoever ends one of them elsewhere.
    pub(crate) async fn save_followers(&self) -> Result<(), Error> {
        let all: Vec<_> = self
            .followers
            .borrow()
            .iter()
            .map(|(id, follower)| (*id, follower.clone()))
            .collect();
        self.save(&all).await
    }

    /// The log of a script that ended, or of one that is about to be: what was followed of it, and what came since. Where
    /// nobody followed it, what the node has. Given up [`LOG_PATIENCE`] after `since`, with what there is; without a time it
    /// is never given up.
    pub(crate) async fn whole_log(
        &self,
        execution: &Execution,
        pod: &PodObservation,
        since: Option<Timestamp>,
    ) -> Result<StoredLog, Error> {
        let id = execution.id;
        let (follower, _) = self.any_follower(id, pod).await?;
        if pod.terminated.is_some() && self.comes_to_its_end(&follower, END_PATIENCE).await {
            return Ok(follower.log());
        }
        if follower.has_read_nothing() {
            return Ok(self.collect_log_or_give_up(execution, pod, since).await?);
        }
        match self.read_on(&follower).await {
            // The node has rotated away what comes next; a stream may still have it.
            Ok(ReadOn { log, gap: true }) if pod.terminated.is_some() => {
                let is_open = follower.state.borrow().is_open;
                self.comes_to_its_end(&follower, ROTATED_PATIENCE).await;
                let ended = is_open && follower.ended().is_some();
                Ok(if ended { follower.log() } else { log })
            }
            Ok(ReadOn { log, .. }) => Ok(log),
            Err(error) => {
                let now = self.runtime.now();
                let waited = since.map(|since| now.duration_since(since));
                if waited.is_none_or(|waited| waited < LOG_PATIENCE) {
                    return Err(error.into());
                }
                let message = "the end of a log could not be read and is given up";
                self.report_of(Level::Error, execution, message, &[("error", &error)]);
                Ok(StoredLog {
                    complete: false,
                    ..follower.log()
                })
            }
        }
    }

    /// Whether the stream ends in that time, and that is the log's end.
    async fn comes_to_its_end(&self, follower: &Follower, patience: SignedDuration) -> bool {
        let begun = self.runtime.now();
        loop {
            let now = self.runtime.now();
            if follower.is_whole(now) {
                return true;
            }
            let is_open = follower.state.borrow().is_open;
            if !is_open || now.duration_since(begun) >= patience {
                return false;
            }
            self.runtime.sleep(END_LOOK).await;
        }
    }

    /// What was followed, and all that comes after it.
    async fn read_on(&self, follower: &Follower) -> Result<ReadOn, KubernetesError> {
        let mut attempt = 1;
        loop {
            match self.try_read_on(follower).await {
                Err(error) if log_is_not_there(&error) => {
                    let complete = false;
                    let log = StoredLog {
                        complete,
                        ..follower.log()
                    };
                    return Ok(ReadOn { log, gap: false });
                }
                Err(error) if error.is_retryable() && attempt < LOG_READ_ATTEMPTS => {
                    attempt += 1;
                    self.runtime.sleep(LOG_READ_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn try_read_on(&self, follower: &Follower) -> Result<ReadOn, KubernetesError> {
        let (mut collector, place, ended) = {
            let state = follower.state.borrow();
            let place = state.stamped.place().cloned();
            (state.collector.clone(), place, state.ended.is_some())
        };
        let options = options(place.as_ref(), false);
        let mut stamped = Stamped::from(place);
        let client = self.kubernetes_in(&follower.namespace);
        let mut stream = client.read_log(&follower.pod, &options).await?;
        let mut gap = false;
        while let Some(chunk) = stream.chunk().await? {
            gap |= stamped.push(&chunk, &mut collector);
        }
        // Not even the last line is there any more. After a stream that came to its end, that is no loss: the node has rotated
        // the log, and nothing was written since.
        let is_unknown = stamped.is_seeking() && !ended;
        if is_unknown && stamped.has_lines() {
            collector.gap();
        }
        gap |= is_unknown;
        let log = collector.log();
        let complete = log.complete && !stamped.was_strange() && !is_unknown;
        let log = StoredLog { complete, ..log };
        Ok(ReadOn { log, gap })
    }
}
