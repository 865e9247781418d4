//! What core encodes by hand, read back with the generated messages of Envoy's own API, field by field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as PbAddress;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, ControlPlane, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::protobuf::value::Kind;
use leadsman_core::model::{
    Address, Catalog, Endpoint, Evidence, Health, Locality, Provenance, Service, ServiceName, SourceName, Weight,
};
use leadsman_core::policy::{Protocol, ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes, ResourceType, Snapshot};
use leadsman_core::xds::{Response, Variant};
use prost::Message;

fn endpoint(address: &str, weight: f64, health: Health, zone: &str) -> Endpoint {
    let locality = Locality {
        region: "eu".into(),
        zone: zone.into(),
        sub_zone: "rack".into(),
    };
    let address = Address::parse(address).unwrap();
    let weight = Weight::new(weight).unwrap();
    Endpoint {
        weight,
        health,
        locality,
        ..Endpoint::new(address, Provenance::default())
    }
}

fn snapshot(protocol: Protocol, endpoints: Vec<Endpoint>) -> Snapshot {
    let settings = ServiceSettings {
        protocol,
        connect_timeout: Duration::from_millis(1_250),
        ..ServiceSettings::default()
    };
    snapshot_with(settings, endpoints)
}

#[expect(clippy::needless_pass_by_value, reason = "the settings are made for the call")]
fn snapshot_with(settings: ServiceSettings, endpoints: Vec<Endpoint>) -> Snapshot {
    published(&mut Builder::default(), &settings, endpoints)
}

/// What the builder publishes when these are the endpoints of the service now.
fn published(builder: &mut Builder, settings: &ServiceSettings, endpoints: Vec<Endpoint>) -> Snapshot {
    let (source, name) = (SourceName::new("shop").unwrap(), ServiceName::new("orders").unwrap());
    let mut catalog = Catalog::new([source.clone()]);
    catalog.resync(
        &source,
        vec![Service::new(name.clone(), endpoints)],
        &Evidence::Complete,
        Duration::ZERO,
    );
    builder.put(&resolve(&catalog, &name, settings), settings, &mut Changes::default());
    builder.publish()
}

/// Through a whole response, as a client receives it.
fn received<M: Message + Default>(snapshot: &Snapshot, kind: ResourceType) -> M {
    let resource = snapshot.get(kind, "orders").unwrap();
    let version = resource.version.to_string();
    let response = Response {
        variant: Variant::Delta,
        type_url: kind.type_url().into(),
        nonce: 7,
        resources: [resource].into(),
        removed: vec!["gone".into()],
        system_version: 3,
    };
    let response = DeltaDiscoveryResponse::decode(response.encode("cp-1")).unwrap();
    assert_eq!(response.type_url, kind.type_url());
    assert_eq!(
        (response.nonce.as_str(), response.system_version_info.as_str()),
        ("7", "3")
    );
    assert_eq!(response.removed_resources, ["gone"]);
    assert_eq!(response.control_plane.unwrap().identifier, "cp-1");
    assert_eq!(response.resources.len(), 1);
    let resource = &response.resources[0];
    assert_eq!((resource.name.as_str(), &resource.version), ("orders", &version));
    let any = resource.resource.as_ref().unwrap();
    assert_eq!(any.type_url, kind.type_url());
    assert_eq!(any, &received_in_the_state_of_the_world(snapshot, kind));
    M::decode(any.value.as_slice()).unwrap()
}

/// The same, in the other variant of the protocol.
fn received_in_the_state_of_the_world(snapshot: &Snapshot, kind: ResourceType) -> Any {
    let response = Response {
        variant: Variant::StateOfTheWorld,
        type_url: kind.type_url().into(),
        nonce: 7,
        resources: [snapshot.get(kind, "orders").unwrap()].into(),
        removed: vec!["gone".into()],
        system_version: 3,
    };
    let response = DiscoveryResponse::decode(response.encode("cp-1")).unwrap();
    let [any] = response.resources.as_slice() else {
        panic!("one resource expected")
    };
    let expected = DiscoveryResponse {
        version_info: response.version_info.clone(),
        resources: vec![any.clone()],
        type_url: kind.type_url().to_owned(),
        nonce: "7".to_owned(),
        control_plane: Some(ControlPlane {
            identifier: "cp-1".to_owned(),
        }),
        ..DiscoveryResponse::default()
    };
    assert_eq!(response, expected, "and nothing else is set");
    assert_eq!(response.version_info.len(), 16);
    any.clone()
}

