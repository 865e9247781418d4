//! From the content of all files to services, and from two states to the changes between them. Pure.
//!
//! Files count in the order of their names, documents in the order of the text, so the result depends on nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadsman_core::model::{Address, Endpoint, Rejection, Service, ServiceName};

use super::scan::Files;

pub(super) type Services = BTreeMap<ServiceName, Service>;

#[derive(Clone, Debug)]
pub(super) enum Change {
    Apply(Service),
    Delete(ServiceName),
}

/// The services of all files.
pub(super) fn merge(files: &Files) -> Services {
    merge_where(files, |_| true)
}

/// What `files` say of the services in `names`, against what is held of them.
pub(super) fn diff(held: &Services, files: &Files, names: &BTreeSet<ServiceName>) -> Vec<Change> {
    let mut fresh = merge_where(files, |name| names.contains(name));
    let mut changes = Vec::new();
    for name in names {
        match (held.get(name), fresh.remove(name)) {
            (Some(old), Some(new)) if looks_same(old, &new) => {}
            (_, Some(new)) => changes.push(Change::Apply(new)),
            (Some(_), None) => changes.push(Change::Delete(name.clone())),
            (None, None) => {}
        }
    }
    changes
}

/// The services that a file which was read anew names, or named before.
pub(super) fn touched(old: &Files, new: &Files) -> BTreeSet<ServiceName> {
    let mut names = BTreeSet::new();
    for file in old.keys().chain(new.keys()) {
        let before = old.get(file).and_then(|state| state.content.as_ref());
        let after = new.get(file).and_then(|state| state.content.as_ref());
        let kept = match (before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !kept {
            let services = before.into_iter().chain(after).flat_map(|content| content.iter());
            names.extend(services.map(|service| service.name.clone()));
        }
    }
    names
}

fn merge_where(files: &Files, wanted: impl Fn(&ServiceName) -> bool) -> Services {
    let mut services = Services::new();
    let mut places: BTreeMap<&ServiceName, BTreeMap<Address, &Endpoint>> = BTreeMap::new();
    let contents = files.values().filter_map(|state| state.content.as_ref());
    for part in contents.flat_map(|content| content.iter()) {
        if !wanted(&part.name) {
            continue;
        }
        let whole = services
            .entry(part.name.clone())
            .or_insert_with(|| Service::new(part.name.clone(), Vec::new()));
        whole.rejections.extend_from_slice(&part.rejections);
        let places = places.entry(&part.name).or_default();
        for endpoint in &part.endpoints {
            match places.get(&endpoint.address) {
                None => {
                    places.insert(endpoint.address, endpoint);
                    whole.endpoints.push(endpoint.clone());
                }
                Some(first) => whole.rejections.push(duplicate(endpoint, first)),
            }
        }
    }
    services
}

fn duplicate(endpoint: &Endpoint, first: &Endpoint) -> Rejection {
    Rejection {
        provenance: endpoint.provenance.clone(),
        reason: format!(
            "{} is listed already at {}, which counts; remove one of the two",
            endpoint.address, first.provenance.record
        ),
    }
}

/// Equal in all that Envoy or a person can see. A line number that moved is a change: `explain` prints it.
fn looks_same(old: &Service, new: &Service) -> bool {
    old.rejections == new.rejections
        && old.endpoints.len() == new.endpoints.len()
        && old
            .endpoints
            .iter()
            .zip(&new.endpoints)
            .all(|(old, new)| old.same_content(new) && old.provenance == new.provenance)
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::super::scan::FileState;
    use super::*;

    const A: &str = "{ address: 127.0.0.1, port: 1 }";
    const B: &str = "{ address: 127.0.0.1, port: 2 }";

    #[test]
    fn a_service_in_two_files_is_their_union_and_the_first_listing_of_an_address_counts() {
        let files = files(&[
            ("b.yaml", &format!("service: x\nendpoints: [{A}, {B}]")),
            ("a.yaml", &format!("service: x\nendpoints: [{A}]")),
        ]);
        let services = merge(&files);
        let x = &services["x"];
        let records: Vec<_> = x.endpoints.iter().map(|e| &*e.provenance.record).collect();
        assert_eq!(records, ["a.yaml:2", "b.yaml:2"]);
        let reasons: Vec<_> = x
            .rejections
            .iter()
            .map(|r| (&*r.provenance.record, r.reason.as_str()))
            .collect();
        assert_eq!(
            reasons,
            [(
                "b.yaml:2",
                "127.0.0.1:1 is listed already at a.yaml:2, which counts; remove one of the two"
            )]
        );
    }

    #[test]
    fn a_service_in_two_documents_of_one_file_is_their_union() {
        let text = format!("service: x\nendpoints: [{A}]\n---\nservice: x\nendpoints: [{B}, {A}]");
        let services = merge(&files(&[("a.yaml", &text)]));
        assert_eq!(services["x"].endpoints.len(), 2);
        assert_eq!(services["x"].rejections.len(), 1);
    }

    #[test]
    fn only_what_changed_is_a_change() {
        let two = format!("service: x\nendpoints: [{A}]\n---\nservice: y\nendpoints: [{A}]\n");
        check(&two, &two, &[]);
        check(&two, &two.replace("service: y", "service: z"), &["-y", "+z"]);
        check(&two, &format!("service: x\nendpoints: [{A}, {B}]"), &["+x", "-y"]);
        check(&two, &format!("service: x\nendpoints: [{A}]"), &["-y"]);
        check("service: x\nendpoints: []", "service: x\nendpoints: []\n# end", &[]);
        let weighted = two.replace("port: 1 }", "port: 1, weight: 1.0 }");
        check(&two, &weighted, &["+x", "+y"]);
        let bad = format!("service: x\nendpoints: [{A}, {{ address: 127.0.0.1, port: 0 }}]");
        check(&format!("service: x\nendpoints: [{A}]"), &bad, &["+x"]);
    }

    #[test]
    fn a_file_that_was_not_read_again_touches_nothing() {
        let old = files(&[("a.yaml", &format!("service: x\nendpoints: [{A}]"))]);
        assert_eq!(touched(&old, &old.clone()), BTreeSet::new());
        let names: Vec<_> = touched(&old, &Files::new()).iter().map(ToString::to_string).collect();
        assert_eq!(names, ["x"]);
    }

    fn check(before: &str, after: &str, expected: &[&str]) {
        let (old, new) = (files(&[("a.yaml", before)]), files(&[("a.yaml", after)]));
        let changes: Vec<_> = diff(&merge(&old), &new, &touched(&old, &new))
            .iter()
            .map(|change| match change {
                Change::Apply(service) => format!("+{}", service.name),
                Change::Delete(name) => format!("-{name}"),
            })
            .collect();
        assert_eq!(changes, expected, "{before} -> {after}");
    }

    fn files(texts: &[(&str, &str)]) -> Files {
        texts
            .iter()
            .map(|(name, text)| {
                let content = Some(Arc::new(parse(text, name).unwrap()));
                let state = FileState {
                    content,
                    ..FileState::default()
                };
                ((*name).to_owned(), state)
            })
            .collect()
    }
}
