//! Who is registered, under which lease, in which version: the truth of the embedded store, as a value.
//!
//! Time comes in with every call, as the time since the ledger was made; nothing here waits, writes or knows a clock.
//! What a call changed is collected as [`Entry`]s, which make the change last, and as names of services, which others
//! have to be told about.
//!
//! A lease runs only while somebody listens. After a restart, and after a pause in which no renewal could have been
//! taken, every lease has its whole time again: nobody is evicted because we were away.

mod limits;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use leadsman_core::model::ServiceName;
use serde::{Deserialize, Serialize};

pub(super) use self::limits::Limits;
use super::model::{Content, Guard, Key, Lease, Receipt, Refusal, Registration};

/// The longest time between two turns that counts as having listened. Above what a busy machine takes, below the time
/// in which a client of a short lease would have come again.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// How long it is said of an instance that its lease ran out.
const OBITUARY: Duration = Duration::from_mins(5);
/// Instances of which that is said: with more, the oldest are forgotten first.
const MAX_OBITUARIES: usize = 1000;

/// One instance, as it is kept and as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) version: u64,
    pub(super) lease: Lease,
    pub(super) holder: String,
    pub(super) ttl_seconds: u32,
    pub(super) draining: bool,
    pub(super) endpoint: Content,
}

/// Why an instance is no longer registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum End {
    Deregistered,
    LeaseRanOut,
}

/// One change, to be written down before anybody hears of it. Each has a revision of its own, one above the last.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Put { key: Key, held: Held },
    End { key: Key, revision: u64, why: End },
}

impl Entry {
    pub(super) fn revision(&self) -> u64 {
        match self {
            Self::Put { held, .. } => held.version,
            Self::End { revision, .. } => *revision,
        }
    }
}

#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    held: BTreeMap<Key, Slot>,
    counts: BTreeMap<ServiceName, usize>,
    deadlines: BTreeSet<(Duration, Key)>,
    revision: u64,
    last_turn: Duration,
    obituaries: BTreeMap<Key, Obituary>,
    /// The same, oldest first.
    mourned: BTreeSet<(Duration, Key)>,
    entries: Vec<Entry>,
    undo: Vec<Undo>,
    changed: BTreeSet<ServiceName>,
}

/// What one entry can be taken back by.
#[derive(Debug)]
struct Undo {
    key: Key,
    before: Option<Slot>,
    revision: u64,
}

#[derive(Debug)]
struct Slot {
    held: Held,
    deadline: Duration,
}

#[derive(Debug)]
struct Obituary {
    at: Duration,
    held: Held,
}

impl Ledger {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            held: BTreeMap::new(),
            counts: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            revision: 0,
            last_turn: Duration::ZERO,
            obituaries: BTreeMap::new(),
            mourned: BTreeSet::new(),
            entries: Vec::new(),
            undo: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// A ledger with what was written down. Every lease begins anew.
    pub(super) fn restore(limits: Limits, entries: impl IntoIterator<Item = Entry>, revision: u64) -> Self {
        let mut ledger = Self::new(limits);
        for entry in entries {
            ledger.revision = ledger.revision.max(entry.revision());
            match entry {
                Entry::Put { key, held } => {
                    let deadline = ttl(&held);
                    ledger.insert(key, held, deadline);
                }
                Entry::End { key, .. } => drop(ledger.take(&key)),
            }
        }
        ledger.revision = ledger.revision.max(revision);
        ledger.changed.clear();
        ledger
    }

    /// Begins a turn: says how long nobody listened, if that was too long to hold it against anybody.
    pub(super) fn turn(&mut self, now: Duration) -> Option<Duration> {
        let away = now.saturating_sub(std::mem::replace(&mut self.last_turn, now));
        if away <= PAUSE {
            return None;
        }
        for (key, slot) in &mut self.held {
            let whole = now + ttl(&slot.held);
            if slot.deadline < whole {
                self.deadlines.remove(&(slot.deadline, key.clone()));
                self.deadlines.insert((whole, key.clone()));
                slot.deadline = whole;
            }
        }
        Some(away)
    }

