//! The instances of one registry, as a source holds them across polls, sessions and peers.
//!
//! Pure. Invariant: `services` and `unattributed` hold exactly what the instances in `held` decode to, and `told` is
//! what the controller was told last, so what is left to tell is always known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leadsman_core::model::{Address, Endpoint, Rejection, Service, ServiceName};
use tokio::time::Instant;

use super::instance::{Decoded, Rules, decode};
use super::wire::{Id, Record, Stamp, Status, hash_of};

/// How long a removed instance is remembered, so that an older answer does not bring it back: as long as a delta tells
/// of it.
const TOMBSTONE: Duration = Duration::from_secs(180);
/// Rejections kept for instances of no service that could be named: enough to see what is wrong.
const MAX_UNATTRIBUTED: usize = 1000;

/// What happened to one service.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Applied(Service),
    Deleted(ServiceName),
}

/// How far a full listing may go against the order of the stamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// An older record is left out.
    Strict,
    /// A record is left out only when it is older on the same peer: what another peer knew better minutes ago, this one
    /// had the time to learn, or an instance's clock went back.
    SamePeer,
}

type Outcome = Option<Result<Endpoint, Rejection>>;

#[derive(Debug)]
pub(super) struct Records {
    rules: Rules,
    /// Which session is under way: stamps of servers can be compared within one only.
    view: u32,
    held: BTreeMap<Id, Held>,
    removed: BTreeMap<Id, Removed>,
    services: BTreeMap<ServiceName, BTreeMap<Id, Outcome>>,
    unattributed: BTreeMap<Id, Rejection>,
    touched: BTreeSet<ServiceName>,
    told: BTreeMap<ServiceName, Service>,
    told_unattributed: Vec<Rejection>,
}

#[derive(Debug)]
struct Held {
    mark: Mark,
    status: Status,
    services: Vec<ServiceName>,
}

#[derive(Debug)]
struct Removed {
    mark: Mark,
    at: Instant,
}

/// A stamp, and the session that saw it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    stamp: Stamp,
    view: u32,
}

impl Mark {
    /// Whether a record is not older than what bears `self`. The clock of the instance decides; within one session the
    /// clock of the server, too, since an instance that came back may have lost time.
    fn admits(self, record: Mark) -> bool {
        let same_server = self.view == record.view;
        if record.stamp.dirty == self.stamp.dirty {
            return !same_server || record.stamp.updated >= self.stamp.updated;
        }
        record.stamp.dirty > self.stamp.dirty || (same_server && record.stamp.updated > self.stamp.updated)
    }

    /// Whether a record was written after the removal that bears `self`. Where a server stamps nothing, the order in which
    /// it speaks is all there is.
    fn is_before(self, record: Mark) -> bool {
        let unknown = |stamp: Stamp| stamp == Stamp::default();
        if unknown(self.stamp) || unknown(record.stamp) {
            return true;
        }
        record.stamp.dirty > self.stamp.dirty || (self.view == record.view && record.stamp.updated > self.stamp.updated)
    }
}

