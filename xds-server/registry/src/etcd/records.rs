//! The records of one prefix, as a session holds them.
//!
//! Pure. Invariant: `services` holds exactly the outcomes of the keys in `held` that belong to a service, so a whole
//! service can be told at any time, and what a batch changed is known without comparing everything.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Provenance, Rejection, Service, ServiceName};

use super::layout::{Decoded, LayoutChoice, decode};

/// A key and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Vec<u8>,
    /// `None` for a deleted key.
    pub(super) value: Option<Vec<u8>>,
    /// The revision that wrote or deleted the key.
    pub(super) revision: i64,
}

/// What a batch did to one service.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Applied(Service),
    Deleted(ServiceName),
}

type Key = Arc<[u8]>;
/// Which service each key belonged to in the listing before, and which revision had written it.
pub(super) type Owners = BTreeMap<Key, (ServiceName, i64)>;
type Outcomes = Box<[Result<Endpoint, Rejection>]>;
/// What the touched keys of each service held before a batch.
type Before = BTreeMap<ServiceName, BTreeMap<Key, Option<Outcomes>>>;

/// Rejections kept for records of no service. A prefix that is far too wide finds as many as it has keys; this many
/// are enough to see that.
const MAX_UNATTRIBUTED: usize = 1000;

#[derive(Debug)]
pub(super) struct Records {
    layout: LayoutChoice,
    prefix: String,
    held: BTreeMap<Key, Held>,
    services: BTreeMap<ServiceName, BTreeMap<Key, Outcomes>>,
    unattributed: BTreeMap<Key, Rejection>,
    /// Whether `unattributed` differs from what was told of it last.
    untold: bool,
}

#[derive(Debug)]
struct Held {
    revision: i64,
    service: Option<ServiceName>,
}

impl Records {
    pub(super) fn new(layout: LayoutChoice, prefix: &str) -> Self {
        Self {
            layout,
            prefix: prefix.to_owned(),
            held: BTreeMap::new(),
            services: BTreeMap::new(),
            unattributed: BTreeMap::new(),
            untold: false,
        }
    }

    /// Takes a page of a listing. What was damaged since the listing before still belongs to its service.
    pub(super) fn load(&mut self, page: Vec<Record>, owners: &Owners) {
        for record in page {
            self.set(record, owners, &mut Before::new());
        }
    }

    /// What the next listing has to know of this one.
    pub(super) fn into_owners(self) -> Owners {
        let owned = |(key, held): (Key, Held)| Some((key, (held.service?, held.revision)));
        self.held.into_iter().filter_map(owned).collect()
    }

