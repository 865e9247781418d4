//! Resolutions to the next snapshot, re-encoding only what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::load_assignment::{Difference, Endpoints};
use super::{ClusterName, ClusterSpec, Held, Resource, ResourceType, Snapshot, cluster, service_entry};
use crate::model::{Presence, ServiceName};
use crate::policy::{Decision, Protocol, Resolution, ServiceSettings, Urgency};

/// The names whose resource is another one, or none, since the last snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub clusters: BTreeSet<Arc<str>>,
    pub endpoints: BTreeSet<Arc<str>>,
    /// Names whose listener or route is another one, or none.
    pub routes: BTreeSet<Arc<str>>,
    pub service_entries: BTreeSet<Arc<str>>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        let Self {
            clusters,
            endpoints,
            routes,
            service_entries,
        } = self;
        [clusters, endpoints, routes, service_entries]
            .into_iter()
            .all(BTreeSet::is_empty)
    }

    pub fn of(&self, kind: ResourceType) -> &BTreeSet<Arc<str>> {
        match kind {
            ResourceType::Cluster => &self.clusters,
            ResourceType::Endpoint => &self.endpoints,
            ResourceType::Listener | ResourceType::Route => &self.routes,
            ResourceType::ServiceEntry => &self.service_entries,
        }
    }

    /// Notes what of a name is another one now, and says whether anything is.
    fn note(&mut self, name: &Arc<str>, former: Option<&Held>, now: Option<&Held>) -> bool {
        let version = |held: Option<&Held>, kind| held?.kept(kind).map(|resource| resource.version);
        let differs = |kind| version(former, kind) != version(now, kind);
        let timeout = |held: Option<&Held>| held.map(|held| held.timeout);
        let differences = [
            (&mut self.clusters, differs(ResourceType::Cluster)),
            (&mut self.endpoints, differs(ResourceType::Endpoint)),
            (&mut self.routes, timeout(former) != timeout(now)),
            (&mut self.service_entries, differs(ResourceType::ServiceEntry)),
        ];
        let mut any = false;
        for (names, differs) in differences {
            any |= differs;
            if differs {
                names.insert(name.clone());
            }
        }
        any
    }
}

/// More clusters than any Envoy bears, and fewer than the names a client may subscribe to.
pub const MAX_CLUSTERS: usize = 50_000;

#[derive(Debug)]
struct Published {
    spec: ClusterSpec,
    endpoints: Endpoints,
}

/// The clusters of one service.
#[derive(Debug, Default)]
struct Family {
    /// Its own first.
    clusters: Vec<ClusterName>,
    /// Every protocol that was ever published for it: its cluster stays, empty, when its last instance goes.
    schemes: BTreeSet<Arc<str>>,
}

/// One view of a service: itself, or one of the protocols of its instances.
struct View<'a> {
    name: ClusterName,
    scheme: Option<Arc<str>>,
    spec: ClusterSpec,
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
    families: BTreeMap<ServiceName, Family>,
}

impl Builder {
    /// How soon a resolution must go out, or `None` when nobody would notice it.
    pub fn urgency(&self, resolution: &Resolution, settings: &ServiceSettings) -> Option<Urgency> {
        let family = self.families.get(&resolution.service);
        let unsure = self.is_unsure(resolution);
        if unsure != self.was_unsure(&resolution.service) {
            return Some(Urgency::Now);
        }
        if resolution.listed == Presence::Unknown {
            return None;
        }
        let views = self.views(resolution, settings);
        let names: Vec<&ClusterName> = views.iter().map(|view| &view.name).collect();
        let held: Vec<&ClusterName> = family.iter().flat_map(|family| &family.clusters).collect();
        if names != held {
            return Some(Urgency::Now);
        }
        let mut urgency = None;
        for view in &views {
            match self.clusters.get(&view.name) {
                Some(published) if published.spec == view.spec => {
                    match published.endpoints.difference(view.decisions()) {
                        Difference::None => {}
                        Difference::Weights => urgency = urgency.max(Some(Urgency::Weights)),
                        Difference::More => return Some(Urgency::Now),
                    }
                }
                Some(_) | None => return Some(Urgency::Now),
            }
        }
        urgency
    }

    /// Puts a resolution into the next snapshot and notes what it changed. A service that is unknown stays as it is.
    pub fn put(&mut self, resolution: &Resolution, settings: &ServiceSettings, changes: &mut Changes) {
        self.put_unsure(resolution, changes);
        if resolution.listed == Presence::Unknown {
            return;
        }
        let views = self.views(resolution, settings);
        let names: Vec<ClusterName> = views.iter().map(|view| view.name.clone()).collect();
        let former = self.families.remove(&resolution.service).unwrap_or_default();
        for name in former.clusters.iter().filter(|name| !names.contains(name)) {
            self.remove(name, changes);
        }
        if !names.is_empty() {
            let schemes = schemes(resolution, Some(&former));
            self.families.insert(
                resolution.service.clone(),
                Family {
                    clusters: names,
                    schemes,
                },
            );
        }
        for view in views {
            self.put_view(&view, changes);
        }
    }

    /// A service that is listed, of which nothing could ever be read.
    fn is_unsure(&self, resolution: &Resolution) -> bool {
        resolution.listed == Presence::Unknown && !self.families.contains_key(&resolution.service)
    }

    fn was_unsure(&self, service: &ServiceName) -> bool {
        ClusterName::derive(service, None).is_some_and(|name| self.snapshot.unsure.contains(name.as_str()))
    }

