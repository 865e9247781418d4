//! What the controller owns, without waiting: events and time in, snapshots out.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_core::model::{Catalog, ChangeSet, Endpoint, Presence, Rejection, ServiceName, SourceName};
use leadsman_core::policy::{Pace, Resolution, ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes, ClusterName, ResourceType, Snapshot};
use leadsman_registry::{Event, SourceEvent};

use super::Settings;
use crate::config::Services;

/// Something to publish.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Changes,
    pub(crate) certainty: bool,
}

/// A service in the list of all.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) name: ServiceName,
    pub(crate) clusters: Vec<ClusterName>,
    pub(crate) resolution: Resolution,
    pub(crate) rejected: usize,
    pub(crate) version: Option<String>,
}

/// Everything about one service.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) settings: ServiceSettings,
    pub(crate) clusters: Vec<ClusterName>,
    pub(crate) resolution: Resolution,
    pub(crate) rejections: Vec<(SourceName, Rejection)>,
    /// Whether the newest weights, or in a storm the newest change, still wait for their turn.
    pub(crate) pending: bool,
    pub(crate) snapshot: Snapshot,
}

/// What the catalog knows of a source, beside its services.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Endpoints that a new epoch does not list and that are kept.
    pub(crate) held: usize,
    /// Records that belong to no service.
    pub(crate) unattributed: Vec<Rejection>,
}

