//! Discovery lookups: did an attempt use discovery data this proxy already worked with, or new data, or old?
//!
//! A lookup is one choice of an upstream host. The data used is the endpoint's revision, which the control plane writes
//! into its metadata at the endpoint's last change. The set of revisions in use belongs to the Envoy process: the workers'
//! VMs share it through [`SharedStore`], so a change counts as one miss, however many workers there are.
//!
//! Revisions are opaque: a hash has no order, and a restored registry counts backwards. What is ordered is each worker's own
//! view, since Envoy applies updates to a worker in sequence. Hence the one rule everything follows from: *a worker that has
//! used the newest revision and now uses another one has seen a change; a worker that comes with a revision others left
//! behind is late.*
//!
//! Invariant: memory is bounded on both sides ([`MOST_OWN`], [`slot::SLOTS`] x [`slot::MOST_RECORDS`]), and forgetting an
//! endpoint costs at the most one hit counted as a miss.

pub mod slot;

use std::collections::HashMap;

use slot::{Slot, SlotNumber};

/// How a lookup went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The revision is the newest this process knows of.
    Hit,
    /// The first use of a revision: a change has reached the traffic.
    Miss,
    /// The process already moved on to another revision, longer ago than the grace.
    Stale,
    /// There was no host to choose.
    Absent,
    /// The host carries no metadata of ours.
    Untracked,
}

impl Outcome {
    pub const ALL: [Self; 5] = [Self::Hit, Self::Miss, Self::Stale, Self::Absent, Self::Untracked];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::Untracked => "untracked",
        }
    }
}

/// An endpoint of a cluster, as a 64-bit hash: a collision costs a wrong count, never a wrong route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

impl EndpointId {
    pub fn new(cluster: &[u8], address: &[u8]) -> Self {
        // 0xff occurs in no UTF-8 text, so the pair cannot be split in another way.
        Self(fnv1a([cluster, b"\xff", address]))
    }
}

/// A revision, hashed like its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    pub fn new(rev: &[u8]) -> Self {
        Self(fnv1a([rev]))
    }
}

/// FNV-1a: its value is fixed by definition, so two builds of the module may share one store.
fn fnv1a<const N: usize>(parts: [&[u8]; N]) -> u64 {
    let bytes = parts.into_iter().flatten();
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What the VMs of one process share: a compare-and-swap map.
pub trait SharedStore {
    /// The value, empty when there is none, and what to pass to [`SharedStore::swap`].
    fn load(&mut self, slot: SlotNumber) -> (Vec<u8>, Version);

    /// Stores the value if nobody else did since `version`; says whether it did.
    fn swap(&mut self, slot: SlotNumber, value: &[u8], version: Version) -> bool;

    fn now_ms(&mut self) -> u64;
}

/// The state of a value in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Nothing was ever stored.
    Absent,
    At(u32),
}

/// Endpoints a VM remembers. As many as the shared store holds: there is no use in remembering more.
pub const MOST_OWN: usize = slot::SLOTS * slot::MOST_RECORDS;
/// Attempts to store a change. Another VM wins only by storing a change of its own, so a few rounds always do.
const SWAP_ATTEMPTS: usize = 8;

/// One VM's view: the first level of the cache, asked without a call to the host.
#[derive(Debug, Default)]
pub struct Tracker {
    own_by_endpoint: HashMap<EndpointId, Own>,
    /// Slots in which this VM has endpoints: the ones a refresh has to read.
    used: SlotSet,
}

/// What this VM last used of an endpoint.
#[derive(Clone, Copy, Debug)]
struct Own {
    revision: Revision,
    /// Others have used a newer one, longer ago than the grace.
    behind: bool,
}

#[derive(Debug, Default)]
struct SlotSet([u64; slot::SLOTS / 64]);

impl SlotSet {
    fn insert(&mut self, number: SlotNumber) {
        if let Some(word) = self.0.get_mut(number.index() / 64) {
            *word |= 1 << (number.index() % 64);
        }
    }

    fn contains(&self, number: SlotNumber) -> bool {
        let word = self.0.get(number.index() / 64).copied().unwrap_or_default();
        word & (1 << (number.index() % 64)) != 0
    }
}

impl Tracker {
    /// Accounts one use of an endpoint's revision.
    pub fn observe(
        &mut self,
        endpoint: EndpointId,
        revision: Revision,
        grace_ms: u64,
        store: &mut impl SharedStore,
    ) -> Outcome {
        let own = self.own_by_endpoint.get(&endpoint).copied();
        if let Some(own) = own
            && own.revision == revision
        {
            return if own.behind { Outcome::Stale } else { Outcome::Hit };
        }
        let number = SlotNumber::of(endpoint);
        let previous = own.map(|own| own.revision);
        let outcome = settle(endpoint, revision, previous, grace_ms, store);
        self.remember(endpoint, revision, outcome == Outcome::Stale);
        self.used.insert(number);
        outcome
    }

    /// Looks at what the other VMs have used since; called from the timer.
    pub fn refresh(&mut self, grace_ms: u64, store: &mut impl SharedStore) {
        let now_ms = store.now_ms();
        for number in SlotNumber::all().filter(|number| self.used.contains(*number)) {
            let (bytes, _) = store.load(number);
            for record in Slot::decode(&bytes).records() {
                if let Some(own) = self.own_by_endpoint.get_mut(&record.endpoint()) {
                    own.behind = record.left_behind(own.revision, now_ms, grace_ms);
                }
            }
        }
    }

    fn remember(&mut self, endpoint: EndpointId, revision: Revision, behind: bool) {
        // Starting over is safe: the shared store still tells a known revision from a new one.
        if self.own_by_endpoint.len() >= MOST_OWN && !self.own_by_endpoint.contains_key(&endpoint) {
            self.own_by_endpoint.clear();
            self.used = SlotSet::default();
        }
        self.own_by_endpoint.insert(endpoint, Own { revision, behind });
    }
}

/// Settles with the other VMs what a use is, and leaves a note of it.
fn settle(
    endpoint: EndpointId,
    revision: Revision,
    previous: Option<Revision>,
    grace_ms: u64,
    store: &mut impl SharedStore,
) -> Outcome {
    let number = SlotNumber::of(endpoint);
    let now_ms = store.now_ms();
    let mut outcome = Outcome::Miss;
    for _ in 0..SWAP_ATTEMPTS {
        let (bytes, version) = store.load(number);
        let mut slot = Slot::decode(&bytes);
        let judgement = slot.judge(endpoint, revision, previous, now_ms);
        outcome = match judgement {
            slot::Judgement::Current => Outcome::Hit,
            slot::Judgement::Superseded { since_ms } if now_ms.saturating_sub(since_ms) > grace_ms => Outcome::Stale,
            slot::Judgement::Superseded { .. } => Outcome::Hit,
            slot::Judgement::Advanced => Outcome::Miss,
        };
        if judgement != slot::Judgement::Advanced || store.swap(number, &slot.encode(), version) {
            break;
        }
    }
    outcome
}

#[cfg(test)]
mod tests;
