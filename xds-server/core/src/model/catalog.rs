//! What every source says about every service, at this moment.
//!
//! The catalog never confuses *unknown* with *empty*: a source that has not answered yet says nothing about any
//! service, and an endpoint leaves only when a source that can be believed stopped listing it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::{Address, Endpoint, Provenance, Rejection, Service, ServiceName, SourceName};

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

/// What one source says about one service.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub endpoints: BTreeMap<Address, Listed>,
    pub rejections: Vec<Rejection>,
    /// When the source stopped listing the service; its cluster lingers for [`Catalog::LINGER`].
    pub gone_since: Option<Duration>,
}

impl Listing {
    /// A service all of whose records were rejected from the start is unknown, not empty.
    fn is_known(&self) -> bool {
        !self.endpoints.is_empty() || self.rejections.is_empty()
    }

    fn same_content(&self, other: &Self) -> bool {
        self.gone_since.is_some() == other.gone_since.is_some()
            && self.is_known() == other.is_known()
            && self.endpoints.len() == other.endpoints.len()
            && self
                .endpoints
                .values()
                .zip(other.endpoints.values())
                .all(|(mine, theirs)| mine.endpoint.same_content(&theirs.endpoint))
    }
}

/// The services whose content changed.
pub type ChangeSet = BTreeSet<ServiceName>;

#[derive(Debug, Default)]
struct Source {
    synced: bool,
    /// Part of the source has never been read.
    partial: bool,
    listings: BTreeMap<ServiceName, Listing>,
    /// When removals began to be held, and whether the new registry lists anything at all.
    held_since: Option<Duration>,
    unattributed: Vec<Rejection>,
}

/// Everything the configured sources say.
#[derive(Debug)]
pub struct Catalog {
    sources: BTreeMap<SourceName, Source>,
}

impl Catalog {
    /// How long the cluster of a service that nobody lists any more is kept, empty: routes may still point to it, and
    /// a registration that is deleted and made anew must not tear its cluster down.
    pub const LINGER: Duration = Duration::from_secs(5);

