//! Objects by key, one resourceVersion for all of them, and the bounded history that watches and pages read.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::object;
use crate::persist::Persist;
use crate::resources::Resource;

/// Changes kept for watches and for paging at an older version. The real server's watch cache keeps between 100 and 100,000 per
/// resource; Executor's watches lag by far less.
pub const HISTORY_EVENTS: usize = 20_000;

/// Event objects kept; the oldest go first. The real server forgets them after an hour.
const MAX_EVENT_OBJECTS: usize = 5_000;

/// Where one object is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its kind.
    pub resource: Resource,
    /// Its namespace; empty when cluster-scoped.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// A key from borrowed parts.
    pub fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The object is new.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone; its last state is the change's object.
    Deleted,
}

/// One change, with the state before and after it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The resourceVersion this change made.
    pub version: u64,
    /// What it did.
    pub change: Change,
    /// To which object.
    pub key: Key,
    /// The state after it (for a deletion: the last state, with the deletion's resourceVersion).
    pub object: Arc<Value>,
    /// The state before it.
    pub previous: Option<Arc<Value>>,
}

/// All objects, their history and their durable copy.
pub struct Storage {
    objects: BTreeMap<Key, Arc<Value>>,
    by_owner: HashMap<String, BTreeSet<Key>>,
    history: VecDeque<Record>,
    version: u64,
    compacted: u64,
    event_order: VecDeque<Key>,
    uids: HashMap<String, Key>,
    changes: Vec<(Key, Arc<Value>)>,
    persist: Option<Persist>,
}

impl Storage {
    /// Starts from the durable copy when there is one. Watches from before a restart are told 410, as by a restarted server.
    pub fn open(mut persist: Option<Persist>) -> Result<Self, String> {
        let mut storage = Self {
            objects: BTreeMap::new(),
            by_owner: HashMap::new(),
            history: VecDeque::new(),
            version: 1,
            compacted: 1,
            event_order: VecDeque::new(),
            uids: HashMap::new(),
            changes: Vec::new(),
            persist: None,
        };
        if let Some(persist) = &mut persist {
            storage.version = persist.reserve_versions(0)?.max(1);
            storage.compacted = storage.version;
            for object in persist.load()? {
                let Some(resource) = object["kind"].as_str().and_then(Resource::from_kind) else {
                    continue;
                };
                let key = Key::new(resource, object::namespace(&object), object::name(&object));
                let object = Arc::new(object);
                storage.index_owners(&key, &object);
                storage
                    .uids
                    .insert(object::uid(&object).to_owned(), key.clone());
                storage.changes.push((key.clone(), object.clone()));
                storage.objects.insert(key, object);
            }
        }
        storage.persist = persist;
        Ok(storage)
    }

