//! One type on one stream: what the client asked for, what it may hold, and what it still has to hear.
//!
//! Both variants of the protocol come down to the same three steps: a request becomes names that are asked for or not
//! any more, what changed is decided name by name, and answers are told apart by their nonce.

mod answer;
mod culprit;
mod decide;
mod report;

pub use report::{ResourceState, TypeReport};

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Interest, Request, SotwRequest, Variant};
use crate::snapshot::{Resource, ResourceType, Version};

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

/// One a name and stream, so it is small: what few names have lies elsewhere.
#[derive(Clone, Debug, Default)]
struct Held {
    holds: Holds,
    /// What it holds it has accepted.
    acked: bool,
    told_missing: bool,
    sent_here: bool,
    /// Bytes that the client refused; they are not sent again.
    refused: Option<Box<Refused>>,
    /// Where every response lists everything, what of this resource is listed.
    listed: Option<Box<Listed>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    version: Version,
    /// It is known by a hint only.
    accused: bool,
}

#[derive(Clone, Debug, Default)]
struct Listed {
    now: Option<Arc<Resource>>,
    /// What the client accepted last: it is listed while something newer is refused, since leaving the name out would
    /// remove it.
    good: Option<Arc<Resource>>,
}

#[derive(Debug)]
struct InFlight {
    nonce: u64,
    sent: Vec<Sent>,
    /// Resources that were refused together with these, and are held back because the client's words point at them.
    accused: Vec<(Arc<str>, Version)>,
    /// Nothing that lists everything goes out before this is answered.
    trial: bool,
    since: Duration,
}

/// One name of a response.
#[derive(Debug)]
struct Sent {
    name: Arc<str>,
    /// `None` for a removal.
    version: Option<Version>,
    /// The content, where it may have to be listed again.
    resource: Option<Arc<Resource>>,
}

/// Resources to send in a response of their own, after a refusal.
#[derive(Debug, Default)]
struct Retry {
    names: Vec<(Arc<str>, Version)>,
    accused: Vec<(Arc<str>, Version)>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    kind: ResourceType,
    variant: Variant,
    started: bool,
    wildcard: bool,
    /// The wildcard is that of a first request without names, which ends with the first name of a state-of-the-world
    /// client.
    legacy: bool,
    /// The client holds something from before that we can't know, and would drop what we do not list.
    claims: bool,
    /// It did when the stream began.
    came_holding: bool,
    names: BTreeSet<Arc<str>>,
    held: BTreeMap<Arc<str>, Held>,
    dirty: BTreeSet<Arc<str>>,
    /// Look at every resource, because the client wants everything and just said so.
    scan: bool,
    /// A first request for everything is answered even when there is nothing: Envoy waits for it.
    owes_answer: bool,
    /// Parts of a refused response, to find the culprit without holding up the others.
    retries: VecDeque<Retry>,
    in_flight: VecDeque<InFlight>,
    last_nack: Option<String>,
    nacks: u64,
    quarantines: u64,
}

impl Subscription {
    pub(super) fn new(kind: ResourceType, variant: Variant) -> Self {
        Self {
            kind,
            variant,
            started: false,
            wildcard: false,
            legacy: false,
            claims: false,
            came_holding: false,
            names: BTreeSet::new(),
            held: BTreeMap::new(),
            dirty: BTreeSet::new(),
            scan: false,
            owes_answer: false,
            retries: VecDeque::new(),
            in_flight: VecDeque::new(),
            last_nack: None,
            nacks: 0,
            quarantines: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether every response lists everything.
    fn is_whole(&self) -> bool {
        self.variant == Variant::StateOfTheWorld && self.kind.is_whole()
    }

    /// What a state-of-the-world request asks for and does not any more, compared with what was asked for before it.
    pub(super) fn compare(&mut self, request: &SotwRequest) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        if !self.started {
            self.claims = self.is_whole() && (self.kind.is_held_silently() || !request.version_info.is_empty());
            self.came_holding = self.claims;
            return (request.names.clone(), Vec::new());
        }
        if self.legacy && request.names.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let wanted: BTreeSet<&Arc<str>> = request.names.iter().collect();
        let asks = |name: &str| wanted.iter().any(|wanted| wanted.as_ref() == name);
        let star: Arc<str> = "*".into();
        let mut subscribe: Vec<_> = wanted
            .iter()
            .filter(|name| ***name != star && !self.names.contains(**name))
            .map(|name| Arc::clone(name))
            .collect();
        let mut unsubscribe: Vec<_> = self
            .names
            .iter()
            .filter(|name| !wanted.contains(name))
            .cloned()
            .collect();
        match (self.wildcard, asks("*")) {
            (false, true) => subscribe.push(star),
            (true, false) => unsubscribe.push(star),
            (true, true) | (false, false) => {}
        }
        (subscribe, unsubscribe)
    }

    /// Takes the names and the answer out of a request. `resent` are resources whose version the client can't be
    /// believed to hold, whatever it says.
    pub(super) fn handle(&mut self, request: &Request, resent: &dyn Fn(&str) -> bool) -> Vec<Interest> {
        let mut interests = Vec::new();
        let first = !std::mem::replace(&mut self.started, true);
        let nothing_named = request.subscribe.is_empty() && request.unsubscribe.is_empty();
        self.legacy &= nothing_named;
        if first {
            self.restore(request, resent);
            if nothing_named && self.kind.has_legacy_wildcard() {
                self.legacy = true;
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
            let acked = matches!(holds, Holds::This(_));
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
                held.refused = None;
            }
        }
        self.scan = true;
        self.owes_answer = true;
        if !self.kind.is_by_name() {
            interests.push(Interest::Everything(self.kind));
        }
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
                listed: held.listed.take(),
                ..Held::default()
            };
        }
        held.told_missing = false;
        self.dirty.insert(name.clone());
    }

    fn unsubscribe(&mut self, name: &Arc<str>, interests: &mut Vec<Interest>) {
        if name.as_ref() == "*" {
            if std::mem::replace(&mut self.wildcard, false) && !self.kind.is_by_name() {
                interests.push(Interest::NotEverything(self.kind));
            }
            let names = &self.names;
            self.held.retain(|name, _| names.contains(name));
            self.dirty.retain(|name| names.contains(name));
            // A trial would list its one name alone.
            let retries = self.retries.drain(..).flat_map(|retry| retry.names);
            self.dirty
                .extend(retries.map(|(name, _)| name).filter(|name| names.contains(name)));
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
        let held = self.held.entry(name.clone()).or_default();
        *held = Held {
            holds: Holds::Unknown,
            listed: held.listed.take(),
            ..Held::default()
        };
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
        let everything = self.wildcard && !self.kind.is_by_name();
        names.chain(everything.then_some(Interest::NotEverything(self.kind)))
    }

    /// Whether the resource was sent on this stream, so that an older claim of the client is void.
    pub(super) fn was_sent_here(&self, name: &str) -> bool {
        self.held.get(name).is_some_and(|held| held.sent_here)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}
