//! One type on one stream: what the client asked for, what it may hold, and what it still has to hear.

mod report;

pub use report::{ResourceState, TypeReport};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Interest, Request};
use crate::snapshot::{Resource, ResourceType, Snapshot, Version};

/// What the client may hold of a resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Holds {
    #[default]
    Nothing,
    /// We sent it, or the client said so when it connected.
    This(Version),
    /// Anything: it was part of a response that was rejected, or the client asks for it again.
    Unknown,
}

#[derive(Clone, Debug, Default)]
struct Held {
    holds: Holds,
    acked: Option<Version>,
    /// Bytes that the client refused; they are not sent again.
    rejected: Option<Version>,
    told_missing: bool,
    sent_here: bool,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    sent: Vec<(Arc<str>, Option<Version>)>,
    since: Duration,
}

/// Envoy's refusals quote whole resources; this much says which one and why.
const MAX_NACK_BYTES: usize = 1024;

#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    started: bool,
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    held: BTreeMap<Arc<str>, Held>,
    dirty: BTreeSet<Arc<str>>,
    /// Look at every resource, because the client wants everything and just said so.
    scan: bool,
    /// A first request for everything is answered even when there is nothing: Envoy waits for it.
    owes_answer: bool,
    /// Parts of a refused response, to find the culprit without holding up the others.
    isolated: VecDeque<Vec<Arc<str>>>,
    in_flight: VecDeque<InFlight>,
    last_nack: Option<String>,
    nacks: u64,
}