    /// A key of the listing before that is not in this one, and the revision that had written it.
    pub(super) fn witness<'a>(&self, owners: &'a Owners) -> Option<(&'a [u8], i64)> {
        let mut missing = owners.iter().filter(|(key, _)| !self.held.contains_key(*key));
        missing.next().map(|(key, (_, revision))| (key.as_ref(), *revision))
    }

    /// Takes the events of one or more whole revisions, and says what they changed, in the order of the names.
    ///
    /// A service whose content stays the same is not mentioned: registries rewrite records all the time.
    pub(super) fn apply(&mut self, batch: Vec<Record>) -> Vec<Change> {
        let mut before = Before::new();
        for record in batch {
            self.set(record, &Owners::new(), &mut before);
        }
        let changes = before.iter().filter_map(|(name, touched)| self.change(name, touched));
        changes.collect()
    }

    /// Every service.
    pub(super) fn snapshot(&self) -> Vec<Service> {
        let services = self.services.iter();
        services
            .map(|(name, records)| view(records.iter()).to_service(name))
            .collect()
    }

    /// The records that belong to no service, unless they are still those that were told the last time.
    pub(super) fn tell_unattributed(&mut self) -> Option<Vec<Rejection>> {
        std::mem::take(&mut self.untold).then(|| self.unattributed.values().cloned().collect())
    }

    /// The held keys in `(after, up_to]` with their revisions; without `up_to`, to the end.
    pub(super) fn revisions(&self, after: Option<&[u8]>, up_to: Option<&[u8]>) -> impl Iterator<Item = (&[u8], i64)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = up_to.map_or(Bound::Unbounded, Bound::Included);
        // An empty range must not reach `BTreeMap::range`, which panics when its start lies behind its end.
        let empty = after.is_some() && up_to.is_some() && after >= up_to;
        let range = (!empty).then(|| self.held.range::<[u8], _>((from, to)));
        range
            .into_iter()
            .flatten()
            .map(|(key, held)| (key.as_ref(), held.revision))
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    fn set(&mut self, record: Record, owners: &Owners, before: &mut Before) {
        let held = self.held.get_key_value(record.key.as_slice());
        // A revision that was seen already is a repetition, which etcd is allowed when a stream starts.
        if held.is_some_and(|(_, held)| held.revision >= record.revision) {
            return;
        }
        let known = held.map(|(key, held)| (Arc::clone(key), held.service.clone()));
        let (key, owner) = known.unwrap_or_else(|| {
            let owner = owners.get(record.key.as_slice());
            (record.key.as_slice().into(), owner.map(|(service, _)| service.clone()))
        });
        if let Some(name) = &owner {
            let old = self.take(name, &key);
            note(before, name.clone(), &key, old);
        }
        let unattributed = self.unattributed.remove(&key);
        if let Some(value) = record.value {
            let revision = record.revision;
            let mut decoded = decode(self.layout, &self.prefix, &key, &value, unsigned(revision));
            if let Some(owner) = owner {
                decoded = keep(owner, decoded, || {
                    Provenance::new(&String::from_utf8_lossy(&key), "", &value, unsigned(revision))
                });
            }
            let service = self.place(&key, decoded, before);
            self.held.insert(Arc::clone(&key), Held { revision, service });
        } else {
            self.held.remove(&key);
        }
        let (was, is) = (unattributed.as_ref(), self.unattributed.get(&key));
        self.untold |= was.map(|rejection| &rejection.reason) != is.map(|rejection| &rejection.reason);
    }

    /// Files what a record says; the service it belongs to, if any.
    fn place(&mut self, key: &Key, decoded: Decoded, before: &mut Before) -> Option<ServiceName> {
        match decoded {
            Decoded::NotAnInstance => None,
            Decoded::Unattributed(rejection) => {
                tracing::debug!(key = %rejection.provenance.record, reason = %rejection.reason, "unattributed record");
                if self.unattributed.len() < MAX_UNATTRIBUTED {
                    self.unattributed.insert(Arc::clone(key), rejection);
                }
                None
            }
            Decoded::Instances { service, outcomes } => {
                note(before, service.clone(), key, None);
                let records = self.services.entry(service.clone()).or_default();
                records.insert(Arc::clone(key), outcomes.into());
                Some(service)
            }
        }
    }

    fn take(&mut self, name: &ServiceName, key: &Key) -> Option<Outcomes> {
        let records = self.services.get_mut(name)?;
        let old = records.remove(key);
        if records.is_empty() {
            self.services.remove(name);
        }
        old
    }

    fn change(&self, name: &ServiceName, touched: &BTreeMap<Key, Option<Outcomes>>) -> Option<Change> {
        let empty = BTreeMap::new();
        let now = self.services.get(name).unwrap_or(&empty);
        let untouched = now.iter().filter(|(key, _)| !touched.contains_key(*key));
        let replaced = touched.iter().filter_map(|(key, old)| Some((key, old.as_ref()?)));
        let old: Vec<_> = untouched.chain(replaced).collect();
        match (old.is_empty(), now.is_empty()) {
            (true, true) => None,
            (false, true) => Some(Change::Deleted(name.clone())),
            (true, false) => Some(Change::Applied(view(now.iter()).to_service(name))),
            (false, false) => {
                let new = view(now.iter());
                (!new.same(&view(old.into_iter()))).then(|| Change::Applied(new.to_service(name)))
            }
        }
    }
}

