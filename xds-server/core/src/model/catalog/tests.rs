//! The catalog's rules, one a test: who may remove what, and when.

use std::time::Duration;

use super::*;
use crate::model::{Health, Provenance};

const NOW: Duration = Duration::from_secs(100);

fn source() -> SourceName {
    SourceName::new("shop").unwrap()
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// A service with one endpoint a port; the record of an endpoint is its port.
fn service(text: &str, ports: &[i64]) -> Service {
    let endpoints = ports.iter().map(|port| endpoint(*port)).collect();
    Service::new(name(text), endpoints)
}

fn endpoint(port: i64) -> Endpoint {
    let provenance = Provenance::new(&port.to_string(), "test", b"raw", 1);
    Endpoint::new(Address::new("10.0.0.1", port).unwrap(), provenance)
}

fn rejected(text: &str, ports: &[i64], bad: i64) -> Service {
    let rejection = Rejection {
        provenance: Provenance::new(&bad.to_string(), "test", b"?", 2),
        reason: "broken".to_owned(),
    };
    Service {
        rejections: vec![rejection],
        ..service(text, ports)
    }
}

fn epoch() -> Evidence {
    Evidence::NewEpoch {
        why: "another cluster id".to_owned(),
    }
}

fn ports(catalog: &Catalog, text: &str) -> Presence<Option<Vec<u16>>> {
    match catalog.listing(&source(), &name(text)) {
        Presence::Unknown => Presence::Unknown,
        Presence::Known(None) => Presence::Known(None),
        Presence::Known(Some(listing)) => Presence::Known(Some(
            listing.endpoints.keys().map(|(address, _)| address.port()).collect(),
        )),
    }
}

fn known(ports: &[u16]) -> Presence<Option<Vec<u16>>> {
    Presence::Known(Some(ports.to_vec()))
}

fn changes(names: &[&str]) -> ChangeSet {
    names.iter().map(|text| name(text)).collect()
}

fn synced(services: Vec<Service>) -> Catalog {
    let mut catalog = Catalog::new([source()]);
    catalog.resync(&source(), services, &Evidence::Complete, NOW);
    catalog
}

#[test]
fn a_source_that_has_not_answered_says_nothing() {
    let catalog = Catalog::new([source()]);
    assert!(!catalog.is_complete());
    assert_eq!(ports(&catalog, "orders"), Presence::Unknown);
}

#[test]
fn a_resync_adds_changes_and_removes_and_reports_only_what_changed() {
    let mut catalog = synced(vec![service("a", &[1]), service("b", &[2]), service("c", &[3])]);
    let changed = catalog.resync(
        &source(),
        vec![service("a", &[1]), service("b", &[2, 4])],
        &Evidence::Complete,
        NOW,
    );
    assert_eq!(changed, changes(&["b", "c"]));
    assert_eq!(ports(&catalog, "b"), known(&[2, 4]));
    assert_eq!(ports(&catalog, "c"), known(&[]));
    assert!(catalog.is_complete());
}

#[test]
fn applying_the_same_content_again_is_no_change_whatever_its_provenance() {
    let mut catalog = synced(vec![service("a", &[1])]);
    let mut again = service("a", &[1]);
    again.endpoints[0].provenance.revision = 99;
    again.endpoints[0].health_reason = "said differently".into();
    assert_eq!(catalog.apply(&source(), again), ChangeSet::new());
}

#[test]
fn a_deleted_service_lingers_empty_and_is_then_forgotten() {
    let mut catalog = synced(vec![service("a", &[1])]);
    assert_eq!(catalog.delete(&source(), name("a"), NOW), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), known(&[]));
    assert_eq!(catalog.next_deadline(), Some(NOW + Catalog::LINGER));
    assert_eq!(catalog.expire(NOW), ChangeSet::new());
    assert_eq!(catalog.expire(NOW + Catalog::LINGER), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), Presence::Known(None));
    assert_eq!(catalog.next_deadline(), None);
}

#[test]
fn a_service_that_comes_back_while_it_lingers_is_simply_there() {
    let mut catalog = synced(vec![service("a", &[1])]);
    catalog.delete(&source(), name("a"), NOW);
    assert_eq!(catalog.apply(&source(), service("a", &[1])), changes(&["a"]));
    assert_eq!(catalog.expire(NOW + Catalog::LINGER), ChangeSet::new());
    assert_eq!(ports(&catalog, "a"), known(&[1]));
}