impl Records {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            view: 0,
            held: BTreeMap::new(),
            removed: BTreeMap::new(),
            services: BTreeMap::new(),
            unattributed: BTreeMap::new(),
            touched: BTreeSet::new(),
            told: BTreeMap::new(),
            told_unattributed: Vec::new(),
        }
    }

    /// A session begins, perhaps with another peer.
    pub(super) fn begin_session(&mut self) {
        self.view = self.view.wrapping_add(1);
    }

    /// Takes a delta, which repeats itself for minutes.
    pub(super) fn apply(&mut self, delta: &[Record], now: Instant) {
        self.forget_removals(now);
        for record in delta {
            // Its place in a delta names nothing.
            if !record.named {
                continue;
            }
            if record.deleted {
                self.remove(record, now);
            } else {
                self.put(record, Order::Strict);
            }
        }
    }

    /// The held instances that a full listing does not list.
    pub(super) fn missing(&self, full: &[Record]) -> Vec<Id> {
        let listed: BTreeSet<&Id> = full.iter().map(|record| &record.id).collect();
        let missing = self.held.keys().filter(|id| !listed.contains(id));
        missing.cloned().collect()
    }

    /// Whether `record` says of a held instance, or of one that is not held, something that was not known.
    fn is_news(&self, record: &Record, order: Order) -> bool {
        let mark = self.mark(record);
        if self
            .removed
            .get(&record.id)
            .is_some_and(|removed| !removed.mark.is_before(mark))
        {
            return false;
        }
        let Some(held) = self.held.get(&record.id) else {
            return true;
        };
        let overruled = order == Order::SamePeer && held.mark.view != self.view;
        overruled || held.mark.admits(mark)
    }

    /// Takes a full listing, and says of how many instances it says something else than was held. What the delta of the
    /// same moment tells of is left to the delta.
    pub(super) fn adopt(&mut self, full: &[Record], order: Order, delta: &[Record], now: Instant) -> u64 {
        self.forget_removals(now);
        let told: BTreeSet<&Id> = delta.iter().map(|record| &record.id).collect();
        let mut differing = 0;
        for id in self.missing(full) {
            if !told.contains(&id) {
                self.forget(&id);
                differing += 1;
            }
        }
        for record in full.iter().filter(|record| !told.contains(&record.id)) {
            let before = self.outcomes(&record.id);
            self.put(record, order);
            differing += u64::from(!same(&before, &self.outcomes(&record.id)));
        }
        differing
    }

    /// What the statuses of the held instances add up to.
    pub(super) fn hash(&self) -> String {
        hash_of(self.held.values().map(|held| held.status))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// What changed since it was told the last time, in the order of the names. An instance that is written again
    /// without a change is not mentioned.
    pub(super) fn tell(&mut self) -> Vec<Change> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|name| self.tell_one(name)).collect()
    }

    /// Every service, all of which are told now.
    pub(super) fn tell_all(&mut self) -> Vec<Service> {
        self.touched.clear();
        self.told = self
            .services
            .iter()
            .map(|(name, held)| (name.clone(), view(name, held)))
            .collect();
        self.told.values().cloned().collect()
    }

    /// The instances that belong to no service, unless they are still those that were told the last time.
    pub(super) fn tell_unattributed(&mut self) -> Option<Vec<Rejection>> {
        let now: Vec<Rejection> = self.unattributed.values().take(MAX_UNATTRIBUTED).cloned().collect();
        let same =
            now.len() == self.told_unattributed.len() && now.iter().zip(&self.told_unattributed).all(same_rejection);
        if same {
            return None;
        }
        self.told_unattributed.clone_from(&now);
        Some(now)
    }

    /// All of them.
    pub(super) fn tell_all_unattributed(&mut self) -> Vec<Rejection> {
        self.told_unattributed = self.unattributed.values().take(MAX_UNATTRIBUTED).cloned().collect();
        self.told_unattributed.clone()
    }

    fn tell_one(&mut self, name: ServiceName) -> Option<Change> {
        let Some(held) = self.services.get(&name) else {
            return self.told.remove(&name).map(|_| Change::Deleted(name));
        };
        let service = view(&name, held);
        if self.told.get(&name).is_some_and(|told| same_service(told, &service)) {
            return None;
        }
        self.told.insert(name, service.clone());
        Some(Change::Applied(service))
    }

    fn forget_removals(&mut self, now: Instant) {
        self.removed.retain(|_, removed| now < removed.at + TOMBSTONE);
    }

    fn mark(&self, record: &Record) -> Mark {
        Mark {
            stamp: record.stamp,
            view: self.view,
        }
    }

    fn put(&mut self, record: &Record, order: Order) {
        if record.deleted || !self.is_news(record, order) {
            return;
        }
        self.forget(&record.id);
        self.removed.remove(&record.id);
        let Decoded { services, outcome } = decode(record, self.rules);
        if services.is_empty() {
            if let Some(Err(rejection)) = outcome {
                tracing::debug!(record = %rejection.provenance.record, reason = %rejection.reason, "unattributed instance");
                self.unattributed.insert(record.id.clone(), rejection);
            }
        } else {
            for name in &services {
                let held = self.services.entry(name.clone()).or_default();
                held.insert(record.id.clone(), outcome.clone());
                self.touched.insert(name.clone());
            }
        }
        let held = Held {
            mark: self.mark(record),
            status: record.status,
            services,
        };
        self.held.insert(record.id.clone(), held);
    }

    fn remove(&mut self, record: &Record, now: Instant) {
        let mark = self.mark(record);
        if self.held.get(&record.id).is_some_and(|held| !held.mark.admits(mark)) {
            return;
        }
        self.forget(&record.id);
        // Deltas repeat themselves: what is remembered already is as old as it was.
        let at = self.removed.get(&record.id).map_or(now, |removed| removed.at);
        self.removed.insert(record.id.clone(), Removed { mark, at });
    }

    fn forget(&mut self, id: &Id) {
        let Some(held) = self.held.remove(id) else { return };
        self.unattributed.remove(id);
        for name in held.services {
            if let Some(instances) = self.services.get_mut(&name) {
                instances.remove(id);
                if instances.is_empty() {
                    self.services.remove(&name);
                }
            }
            self.touched.insert(name);
        }
    }

    /// What an instance is at the moment, by service.
    fn outcomes(&self, id: &Id) -> Vec<(ServiceName, Outcome)> {
        let Some(held) = self.held.get(id) else {
            return Vec::new();
        };
        let outcome = |name: &ServiceName| self.services.get(name)?.get(id)?.clone();
        let named = held.services.iter().map(|name| (name.clone(), outcome(name)));
        named.collect()
    }
}