/// A record of which nothing can be read any more is a damaged record of the service it belonged to, whatever service
/// its remains seem to name: only what can be read takes an endpoint away.
fn keep(owner: ServiceName, decoded: Decoded, provenance: impl FnOnce() -> Provenance) -> Decoded {
    let outcomes = match decoded {
        Decoded::Unattributed(rejection) => vec![Err(rejection)],
        Decoded::NotAnInstance => vec![Err(Rejection {
            provenance: provenance(),
            reason: "the record was an instance and is none any more; delete its key if it is gone".to_owned(),
        })],
        Decoded::Instances { outcomes, .. } if !outcomes.is_empty() && outcomes.iter().all(Result::is_err) => outcomes,
        readable @ Decoded::Instances { .. } => return readable,
    };
    let service = owner;
    Decoded::Instances { service, outcomes }
}

fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

/// Remembers what a key held before the batch touched it for the first time.
fn note(before: &mut Before, name: ServiceName, key: &Key, old: Option<Outcomes>) {
    let touched = before.entry(name).or_default();
    touched.entry(Arc::clone(key)).or_insert(old);
}

/// A service by reference: each address once, in order.
struct View<'a> {
    endpoints: BTreeMap<(Address, Option<&'a str>), &'a Endpoint>,
    /// By key, then by place in the record.
    rejections: Vec<&'a Rejection>,
}

/// The one place that decides between records with the same address and scheme: the healthiest wins, then the
/// heaviest, then the smallest key.
fn view<'a>(records: impl Iterator<Item = (&'a Key, &'a Outcomes)>) -> View<'a> {
    let mut endpoints: BTreeMap<_, &Endpoint> = BTreeMap::new();
    let mut rejections = Vec::new();
    for outcome in records.flat_map(|(_, outcomes)| outcomes.iter()) {
        match outcome {
            Ok(endpoint) => {
                let best = endpoints
                    .entry((endpoint.address, endpoint.scheme.as_deref()))
                    .or_insert(endpoint);
                if beats(endpoint, best) {
                    *best = endpoint;
                }
            }
            Err(rejection) => rejections.push(rejection),
        }
    }
    rejections.sort_by(|a, b| a.provenance.record.cmp(&b.provenance.record));
    View { endpoints, rejections }
}

fn beats(new: &Endpoint, old: &Endpoint) -> bool {
    let order = new.preference().cmp(&old.preference());
    // The smaller key has the smaller name.
    order
        .then_with(|| old.provenance.record.cmp(&new.provenance.record))
        .is_gt()
}