#[test]
fn a_record_that_becomes_unreadable_keeps_its_last_good_reading() {
    let mut catalog = synced(vec![service("a", &[1, 2])]);
    assert_eq!(catalog.apply(&source(), rejected("a", &[1], 2)), ChangeSet::new());
    assert_eq!(ports(&catalog, "a"), known(&[1, 2]));
    let Presence::Known(Some(listing)) = catalog.listing(&source(), &name("a")) else {
        panic!("known")
    };
    let kept = listing.endpoints.values().nth(1).unwrap().kept.clone();
    assert_eq!(
        kept,
        Some(Kept::Undecodable {
            reason: "broken".to_owned()
        })
    );
    assert_eq!(catalog.apply(&source(), service("a", &[1])), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), known(&[1]));
}

#[test]
fn a_service_with_nothing_but_unreadable_records_is_unknown_and_not_empty() {
    let catalog = synced(vec![rejected("a", &[], 7)]);
    assert_eq!(ports(&catalog, "a"), Presence::Unknown);
    assert_eq!(catalog.rejections(&source(), &name("a")).len(), 1);
}

#[test]
fn a_registry_that_comes_back_empty_removes_nothing() {
    let mut catalog = synced(vec![service("a", &[1, 2])]);
    assert_eq!(catalog.resync(&source(), vec![], &epoch(), NOW), ChangeSet::new());
    assert_eq!(ports(&catalog, "a"), known(&[1, 2]));
    assert_eq!(catalog.held(&source()), 2);
    assert_eq!(
        catalog.next_deadline(),
        None,
        "an empty registry is never believed by the clock alone"
    );
    assert_eq!(catalog.expire(NOW + Catalog::HOLD * 2), ChangeSet::new());
}

#[test]
fn after_a_new_epoch_instances_that_register_again_are_free_and_their_services_let_the_rest_go_with_time() {
    let mut catalog = synced(vec![service("a", &[1, 2]), service("b", &[3])]);
    catalog.resync(&source(), vec![], &epoch(), NOW);
    assert_eq!(catalog.apply(&source(), service("a", &[1])), ChangeSet::new());
    assert_eq!(catalog.held(&source()), 2);
    assert_eq!(
        catalog.resync(&source(), vec![service("a", &[1])], &Evidence::Complete, NOW),
        ChangeSet::new()
    );
    assert_eq!(catalog.next_deadline(), Some(NOW + Catalog::HOLD));
    assert_eq!(catalog.expire(NOW + Catalog::HOLD), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), known(&[1]));
    assert_eq!(ports(&catalog, "b"), known(&[3]), "nothing of b has come back");
    assert_eq!(catalog.next_deadline(), None);
    assert_eq!(catalog.apply(&source(), service("a", &[])), changes(&["a"]));
}

#[test]
fn an_operator_releases_what_is_held() {
    let mut catalog = synced(vec![service("a", &[1, 2])]);
    catalog.resync(&source(), vec![], &epoch(), NOW);
    assert_eq!(catalog.release(&source(), NOW), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), known(&[]));
    assert_eq!(catalog.expire(NOW + Catalog::LINGER), changes(&["a"]));
}

#[test]
fn e62_one_address_in_two_records_is_taken_from_the_healthier() {
    let sick = Endpoint {
        health: Health::Unhealthy,
        ..endpoint(1)
    };
    for order in [[sick.clone(), endpoint(1)], [endpoint(1), sick]] {
        let catalog = synced(vec![Service::new(name("a"), order.to_vec())]);
        let Presence::Known(Some(listing)) = catalog.listing(&source(), &name("a")) else {
            panic!("known")
        };
        let healths: Vec<Health> = listing
            .endpoints
            .values()
            .map(|listed| listed.endpoint.health)
            .collect();
        assert_eq!(healths, [Health::Unknown]);
    }
}

#[test]
fn a_source_that_was_read_in_part_proves_nothing_missing_until_it_is_mended() {
    let mut catalog = Catalog::new([source()]);
    let partial = Evidence::Partial {
        why: "orders.yaml:3:1".to_owned(),
    };
    catalog.resync(&source(), vec![service("a", &[1])], &partial, NOW);
    assert!(catalog.is_synced() && !catalog.is_complete());
    assert_eq!(ports(&catalog, "a"), known(&[1]));
    assert_eq!(ports(&catalog, "orders"), Presence::Unknown);
    catalog.mend(&source());
    assert!(catalog.is_complete());
    assert_eq!(ports(&catalog, "orders"), Presence::Known(None));
}

