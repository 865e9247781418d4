//! What Envoy is to hold: encoded once, when it changes, and shared by every stream.
//!
//! A [`Snapshot`] is immutable, and clusters and their endpoints in it are of one instant. The [`Builder`] is its only
//! writer.

mod api_listener;
mod builder;
mod cluster;
mod load_assignment;
pub mod pb;
mod resource;
mod service_entry;

pub use builder::{Builder, Changes, MAX_CLUSTERS};
pub use cluster::{ClusterName, ClusterSpec};
pub use resource::{PerType, Resource, ResourceType, Version};

use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use rpds::{HashTrieMapSync, RedBlackTreeSetSync};

/// What is published under one name.
#[derive(Clone, Debug)]
struct Held {
    cluster: Arc<Resource>,
    endpoints: Arc<Resource>,
    /// What its route says beside the name of the cluster.
    timeout: Duration,
    /// There for the services that Istio is told of.
    service_entry: Option<Arc<Resource>>,
}

/// Everything that is published at one instant. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// A stream looks for a name for each name it was asked for: that is not to depend on how many there are.
    held: HashTrieMapSync<Arc<str>, Held, RandomState>,
    /// The same names, in order.
    names: RedBlackTreeSetSync<Arc<str>>,
    unsure: RedBlackTreeSetSync<Arc<str>>,
    serial: u64,
    answering: bool,
    complete: bool,
}

impl Held {
    /// What is kept encoded of it; listeners and routes are made anew for each who asks.
    fn kept(&self, kind: ResourceType) -> Option<&Arc<Resource>> {
        match kind {
            ResourceType::Cluster => Some(&self.cluster),
            ResourceType::Endpoint => Some(&self.endpoints),
            ResourceType::ServiceEntry => self.service_entry.as_ref(),
            ResourceType::Listener | ResourceType::Route => None,
        }
    }

    fn make(&self, kind: ResourceType) -> Option<Resource> {
        let name = &self.cluster.name;
        let body = match kind {
            ResourceType::Listener => api_listener::listener(name),
            ResourceType::Route => api_listener::route(name, self.timeout),
            ResourceType::Cluster | ResourceType::Endpoint | ResourceType::ServiceEntry => return None,
        };
        Some(Resource::new(kind, name.clone(), body, None))
    }
}

impl Snapshot {
    /// A resource by its name.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        let held = self.held.get(name)?;
        held.kept(kind).cloned().or_else(|| held.make(kind).map(Arc::new))
    }

    /// A name, shared with the resources that have it: a stream keeps every name it was asked for.
    pub fn share(&self, name: &str) -> Arc<str> {
        let held = self.held.get(name);
        held.map_or_else(|| name.into(), |held| held.cluster.name.clone())
    }

    /// Every resource that a client is given without having named it, in the order of the names.
    pub fn all(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.names
            .iter()
            .filter_map(move |name| self.held.get(name)?.kept(kind))
    }

    /// How many clusters there are: as many as there are assignments, listeners and routes.
    pub fn len(&self) -> usize {
        self.held.size()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Counts publications: `system_version_info`, which no client compares.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Whether clients may be answered at all: every source has answered, or the time to wait for them is over.
    pub fn is_answering(&self) -> bool {
        self.answering
    }

    /// Whether what is not here does not exist. While a source has not answered, absence proves nothing.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether a cluster of this name may exist although it is not here: its service is listed, and nothing that is listed
    /// for it could be read.
    pub fn is_unsure(&self, name: &str) -> bool {
        let service = name.rsplit_once('@').map(|(service, _)| service);
        self.unsure.contains(name) || service.is_some_and(|service| self.unsure.contains(service))
    }
}
