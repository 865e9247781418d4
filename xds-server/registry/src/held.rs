//! What the controller was told of every service, and what a new answer changes of it: for registries that always answer
//! with whole services.
//!
//! Pure. Invariant: an instance leaves only through an answer that proves that it is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Rejection, Service, ServiceName};

/// The addresses that one registration gives, or why it gives none.
pub(crate) type Outcomes = Box<[Result<Endpoint, Rejection>]>;
/// The instances of one service, by what their registry calls them.
pub(crate) type Records = BTreeMap<Arc<str>, Outcomes>;

/// What an answer did to a service.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Applied(Service),
    Deleted(ServiceName),
}

/// The services that have instances. It outlives sessions, because an answer that hides something must not take away
/// what an earlier session was shown.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    services: BTreeMap<ServiceName, Records>,
}

impl Holdings {
    pub(crate) fn holds(&self, name: &ServiceName) -> bool {
        self.services.contains_key(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// Whether a held instance is not in `records`.
    pub(crate) fn misses(&self, name: &ServiceName, records: &Records) -> bool {
        let held = self.services.get(name).into_iter().flatten();
        held.filter(|(_, outcomes)| is_stable(outcomes))
            .any(|(record, _)| !records.contains_key(record))
    }

    /// Takes an answer. Unless it proves that nothing else exists, held instances that it does not list stay.
    pub(crate) fn take(&mut self, name: &ServiceName, mut records: Records, proven: bool) -> Option<Change> {
        let before = self.services.remove(name);
        if !proven {
            let kept = before.iter().flatten().filter(|(_, outcomes)| is_stable(outcomes));
            for (record, outcomes) in kept {
                records.entry(record.clone()).or_insert_with(|| outcomes.clone());
            }
        }
        if records.is_empty() {
            return before.map(|_| Change::Deleted(name.clone()));
        }
        let changed = before.is_none_or(|before| !View::of(&before).same(&View::of(&records)));
        let change = changed.then(|| Change::Applied(View::of(&records).to_service(name)));
        self.services.insert(name.clone(), records);
        change
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.services.clear();
    }

    /// How many instances differ between what is held and `records`.
    pub(crate) fn difference(&self, name: &ServiceName, records: &Records) -> u64 {
        let empty = Records::new();
        let held = self.services.get(name).unwrap_or(&empty);
        let differs = |(record, outcomes): &(_, &Outcomes)| {
            records
                .get(*record)
                .is_none_or(|theirs| !same_outcomes(outcomes, theirs))
        };
        let gone_or_changed = held.iter().filter(|pair| differs(pair)).count();
        let added = records.keys().filter(|record| !held.contains_key(*record)).count();
        u64::try_from(gone_or_changed + added).unwrap_or(u64::MAX)
    }

    /// Every service.
    pub(crate) fn snapshot(&self) -> Vec<Service> {
        let services = self.services.iter();
        services
            .map(|(name, records)| View::of(records).to_service(name))
            .collect()
    }
}

/// Whether two answers say the same.
pub(crate) fn same(a: &Records, b: &Records) -> bool {
    let pairs = || a.iter().zip(b);
    a.len() == b.len() && pairs().all(|((x, mine), (y, theirs))| x == y && same_outcomes(mine, theirs))
}

fn same_outcomes(a: &Outcomes, b: &Outcomes) -> bool {
    let same = |pair: (&Result<Endpoint, Rejection>, &Result<Endpoint, Rejection>)| match pair {
        (Ok(a), Ok(b)) => a.same_content(b),
        (Err(a), Err(b)) => a.reason == b.reason,
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    };
    a.len() == b.len() && a.iter().zip(b).all(same)
}

/// Whether the record has a name of its own.
fn is_stable(outcomes: &Outcomes) -> bool {
    let mut rejections = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    rejections.all(|rejection| rejection.provenance.stable)
}

/// A service by reference: each address once, in order.
struct View<'a> {
    endpoints: BTreeMap<(Address, Option<&'a str>), &'a Endpoint>,
    rejections: Vec<&'a Rejection>,
}

impl<'a> View<'a> {
    /// Of several instances with one address the healthiest counts, then the heaviest, then the first by name.
    fn of(records: &'a Records) -> Self {
        let mut view = Self {
            endpoints: BTreeMap::new(),
            rejections: Vec::new(),
        };
        for outcome in records.values().flatten() {
            match outcome {
                Ok(endpoint) => {
                    let place = (endpoint.address, endpoint.scheme.as_deref());
                    let best = view.endpoints.entry(place).or_insert(endpoint);
                    if endpoint.preference() > best.preference() {
                        *best = endpoint;
                    }
                }
                Err(rejection) => view.rejections.push(rejection),
            }
        }
        view
    }

    fn same(&self, other: &Self) -> bool {
        let endpoints = || self.endpoints.values().zip(other.endpoints.values());
        let rejections = || self.rejections.iter().zip(&other.rejections);
        self.endpoints.len() == other.endpoints.len()
            && self.rejections.len() == other.rejections.len()
            && endpoints().all(|(a, b)| a.same_content(b))
            && rejections().all(|(a, b)| a.reason == b.reason && a.provenance.record == b.provenance.record)
    }

    fn to_service(&self, name: &ServiceName) -> Service {
        Service {
            name: name.clone(),
            endpoints: self.endpoints.values().copied().cloned().collect(),
            rejections: self.rejections.iter().copied().cloned().collect(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use leadsman_core::model::{Provenance, Weight};

    use super::*;

    /// Instances by name, address and weight; what is no address is a rejection.
    pub(crate) fn records(entries: &[(&str, &str, u16)]) -> Records {
        let entry = |(name, host, weight): &(&str, &str, u16)| {
            let provenance = Provenance::new(name, "", b"", 0);
            let outcome = match Address::new(host, 80) {
                Ok(address) => Ok(Endpoint {
                    weight: Weight::new(f64::from(*weight)).unwrap(),
                    ..Endpoint::new(address, provenance.clone())
                }),
                Err(error) => Err(Rejection {
                    provenance: provenance.clone(),
                    reason: error.to_string(),
                }),
            };
            (provenance.record, Box::from([outcome]) as Outcomes)
        };
        entries.iter().map(entry).collect()
    }

    fn name(text: &str) -> ServiceName {
        ServiceName::new(text).unwrap()
    }

    fn say(change: Option<Change>) -> String {
        match change {
            None => "silence".to_owned(),
            Some(Change::Deleted(name)) => format!("-{name}"),
            Some(Change::Applied(service)) => {
                let endpoint = |endpoint: &Endpoint| format!(" {}*{}", endpoint.address, endpoint.weight);
                let bad = |rejection: &Rejection| format!(" !{}", rejection.provenance.record);
                let endpoints = service.endpoints.iter().map(endpoint);
                endpoints.chain(service.rejections.iter().map(bad)).collect()
            }
        }
    }

    #[test]
    fn an_answer_is_told_when_it_changes_something() {
        let mut held = Holdings::default();
        let a = name("a");
        let one = || records(&[("1", "10.0.0.1", 1)]);
        assert_eq!(say(held.take(&a, records(&[]), true)), "silence");
        assert_eq!(say(held.take(&a, one(), true)), " 10.0.0.1:80*1");
        assert_eq!(say(held.take(&a, one(), true)), "silence");
        let two = records(&[("1", "10.0.0.1", 1), ("2", "10.0.0.1", 5), ("3", "nowhere", 1)]);
        assert_eq!(say(held.take(&a, two, true)), " 10.0.0.1:80*5 !3");
        assert_eq!(say(held.take(&a, records(&[]), true)), "-a");
        assert!(!held.holds(&a));
    }

    #[test]
    fn an_answer_that_may_hide_something_takes_nothing_away() {
        let mut held = Holdings::default();
        let a = name("a");
        held.take(&a, records(&[("1", "10.0.0.1", 1), ("2", "10.0.0.2", 1)]), true);
        assert!(held.misses(&a, &records(&[("1", "10.0.0.1", 1)])));
        assert!(!held.misses(&a, &records(&[("1", "x", 1), ("2", "10.0.0.2", 1), ("3", "y", 1)])));
        assert_eq!(say(held.take(&a, records(&[]), false)), "silence");
        let changed = records(&[("1", "10.0.0.1", 7), ("3", "10.0.0.3", 1)]);
        assert_eq!(
            say(held.take(&a, changed, false)),
            " 10.0.0.1:80*7 10.0.0.2:80*1 10.0.0.3:80*1"
        );
        assert!(!held.misses(&name("b"), &records(&[])));
    }

    #[test]
    fn what_differs_is_counted_by_instance() {
        let mut held = Holdings::default();
        let a = name("a");
        held.take(&a, records(&[("1", "10.0.0.1", 1), ("2", "10.0.0.2", 1)]), true);
        assert_eq!(
            held.difference(&a, &records(&[("1", "10.0.0.1", 1), ("2", "10.0.0.2", 1)])),
            0
        );
        assert_eq!(
            held.difference(&a, &records(&[("1", "10.0.0.1", 9), ("3", "10.0.0.3", 1)])),
            3
        );
        assert_eq!(held.difference(&name("b"), &records(&[("1", "10.0.0.1", 1)])), 1);
    }
}