    /// Whoever asked for a name of which nothing was sure has to look again when something is.
    fn put_unsure(&mut self, resolution: &Resolution, changes: &mut Changes) {
        let Some(name) = ClusterName::derive(&resolution.service, None) else {
            return;
        };
        if self.is_unsure(resolution) {
            self.snapshot.unsure.insert_mut(name.to_shared());
        } else if self.snapshot.unsure.remove_mut(name.as_str()) {
            changes.clusters.insert(name.to_shared());
            changes.endpoints.insert(name.to_shared());
            changes.routes.insert(name.to_shared());
        }
    }

    fn put_view(&mut self, view: &View<'_>, changes: &mut Changes) {
        // Every stream shares a name, for as long as there is one.
        let name = self.snapshot.share(view.name.as_str());
        let published = self.clusters.entry(view.name.clone()).or_insert_with(|| Published {
            spec: view.spec.clone(),
            endpoints: Endpoints::default(),
        });
        published.spec = view.spec.clone();
        let body = cluster::encode(&view.name, &view.spec);
        let cluster = Resource::new(ResourceType::Cluster, name.clone(), body, None);
        let body = published
            .endpoints
            .encode(&view.name, view.decisions(), view.spec.weight_localities);
        // The version of an assignment mixes in its cluster's: Envoy waits for the endpoints of a cluster that changed
        // without asking for them (https://github.com/envoyproxy/envoy/issues/13009).
        let assignment = Resource::new(ResourceType::Endpoint, name.clone(), body, Some(cluster.version));
        let entry = service_entry::encode(&view.name, &view.spec, published.endpoints.told());
        let service_entry = entry.map(|body| Resource::new(ResourceType::ServiceEntry, name.clone(), body, None));
        let held = Held {
            cluster: Arc::new(cluster),
            endpoints: Arc::new(assignment),
            timeout: view.spec.timeout,
            service_entry: service_entry.map(Arc::new),
        };
        let former = self.snapshot.held.get(&name);
        if changes.note(&name, former, Some(&held)) {
            if former.is_none() {
                self.snapshot.names.insert_mut(name.clone());
            }
            self.snapshot.held.insert_mut(name, held);
        }
    }

    fn remove(&mut self, name: &ClusterName, changes: &mut Changes) {
        self.clusters.remove(name);
        changes.note(&name.to_shared(), self.snapshot.held.get(name.as_str()), None);
        self.snapshot.names.remove_mut(name.as_str());
        self.snapshot.held.remove_mut(name.as_str());
    }

    /// Whether clients may be answered, and whether absence proves anything.
    pub fn set_certainty(&mut self, answering: bool, complete: bool) {
        self.snapshot.answering = answering;
        self.snapshot.complete = complete;
    }

    /// The clusters of a service, its own first.
    pub fn clusters_of(&self, service: &ServiceName) -> &[ClusterName] {
        self.families
            .get(service)
            .map_or(&[], |family| family.clusters.as_slice())
    }

    /// Every service with a cluster.
    pub fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.families.keys()
    }

    /// Whether there is no room for another cluster.
    pub fn is_full(&self) -> bool {
        self.clusters.len() >= MAX_CLUSTERS
    }

    /// The next snapshot.
    pub fn publish(&mut self) -> Snapshot {
        self.snapshot.serial += 1;
        self.snapshot.clone()
    }

    /// The clusters that a service should have: its own, and where instances name several protocols one more a protocol.
    /// A cluster for which there is no room, or whose name would be too long, is not among them.
    fn views<'a>(&self, resolution: &'a Resolution, settings: &ServiceSettings) -> Vec<View<'a>> {
        if resolution.listed != Presence::Known(true) {
            return Vec::new();
        }
        let mut schemes = schemes(resolution, self.families.get(&resolution.service));
        if schemes.len() == 1 {
            schemes.clear();
        }
        let own = ClusterSpec::from(settings);
        let view = |scheme: Option<Arc<str>>, suffix: Option<&str>, spec: ClusterSpec| {
            let name = ClusterName::derive(&resolution.service, suffix)?;
            let room = self.clusters.contains_key(&name) || !self.is_full();
            room.then_some(View {
                name,
                scheme,
                spec,
                resolution,
            })
        };
        let current = resolution.schemes().cloned().collect();
        let preferred = preferred(&current, settings.protocol).or_else(|| preferred(&schemes, settings.protocol));
        let mut views: Vec<View<'a>> = view(preferred.filter(|_| !schemes.is_empty()), None, own.clone())
            .into_iter()
            .collect();
        let others = schemes.iter().filter_map(|scheme| {
            let spec = ClusterSpec {
                protocol: spoken(scheme, settings.protocol),
                ..own.clone()
            };
            view(Some(scheme.clone()), Some(scheme), spec)
        });
        views.extend(others);
        views
    }
}

/// The protocols a service has had and has.
fn schemes(resolution: &Resolution, former: Option<&Family>) -> BTreeSet<Arc<str>> {
    let former = former.into_iter().flat_map(|family| &family.schemes);
    resolution.schemes().chain(former).cloned().collect()
}

/// What the instances that registered under a protocol speak, as far as its name says; else what the settings say.
fn spoken(scheme: &str, settings: Protocol) -> Protocol {
    match (scheme, settings) {
        ("grpc" | "grpcs", _) => Protocol::Grpc,
        // Dubbo's Triple is HTTP/2.
        ("h2c" | "http2" | "tri", _) => Protocol::Http2,
        ("http" | "https", Protocol::Grpc | Protocol::Tcp) => Protocol::Http1,
        ("tcp" | "dubbo", _) => Protocol::Tcp,
        _ => settings,
    }
}

/// The protocol that a service's own cluster takes: what its settings say it speaks, else the first by name. Protocols
/// that have instances go before those that only had some: the cluster is not empty while an instance is there.
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
