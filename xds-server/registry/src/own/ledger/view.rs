//! What a ledger says: to whoever asks, to the source, and to the disk. Nothing here changes it.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Provenance, Rejection, Service, ServiceName};

use super::super::model::{Key, Listing, Page, Refusal, Shown};
use super::{Entry, Held, Ledger, Obituary, Slot, ttl};

/// What [`Provenance::layout`] says of instances of this source.
const LAYOUT: &str = "registry";

impl Ledger {
    pub(in super::super) fn get(&self, key: &Key, now: Duration) -> Result<Shown, Refusal> {
        let slot = self.held.get(key).ok_or_else(|| Refusal::unknown(key))?;
        Ok(shown(key, slot, now))
    }

    pub(in super::super) fn list(&self, listing: &Listing, now: Duration) -> Page {
        let of_service = |key: &Key| listing.service.as_ref().is_none_or(|service| key.service == *service);
        let first = listing.service.as_ref().map(first_key);
        let start = match listing.after.as_ref().max(first.as_ref()) {
            Some(key) => Bound::Excluded(key.clone()),
            None => Bound::Unbounded,
        };
        let mut rest = self
            .held
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| of_service(key))
            .peekable();
        let page: Vec<_> = rest.by_ref().take(listing.limit).collect();
        let next = match (page.last(), rest.peek()) {
            (Some((last, _)), Some(_)) => last.to_string(),
            (Some(_) | None, Some(_) | None) => String::new(),
        };
        Page {
            instances: page.into_iter().map(|(key, slot)| shown(key, slot, now)).collect(),
            next,
            revision: self.revision,
        }
    }

    /// The service as others are told of it; `None` when nothing is registered for it.
    pub(in super::super) fn service(&self, name: &ServiceName) -> Option<Service> {
        let mut service = Service::new(name.clone(), Vec::new());
        let own = |key: &&Key| key.service == *name;
        for (key, slot) in self.held.range(first_key(name)..).take_while(|(key, _)| own(key)) {
            match slot
                .held
                .endpoint
                .endpoint(provenance(key, &slot.held), slot.held.draining)
            {
                Ok(endpoint) => service.endpoints.push(endpoint),
                Err(rejection) => service.rejections.push(rejection),
            }
        }
        if service.endpoints.is_empty() && service.rejections.is_empty() {
            return None;
        }
        let ended = self.obituaries.range(first_key(name)..).take_while(|(key, _)| own(key));
        service
            .rejections
            .extend(ended.map(|(key, obituary)| obituary.rejection(key)));
        Some(service)
    }

    pub(in super::super) fn services(&self) -> Vec<Service> {
        self.counts.keys().filter_map(|name| self.service(name)).collect()
    }

    /// The longest of all leases: after it, everybody alive has been heard.
    pub(in super::super) fn longest_ttl(&self) -> Duration {
        self.held.values().map(|slot| ttl(&slot.held)).max().unwrap_or_default()
    }

    /// Everything that is held, as it has to be written down.
    pub(in super::super) fn snapshot(&self) -> Vec<Entry> {
        let put = |(key, slot): (&Key, &Slot)| Entry::Put {
            key: key.clone(),
            held: slot.held.clone(),
        };
        self.held.iter().map(put).collect()
    }

    /// How many records of a fresh reading differ from what is held.
    pub(in super::super) fn drift(&self, read: &Self) -> usize {
        let differing = |(key, slot): &(&Key, &Slot)| read.held.get(*key).is_none_or(|other| other.held != slot.held);
        let unknown = read.held.keys().filter(|key| !self.held.contains_key(*key));
        self.held.iter().filter(differing).count() + unknown.count()
    }
}

impl Obituary {
    fn rejection(&self, key: &Key) -> Rejection {
        let provenance = Provenance {
            // It explains an absence; it is no record that would keep the endpoint.
            stable: false,
            ..provenance(key, &self.held)
        };
        let seconds = self.held.ttl_seconds;
        Rejection {
            provenance,
            reason: format!("its lease of {seconds} s ran out without being renewed"),
        }
    }
}

/// Before every key of a service: no id is empty.
fn first_key(service: &ServiceName) -> Key {
    Key {
        service: service.clone(),
        id: Arc::from(""),
    }
}

fn shown(key: &Key, slot: &Slot, now: Duration) -> Shown {
    let remaining = slot.deadline.saturating_sub(now).as_secs();
    Shown {
        service: key.service.to_shared(),
        id: key.id.clone(),
        endpoint: slot.held.endpoint.clone(),
        ttl_seconds: slot.held.ttl_seconds,
        version: slot.held.version,
        draining: slot.held.draining,
        remaining_seconds: u32::try_from(remaining).unwrap_or(u32::MAX),
    }
}

fn provenance(key: &Key, held: &Held) -> Provenance {
    // What people are shown is what was registered, without the words that prove who may renew it.
    let raw = serde_json::to_string(&held.endpoint).unwrap_or_default();
    Provenance::new(&key.to_string(), LAYOUT, raw.as_bytes(), held.version)
}