/// A service: of several instances with one address and scheme the healthiest counts, then the heaviest, then the one
/// with the smallest id.
fn view(name: &ServiceName, held: &BTreeMap<Id, Outcome>) -> Service {
    let mut endpoints: BTreeMap<(Address, Option<&str>), &Endpoint> = BTreeMap::new();
    let mut rejections = Vec::new();
    for outcome in held.values().flatten() {
        match outcome {
            Ok(endpoint) => {
                let place = (endpoint.address, endpoint.scheme.as_deref());
                let best = endpoints.entry(place).or_insert(endpoint);
                if endpoint.preference() > best.preference() {
                    *best = endpoint;
                }
            }
            Err(rejection) => rejections.push(rejection.clone()),
        }
    }
    Service {
        name: name.clone(),
        endpoints: endpoints.into_values().cloned().collect(),
        rejections,
    }
}

fn same_service(a: &Service, b: &Service) -> bool {
    a.endpoints.len() == b.endpoints.len()
        && a.rejections.len() == b.rejections.len()
        && a.endpoints.iter().zip(&b.endpoints).all(|(a, b)| a.same_content(b))
        && a.rejections.iter().zip(&b.rejections).all(same_rejection)
}

fn same_rejection((a, b): (&Rejection, &Rejection)) -> bool {
    a.reason == b.reason && a.provenance.record == b.provenance.record
}

fn same(a: &[(ServiceName, Outcome)], b: &[(ServiceName, Outcome)]) -> bool {
    let outcome = |a: &Outcome, b: &Outcome| match (a, b) {
        (None, None) => true,
        (Some(Ok(a)), Some(Ok(b))) => a.same_content(b),
        (Some(Err(a)), Some(Err(b))) => same_rejection((a, b)),
        (None | Some(_), None | Some(_)) => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && outcome(x, y))
}

#[cfg(test)]
mod tests;
