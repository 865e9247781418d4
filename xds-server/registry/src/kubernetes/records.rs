//! The slices of a source, as it holds them across sessions, and the services they add up to.
//!
//! Pure. Invariant: what the controller was told of a service is exactly `told`: what its slices list, and what left them
//! less than `settle` ago although it had been ready to the end. Controllers move endpoints from slice to slice, and for a
//! moment an endpoint is in two of them, or in none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::{Address, Endpoint, Health, Rejection, Service, ServiceName};
use tokio::time::Instant;

use super::config::{Config, Family};
use super::slice::{Authority, Entry, Identity, Owner, Rules, Slice, number};

/// What happened to one service.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Applied(Service),
    Deleted(ServiceName),
}

/// Rejections kept for ports that no service name fits: enough to see what is wrong.
const MAX_UNATTRIBUTED: usize = 1000;

/// The objects of a scope and their versions.
pub(super) type Versions = BTreeMap<Arc<str>, Identity>;

#[derive(Debug)]
pub(super) struct Records {
    rules: Rules,
    family: Family,
    settle: Duration,
    slices: BTreeMap<Arc<str>, Slice>,
    groups: BTreeMap<Owner, Group>,
    /// When something that left every slice has to be looked at again.
    due: BTreeSet<(Instant, Owner)>,
    /// Ports of no service, by slice.
    strays: BTreeMap<Arc<str>, Vec<Rejection>>,
    /// Whether `strays` differs from what was told of it last.
    untold: bool,
}

/// A service of Kubernetes; each of its ports is a service here.
#[derive(Debug, Default)]
struct Group {
    slices: BTreeSet<Arc<str>>,
    told: BTreeMap<ServiceName, Told>,
}

#[derive(Debug, Default)]
struct Told {
    endpoints: BTreeMap<Address, Endpoint>,
    rejections: Vec<Rejection>,
    /// What is in no slice, and until when it stays.
    leaving: BTreeMap<Address, Instant>,
}

