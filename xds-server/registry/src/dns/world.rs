//! A DNS for tests: records as a zone file writes them, answered as a server with authority answers.

#![cfg(test)]

use std::collections::BTreeMap;
use std::time::Duration;

use hickory_proto::rr::{Name, RData, RecordType};
use leadsman_core::model::ServiceName;
use tokio::time::Instant;

use super::chain::{Chain, Doubt, Pass};
use super::config::{Family, Lookup, Records};
use super::held::Pace;
use super::question::{Answer, Failure, Item, Items, Outcome, Question, Rank, Said, Zone};
use super::service::{Presence, Staleness};

pub(super) const PACE: Pace = Pace {
    min_ttl: Duration::from_secs(1),
    max_ttl: Duration::from_mins(5),
    retry: Duration::from_secs(5),
    window: Duration::ZERO,
};

/// One zone, `example.`.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    records: Vec<String>,
    failing: BTreeMap<String, String>,
    pub(super) serial: u32,
    /// The server names no zone.
    pub(super) zoneless: bool,
}

impl World {
    /// `name type data`, one a line. A minute's life each.
    pub(super) fn new(records: &str) -> Self {
        Self {
            records: records
                .lines()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
            serial: 1,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, record: &str) -> &mut Self {
        self.records.push(record.to_owned());
        self.serial += 1;
        self
    }

    /// Removes the records that begin like this.
    pub(super) fn remove(&mut self, record: &str) -> &mut Self {
        self.records.retain(|held| !held.starts_with(record));
        self.serial += 1;
        self
    }

    /// Lets a question, `name type`, fail from now on.
    pub(super) fn fail(&mut self, question: &str, reason: &str) -> &mut Self {
        self.failing.insert(question.to_owned(), reason.to_owned());
        self
    }

    pub(super) fn mend(&mut self) -> &mut Self {
        self.failing.clear();
        self
    }

    pub(super) fn ask(&self, question: &Question) -> Outcome {
        let (name, kind) = (question.name.to_ascii(), question.kind.as_str());
        if let Some(reason) = self.failing.get(&format!("{name} {kind}")) {
            let (reason, spoke) = (reason.clone(), true);
            return Err(Failure { reason, spoke });
        }
        let (prefix, suffix) = (format!("{name} "), format!(".{name} "));
        let own = || self.records.iter().filter_map(|record| record.strip_prefix(&prefix));
        let data = own().filter_map(|rest| rest.strip_prefix(kind)?.strip_prefix(' '));
        let items: Items = data.map(|data| item(kind, data)).collect();
        let below = self.records.iter().any(|record| record.contains(&suffix));
        let name_exists = own().next().is_some() || below;
        let zone = Zone {
            apex: Name::from_ascii("example.").unwrap(),
            master: Name::from_ascii("ns.example.").unwrap(),
            serial: self.serial,
        };
        let nothing = items.is_empty();
        Ok(Answer {
            said: if nothing {
                Said::Nothing { name_exists }
            } else {
                Said::Items(items)
            },
            owner: question.name.clone(),
            ttl: Some(Duration::from_secs(60)),
            zone: Some(zone).filter(|_| nothing && !self.zoneless),
            authoritative: true,
        })
    }
}

fn item(kind: &str, data: &str) -> (Item, Rank) {
    let data = RData::try_from_str(kind.parse::<RecordType>().unwrap(), data).unwrap();
    super::wire::item(&data).unwrap()
}

/// A name that is looked at, and what was asked for.
#[derive(Debug)]
pub(super) struct Looker {
    pub(super) chain: Chain,
    pub(super) now: Instant,
    /// The questions of the last look, in their order.
    pub(super) asked: Vec<String>,
    pub(super) due: Instant,
}

impl Looker {
    pub(super) fn new(name: &str, records: Records, family: Family) -> Self {
        let lookup = Lookup {
            service: ServiceName::new("orders").unwrap(),
            name: Name::from_ascii(name).unwrap(),
            records,
            port: if records == Records::Address { 8080 } else { 0 },
        };
        let now = Instant::now();
        Self {
            chain: Chain::new(lookup, family),
            now,
            asked: Vec::new(),
            due: now,
        }
    }

    pub(super) fn srv() -> Self {
        Self::new("_orders._tcp.example.", Records::Srv, Family::Ipv4)
    }

    /// One pass, when it is due.
    pub(super) fn look(&mut self, world: &World) -> Option<Doubt> {
        self.pass(world).1
    }

    fn pass(&mut self, world: &World) -> (Pass, Option<Doubt>) {
        self.now = self.due.max(self.now);
        let mut pass = Pass::new(self.now);
        self.asked.clear();
        loop {
            let wanted = self.chain.wanted(&pass, &PACE, self.now);
            if wanted.is_empty() {
                break;
            }
            self.asked.extend(wanted.iter().map(ToString::to_string));
            pass.outcomes.extend(
                wanted
                    .into_iter()
                    .map(|question| (question.clone(), world.ask(&question))),
            );
        }
        let doubt = self.chain.finish(&pass, &PACE, self.now);
        self.due = self.chain.due(&pass, &PACE, self.now);
        (pass, doubt)
    }

    /// A pass, after which everything goes that may.
    pub(super) fn believe(&mut self, world: &World) -> Option<Doubt> {
        let (pass, doubt) = self.pass(world);
        if let Some(doubt) = &doubt {
            self.chain.release(doubt, self.now);
            self.due = self.chain.due(&pass, &PACE, self.now);
        }
        doubt
    }

    /// How long after the last look the next one is due.
    pub(super) fn rests(&self) -> u64 {
        self.due.saturating_duration_since(self.now).as_secs()
    }

    /// The service, a line an endpoint or rejection.
    pub(super) fn shown(&self) -> String {
        self.shown_with(&Staleness::default())
    }

    pub(super) fn shown_with(&self, staleness: &Staleness) -> String {
        let service = match self.chain.presence(staleness) {
            Presence::Unread => return "unread".to_owned(),
            Presence::Absent => return "absent".to_owned(),
            Presence::Known(service) => service,
        };
        let endpoints = service.endpoints.iter().map(|endpoint| {
            let mut line = format!("{} w={} {}", endpoint.address, endpoint.weight, endpoint.health);
            if endpoint.priority > 0 {
                line += &format!(" rank {}", endpoint.priority);
            }
            if !endpoint.health_reason.is_empty() {
                line += &format!(" ({})", endpoint.health_reason);
            }
            for (key, value) in &endpoint.metadata {
                line += &format!(" {key}={value}");
            }
            if !endpoint.locality.zone.is_empty() {
                line += &format!(" zone {}", endpoint.locality.zone);
            }
            line
        });
        let rejections = service
            .rejections
            .iter()
            .map(|rejection| format!("- {}: {}", rejection.provenance.record, rejection.reason));
        endpoints.chain(rejections).collect::<Vec<_>>().join("\n")
    }
}

/// Lines without the blanks that indent them.
pub(super) fn lines(text: &str) -> String {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}
