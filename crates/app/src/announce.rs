//! Kubernetes Events about the Job of an execution: what Executor did with it and why, for whoever asks the cluster (`kubectl describe job`).
//!
//! They tell what the timeline tells, and nothing depends on them: they are gathered when a step is stored, sent beside the other work,
//! and let go where the API server does not take them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::time::Duration;

use domain::timeline::kind;
use domain::{Entry, Execution, Outcome};
use futures::future;
use jiff::{SignedDuration, Timestamp};
use kubernetes::JobEvent;
use store::StoredLog;

use crate::report::{Fields, Level};
use crate::tick::signal::Signal;
use crate::{App, Caller, Platform, Runtime};

/// So many wait to be sent; more come only where the API server is slow, and are let go.
const MAX_GATHERED: usize = 256;

/// So many are sent at once: few beside the 16 creations that a tick has in flight.
const IN_FLIGHT: usize = 4;

/// For how long none is sent when one was refused, unless the API server says how long.
const QUIET: SignedDuration = SignedDuration::from_secs(10);

/// How long an instance that has done its work goes on sending.
const LAST_ONES: Duration = Duration::from_secs(1);

/// Which steps of an execution are told as Kubernetes Events. Each is one request to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announced {
    /// `none`.
    Nothing,
    /// `notable`: what an ordinary life has not, such as waiting for an image, cancels, clocks that run out and bad ends.
    Notable,
    /// `all`: beside these that the Job is created, that the container starts, and that the end is good.
    Everything,
}

impl Announced {
    /// By its name in the settings.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::Nothing),
            "notable" => Some(Self::Notable),
            "all" => Some(Self::Everything),
            _ => None,
        }
    }
}