impl Records {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            rules: Rules::of(config),
            family: config.address_family,
            settle: config.settle,
            slices: BTreeMap::new(),
            groups: BTreeMap::new(),
            due: BTreeSet::new(),
            strays: BTreeMap::new(),
            untold: false,
        }
    }

    /// The objects of a namespace, or all.
    pub(super) fn versions(&self, namespace: Option<&str>) -> Versions {
        let within = |key: &str| namespace.is_none_or(|namespace| key.split('/').next() == Some(namespace));
        let held = self.slices.iter().filter(|(key, _)| within(key));
        held.map(|(key, slice)| (Arc::clone(key), slice.identity.clone()))
            .collect()
    }

    /// Everything is as another registry lists it: nothing that is missing may be waited for.
    pub(super) fn forget(&mut self) {
        self.slices.clear();
        self.groups.clear();
        self.due.clear();
        self.strays.clear();
    }

    /// Takes a whole listing.
    pub(super) fn replace(&mut self, listing: Vec<Slice>, now: Instant) {
        let listed: BTreeSet<Arc<str>> = listing.iter().map(|slice| Arc::clone(&slice.key)).collect();
        let missing: Vec<Arc<str>> = self
            .slices
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        for key in missing {
            self.take(&key);
        }
        for slice in listing {
            self.set(slice);
        }
        let owners: Vec<Owner> = self.groups.keys().cloned().collect();
        for owner in owners {
            self.tell(&owner, now);
        }
    }

    /// A slice was added or modified. What is not newer than what is held changes nothing.
    pub(super) fn put(&mut self, slice: Slice, now: Instant) -> Vec<Change> {
        if self.is_old(&slice) {
            return Vec::new();
        }
        let mut owners: BTreeSet<Owner> = slice.owner.clone().into_iter().collect();
        owners.extend(self.set(slice));
        owners.iter().flat_map(|owner| self.tell(owner, now)).collect()
    }

    /// A slice was deleted.
    pub(super) fn remove(&mut self, slice: &Slice, now: Instant) -> Vec<Change> {
        if self.is_old(slice) {
            return Vec::new();
        }
        let owner = self.take(&slice.key);
        owner.iter().flat_map(|owner| self.tell(owner, now)).collect()
    }

    /// Lets go of what is in no slice for long enough.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((when, owner)) = self.due.pop_first() {
            if when > now {
                self.due.insert((when, owner));
                break;
            }
            changes.extend(self.tell(&owner, now));
        }
        changes
    }

    /// When [`Records::expire`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(when, _)| *when)
    }

    /// Every service, as told.
    pub(super) fn snapshot(&self) -> Vec<Service> {
        let told = self.groups.values().flat_map(|group| &group.told);
        told.map(|(name, told)| told.to_service(name)).collect()
    }

    /// Every rejection of a port without a service.
    pub(super) fn tell_all_unattributed(&mut self) -> Vec<Rejection> {
        self.untold = false;
        let all = self.strays.values().flatten();
        all.take(MAX_UNATTRIBUTED).cloned().collect()
    }

    /// The same, unless they are still those that were told the last time.
    pub(super) fn tell_unattributed(&mut self) -> Option<Vec<Rejection>> {
        self.untold.then(|| self.tell_all_unattributed())
    }

    fn is_old(&self, slice: &Slice) -> bool {
        let Some(held) = self.slices.get(&slice.key) else {
            return false;
        };
        let (held, new) = (&held.identity, &slice.identity);
        let (was, is) = (number(&held.version), number(&new.version));
        held == new || (was > 0 && is > 0 && is < was)
    }

    /// Files a slice, and says whose it was before if that is another service.
    fn set(&mut self, mut slice: Slice) -> Option<Owner> {
        let owner = slice.owner.clone();
        let before = self.take_if(&slice.key, owner.as_ref());
        let strays = std::mem::take(&mut slice.strays);
        self.stray(&slice.key, strays);
        if let (Some(_), Some(held)) = (&slice.unreadable, self.slices.get(&slice.key)) {
            slice.keep(held);
        }
        if let Some(owner) = owner {
            let group = self.groups.entry(owner).or_default();
            group.slices.insert(Arc::clone(&slice.key));
        }
        self.slices.insert(Arc::clone(&slice.key), slice);
        before
    }

    /// Removes a slice unless it belongs to `owner`.
    fn take_if(&mut self, key: &Arc<str>, owner: Option<&Owner>) -> Option<Owner> {
        let held = self.slices.get(key)?;
        if held.owner.as_ref() == owner {
            return None;
        }
        self.take(key)
    }

    fn take(&mut self, key: &Arc<str>) -> Option<Owner> {
        self.stray(key, Vec::new());
        let owner = self.slices.remove(key)?.owner?;
        if let Some(group) = self.groups.get_mut(&owner) {
            group.slices.remove(key);
        }
        Some(owner)
    }

    fn stray(&mut self, key: &Arc<str>, strays: Vec<Rejection>) {
        let before = self.strays.remove(key).unwrap_or_default();
        self.untold |= !same_rejections(&before, &strays);
        if !strays.is_empty() {
            self.strays.insert(Arc::clone(key), strays);
        }
    }

    /// Brings `told` up to date, and says what that changed.
    fn tell(&mut self, owner: &Owner, now: Instant) -> Vec<Change> {
        let Some(group) = self.groups.get_mut(owner) else {
            return Vec::new();
        };
        let slices: Vec<&Slice> = group.slices.iter().filter_map(|key| self.slices.get(key)).collect();
        let names = names(&slices, &group.told, || self.rules.name(owner, "").ok());
        let mut changes = Vec::new();
        let told = std::mem::take(&mut group.told);
        let all: BTreeSet<ServiceName> = names.iter().chain(told.keys()).cloned().collect();
        let mut told = told;
        for name in all {
            let before = told.remove(&name);
            let mut after = merge(&slices, &name, self.family);
            if let Some(before) = &before {
                after.wait(before, now + self.settle, now);
            }
            self.due
                .extend(after.told.leaving.values().map(|when| (*when, owner.clone())));
            let after = after.told;
            let listed = names.contains(&name) || !after.endpoints.is_empty();
            if !listed {
                changes.extend(before.map(|_| Change::Deleted(name)));
                continue;
            }
            if before.is_none_or(|before| !before.same(&after)) {
                changes.push(Change::Applied(after.to_service(&name)));
            }
            group.told.insert(name, after);
        }
        if group.slices.is_empty() && group.told.is_empty() {
            self.groups.remove(owner);
        }
        changes
    }
}

/// The services that the slices list. Slices without ports say nothing about ports: what is known of them stays.
fn names(
    slices: &[&Slice],
    told: &BTreeMap<ServiceName, Told>,
    plain: impl FnOnce() -> Option<ServiceName>,
) -> BTreeSet<ServiceName> {
    let listed: BTreeSet<ServiceName> = slices.iter().flat_map(|slice| slice.entries.keys()).cloned().collect();
    if slices.is_empty() || !listed.is_empty() {
        listed
    } else if told.is_empty() {
        plain().into_iter().collect()
    } else {
        told.keys().cloned().collect()
    }
}

/// One service of the slices.
struct Merged {
    told: Told,
    /// What is there and not to be used.
    omitted: BTreeSet<Address>,
}

