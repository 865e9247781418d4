//! What every source says about every service, at this moment.
//!
//! The catalog never confuses *unknown* with *empty*: a source that has not answered yet says nothing about any
//! service, and an endpoint leaves only when a source that can be believed stopped listing it.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use self::source::Source;
use super::{Address, Endpoint, Rejection, Service, ServiceName, SourceName};

/// How far an answer of a registry can be believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Evidence {
    /// The registry proved that the listing is complete and not older than anything seen before.
    Complete,
    /// Everything the source was ever able to read, but not everything it holds: a service it does not list may exist.
    Partial { why: String },
    /// The registry is not the one it was (another cluster id, a revision that went backwards): what is missing may
    /// have been lost rather than removed.
    NewEpoch { why: String },
}

/// The difference between "there is none" and "we do not know".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence<T> {
    Unknown,
    Known(T),
}

/// Why an endpoint is still there although its source does not list it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Its record can't be read any more; the last good reading counts.
    Undecodable { reason: String },
    /// The registry came back as another one and does not list it.
    NewEpoch { why: String },
}

/// An endpoint as a source lists it.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    pub endpoint: Endpoint,
    pub kept: Option<Kept>,
}

/// An address, under the protocol an instance registered it with, if it named one.
pub type Place = (Address, Option<Arc<str>>);

/// What one source says about one service.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub endpoints: BTreeMap<Place, Listed>,
    pub rejections: Vec<Rejection>,
    /// When the source stopped listing the service; its cluster lingers for [`Catalog::LINGER`].
    pub gone_since: Option<Duration>,
    /// A service all of whose records were rejected from the start is unknown, not empty. Once known, it stays known.
    known: bool,
}

impl Listing {
    fn same_content(&self, other: &Self) -> bool {
        self.gone_since.is_some() == other.gone_since.is_some()
            && self.known == other.known
            && self.endpoints.len() == other.endpoints.len()
            && self
                .endpoints
                .values()
                .zip(other.endpoints.values())
                .all(|(mine, theirs)| mine.endpoint.same_content(&theirs.endpoint))
    }

    fn is_listed(&self) -> bool {
        self.endpoints.values().any(|listed| listed.kept.is_none())
    }

    fn is_held(&self) -> bool {
        self.endpoints.values().any(Listed::is_held)
    }
}

impl Listed {
    fn is_held(&self) -> bool {
        matches!(self.kept, Some(Kept::NewEpoch { .. }))
    }
}

/// The services whose content changed.
pub type ChangeSet = BTreeSet<ServiceName>;

/// Everything the configured sources say.
#[derive(Debug)]
pub struct Catalog {
    sources: BTreeMap<SourceName, Source>,
}

impl Catalog {
    /// How long the cluster of a service that nobody lists any more is kept, empty: routes may still point to it, and
    /// a registration that is deleted and made anew must not tear its cluster down.
    pub const LINGER: Duration = Duration::from_secs(5);

    /// How long endpoints that a new epoch does not list are kept, unless an operator releases them before; and how long
    /// a source whose first listing was empty proves nothing missing.
    pub const HOLD: Duration = Duration::from_mins(10);

    pub fn new(sources: impl IntoIterator<Item = SourceName>) -> Self {
        Self {
            sources: sources.into_iter().map(|name| (name, Source::default())).collect(),
        }
    }

    /// Replaces everything a source lists. `now` is the time since the start of the process, here and below.
    pub fn resync(
        &mut self,
        source: &SourceName,
        services: Vec<Service>,
        evidence: &Evidence,
        now: Duration,
    ) -> ChangeSet {
        let state = self.sources.entry(source.clone()).or_default();
        let mut changed = ChangeSet::new();
        let first = !std::mem::replace(&mut state.synced, true);
        state.partial = matches!(evidence, Evidence::Partial { .. });
        if first && services.is_empty() {
            state.unproven_since = Some(now);
        }
        if let Evidence::NewEpoch { .. } = evidence {
            state.held_since = Some(now);
        }
        let listed: BTreeSet<ServiceName> = services.iter().map(|service| service.name.clone()).collect();
        let missing: Vec<ServiceName> = state
            .listings
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        for service in services {
            state.put(service, Some(evidence), &mut changed);
        }
        for name in missing {
            state.remove(name, Some(evidence), now, &mut changed);
        }
        changed
    }

    /// Replaces one service of a source.
    pub fn apply(&mut self, source: &SourceName, service: Service) -> ChangeSet {
        let mut changed = ChangeSet::new();
        let state = self.sources.entry(source.clone()).or_default();
        state.put(service, None, &mut changed);
        changed
    }

