//! One session with one peer: list, judge the listing, then poll until there is a doubt.
//!
//! Invariant: what the controller has been told is what `records` holds, and `confirmed` is when a peer last said the
//! same.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use leadsman_core::model::Evidence;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::client::{Full, Link};
use super::config::Config;
use super::instance::Rules;
use super::judge::{Judgement, judge};
use super::records::{Change, Order, Records};
use super::trust::{Confirmed, has_been_there, is_warm, overdue};
use super::wire::{Applications, Id, Record};
use crate::session::Untold;
use crate::{Error, Event, EventSender, Overdue};

/// Readings of a full listing and a delta that may disagree before the next poll tries again: the server fills the
/// caches of the two at different moments.
const MAX_READINGS: usize = 3;
/// Polls in a row without a sum that agrees. Then a full listing counts even where another peer knew better before.
const MAX_DISAGREEMENTS: u32 = 4;
/// A delta tells of three minutes, and may have been half a minute old when it came.
const MAX_GAP: Duration = Duration::from_secs(120);

/// What survives a session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) records: Records,
    /// `None` before the first listing.
    pub(super) confirmed: Option<Confirmed>,
    /// Sessions in a row that ended because another peer knew more, or may have known.
    pub(super) doubts: usize,
    overdue: Overdue,
    untold: Untold,
}

impl Known {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            records: Records::new(Rules::of(config)),
            confirmed: None,
            doubts: 0,
            overdue: Overdue::default(),
            untold: Untold::default(),
        }
    }
}

struct Session<'a> {
    config: &'a Config,
    peer: usize,
    link: Link,
    events: &'a EventSender,
    known: &'a mut Known,
    /// The listing that began the session may have been a part.
    partial: bool,
    /// The server has deltas.
    deltas: bool,
    disagreements: u32,
}

/// A full listing with the delta that was asked for right after it.
pub(super) struct Reading {
    pub(super) full: Full,
    pub(super) delta: Option<Applications>,
}

/// Runs a session.
pub(super) async fn run(
    config: &Config,
    peer: usize,
    events: &EventSender,
    known: &mut Known,
) -> Result<Infallible, Error> {
    let url = config.endpoints.get(peer).map_or("", String::as_str);
    let link = Link::open(config, url).await?;
    let reading = list(&link, events).await?;
    let evidence = match judge(config, peer, &reading, known, events).await {
        Judgement::Believed(evidence) => known.untold.note(evidence),
        Judgement::Doubted(reason) => {
            known.doubts += 1;
            return Err(Error::Unavailable(reason));
        }
    };
    let mut session = Session {
        config,
        peer,
        link,
        events,
        known,
        partial: matches!(evidence, Evidence::Partial { .. }),
        deltas: reading.delta.is_some(),
        disagreements: 0,
    };
    session.begin(reading, evidence).await?;
    session.follow().await
}

/// Reads until the answer is whole and the two parts agree, or lets it be.
async fn list(link: &Link, events: &EventSender) -> Result<Reading, Error> {
    let mut reading = read(link, events).await?;
    for _ in 1..MAX_READINGS {
        let delta = reading.delta.as_ref();
        let agree = delta.is_none_or(|delta| delta.hash == reading.full.applications.hash);
        if agree && reading.full.applications.adds_up() {
            return Ok(reading);
        }
        reading = read(link, events).await?;
    }
    let applications = &reading.full.applications;
    if !applications.adds_up() {
        return Err(Error::Unavailable(format!(
            "the listing holds {} instances, and says of itself {:?}",
            applications.records.len(),
            applications.hash.as_deref().unwrap_or_default()
        )));
    }
    Ok(reading)
}

async fn read(link: &Link, events: &EventSender) -> Result<Reading, Error> {
    let full = link.full().await?;
    events.syncing();
    let delta = link.delta().await?;
    events.syncing();
    Ok(Reading { full, delta })
}

