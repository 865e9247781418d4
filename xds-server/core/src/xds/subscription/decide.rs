//! What to say next: name by name, what the client is to hold against what it may hold.

use std::sync::Arc;
use std::time::Duration;

use super::{Held, Holds, InFlight, Listed, Sent, Subscription};
use crate::snapshot::{Resource, ResourceType, Snapshot, Version};
use crate::xds::Variant;

/// What goes into one response.
#[derive(Debug, Default)]
pub(in crate::xds) struct Batch {
    /// What is new to the client.
    pub(in crate::xds) changed: Vec<Arc<Resource>>,
    pub(in crate::xds) removed: Vec<Arc<str>>,
    /// Everything the client is to hold, where a response lists that.
    listed: Option<Vec<Arc<Resource>>>,
    bytes: usize,
    accused: Vec<(Arc<str>, Version)>,
    trial: bool,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn add(&mut self, resource: Arc<Resource>) {
        self.bytes += resource.field.len();
        self.changed.push(resource);
    }

    /// Everything the response carries.
    fn carried(&self) -> &[Arc<Resource>] {
        self.listed.as_deref().unwrap_or(&self.changed)
    }

    pub(in crate::xds) fn into_carried(self) -> (Vec<Arc<Resource>>, Vec<Arc<str>>) {
        (self.listed.unwrap_or(self.changed), self.removed)
    }
}

impl Subscription {
    /// What to send next, at most about `max_bytes` of it, or `None` when the client knows everything. `led` are resources
    /// that the client drops by itself when it drops another one that it also has from us.
    pub(in crate::xds) fn next_batch(
        &mut self,
        snapshot: &Snapshot,
        max_bytes: usize,
        led: &dyn Fn(&str) -> bool,
    ) -> Option<Batch> {
        if self.is_whole() {
            return self.next_whole(snapshot, led);
        }
        if let Some(batch) = self.next_retry(snapshot, led) {
            return Some(batch);
        }
        let mut batch = Batch::default();
        self.look_at_everything(snapshot);
        while batch.bytes < max_bytes
            && let Some(name) = self.dirty.pop_first()
        {
            self.decide(&name, snapshot, led, &mut batch);
        }
        let answers = std::mem::take(&mut self.owes_answer);
        (answers || !batch.is_empty()).then_some(batch)
    }

    fn next_retry(&mut self, snapshot: &Snapshot, led: &dyn Fn(&str) -> bool) -> Option<Batch> {
        while let Some(retry) = self.retries.pop_front() {
            let mut batch = Batch::default();
            let mut same = true;
            for (name, version) in retry.names {
                self.dirty.remove(&name);
                let before = batch.changed.len();
                self.decide(&name, snapshot, led, &mut batch);
                same &= batch
                    .changed
                    .get(before)
                    .is_some_and(|resource| resource.version == version);
            }
            // Other content than was refused proves nothing about who was left out.
            if same {
                batch.accused = retry.accused;
            } else {
                self.release(retry.accused);
            }
            if !batch.is_empty() {
                return Some(batch);
            }
        }
        None
    }

    /// A response that lists everything. While the culprit of a refusal is searched, one suspect at a time is listed,
    /// and its answer awaited: what else changes would be a second suspect.
    fn next_whole(&mut self, snapshot: &Snapshot, led: &dyn Fn(&str) -> bool) -> Option<Batch> {
        let on_trial = self.in_flight.iter().any(|response| response.trial);
        if on_trial || (self.claims && self.is_unsure_of_any(snapshot)) {
            return None;
        }
        if !self.retries.is_empty() && !self.in_flight.is_empty() {
            return None;
        }
        let mut batch = self.next_retry(snapshot, led).unwrap_or_default();
        batch.trial = !batch.is_empty();
        if !batch.trial {
            self.look_at_everything(snapshot);
            while let Some(name) = self.dirty.pop_first() {
                self.decide(&name, snapshot, led, &mut batch);
            }
        }
        if batch.is_empty() && !std::mem::take(&mut self.owes_answer) {
            return None;
        }
        self.owes_answer = false;
        self.claims = false;
        let listed = self.held.values().filter_map(|held| held.listed.as_ref()?.now.clone());
        batch.listed = Some(listed.collect());
        Some(batch)
    }

    /// Whether the client waits for a first list because it would drop what is not in it, and absence is no proof yet.
    pub(in crate::xds) fn withholds(&self, snapshot: &Snapshot) -> bool {
        self.started && self.claims && self.is_unsure_of_any(snapshot)
    }

    /// Whether something that the client may hold may exist, although it is not there.
    fn is_unsure_of_any(&self, snapshot: &Snapshot) -> bool {
        let complete = snapshot.is_complete();
        let unsure =
            |name: &Arc<str>| snapshot.get(self.kind, name).is_none() && (!complete || snapshot.is_unsure(name));
        (self.wildcard && !self.kind.is_by_name() && !complete) || self.names.iter().any(unsure)
    }

    fn look_at_everything(&mut self, snapshot: &Snapshot) {
        if std::mem::take(&mut self.scan) {
            let all = snapshot.all(self.kind).map(|resource| resource.name.clone());
            self.dirty.extend(all);
            self.dirty.extend(self.held.keys().cloned());
        }
    }

