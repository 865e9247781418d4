//! One configured name and everything that follows from it: SRV records, their hosts, the instances of DNS-SD. Pure.
//!
//! All of it is asked for in one pass, from the name downwards, so that what a pass finds belongs together. Invariant: what is below
//! a record that the pass lacks is not asked for and not judged; it goes with the record or stays with it.

mod reach;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::Name;
use leadsman_core::model::{Provenance, Rejection};
use tokio::time::Instant;

use super::config::{Family, Lookup, Records};
use super::held::{Held, Pace};
use super::question::{Answer, Failure, Item, Kind, Outcome, Question, Said};
use super::service::{Presence, Staleness};
use super::zone::{Proof, Zones};

/// Records that one pass may bring, and that are held of one name: beyond twice that, what is missing is not waited for.
const MAX_RECORDS: usize = 10_000;

/// Records of one name that are followed: a service with more instances than this is no service of one name.
pub(super) const MAX_FOLLOWED: usize = 1000;

/// The answers to everything that one look at a name asked for.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) began: Instant,
    pub(super) outcomes: BTreeMap<Question, Outcome>,
}

impl Pass {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            outcomes: BTreeMap::new(),
        }
    }

    /// Whether any server said anything.
    pub(super) fn is_heard(&self) -> bool {
        let spoke = |outcome: &Outcome| outcome.as_ref().map_or_else(|failure| failure.spoke, |_| true);
        self.outcomes.values().any(spoke)
    }

    fn answer(&self, question: &Question) -> Option<&Answer> {
        self.outcomes.get(question)?.as_ref().ok()
    }
}

/// Records that may go now, and how far that can be believed.
#[derive(Clone, Debug)]
pub(super) struct Doubt {
    pub(super) proof: Proof,
    /// With them the last endpoint goes.
    pub(super) vanishes: bool,
    ripe: BTreeMap<Question, Vec<Item>>,
}

/// One configured name.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) lookup: Lookup,
    family: Family,
    held: BTreeMap<Question, Held>,
    zones: Zones,
    /// When the last pass began that found endpoints.
    affirmed: Option<Instant>,
    /// Since when the answers have no endpoint any more, though some are held.
    vanishing: Option<Instant>,
    /// Why records that are missing are not believed to have gone.
    waiting: Option<String>,
}

impl Chain {
    pub(super) fn new(lookup: Lookup, family: Family) -> Self {
        Self {
            lookup,
            family,
            held: BTreeMap::new(),
            zones: Zones::default(),
            affirmed: None,
            vanishing: None,
            waiting: None,
        }
    }

    /// Takes in a complete pass, and says which records may go.
    pub(super) fn finish(&mut self, pass: &Pass, pace: &Pace, now: Instant) -> Option<Doubt> {
        let mut records = 0;
        for (question, outcome) in &pass.outcomes {
            if question.kind == Kind::Soa {
                continue;
            }
            records += outcome.as_ref().map_or(0, Answer::records);
            let held = self.held.entry(question.clone()).or_default();
            if records <= MAX_RECORDS {
                held.hear(outcome, pace, now);
            } else {
                held.hear(&Err(too_many()), pace, now);
            }
        }
        self.bound(now);
        let doubt = self.doubt(pass, pace, now);
        self.learn_zones(pass, now);
        let missing = self
            .held
            .iter()
            .map(|(question, held)| (question.clone(), held.missing()));
        let remains = self.without(missing.collect(), now);
        let vanishes = self.has_endpoints() && remains.is_empty_by_absence();
        let remain = remains.has_endpoints();
        self.vanishing = self.vanishing.filter(|_| vanishes).or(vanishes.then_some(now));
        if remain && self.is_answered(pass) {
            self.affirmed = Some(pass.began);
        }
        self.forget_unreachable();
        doubt
    }

    /// A server that answers with something else each time must not fill the memory.
    fn bound(&mut self, now: Instant) {
        let held: usize = self.held.values().map(|held| held.items().count()).sum();
        if held > 2 * MAX_RECORDS {
            for held in self.held.values_mut() {
                held.release(&held.missing(), now);
            }
        }
    }

