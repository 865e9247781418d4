//! Resolutions to the next snapshot, re-encoding only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::load_assignment::{Difference, Endpoints};
use super::{ClusterName, ClusterSpec, Resource, ResourceType, Snapshot, cluster};
use crate::model::{Presence, ServiceName};
use crate::policy::{Decision, Protocol, Resolution, ServiceSettings, Urgency};

/// The names whose resource is another one, or none, since the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub clusters: BTreeSet<Arc<str>>,
    pub endpoints: BTreeSet<Arc<str>>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty() && self.endpoints.is_empty()
    }

    pub fn of(&self, kind: ResourceType) -> &BTreeSet<Arc<str>> {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoint => &self.endpoints,
        }
    }
}

#[derive(Debug)]
struct Published {
    spec: ClusterSpec,
    endpoints: Endpoints,
}

/// One view of a service: itself, or one of the protocols of its instances.
struct View<'a> {
    name: ClusterName,
    scheme: Option<Arc<str>>,
    resolution: &'a Resolution,
}

impl View<'_> {
    fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.resolution
            .published()
            .filter(|decision| match (&self.scheme, &decision.endpoint.scheme) {
                (None, _) | (_, None) => true,
                (Some(wanted), Some(scheme)) => wanted == scheme,
            })
    }
}

/// The only writer of snapshots.
#[derive(Debug, Default)]
pub struct Builder {
    snapshot: Snapshot,
    clusters: BTreeMap<ClusterName, Published>,
    clusters_by_service: BTreeMap<ServiceName, Vec<ClusterName>>,
}

impl Builder {
    /// How soon a resolution must go out, or `None` when Envoy would not notice it.
    pub fn urgency(&self, resolution: &Resolution, settings: &ServiceSettings) -> Option<Urgency> {
        if resolution.listed == Presence::Unknown {
            return None;
        }
        let views = views(resolution, settings);
        let names: Vec<&ClusterName> = views.iter().map(|view| &view.name).collect();
        let held: Vec<&ClusterName> = self
            .clusters_by_service
            .get(&resolution.service)
            .into_iter()
            .flatten()
            .collect();
        if names != held {
            return Some(Urgency::Now);
        }
        let spec = ClusterSpec::from(settings);
        let mut urgency = None;
        for view in &views {
            match self.clusters.get(&view.name) {
                Some(published) if published.spec == spec => match published.endpoints.difference(view.decisions()) {
                    Difference::None => {}
                    Difference::Weights => urgency = urgency.max(Some(Urgency::Weights)),
                    Difference::More => return Some(Urgency::Now),
                },
                Some(_) | None => return Some(Urgency::Now),
            }
        }
        urgency
    }

    /// Puts a resolution into the next snapshot and notes what it changed. A service that is unknown stays as it is.
    pub fn put(&mut self, resolution: &Resolution, settings: &ServiceSettings, changes: &mut Changes) {
        if resolution.listed == Presence::Unknown {
            return;
        }
        let views = views(resolution, settings);
        let names: Vec<ClusterName> = views.iter().map(|view| view.name.clone()).collect();
        let former = match names.is_empty() {
            true => self.clusters_by_service.remove(&resolution.service),
            false => self
                .clusters_by_service
                .insert(resolution.service.clone(), names.clone()),
        };
        for name in former.into_iter().flatten().filter(|name| !names.contains(name)) {
            self.remove(&name, changes);
        }
        for view in views {
            self.put_view(&view, ClusterSpec::from(settings), changes);
        }
    }

    fn put_view(&mut self, view: &View<'_>, spec: ClusterSpec, changes: &mut Changes) {
        let name = view.name.to_shared();
        let published = self.clusters.entry(view.name.clone()).or_insert_with(|| Published {
            spec,
            endpoints: Endpoints::default(),
        });
        published.spec = spec;
        let body = cluster::encode(&view.name, spec);
        let cluster = Resource::new(ResourceType::Cluster, name.clone(), body, None);
        let body = published.endpoints.encode(&view.name, view.decisions());
        // The version of an assignment mixes in its cluster's: Envoy waits for the endpoints of a cluster that changed
        // without asking for them (https://github.com/envoyproxy/envoy/issues/13009).
        let assignment = Resource::new(ResourceType::Endpoint, name, body, Some(cluster.version));
        if set(&mut self.snapshot.clusters, cluster) {
            changes.clusters.insert(view.name.to_shared());
        }
        if set(&mut self.snapshot.endpoints, assignment) {
            changes.endpoints.insert(view.name.to_shared());
        }
    }

    fn remove(&mut self, name: &ClusterName, changes: &mut Changes) {
        self.clusters.remove(name);
        if self.snapshot.clusters.remove_mut(name.as_str()) {
            changes.clusters.insert(name.to_shared());
        }
        if self.snapshot.endpoints.remove_mut(name.as_str()) {
            changes.endpoints.insert(name.to_shared());
        }
    }

    /// Whether clients may be answered, and whether absence proves anything.
    pub fn set_certainty(&mut self, answering: bool, complete: bool) {
        self.snapshot.answering = answering;
        self.snapshot.complete = complete;
    }

    /// The clusters of a service, its own first.
    pub fn clusters_of(&self, service: &ServiceName) -> &[ClusterName] {
        self.clusters_by_service.get(service).map_or(&[], Vec::as_slice)
    }

    /// The next snapshot.
    pub fn publish(&mut self) -> Snapshot {
        self.snapshot.serial += 1;
        self.snapshot.clone()
    }
}

/// Replaces a resource unless it is the same, and says whether it did.
fn set(table: &mut super::Table, resource: Resource) -> bool {
    let same = table
        .get(&resource.name)
        .is_some_and(|held| held.version == resource.version);
    if !same {
        table.insert_mut(resource.name.clone(), Arc::new(resource));
    }
    !same
}

/// The clusters of a service: its own, and where instances register several protocols one more a protocol.
fn views<'a>(resolution: &'a Resolution, settings: &ServiceSettings) -> Vec<View<'a>> {
    if resolution.listed != Presence::Known(true) {
        return Vec::new();
    }
    let schemes = resolution.schemes();
    let own = preferred(&schemes, settings.protocol);
    let view = |scheme: Option<Arc<str>>, suffix: Option<&str>| {
        ClusterName::derive(&resolution.service, suffix).map(|name| View {
            name,
            scheme,
            resolution,
        })
    };
    let mut views: Vec<View<'a>> = view(own, None).into_iter().collect();
    views.extend(
        schemes
            .iter()
            .filter_map(|scheme| view(Some(scheme.clone()), Some(scheme))),
    );
    views
}

/// The protocol that a service's own cluster takes: what its settings say it speaks, else the first by name.
fn preferred(schemes: &BTreeSet<Arc<str>>, protocol: Protocol) -> Option<Arc<str>> {
    let wanted: &[&str] = match protocol {
        Protocol::Http1 | Protocol::Http2 => &["http", "https"],
        Protocol::Grpc => &["grpc", "grpcs"],
        Protocol::Tcp => &["tcp"],
    };
    wanted
        .iter()
        .find_map(|wanted| schemes.get(*wanted))
        .or_else(|| schemes.first())
        .cloned()
}

#[cfg(test)]
mod tests;
