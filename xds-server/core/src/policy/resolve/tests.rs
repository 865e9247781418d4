//! Who wins, with which health and weight: each test prints what Envoy would get.

use std::time::Duration;

use super::*;
use crate::model::{Address, Evidence, Provenance, Service, Weight};

const NOW: Duration = Duration::from_secs(1);

fn src(text: &str) -> SourceName {
    SourceName::new(text).unwrap()
}

fn orders() -> ServiceName {
    ServiceName::new("orders").unwrap()
}

fn endpoint(port: i64, weight: f64, health: Health) -> Endpoint {
    let address = Address::new("10.0.0.1", port).unwrap();
    let weight = Weight::new(weight).unwrap();
    Endpoint {
        weight,
        health,
        ..Endpoint::new(address, Provenance::default())
    }
}

fn up(port: i64) -> Endpoint {
    endpoint(port, 1.0, Health::Healthy)
}

fn catalog(sources: &[(&str, Option<Vec<Endpoint>>)]) -> Catalog {
    let mut catalog = Catalog::new(sources.iter().map(|(name, _)| src(name)));
    for (name, endpoints) in sources {
        if let Some(endpoints) = endpoints {
            let services = vec![Service::new(orders(), endpoints.clone())];
            catalog.resync(&src(name), services, &Evidence::Complete, NOW);
        }
    }
    catalog
}

fn published(catalog: &Catalog, merge: Merge) -> Vec<String> {
    let settings = ServiceSettings {
        merge,
        ..ServiceSettings::default()
    };
    let resolution = resolve(catalog, &orders(), &settings);
    let shown = |decision: &Decision| {
        let Decision {
            source,
            endpoint,
            health,
            weight,
            ..
        } = decision;
        format!("{source} {} {health} {weight}", endpoint.address.port())
    };
    resolution.published().map(shown).collect()
}

#[test]
fn priority_takes_the_first_source_that_lists_the_service_even_if_all_is_sick() {
    let sick = endpoint(1, 1.0, Health::Unhealthy);
    let catalog = catalog(&[("a", Some(vec![sick])), ("b", Some(vec![up(2)]))]);
    assert_eq!(published(&catalog, Merge::Priority), ["a 1 unhealthy 1"]);
}

#[test]
fn priority_goes_on_to_the_next_source_while_the_first_has_not_answered() {
    let catalog = catalog(&[("a", None), ("b", Some(vec![up(2)]))]);
    assert_eq!(published(&catalog, Merge::Priority), ["b 2 healthy 1"]);
}

#[test]
fn fallback_takes_the_first_source_with_a_usable_endpoint() {
    let sick = endpoint(1, 1.0, Health::Unhealthy);
    let with_next = catalog(&[("a", Some(vec![sick.clone()])), ("b", Some(vec![up(2)]))]);
    assert_eq!(published(&with_next, Merge::Fallback), ["b 2 healthy 1"]);
    let alone = catalog(&[("a", Some(vec![sick])), ("b", None)]);
    assert_eq!(published(&alone, Merge::Fallback), ["a 1 unhealthy 1"]);
}

#[test]
fn union_takes_everything_and_a_shared_address_from_the_healthiest_then_from_the_first() {
    let first = vec![endpoint(1, 5.0, Health::Unhealthy), endpoint(2, 5.0, Health::Healthy)];
    let second = vec![
        endpoint(1, 7.0, Health::Healthy),
        endpoint(2, 7.0, Health::Healthy),
        up(3),
    ];
    let catalog = catalog(&[("a", Some(first)), ("b", Some(second))]);
    assert_eq!(
        published(&catalog, Merge::Union),
        ["a 2 healthy 5", "b 1 healthy 7", "b 3 healthy 1"]
    );
}

#[test]
fn weight_zero_drains_and_is_never_published_as_a_weight() {
    let catalog = catalog(&[(
        "a",
        Some(vec![
            endpoint(1, 0.0, Health::Healthy),
            endpoint(2, 3.0, Health::Healthy),
        ]),
    )]);
    assert_eq!(
        published(&catalog, Merge::Priority),
        ["a 1 draining 1", "a 2 healthy 3"]
    );
}

#[test]
fn weight_zero_does_not_make_a_sick_endpoint_better() {
    let catalog = catalog(&[("a", Some(vec![endpoint(1, 0.0, Health::Unhealthy)]))]);
    assert_eq!(published(&catalog, Merge::Priority), ["a 1 unhealthy 1"]);
}

#[test]
fn a_service_is_unknown_while_a_source_that_could_list_it_is_silent() {
    let settings = ServiceSettings::default();
    let listed = |catalog: &Catalog| resolve(catalog, &orders(), &settings).listed;
    assert_eq!(listed(&catalog(&[("a", None)])), Presence::Unknown);
    let mut answered = Catalog::new([src("a")]);
    let other = Service::new(ServiceName::new("other").unwrap(), vec![]);
    answered.resync(&src("a"), vec![other], &Evidence::Complete, NOW);
    assert_eq!(listed(&answered), Presence::Known(false));
}

#[test]
fn settings_choose_the_sources_and_their_order() {
    let catalog = catalog(&[("a", Some(vec![up(1)])), ("b", Some(vec![up(2)]))]);
    let settings = ServiceSettings {
        sources: vec![src("b"), src("a")],
        ..ServiceSettings::default()
    };
    let resolution = resolve(&catalog, &orders(), &settings);
    let ports: Vec<u16> = resolution
        .published()
        .map(|decision| decision.endpoint.address.port())
        .collect();
    assert_eq!(ports, [2]);
    assert_eq!(resolution.decisions.len(), 2, "what is not published is explained");
}

#[test]
fn a_service_gone_from_the_first_source_does_not_hide_the_second() {
    let mut catalog = catalog(&[("a", Some(vec![up(1)])), ("b", Some(vec![up(2)]))]);
    catalog.delete(&src("a"), orders(), NOW);
    assert_eq!(published(&catalog, Merge::Priority), ["b 2 healthy 1"]);
}