    /// The latest resourceVersion given out.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The oldest resourceVersion from which changes are still known.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// The objects of a resource, in key order; all namespaces when `namespace` is none.
    pub fn list<'a>(
        &'a self,
        resource: Resource,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        let start = Key::new(resource, namespace.unwrap_or_default(), "");
        self.objects.range(start..).take_while(move |(key, _)| {
            key.resource == resource && namespace.is_none_or(|n| key.namespace == n)
        })
    }

    /// The objects as they were at `version`; none when that is older than the history.
    pub fn list_at(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        version: u64,
    ) -> Option<BTreeMap<Key, Arc<Value>>> {
        if version < self.compacted {
            return None;
        }
        let mut state: BTreeMap<Key, Arc<Value>> = self
            .list(resource, namespace)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        for record in self
            .history
            .iter()
            .rev()
            .take_while(|r| r.version > version)
        {
            if record.key.resource != resource
                || namespace.is_some_and(|n| record.key.namespace != n)
            {
                continue;
            }
            match &record.previous {
                Some(previous) => state.insert(record.key.clone(), previous.clone()),
                None => state.remove(&record.key),
            };
        }
        Some(state)
    }

    /// The changes after `version`, oldest first.
    pub fn since(&self, version: u64) -> impl Iterator<Item = &Record> {
        let start = self.history.partition_point(|r| r.version <= version);
        self.history.range(start..)
    }

    /// The keys of objects that name this UID as an owner.
    pub fn owned_by(&self, uid: &str) -> Vec<Key> {
        self.by_owner
            .get(uid)
            .map(|keys| keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    /// Where the live object with this UID is.
    pub fn by_uid(&self, uid: &str) -> Option<&Key> {
        self.uids.get(uid)
    }

    /// What changed since the last call, in order, each with its state then (the last one when it is gone). After opening:
    /// every object, so that controllers start from the whole truth.
    pub fn take_changes(&mut self) -> Vec<(Key, Arc<Value>)> {
        std::mem::take(&mut self.changes)
    }

    /// Stores an object, new or changed, under the next resourceVersion.
    pub fn put(&mut self, key: &Key, mut object: Value) -> Arc<Value> {
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let object = Arc::new(object);
        let previous = self.objects.insert(key.clone(), object.clone());
        self.uids
            .insert(object::uid(&object).to_owned(), key.clone());
        if let Some(previous) = &previous {
            self.unindex_owners(key, previous);
        }
        self.index_owners(key, &object);
        if key.resource == Resource::Event {
            self.bound_events(key, previous.is_none());
        } else if let Some(persist) = &mut self.persist {
            persist.put(key, &object);
        }
        let change = if previous.is_some() {
            Change::Modified
        } else {
            Change::Added
        };
        self.record(Record {
            version,
            change,
            key: key.clone(),
            object: object.clone(),
            previous,
        });
        object
    }

    /// Removes an object; answers its last state.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let previous = self.objects.remove(key)?;
        self.uids.remove(object::uid(&previous));
        self.unindex_owners(key, &previous);
        if key.resource != Resource::Event
            && let Some(persist) = &mut self.persist
        {
            persist.remove(key);
        }
        let version = self.next_version();
        let mut last = (*previous).clone();
        last["metadata"]["resourceVersion"] = json!(version.to_string());
        let last = Arc::new(last);
        let record = Record {
            version,
            change: Change::Deleted,
            key: key.clone(),
            object: last.clone(),
            previous: Some(previous),
        };
        self.record(record);
        Some(last)
    }

    /// Forgets all history up to now, as etcd's compaction does.
    pub fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.version;
    }

    /// Opens one durable transaction around everything up to [`Storage::commit`].
    pub fn begin(&mut self) {
        if let Some(persist) = &mut self.persist {
            persist.begin();
        }
    }

    /// Makes what was written since [`Storage::begin`] durable; an error here means that the answer must not go out.
    pub fn commit(&mut self) -> Result<(), String> {
        match &mut self.persist {
            Some(persist) => persist.commit(),
            None => Ok(()),
        }
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        if let Some(persist) = &mut self.persist {
            persist.use_version(self.version);
        }
        self.version
    }

    fn record(&mut self, record: Record) {
        if record.key.resource != Resource::Event {
            self.changes
                .push((record.key.clone(), record.object.clone()));
        }
        self.history.push_back(record);
        while self.history.len() > HISTORY_EVENTS {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.version;
            }
        }
    }

    fn bound_events(&mut self, key: &Key, new: bool) {
        if new {
            self.event_order.push_back(key.clone());
        }
        while self.event_order.len() > MAX_EVENT_OBJECTS {
            if let Some(oldest) = self.event_order.pop_front() {
                self.remove(&oldest);
            }
        }
    }

    fn index_owners(&mut self, key: &Key, object: &Value) {
        for owner in object::items(&object["metadata"]["ownerReferences"]) {
            if let Some(uid) = owner["uid"].as_str() {
                self.by_owner
                    .entry(uid.to_owned())
                    .or_default()
                    .insert(key.clone());
            }
        }
    }

    fn unindex_owners(&mut self, key: &Key, object: &Value) {
        for owner in object::items(&object["metadata"]["ownerReferences"]) {
            let Some(uid) = owner["uid"].as_str() else {
                continue;
            };
            if let Some(keys) = self.by_owner.get_mut(uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.by_owner.remove(uid);
                }
            }
        }
    }
}
