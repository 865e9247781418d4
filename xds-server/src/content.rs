//! Published resources as JSON, in the shape that Envoy's own `/config_dump` gives the same resources.
//!
//! The messages are taken apart field by field, so that a field which is published and not shown here does not compile.

use leadsman_core::snapshot::{Resource, ResourceType, pb};
use prost::Message;
use serde_json::{Map, Value, json};

use crate::api;

mod istio;
mod route;

const HTTP_PROTOCOL_OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The message in a published resource.
pub(crate) fn any(resource: &Resource) -> Option<pb::Any> {
    let field = pb::ResourceField::decode(resource.field.as_ref()).ok()?;
    field.resource?.resource
}

/// What a published entry says to istiod.
pub(crate) fn in_istio(resource: &Resource) -> Option<api::InIstio> {
    let resource = pb::istio::Resource::decode(any(resource)?.value).ok()?;
    istio::summary(resource)
}

/// `null` for bytes that are not the message they should be, which nothing we encode is.
pub(crate) fn json(kind: ResourceType, resource: &Resource) -> Value {
    let shown = any(resource).and_then(|any| match kind {
        ResourceType::Cluster => pb::Cluster::decode(any.value).ok().map(cluster),
        ResourceType::Endpoint => pb::ClusterLoadAssignment::decode(any.value).ok().map(assignment),
        ResourceType::Listener => pb::Listener::decode(any.value).ok().map(route::listener),
        ResourceType::Route => pb::RouteConfiguration::decode(any.value).ok().map(route::configuration),
        ResourceType::ServiceEntry => pb::istio::Resource::decode(any.value).ok().map(istio::resource),
    });
    shown.unwrap_or(Value::Null)
}

fn cluster(cluster: pb::Cluster) -> Value {
    let pb::Cluster {
        name,
        r#type,
        eds_cluster_config,
        connect_timeout,
        typed_extension_protocol_options,
    } = cluster;
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(name));
    let word = if r#type == pb::DISCOVERY_TYPE_EDS {
        json!("EDS")
    } else {
        json!(r#type)
    };
    shown.insert("type".to_owned(), word);
    if let Some(pb::EdsClusterConfig { eds_config }) = eds_cluster_config {
        let config = json!({ "eds_config": eds_config.map(config_source) });
        shown.insert("eds_cluster_config".to_owned(), config);
    }
    if let Some(timeout) = connect_timeout {
        shown.insert("connect_timeout".to_owned(), json!(duration(&timeout)));
    }
    if !typed_extension_protocol_options.is_empty() {
        let options = typed_extension_protocol_options.into_iter();
        let options: Map<String, Value> = options.map(|(name, any)| (name, protocol_options(any))).collect();
        shown.insert("typed_extension_protocol_options".to_owned(), options.into());
    }
    shown.into()
}

fn config_source(source: pb::ConfigSource) -> Value {
    let pb::ConfigSource {
        ads,
        resource_api_version,
    } = source;
    let version = if resource_api_version == pb::API_VERSION_V3 {
        json!("V3")
    } else {
        json!(resource_api_version)
    };
    match ads {
        Some(pb::Empty {}) => json!({ "ads": {}, "resource_api_version": version }),
        None => json!({ "resource_api_version": version }),
    }
}

fn protocol_options(any: pb::Any) -> Value {
    let pb::Any { type_url, value } = any;
    let decoded = pb::HttpProtocolOptions::decode(value).ok();
    let (HTTP_PROTOCOL_OPTIONS, Some(pb::HttpProtocolOptions { explicit_http_config })) = (type_url.as_str(), decoded)
    else {
        return json!({ "@type": type_url });
    };
    let mut shown = Map::new();
    if let Some(pb::ExplicitHttpConfig { http2_protocol_options }) = explicit_http_config {
        let config = match http2_protocol_options {
            Some(pb::Empty {}) => json!({ "http2_protocol_options": {} }),
            None => json!({}),
        };
        shown.insert("explicit_http_config".to_owned(), config);
    }
    shown.insert("@type".to_owned(), json!(type_url));
    shown.into()
}

