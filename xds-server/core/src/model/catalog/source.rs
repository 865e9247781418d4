//! One source: how a listing follows from the one before, and when something that is kept is let go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Catalog, ChangeSet, Evidence, Kept, Listed, Listing};
use crate::model::{Endpoint, Rejection, Service, ServiceName};

/// Names that are known to be gone while part of the source is unread. With more, the clusters of the rest stay, empty,
/// until it is read.
const MAX_FORGOTTEN: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Source {
    pub(super) synced: bool,
    /// Part of the source has never been read.
    pub(super) partial: bool,
    /// When the first listing was empty: a registry may have lost its data while nobody looked.
    pub(super) unproven_since: Option<Duration>,
    pub(super) listings: BTreeMap<ServiceName, Listing>,
    /// When removals began to be held.
    pub(super) held_since: Option<Duration>,
    /// By record.
    pub(super) unattributed: BTreeMap<Arc<str>, Rejection>,
    /// Services that were listed and are not any more, while part of the source is unread.
    pub(super) forgotten: BTreeSet<ServiceName>,
    /// The services that linger, in the order in which they will be forgotten.
    lingering: BTreeSet<(Duration, ServiceName)>,
}

impl Source {
    /// Whether what the source does not list does not exist.
    pub(super) fn is_proof(&self) -> bool {
        !self.partial && self.unproven_since.is_none()
    }

    pub(super) fn put(&mut self, service: Service, evidence: Option<&Evidence>, changed: &mut ChangeSet) {
        let Service {
            name,
            endpoints,
            rejections,
        } = service;
        let next = self.merge(&name, endpoints, rejections, evidence);
        self.forgotten.remove(&name);
        self.replace(name, next, changed);
    }

    pub(super) fn remove(
        &mut self,
        name: ServiceName,
        evidence: Option<&Evidence>,
        now: Duration,
        changed: &mut ChangeSet,
    ) {
        let Some(before) = self.listings.get(&name) else { return };
        let since = before.gone_since.unwrap_or(now);
        let mut next = self.merge(&name, Vec::new(), Vec::new(), evidence);
        if next.endpoints.is_empty() {
            next.gone_since = Some(since);
        }
        self.replace(name, next, changed);
    }

    fn replace(&mut self, name: ServiceName, next: Listing, changed: &mut ChangeSet) {
        if let Some(since) = next.gone_since {
            self.lingering.insert((since, name.clone()));
        }
        let before = self.listings.get(&name);
        if let Some(since) = before
            .and_then(|before| before.gone_since)
            .filter(|_| next.gone_since.is_none())
        {
            self.lingering.remove(&(since, name.clone()));
        }
        if before.is_none_or(|before| !before.same_content(&next)) {
            changed.insert(name.clone());
        }
        self.listings.insert(name, next);
    }

    /// The next listing of a service: what the source lists, and what of the former listing may not be let go yet.
    fn merge(
        &self,
        name: &ServiceName,
        endpoints: Vec<Endpoint>,
        rejections: Vec<Rejection>,
        evidence: Option<&Evidence>,
    ) -> Listing {
        let before = self.listings.get(name);
        let known = !endpoints.is_empty() || rejections.is_empty() || before.is_some_and(|before| before.known);
        let mut next = Listing {
            known,
            ..Listing::default()
        };
        for endpoint in endpoints {
            let place = (endpoint.address, endpoint.scheme.clone());
            let held = next.endpoints.get(&place);
            if held.is_none_or(|held| endpoint.preference() > held.endpoint.preference()) {
                next.endpoints.insert(place, Listed { endpoint, kept: None });
            }
        }
        let readable: BTreeSet<Arc<str>> = next
            .endpoints
            .values()
            .map(|listed| listed.endpoint.provenance.record.clone())
            .collect();
        let broken: BTreeMap<&str, &Rejection> = rejections
            .iter()
            .filter(|rejection| rejection.provenance.stable)
            .map(|rejection| (rejection.provenance.record.as_ref(), rejection))
            .collect();
        for (place, listed) in before.iter().flat_map(|before| &before.endpoints) {
            let record = &listed.endpoint.provenance.record;
            let rejection = broken
                .get(record.as_ref())
                .copied()
                .or_else(|| self.unattributed.get(record));
            let rejection = rejection.filter(|_| !readable.contains(record));
            if let Some(kept) = keep(listed, rejection, evidence).filter(|_| !next.endpoints.contains_key(place)) {
                let endpoint = listed.endpoint.clone();
                next.endpoints.insert(
                    place.clone(),
                    Listed {
                        endpoint,
                        kept: Some(kept),
                    },
                );
            }
        }
        next.rejections = rejections;
        next
    }

    pub(super) fn expire(&mut self, now: Duration, changed: &mut ChangeSet) {
        while let Some((since, name)) = self.lingering.pop_first() {
            if now < since + Catalog::LINGER {
                self.lingering.insert((since, name));
                break;
            }
            self.listings.remove(&name);
            if self.partial && self.forgotten.len() < MAX_FORGOTTEN {
                self.forgotten.insert(name.clone());
            }
            changed.insert(name);
        }
        let over = |since: Option<Duration>| since.is_some_and(|since| now >= since + Catalog::HOLD);
        if over(self.held_since) {
            // A service of which nothing has come back is never emptied by the clock alone.
            self.release(now, Listing::is_listed, changed);
        }
        if over(self.unproven_since) && self.lists_anything() {
            self.unproven_since = None;
        }
        if !self.partial {
            self.forgotten.clear();
        }
    }

    fn lists_anything(&self) -> bool {
        self.listings.values().any(Listing::is_listed)
    }

    /// Lets go of what is held of the services that `may` be released.
    pub(super) fn release(&mut self, now: Duration, may: impl Fn(&Listing) -> bool, changed: &mut ChangeSet) {
        for (name, listing) in &mut self.listings {
            if !listing.is_held() || !may(listing) {
                continue;
            }
            listing.endpoints.retain(|_, listed| !listed.is_held());
            changed.insert(name.clone());
            if listing.endpoints.is_empty() && listing.rejections.is_empty() {
                listing.gone_since = Some(now);
                self.lingering.insert((now, name.clone()));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let linger = self.lingering.first().map(|(since, _)| *since + Catalog::LINGER);
        let releasable = || {
            self.listings
                .values()
                .any(|listing| listing.is_held() && listing.is_listed())
        };
        let hold = self.held_since.filter(|_| releasable());
        let unproven = self.unproven_since.filter(|_| self.lists_anything());
        let waits = hold.into_iter().chain(unproven).map(|since| since + Catalog::HOLD);
        linger.into_iter().chain(waits).min()
    }
}

/// Why an endpoint that its source does not list stays all the same, if it does.
fn keep(listed: &Listed, rejection: Option<&Rejection>, evidence: Option<&Evidence>) -> Option<Kept> {
    if let Some(Evidence::NewEpoch { why }) = evidence {
        return Some(Kept::NewEpoch { why: why.clone() });
    }
    if let Some(held @ Kept::NewEpoch { .. }) = &listed.kept {
        return Some(held.clone());
    }
    let rejection = rejection.filter(|_| listed.endpoint.provenance.stable)?;
    Some(Kept::Undecodable {
        reason: rejection.reason.clone(),
    })
}