#[test]
fn a_listener_takes_its_routes_over_the_same_stream_and_a_route_leads_to_the_cluster() {
    let snapshot = snapshot(Protocol::Grpc, vec![]);
    let listener: Listener = received(&snapshot, ResourceType::Listener);
    let any = listener.api_listener.clone().unwrap().api_listener.unwrap();
    assert!(
        any.type_url
            .ends_with(".http_connection_manager.v3.HttpConnectionManager")
    );
    let manager = HttpConnectionManager::decode(any.value.as_slice()).unwrap();
    let Some(RouteSpecifier::Rds(rds)) = &manager.route_specifier else {
        panic!("routes by RDS expected")
    };
    assert_eq!(
        (listener.name.as_str(), rds.route_config_name.as_str()),
        ("orders", "orders")
    );
    let source = rds.config_source.clone().unwrap().config_source_specifier;
    assert!(matches!(source, Some(ConfigSourceSpecifier::Ads(_))));
    let filters: Vec<&str> = manager.http_filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(filters, ["envoy.filters.http.router"]);

    let routes: RouteConfiguration = received(&snapshot, ResourceType::Route);
    assert_eq!((routes.name.as_str(), routes.virtual_hosts.len()), ("orders", 1));
    let host = &routes.virtual_hosts[0];
    assert_eq!(
        (host.name.as_str(), host.domains.as_slice()),
        ("orders", &["*".to_owned()][..])
    );
    let [route] = host.routes.as_slice() else {
        panic!("one route expected")
    };
    let path = route.r#match.clone().unwrap().path_specifier;
    assert_eq!(path, Some(PathSpecifier::Prefix(String::new())));
    let Some(Action::Route(action)) = &route.action else {
        panic!("an action expected")
    };
    assert_eq!(
        action.cluster_specifier,
        Some(ClusterSpecifier::Cluster("orders".to_owned()))
    );
    assert_eq!(action.timeout.as_ref().map(|timeout| timeout.seconds), Some(15));
}

#[test]
fn e69_a_locality_weighs_what_its_usable_endpoints_do_and_can_be_one_a_weight() {
    let endpoints = || {
        vec![
            endpoint("10.0.0.1:80", 3.0, Health::Healthy, "a"),
            endpoint("10.0.0.2:80", 1.0, Health::Unknown, "a"),
            endpoint("10.0.0.3:80", 7.0, Health::Unhealthy, "a"),
            endpoint("10.0.0.4:80", 9.0, Health::Draining, "b"),
        ]
    };
    let weights = |snapshot: &Snapshot| -> Vec<(String, u32, usize)> {
        let assignment: ClusterLoadAssignment = received(snapshot, ResourceType::Endpoint);
        let groups = assignment.endpoints.iter();
        groups
            .map(|group| {
                let locality = group.locality.as_ref().unwrap();
                let weight = group.load_balancing_weight.as_ref().unwrap().value;
                (
                    format!("{} {}", locality.zone, locality.sub_zone),
                    weight,
                    group.lb_endpoints.len(),
                )
            })
            .collect()
    };
    let shown = |zone: &str, weight, count| (zone.to_owned(), weight, count);
    assert_eq!(
        weights(&snapshot(Protocol::Grpc, endpoints())),
        [shown("a rack", 4, 3), shown("b rack", 1, 1)]
    );
    let settings = ServiceSettings {
        weight_localities: true,
        ..ServiceSettings::default()
    };
    let expected = [
        shown("a rack#1", 1, 1),
        shown("a rack#3", 3, 1),
        shown("a rack#7", 1, 1),
        shown("b rack#9", 1, 1),
    ];
    assert_eq!(weights(&snapshot_with(settings, endpoints())), expected);
}

