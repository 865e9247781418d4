//! What is published, as Envoy's `/config_dump` has it: these are the very members of a real dump.

use std::time::Duration;

use leadsman_core::model::{
    Address, Catalog, Endpoint, Evidence, Health, Provenance, Service, ServiceName, SourceName,
};
use leadsman_core::policy::{Istio, Protocol, ServiceSettings, resolve};
use leadsman_core::snapshot::{Builder, Changes, Snapshot};

use super::*;

fn published() -> Snapshot {
    let (source, name) = (SourceName::new("shop").unwrap(), ServiceName::new("orders").unwrap());
    let settings = ServiceSettings {
        protocol: Protocol::Grpc,
        connect_timeout: Duration::from_millis(1_250),
        istio: Some(Istio::default()),
        ..ServiceSettings::default()
    };
    let endpoint = |host: &str, health| Endpoint {
        health,
        ..Endpoint::new(Address::parse(host).unwrap(), Provenance::default())
    };
    let endpoints = vec![
        endpoint("10.0.0.1:80", Health::Draining),
        endpoint("[2001:db8::1]:80", Health::Healthy),
    ];
    let mut catalog = Catalog::new([source.clone()]);
    let service = Service::new(name.clone(), endpoints);
    catalog.resync(&source, vec![service], &Evidence::Complete, Duration::ZERO);
    let mut builder = Builder::default();
    builder.put(&resolve(&catalog, &name, &settings), &settings, &mut Changes::default());
    builder.publish()
}

fn shown(kind: ResourceType) -> Value {
    json(kind, &published().get(kind, "orders").unwrap())
}

#[test]
fn a_cluster_is_shown_as_envoy_shows_it() {
    assert_eq!(
        shown(ResourceType::Cluster),
        json!({
            "name": "orders",
            "type": "EDS",
            "eds_cluster_config": { "eds_config": { "ads": {}, "resource_api_version": "V3" } },
            "connect_timeout": "1.250s",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
        })
    );
}

#[test]
fn an_assignment_is_shown_with_every_endpoint() {
    let mut shown = shown(ResourceType::Endpoint);
    let members = shown["endpoints"][0]["lb_endpoints"].as_array_mut().unwrap();
    for member in members.iter_mut() {
        let own = &mut member["metadata"]["filter_metadata"]["leadsman"];
        assert!(own["rev"].is_string() && own["src"] == "shop", "{own}");
        *own = Value::Null;
    }
    let member = |host: &str, health: &str| {
        json!({
            "endpoint": { "address": { "socket_address": { "address": host, "port_value": 80 } } },
            "health_status": health,
            "metadata": { "filter_metadata": { "leadsman": null } },
            "load_balancing_weight": 1,
        })
    };
    assert_eq!(
        shown,
        json!({
            "cluster_name": "orders",
            "endpoints": [{
                "locality": {},
                "load_balancing_weight": 1,
                "lb_endpoints": [member("10.0.0.1", "DRAINING"), member("2001:db8::1", "HEALTHY")],
            }],
        })
    );
}

#[test]
fn an_entry_is_shown_as_a_manifest() {
    let mut shown = shown(ResourceType::ServiceEntry);
    assert!(shown["metadata"]["resource_version"].is_string());
    shown["metadata"]["resource_version"] = Value::Null;
    assert_eq!(
        shown,
        json!({
            "@type": "type.googleapis.com/istio.networking.v1alpha3.ServiceEntry",
            "metadata": { "namespace": "leadsman", "name": "orders", "resource_version": null },
            "spec": {
                "hosts": ["orders.leadsman.internal"],
                "ports": [{ "number": 80, "protocol": "GRPC", "name": "grpc" }],
                "resolution": "STATIC",
                "endpoints": [{ "address": "2001:db8::1", "ports": { "grpc": 80 }, "weight": 1 }],
            },
        })
    );
}

#[test]
fn an_entry_is_told_in_short() {
    let short = in_istio(&published().get(ResourceType::ServiceEntry, "orders").unwrap());
    let expected = api::InIstio {
        namespace: "leadsman".to_owned(),
        host: "orders.leadsman.internal".to_owned(),
        port: 80,
        endpoints: vec!["[2001:db8::1]:80".to_owned()],
    };
    assert_eq!(short, Some(expected));
}

#[test]
fn a_duration_is_written_as_protobuf_writes_it() {
    let shown = |seconds, nanos| duration(&pb::Duration { seconds, nanos });
    let all = [shown(1, 0), shown(0, 250_000_000), shown(2, 1_500), shown(0, 1)];
    assert_eq!(all, ["1s", "0.250s", "2.000001500s", "0.000000001s"]);
}