fn merge(slices: &[&Slice], name: &ServiceName, family: Family) -> Merged {
    let mut best: BTreeMap<Address, (Authority, &Entry)> = BTreeMap::new();
    let mut rejections = Vec::new();
    for slice in slices {
        for entry in slice.entries.get(name).into_iter().flatten() {
            let address = match entry {
                Entry::Listed { endpoint, .. } => endpoint.address,
                Entry::Omitted(address) => *address,
                Entry::Refused(rejection) => {
                    rejections.push(rejection.clone());
                    continue;
                }
            };
            let new = (slice.authority, entry);
            let held = best.entry(address).or_insert(new);
            if rank(new) > rank(*held) {
                *held = new;
            }
        }
    }
    let preferred = preferred(&best, family);
    let mut merged = Merged {
        told: Told {
            rejections,
            ..Told::default()
        },
        omitted: BTreeSet::new(),
    };
    for (address, (_, entry)) in best {
        match entry {
            Entry::Listed { endpoint, pod } if counts(address, pod.as_deref(), &preferred, family) => {
                merged.told.endpoints.insert(address, endpoint.clone());
            }
            Entry::Listed { .. } | Entry::Omitted(_) => drop(merged.omitted.insert(address)),
            Entry::Refused(_) => {}
        }
    }
    merged
}

/// Of several entries with one address the greatest counts: the word of the pods' own controller, then the healthiest.
fn rank((authority, entry): (Authority, &Entry)) -> impl Ord + use<> {
    let preference = match entry {
        Entry::Listed { endpoint, .. } => Some(endpoint.preference()),
        Entry::Omitted(_) | Entry::Refused(_) => None,
    };
    (authority, preference)
}

/// The pods that have an address of the preferred family.
fn preferred(best: &BTreeMap<Address, (Authority, &Entry)>, family: Family) -> BTreeSet<Arc<str>> {
    let wants = match family {
        Family::PreferIpv4 => is_ipv4 as fn(&Address) -> bool,
        Family::PreferIpv6 => |address: &Address| !is_ipv4(address),
        Family::Ipv4 | Family::Ipv6 | Family::Both => return BTreeSet::new(),
    };
    let pod = |(address, (_, entry)): (&Address, &(Authority, &Entry))| match entry {
        Entry::Listed { pod, .. } if wants(address) => pod.clone(),
        Entry::Listed { .. } | Entry::Omitted(_) | Entry::Refused(_) => None,
    };
    best.iter().filter_map(pod).collect()
}

fn counts(address: Address, pod: Option<&str>, preferred: &BTreeSet<Arc<str>>, family: Family) -> bool {
    let is_ipv4 = is_ipv4(&address);
    let alone = || pod.is_none_or(|pod| !preferred.contains(pod));
    match family {
        Family::Both => true,
        Family::Ipv4 => is_ipv4,
        Family::Ipv6 => !is_ipv4,
        Family::PreferIpv4 => is_ipv4 || alone(),
        Family::PreferIpv6 => !is_ipv4 || alone(),
    }
}

fn is_ipv4(address: &Address) -> bool {
    address.ip().is_ipv4()
}

impl Merged {
    /// Keeps what was ready to the end and is in no slice, for as long as a move may take. What ended in the usual way,
    /// by terminating first, is not waited for.
    fn wait(&mut self, before: &Told, deadline: Instant, now: Instant) {
        for (address, endpoint) in &before.endpoints {
            let listed = self.told.endpoints.contains_key(address) || self.omitted.contains(address);
            if listed || endpoint.health != Health::Healthy {
                continue;
            }
            let until = before.leaving.get(address).copied().unwrap_or(deadline);
            if now < until {
                self.told.endpoints.insert(*address, endpoint.clone());
                self.told.leaving.insert(*address, until);
            }
        }
    }
}

impl Told {
    fn same(&self, other: &Self) -> bool {
        self.endpoints.len() == other.endpoints.len()
            && self
                .endpoints
                .values()
                .zip(other.endpoints.values())
                .all(|(a, b)| a.same_content(b))
            && same_rejections(&self.rejections, &other.rejections)
    }

    fn to_service(&self, name: &ServiceName) -> Service {
        Service {
            name: name.clone(),
            endpoints: self.endpoints.values().cloned().collect(),
            rejections: self.rejections.clone(),
        }
    }
}

fn same_rejections(some: &[Rejection], others: &[Rejection]) -> bool {
    let same = |(a, b): (&Rejection, &Rejection)| a.reason == b.reason && a.provenance.record == b.provenance.record;
    some.len() == others.len() && some.iter().zip(others).all(same)
}

impl Slice {
    /// Nothing of a newer version could be read: each endpoint of the older one is refused by itself, which keeps it as
    /// it was read last.
    fn keep(&mut self, older: &Self) {
        let Some(reason) = &self.unreadable else { return };
        let refused = |entry: &Entry| match entry {
            Entry::Listed { endpoint, .. } => Some(Entry::Refused(Rejection {
                provenance: endpoint.provenance.clone(),
                reason: reason.clone(),
            })),
            Entry::Refused(rejection) => Some(Entry::Refused(rejection.clone())),
            Entry::Omitted(_) => None,
        };
        let kept = older
            .entries
            .iter()
            .map(|(name, entries)| (name.clone(), entries.iter().filter_map(refused).collect()));
        let kept: BTreeMap<ServiceName, Vec<Entry>> = kept.collect();
        if kept.values().any(|entries| !entries.is_empty()) {
            self.entries = kept;
        }
    }
}
