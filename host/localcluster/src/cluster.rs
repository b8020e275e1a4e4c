//! The cluster: storage, controllers and runner behind one synchronous door.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::clock::Clock;
use crate::ids::Ids;
use crate::object;
use crate::persist::Persist;
use crate::resources::Resource;
use crate::runner::Runner;
use crate::storage::{Key, Storage};
use crate::{gc, job_controller, pod_lifecycle};

/// Rounds of reconciling in one [`Cluster::tick`]; far more than any chain of causes needs, so more means a bug.
const MAX_ROUNDS: usize = 1_000;

/// Settings of a cluster.
#[derive(Debug, Clone, Default)]
pub struct ClusterConfig {
    /// Where objects are kept; in memory only when none.
    pub state_file: Option<PathBuf>,
    /// Seed of names and UIDs.
    pub seed: u64,
}

/// An embedded Kubernetes: give it requests with [`Cluster::handle`], let it work with [`Cluster::tick`].
///
/// Controllers run only inside `tick`, which says when it wants to be called next; it also has to be called after requests that
/// change something and when the runner has news.
pub struct Cluster {
    pub(crate) storage: Storage,
    pub(crate) clock: Box<dyn Clock>,
    pub(crate) ids: Ids,
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) timers: BTreeSet<(Timestamp, Key)>,
    pub(crate) pods: HashMap<String, pod_lifecycle::PodMemory>,
    /// Pods that wait for a ConfigMap or Secret.
    pub(crate) waiting: BTreeSet<Key>,
    pub(crate) commands: Vec<pod_lifecycle::Command>,
    pub(crate) shutting_down: bool,
}

impl Cluster {
    /// Opens the state and takes over what was running when it was last closed, or killed.
    pub fn open(
        config: &ClusterConfig,
        clock: Box<dyn Clock>,
        runner: Box<dyn Runner>,
    ) -> Result<Self, String> {
        let persist = config
            .state_file
            .as_deref()
            .map(Persist::open)
            .transpose()?;
        let storage = Storage::open(persist)?;
        let mut cluster = Self {
            storage,
            clock,
            ids: Ids::new(config.seed),
            runner,
            timers: BTreeSet::new(),
            pods: HashMap::new(),
            waiting: BTreeSet::new(),
            commands: Vec::new(),
            shutting_down: false,
        };
        let keep: HashSet<String> = cluster
            .storage
            .list(Resource::Pod, None)
            .map(|(_, pod)| object::uid(pod).to_owned())
            .collect();
        cluster.runner.sweep(&keep);
        Ok(cluster)
    }

    /// The present moment by the cluster's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The latest resourceVersion.
    pub fn version(&self) -> u64 {
        self.storage.version()
    }

    /// Forgets the history, so that older watches and pages get 410.
    pub fn compact(&mut self) {
        self.storage.compact();
    }

    /// Lets controllers and pods go on until nothing more is due; answers when to call again at the latest.
    pub fn tick(&mut self) -> Result<Option<Timestamp>, String> {
        for _ in 0..MAX_ROUNDS {
            let now = self.now();
            self.storage.begin();
            let news = self.runner.poll(now);
            let mut busy = !news.is_empty();
            for event in news {
                pod_lifecycle::runner_event(self, event, now);
            }
            let due = self.due(now);
            busy |= !due.is_empty();
            self.storage.commit()?;
            // Pods start only once the objects that say so are durable.
            for command in std::mem::take(&mut self.commands) {
                busy = true;
                self.execute(command, now);
            }
            if !busy {
                let runner = self.runner.next_wake();
                let timer = self.timers.first().map(|(at, _)| *at);
                return Ok(runner.into_iter().chain(timer).min());
            }
            self.storage.begin();
            due.iter().for_each(|key| self.reconcile(key, now));
            self.storage.commit()?;
        }
        Err("the controllers do not come to rest".to_owned())
    }

    /// The keys to look at: what changed, what that concerns, and whose time has come.
    fn due(&mut self, now: Timestamp) -> Vec<Key> {
        let mut due = BTreeSet::new();
        for (key, object) in self.storage.take_changes() {
            for owner in object::items(&object["metadata"]["ownerReferences"]) {
                if let Some(owner) = owner["uid"]
                    .as_str()
                    .and_then(|uid| self.storage.by_uid(uid))
                {
                    due.insert(owner.clone());
                }
            }
            if matches!(key.resource, Resource::ConfigMap | Resource::Secret) {
                due.extend(
                    self.waiting
                        .iter()
                        .filter(|pod| pod.namespace == key.namespace)
                        .cloned(),
                );
            }
            let uid = object::uid(&object);
            if self.storage.by_uid(uid).is_none() {
                pod_lifecycle::gone(self, uid);
                due.extend(self.storage.owned_by(uid));
            }
            due.insert(key);
        }
        while let Some((at, _)) = self.timers.first()
            && *at <= now
        {
            due.extend(self.timers.pop_first().map(|(_, key)| key));
        }
        due.into_iter().collect()
    }

    fn reconcile(&mut self, key: &Key, now: Timestamp) {
        gc::reconcile(self, key, now);
        match key.resource {
            Resource::Job => job_controller::reconcile(self, key, now),
            Resource::Pod => pod_lifecycle::reconcile(self, key, now),
            _ => {}
        }
    }

    fn execute(&mut self, command: pod_lifecycle::Command, now: Timestamp) {
        match command {
            pod_lifecycle::Command::Start(pod) => self.runner.start(*pod, now),
            pod_lifecycle::Command::Stop { uid, grace_seconds } => {
                self.runner.stop(&uid, grace_seconds, now)
            }
            pod_lifecycle::Command::Forget { uid } => self.runner.forget(&uid),
        }
    }

    /// Ends every pod as a node does that shuts down gracefully; keep calling [`Cluster::tick`] until [`Cluster::idle`].
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
        let now = self.now();
        self.storage.begin();
        let pods: Vec<Key> = self
            .storage
            .list(Resource::Pod, None)
            .map(|(key, _)| key.clone())
            .collect();
        for key in pods {
            pod_lifecycle::shut_down(self, &key, now);
        }
        if let Err(error) = self.storage.commit() {
            eprintln!("localcluster: {error}");
        }
    }

    /// Whether no pod runs.
    pub fn idle(&self) -> bool {
        self.pods.values().all(|pod| !pod.running())
    }

    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.storage.get(key).cloned()
    }

    /// Looks at this key again at that time.
    pub(crate) fn wake_at(&mut self, at: Timestamp, key: &Key) {
        self.timers.insert((at, key.clone()));
    }

    /// Changes an object through a function; writes only when it says that it changed something.
    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Value) -> bool) -> bool {
        let Some(object) = self.storage.get(key) else {
            return false;
        };
        let mut object = (**object).clone();
        if !change(&mut object) {
            return false;
        }
        self.storage.put(key, object);
        gc::remove_if_released(self, key);
        true
    }
}