/// Several endpoints of one record, as frameworks register one address a protocol.
fn with_record(port: i64, record: &str) -> Endpoint {
    Endpoint {
        provenance: Provenance::new(record, "test", b"raw", 1),
        ..endpoint(port)
    }
}

fn broken(record: &str) -> Rejection {
    Rejection {
        provenance: Provenance::new(record, "test", b"?", 2),
        reason: "broken".to_owned(),
    }
}

#[test]
fn the_last_good_record_of_a_service_goes_although_a_bad_one_is_beside_it() {
    let mut catalog = synced(vec![rejected("a", &[1], 2)]);
    assert_eq!(ports(&catalog, "a"), known(&[1]));
    assert_eq!(catalog.apply(&source(), rejected("a", &[], 2)), changes(&["a"]));
    assert_eq!(
        ports(&catalog, "a"),
        known(&[]),
        "what was known once is empty and not unknown"
    );
}

#[test]
fn a_record_of_which_a_part_can_be_read_keeps_nothing_of_its_past() {
    let before = Service::new(name("a"), vec![with_record(1, "k"), with_record(2, "k")]);
    let mut catalog = synced(vec![before]);
    let now = Service {
        rejections: vec![broken("k")],
        ..Service::new(name("a"), vec![with_record(3, "k")])
    };
    catalog.apply(&source(), now);
    assert_eq!(ports(&catalog, "a"), known(&[3]));
}

#[test]
fn a_line_of_a_file_is_no_identity_and_keeps_nothing() {
    let unstable = |mut provenance: Provenance| {
        provenance.stable = false;
        provenance
    };
    let old = Endpoint {
        provenance: unstable(endpoint(1).provenance),
        ..endpoint(1)
    };
    let mut catalog = synced(vec![Service::new(name("a"), vec![old])]);
    let rejection = Rejection {
        provenance: unstable(broken("1").provenance),
        ..broken("1")
    };
    catalog.apply(
        &source(),
        Service {
            rejections: vec![rejection],
            ..service("a", &[5])
        },
    );
    assert_eq!(ports(&catalog, "a"), known(&[5]));
}

#[test]
fn a_record_that_can_not_even_be_attributed_any_more_keeps_its_endpoint() {
    let mut catalog = synced(vec![service("a", &[1, 2])]);
    catalog.set_unattributed(&source(), vec![broken("2")]);
    assert_eq!(
        catalog.resync(&source(), vec![service("a", &[1])], &Evidence::Complete, NOW),
        ChangeSet::new()
    );
    assert_eq!(ports(&catalog, "a"), known(&[1, 2]));
    catalog.set_unattributed(&source(), vec![]);
    assert_eq!(catalog.apply(&source(), service("a", &[1])), changes(&["a"]));
}

#[test]
fn one_address_under_two_protocols_is_two_endpoints() {
    let with = |scheme: &str| Endpoint {
        scheme: Some(scheme.into()),
        ..endpoint(1)
    };
    let catalog = synced(vec![Service::new(name("a"), vec![with("grpc"), with("http")])]);
    assert_eq!(ports(&catalog, "a"), known(&[1, 1]));
}

#[test]
fn an_empty_first_listing_proves_nothing_missing_for_a_while() {
    let mut catalog = synced(vec![]);
    assert!(catalog.is_synced() && !catalog.is_complete());
    assert_eq!(catalog.next_deadline(), None, "and for as long as nothing is listed");
    catalog.apply(&source(), service("a", &[1]));
    assert_eq!(catalog.next_deadline(), Some(NOW + Catalog::HOLD));
    catalog.expire(NOW + Catalog::HOLD);
    assert!(catalog.is_complete());
}

#[test]
fn an_operator_may_say_that_an_empty_first_listing_is_right() {
    let mut catalog = synced(vec![]);
    catalog.release(&source(), NOW);
    assert!(catalog.is_complete());
}

#[test]
fn a_service_that_goes_while_part_of_its_source_is_unread_is_known_to_be_gone() {
    let mut catalog = Catalog::new([source()]);
    let partial = Evidence::Partial {
        why: "orders.yaml:3:1".to_owned(),
    };
    catalog.resync(&source(), vec![service("a", &[1])], &partial, NOW);
    catalog.delete(&source(), name("a"), NOW);
    assert_eq!(catalog.expire(NOW + Catalog::LINGER), changes(&["a"]));
    assert_eq!(ports(&catalog, "a"), Presence::Known(None));
    assert_eq!(ports(&catalog, "b"), Presence::Unknown);
}
