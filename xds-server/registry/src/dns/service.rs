//! From the records that are held to the service that they describe. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use leadsman_core::model::{Address, Endpoint, Health, Provenance, Rejection, Service, Weight};
use tokio::time::Instant;

use super::chain::{Chain, MAX_FOLLOWED};
use super::config::Records;
use super::held::{Failing, Held};
use super::question::{Item, Kind, Question, Rank};
use crate::layout::tags::{MAX_ENTRIES, Tags};

/// What an SRV weight of zero counts beside others: almost never, and not nothing (RFC 2782).
const ALMOST_NEVER: f64 = 0.01;

/// What a name says about its service.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    /// Nobody could be asked yet.
    Unread,
    Absent,
    Known(Service),
}

impl Presence {
    pub(super) fn has_endpoints(&self) -> bool {
        match self {
            Self::Known(service) => !service.endpoints.is_empty(),
            Self::Absent | Self::Unread => false,
        }
    }
}

/// How long what can't be asked any more counts as healthy.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Staleness {
    /// The present, and the longest time; `None` for ever.
    pub(super) limit: Option<(Instant, Duration)>,
    /// Since when no server has answered at all.
    pub(super) silent: Option<Instant>,
}

impl Staleness {
    /// The limit, if the first of these failures began longer ago.
    fn over(&self, failing: &[Option<&Failing>]) -> Option<Duration> {
        let (now, limit) = self.limit?;
        let failing = failing.iter().flatten().map(|failing| failing.since);
        let age = now.saturating_duration_since(failing.chain(self.silent).min()?);
        (age >= limit).then_some(limit)
    }
}

/// An endpoint whose weight and health depend on its neighbours.
struct Draft {
    endpoint: Endpoint,
    rank: Rank,
    /// How many addresses share the weight.
    share: f64,
}

/// One SRV record, or the configured host with its port.
struct Place<'a> {
    /// The record's name in `explain`.
    record: String,
    rank: Rank,
    port: u16,
    host: &'a Name,
    tags: Tags,
    /// What the record depends on besides its host.
    from: Vec<Option<&'a Failing>>,
}

/// The service as it is held.
pub(super) fn assemble(chain: &Chain, staleness: &Staleness) -> Presence {
    let roots = chain.roots();
    let there = roots
        .iter()
        .filter_map(|root| chain.held(root))
        .any(|held| !held.is_empty());
    if !there {
        return if chain.is_read() {
            Presence::Absent
        } else {
            Presence::Unread
        };
    }
    let mut builder = Builder {
        chain,
        staleness,
        drafts: Vec::new(),
        rejections: Vec::new(),
    };
    match chain.lookup.records {
        Records::Address => builder.host(),
        Records::Srv => builder.targets(),
        Records::DnsSd => builder.instances(),
    }
    Presence::Known(Service {
        name: chain.lookup.service.clone(),
        endpoints: rank(builder.drafts),
        rejections: builder.rejections,
    })
}

/// Priorities count from zero and without a gap, so that those of DNS and those of another source mean the same; weights
/// count within one priority.
fn rank(drafts: Vec<Draft>) -> Vec<Endpoint> {
    let priorities: BTreeSet<u16> = drafts.iter().map(|draft| draft.rank.priority).collect();
    let ranks: BTreeMap<u16, u16> = priorities.into_iter().zip(0..).collect();
    let weighted: BTreeSet<u16> = drafts
        .iter()
        .filter(|draft| draft.rank.weight > 0)
        .map(|draft| draft.rank.priority)
        .collect();
    let endpoint = |draft: Draft| {
        let Rank { priority, weight } = draft.rank;
        let whole = match weight {
            0 if weighted.contains(&priority) => ALMOST_NEVER,
            0 => 1.0,
            weight => f64::from(weight),
        };
        let mut endpoint = draft.endpoint;
        endpoint.weight = Weight::new(whole / draft.share).unwrap_or(Weight::ONE);
        endpoint.priority = ranks.get(&priority).copied().unwrap_or_default();
        if endpoint.priority > 0 && endpoint.health == Health::Unknown {
            endpoint.health_reason = format!("priority {priority}: used when those before it are not enough").into();
        }
        endpoint
    };
    drafts.into_iter().map(endpoint).collect()
}

/// `key=value`, as DNS-SD writes it (RFC 6763, section 6): the first of a key counts, in whatever case.
fn pairs(text: &Held) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let strings = text.items().filter_map(|(item, _)| match item {
        Item::Text(strings) => Some(strings),
        Item::Target { .. } | Item::Address(_) | Item::Instance(_) => None,
    });
    for string in strings.flat_map(|strings| strings.iter()) {
        let string = String::from_utf8_lossy(string);
        let (key, value) = string.split_once('=').unwrap_or((&string, ""));
        if !key.is_empty() && seen.len() < MAX_ENTRIES && seen.insert(key.to_ascii_lowercase()) {
            pairs.insert(key.to_owned(), value.to_owned());
        }
    }
    pairs
}

/// Why a name gives nothing.
fn lack(answers: &[Option<&Held>], name: &Name, what: &str) -> String {
    let name = name.to_ascii();
    let failing = answers.iter().flatten().find_map(|held| held.failing());
    let known = |held: &Option<&Held>| held.is_some_and(Held::is_known);
    match failing {
        Some(failing) if !answers.iter().any(known) => format!("{name} can't be asked for: {}", failing.reason),
        Some(_) | None if !answers.iter().any(known) => format!("{name} was not asked for: there are too many names"),
        Some(_) | None if answers.iter().flatten().any(|held| held.is_of_another_kind()) => {
            format!("{name} has no {what}")
        }
        Some(_) | None => format!("{name} does not exist"),
    }
}