    fn doubt(&mut self, pass: &Pass, pace: &Pace, now: Instant) -> Option<Doubt> {
        self.waiting = None;
        let mut doubt = Doubt {
            proof: Proof::Proven,
            vanishes: false,
            ripe: BTreeMap::new(),
        };
        for (question, held) in &self.held {
            let Some(answer) = pass.answer(question) else { continue };
            let ripe = held.ripe(pace, now);
            if ripe.is_empty() {
                continue;
            }
            let zone = match (
                &answer.said,
                pass.outcomes.get(&Question::new(&answer.owner, Kind::Soa)),
            ) {
                (Said::Nothing { .. }, _) => answer.zone.as_ref(),
                (Said::Items(_), Some(Ok(soa))) => soa.zone.as_ref(),
                (Said::Items(_), None) => None,
                (Said::Items(_), Some(Err(failure))) => {
                    let reason = format!(
                        "{question} has lost records, and its zone can't be asked for: {}",
                        failure.reason
                    );
                    self.waiting.get_or_insert(reason);
                    continue;
                }
            };
            let proof = self.zones.judge(&answer.owner, zone);
            doubt.proof = worse(doubt.proof, proof);
            doubt.ripe.insert(question.clone(), ripe);
        }
        if doubt.ripe.is_empty() {
            return None;
        }
        let remains = self.without(doubt.ripe.clone(), now);
        doubt.vanishes = self.has_endpoints() && remains.is_empty_by_absence();
        Some(doubt)
    }

    fn learn_zones(&mut self, pass: &Pass, now: Instant) {
        for (question, outcome) in &pass.outcomes {
            let Ok(answer) = outcome else {
                if question.kind == Kind::Soa {
                    // Asked for again when it is due or needed, not with each pass.
                    self.zones.learn(&question.name, None, now);
                }
                continue;
            };
            if question.kind == Kind::Soa || matches!(answer.said, Said::Nothing { .. }) {
                self.zones.learn(&answer.owner, answer.zone.as_ref(), now);
            }
        }
    }

    /// Lets go of what was in doubt.
    pub(super) fn release(&mut self, doubt: &Doubt, now: Instant) {
        for (question, items) in &doubt.ripe {
            if let Some(held) = self.held.get_mut(question) {
                held.release(items, now);
            }
        }
        self.settle();
    }

    /// What answers is another DNS than before: lets go of all that is missing, and of what is known of the zones.
    pub(super) fn begin_epoch(&mut self, now: Instant) {
        for held in self.held.values_mut() {
            held.release(&held.missing(), now);
        }
        self.zones = Zones::default();
        self.settle();
    }

    fn settle(&mut self) {
        self.vanishing = None;
        self.forget_unreachable();
    }

    /// Keeps what is missing, and says why.
    pub(super) fn wait(&mut self, reason: String) {
        self.waiting = Some(reason);
    }

    /// When the next pass is due after this one.
    pub(super) fn due(&self, pass: &Pass, pace: &Pace, now: Instant) -> Instant {
        let asked = pass.outcomes.keys().filter_map(|question| self.held.get(question));
        asked.map(|held| held.due(pace, now)).min().unwrap_or(now + pace.retry)
    }

