//! The namespaces that a tick looks after, each with a watch and a full list of its own, so that what fails in one keeps no other
//! waiting; and what is left of each to the next tick.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use domain::Namespace;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::Within;

use super::list::{Listing, Pass};
use super::signal::Signal;
use super::{FULL_LIST_EVERY, LEASE, Tick};
use crate::retire::NAME_HELD;
use crate::{App, Error, Platform};

/// The state key of the resourceVersion to watch pods from, in the namespace of all: what came before it is carried out, or for a list
/// to tell that is under way or to follow.
const RESOURCE_VERSION: &str = "podsResourceVersion";

/// The state key of how far the full list of the namespace of all is.
const LISTING: &str = "listing";

/// The state key of the last full list's time there, RFC 3339.
const LISTED_AT: &str = "listedAt";

/// The state key of the same of the others: one row for them together.
const OTHERS: &str = "namespaces";

/// A namespace that this tick looks after.
pub(super) struct Watched {
    pub namespace: String,
    /// Whether it is the one of those whose tenants have none of their own.
    is_default: bool,
    /// Since when it is neither in the settings nor are unfinished executions in it: only what is left of them there is looked
    /// after.
    unwanted_since: Option<Timestamp>,
    /// Nothing is left there, or nothing that we may look at.
    pub is_done: Cell<bool>,
    /// Where to watch from, before the watch and after it.
    pub version: RefCell<Option<String>>,
    /// Whether there is a version to watch from.
    pub knows_version: Cell<bool>,
    /// The list under way.
    pub pass: RefCell<Option<Pass>>,
    /// When a list came to its end.
    listed_at: Cell<Option<Timestamp>>,
    /// Something was left undone that a list tells of which begins from now on.
    pub missed: Cell<bool>,
    /// Given with each of these.
    pub list_wanted: Signal,
}

/// What a tick leaves to the next one.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Left {
    unwanted_since: Option<Timestamp>,
    version: Option<String>,
    listed_at: Option<Timestamp>,
    listing: Listing,
}

/// By the names of the namespaces.
type LeftByName = BTreeMap<String, Left>;

/// What is left of those that are not the default one, as it is stored: during a tick without the versions.
fn others(watched: &[Watched], with_versions: bool) -> String {
    let left = |at: &Watched| Left {
        unwanted_since: at.unwanted_since,
        version: at.version.borrow().clone().filter(|_| with_versions),
        listed_at: at.listed_at.get(),
        listing: at.listing(),
    };
    let others = watched.iter();
    let others = others.filter(|at| !at.is_default && !at.is_done.get());
    let left: LeftByName = others.map(|at| (at.namespace.clone(), left(at))).collect();
    if left.is_empty() {
        return String::new();
    }
    serde_json::to_string(&left).unwrap_or_default()
}

impl Watched {
    fn new(namespace: String, is_default: bool, unwanted_since: Option<Timestamp>) -> Self {
        Self {
            namespace,
            is_default,
            unwanted_since,
            is_done: Cell::default(),
            version: RefCell::default(),
            knows_version: Cell::default(),
            pass: RefCell::default(),
            listed_at: Cell::default(),
            missed: Cell::default(),
            list_wanted: Signal::default(),
        }
    }

    /// A full list is to begin from now on.
    pub fn miss(&self) {
        self.missed.set(true);
        self.list_wanted.give();
    }

    fn forget_version(&self) {
        self.version.take();
        self.knows_version.set(false);
    }

    /// A list came to its end, with Jobs in it or without. Where nobody wants it any more, one without is the last, but for requests that
    /// may still arrive there: names are held for as long as one may.
    fn is_listed(&self, found: bool, now: Timestamp) {
        self.listed_at.set(Some(now));
        let is_over = self
            .unwanted_since
            .is_some_and(|since| now.duration_since(since) >= NAME_HELD);
        self.is_done.set(is_over && !found);
    }

    /// We may not look at it. Where nobody wants it any more, that is the end of it.
    pub fn is_refused(&self) {
        self.is_done.set(self.unwanted_since.is_some());
    }

    pub fn within(&self) -> Within<'_> {
        Within {
            namespace: &self.namespace,
            is_default: self.is_default,
        }
    }

    fn take_up(&self, left: Left, now: Timestamp) {
        let Listing { pass, again } = left.listing;
        let is_recent = left
            .listed_at
            .is_some_and(|at| now.duration_since(at) < FULL_LIST_EVERY);
        if again || pass.is_none() && !is_recent {
            self.missed.set(true);
        }
        self.knows_version.set(left.version.is_some());
        self.version.replace(left.version);
        self.pass.replace(pass);
        self.listed_at.set(left.listed_at);
    }

    fn listing(&self) -> Listing {
        Listing {
            pass: self.pass.borrow().clone(),
            again: self.missed.get(),
        }
    }
}

/// What a tick finds.
pub(super) struct LastLeft {
    in_use: Vec<Namespace>,
    version: Option<String>,
    listed_at: Option<Timestamp>,
    listing: String,
    others: String,
}

impl<P: Platform> App<P> {
    /// The namespaces that a tick looks after, each where the tick before has left it, and what that left.
    ///
    /// Their names are stored before anything is done in them: an end that is stored may leave its Job behind, and by then no setting may
    /// have the namespace any more. Without that a tick does nothing.
    ///
    /// # Errors
    /// When the store cannot say, or not take the names.
    pub(super) async fn take_up(&self) -> Result<(Vec<Watched>, LastLeft), Error> {
        let mut last = self.last_left().await?;
        let watched = self.watched(&last);
        let noted: LeftByName = serde_json::from_str(&last.others).unwrap_or_default();
        let is_noted = |at: &Watched| at.is_default || noted.contains_key(&at.namespace);
        if !watched.iter().all(is_noted) {
            last.others = others(&watched, false);
            self.store.set_state(OTHERS, &last.others).await?;
        }
        Ok((watched, last))
    }

