//! The first listing of a session, and how far it is believed.
//!
//! Everything that was held is asked for too, so that what is missing is missing in an answer about that very service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadsman_core::model::{Evidence, ServiceName};
use tokio::time::Instant;

use super::super::continuity::{Confirmed, Continuity};
use super::{Session, Timer};
use crate::held::Records;
use crate::{Error, Event};

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Groups whose names are not yet known.
    pub(super) groups: BTreeSet<Arc<str>>,
    /// Services whose instances are not yet known.
    pub(super) open: BTreeSet<ServiceName>,
    pub(super) fresh: BTreeMap<ServiceName, Records>,
}

/// Services of which something was missing after an outage, and until when it may come back.
#[derive(Debug)]
pub(super) struct Settling {
    until: Instant,
    names: BTreeSet<ServiceName>,
}

impl Settling {
    pub(super) fn holds(&self, name: &ServiceName) -> bool {
        self.names.contains(name) && Instant::now() < self.until
    }

    pub(super) fn into_names(self) -> BTreeSet<ServiceName> {
        self.names
    }

    /// What of it is still missing, and still has time.
    fn still(mut self, missing: &BTreeSet<ServiceName>, now: Instant) -> Option<Self> {
        self.names.retain(|name| missing.contains(name));
        (now < self.until && !self.names.is_empty()).then_some(self)
    }
}

impl Session<'_> {
    /// Tells everything, once everything is known.
    pub(super) async fn finish_listing(&mut self) -> Result<(), Error> {
        let done = |listing: &mut Listing| listing.groups.is_empty() && listing.open.is_empty();
        let Some(listing) = self.listing.take_if(done) else {
            return Ok(());
        };
        let empty = Records::new();
        let fresh = |name: &ServiceName| listing.fresh.get(name).unwrap_or(&empty);
        let held: Vec<ServiceName> = self.known.holdings.names().cloned().collect();
        let readable = |name: &&ServiceName| !self.doubts.is_unreadable(name);
        let missing: BTreeSet<ServiceName> = held
            .iter()
            .filter(readable)
            .filter(|name| self.known.holdings.misses(name, fresh(name)))
            .cloned()
            .collect();
        let evidence = self.judge(missing);
        if matches!(evidence, Evidence::NewEpoch { .. }) {
            // The catalog holds what is missing, and says so.
            self.known.holdings.clear();
        }
        let names: BTreeSet<ServiceName> = held.into_iter().chain(listing.fresh.keys().cloned()).collect();
        for name in names {
            if !self.doubts.is_unreadable(&name) {
                let records = listing.fresh.get(&name).cloned().unwrap_or_default();
                let proven = !self.is_settling(&name);
                self.known.holdings.take(&name, records, proven);
            }
        }
        self.forget_unlisted();
        let services = self.known.holdings.snapshot();
        let nothing = self.followed.names().next().is_none();
        tracing::debug!(services = services.len(), ?evidence, "listed");
        let resync = Event::Resync {
            services,
            unattributed: self.unusable(),
            evidence,
            revision: 0,
        };
        self.events.send(resync).await?;
        self.start_timers();
        if nothing {
            self.explain_emptiness();
        }
        self.tell_doubts().await
    }

    /// How far the listing is believed where it lacks these; from now on the server is the one that is believed.
    fn judge(&mut self, missing: BTreeSet<ServiceName>) -> Evidence {
        let now = Instant::now();
        let continuity = self.known.confirmed.map_or(Continuity::Unbroken, |confirmed| {
            self.known
                .epochs
                .judge(confirmed, self.endpoint, self.began, &self.epoch)
        });
        self.known.listed = true;
        self.known.confirmed = Some(Confirmed {
            endpoint: self.endpoint,
            at: self.heard,
        });
        if let Ok(epoch) = &self.epoch {
            self.known.epochs.note(self.endpoint, epoch.clone(), now);
        }
        let partial = self.doubts.partial();
        let complete = partial.map_or(Evidence::Complete, |why| Evidence::Partial { why });
        let settling = self.known.settling.take();
        if missing.is_empty() {
            return complete;
        }
        let settling = match continuity {
            Continuity::Unbroken => settling.and_then(|settling| settling.still(&missing, now)),
            Continuity::Same => {
                tracing::info!(
                    source = %self.events.source(), services = missing.len(),
                    "instances are missing after an outage; they have time to register again"
                );
                let until = now + self.config.settle;
                Some(Settling { until, names: missing })
            }
            Continuity::Unknown { why } => return Evidence::NewEpoch { why },
        };
        if let Some(settling) = &settling {
            self.timers.insert(Timer::Settled, settling.until);
        }
        self.known.settling = settling;
        complete
    }

    pub(super) fn is_settling(&self, name: &ServiceName) -> bool {
        self.known
            .settling
            .as_ref()
            .is_some_and(|settling| settling.holds(name))
    }
}