    /// The same without some of its records.
    fn without(&self, items: BTreeMap<Question, Vec<Item>>, now: Instant) -> Cow<'_, Self> {
        let mut remains = Cow::Borrowed(self);
        for (question, items) in items.into_iter().filter(|(_, items)| !items.is_empty()) {
            if let Some(held) = remains.to_mut().held.get_mut(&question) {
                held.release(&items, now);
            }
        }
        remains
    }

    fn forget_unreachable(&mut self) {
        let all = |question: &Question| {
            let held = self.held.get(question);
            held.map(|held| held.items().map(|(item, _)| item.clone()).collect())
                .unwrap_or_default()
        };
        let reached = self.reach(all, |_| true);
        self.held.retain(|question, _| reached.contains(question));
        let owners: BTreeSet<Name> = self.held.values().filter_map(|held| held.owner().cloned()).collect();
        self.zones.retain(|name| owners.contains(name));
    }

    /// The questions that say whether the service is there at all.
    pub(super) fn roots(&self) -> Vec<Question> {
        let question = |kind: &Kind| Question::new(&self.lookup.name, *kind);
        self.root_kinds().iter().map(question).collect()
    }

    fn root_kinds(&self) -> &'static [Kind] {
        match self.lookup.records {
            Records::Srv => &[Kind::Srv],
            Records::DnsSd => &[Kind::Ptr],
            Records::Address => self.family.kinds(),
        }
    }

    /// Whether the pass has a definite answer about the name itself.
    pub(super) fn is_answered(&self, pass: &Pass) -> bool {
        self.roots().iter().any(|root| pass.answer(root).is_some())
    }

    fn is_root(&self, question: &Question) -> bool {
        self.root_kinds().contains(&question.kind) && question.name == self.lookup.name
    }

    pub(super) fn is_failing(&self, question: &Question) -> bool {
        self.held.get(question).is_some_and(|held| held.failing().is_some())
    }

    pub(super) fn held(&self, question: &Question) -> Option<&Held> {
        self.held.get(question)
    }

    pub(super) fn family(&self) -> Family {
        self.family
    }

    /// The service as it is held.
    pub(super) fn presence(&self, staleness: &Staleness) -> Presence {
        super::service::assemble(self, staleness)
    }

    fn has_endpoints(&self) -> bool {
        self.presence(&Staleness::default()).has_endpoints()
    }

    /// No endpoint is left, and nobody said that this is meant.
    fn is_empty_by_absence(&self) -> bool {
        match self.presence(&Staleness::default()) {
            Presence::Known(service) => service.endpoints.is_empty() && !self.is_unavailable(),
            Presence::Absent | Presence::Unread => true,
        }
    }

    /// The target of the only record is the root: the service is decidedly not available (RFC 2782).
    fn is_unavailable(&self) -> bool {
        let roots = self.roots();
        let mut items = roots
            .iter()
            .filter_map(|root| self.held.get(root))
            .flat_map(Held::items)
            .peekable();
        items.peek().is_some() && items.all(|(item, _)| matches!(item, Item::Target { host, .. } if host.is_root()))
    }

    /// Whether the service was there in a pass that began at `since` or later.
    pub(super) fn is_affirmed_since(&self, since: Instant) -> bool {
        self.affirmed.is_some_and(|affirmed| affirmed >= since)
    }

    pub(super) fn vanishing(&self) -> Option<Instant> {
        self.vanishing
    }

    /// What of the name can't be read, or not be believed. What hangs on a missing record does not count.
    pub(super) fn problem(&self) -> Option<String> {
        if self.waiting.is_none() && self.held.values().all(|held| held.failing().is_none()) {
            return None;
        }
        let present = |question: &Question| self.held.get(question).map(Held::present).unwrap_or_default();
        let reached = self.reach(present, |_| true);
        let failing = |question: &Question| {
            let failing = self.held.get(question)?.failing()?;
            Some(format!("{question}: {}", failing.reason))
        };
        let first = self.roots().iter().find_map(failing);
        first
            .or_else(|| reached.iter().find_map(failing))
            .or_else(|| self.waiting.clone())
    }

    /// Whether something that is held is missing from the last answers.
    pub(super) fn lacks_anything(&self) -> bool {
        self.held.values().any(|held| !held.missing().is_empty())
    }

    /// Whether the name was ever answered, with records or without.
    pub(super) fn is_read(&self) -> bool {
        let roots = self.roots();
        let mut held = roots.iter().map(|root| self.held.get(root));
        held.clone().flatten().any(|held| !held.is_empty()) || held.all(|held| held.is_some_and(Held::is_known))
    }

    /// The name exists without the records that were asked for: a wrong name or a wrong kind, most likely.
    pub(super) fn strangeness(&self) -> Option<Rejection> {
        let roots = self.roots();
        let mut held = roots.iter().filter_map(|root| self.held.get(root));
        if !self.is_read() || !held.all(|held| held.is_empty() && held.is_of_another_kind()) {
            return None;
        }
        let kind = match self.lookup.records {
            Records::Srv => "SRV",
            Records::DnsSd => "PTR",
            Records::Address => "address",
        };
        Some(Rejection {
            provenance: Provenance {
                stable: false,
                ..Provenance::new(&self.lookup.name.to_ascii(), "dns", b"", 0)
            },
            reason: format!("{}: the name exists, and has no {kind} records", self.lookup.service),
        })
    }

    /// Whether any answer is known to be a part of a whole.
    pub(super) fn rotates(&self) -> bool {
        self.held.values().any(Held::rotates)
    }
}

fn too_many() -> Failure {
    Failure {
        reason: format!("more than {MAX_RECORDS} records follow from the name"),
        spoke: true,
    }
}

fn worse(a: Proof, b: Proof) -> Proof {
    match (a, b) {
        (refuted @ Proof::Refuted(_), _) | (_, refuted @ Proof::Refuted(_)) => refuted,
        (Proof::Unproven, _) | (_, Proof::Unproven) => Proof::Unproven,
        (Proof::Proven, Proof::Proven) => Proof::Proven,
    }
}

#[cfg(test)]
mod tests;
