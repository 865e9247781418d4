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
pub use resource::{Resource, ResourceType, Version};

use std::sync::Arc;
use std::time::Duration;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

type Table = RedBlackTreeMapSync<Arc<str>, Arc<Resource>>;

/// Everything that is published at one instant. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    clusters: Table,
    endpoints: Table,
    /// What a route says beside the name of its cluster; every cluster has one.
    routes: RedBlackTreeMapSync<Arc<str>, Duration>,
    /// The entries of the services that Istio is told of.
    service_entries: Table,
    unsure: RedBlackTreeSetSync<Arc<str>>,
    serial: u64,
    answering: bool,
    complete: bool,
}

impl Snapshot {
    /// A resource by its name. Listeners and routes are made anew for each who asks.
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Resource>> {
        let body = match kind {
            ResourceType::Cluster => return self.clusters.get(name).cloned(),
            ResourceType::Endpoint => return self.endpoints.get(name).cloned(),
            ResourceType::ServiceEntry => return self.service_entries.get(name).cloned(),
            ResourceType::Listener => api_listener::listener(self.routes.get_key_value(name)?.0),
            ResourceType::Route => api_listener::route(name, *self.routes.get(name)?),
        };
        let name = self.routes.get_key_value(name)?.0.clone();
        Some(Arc::new(Resource::new(kind, name, body, None)))
    }

    /// A name, shared with the resources that have it: a stream keeps every name it was asked for.
    pub fn share(&self, name: &str) -> Arc<str> {
        let held = self.routes.get_key_value(name);
        held.map_or_else(|| name.into(), |(held, _)| held.clone())
    }

    /// Every resource that a client is given without having named it, in the order of the names.
    pub fn all(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        let table = match kind {
            ResourceType::Cluster => Some(&self.clusters),
            ResourceType::Endpoint => Some(&self.endpoints),
            ResourceType::ServiceEntry => Some(&self.service_entries),
            ResourceType::Listener | ResourceType::Route => None,
        };
        table.into_iter().flat_map(RedBlackTreeMapSync::values)
    }

    /// How many clusters there are: as many as there are assignments, listeners and routes.
    pub fn len(&self) -> usize {
        self.clusters.size()
    }

    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
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