    /// Where executions run, and where the tick before has left off.
    async fn last_left(&self) -> Result<LastLeft, Error> {
        let in_use = self.store.namespaces_in_use().await?;
        let keys = [RESOURCE_VERSION, LISTED_AT, LISTING, OTHERS];
        let [version, listed_at, listing, others] = self.store.get_states(keys).await?;
        Ok(LastLeft {
            in_use,
            version: version.filter(|version| !version.is_empty()),
            listed_at: listed_at.and_then(|text| text.parse().ok()),
            listing: listing.unwrap_or_default(),
            others: others.unwrap_or_default(),
        })
    }

    /// The namespace of all, those of the settings, those that executions are in besides, since their tenant may have got another one or
    /// none since they were accepted, and those where Jobs may be left of these. Each is where the tick before has left it.
    fn watched(&self, last: &LastLeft) -> Vec<Watched> {
        let default = &self.config.kube_namespace;
        let configured = self.config.callers.namespaces();
        let wanted: BTreeSet<&str> = configured
            .chain(&last.in_use)
            .map(Namespace::as_str)
            .collect();
        // Of what cannot be read nothing is known: each begins with its present version, and a list.
        let mut left: LeftByName = serde_json::from_str(&last.others).unwrap_or_default();
        let names: BTreeSet<String> = wanted
            .iter()
            .map(|name| (*name).to_owned())
            .chain(left.keys().cloned())
            .filter(|name| name != default)
            .collect();
        let now = self.now();
        let of_all = Left {
            unwanted_since: None,
            version: last.version.clone(),
            listed_at: last.listed_at,
            listing: Listing::read(&last.listing),
        };
        let others = names.into_iter().map(|name| {
            let left = left.remove(&name).unwrap_or_default();
            let is_wanted = wanted.contains(name.as_str());
            let since = left.unwanted_since.unwrap_or(now);
            let unwanted_since = (!is_wanted).then_some(since);
            (Watched::new(name, false, unwanted_since), left)
        });
        std::iter::once((Watched::new(default.clone(), true, None), of_all))
            .chain(others)
            .map(|(at, left)| {
                at.take_up(left, now);
                at
            })
            .collect()
    }
}

impl<P: Platform> Tick<'_, P> {
    pub(super) fn watched_as(&self, namespace: &str) -> Option<&Watched> {
        self.watched.iter().find(|at| at.namespace == namespace)
    }

    /// Takes the versions to watch from out of the store: a tick that is killed leaves none, so that its successor lists and finds what was
    /// half done.
    pub(super) async fn take_place(&self, last: LastLeft) {
        if let Err(error) = self.try_to_take_place(last).await {
            // Of what is left there nobody else may go on: what they watch from now on is the present.
            self.watched.iter().for_each(Watched::forget_version);
            self.failed("where the last tick left off could not be taken up", &error);
        }
    }

    async fn try_to_take_place(&self, last: LastLeft) -> Result<(), Error> {
        let store = &self.app.store;
        let others = others(&self.watched, false);
        let are_taken = others == last.others;
        self.kept
            .replace([(LISTING, last.listing), (OTHERS, last.others)].into());
        if last.version.is_some() {
            store.set_state(RESOURCE_VERSION, "").await?;
        }
        if !are_taken {
            store.set_state(OTHERS, &others).await?;
            self.kept.borrow_mut().insert(OTHERS, others);
        }
        Ok(())
    }

    /// Leaves to the next tick how far the list is; answers whether that is stored.
    pub(super) async fn keep_place(&self, at: &Watched) -> bool {
        if at.is_default {
            self.keep(LISTING, at.listing().text()).await
        } else {
            self.keep(OTHERS, others(&self.watched, false)).await
        }
    }

    /// A list came to its end.
    pub(super) async fn keep_end_of_list(&self, at: &Watched, found: bool) -> Result<(), Error> {
        let now = self.app.now();
        at.is_listed(found, now);
        if at.is_default {
            let store = &self.app.store;
            store.set_state(LISTED_AT, &now.to_string()).await?;
        }
        Ok(())
    }

    /// Leaves to the next tick where this one is. Whoever has the lease now goes by its own.
    pub(super) async fn leave_place(&self) -> Result<(), Error> {
        if self.lost.get() {
            return Ok(());
        }
        for at in self.watched.iter().filter(|at| at.is_default) {
            // What was missed is to be known before anybody relies on the version.
            if !self.keep_place(at).await {
                return Ok(());
            }
            let version = at.version.take();
            if let Some(version) = version {
                let (store, holder) = (&self.app.store, &self.holder);
                store
                    .set_state_while_holding(LEASE, holder, RESOURCE_VERSION, &version)
                    .await?;
            }
        }
        self.keep(OTHERS, others(&self.watched, true)).await;
        Ok(())
    }

    async fn keep(&self, key: &'static str, text: String) -> bool {
        if self.kept.borrow().get(key) == Some(&text) {
            return true;
        }
        let store = &self.app.store;
        let kept = store.set_state_while_holding(LEASE, &self.holder, key, &text);
        match kept.await {
            Ok(kept) => {
                if kept {
                    self.kept.borrow_mut().insert(key, text);
                }
                kept
            }
            Err(error) => {
                self.put_off("how far the list is could not be stored", &error.into());
                false
            }
        }
    }
}
