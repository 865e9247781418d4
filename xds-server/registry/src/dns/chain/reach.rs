//! Which questions follow from a name, and which of them are still open.

use std::collections::BTreeSet;

use tokio::time::Instant;

use super::{Chain, MAX_FOLLOWED, Pass};
use crate::dns::config::Records;
use crate::dns::held::{Held, Pace};
use crate::dns::question::{Answer, Item, Kind, Question, Said};

/// Questions of one pass that failed the last time: each may take its time to fail again.
const MAX_SUSPECTS: usize = 16;

impl Chain {
    /// What is to be asked for next, given what the pass knows so far; nothing when it is complete.
    pub(in crate::dns) fn wanted(&self, pass: &Pass, pace: &Pace, now: Instant) -> Vec<Question> {
        let items = |question: &Question| match pass.answer(question).map(|answer| &answer.said) {
            Some(Said::Items(items)) => items.keys().take(MAX_FOLLOWED).cloned().collect(),
            Some(Said::Nothing { .. }) | None => Vec::new(),
        };
        let nothing = |question: &Question| {
            let said = pass.answer(question).map(|answer| &answer.said);
            matches!(said, Some(Said::Nothing { .. }))
        };
        let mut wanted = self.reach(items, nothing);
        wanted.extend(self.wanted_zones(pass, now));
        wanted.retain(|question| !pass.outcomes.contains_key(question));
        let (suspects, mut sound): (Vec<Question>, Vec<Question>) = wanted
            .into_iter()
            .partition(|question| !self.is_root(question) && self.is_failing(question));
        sound.extend(self.some_of(suspects, pass, pace, now));
        sound
    }

    /// What has just failed is not asked again for the sake of its neighbours, and not all of it at once.
    fn some_of(&self, suspects: Vec<Question>, pass: &Pass, pace: &Pace, now: Instant) -> Vec<Question> {
        let asked = pass
            .outcomes
            .keys()
            .filter(|question| !self.is_root(question) && self.is_failing(question))
            .count();
        let last = |question: &Question| {
            self.held
                .get(question)
                .and_then(Held::failing)
                .map(|failing| failing.last)
        };
        let rests =
            |question: &Question| last(question).is_some_and(|last| now.saturating_duration_since(last) < pace.retry);
        let mut due: Vec<Question> = suspects.into_iter().filter(|question| !rests(question)).collect();
        due.sort_by_key(|question| (last(question), question.clone()));
        due.truncate(MAX_SUSPECTS.saturating_sub(asked));
        due
    }

    /// The zones of names that lack something, and of those whose zone is unknown or was long ago.
    fn wanted_zones(&self, pass: &Pass, now: Instant) -> Vec<Question> {
        let mut wanted = Vec::new();
        for (question, outcome) in &pass.outcomes {
            let Ok(Answer {
                said: Said::Items(items),
                owner,
                ..
            }) = outcome
            else {
                continue;
            };
            if matches!(question.kind, Kind::Soa | Kind::Txt) {
                continue;
            }
            let held = self.held.get(question);
            let lacks = held.is_some_and(|held| held.items().any(|(item, _)| !items.contains_key(item)));
            if lacks || self.zones.is_due(owner, self.is_root(question), now) {
                wanted.push(Question::new(owner, Kind::Soa));
            }
        }
        wanted
    }

    /// Every question that follows from the name: `items` says what answers a question, `nothing` that nothing does.
    pub(super) fn reach(
        &self,
        items: impl Fn(&Question) -> Vec<Item>,
        nothing: impl Fn(&Question) -> bool,
    ) -> BTreeSet<Question> {
        let mut reached = BTreeSet::new();
        let mut hosts = BTreeSet::new();
        let mut targets = Vec::new();
        let name = &self.lookup.name;
        match self.lookup.records {
            Records::Address => {
                hosts.insert(name.clone());
            }
            Records::Srv => targets.push(Question::new(name, Kind::Srv)),
            Records::DnsSd => {
                let root = Question::new(name, Kind::Ptr);
                for item in items(&root) {
                    if let Item::Instance(instance) = item {
                        targets.push(Question::new(&instance, Kind::Srv));
                        reached.insert(Question::new(&instance, Kind::Txt));
                    }
                }
                reached.insert(root);
            }
        }
        for question in targets {
            for item in items(&question) {
                match item {
                    Item::Target { host, .. } if !host.is_root() && hosts.len() < MAX_FOLLOWED => {
                        hosts.insert(host);
                    }
                    Item::Target { .. } | Item::Address(_) | Item::Instance(_) | Item::Text(_) => {}
                }
            }
            reached.insert(question);
        }
        for host in &hosts {
            for kind in self.family.kinds() {
                let question = Question::new(host, *kind);
                let enough = self.family.is_exclusive() && !nothing(&question);
                reached.insert(question);
                if enough {
                    break;
                }
            }
        }
        reached
    }
}