#[test]
fn e64_priorities_begin_at_zero_and_have_no_gap() {
    let at = |port: u16, priority: u16, zone: &str| Endpoint {
        priority,
        ..endpoint(&format!("10.0.0.1:{port}"), 1.0, Health::Unknown, zone)
    };
    let groups = |endpoints: Vec<Endpoint>| -> Vec<(u32, String, usize)> {
        let assignment: ClusterLoadAssignment = received(&snapshot(Protocol::Grpc, endpoints), ResourceType::Endpoint);
        let group = |group: LocalityLbEndpoints| {
            let zone = group.locality.map(|locality| locality.zone).unwrap_or_default();
            (group.priority, zone, group.lb_endpoints.len())
        };
        assignment.endpoints.into_iter().map(group).collect()
    };
    let zone = |priority: u32, zone: &str, count| (priority, zone.to_owned(), count);
    assert_eq!(
        groups(vec![
            at(1, 10, "b"),
            at(2, 10, "b"),
            at(3, 20, "a"),
            at(4, 90, "b"),
            at(5, 90, "c")
        ]),
        [zone(0, "b", 2), zone(1, "a", 1), zone(2, "b", 1), zone(2, "c", 1)]
    );
    // The highest that Envoy takes is 128.
    let many = groups((1..=200).map(|n| at(n, n, "a")).collect());
    assert_eq!((many.len(), many.last()), (129, Some(&zone(128, "a", 72))));
}

#[test]
fn a_cluster_takes_its_endpoints_over_the_same_stream() {
    let cluster: Cluster = received(&snapshot(Protocol::Http1, vec![]), ResourceType::Cluster);
    let eds = cluster.eds_cluster_config.clone().unwrap();
    let config = eds.eds_config.unwrap();
    assert!(matches!(
        config.config_source_specifier,
        Some(ConfigSourceSpecifier::Ads(_))
    ));
    assert_eq!(config.resource_api_version, ApiVersion::V3 as i32);
    let timeout = cluster.connect_timeout.unwrap();
    assert_eq!((timeout.seconds, timeout.nanos), (1, 250_000_000));
    let discovery = Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32));
    let expected = Cluster {
        name: "orders".to_owned(),
        cluster_discovery_type: discovery,
        eds_cluster_config: cluster.eds_cluster_config.clone(),
        connect_timeout: cluster.connect_timeout,
        ..Cluster::default()
    };
    assert_eq!(cluster, expected, "and nothing else is set");
}

#[test]
fn http2_and_grpc_clusters_speak_http2_to_their_endpoints() {
    for protocol in [Protocol::Http2, Protocol::Grpc] {
        let cluster: Cluster = received(&snapshot(protocol, vec![]), ResourceType::Cluster);
        let options = &cluster.typed_extension_protocol_options;
        let any = &options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"];
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        );
        let options = HttpProtocolOptions::decode(any.value.as_slice()).unwrap();
        let Some(UpstreamProtocolOptions::ExplicitHttpConfig(http)) = options.upstream_protocol_options else {
            panic!("explicit configuration expected")
        };
        assert!(matches!(
            http.protocol_config,
            Some(ProtocolConfig::Http2ProtocolOptions(_))
        ));
    }
}

#[test]
fn endpoints_carry_address_health_weight_locality_and_our_stamp() {
    let endpoints = vec![
        endpoint("10.0.0.1:80", 3.0, Health::Healthy, "a"),
        endpoint("10.0.0.2:80", 0.0, Health::Healthy, "a"),
        endpoint("10.0.0.3:80", 1.0, Health::Unknown, "b"),
        endpoint("10.0.0.4:80", 1.0, Health::Unhealthy, "b"),
        endpoint("[2001:db8::1]:80", 1.0, Health::Degraded, "b"),
    ];
    let assignment: ClusterLoadAssignment = received(&snapshot(Protocol::Http1, endpoints), ResourceType::Endpoint);
    assert_eq!(assignment.cluster_name, "orders");
    let mut shown = BTreeMap::new();
    for group in &assignment.endpoints {
        let locality = group.locality.as_ref().unwrap();
        assert_eq!((locality.region.as_str(), locality.sub_zone.as_str()), ("eu", "rack"));
        shown.insert(
            locality.zone.clone(),
            group.lb_endpoints.iter().map(show).collect::<Vec<_>>(),
        );
    }
    let expected = BTreeMap::from([
        (
            "a".to_owned(),
            vec!["10.0.0.1:80 Healthy 3".to_owned(), "10.0.0.2:80 Draining 1".to_owned()],
        ),
        (
            "b".to_owned(),
            vec![
                "10.0.0.3:80 Unknown 1".to_owned(),
                "10.0.0.4:80 Unhealthy 1".to_owned(),
                "2001:db8::1:80 Degraded 1".to_owned(),
            ],
        ),
    ]);
    assert_eq!(shown, expected);
}