    /// Registers, with `fresh` as the lease if a new one is needed.
    pub(super) fn register(
        &mut self,
        now: Duration,
        registration: Registration,
        fresh: Lease,
    ) -> Result<Receipt, Refusal> {
        registration.check()?;
        let Registration {
            key,
            content,
            ttl_seconds,
            holder,
            expected,
        } = registration;
        let before = self.held.get(&key).map(|slot| &slot.held);
        let actual = before.map_or(0, |held| held.version);
        if let Some(expected) = expected.filter(|expected| *expected != actual) {
            return Err(Refusal::Conflict { expected, actual });
        }
        let own = before.filter(|held| held.holder == holder);
        if let Some(held) = own.filter(|held| held.endpoint == content && held.ttl_seconds == ttl_seconds) {
            let receipt = receipt(held, false);
            self.extend(&key, now);
            return Ok(receipt);
        }
        // Who comes as another holder begins anew: with a lease of its own, and in service.
        let (lease, draining) = own.map_or((fresh, false), |held| (held.lease, held.draining));
        if before.is_none() {
            self.check_room(&key.service)?;
        }
        let held = Held {
            version: self.next_revision(),
            lease,
            holder,
            ttl_seconds,
            draining,
            endpoint: content,
        };
        let receipt = receipt(&held, true);
        self.put(key, held, now);
        Ok(receipt)
    }

    pub(super) fn renew(&mut self, now: Duration, key: &Key, lease: Lease) -> Result<Receipt, Refusal> {
        let held = self.find(key)?;
        Guard {
            lease: Some(lease),
            version: None,
        }
        .check(key, held.lease, held.version)?;
        let receipt = receipt(held, false);
        self.extend(key, now);
        Ok(receipt)
    }

    /// Takes an instance out of service, or back into it. Its lease runs on.
    pub(super) fn drain(&mut self, key: &Key, guard: Guard, draining: bool) -> Result<Receipt, Refusal> {
        let slot = self.held.get(key).ok_or_else(|| Refusal::unknown(key))?;
        guard.check(key, slot.held.lease, slot.held.version)?;
        if slot.held.draining == draining {
            return Ok(receipt(&slot.held, false));
        }
        let (deadline, held) = (slot.deadline, slot.held.clone());
        let held = Held {
            version: self.next_revision(),
            draining,
            ..held
        };
        let receipt = receipt(&held, true);
        self.put_until(key.clone(), held, deadline);
        Ok(receipt)
    }

    /// Whether there was something to remove.
    pub(super) fn deregister(&mut self, key: &Key, guard: Guard) -> Result<bool, Refusal> {
        let Ok(held) = self.find(key) else {
            return Ok(false);
        };
        guard.check(key, held.lease, held.version)?;
        self.end(key, End::Deregistered);
        Ok(true)
    }

