//! A stream's way through a change, as its holdings tell it.

use std::time::Duration;

use leadsman_core::model::{Address, Catalog, Endpoint, Evidence, Provenance, Service, ServiceName, SourceName};
use leadsman_core::policy::{ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes};
use leadsman_core::xds::{Limits, Node, Request, Variant};

use super::*;

const NOW: Duration = Duration::ZERO;

/// A server with some services, each of one endpoint.
#[derive(Default)]
struct World {
    builder: Builder,
}

impl World {
    fn publish(&mut self, services: &[(&str, u16)]) -> (Snapshot, Changes) {
        let source = SourceName::new("shop").unwrap();
        let listed = services.iter().map(|(name, port)| {
            let address = Address::new("10.0.0.1", i64::from(*port)).unwrap();
            let endpoint = Endpoint::new(address, Provenance::default());
            Service::new(ServiceName::new(name).unwrap(), vec![endpoint])
        });
        let mut catalog = Catalog::new([source.clone()]);
        catalog.resync(&source, listed.collect(), &Evidence::Complete, NOW);
        let (settings, mut changes) = (ServiceSettings::default(), Changes::default());
        for (name, _) in services {
            let resolution = resolve(&catalog, &ServiceName::new(name).unwrap(), &settings);
            self.builder.put(&resolution, &settings, &mut changes);
        }
        self.builder.set_certainty(true, true);
        (self.builder.publish(), changes)
    }
}

fn request(kind: ResourceType) -> Request {
    Request {
        node: Some(Node {
            id: "edge-1".to_owned(),
            ..Node::default()
        }),
        type_url: kind.type_url().to_owned(),
        ..Request::default()
    }
}

/// `name:STATUS`, a type a line, then the tally of the clusters.
fn shown(protocol: &DiscoveryStream, snapshot: &Snapshot) -> Vec<String> {
    let of = |holdings: &Holdings| {
        let resources = holdings.resources.iter();
        let words = resources.map(|holding| match holding.status() {
            Some(status) => format!("{}:{status:?}", holding.name),
            None => format!("{}:none", holding.name),
        });
        format!(
            "{:?}: {}",
            holdings.tally().worst(),
            words.collect::<Vec<_>>().join(" ")
        )
    };
    let all = super::of(protocol, snapshot, NOW);
    all.iter()
        .filter(|holdings| holdings.report.requested)
        .map(of)
        .collect()
}

fn send(protocol: &mut DiscoveryStream, snapshot: &Snapshot) -> String {
    protocol.next_response(snapshot, NOW).unwrap().nonce.to_string()
}

fn answer(protocol: &mut DiscoveryStream, kind: ResourceType, nonce: String, error: Option<&str>) {
    let answer = Request {
        response_nonce: nonce,
        error_detail: error.map(str::to_owned),
        ..request(kind)
    };
    protocol.handle_request(answer).unwrap();
}

#[test]
fn a_change_is_not_sent_then_stale_then_synced_or_an_error() {
    let mut world = World::default();
    let (snapshot, _) = world.publish(&[("orders", 1)]);
    let mut protocol = DiscoveryStream::new(Variant::Delta, Limits::default());
    protocol.handle_request(request(ResourceType::Cluster)).unwrap();
    let named = Request {
        subscribe: vec!["nobody".into(), "orders".into()],
        ..request(ResourceType::Endpoint)
    };
    protocol.handle_request(named).unwrap();
    let silent = "NotSent: nobody:none orders:NotSent";
    assert_eq!(shown(&protocol, &snapshot), ["NotSent: orders:NotSent", silent]);

    let clusters = send(&mut protocol, &snapshot);
    assert_eq!(shown(&protocol, &snapshot), ["Stale: orders:Stale", silent]);
    let endpoints = send(&mut protocol, &snapshot);
    answer(&mut protocol, ResourceType::Cluster, clusters, None);
    answer(&mut protocol, ResourceType::Endpoint, endpoints, None);
    let synced = ["Synced: orders:Synced", "Synced: nobody:none orders:Synced"];
    assert_eq!(shown(&protocol, &snapshot), synced);

    let (snapshot, changes) = world.publish(&[("orders", 2), ("users", 1)]);
    for kind in ResourceType::ALL {
        for name in changes.of(kind) {
            protocol.handle_change(kind, name);
        }
    }
    let behind = [
        "NotSent: orders:Synced users:NotSent",
        "NotSent: nobody:none orders:NotSent",
    ];
    assert_eq!(
        shown(&protocol, &snapshot),
        behind,
        "the endpoints are another's than were accepted"
    );

    let clusters = send(&mut protocol, &snapshot);
    answer(&mut protocol, ResourceType::Cluster, clusters, Some("no"));
    let tally = super::of(&protocol, &snapshot, NOW)[0].tally();
    let expected = Tally {
        synced: 1,
        errors: 1,
        ..Tally::default()
    };
    assert_eq!((tally, tally.worst()), (expected, Status::Error));

    let (snapshot, _) = world.publish(&[("orders", 2), ("users", 2)]);
    assert_eq!(
        shown(&protocol, &snapshot)[0],
        "Error: orders:Synced users:Error",
        "other endpoints do not mend a refused cluster"
    );
}
