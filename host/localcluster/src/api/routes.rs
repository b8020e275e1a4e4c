//! URLs of resources.

use crate::resources::Resource;
use crate::storage::Key;

/// A collection: one resource, in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The resource.
    pub resource: Resource,
    /// The namespace; none for all of them.
    pub namespace: Option<String>,
}

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A collection.
    Collection(Place),
    /// One object.
    Object(Key),
    /// The status of one object.
    Status(Key),
    /// The log of a pod.
    Log(Key),
    /// The admin endpoint that forgets the history; tests use it to see 410.
    Compact,
}

/// Reads a path; none when it names no resource served here.
pub fn parse(path: &str) -> Option<Route> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["localcluster", "compact"] => return Some(Route::Compact),
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", "batch", "v1", rest @ ..] => ("batch", rest),
        _ => return None,
    };
    let resource = |plural: &str| Resource::find(group, plural);
    match rest {
        ["namespaces"] => Some(Route::Collection(Place {
            resource: resource("namespaces")?,
            namespace: None,
        })),
        ["namespaces", name] => Some(Route::Object(Key::new(resource("namespaces")?, "", name))),
        ["namespaces", namespace, plural] => Some(Route::Collection(Place {
            resource: namespaced(resource(plural)?)?,
            namespace: Some((*namespace).to_owned()),
        })),
        ["namespaces", namespace, plural, name] => Some(Route::Object(Key::new(
            namespaced(resource(plural)?)?,
            namespace,
            name,
        ))),
        ["namespaces", namespace, plural, name, sub] => {
            let key = Key::new(namespaced(resource(plural)?)?, namespace, name);
            match (*sub, key.resource) {
                ("log", Resource::Pod) => Some(Route::Log(key)),
                ("status", Resource::Pod | Resource::Job) => Some(Route::Status(key)),
                _ => None,
            }
        }
        [plural] => Some(Route::Collection(Place {
            resource: namespaced(resource(plural)?)?,
            namespace: None,
        })),
        _ => None,
    }
}

fn namespaced(resource: Resource) -> Option<Resource> {
    resource.namespaced().then_some(resource)
}