    fn decide(&mut self, name: &Arc<str>, snapshot: &Snapshot, led: &dyn Fn(&str) -> bool, batch: &mut Batch) {
        if !self.is_wanted(name) {
            self.held.remove(name);
            return;
        }
        let named = self.names.contains(name);
        let found = snapshot
            .get(self.kind, name)
            .filter(|_| named || !self.kind.is_by_name());
        match found {
            Some(resource) => self.decide_present(resource, batch),
            None if snapshot.is_unsure(name) => {}
            // While a source has not answered, a resource that is not there may still come; but what was sent and is there
            // no more is gone.
            None if !snapshot.is_complete() && !self.was_sent_here(name) => {}
            None => self.decide_missing(name, led(name), batch),
        }
    }

    fn decide_present(&mut self, resource: Arc<Resource>, batch: &mut Batch) {
        let whole = self.is_whole();
        let held = self.held.entry(resource.name.clone()).or_default();
        if held.refuses(resource.version) {
            return;
        }
        held.send(&resource, whole);
        held.told_missing = false;
        held.sent_here = true;
        batch.add(resource);
    }

    fn decide_missing(&mut self, name: &Arc<str>, led: bool, batch: &mut Batch) {
        let (explicit, whole, sotw) = (
            self.names.contains(name),
            self.is_whole(),
            self.variant == Variant::StateOfTheWorld,
        );
        let Some(held) = self.held.get_mut(name) else { return };
        let knows = held.told_missing || (held.holds == Holds::Nothing && !explicit);
        let void = match self.kind {
            // Envoy drops the endpoints of a cluster with the cluster.
            ResourceType::Endpoint if led && held.sent_here => {
                held.holds = Holds::Nothing;
                return self.forget(name, explicit);
            }
            // It takes a removal of endpoints for no change at all: what clears the hosts is an empty assignment.
            ResourceType::Endpoint => (sotw || (!led && held.holds != Holds::Nothing)).then_some(self.kind),
            // The state of the world can't say that one name is missing.
            ResourceType::Listener | ResourceType::Route => (sotw && explicit).then_some(self.kind),
            ResourceType::Cluster | ResourceType::ServiceEntry => None,
        };
        if let Some(void) = void.and_then(|kind| Resource::void(kind, name)) {
            let void = Arc::new(void);
            if !held.refuses(void.version) {
                held.send(&void, whole);
                batch.add(void);
            }
            let held = held.clone();
            return self.remember(name, explicit, held);
        }
        if !knows {
            batch.removed.push(name.clone());
        }
        held.holds = Holds::Nothing;
        self.forget(name, explicit);
    }

    /// The client was told that there is nothing, or knows.
    fn forget(&mut self, name: &Arc<str>, explicit: bool) {
        self.remember(name, explicit, Held::default());
    }

    fn remember(&mut self, name: &Arc<str>, explicit: bool, held: Held) {
        if !explicit {
            self.held.remove(name);
            return;
        }
        let told = Held {
            holds: held.holds,
            acked: held.acked,
            refused: held.refused,
            listed: held.listed,
            told_missing: true,
            sent_here: false,
        };
        self.held.insert(name.clone(), told);
    }

    pub(in crate::xds) fn sent(&mut self, nonce: u64, batch: &Batch, now: Duration) {
        let whole = self.is_whole();
        let resources = batch.carried().iter().map(|resource| Sent {
            name: resource.name.clone(),
            version: Some(resource.version),
            resource: whole.then(|| resource.clone()),
        });
        let removed = batch.removed.iter().map(|name| Sent {
            name: name.clone(),
            version: None,
            resource: None,
        });
        self.in_flight.push_back(InFlight {
            nonce,
            sent: resources.chain(removed).collect(),
            accused: batch.accused.clone(),
            trial: batch.trial,
            since: now,
        });
    }
}

impl Held {
    /// Whether there is no use in sending this: the client has it, or refused it.
    fn refuses(&self, version: Version) -> bool {
        self.holds == Holds::This(version) || self.rejected() == Some(version)
    }

    /// The client accepted this, `last` if nothing newer of it is on its way or due. It may be what it refused before,
    /// together with something else.
    pub(super) fn accept(&mut self, version: Version, resource: Option<Arc<Resource>>, last: bool) {
        if self.rejected() == Some(version) {
            self.refused = None;
            self.holds = Holds::This(version);
            if let (Some(listed), Some(resource)) = (&mut self.listed, &resource) {
                listed.now = Some(resource.clone());
            }
        }
        let lists = |listed: &Listed| listed.now.as_ref().is_some_and(|now| now.version == version);
        if last && self.holds == Holds::Unknown && self.listed.as_deref().is_some_and(lists) {
            self.holds = Holds::This(version);
        }
        self.acked |= last && self.holds == Holds::This(version);
        if let Some(resource) = resource {
            self.listed.get_or_insert_default().good = Some(resource);
        }
    }

    pub(super) fn rejected(&self) -> Option<Version> {
        self.refused.as_ref().map(|refused| refused.version)
    }

    /// Where every response lists everything, what the client accepted last.
    pub(super) fn accepted(&self) -> Option<Version> {
        let good = self.listed.as_ref()?.good.as_ref()?;
        Some(good.version)
    }

    fn send(&mut self, resource: &Arc<Resource>, whole: bool) {
        self.holds = Holds::This(resource.version);
        self.acked = false;
        self.refused = None;
        if whole {
            self.listed.get_or_insert_default().now = Some(resource.clone());
        }
    }
}
