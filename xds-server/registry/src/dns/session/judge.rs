//! What the answers about one name mean in the light of the others: whether any server lives, and whether records that are
//! missing were removed or lost.

use std::collections::BTreeSet;

use leadsman_core::model::{Service, ServiceName};
use tokio::time::Instant;

use super::Session;
use super::tell::looks_same;
use crate::Error;
use crate::dns::chain::{Chain, Doubt, Pass};
use crate::dns::zone::Proof;

/// Other names that are asked when a name says that there is nothing any more, or no server answers.
const WITNESSES: usize = 3;

/// What became of records that are missing.
#[derive(Debug)]
pub(super) enum Verdict {
    /// They went, or stay with a reason.
    Settled,
    /// Other names are being asked.
    Open,
    /// They were lost rather than removed.
    Epoch,
}

impl Session<'_> {
    /// No server answered anything of a pass: either the name is to blame, or the servers are gone.
    pub(super) async fn endure_silence(&mut self, name: &ServiceName, pass: &Pass, now: Instant) -> Result<(), Error> {
        let heard_since = |since: Instant| self.client.last_heard().is_some_and(|heard| heard >= since);
        if heard_since(pass.began) {
            return Ok(());
        }
        let failure = pass.outcomes.values().find_map(|outcome| outcome.as_ref().err());
        let reason = failure.map_or_else(String::new, |failure| failure.reason.clone());
        let alone = self.known.chains.len() == 1;
        match self.silence.filter(|since| !heard_since(*since)) {
            Some(since) if pass.began >= since => self.give_up(reason, now).await,
            // Before anything was heard there is nothing to compare with.
            _ if alone || self.client.last_heard().is_none() => self.give_up(reason, now).await,
            Some(_) => Ok(()),
            None => {
                self.silence = Some(now);
                let others = self.known.chains.keys().filter(|other| *other != name);
                let others: BTreeSet<ServiceName> = others.take(WITNESSES).cloned().collect();
                self.hurry(&others, now);
                Ok(())
            }
        }
    }

    /// Ends the session; everything stays as it was told, but for the health of what is too old.
    async fn give_up(&mut self, reason: String, now: Instant) -> Result<(), Error> {
        self.known.silent.get_or_insert(now);
        if self.known.listed && self.config.max_stale.is_some() {
            let services = self.services();
            let aged = |(name, service): (&ServiceName, &Service)| {
                self.known.told.get(name).is_some_and(|told| !looks_same(told, service))
            };
            if services.iter().any(aged) {
                self.resync().await?;
            }
        }
        Err(Error::Unavailable(format!("no DNS server answers: {reason}")))
    }

    /// Whether what a pass found missing has gone.
    pub(super) fn decide(&mut self, name: &ServiceName, doubt: &Doubt, now: Instant) -> Verdict {
        if let Proof::Refuted(why) = &doubt.proof {
            let lacking = self.known.chains.iter().filter(|(_, chain)| chain.lacks_anything());
            let names = lacking.map(|(name, _)| name.clone()).collect();
            return self.begin_epoch(&names, why.clone(), now);
        }
        let since = self.known.chains.get(name).and_then(Chain::vanishing).unwrap_or(now);
        let others = self.others(name);
        let affirmed = others.iter().any(|chain| chain.is_affirmed_since(since));
        let proven = others.is_empty() && doubt.proof == Proof::Proven;
        if !doubt.vanishes || affirmed || proven {
            if let Some(chain) = self.known.chains.get_mut(name) {
                chain.release(doubt, now);
            }
            return Verdict::Settled;
        }
        if others.is_empty() {
            let why =
                "the only name with endpoints has none any more, and its server names no zone to prove it".to_owned();
            return self.begin_epoch(&BTreeSet::from([name.clone()]), why, now);
        }
        if others.iter().all(|chain| chain.vanishing().is_some()) {
            let mut names: BTreeSet<ServiceName> = others.iter().map(|chain| chain.lookup.service.clone()).collect();
            names.insert(name.clone());
            let why = format!("all of the {} names with endpoints lost them at once", names.len());
            return self.begin_epoch(&names, why, now);
        }
        let open = others.iter().filter(|chain| chain.vanishing().is_none());
        let unreadable = open.clone().count() == open.filter(|chain| chain.problem().is_some()).count();
        if let Some(chain) = self.known.chains.get_mut(name).filter(|_| unreadable) {
            let name = chain.lookup.name.to_ascii();
            chain.wait(format!(
                "{name} has no records any more, and no other name can be asked whether it has"
            ));
        }
        if unreadable { Verdict::Settled } else { Verdict::Open }
    }

    /// The other names with endpoints.
    fn others(&self, name: &ServiceName) -> Vec<&Chain> {
        let told = self
            .known
            .told
            .iter()
            .filter(|(other, service)| *other != name && !service.endpoints.is_empty());
        told.filter_map(|(other, _)| self.known.chains.get(other)).collect()
    }

    fn begin_epoch(&mut self, names: &BTreeSet<ServiceName>, why: String, now: Instant) -> Verdict {
        let source = self.events.source();
        tracing::warn!(%source, why, services = names.len(), "DNS is not what it was; what is missing is held");
        for name in names {
            if let Some(chain) = self.known.chains.get_mut(name) {
                chain.begin_epoch(now);
            }
        }
        self.known.epoch = Some(why);
        Verdict::Epoch
    }

    /// Asks other names as soon as one of them says that there is nothing any more.
    pub(super) fn wake_witnesses(&mut self, name: &ServiceName, now: Instant) {
        let Some(since) = self.known.chains.get(name).and_then(Chain::vanishing) else {
            return;
        };
        let open = |chain: &&Chain| chain.vanishing().is_none() && !chain.is_affirmed_since(since);
        let others = self.others(name);
        let woken = others
            .into_iter()
            .filter(open)
            .take(WITNESSES)
            .map(|chain| chain.lookup.service.clone());
        let woken: BTreeSet<ServiceName> = woken.collect();
        // An answer on its way counts if it was asked for late enough; asking again is cheap.
        self.hurry(&woken, now);
    }

    fn hurry(&mut self, names: &BTreeSet<ServiceName>, now: Instant) {
        let waiting: Vec<_> = self
            .due
            .iter()
            .filter(|(due, name)| *due > now && names.contains(name))
            .cloned()
            .collect();
        for (due, name) in waiting {
            self.due.remove(&(due, name.clone()));
            self.due.insert((now, name));
        }
    }
}