impl View<'_> {
    fn same(&self, other: &Self) -> bool {
        self.endpoints.len() == other.endpoints.len()
            && self.rejections.len() == other.rejections.len()
            && self
                .endpoints
                .values()
                .zip(other.endpoints.values())
                .all(|(a, b)| a.same_content(b))
            && self
                .rejections
                .iter()
                .zip(&other.rejections)
                .all(|(a, b)| a.reason == b.reason && a.provenance.record == b.provenance.record)
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
mod tests {
    use super::super::layout::Layout;
    use super::*;

    const PREFIX: &str = "/services/";

    fn records() -> Records {
        Records::new(LayoutChoice::Pinned(Layout::Leadsman), PREFIX)
    }

    fn put(key: &str, revision: i64, value: &str) -> Record {
        Record {
            key: format!("{PREFIX}{key}").into_bytes(),
            value: Some(value.as_bytes().to_vec()),
            revision,
        }
    }

    fn record(key: &str, value: &str, revision: i64) -> Record {
        Record {
            key: key.into(),
            value: Some(value.into()),
            revision,
        }
    }

    fn at(key: &str, revision: i64, address: &str) -> Record {
        put(key, revision, &format!(r#"{{"address":"{address}"}}"#))
    }

    fn delete(key: &str, revision: i64) -> Record {
        Record {
            value: None,
            ..put(key, revision, "")
        }
    }

    fn service(service: &Service) -> String {
        let endpoints = service
            .endpoints
            .iter()
            .map(|endpoint| format!("{} w={}", endpoint.address, endpoint.weight));
        let rejections = service
            .rejections
            .iter()
            .map(|rejection| format!("!{}", rejection.provenance.record));
        let items: Vec<_> = endpoints.chain(rejections).collect();
        format!("{}[{}]", service.name, items.join(" "))
    }

    fn say(changes: &[Change]) -> Vec<String> {
        let line = |change: &Change| match change {
            Change::Applied(applied) => service(applied),
            Change::Deleted(name) => format!("-{name}"),
        };
        changes.iter().map(line).collect()
    }

    fn apply(records: &mut Records, batch: Vec<Record>) -> Vec<String> {
        say(&records.apply(batch))
    }

    fn load(records: &mut Records, page: Vec<Record>) {
        records.load(page, &Owners::new());
    }

    fn unattributed(records: &mut Records) -> Option<Vec<String>> {
        let told = records.tell_unattributed()?;
        Some(
            told.iter()
                .map(|rejection| rejection.provenance.record.to_string())
                .collect(),
        )
    }

    fn held(records: &Records) -> Vec<String> {
        records.snapshot().iter().map(service).collect()
    }

    #[test]
    fn a_batch_says_each_changed_service_once_and_whole_in_order() {
        let mut records = records();
        let batch = vec![
            at("b/1", 1, "10.0.0.1:80"),
            at("a/1", 1, "10.0.0.1:80"),
            at("b/2", 2, "10.0.0.2:80"),
            at("c/1", 2, "10.0.0.1:80"),
        ];
        assert_eq!(
            apply(&mut records, batch),
            [
                "a[10.0.0.1:80 w=1]",
                "b[10.0.0.1:80 w=1 10.0.0.2:80 w=1]",
                "c[10.0.0.1:80 w=1]"
            ]
        );
        let batch = vec![delete("c/1", 3), delete("b/1", 3)];
        assert_eq!(apply(&mut records, batch), ["b[10.0.0.2:80 w=1]", "-c"]);
        assert_eq!(held(&records), ["a[10.0.0.1:80 w=1]", "b[10.0.0.2:80 w=1]"]);
    }

    #[test]
    fn a_rewrite_without_a_change_is_silent() {
        let mut records = records();
        apply(&mut records, vec![at("a/1", 1, "10.0.0.1:80")]);
        assert_eq!(apply(&mut records, vec![at("a/1", 2, "10.0.0.1:80")]), [""; 0]);
        let flap = vec![delete("a/1", 3), at("a/1", 4, "10.0.0.1:80")];
        assert_eq!(apply(&mut records, flap), [""; 0]);
        let moved = vec![delete("a/1", 5), at("a/2", 5, "10.0.0.1:80")];
        assert_eq!(apply(&mut records, moved), [""; 0]);
        let gone_again = vec![at("z/1", 6, "10.0.0.1:80"), delete("z/1", 7)];
        assert_eq!(apply(&mut records, gone_again), [""; 0]);
        assert_eq!(held(&records), ["a[10.0.0.1:80 w=1]"]);
    }

    #[test]
    fn a_repeated_or_older_event_changes_nothing() {
        let mut records = records();
        load(&mut records, vec![at("a/1", 5, "10.0.0.1:80")]);
        assert_eq!(
            apply(&mut records, vec![at("a/1", 4, "10.0.0.9:80"), delete("a/1", 5)]),
            [""; 0]
        );
        assert_eq!(apply(&mut records, vec![delete("b/1", 6)]), [""; 0]);
        assert_eq!(held(&records), ["a[10.0.0.1:80 w=1]"]);
    }

    #[test]
    fn one_address_counts_once_the_healthiest_then_the_heaviest_then_the_smallest_key() {
        let mut records = records();
        let of = |key: &str, health: &str, weight: u32| {
            put(
                key,
                1,
                &format!(r#"{{"address":"10.0.0.1:80","health":"{health}","weight":{weight}}}"#),
            )
        };
        load(
            &mut records,
            vec![
                of("a/1", "unhealthy", 9),
                of("a/2", "healthy", 2),
                of("a/3", "healthy", 3),
            ],
        );
        load(&mut records, vec![of("a/4", "healthy", 3), of("a/5", "unknown", 8)]);
        let services = records.snapshot();
        let endpoints = &services.first().unwrap().endpoints;
        let winners: Vec<_> = endpoints
            .iter()
            .map(|endpoint| endpoint.provenance.record.as_ref())
            .collect();
        assert_eq!(winners, ["/services/a/3"]);
        // A loser that leaves is not a change.
        assert_eq!(apply(&mut records, vec![delete("a/1", 2), delete("a/4", 2)]), [""; 0]);
        assert_eq!(apply(&mut records, vec![delete("a/3", 3)]), ["a[10.0.0.1:80 w=2]"]);
    }

    #[test]
    fn a_bad_record_rejects_itself_and_keeps_its_service() {
        let mut records = records();
        let batch = vec![at("a/1", 1, "10.0.0.1:80"), put("a/2", 1, "{")];
        assert_eq!(apply(&mut records, batch), ["a[10.0.0.1:80 w=1 !/services/a/2]"]);
        assert_eq!(apply(&mut records, vec![put("a/2", 2, "{")]), [""; 0]);
        assert_eq!(apply(&mut records, vec![delete("a/1", 3)]), ["a[!/services/a/2]"]);
        assert_eq!(apply(&mut records, vec![delete("a/2", 4)]), ["-a"]);
    }

    #[test]
    fn a_record_that_changes_its_service_leaves_the_old_one() {
        let mut records = Records::new(LayoutChoice::Pinned(Layout::GoMicro), "/micro/registry/");
        let named = |name: &str, revision| Record {
            key: b"/micro/registry/a-b/1".to_vec(),
            value: Some(format!(r#"{{"name":"{name}","nodes":[{{"address":"10.0.0.1:80"}}]}}"#).into_bytes()),
            revision,
        };
        assert_eq!(apply(&mut records, vec![named("a-b", 1)]), ["a-b[10.0.0.1:80 w=1]"]);
        assert_eq!(
            apply(&mut records, vec![named("a/b", 2)]),
            ["-a-b", "a/b[10.0.0.1:80 w=1]"]
        );
    }

    #[test]
    fn a_damaged_value_stays_with_the_service_it_was_of() {
        let mut records = Records::new(LayoutChoice::Auto, "/x/");
        let now = |value: &str, revision| vec![record("/x/a/1", value, revision)];
        assert_eq!(apply(&mut records, now("10.0.0.1:80", 1)), ["a[10.0.0.1:80 w=1]"]);
        assert_eq!(apply(&mut records, now("{", 2)), ["a[!/x/a/1]"]);
        assert_eq!(apply(&mut records, now("", 3)), [""; 0]);
        assert_eq!(unattributed(&mut records), None);
        assert_eq!(apply(&mut records, now("10.0.0.2:80", 4)), ["a[10.0.0.2:80 w=1]"]);
        apply(&mut records, now("{", 5));
        assert_eq!(
            apply(
                &mut records,
                vec![Record {
                    value: None,
                    ..record("/x/a/1", "", 6)
                }]
            ),
            ["-a"]
        );
        assert_eq!(apply(&mut records, now("{", 7)), [""; 0]);
        assert_eq!(unattributed(&mut records).unwrap(), ["/x/a/1"]);
    }

    #[test]
    fn an_instance_whose_value_was_emptied_is_damaged_and_no_marker() {
        let mut records = Records::new(LayoutChoice::Auto, "dubbo/");
        let now = |value: &str, revision| vec![record("dubbo/a/1", value, revision)];
        assert_eq!(apply(&mut records, now("10.0.0.1:80", 1)), ["a[10.0.0.1:80 w=1]"]);
        assert_eq!(apply(&mut records, now("", 2)), ["a[!dubbo/a/1]"]);
    }

    #[test]
    fn a_value_so_damaged_that_it_names_another_service_stays_with_its_own() {
        let mut records = Records::new(LayoutChoice::Pinned(Layout::GoMicro), "/micro/registry/");
        let good = r#"{"name":"a/b","nodes":[{"address":"10.0.0.1:80"}]}"#;
        let key = "/micro/registry/a-b/1";
        assert_eq!(
            apply(&mut records, vec![record(key, good, 1)]),
            ["a/b[10.0.0.1:80 w=1]"]
        );
        assert_eq!(
            apply(&mut records, vec![record(key, "{", 2)]),
            ["a/b[!/micro/registry/a-b/1]"]
        );
    }

    #[test]
    fn a_value_damaged_between_two_listings_stays_with_its_service() {
        let mut former = Records::new(LayoutChoice::Auto, "/x/");
        let page = vec![record("/x/a/1", "10.0.0.1:80", 1), record("/x/b/1", "10.0.0.1:80", 1)];
        load(&mut former, page);
        let owners = former.into_owners();
        let mut records = Records::new(LayoutChoice::Auto, "/x/");
        records.load(vec![record("/x/a/1", "{", 2), record("/x/c/1", "{", 3)], &owners);
        assert_eq!(held(&records), ["a[!/x/a/1]"]);
        assert_eq!(unattributed(&mut records).unwrap(), ["/x/c/1"]);
        assert_eq!(records.into_owners().len(), 1);
    }

    #[test]
    fn the_records_of_no_service_are_told_when_others_join_or_leave_them() {
        let mut records = records();
        assert_eq!(unattributed(&mut records), None);
        apply(&mut records, vec![put("lonely", 1, "x"), at("a/1", 1, "10.0.0.1:80")]);
        assert_eq!(unattributed(&mut records).unwrap(), ["/services/lonely"]);
        assert_eq!(unattributed(&mut records), None);
        apply(&mut records, vec![put("lonely", 2, "y"), at("a/1", 2, "10.0.0.2:80")]);
        assert_eq!(unattributed(&mut records), None);
        apply(&mut records, vec![delete("lonely", 3)]);
        assert_eq!(unattributed(&mut records).unwrap(), [""; 0]);
    }

    #[test]
    fn records_of_no_service_are_kept_up_to_a_limit() {
        let mut records = records();
        load(
            &mut records,
            (0..MAX_UNATTRIBUTED + 5)
                .map(|n| put(&format!("lonely{n}"), 1, "x"))
                .collect(),
        );
        assert_eq!(unattributed(&mut records).unwrap().len(), MAX_UNATTRIBUTED);
        assert_eq!(records.len(), MAX_UNATTRIBUTED + 5);
        assert_eq!(apply(&mut records, vec![delete("lonely0", 2)]), [""; 0]);
        assert_eq!(unattributed(&mut records).unwrap().len(), MAX_UNATTRIBUTED - 1);
    }

    #[test]
    fn held_revisions_can_be_read_in_parts() {
        let mut records = records();
        load(
            &mut records,
            vec![
                at("a/1", 1, "10.0.0.1:80"),
                put("b", 2, "x"),
                at("c/1", 3, "10.0.0.1:80"),
            ],
        );
        let part = |after: Option<&str>, up_to: Option<&str>| -> Vec<i64> {
            let records = records.revisions(after.map(str::as_bytes), up_to.map(str::as_bytes));
            records.map(|(_, revision)| revision).collect()
        };
        assert_eq!(part(None, None), [1, 2, 3]);
        assert_eq!(part(Some("/services/a/1"), Some("/services/b")), [2]);
        assert_eq!(part(Some("/services/b"), None), [3]);
        assert_eq!(part(Some("/services/b"), Some("/services/b")), [0; 0]);
        assert_eq!(part(Some("/services/c"), Some("/services/b")), [0; 0]);
    }
}