fn show(endpoint: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(host)) = &endpoint.host_identifier else {
        panic!("an endpoint expected")
    };
    let Some(PbAddress::SocketAddress(socket)) = host.address.as_ref().and_then(|a| a.address.as_ref()) else {
        panic!("a socket address expected")
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        panic!("a port expected")
    };
    let stamp = &endpoint.metadata.as_ref().unwrap().filter_metadata["leadsman"].fields;
    let text = |key: &str| match stamp[key].kind.as_ref() {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?}"),
    };
    assert_eq!((text("src").as_str(), text("rev").len()), ("shop", 8));
    let health = HealthStatus::try_from(endpoint.health_status).unwrap();
    let weight = endpoint.load_balancing_weight.as_ref().unwrap().value;
    format!("{}:{port} {health:?} {weight}", socket.address)
}

#[test]
fn no_endpoints_is_an_empty_assignment() {
    let assignment: ClusterLoadAssignment = received(&snapshot(Protocol::Http1, vec![]), ResourceType::Endpoint);
    let expected = ClusterLoadAssignment {
        cluster_name: "orders".to_owned(),
        ..ClusterLoadAssignment::default()
    };
    assert_eq!(assignment, expected);
}

#[test]
fn e61_an_address_that_moves_to_another_locality_is_in_the_new_one_alone() {
    let (mut builder, settings) = (Builder::default(), ServiceSettings::default());
    let mut zones = |endpoints: Vec<Endpoint>| -> Vec<(String, usize)> {
        let snapshot = published(&mut builder, &settings, endpoints);
        assert_eq!(snapshot.all(ResourceType::Endpoint).count(), 1, "one assignment");
        let assignment: ClusterLoadAssignment = received(&snapshot, ResourceType::Endpoint);
        let groups = assignment.endpoints.into_iter();
        groups
            .map(|group| (group.locality.unwrap().zone, group.lb_endpoints.len()))
            .collect()
    };
    let at = |address, zone| endpoint(address, 1.0, Health::Healthy, zone);
    let stays = || at("10.0.0.2:80", "a");
    assert_eq!(zones(vec![at("10.0.0.1:80", "a"), stays()]), [("a".to_owned(), 2)]);
    assert_eq!(
        zones(vec![at("10.0.0.1:80", "b"), stays()]),
        [("a".to_owned(), 1), ("b".to_owned(), 1)]
    );
    let both = vec![at("10.0.0.1:80", "b"), at("10.0.0.1:80", "c"), stays()];
    let said_twice = zones(both);
    assert_eq!(
        said_twice.iter().map(|(_, count)| count).sum::<usize>(),
        2,
        "{said_twice:?}"
    );
}

#[test]
fn e64_weights_are_whole_from_one_and_their_sum_fits_32_bits() {
    let few = [0.0, 0.000_1, 0.5, 1.0, 1e9];
    let endpoints = (0..65_536_u32).zip(few.into_iter().chain(std::iter::repeat(1e300)));
    let endpoints = endpoints.map(|(n, weight)| {
        let [_, a, b, c] = n.to_be_bytes();
        endpoint(&format!("10.{a}.{b}.{c}:80"), weight, Health::Healthy, "a")
    });
    let assignment: ClusterLoadAssignment =
        received(&snapshot(Protocol::Grpc, endpoints.collect()), ResourceType::Endpoint);
    assert_eq!(assignment.cluster_name, "orders");
    let [group] = assignment.endpoints.as_slice() else {
        panic!("one locality expected")
    };
    let weight = |endpoint: &LbEndpoint| endpoint.load_balancing_weight.as_ref().unwrap().value;
    let weights: Vec<u32> = group.lb_endpoints.iter().map(weight).collect();
    assert_eq!(weights.len(), 65_536);
    assert!(weights.iter().all(|weight| *weight >= 1));
    let sum: u64 = weights.into_iter().map(u64::from).sum();
    assert!(u32::try_from(sum).is_ok(), "{sum}");
    assert!(group.load_balancing_weight.as_ref().unwrap().value >= 1);
}
