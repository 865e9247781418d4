//! What Envoy is to hold: encoded once, when it changes, and shared by every stream.
//!
//! A [`Snapshot`] is immutable, and clusters and their endpoints in it are of one instant. The [`Builder`] is its only
//! writer.

mod builder;
mod cluster;
mod load_assignment;
pub mod pb;
mod resource;

pub use builder::{Builder, Changes, MAX_CLUSTERS};
pub use cluster::{ClusterName, ClusterSpec};
pub use resource::{Resource, ResourceType, Version};

use std::sync::Arc;

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

type Table = RedBlackTreeMapSync<Arc<str>, Arc<Resource>>;

/// Everything that is published at one instant. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    clusters: Table,
    endpoints: Table,
    unsure: RedBlackTreeSetSync<Arc<str>>,
    serial: u64,
    answering: bool,
    complete: bool,
}

impl Snapshot {
    pub fn get(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.table(kind).get(name)
    }

    /// Every resource of a type, in the order of the names.
    pub fn all(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.table(kind).values()
    }

    pub fn len(&self, kind: ResourceType) -> usize {
        self.table(kind).size()
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

    fn table(&self, kind: ResourceType) -> &Table {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoint => &self.endpoints,
        }
    }
}