fn assignment(assignment: pb::ClusterLoadAssignment) -> Value {
    let pb::ClusterLoadAssignment {
        cluster_name,
        endpoints,
    } = assignment;
    let localities: Vec<Value> = endpoints.into_iter().map(locality_endpoints).collect();
    json!({ "cluster_name": cluster_name, "endpoints": localities })
}

fn locality_endpoints(group: pb::LocalityLbEndpoints) -> Value {
    let pb::LocalityLbEndpoints {
        locality,
        lb_endpoints,
        load_balancing_weight,
        priority,
    } = group;
    let decoded = lb_endpoints.into_iter();
    let endpoints: Vec<Value> = decoded
        .filter_map(|bytes| pb::LbEndpoint::decode(bytes).ok())
        .map(endpoint)
        .collect();
    let mut shown = Map::new();
    shown.insert("locality".to_owned(), json!(locality.map(place)));
    shown.insert("lb_endpoints".to_owned(), endpoints.into());
    if let Some(pb::UInt32Value { value }) = load_balancing_weight {
        shown.insert("load_balancing_weight".to_owned(), json!(value));
    }
    if priority > 0 {
        shown.insert("priority".to_owned(), json!(priority));
    }
    shown.into()
}

fn place(locality: pb::Locality) -> Value {
    let pb::Locality { region, zone, sub_zone } = locality;
    let parts = [("region", region), ("zone", zone), ("sub_zone", sub_zone)];
    let set = parts.into_iter().filter(|(_, value)| !value.is_empty());
    set.map(|(key, value)| (key.to_owned(), json!(value)))
        .collect::<Map<_, _>>()
        .into()
}

fn endpoint(endpoint: pb::LbEndpoint) -> Value {
    let pb::LbEndpoint {
        endpoint,
        health_status,
        metadata,
        load_balancing_weight,
    } = endpoint;
    let address = endpoint.and_then(|pb::Endpoint { address }| address);
    let socket = address.and_then(|pb::Address { socket_address }| socket_address);
    let socket = socket.map(|pb::SocketAddress { address, port_value }| {
        json!({ "address": { "socket_address": { "address": address, "port_value": port_value } } })
    });
    json!({
        "endpoint": socket,
        "health_status": health(health_status),
        "metadata": metadata.map(filter_metadata),
        "load_balancing_weight": load_balancing_weight.map(|pb::UInt32Value { value }| value),
    })
}

fn health(status: i32) -> Value {
    match status {
        0 => json!("UNKNOWN"),
        1 => json!("HEALTHY"),
        2 => json!("UNHEALTHY"),
        3 => json!("DRAINING"),
        4 => json!("TIMEOUT"),
        5 => json!("DEGRADED"),
        other => json!(other),
    }
}

fn filter_metadata(metadata: pb::Metadata) -> Value {
    let pb::Metadata { filter_metadata } = metadata;
    let text = |pb::Value { string_value }| json!(string_value);
    let fields = |pb::Struct { fields }| -> Value {
        let fields = fields.into_iter().map(|(key, value)| (key, text(value)));
        fields.collect::<Map<_, _>>().into()
    };
    let namespaces = filter_metadata.into_iter();
    let namespaces: Map<String, Value> = namespaces.map(|(name, value)| (name, fields(value))).collect();
    json!({ "filter_metadata": namespaces })
}

/// Seconds with as many groups of three decimals as are needed: protobuf's own way.
fn duration(duration: &pb::Duration) -> String {
    let pb::Duration { seconds, nanos } = duration;
    let decimals = format!("{nanos:09}");
    let mut decimals = decimals.as_str();
    while let Some(shorter) = decimals.strip_suffix("000") {
        decimals = shorter;
    }
    if decimals.is_empty() {
        format!("{seconds}s")
    } else {
        format!("{seconds}.{decimals}s")
    }
}

#[cfg(test)]
mod tests;