/// What else is to be said of a step.
#[derive(Clone, Copy)]
pub(crate) enum Also<'a> {
    Nothing,
    /// Who asked for it.
    By(&'a Caller),
    /// What is kept of its log.
    Log(&'a StoredLog),
}

/// What is to be sent, where, and in which trace.
struct Announcement {
    namespace: String,
    traceparent: String,
    event: JobEvent,
}

/// What is to be sent.
#[derive(Default)]
pub(crate) struct Announcements {
    gathered: RefCell<VecDeque<Announcement>>,
    /// Given with each that is gathered.
    pub(crate) wanted: Signal,
    /// Until when nothing is sent there.
    quiet_until: RefCell<BTreeMap<String, Timestamp>>,
}

impl<P: Platform> App<P> {
    /// Gathers what is told of a step that was just stored, where its Job is known.
    pub(crate) fn announce(&self, after: &Execution, told: &[Entry], also: Also<'_>) {
        let rule = self.config.kubernetes_events;
        let Some(uid) = after.job_uid.as_ref() else {
            return;
        };
        let namespace = self.namespace_of(after);
        if rule == Announced::Nothing || self.is_quiet(namespace) {
            return;
        }
        let name = after.job_name();
        for (number, entry) in told.iter().enumerate() {
            let is_warning = is_warning(after, entry);
            let is_wanted = is_warning || rule == Announced::Everything || is_notable(after, entry);
            let mut gathered = self.announcements.gathered.borrow_mut();
            if !is_wanted || gathered.len() >= MAX_GATHERED {
                continue;
            }
            let event = JobEvent {
                // Of each step one instance's write comes about.
                name: format!("{name}.{:x}.{number}", after.generation),
                job_name: name.clone(),
                job_uid: uid.clone(),
                reason: entry.kind.clone(),
                message: message(after, entry, also),
                at: entry.at,
                is_warning,
            };
            gathered.push_back(Announcement {
                namespace: namespace.to_owned(),
                traceparent: self.traceparent(after),
                event,
            });
            self.announcements.wanted.give();
        }
    }

    /// Sends what is gathered, a few at once, until nothing is left.
    pub(crate) async fn send_announcements(&self) {
        loop {
            let next: Vec<_> = {
                let mut gathered = self.announcements.gathered.borrow_mut();
                let count = gathered.len().min(IN_FLIGHT);
                gathered.drain(..count).collect()
            };
            if next.is_empty() {
                return;
            }
            let sent = next
                .iter()
                .map(|announcement| self.send_event(announcement));
            future::join_all(sent).await;
        }
    }

    /// The same for a while, by an instance that has nothing else to do.
    pub(crate) async fn send_last_announcements(&self) {
        if !self.announcements.gathered.borrow().is_empty() {
            let limit = pin!(self.runtime.sleep(LAST_ONES));
            future::select(pin!(self.send_announcements()), limit).await;
        }
    }

    async fn send_event(&self, announcement: &Announcement) {
        let namespace = &announcement.namespace;
        let client = self.kubernetes_in(namespace);
        let client = client.traced(&announcement.traceparent);
        match client.create_event(&announcement.event).await {
            Ok(()) => {}
            Err(error) if error.is_already_exists() => {}
            Err(error) => {
                let asked = error.retry_after();
                let pause = asked.and_then(|after| SignedDuration::try_from(after).ok());
                let until = self.runtime.now() + pause.unwrap_or(QUIET);
                let mut quiet_until = self.announcements.quiet_until.borrow_mut();
                let is_first = quiet_until.insert(namespace.clone(), until).is_none();
                let mut gathered = self.announcements.gathered.borrow_mut();
                gathered.retain(|other| other.namespace != *namespace);
                if is_first {
                    let why = crate::Error::from(error).chain();
                    let what = "Kubernetes Events are left out for a while";
                    let fields: Fields<'_> = &[("namespace", namespace), ("error", &why)];
                    self.report(Level::Warn, what, fields);
                }
            }
        }
    }

    fn is_quiet(&self, namespace: &str) -> bool {
        let quiet_until = self.announcements.quiet_until.borrow();
        let until = quiet_until.get(namespace);
        until.is_some_and(|until| self.runtime.now() < *until)
    }
}

/// Whether it is about something wrong.
fn is_warning(after: &Execution, entry: &Entry) -> bool {
    match entry.kind.as_str() {
        kind::WAITING | kind::POSTPONED | kind::TIMED_OUT | kind::ATTEMPT_ENDED => true,
        kind::FINISHED => after
            .ending
            .as_ref()
            .is_some_and(|ending| matches!(ending.outcome(), Outcome::Failed | Outcome::Error)),
        _ => false,
    }
}

/// Whether it is no part of an ordinary life.
fn is_notable(after: &Execution, entry: &Entry) -> bool {
    match entry.kind.as_str() {
        kind::CANCEL_REQUESTED | kind::STOPPING | kind::RETRY_SCHEDULED => true,
        kind::FINISHED => after.cancel_requested_at.is_some(),
        _ => false,
    }
}

fn message(after: &Execution, entry: &Entry, also: Also<'_>) -> String {
    let (text, id) = (&entry.message, after.id);
    match (entry.kind.as_str(), also) {
        (kind::JOB_CREATED, _) => {
            let origin = after.origin.as_deref();
            let by = origin.and_then(|origin| origin.actor.as_deref());
            let by = by.map_or_else(String::new, |actor| format!(" by {actor}"));
            let (tenant, at) = (&after.tenant, after.created_at);
            format!("it runs the execution {id} of the tenant {tenant}, submitted{by} at {at}")
        }
        (kind::CANCEL_REQUESTED, Also::By(caller)) => format!("{text}, by {}", caller.name),
        (kind::FINISHED | kind::ATTEMPT_ENDED, Also::Log(log)) => {
            let bytes = log.bytes;
            let kept = match log.lost_bytes {
                0 if log.complete => format!("its log of {bytes} bytes is stored"),
                0 => format!("of its log {bytes} bytes are stored, and more may be missing"),
                lost => format!("of its log of {bytes} bytes {lost} are lost"),
            };
            format!("{text}; {kept}; execution {id}")
        }
        _ => text.clone(),
    }
}
