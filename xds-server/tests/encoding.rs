//! What core encodes by hand, read back with the generated messages of Envoy's own API, field by field.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address as PbAddress;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{ApiVersion, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use envoy_types::pb::google::protobuf::value::Kind;
use leadsman_core::model::{
    Address, Catalog, Endpoint, Evidence, Health, Locality, Provenance, Service, ServiceName, SourceName, Weight,
};
use leadsman_core::policy::{Protocol, ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes, ResourceType, Snapshot};
use leadsman_core::xds::Response;
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
    let (source, name) = (SourceName::new("shop").unwrap(), ServiceName::new("orders").unwrap());
    let settings = ServiceSettings {
        protocol,
        connect_timeout: Duration::from_millis(1_250),
        ..ServiceSettings::default()
    };
    let mut catalog = Catalog::new([source.clone()]);
    catalog.resync(
        &source,
        vec![Service::new(name.clone(), endpoints)],
        &Evidence::Complete,
        Duration::ZERO,
    );
    let mut builder = Builder::default();
    builder.put(&resolve(&catalog, &name, &settings), &settings, &mut Changes::default());
    builder.publish()
}

/// Through a whole response, as a client receives it.
fn received<M: Message + Default>(snapshot: &Snapshot, kind: ResourceType) -> M {
    let resource = snapshot.get(kind, "orders").unwrap().clone();
    let version = resource.version.to_string();
    let response = Response {
        type_url: kind.type_url().into(),
        nonce: "7".to_owned(),
        resources: vec![resource],
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
    M::decode(any.value.as_slice()).unwrap()
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
