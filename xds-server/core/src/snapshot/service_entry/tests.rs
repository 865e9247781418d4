//! Whole entries, and which endpoints are in them.

use std::num::NonZeroU16;

use super::*;
use crate::model::{Address, ServiceName};
use crate::policy::{HostTemplate, Istio, Namespace, ServiceSettings};

fn told<'a>(address: &str, health: Health, weight: u32, locality: &'a Locality) -> Told<'a> {
    Told {
        address: Address::parse(address).unwrap(),
        locality,
        priority: 0,
        health,
        weight,
    }
}

/// The resource that istiod gets, and the entry in it.
fn read(service: &str, settings: &ServiceSettings, endpoints: Vec<Told<'_>>) -> (Metadata, ServiceEntry) {
    let name = ClusterName::derive(&ServiceName::new(service).unwrap(), None).unwrap();
    let bytes = encode(&name, &settings.into(), endpoints.into_iter()).unwrap();
    let Resource { metadata, body } = Resource::decode(bytes).unwrap();
    let body = body.unwrap();
    assert_eq!(body.type_url, SERVICE_ENTRY_URL);
    (metadata.unwrap(), ServiceEntry::decode(body.value).unwrap())
}

fn exported() -> ServiceSettings {
    ServiceSettings {
        istio: Some(Istio::default()),
        ..ServiceSettings::default()
    }
}

#[test]
fn an_entry_has_a_host_and_a_port_and_each_endpoint_its_own_port_weight_and_locality() {
    let (east, nowhere) = (
        Locality {
            region: "eu".to_owned(),
            zone: "a/1".to_owned(),
            sub_zone: String::new(),
        },
        Locality::default(),
    );
    let settings = ServiceSettings {
        protocol: Protocol::Grpc,
        istio: Some(Istio {
            host: HostTemplate::new("{service}.shop.example").unwrap(),
            port: NonZeroU16::new(8080).unwrap(),
            namespace: Namespace::new("shop").unwrap(),
        }),
        ..ServiceSettings::default()
    };
    let endpoints = vec![
        told("10.0.0.1:9001", Health::Healthy, 3, &east),
        told("[2001:db8::1]:9002", Health::Unknown, 1, &nowhere),
    ];
    let (metadata, entry) = read("Orders", &settings, endpoints);
    assert_eq!(metadata.name, "shop/orders--a45aeaab");
    assert_eq!(metadata.version, Version::of(&entry.encode_to_vec(), None).to_string());
    let workload = |address: &str, port: u32, locality: &str, weight| WorkloadEntry {
        address: address.to_owned(),
        ports: [("grpc".to_owned(), port)].into(),
        locality: locality.to_owned(),
        weight,
    };
    let expected = ServiceEntry {
        hosts: vec!["orders--a45aeaab.shop.example".to_owned()],
        ports: vec![ServicePort {
            number: 8080,
            protocol: "GRPC".to_owned(),
            name: "grpc".to_owned(),
        }],
        resolution: RESOLUTION_STATIC,
        endpoints: vec![
            workload("10.0.0.1", 9001, "eu/a-1", 3),
            workload("2001:db8::1", 9002, "", 1),
        ],
    };
    assert_eq!(entry, expected);
}

#[test]
fn a_service_that_is_not_meant_for_istio_has_no_entry_and_one_without_endpoints_keeps_its_host() {
    let name = ClusterName::derive(&ServiceName::new("orders").unwrap(), None).unwrap();
    let spec = (&ServiceSettings::default()).into();
    assert_eq!(encode(&name, &spec, std::iter::empty()), None);
    let (_, entry) = read("orders", &exported(), Vec::new());
    assert_eq!(
        (entry.hosts, entry.endpoints),
        (vec!["orders.leadsman.internal".to_owned()], Vec::new())
    );
}

/// Endpoints by the first letters of their health, with a `/` before each further priority, and those of them that are
/// listed.
fn check(healths: &str, expected: &str) {
    let nowhere = Locality::default();
    let health = |letter| match letter {
        'h' => Health::Healthy,
        '?' => Health::Unknown,
        'd' => Health::Degraded,
        'u' => Health::Unhealthy,
        _ => Health::Draining,
    };
    let mut endpoints = Vec::new();
    for (level, priority) in healths.split('/').zip(0..) {
        for letter in level.chars() {
            let address = format!("10.0.0.1:{}", endpoints.len() + 1);
            endpoints.push(Told {
                priority,
                ..told(&address, health(letter), 1, &nowhere)
            });
        }
    }
    let (_, entry) = read("orders", &exported(), endpoints);
    let letters: Vec<char> = healths.chars().filter(|letter| *letter != '/').collect();
    let listed = entry
        .endpoints
        .iter()
        .map(|of| usize::try_from(of.ports["http"]).unwrap() - 1);
    let listed: String = listed.map(|index| letters[index]).collect();
    assert_eq!(listed, expected, "of {healths}");
}

#[test]
fn who_takes_no_requests_is_left_out_unless_nobody_would_be_left() {
    check("h?", "h?");
    check("hux", "h");
    check("?x", "?");
    check("u", "u");
    check("x", "x");
    check("uuxx", "uuxx");
    check("", "");
}

#[test]
fn degraded_endpoints_are_listed_where_the_healthy_ones_are_not_enough() {
    check("hhd", "hhd");
    check("hhhd", "hhh");
    check("hhhdu", "hhhd");
    check("hhhdx", "hhh");
    check("d", "d");
    check("du", "d");
    check("dx", "d");
}

#[test]
fn a_further_priority_is_listed_where_those_before_it_have_not_enough() {
    check("hh/h", "hh");
    check("hu/h?/h", "hh?");
    check("ux/h/h", "h");
    check("x/u/h", "h");
    check("hu/u", "h");
    check("hu/d", "hd");
    check("hd/h", "hh");
    check("u/u", "uu");
}