    /// Lets go of every lease that has run out, and of obituaries that are old.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some((deadline, key)) = self.deadlines.first().cloned() {
            if now < deadline {
                break;
            }
            if let Some(held) = self.end(&key, End::LeaseRanOut) {
                self.mourn(key, held, now);
            }
        }
        while self
            .mourned
            .first()
            .is_some_and(|(at, _)| now >= *at + OBITUARY || self.mourned.len() > MAX_OBITUARIES)
        {
            if let Some((_, key)) = self.mourned.pop_first() {
                self.obituaries.remove(&key);
                self.changed.insert(key.service);
            }
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether there is anything to write down.
    pub(super) fn pending(&self) -> usize {
        self.entries.len()
    }

    /// What changed since the last call, to be written down; then [`Ledger::settle`] or [`Ledger::take_back`].
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// What changed is written down.
    pub(super) fn settle(&mut self) {
        self.undo.clear();
    }

    /// What changed could not be written down: it never was. Renewals stay.
    pub(super) fn take_back(&mut self) {
        self.entries.clear();
        while let Some(Undo { key, before, revision }) = self.undo.pop() {
            let after = self.take(&key);
            self.revision = revision;
            if let Some(Slot { held, deadline }) = before {
                // Whoever spoke for the instance was heard, whatever became of what it said.
                let heard = after.filter(|after| after.held.lease == held.lease);
                let deadline = heard.map_or(deadline, |after| after.deadline.max(deadline));
                self.insert(key, held, deadline);
            }
        }
    }

    /// The services that are not as they were at the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.changed)
    }

    fn find(&self, key: &Key) -> Result<&Held, Refusal> {
        let slot = self.held.get(key).ok_or_else(|| Refusal::unknown(key))?;
        Ok(&slot.held)
    }

    fn check_room(&self, service: &ServiceName) -> Result<(), Refusal> {
        let of_service = self.counts.get(service).copied().unwrap_or_default();
        self.limits
            .check(service, of_service, self.held.len(), self.counts.len())
    }

    fn next_revision(&mut self) -> u64 {
        self.revision = self.revision.saturating_add(1);
        self.revision
    }

    fn extend(&mut self, key: &Key, now: Duration) {
        if let Some(slot) = self.held.get_mut(key) {
            self.deadlines.remove(&(slot.deadline, key.clone()));
            slot.deadline = now + ttl(&slot.held);
            self.deadlines.insert((slot.deadline, key.clone()));
        }
    }

    fn put(&mut self, key: Key, held: Held, now: Duration) {
        let deadline = now + ttl(&held);
        self.put_until(key, held, deadline);
    }

    fn put_until(&mut self, key: Key, held: Held, deadline: Duration) {
        self.entries.push(Entry::Put {
            key: key.clone(),
            held: held.clone(),
        });
        let revision = held.version.saturating_sub(1);
        let before = self.insert(key.clone(), held, deadline);
        self.undo.push(Undo { key, before, revision });
    }

    fn insert(&mut self, key: Key, held: Held, deadline: Duration) -> Option<Slot> {
        let before = self.take(&key);
        self.forgive(&key);
        *self.counts.entry(key.service.clone()).or_default() += 1;
        self.changed.insert(key.service.clone());
        self.deadlines.insert((deadline, key.clone()));
        self.held.insert(key, Slot { held, deadline });
        before
    }

    fn end(&mut self, key: &Key, why: End) -> Option<Held> {
        let slot = self.take(key)?;
        let held = slot.held.clone();
        self.undo.push(Undo {
            key: key.clone(),
            before: Some(slot),
            revision: self.revision,
        });
        let revision = self.next_revision();
        self.entries.push(Entry::End {
            key: key.clone(),
            revision,
            why,
        });
        self.changed.insert(key.service.clone());
        Some(held)
    }

    fn take(&mut self, key: &Key) -> Option<Slot> {
        let slot = self.held.remove(key)?;
        self.deadlines.remove(&(slot.deadline, key.clone()));
        if let Some(count) = self.counts.get_mut(&key.service) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&key.service);
            }
        }
        Some(slot)
    }

    fn mourn(&mut self, key: Key, held: Held, now: Duration) {
        self.mourned.insert((now, key.clone()));
        self.obituaries.insert(key, Obituary { at: now, held });
    }

    fn forgive(&mut self, key: &Key) {
        if let Some(obituary) = self.obituaries.remove(key) {
            self.mourned.remove(&(obituary.at, key.clone()));
        }
    }
}

fn ttl(held: &Held) -> Duration {
    Duration::from_secs(held.ttl_seconds.into())
}

fn receipt(held: &Held, changed: bool) -> Receipt {
    Receipt {
        version: held.version,
        lease: held.lease,
        ttl_seconds: held.ttl_seconds,
        draining: held.draining,
        changed,
    }
}

#[cfg(test)]
mod tests;