/// What goes into one response.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) resources: Vec<Arc<Resource>>,
    pub(super) removed: Vec<Arc<str>>,
    pub(super) bytes: usize,
    answers: bool,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            started: false,
            wildcard: false,
            names: BTreeSet::new(),
            held: BTreeMap::new(),
            dirty: BTreeSet::new(),
            scan: false,
            owes_answer: false,
            isolated: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_nack: None,
            nacks: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Takes the names and the answer out of a request. `resent` are resources whose version the client can't be
    /// believed to hold, whatever it says.
    pub(super) fn handle(&mut self, request: &Request, resent: &dyn Fn(&str) -> bool) -> Vec<Interest> {
        let mut interests = Vec::new();
        let first = !std::mem::replace(&mut self.started, true);
        if first {
            self.restore(request, resent);
            let nothing_named = request.subscribe.is_empty() && request.unsubscribe.is_empty();
            if nothing_named && self.kind.has_legacy_wildcard() {
                self.want_everything(&mut interests);
            }
        }
        // A name in both lists of one message is subscribed to anew.
        for name in &request.unsubscribe {
            self.unsubscribe(name, &mut interests);
        }
        for name in &request.subscribe {
            self.subscribe(name, first, &mut interests);
        }
        if !request.response_nonce.is_empty() {
            self.answer(&request.response_nonce, request.error_detail.as_deref());
        }
        interests
    }

    /// A client that comes back says what it holds; what it does not name any more it does not hold.
    fn restore(&mut self, request: &Request, resent: &dyn Fn(&str) -> bool) {
        for (name, version) in &request.initial_versions {
            let holds = match version {
                Some(version) if !resent(name) => Holds::This(*version),
                Some(_) | None => Holds::Unknown,
            };
            let acked = version.filter(|_| matches!(holds, Holds::This(_)));
            self.held.insert(
                name.clone(),
                Held {
                    holds,
                    acked,
                    ..Held::default()
                },
            );
        }
    }

    fn want_everything(&mut self, interests: &mut Vec<Interest>) {
        if std::mem::replace(&mut self.wildcard, true) {
            // Asking again means "I may have forgotten everything".
            for held in self.held.values_mut() {
                held.holds = Holds::Unknown;
                held.told_missing = false;
            }
        }
        self.scan = true;
        self.owes_answer = true;
        interests.push(Interest::Everything(self.kind));
    }

    fn subscribe(&mut self, name: &Arc<str>, first: bool, interests: &mut Vec<Interest>) {
        if name.as_ref() == "*" {
            return self.want_everything(interests);
        }
        if self.names.insert(name.clone()) {
            interests.push(Interest::Subscribe(self.kind, name.clone()));
        }
        let held = self.held.entry(name.clone()).or_default();
        // Asking again means "I may have forgotten it"; on reconnect, the versions that came along say otherwise.
        if !first || held.holds == Holds::Nothing {
            *held = Held {
                holds: if first { Holds::Nothing } else { Holds::Unknown },
                ..Held::default()
            };
        }
        held.told_missing = false;
        self.dirty.insert(name.clone());
    }

    fn unsubscribe(&mut self, name: &Arc<str>, interests: &mut Vec<Interest>) {
        if name.as_ref() == "*" {
            if std::mem::replace(&mut self.wildcard, false) {
                interests.push(Interest::NotEverything(self.kind));
            }
            let names = &self.names;
            self.held.retain(|name, _| names.contains(name));
            self.dirty.retain(|name| names.contains(name));
            self.scan = false;
            return;
        }
        if self.names.remove(name) {
            interests.push(Interest::Unsubscribe(self.kind, name.clone()));
        }
        if self.wildcard {
            // The client dropped it, but still wants everything.
            self.doubt(name);
        } else {
            self.held.remove(name);
            self.dirty.remove(name);
        }
    }

    /// An ACK or a NACK. One that answers nothing we are waiting for is ignored, and costs nothing.
    fn answer(&mut self, nonce: &str, error: Option<&str>) {
        let Ok(nonce) = nonce.parse::<u64>() else { return };
        let Some(position) = self.in_flight.iter().position(|response| response.nonce == nonce) else {
            return;
        };
        // Answers come in order, so what was sent before and not answered never will be.
        let Some(response) = self.in_flight.drain(..=position).next_back() else {
            return;
        };
        match error {
            None => self.ack(response),
            Some(error) => self.nack(response, error),
        }
    }

    fn ack(&mut self, response: InFlight) {
        for (name, version) in response.sent {
            if let (Some(version), Some(held)) = (version, self.held.get_mut(&name)) {
                held.acked = Some(version);
            }
        }
    }

    /// Envoy may have applied any part of a response it refuses, so nothing of it is known any more. A resource that was
    /// refused alone is not sent again before it changes; of several, the halves are tried apart.
    fn nack(&mut self, response: InFlight, error: &str) {
        self.nacks += 1;
        let end = (0..=MAX_NACK_BYTES.min(error.len()))
            .rev()
            .find(|end| error.is_char_boundary(*end))
            .unwrap_or(0);
        self.last_nack = error.get(..end).map(ToOwned::to_owned);
        // Nothing about a removal can be refused.
        let alone = response.sent.iter().filter(|(_, version)| version.is_some()).count() == 1;
        let mut suspects = Vec::new();
        for (name, version) in response.sent {
            let (Some(held), Some(version)) = (self.held.get_mut(&name), version) else {
                continue;
            };
            // What was sent later is on its way and settles it, whatever became of this.
            if ![Holds::This(version), Holds::Unknown].contains(&held.holds) {
                continue;
            }
            held.holds = Holds::Unknown;
            if alone {
                held.rejected = Some(version);
            } else {
                suspects.push(name);
            }
        }
        let second = suspects.split_off(suspects.len() / 2);
        self.isolated
            .extend([suspects, second].into_iter().filter(|half| !half.is_empty()));
    }

    pub(super) fn mark(&mut self, name: &Arc<str>) {
        if self.is_wanted(name) {
            self.dirty.insert(name.clone());
        }
    }

    /// The client needs the resource again, whatever it holds: its parent was sent.
    pub(super) fn owe(&mut self, name: &Arc<str>) {
        if self.is_wanted(name) {
            self.held.entry(name.clone()).or_default().holds = Holds::Unknown;
            self.dirty.insert(name.clone());
        }
    }

    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// The client may hold the resource, although it does not say so.
    pub(super) fn suppose(&mut self, name: &Arc<str>) {
        if self.wildcard && !self.held.contains_key(name) {
            self.doubt(name);
        }
    }

    /// The client may hold anything of it, or nothing: it has to be told where it stands.
    fn doubt(&mut self, name: &Arc<str>) {
        let held = Held {
            holds: Holds::Unknown,
            ..Held::default()
        };
        self.held.insert(name.clone(), held);
        self.dirty.insert(name.clone());
    }

    /// Absence has become proof, or answering has begun: look at everything again.
    pub(super) fn recheck(&mut self) {
        self.scan |= self.wildcard;
        self.dirty.extend(self.names.iter().cloned());
        self.dirty.extend(self.held.keys().cloned());
    }

    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// What takes back everything that was asked for.
    pub(super) fn interests(&self) -> impl Iterator<Item = Interest> {
        let names = self
            .names
            .iter()
            .map(|name| Interest::Unsubscribe(self.kind, name.clone()));
        names.chain(self.wildcard.then_some(Interest::NotEverything(self.kind)))
    }

    /// Whether the resource was sent on this stream, so that an older claim of the client is void.
    pub(super) fn was_sent_here(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.sent_here)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What to send next, at most about `max_bytes` of it, or `None` when the client knows everything. `led` are resources
    /// that the client drops by itself when it drops another one that it also has from us.
    pub(super) fn next_batch(
        &mut self,
        snapshot: &Snapshot,
        max_bytes: usize,
        led: &dyn Fn(&str) -> bool,
    ) -> Option<Batch> {
        while let Some(suspects) = self.isolated.pop_front() {
            let mut batch = Batch::default();
            for name in suspects {
                self.dirty.remove(&name);
                self.decide(&name, snapshot, led, &mut batch);
            }
            if !batch.is_empty() {
                return Some(batch);
            }
        }
        if std::mem::take(&mut self.scan) {
            self.dirty
                .extend(snapshot.all(self.kind).map(|resource| resource.name.clone()));
            self.dirty.extend(self.held.keys().cloned());
        }
        let mut batch = Batch::default();
        while batch.bytes < max_bytes
            && let Some(name) = self.dirty.pop_first()
        {
            self.decide(&name, snapshot, led, &mut batch);
        }
        batch.answers = std::mem::take(&mut self.owes_answer);
        (batch.answers || !batch.is_empty()).then_some(batch)
    }

    fn decide(&mut self, name: &Arc<str>, snapshot: &Snapshot, led: &dyn Fn(&str) -> bool, batch: &mut Batch) {
        if !self.is_wanted(name) {
            self.held.remove(name);
            return;
        }
        match snapshot.get(self.kind, name) {
            Some(resource) => {
                let held = self.held.entry(name.clone()).or_default();
                let refused = held.rejected == Some(resource.version);
                if held.holds != Holds::This(resource.version) && !refused {
                    held.holds = Holds::This(resource.version);
                    held.told_missing = false;
                    held.sent_here = true;
                    held.rejected = None;
                    batch.bytes += resource.field.len();
                    batch.resources.push(resource.clone());
                }
            }
            None if snapshot.is_unsure(name) => {}
            // While a source has not answered, a resource that is not there may still come; but what was sent and is there
            // no more is gone.
            None if !snapshot.is_complete() && !self.was_sent_here(name) => {}
            None => self.decide_missing(name, led(name), batch),
        }
    }

    fn decide_missing(&mut self, name: &Arc<str>, led: bool, batch: &mut Batch) {
        let explicit = self.names.contains(name);
        let Some(held) = self.held.get_mut(name) else { return };
        let knows = held.told_missing || (held.holds == Holds::Nothing && !explicit);
        let after = match self.kind {
            // Envoy drops the endpoints of a cluster with the cluster.
            ResourceType::Endpoint if led && held.sent_here => Holds::Nothing,
            // It takes a removal of endpoints for no change at all: what clears the hosts is an empty assignment.
            ResourceType::Endpoint if !led && held.holds != Holds::Nothing => {
                let cleared = Arc::new(Resource::cleared(name.clone()));
                let holds = Holds::This(cleared.version);
                if held.holds != holds {
                    batch.bytes += cleared.field.len();
                    batch.resources.push(cleared);
                }
                holds
            }
            ResourceType::Endpoint | ResourceType::Cluster => {
                if !knows {
                    batch.removed.push(name.clone());
                }
                Holds::Nothing
            }
        };
        if explicit {
            *held = Held {
                holds: after,
                told_missing: true,
                ..Held::default()
            };
        } else {
            self.held.remove(name);
        }
    }

    pub(super) fn sent(&mut self, nonce: u64, batch: &Batch, now: Duration) {
        let resources = batch
            .resources
            .iter()
            .map(|resource| (resource.name.clone(), Some(resource.version)));
        let removed = batch.removed.iter().map(|name| (name.clone(), None));
        self.in_flight.push_back(InFlight {
            nonce,
            sent: resources.chain(removed).collect(),
            since: now,
        });
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }
}
