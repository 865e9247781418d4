//! What to say next: name by name, what the client is to hold against what it may hold.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::row::{Holds, Row};
use super::table::Table;
use super::{InFlight, Sent, Subscription};
use crate::snapshot::{Resource, ResourceType, Snapshot, Version};
use crate::xds::{Resources, Variant};

/// What goes into one response.
#[derive(Debug, Default)]
pub(in crate::xds) struct Batch {
    /// What is new to the client.
    pub(in crate::xds) changed: Resources,
    pub(in crate::xds) removed: Vec<Arc<str>>,
    /// Everything the client is to hold, where a response lists that.
    listed: Option<Resources>,
    bytes: usize,
    /// Of the response, if there will be one.
    number: u16,
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

    pub(in crate::xds) fn into_carried(self) -> (Resources, Vec<Arc<str>>) {
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
        let mut batch = self.new_batch();
        self.look_at_everything(snapshot);
        while batch.bytes < max_bytes
            && let Some((name, named)) = self.table.next_due()
        {
            self.decide((&name, named), snapshot, led, &mut batch);
        }
        let answers = std::mem::take(&mut self.owes_answer);
        (answers || !batch.is_empty()).then_some(batch)
    }

    fn new_batch(&self) -> Batch {
        Batch {
            number: self.responses.wrapping_add(1),
            ..Batch::default()
        }
    }