impl Session<'_> {
    async fn begin(&mut self, reading: Reading, evidence: Evidence) -> Result<(), Error> {
        let Reading { full, delta } = reading;
        self.watch_leases(&full);
        let records = &mut self.known.records;
        records.begin_session();
        let now = Instant::now();
        records.adopt(&full.applications.records, Order::Strict, &[], now);
        if let Some(delta) = delta {
            records.apply(&delta.records, now);
        } else {
            tracing::debug!("the peer has no deltas; every poll lists everything");
        }
        tracing::debug!(instances = records.len(), ?evidence, "listed");
        self.known.doubts = 0;
        self.resync(evidence).await?;
        self.known.untold.told();
        self.confirm();
        Ok(())
    }

    async fn follow(mut self) -> Result<Infallible, Error> {
        let mut polls = every(self.config.interval);
        let mut reconciles = every(self.config.reconcile);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll().await?,
                _ = reconciles.tick() => {
                    if self.deltas {
                        self.compare(true).await?;
                    }
                }
            }
        }
    }

    async fn poll(&mut self) -> Result<(), Error> {
        let delta = if self.deltas { self.link.delta().await? } else { None };
        let Some(delta) = delta else {
            return self.poll_everything().await;
        };
        let gap = self.known.confirmed.map(|confirmed| confirmed.at.elapsed());
        let told_of_all = gap.is_some_and(|gap| gap.is_ok_and(|gap| gap <= MAX_GAP));
        self.known.records.apply(&delta.records, Instant::now());
        self.tell().await?;
        if !told_of_all || !self.agrees_with(delta.hash.as_ref()) {
            return self.compare(false).await;
        }
        self.confirm();
        self.events.send(Event::Progress { revision: 0 }).await
    }

    /// From a server without deltas, and from one that has begun to refuse them.
    async fn poll_everything(&mut self) -> Result<(), Error> {
        self.deltas = false;
        let full = self.link.full().await?;
        if !full.applications.adds_up() {
            return self.disagree();
        }
        self.check(&full, &[])?;
        self.watch_leases(&full);
        self.known
            .records
            .adopt(&full.applications.records, Order::SamePeer, &[], Instant::now());
        self.confirm();
        if self.partial && is_warm(&full.applications.records, full.date) {
            self.partial = false;
            return self.resync(Evidence::Complete).await;
        }
        self.tell().await?;
        self.events.send(Event::Progress { revision: 0 }).await
    }

    /// Compares what is held with a full listing, at a moment at which the peer's two answers agree.
    async fn compare(&mut self, in_turn: bool) -> Result<(), Error> {
        for _ in 0..MAX_READINGS {
            let full = self.link.full().await?;
            if !full.applications.adds_up() {
                continue;
            }
            let Some(delta) = self.link.delta().await? else {
                return self.poll_everything().await;
            };
            let agree = full.applications.hash == delta.hash;
            if agree || self.disagreements >= MAX_DISAGREEMENTS {
                return self.settle(full, delta, in_turn).await;
            }
            self.known.records.apply(&delta.records, Instant::now());
        }
        self.tell().await?;
        self.disagree()
    }

    async fn settle(&mut self, full: Full, delta: Applications, in_turn: bool) -> Result<(), Error> {
        self.check(&full, &delta.records)?;
        self.watch_leases(&full);
        let now = Instant::now();
        self.known.records.apply(&delta.records, now);
        // What the delta knows is no drift: it tells of it.
        self.tell().await?;
        let patient = in_turn || self.disagreements >= MAX_DISAGREEMENTS;
        let order = if patient { Order::SamePeer } else { Order::Strict };
        let drift = self
            .known
            .records
            .adopt(&full.applications.records, order, &delta.records, now);
        if self.agrees_with(full.applications.hash.as_ref()) {
            self.disagreements = 0;
        } else {
            self.disagreements += 1;
        }
        self.confirm();
        if in_turn || drift > 0 {
            self.events.send(Event::Reconciled { drift }).await?;
        }
        let complete = self.partial && is_warm(&full.applications.records, full.date);
        if complete {
            self.partial = false;
        }
        if drift > 0 || complete {
            let evidence = if self.partial { part() } else { Evidence::Complete };
            return self.resync(evidence).await;
        }
        self.events.send(Event::Progress { revision: 0 }).await
    }

    /// What a listing lacks must have been removed: told so by a delta, or by a peer that has been there all along.
    fn check(&self, full: &Full, delta: &[Record]) -> Result<(), Error> {
        let (records, date) = (&full.applications.records, full.date);
        let missing = unexplained(&self.known.records, records, delta);
        let there = self
            .known
            .confirmed
            .is_some_and(|confirmed| has_been_there(records, date, confirmed, self.peer, SystemTime::now()));
        if missing == 0 || there {
            return Ok(());
        }
        Err(Error::Resync(format!(
            "{missing} instances are missing from a listing of {}, and the peer may have been restarted",
            records.len()
        )))
    }

    fn agrees_with(&self, hash: Option<&String>) -> bool {
        hash.is_none_or(|hash| *hash == self.known.records.hash())
    }

    fn confirm(&mut self) {
        let (peer, at) = (self.peer, SystemTime::now());
        self.known.confirmed = Some(Confirmed { peer, at });
    }

    fn disagree(&mut self) -> Result<(), Error> {
        self.disagreements += 1;
        tracing::debug!(polls = self.disagreements, "the peer's answers disagree");
        if self.disagreements <= MAX_DISAGREEMENTS * 2 {
            return Ok(());
        }
        Err(Error::Resync("the peer's answers keep disagreeing".to_owned()))
    }

    async fn tell(&mut self) -> Result<(), Error> {
        // First, so that an endpoint whose instance can't be attributed any more is kept.
        if let Some(rejections) = self.known.records.tell_unattributed() {
            self.events.send(Event::Unattributed { rejections }).await?;
        }
        for change in self.known.records.tell() {
            let event = match change {
                Change::Applied(service) => Event::Apply { service, revision: 0 },
                Change::Deleted(name) => Event::Delete { name, revision: 0 },
            };
            self.events.send(event).await?;
        }
        Ok(())
    }

    async fn resync(&mut self, evidence: Evidence) -> Result<(), Error> {
        let records = &mut self.known.records;
        let resync = Event::Resync {
            services: records.tell_all(),
            unattributed: records.tell_all_unattributed(),
            evidence,
            revision: 0,
        };
        self.events.send(resync).await
    }

    fn watch_leases(&mut self, full: &Full) {
        let now = overdue(&full.applications.records, full.date);
        let before = std::mem::replace(&mut self.known.overdue, now);
        self.events.overdue(now);
        let (source, instances, seconds) = (self.events.source(), now.instances, now.longest_seconds);
        if instances > 0 && before.instances == 0 {
            tracing::warn!(
                %source, instances, seconds,
                "leases have run out and nothing is evicted: the peer protects itself, and dead instances stay listed"
            );
        } else if instances > 0 {
            tracing::debug!(%source, instances, seconds, "leases have run out");
        } else if before.instances > 0 {
            tracing::info!(%source, "no lease is overdue any more");
        }
    }
}