#[derive(Debug)]
pub(super) struct State {
    catalog: Catalog,
    builder: Builder,
    services: Services,
    startup_wait: Duration,
    answering: bool,
    complete: bool,
    /// Services to decide about.
    changed: ChangeSet,
    /// Services whose changes wait for each other, and until when.
    waiting: BTreeMap<ServiceName, Duration>,
    paces: BTreeMap<ServiceName, Pace>,
    published: Snapshot,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        let Settings {
            sources,
            services,
            startup_wait,
        } = settings;
        Self {
            catalog: Catalog::new(sources),
            builder: Builder::default(),
            services,
            startup_wait,
            answering: false,
            complete: false,
            changed: ChangeSet::new(),
            waiting: BTreeMap::new(),
            paces: BTreeMap::new(),
            published: Snapshot::default(),
        }
    }

    pub(super) fn handle_event(&mut self, event: SourceEvent, now: Duration) {
        let SourceEvent { source, event, .. } = event;
        // What proves more than before may settle services that nobody lists any more.
        if matches!(event, Event::Resync { .. } | Event::Impaired { reason: None }) {
            self.changed.extend(self.builder.services().cloned());
        }
        let changed = match event {
            Event::Resync {
                services,
                unattributed,
                evidence,
                ..
            } => {
                log_rejections(&source, &unattributed);
                self.catalog.set_unattributed(&source, unattributed);
                self.catalog.resync(&source, services, &evidence, now)
            }
            Event::Apply { service, .. } => {
                log_rejections(&source, &service.rejections);
                self.catalog.apply(&source, service)
            }
            Event::Delete { name, .. } => self.catalog.delete(&source, name, now),
            Event::Impaired { reason: None } => {
                self.catalog.mend(&source);
                ChangeSet::new()
            }
            Event::Unattributed { rejections } => {
                log_rejections(&source, &rejections);
                self.catalog.set_unattributed(&source, rejections);
                ChangeSet::new()
            }
            Event::Progress { .. } | Event::Reconciled { .. } | Event::Impaired { reason: Some(_) } => ChangeSet::new(),
        };
        self.changed.extend(changed);
    }

    pub(super) fn reload(&mut self, services: Services) {
        self.services = services;
        self.changed.extend(self.catalog.services());
        self.changed.extend(self.builder.services().cloned());
    }

    pub(super) fn release(&mut self, source: &SourceName, now: Duration) -> usize {
        let held = self.catalog.held(source);
        self.changed.extend(self.catalog.release(source, now));
        self.changed.extend(self.builder.services().cloned());
        held
    }

    /// Decides about everything that is due, and returns what there is to publish.
    pub(super) fn advance(&mut self, now: Duration) -> Option<Next> {
        self.changed.extend(self.catalog.expire(now));
        let due = self
            .waiting
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(name, _)| name.clone());
        self.changed.extend(due.collect::<Vec<_>>());
        let certainty = self.update_certainty(now);
        let mut changes = Changes::default();
        for name in std::mem::take(&mut self.changed) {
            self.decide(name, now, &mut changes);
        }
        if changes.is_empty() && !certainty {
            return None;
        }
        self.published = self.builder.publish();
        Some(Next {
            snapshot: self.published.clone(),
            changes,
            certainty,
        })
    }

    fn decide(&mut self, name: ServiceName, now: Duration, changes: &mut Changes) {
        self.waiting.remove(&name);
        let settings = self.services.settings(&name);
        let resolution = resolve(&self.catalog, &name, &settings);
        let Some(urgency) = self.builder.urgency(&resolution, &settings) else {
            return;
        };
        let pace = self.paces.entry(name.clone()).or_default();
        let due = pace.due(urgency, now);
        if due > now {
            self.waiting.insert(name, due);
            return;
        }
        pace.published(now);
        self.builder.put(&resolution, &settings, changes);
        if resolution.listed == Presence::Known(true) && self.builder.clusters_of(&name).is_empty() {
            tracing::warn!(service = %name, full = self.builder.is_full(), "a service is not published: its name is too long, or there are too many clusters");
        }
        if resolution.listed == Presence::Known(false) {
            self.paces.remove(&name);
        }
    }

    /// The wait for the sources is bounded by the clock; what was answered once stays answered.
    fn update_certainty(&mut self, now: Duration) -> bool {
        let complete = self.catalog.is_complete();
        let waited = now >= self.startup_wait && self.catalog.is_informed();
        let answering = self.answering || self.catalog.is_synced() || waited;
        if complete && !self.complete {
            self.changed.extend(self.builder.services().cloned());
        }
        let news = (answering, complete) != (self.answering, self.complete);
        if news {
            (self.answering, self.complete) = (answering, complete);
            self.builder.set_certainty(answering, complete);
        }
        news
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let waiting = self.waiting.values().min().copied();
        let startup = (!self.answering && self.catalog.is_informed()).then_some(self.startup_wait);
        [waiting, startup, self.catalog.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn overview(&self) -> Vec<Overview> {
        let of = |name: ServiceName| {
            let resolution = resolve(&self.catalog, &name, &self.services.settings(&name));
            let clusters = self.builder.clusters_of(&name).to_vec();
            let rejected = self.rejections(&name).len();
            let version = clusters.first().and_then(|cluster| self.version(cluster));
            Overview {
                name,
                clusters,
                resolution,
                rejected,
                version,
            }
        };
        self.catalog.services().into_iter().map(of).collect()
    }

    pub(super) fn explain(&self, name: &ServiceName) -> Option<Subject> {
        if !self.catalog.knows(name) {
            return None;
        }
        let settings = self.services.settings(name);
        let resolution = resolve(&self.catalog, name, &settings);
        Some(Subject {
            settings,
            clusters: self.builder.clusters_of(name).to_vec(),
            resolution,
            rejections: self.rejections(name),
            pending: self.waiting.contains_key(name),
            snapshot: self.published.clone(),
        })
    }

    pub(super) fn contents(&self) -> BTreeMap<SourceName, Contents> {
        let of = |source: &SourceName| {
            let unattributed = self.catalog.unattributed(source).cloned().collect();
            let held = self.catalog.held(source);
            (source.clone(), Contents { held, unattributed })
        };
        self.catalog.sources().map(of).collect()
    }

    pub(super) fn listed(&self, source: &SourceName) -> Presence<BTreeMap<ServiceName, Vec<Endpoint>>> {
        match self.catalog.listed(source) {
            Presence::Unknown => Presence::Unknown,
            Presence::Known(services) => {
                let owned = services.into_iter();
                Presence::Known(
                    owned
                        .map(|(name, own)| (name, own.into_iter().cloned().collect()))
                        .collect(),
                )
            }
        }
    }

    fn rejections(&self, name: &ServiceName) -> Vec<(SourceName, Rejection)> {
        let of = |source: &SourceName| {
            let source = source.clone();
            let rejections = self.catalog.rejections(&source, name).to_vec();
            rejections.into_iter().map(move |rejection| (source.clone(), rejection))
        };
        self.catalog.sources().flat_map(of).collect()
    }

    fn version(&self, cluster: &ClusterName) -> Option<String> {
        let assignment = self.published.get(ResourceType::Endpoint, cluster.as_str())?;
        Some(assignment.version.to_string())
    }
}

/// Registries repeat their mistakes: what is wrong is shown by `explain`, and told to the log only on request.
fn log_rejections(source: &SourceName, rejections: &[Rejection]) {
    for rejection in rejections {
        tracing::debug!(%source, record = %rejection.provenance.record, reason = %rejection.reason, "record rejected");
    }
}

#[cfg(test)]
mod tests;