struct Builder<'a> {
    chain: &'a Chain,
    staleness: &'a Staleness,
    drafts: Vec<Draft>,
    rejections: Vec<Rejection>,
}

impl<'a> Builder<'a> {
    fn host(&mut self) {
        let host = &self.chain.lookup.name;
        self.place(Place {
            record: host.to_ascii(),
            rank: Rank::default(),
            port: self.chain.lookup.port,
            host,
            tags: Tags::default(),
            from: Vec::new(),
        });
    }

    fn targets(&mut self) {
        let question = Question::new(&self.chain.lookup.name, Kind::Srv);
        self.srv(&question, &BTreeMap::new(), None);
    }

    fn instances(&mut self) {
        let root = Question::new(&self.chain.lookup.name, Kind::Ptr);
        let Some(held) = self.chain.held(&root) else { return };
        for (index, (item, _)) in held.items().enumerate() {
            let Item::Instance(instance) = item else { continue };
            let srv = Question::new(instance, Kind::Srv);
            if index >= MAX_FOLLOWED {
                self.reject(
                    &root.to_string(),
                    format!("only the first {MAX_FOLLOWED} instances are followed"),
                );
                return;
            }
            match self.chain.held(&srv) {
                Some(found) if !found.is_empty() => {
                    let text = self.chain.held(&Question::new(instance, Kind::Txt));
                    let pairs = text.map(pairs).unwrap_or_default();
                    self.srv(&srv, &pairs, held.failing());
                }
                found => self.reject(&srv.to_string(), lack(&[found], instance, "SRV record")),
            }
        }
    }

    fn srv(&mut self, question: &Question, pairs: &BTreeMap<String, String>, from: Option<&'a Failing>) {
        let Some(held) = self.chain.held(question) else { return };
        let sole = held.items().count() == 1;
        for (index, (item, rank)) in held.items().enumerate() {
            let Item::Target { host, port } = item else { continue };
            let record = format!("{question} {}:{port}", host.to_ascii());
            if index >= MAX_FOLLOWED {
                self.reject(&record, format!("only the first {MAX_FOLLOWED} records are followed"));
                return;
            }
            if host.is_root() {
                if !sole {
                    self.reject(
                        &record,
                        "says that the service is not available, beside records that say it is".to_owned(),
                    );
                }
                continue;
            }
            let mut tags = Tags::default();
            tags.put("priority", &rank.priority.to_string());
            for (key, value) in pairs {
                tags.put(key, value);
            }
            self.place(Place {
                record,
                rank,
                port: *port,
                host,
                tags,
                from: vec![held.failing(), from],
            });
        }
    }

    /// The addresses of one record's host.
    fn place(&mut self, place: Place<'_>) {
        let family = self.chain.family();
        let answers: Vec<(Kind, Option<&Held>)> = family
            .kinds()
            .iter()
            .map(|kind| (*kind, self.chain.held(&Question::new(place.host, *kind))))
            .collect();
        let mut found: Vec<(IpAddr, Kind, &Held)> = Vec::new();
        for (kind, held) in &answers {
            if family.is_exclusive() && !found.is_empty() {
                break;
            }
            for (held, (item, _)) in held.iter().flat_map(|held| held.items().map(move |item| (*held, item))) {
                if let Item::Address(address) = item {
                    found.push((*address, *kind, held));
                }
            }
        }
        if found.is_empty() {
            let held: Vec<Option<&Held>> = answers.iter().map(|(_, held)| *held).collect();
            self.reject(&place.record, lack(&held, place.host, "address"));
            return;
        }
        // Addresses of one SRV record share its weight; those of a host that is a service have one each.
        let share = match self.chain.lookup.records {
            Records::Address => 1.0,
            Records::Srv | Records::DnsSd => found.len() as f64,
        };
        for (address, kind, held) in found {
            self.endpoint(&place, address, kind, held, share);
        }
    }

    fn endpoint(&mut self, place: &Place<'_>, address: IpAddr, kind: Kind, held: &Held, share: f64) {
        let Rank { priority, weight } = place.rank;
        let written = format!("{} {kind} {address}", place.host.to_ascii());
        let (record, layout, raw) = match self.chain.lookup.records {
            Records::Address => (written.clone(), "address", written),
            Records::Srv => (
                place.record.clone(),
                "srv",
                format!("{priority} {weight} {}; {written}", place.port),
            ),
            Records::DnsSd => (
                place.record.clone(),
                "dns-sd",
                format!("{priority} {weight} {}; {written}", place.port),
            ),
        };
        let provenance = Provenance::new(&record, layout, raw.as_bytes(), 0);
        let address = match Address::new(&address.to_string(), i64::from(place.port)) {
            Ok(address) => address,
            Err(error) => return self.reject(&record, error.to_string()),
        };
        let mut from = place.from.clone();
        from.push(held.failing());
        let (health, health_reason) = match self.staleness.over(&from) {
            Some(limit) => (
                Health::Unhealthy,
                format!("not answered for longer than {}", humantime::format_duration(limit)).into(),
            ),
            None => (Health::Unknown, "".into()),
        };
        let endpoint = Endpoint {
            health,
            health_reason,
            locality: place.tags.locality.clone(),
            metadata: place.tags.metadata.clone(),
            ..Endpoint::new(address, provenance)
        };
        self.drafts.push(Draft {
            endpoint,
            rank: place.rank,
            share,
        });
    }

    fn reject(&mut self, record: &str, reason: String) {
        // What is rejected here is known to be so, and keeps no endpoint alive.
        let provenance = Provenance {
            stable: false,
            ..Provenance::new(record, "dns", b"", 0)
        };
        self.rejections.push(Rejection { provenance, reason });
    }
}

#[cfg(test)]
mod tests;