/// How many held instances a listing lacks without a word of the delta: neither that they were removed, nor that they
/// came back after the listing was made.
pub(super) fn unexplained(held: &Records, full: &[Record], delta: &[Record]) -> usize {
    let told: BTreeSet<&Id> = told(delta).collect();
    held.missing(full).iter().filter(|id| !told.contains(id)).count()
}

/// The instances that a delta tells of; in a delta a place names nothing.
pub(super) fn told(delta: &[Record]) -> impl Iterator<Item = &Id> {
    delta.iter().filter(|record| record.named).map(|record| &record.id)
}

/// A listing that may be a part.
pub(super) fn part() -> Evidence {
    Evidence::Partial {
        why: "the peer may have just started, and no other one could be asked".to_owned(),
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::super::wire::read;
    use super::*;

    fn records(instances: &[(&str, &str)]) -> Vec<Record> {
        let instance = |(id, action): &(&str, &str)| {
            format!(
                r#"{{"instanceId":"{id}","ipAddr":"10.0.0.1","port":{{"$":80}},"status":"UP","actionType":"{action}"}}"#
            )
        };
        let instances: Vec<_> = instances.iter().map(instance).collect();
        let body = format!(
            r#"{{"applications":{{"application":{{"name":"X","instance":[{}]}}}}}}"#,
            instances.join(",")
        );
        read(body.as_bytes()).unwrap().records
    }

    #[test]
    fn what_a_delta_tells_of_is_not_gone_without_a_word() {
        let mut known = Known::new(&Config::new(vec![]));
        let all = records(&[("a", "ADDED"), ("b", "ADDED"), ("c", "ADDED")]);
        known.records.adopt(&all, Order::Strict, &[], Instant::now());
        let listed = records(&[("a", "ADDED")]);
        assert_eq!(unexplained(&known.records, &listed, &[]), 2);
        let removed = records(&[("b", "DELETED")]);
        assert_eq!(unexplained(&known.records, &listed, &removed), 1);
        // One that came back after the listing was made.
        let back = records(&[("b", "DELETED"), ("c", "ADDED")]);
        assert_eq!(unexplained(&known.records, &listed, &back), 0);
    }
}
