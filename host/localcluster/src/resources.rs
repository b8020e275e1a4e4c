//! The resources served, with their names in URLs, objects and messages.

/// One kind of object. Anything else answers 404 as on a server without that API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `batch/v1` Job.
    Job,
    /// `v1` Pod.
    Pod,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `v1` Secret.
    Secret,
    /// `v1` Event.
    Event,
    /// `v1` Namespace: cluster-scoped, and any name exists implicitly.
    Namespace,
}

impl Resource {
    /// Every resource, in the order of discovery.
    pub const ALL: [Resource; 6] = [
        Resource::Job,
        Resource::Pod,
        Resource::ConfigMap,
        Resource::Secret,
        Resource::Event,
        Resource::Namespace,
    ];

    /// The plural name in URLs.
    pub fn plural(self) -> &'static str {
        match self {
            Resource::Job => "jobs",
            Resource::Pod => "pods",
            Resource::ConfigMap => "configmaps",
            Resource::Secret => "secrets",
            Resource::Event => "events",
            Resource::Namespace => "namespaces",
        }
    }

    /// The kind in objects.
    pub fn kind(self) -> &'static str {
        match self {
            Resource::Job => "Job",
            Resource::Pod => "Pod",
            Resource::ConfigMap => "ConfigMap",
            Resource::Secret => "Secret",
            Resource::Event => "Event",
            Resource::Namespace => "Namespace",
        }
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Resource::Job => "batch",
            _ => "",
        }
    }

    /// `apiVersion` in objects.
    pub fn api_version(self) -> &'static str {
        match self {
            Resource::Job => "batch/v1",
            _ => "v1",
        }
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(self) -> bool {
        self != Resource::Namespace
    }

    /// The resource as messages name it: `jobs.batch`, `pods`.
    pub fn qualified_plural(self) -> String {
        self.qualify(self.plural())
    }

    /// The kind as messages name it: `Job.batch`, `Pod`.
    pub fn qualified_kind(self) -> String {
        self.qualify(self.kind())
    }

    fn qualify(self, name: &str) -> String {
        if self.group().is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{}", self.group())
        }
    }

    /// The resource with this plural name in this group.
    pub fn find(group: &str, plural: &str) -> Option<Resource> {
        Resource::ALL
            .into_iter()
            .find(|r| r.group() == group && r.plural() == plural)
    }

    /// The resource with this kind, for reading stored objects back.
    pub fn from_kind(kind: &str) -> Option<Resource> {
        Resource::ALL.into_iter().find(|r| r.kind() == kind)
    }
}
