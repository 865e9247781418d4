//! Who wins, with which health and weight: each test prints what Envoy would get.

use std::time::Duration;

use super::*;
use crate::model::{Address, Evidence, Provenance, Service, Weight};
use crate::policy::{Percentages, PercentagesError};

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
fn e62_union_takes_everything_and_a_shared_address_from_the_healthiest_then_from_the_first() {
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

fn percentage(parts: &[(&str, u8)]) -> Merge {
    let parts = parts.iter().map(|(source, part)| (src(source), *part)).collect();
    Merge::Percentage(Percentages::new(parts).unwrap())
}

#[test]
fn a_percentage_holds_however_many_instances_each_source_knows() {
    let many = (1..=9).map(up).collect();
    let catalog = catalog(&[("a", Some(many)), ("b", Some(vec![up(11)]))]);
    let shown = published(&catalog, percentage(&[("a", 90), ("b", 10)]));
    let weights: BTreeSet<&str> = shown.iter().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!((shown.len(), weights), (10, BTreeSet::from(["65535"])));
    let quarter = published(&catalog, percentage(&[("a", 25), ("b", 75)]));
    assert_eq!(quarter.first().unwrap(), "a 1 healthy 2427");
    assert_eq!(quarter.last().unwrap(), "b 11 healthy 65535");
}

#[test]
fn a_percentage_is_divided_among_usable_endpoints_by_their_weights() {
    let a = vec![
        endpoint(1, 3.0, Health::Healthy),
        endpoint(2, 1.0, Health::Healthy),
        endpoint(3, 100.0, Health::Unhealthy),
        endpoint(4, 0.0, Health::Healthy),
    ];
    let catalog = catalog(&[("a", Some(a)), ("b", Some(vec![up(11)]))]);
    let shown = published(&catalog, percentage(&[("a", 80), ("b", 20)]));
    let usable: Vec<&String> = shown
        .iter()
        .filter(|line| line.contains("healthy") && !line.contains("un"))
        .collect();
    // 60, 20 and 20 percent: what the sick one would weigh is nobody's concern until it is well.
    assert_eq!(usable, ["a 1 healthy 65535", "a 2 healthy 21845", "b 11 healthy 21845"]);
    assert!(shown.contains(&"a 3 unhealthy 65535".to_owned()), "{shown:?}");
    assert!(shown.contains(&"a 4 draining 1".to_owned()), "{shown:?}");
}

#[test]
fn a_source_that_takes_an_instance_for_dead_gives_its_part_to_its_other_instances() {
    let dead = Endpoint {
        health: Health::Unhealthy,
        weight: Weight::new(100.0).unwrap(),
        ..up(1)
    };
    let catalog = catalog(&[("a", Some(vec![up(1)])), ("b", Some(vec![dead, up(2), up(3)]))]);
    let shown = published(&catalog, percentage(&[("a", 50), ("b", 50)]));
    // 50, 25 and 25 percent.
    assert_eq!(shown, ["a 1 healthy 65535", "b 2 healthy 32768", "b 3 healthy 32768"]);
}

#[test]
fn an_instance_that_two_sources_know_gets_both_its_parts() {
    let catalog = catalog(&[("a", Some(vec![up(1), up(2)])), ("b", Some(vec![up(2)]))]);
    let shown = published(&catalog, percentage(&[("a", 50), ("b", 50)]));
    assert_eq!(shown, ["a 1 healthy 21845", "a 2 healthy 65535"]);
}

#[test]
fn a_source_without_usable_endpoints_or_without_a_part_gets_nothing() {
    let sick = endpoint(2, 1.0, Health::Unhealthy);
    let known = catalog(&[
        ("a", Some(vec![up(1)])),
        ("b", Some(vec![sick])),
        ("c", Some(vec![up(3)])),
    ]);
    let shown = published(&known, percentage(&[("a", 10), ("b", 90)]));
    assert_eq!(shown, ["a 1 healthy 65535", "b 2 unhealthy 65535"]);
    let shown = published(&known, percentage(&[("a", 100), ("c", 0)]));
    assert_eq!(shown, ["a 1 healthy 65535"]);
    let silent = catalog(&[("a", Some(vec![up(1)])), ("b", None)]);
    assert_eq!(
        published(&silent, percentage(&[("a", 10), ("b", 90)])),
        ["a 1 healthy 65535"]
    );
}

#[test]
fn a_service_is_unknown_while_nobody_who_has_a_part_of_it_has_answered() {
    let listed = |catalog: &Catalog, parts: &[(&str, u8)]| {
        let settings = ServiceSettings {
            merge: percentage(parts),
            ..ServiceSettings::default()
        };
        resolve(catalog, &orders(), &settings).listed
    };
    let silent = catalog(&[("new", None), ("old", Some(vec![up(1)]))]);
    // Published, it would have no endpoint.
    assert_eq!(listed(&silent, &[("new", 100), ("old", 0)]), Presence::Unknown);
    assert_eq!(listed(&silent, &[("new", 100)]), Presence::Unknown);
    assert_eq!(listed(&silent, &[("new", 99), ("old", 1)]), Presence::Known(true));
    let mut answered = silent;
    answered.resync(&src("new"), vec![], &Evidence::Complete, NOW);
    assert_eq!(listed(&answered, &[("new", 100)]), Presence::Known(true));
}

#[test]
fn a_source_with_a_part_of_the_traffic_is_asked_though_it_is_not_among_the_sources() {
    let catalog = catalog(&[
        ("a", Some(vec![up(1)])),
        ("b", Some(vec![up(2)])),
        ("c", Some(vec![up(3)])),
    ]);
    let settings = ServiceSettings {
        sources: vec![src("a")],
        merge: percentage(&[("a", 50), ("b", 50), ("c", 0)]),
        ..ServiceSettings::default()
    };
    let resolution = resolve(&catalog, &orders(), &settings);
    let ports: Vec<u16> = resolution
        .published()
        .map(|decision| decision.endpoint.address.port())
        .collect();
    assert_eq!(ports, [1, 2]);
    assert_eq!(resolution.sources.len(), 2);
}

#[test]
fn percentages_make_a_hundred() {
    let sum = |parts: &[(&str, u8)]| Percentages::new(parts.iter().map(|(name, part)| (src(name), *part)).collect());
    assert!(sum(&[("a", 100)]).is_ok() && sum(&[("a", 0), ("b", 100)]).is_ok());
    assert_eq!(sum(&[("a", 60), ("b", 60)]), Err(PercentagesError::Sum(120)));
    assert_eq!(sum(&[]), Err(PercentagesError::Sum(0)));
}