    fn next_retry(&mut self, snapshot: &Snapshot, led: &dyn Fn(&str) -> bool) -> Option<Batch> {
        while let Some(retry) = self.retries.pop_front() {
            let mut batch = self.new_batch();
            let mut same = true;
            for (name, version) in retry.names {
                self.table.settle(&name);
                let before = batch.changed.len();
                let named = self.table.is_named(&name);
                self.decide((&name, named), snapshot, led, &mut batch);
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
        let mut batch = self.next_retry(snapshot, led).unwrap_or_else(|| self.new_batch());
        batch.trial = !batch.is_empty();
        if !batch.trial {
            self.look_at_everything(snapshot);
            while let Some((name, named)) = self.table.next_due() {
                self.decide((&name, named), snapshot, led, &mut batch);
            }
        }
        if batch.is_empty() && !std::mem::take(&mut self.owes_answer) {
            return None;
        }
        self.owes_answer = false;
        self.claims = false;
        let listed = self.table.listed.values().filter_map(|listed| listed.now.clone());
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
        let mut named = self.table.rows().filter(|row| row.named);
        (self.wildcard && !self.kind.is_by_name() && !complete) || named.any(|row| unsure(&row.name))
    }

    fn look_at_everything(&mut self, snapshot: &Snapshot) {
        if std::mem::take(&mut self.scan) {
            let all = snapshot.all(self.kind).map(|resource| &resource.name);
            self.table.make_all_due(all, Row::is_held);
        }
    }

    fn decide(
        &mut self,
        (name, named): (&Arc<str>, bool),
        snapshot: &Snapshot,
        led: &dyn Fn(&str) -> bool,
        batch: &mut Batch,
    ) {
        if !named && !self.wildcard {
            self.table.release(name);
            return;
        }
        let found = snapshot
            .get(self.kind, name)
            .filter(|_| named || !self.kind.is_by_name());
        match found {
            Some(resource) => return self.decide_present(resource, batch),
            None if snapshot.is_unsure(name) => {}
            // While a source has not answered, a resource that is not there may still come; but what was sent and is there
            // no more is gone.
            None if !snapshot.is_complete() && !self.was_sent_here(name) => {}
            None => self.decide_missing(name, named, led(name), batch),
        }
        if !named {
            self.table.tidy(name);
        }
    }

    fn decide_present(&mut self, resource: Arc<Resource>, batch: &mut Batch) {
        if self.table.offer(&resource, batch.number, self.is_whole()) {
            batch.add(resource);
        }
    }

    fn decide_missing(&mut self, name: &Arc<str>, named: bool, led: bool, batch: &mut Batch) {
        let (whole, sotw) = (self.is_whole(), self.variant == Variant::StateOfTheWorld);
        let Some(row) = self.table.held_mut(name) else { return };
        let knows = row.told_missing || (row.holds() == Holds::Nothing && !named);
        let void = match self.kind {
            // Envoy drops the endpoints of a cluster with the cluster.
            ResourceType::Endpoint if led && row.sent_here => return self.forget(name, named),
            // It takes a removal of endpoints for no change at all: what clears the hosts is an empty assignment.
            ResourceType::Endpoint => (sotw || (!led && row.holds() != Holds::Nothing)).then_some(self.kind),
            // The state of the world can't say that one name is missing.
            ResourceType::Listener | ResourceType::Route => (sotw && named).then_some(self.kind),
            ResourceType::Cluster | ResourceType::ServiceEntry => None,
        };
        if let Some(void) = void.and_then(|kind| Resource::void(kind, name)) {
            let void = Arc::new(void);
            if self.table.offer(&void, batch.number, whole) {
                batch.add(void);
            }
            return self.remember(name, named);
        }
        if !knows {
            row.response = batch.number;
            batch.removed.push(name.clone());
        }
        self.forget(name, named);
    }

    /// The client was told that there is nothing, or knows.
    fn forget(&mut self, name: &Arc<str>, named: bool) {
        if named {
            self.table.listed.remove(name);
            self.table.renew(name, Holds::Nothing);
        }
        self.remember(name, named);
    }

    fn remember(&mut self, name: &Arc<str>, named: bool) {
        if named {
            let row = self.table.hold(name);
            row.told_missing = true;
            row.sent_here = false;
        } else {
            self.table.release(name);
        }
    }

    pub(in crate::xds) fn sent(&mut self, nonce: u64, batch: &Batch, now: Duration) {
        let whole = self.is_whole();
        self.responses = batch.number;
        if whole {
            self.table.note(batch.carried(), batch.number);
        }
        // Kept until the answer comes, which may be long: no larger than needed.
        let mut sent = SmallVec::with_capacity(batch.carried().len());
        sent.extend(batch.carried().iter().map(|resource| Sent {
            name: resource.name.clone(),
            version: resource.version,
            resource: whole.then(|| resource.clone()),
        }));
        self.in_flight.push_back(InFlight {
            nonce,
            number: batch.number,
            sent,
            removes: !batch.removed.is_empty(),
            accused: batch.accused.clone(),
            trial: batch.trial,
            since: now,
        });
    }
}

impl Table {
    /// Makes the resource a part of a response, unless there is no use in that: the client has it, or refused it.
    fn offer(&mut self, resource: &Arc<Resource>, response: u16, whole: bool) -> bool {
        let (name, version) = (&resource.name, resource.version);
        let rejected = self.rejected(name);
        let row = self.hold(name);
        row.share(name);
        if row.holds() == Holds::This(version) || rejected == Some(version) {
            return false;
        }
        row.set(Holds::This(version));
        (row.acked, row.told_missing, row.sent_here) = (false, false, true);
        row.response = response;
        if rejected.is_some() {
            self.refused.remove(name);
        }
        if whole {
            self.listed.entry(name.clone()).or_default().now = Some(resource.clone());
        }
        true
    }

    fn note(&mut self, resources: &[Arc<Resource>], response: u16) {
        for resource in resources {
            if let Some(row) = self.held_mut(&resource.name) {
                row.response = response;
            }
        }
    }

    /// The client accepted this, as part of a response, unless its number plays no part. Only the last one that spoke of
    /// it, when nothing newer of it is due, says what the client holds. It may be what it refused before, together with
    /// something else.
    pub(super) fn accept(&mut self, sent: Sent, response: Option<u16>) {
        let Sent {
            name,
            version,
            resource,
        } = sent;
        let refused = self.rejected(&name) == Some(version);
        let now = self.listed.get(&name).and_then(|listed| listed.now.as_ref());
        let lists = now.is_some_and(|now| now.version == version);
        let Some(row) = self.held_mut(&name) else { return };
        let last = response.is_none_or(|response| !row.due && row.response == response);
        if refused || (last && lists && row.holds() == Holds::Unknown) {
            row.set(Holds::This(version));
        }
        row.acked |= last && row.holds() == Holds::This(version);
        if refused {
            self.refused.remove(&name);
        }
        if let Some(resource) = resource {
            let again = refused && self.listed.contains_key(&name);
            let listed = self.listed.entry(name).or_default();
            if again {
                listed.now = Some(resource.clone());
            }
            listed.good = Some(resource);
        }
    }

    pub(super) fn rejected(&self, name: &str) -> Option<Version> {
        self.refused.get(name).map(|refused| refused.version)
    }

    /// Where every response lists everything, what the client accepted last.
    pub(super) fn accepted(&self, name: &str) -> Option<Version> {
        let good = self.listed.get(name)?.good.as_ref()?;
        Some(good.version)
    }
}
