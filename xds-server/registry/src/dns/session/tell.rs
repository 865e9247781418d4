//! What the controller is told: everything once, then what changes.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_core::model::{Evidence, Service, ServiceName};
use tokio::time::Instant;

use super::Session;
use crate::dns::chain::Chain;
use crate::dns::service::{Presence, Staleness};
use crate::{Error, Event};

/// The least time between two signs of life.
const PROGRESS: Duration = Duration::from_secs(1);

impl Session<'_> {
    pub(super) async fn list(&mut self) -> Result<(), Error> {
        if self.answered.is_empty() {
            let problem = self.problem().unwrap_or_else(|| "no name could be read".to_owned());
            return Err(Error::Unavailable(problem));
        }
        self.listed = true;
        self.resync().await
    }

    /// Says everything.
    pub(super) async fn resync(&mut self) -> Result<(), Error> {
        let services = self.services();
        self.unattributed.clone_from(&self.strange);
        let unread = self.first_unread();
        self.partial = unread.is_some();
        // A new epoch says nothing about what was never read, so that is said after it.
        let epoch = self.known.epoch.clone().map(|why| Evidence::NewEpoch { why });
        let partial = unread.map(|why| Evidence::Partial { why });
        let complete = (epoch.is_none() && partial.is_none()).then_some(Evidence::Complete);
        self.known.told.clone_from(&services);
        self.known.listed = true;
        for evidence in epoch.into_iter().chain(partial).chain(complete) {
            let resync = Event::Resync {
                services: services.values().cloned().collect(),
                unattributed: self.unattributed.values().cloned().collect(),
                evidence,
                revision: 0,
            };
            self.events.send(resync).await?;
        }
        self.known.epoch = None;
        // A listing says that all is well, so what is not is said again.
        self.impairment = None;
        self.tell_problems().await
    }

    pub(super) fn services(&self) -> BTreeMap<ServiceName, Service> {
        let staleness = self.staleness();
        let known = |(name, chain): (&ServiceName, &Chain)| match chain.presence(&staleness) {
            Presence::Known(service) => Some((name.clone(), service)),
            Presence::Absent | Presence::Unread => None,
        };
        self.known.chains.iter().filter_map(known).collect()
    }

    fn staleness(&self) -> Staleness {
        let now = Instant::now();
        Staleness {
            limit: self.config.max_stale.map(|most| (now, most)),
            silent: self.known.silent,
        }
    }

    /// Says what changed of one name.
    pub(super) async fn tell(&mut self, name: &ServiceName) -> Result<(), Error> {
        let Some(chain) = self.known.chains.get(name) else {
            return Ok(());
        };
        let presence = chain.presence(&self.staleness());
        // First, so that whoever looks for a service that is gone finds why.
        if self.strange.get(name) != self.unattributed.get(name) {
            self.unattributed.clone_from(&self.strange);
            let rejections = self.strange.values().cloned().collect();
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        let told = self.known.told.get(name);
        let event = match presence {
            Presence::Known(service) if told.is_some_and(|told| looks_same(told, &service)) => return Ok(()),
            Presence::Known(service) => {
                self.known.told.insert(name.clone(), service.clone());
                Event::Apply { service, revision: 0 }
            }
            Presence::Absent | Presence::Unread => {
                if self.known.told.remove(name).is_none() {
                    return Ok(());
                }
                let name = name.clone();
                Event::Delete { name, revision: 0 }
            }
        };
        self.events.send(event).await
    }

    /// Says that nothing was missed: there are no events to lose, so each round over all names is a comparison.
    pub(super) async fn tell_progress(&mut self, now: Instant) -> Result<(), Error> {
        let over = |since: Instant, least: Duration| now.saturating_duration_since(since) >= least;
        if over(self.round_began, self.pace.max_ttl) && self.round.len() == self.known.chains.len() {
            self.round.clear();
            self.round_began = now;
            self.events.send(Event::Reconciled { drift: 0 }).await?;
        }
        if self.problems.is_empty() && over(self.progress, PROGRESS) {
            self.progress = now;
            self.events.send(Event::Progress { revision: 0 }).await?;
        }
        Ok(())
    }

    /// Says what can't be read, when that changes.
    pub(super) async fn tell_problems(&mut self) -> Result<(), Error> {
        if self.silence.is_some() {
            return Ok(());
        }
        let reason = self.problem();
        if reason == self.impairment {
            return Ok(());
        }
        let source = self.events.source();
        match (&self.impairment, &reason) {
            (None, Some(reason)) => tracing::warn!(%source, reason, "names can't be read; what they said last is kept"),
            (_, None) => tracing::info!(%source, "every name can be read again"),
            (Some(_), Some(reason)) => tracing::debug!(%source, reason, "names still can't be read"),
        }
        self.impairment.clone_from(&reason);
        self.events.send(Event::Impaired { reason }).await
    }

    /// The first problem, and how many more names have one.
    fn problem(&self) -> Option<String> {
        let (name, problem) = self.problems.first_key_value()?;
        Some(match self.problems.len() {
            1 => format!("{name}: {problem}"),
            count => format!("{name}: {problem} (and {} more)", count - 1),
        })
    }

    /// Why not everything has ever been read, if so.
    fn first_unread(&self) -> Option<String> {
        let name = self.unread.first()?;
        let problem = self.problems.get(name).map_or("not answered yet", String::as_str);
        Some(format!("{name}: {problem}"))
    }
}

/// Equal in all that Envoy or a person can see.
pub(super) fn looks_same(old: &Service, new: &Service) -> bool {
    old.rejections == new.rejections
        && old.endpoints.len() == new.endpoints.len()
        && old
            .endpoints
            .iter()
            .zip(&new.endpoints)
            .all(|(old, new)| old.same_content(new) && old.provenance == new.provenance)
}
