//! One type on one stream: what the client asked for, what it may hold, and what it still has to hear.
//!
//! Both variants of the protocol come down to the same three steps: a request becomes names that are asked for or not
//! any more, what changed is decided name by name, and answers are told apart by their nonce.

mod answer;
mod culprit;
mod decide;
mod report;
mod row;
mod table;

pub use report::{ResourceState, TypeReport};

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use row::{Holds, Row};
use smallvec::SmallVec;
use table::Table;

use super::{Interest, Request, SotwRequest, Variant};
use crate::snapshot::{Resource, ResourceType, Version};

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
    /// Its number among those of the type. Few are in flight, so the numbers may begin anew.
    number: u16,
    /// Mostly one.
    sent: SmallVec<[Sent; 1]>,
    /// It also said that something is no more.
    removes: bool,
    /// Resources that were refused together with these, and are held back because the client's words point at them.
    accused: Vec<(Arc<str>, Version)>,
    /// Nothing that lists everything goes out before this is answered.
    trial: bool,
    since: Duration,
}

/// One resource of a response.
#[derive(Debug)]
struct Sent {
    name: Arc<str>,
    version: Version,
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
    table: Table,
    /// Look at every resource, because the client wants everything and just said so.
    scan: bool,
    /// A first request for everything is answered even when there is nothing: Envoy waits for it.
    owes_answer: bool,
    /// Parts of a refused response, to find the culprit without holding up the others.
    retries: VecDeque<Retry>,
    in_flight: VecDeque<InFlight>,
    /// The number of the last response.
    responses: u16,
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
            table: Table::default(),
            scan: false,
            owes_answer: false,
            retries: VecDeque::new(),
            in_flight: VecDeque::new(),
            responses: 0,
            last_nack: None,
            nacks: 0,
            quarantines: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.named()
    }

    /// How many names it remembers something of.
    pub(super) fn known(&self) -> usize {
        self.table.len()
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
        let asks = |name: &str| request.names.iter().any(|wanted| wanted.as_ref() == name);
        let star: Arc<str> = "*".into();
        let (mut subscribe, mut unsubscribe) = self.table.compare(&request.names);
        subscribe.retain(|name| *name != star);
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
        let named = request.subscribe.len() + request.unsubscribe.len();
        let mut interests = Vec::with_capacity(named);
        let first = !std::mem::replace(&mut self.started, true);
        let nothing_named = named == 0;
        self.legacy &= nothing_named;
        self.table
            .reserve(request.subscribe.len().max(request.initial_versions.len()));
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
        self.table.fit();
        interests
    }

    /// A client that comes back says what it holds; what it does not name any more it does not hold.
    fn restore(&mut self, request: &Request, resent: &dyn Fn(&str) -> bool) {
        for (name, version) in &request.initial_versions {
            let holds = match version {
                Some(version) if !resent(name) => Holds::This(*version),
                Some(_) | None => Holds::Unknown,
            };
            self.table.renew(name, holds).acked = matches!(holds, Holds::This(_));
        }
    }

    fn want_everything(&mut self, interests: &mut Vec<Interest>) {
        if std::mem::replace(&mut self.wildcard, true) {
            // Asking again means "I may have forgotten everything".
            self.table.doubt_all();
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
        // Asking again means "I may have forgotten it"; on reconnect, the versions that came along say otherwise.
        if self.table.ask(name, first) {
            interests.push(Interest::Subscribe(self.kind, name.clone()));
        }
    }

    fn unsubscribe(&mut self, name: &Arc<str>, interests: &mut Vec<Interest>) {
        if name.as_ref() == "*" {
            if std::mem::replace(&mut self.wildcard, false) && !self.kind.is_by_name() {
                interests.push(Interest::NotEverything(self.kind));
            }
            self.table.keep_named();
            // A trial would list its one name alone.
            for (name, _) in self.retries.drain(..).flat_map(|retry| retry.names) {
                self.table.make_due_if_named(&name);
            }
            self.scan = false;
            return;
        }
        if self.table.unname(name) {
            interests.push(Interest::Unsubscribe(self.kind, name.clone()));
        }
        if self.wildcard {
            // The client dropped it, but still wants everything.
            self.doubt(name);
        } else {
            self.table.release(name);
            self.table.settle(name);
        }
    }

    pub(super) fn mark(&mut self, name: &Arc<str>) {
        if self.wildcard {
            self.table.make_due(name);
        } else {
            self.table.make_due_if_named(name);
        }
    }

    /// The client needs the resource again, whatever it holds: its parent was sent.
    pub(super) fn owe(&mut self, name: &Arc<str>) {
        if self.is_wanted(name) {
            self.table.hold(name).set(Holds::Unknown);
            self.table.make_due(name);
        }
    }

    pub(super) fn has_started(&self) -> bool {
        self.started
    }

    /// The client may hold the resource, although it does not say so.
    pub(super) fn suppose(&mut self, name: &Arc<str>) {
        if self.wildcard && !self.table.get(name).is_some_and(Row::is_held) {
            self.doubt(name);
        }
    }

    /// The client may hold anything of it, or nothing: it has to be told where it stands.
    fn doubt(&mut self, name: &Arc<str>) {
        self.table.renew(name, Holds::Unknown);
        self.table.make_due(name);
    }

    /// Absence has become proof, or answering has begun: look at everything again.
    pub(super) fn recheck(&mut self) {
        self.scan |= self.wildcard;
        self.table.make_all_due(std::iter::empty(), |_| true);
    }

    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.wildcard || self.table.is_named(name)
    }

    /// What takes back everything that was asked for.
    pub(super) fn interests(&self) -> impl Iterator<Item = Interest> {
        let named = self.table.rows().filter(|row| row.named);
        let names = named.map(|row| Interest::Unsubscribe(self.kind, row.name.clone()));
        let everything = self.wildcard && !self.kind.is_by_name();
        names.chain(everything.then_some(Interest::NotEverything(self.kind)))
    }

    /// Whether the resource was sent on this stream, so that an older claim of the client is void.
    pub(super) fn was_sent_here(&self, name: &str) -> bool {
        self.table.get(name).is_some_and(|row| row.sent_here)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}