    /// A source does not list a service any more.
    pub fn delete(&mut self, source: &SourceName, name: ServiceName, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        let state = self.sources.entry(source.clone()).or_default();
        state.remove(name, None, now, &mut changed);
        changed
    }

    /// What a source could not read it can read now.
    pub fn mend(&mut self, source: &SourceName) {
        self.sources.entry(source.clone()).or_default().partial = false;
    }

    /// Records of a source that belong to no service. Said before the listing or the change that they came with, so that
    /// an endpoint whose record became one of them is kept.
    pub fn set_unattributed(&mut self, source: &SourceName, rejections: Vec<Rejection>) {
        self.sources.entry(source.clone()).or_default().unattributed = rejections
            .into_iter()
            .map(|rejection| (rejection.provenance.record.clone(), rejection))
            .collect();
    }

    /// Lets go of what a deadline has passed for.
    pub fn expire(&mut self, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        for state in self.sources.values_mut() {
            state.expire(now, &mut changed);
        }
        changed
    }

    /// Lets go of every endpoint that a new epoch of `source` does not list, and believes that what it does not list does
    /// not exist: an operator said so.
    pub fn release(&mut self, source: &SourceName, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        if let Some(state) = self.sources.get_mut(source) {
            state.held_since = None;
            state.unproven_since = None;
            state.release(now, |_| true, &mut changed);
        }
        changed
    }

    /// When [`Catalog::expire`] has something to do next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.sources.values().filter_map(Source::next_deadline).min()
    }

    /// Whether every source has answered, so that clients can be.
    pub fn is_synced(&self) -> bool {
        self.sources.values().all(|state| state.synced)
    }

    /// Whether any source has answered: while none has, there is nothing to say to anybody.
    pub fn is_informed(&self) -> bool {
        self.sources.values().any(|state| state.synced)
    }

    /// Whether every source has been read in full, so that what nobody lists does not exist.
    pub fn is_complete(&self) -> bool {
        self.sources.values().all(|state| state.synced && state.is_proof())
    }

    /// What `source` says about `name`.
    pub fn listing(&self, source: &SourceName, name: &ServiceName) -> Presence<Option<&Listing>> {
        let Some(state) = self.sources.get(source).filter(|state| state.synced) else {
            return Presence::Unknown;
        };
        match state.listings.get(name) {
            Some(listing) if !listing.known => Presence::Unknown,
            None if state.partial && !state.forgotten.contains(name) => Presence::Unknown,
            found => Presence::Known(found),
        }
    }

    /// What `source` itself lists now, by service: without what is kept although it does not list it any more. Unknown
    /// while it has not answered, and of a source that is not configured.
    pub fn listed(&self, source: &SourceName) -> Presence<BTreeMap<ServiceName, Vec<&Endpoint>>> {
        let Some(state) = self.sources.get(source).filter(|state| state.synced) else {
            return Presence::Unknown;
        };
        let current = state
            .listings
            .iter()
            .filter(|(_, listing)| listing.gone_since.is_none());
        let listed = current.map(|(name, listing)| {
            let own = listing.endpoints.values().filter(|listed| !listed.is_held());
            (name.clone(), own.map(|listed| &listed.endpoint).collect())
        });
        Presence::Known(listed.collect())
    }

    /// The records of `name` that `source` could not read, whether or not the service is known.
    pub fn rejections(&self, source: &SourceName, name: &ServiceName) -> &[Rejection] {
        let listing = self.sources.get(source).and_then(|state| state.listings.get(name));
        listing.map_or(&[], |listing| listing.rejections.as_slice())
    }

    /// The records of `source` that belong to no service, in their order.
    pub fn unattributed(&self, source: &SourceName) -> impl Iterator<Item = &Rejection> {
        self.sources
            .get(source)
            .into_iter()
            .flat_map(|state| state.unattributed.values())
    }

    /// How many endpoints of `source` are held although a new epoch does not list them.
    pub fn held(&self, source: &SourceName) -> usize {
        let listings = self
            .sources
            .get(source)
            .into_iter()
            .flat_map(|state| state.listings.values());
        let endpoints = listings.flat_map(|listing| listing.endpoints.values());
        endpoints.filter(|listed| listed.is_held()).count()
    }

    pub fn sources(&self) -> impl Iterator<Item = &SourceName> {
        self.sources.keys()
    }

    /// Every service that any source has ever said something about and not forgotten.
    pub fn services(&self) -> BTreeSet<ServiceName> {
        self.sources
            .values()
            .flat_map(|state| state.listings.keys().cloned())
            .collect()
    }

    /// Whether any source has said something about the service and not forgotten it.
    pub fn knows(&self, name: &ServiceName) -> bool {
        self.sources.values().any(|state| state.listings.contains_key(name))
    }
}

#[cfg(test)]
mod tests;