    /// How long endpoints that a new epoch does not list are kept, unless an operator releases them before.
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
        state.synced = true;
        state.partial = matches!(evidence, Evidence::Partial { .. });
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
        self.sources
            .entry(source.clone())
            .or_default()
            .put(service, None, &mut changed);
        changed
    }

    /// A source does not list a service any more.
    pub fn delete(&mut self, source: &SourceName, name: ServiceName, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        self.sources
            .entry(source.clone())
            .or_default()
            .remove(name, None, now, &mut changed);
        changed
    }

    /// What a source could not read it can read now.
    pub fn mend(&mut self, source: &SourceName) {
        self.sources.entry(source.clone()).or_default().partial = false;
    }

    /// Records of a source that belong to no service.
    pub fn set_unattributed(&mut self, source: &SourceName, rejections: Vec<Rejection>) {
        self.sources.entry(source.clone()).or_default().unattributed = rejections;
    }

    /// Lets go of what a deadline has passed for.
    pub fn expire(&mut self, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        for state in self.sources.values_mut() {
            state.expire(now, &mut changed);
        }
        changed
    }

    /// Lets go of every endpoint that a new epoch of `source` does not list: an operator said so.
    pub fn release(&mut self, source: &SourceName, now: Duration) -> ChangeSet {
        let mut changed = ChangeSet::new();
        if let Some(state) = self.sources.get_mut(source) {
            state.release(now, &mut changed);
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
        self.sources.values().all(|state| state.synced && !state.partial)
    }

    /// What `source` says about `name`.
    pub fn listing(&self, source: &SourceName, name: &ServiceName) -> Presence<Option<&Listing>> {
        match self.sources.get(source) {
            Some(state) if state.synced => match state.listings.get(name) {
                Some(listing) if !listing.is_known() => Presence::Unknown,
                None if state.partial => Presence::Unknown,
                found => Presence::Known(found),
            },
            Some(_) | None => Presence::Unknown,
        }
    }

    /// The records of `name` that `source` could not read, whether or not the service is known.
    pub fn rejections(&self, source: &SourceName, name: &ServiceName) -> &[Rejection] {
        let listing = self.sources.get(source).and_then(|state| state.listings.get(name));
        listing.map_or(&[], |listing| listing.rejections.as_slice())
    }

    /// The records of `source` that belong to no service.
    pub fn unattributed(&self, source: &SourceName) -> &[Rejection] {
        self.sources
            .get(source)
            .map_or(&[], |state| state.unattributed.as_slice())
    }

    /// How many endpoints of `source` are held although a new epoch does not list them.
    pub fn held(&self, source: &SourceName) -> usize {
        self.sources.get(source).map_or(0, Source::held)
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
}

impl Source {
    fn put(&mut self, service: Service, evidence: Option<&Evidence>, changed: &mut ChangeSet) {
        let Service {
            name,
            endpoints,
            rejections,
        } = service;
        let before = self.listings.get(&name);
        let next = merge(before, endpoints, rejections, evidence);
        if before.is_none_or(|before| !before.same_content(&next)) {
            changed.insert(name.clone());
        }
        self.listings.insert(name, next);
    }

    fn remove(&mut self, name: ServiceName, evidence: Option<&Evidence>, now: Duration, changed: &mut ChangeSet) {
        let Some(before) = self.listings.get(&name) else { return };
        let mut next = merge(Some(before), Vec::new(), Vec::new(), evidence);
        if next.endpoints.is_empty() {
            next.gone_since = Some(before.gone_since.unwrap_or(now));
        }
        if !before.same_content(&next) {
            changed.insert(name.clone());
        }
        self.listings.insert(name, next);
    }

    fn expire(&mut self, now: Duration, changed: &mut ChangeSet) {
        self.listings.retain(|name, listing| {
            let over = listing.gone_since.is_some_and(|since| now >= since + Catalog::LINGER);
            if over {
                changed.insert(name.clone());
            }
            !over
        });
        if self.held_since.is_some_and(|since| now >= since + Catalog::HOLD) && self.lists_anything() {
            self.release(now, changed);
        }
    }

    /// A registry that came back wholly empty is never believed by the clock alone.
    fn lists_anything(&self) -> bool {
        self.listings
            .values()
            .any(|listing| listing.endpoints.values().any(|listed| listed.kept.is_none()))
    }

    fn release(&mut self, now: Duration, changed: &mut ChangeSet) {
        self.held_since = None;
        for (name, listing) in &mut self.listings {
            let before = listing.endpoints.len();
            listing
                .endpoints
                .retain(|_, listed| !matches!(listed.kept, Some(Kept::NewEpoch { .. })));
            if listing.endpoints.len() != before {
                changed.insert(name.clone());
                if listing.endpoints.is_empty() && listing.rejections.is_empty() {
                    listing.gone_since = Some(now);
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let linger = self.listings.values().filter_map(|listing| listing.gone_since).min();
        let hold = self.held_since.filter(|_| self.lists_anything());
        linger
            .map(|since| since + Catalog::LINGER)
            .into_iter()
            .chain(hold.map(|since| since + Catalog::HOLD))
            .min()
    }

    fn held(&self) -> usize {
        let listed = self.listings.values().flat_map(|listing| listing.endpoints.values());
        listed
            .filter(|listed| matches!(listed.kept, Some(Kept::NewEpoch { .. })))
            .count()
    }
}

/// The next listing of a service: what the source lists, and what of the former listing may not be let go yet.
fn merge(
    before: Option<&Listing>,
    endpoints: Vec<Endpoint>,
    rejections: Vec<Rejection>,
    evidence: Option<&Evidence>,
) -> Listing {
    let mut next = Listing {
        endpoints: BTreeMap::new(),
        rejections,
        gone_since: None,
    };
    for endpoint in endpoints {
        let address = endpoint.address;
        let better = next
            .endpoints
            .get(&address)
            .is_none_or(|held| prefer(&endpoint, &held.endpoint));
        if better {
            next.endpoints.insert(address, Listed { endpoint, kept: None });
        }
    }
    for (address, listed) in before.iter().flat_map(|before| &before.endpoints) {
        if next.endpoints.contains_key(address) {
            continue;
        }
        if let Some(kept) = keep(listed, &next.rejections, evidence) {
            next.endpoints.insert(
                *address,
                Listed {
                    endpoint: listed.endpoint.clone(),
                    kept: Some(kept),
                },
            );
        }
    }
    next
}

/// Two records with one address: the healthier counts, then the heavier, then the one that was there first.
fn prefer(candidate: &Endpoint, held: &Endpoint) -> bool {
    let key = |endpoint: &Endpoint| (endpoint.health.is_usable(), endpoint.weight);
    key(candidate) > key(held)
}

fn keep(listed: &Listed, rejections: &[Rejection], evidence: Option<&Evidence>) -> Option<Kept> {
    if let Some(Evidence::NewEpoch { why }) = evidence {
        return Some(Kept::NewEpoch { why: why.clone() });
    }
    if let Some(held @ Kept::NewEpoch { .. }) = &listed.kept {
        return Some(held.clone());
    }
    let record: &Provenance = &listed.endpoint.provenance;
    let rejection = rejections
        .iter()
        .find(|rejection| rejection.provenance.record == record.record)?;
    Some(Kept::Undecodable {
        reason: rejection.reason.clone(),
    })
}

#[cfg(test)]
mod tests;
