//! Clusters and assignments in words.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::protobuf;
use prost::Message as _;
use serde::Serialize;
use serde_json::Value;

use super::Kind;

/// A line is for a person; `-o json` has every endpoint.
const ENDPOINTS_PER_LINE: usize = 8;

/// A resource of a response.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) version: String,
    #[serde(flatten)]
    content: Content,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Cluster(ShownCluster),
    Endpoints(Vec<ShownEndpoint>),
    /// No body: a heartbeat, or a bare version.
    Absent(()),
    /// A type or bytes this program does not understand.
    Undecoded(String),
}

#[derive(Debug, PartialEq, Serialize)]
struct ShownCluster {
    #[serde(rename = "type")]
    kind: String,
    lb_policy: String,
    connect_timeout: Option<String>,
    /// The name of its assignment; `None` when the cluster takes none.
    assignment: Option<String>,
    /// The extensions that hold protocol options.
    protocol_options: Vec<String>,
    metadata: Value,
}

#[derive(Debug, PartialEq, Serialize)]
struct ShownEndpoint {
    address: String,
    port: u32,
    health: String,
    /// `None` when it is unset, which weighs one.
    weight: Option<u32>,
    priority: u32,
    locality: ShownLocality,
    metadata: Value,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct ShownLocality {
    region: String,
    zone: String,
    sub_zone: String,
}

impl Shown {
    pub(super) fn decode(resource: &Resource) -> Self {
        Self {
            name: resource.name.clone(),
            version: resource.version.clone(),
            content: resource.resource.as_ref().map_or(Content::Absent(()), content),
        }
    }

    /// The assignment a cluster wants.
    pub(super) fn assignment_name(&self) -> Option<&str> {
        match &self.content {
            Content::Cluster(cluster) => cluster.assignment.as_deref(),
            Content::Endpoints(_) | Content::Absent(()) | Content::Undecoded(_) => None,
        }
    }

    pub(super) fn text(&self) -> String {
        let head = format!("{}@{}", self.name, self.version);
        match &self.content {
            Content::Cluster(cluster) => format!("{head} ({} {})", cluster.kind, cluster.lb_policy),
            Content::Absent(()) => format!("{head} (no body)"),
            Content::Undecoded(why) => format!("{head} ({why})"),
            Content::Endpoints(endpoints) => {
                let mut shown: Vec<String> = endpoints
                    .iter()
                    .take(ENDPOINTS_PER_LINE)
                    .map(ShownEndpoint::text)
                    .collect();
                let more = endpoints.len().saturating_sub(ENDPOINTS_PER_LINE);
                if more > 0 {
                    shown.push(format!("{more} more"));
                }
                format!("{head} [{}]", shown.join(", "))
            }
        }
    }
}

impl ShownEndpoint {
    fn text(&self) -> String {
        let host = if self.address.contains(':') {
            format!("[{}]", self.address)
        } else {
            self.address.clone()
        };
        format!("{host}:{} {} w{}", self.port, self.health, self.weight.unwrap_or(1))
    }
}

fn content(any: &protobuf::Any) -> Content {
    let decoded = if any.type_url == Kind::Cds.type_url() {
        cluster::Cluster::decode(any.value.as_slice()).map(|c| Content::Cluster(shown_cluster(&c)))
    } else if any.type_url == Kind::Eds.type_url() {
        endpoint::ClusterLoadAssignment::decode(any.value.as_slice()).map(|a| Content::Endpoints(shown_endpoints(&a)))
    } else {
        return Content::Undecoded(any.type_url.clone());
    };
    decoded.unwrap_or_else(|error| Content::Undecoded(error.to_string()))
}

fn shown_cluster(cluster: &cluster::Cluster) -> ShownCluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let (kind, eds) = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(_)) | None => {
            let kind = match &cluster.cluster_discovery_type {
                Some(ClusterDiscoveryType::Type(kind)) => *kind,
                Some(ClusterDiscoveryType::ClusterType(_)) | None => 0,
            };
            let named = DiscoveryType::try_from(kind);
            let word = named.map_or_else(|_| kind.to_string(), |kind| kind.as_str_name().to_owned());
            (word, named == Ok(DiscoveryType::Eds))
        }
        Some(ClusterDiscoveryType::ClusterType(custom)) => (custom.name.clone(), false),
    };
    let lb_policy = cluster::cluster::LbPolicy::try_from(cluster.lb_policy);
    let mut protocol_options: Vec<String> = cluster.typed_extension_protocol_options.clone().into_keys().collect();
    protocol_options.sort_unstable();
    ShownCluster {
        kind,
        lb_policy: lb_policy.map_or_else(|_| cluster.lb_policy.to_string(), |p| p.as_str_name().to_owned()),
        connect_timeout: cluster.connect_timeout.as_ref().map(duration),
        assignment: eds.then(|| assignment_of(cluster)),
        protocol_options,
        metadata: metadata(cluster.metadata.as_ref()),
    }
}

fn assignment_of(cluster: &cluster::Cluster) -> String {
    match &cluster.eds_cluster_config {
        Some(eds) if !eds.service_name.is_empty() => eds.service_name.clone(),
        Some(_) | None => cluster.name.clone(),
    }
}

fn shown_endpoints(assignment: &endpoint::ClusterLoadAssignment) -> Vec<ShownEndpoint> {
    let mut shown = Vec::new();
    for group in &assignment.endpoints {
        for member in &group.lb_endpoints {
            let (address, port) = host_and_port(member);
            let health = core::HealthStatus::try_from(member.health_status);
            let locality = group.locality.as_ref();
            shown.push(ShownEndpoint {
                address,
                port,
                health: health.map_or_else(
                    |_| member.health_status.to_string(),
                    |health| health.as_str_name().to_lowercase(),
                ),
                weight: member.load_balancing_weight.as_ref().map(|weight| weight.value),
                priority: group.priority,
                locality: locality.map_or_else(ShownLocality::default, |locality| ShownLocality {
                    region: locality.region.clone(),
                    zone: locality.zone.clone(),
                    sub_zone: locality.sub_zone.clone(),
                }),
                metadata: metadata(member.metadata.as_ref()),
            });
        }
    }
    shown
}

fn host_and_port(member: &endpoint::LbEndpoint) -> (String, u32) {
    use core::address::Address;
    use core::socket_address::PortSpecifier;
    use endpoint::lb_endpoint::HostIdentifier;
    let host = match &member.host_identifier {
        Some(HostIdentifier::Endpoint(host)) => host,
        Some(HostIdentifier::EndpointName(name)) => return (name.clone(), 0),
        None => return (String::new(), 0),
    };
    match host.address.as_ref().and_then(|address| address.address.as_ref()) {
        Some(Address::SocketAddress(socket)) => {
            let port = match socket.port_specifier {
                Some(PortSpecifier::PortValue(port)) => port,
                Some(PortSpecifier::NamedPort(_)) | None => 0,
            };
            (socket.address.clone(), port)
        }
        Some(Address::Pipe(pipe)) => (pipe.path.clone(), 0),
        Some(Address::EnvoyInternalAddress(_)) | None => (String::new(), 0),
    }
}

fn duration(duration: &protobuf::Duration) -> String {
    let seconds = u64::try_from(duration.seconds).unwrap_or(0);
    let nanos = u32::try_from(duration.nanos).unwrap_or(0);
    humantime::format_duration(std::time::Duration::from_secs(seconds) + std::time::Duration::from_nanos(nanos.into()))
        .to_string()
}

/// The untyped part of the metadata, one member a namespace; `null` when there is none.
fn metadata(metadata: Option<&core::Metadata>) -> Value {
    let Some(metadata) = metadata else {
        return Value::Null;
    };
    let namespaces: BTreeMap<String, Value> = metadata
        .filter_metadata
        .clone()
        .into_iter()
        .map(|(namespace, fields)| (namespace, object(fields)))
        .collect();
    Value::from_iter(namespaces)
}

/// prost's own recursion limit bounds the depth.
fn object(fields: protobuf::Struct) -> Value {
    let members: BTreeMap<String, Value> = fields
        .fields
        .into_iter()
        .map(|(key, value)| (key, json(value)))
        .collect();
    Value::from_iter(members)
}

fn json(value: protobuf::Value) -> Value {
    use protobuf::value::Kind;
    match value.kind {
        Some(Kind::NumberValue(number)) => Value::from(number),
        Some(Kind::StringValue(text)) => Value::from(text),
        Some(Kind::BoolValue(value)) => Value::from(value),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::NullValue(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn resource(type_url: &str, value: Vec<u8>) -> Resource {
        Resource {
            name: "orders".to_owned(),
            version: "v1".to_owned(),
            resource: Some(protobuf::Any {
                type_url: type_url.to_owned(),
                value,
            }),
            ..Resource::default()
        }
    }

    fn member(host: &str, port: u32) -> endpoint::LbEndpoint {
        let text = protobuf::Value {
            kind: Some(protobuf::value::Kind::StringValue("v2".to_owned())),
        };
        let fields = protobuf::Struct {
            fields: HashMap::from([("version".to_owned(), text)]),
        };
        endpoint::LbEndpoint {
            health_status: core::HealthStatus::Draining.into(),
            load_balancing_weight: Some(protobuf::UInt32Value { value: 7 }),
            metadata: Some(core::Metadata {
                filter_metadata: HashMap::from([("envoy.lb".to_owned(), fields)]),
                ..core::Metadata::default()
            }),
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
                address: Some(core::Address {
                    address: Some(core::address::Address::SocketAddress(core::SocketAddress {
                        address: host.to_owned(),
                        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
                        ..core::SocketAddress::default()
                    })),
                }),
                ..endpoint::Endpoint::default()
            })),
        }
    }

    #[test]
    fn an_assignment_is_shown_with_every_endpoint() {
        let assignment = endpoint::ClusterLoadAssignment {
            cluster_name: "orders".to_owned(),
            endpoints: vec![endpoint::LocalityLbEndpoints {
                locality: Some(core::Locality {
                    region: "eu".to_owned(),
                    ..core::Locality::default()
                }),
                lb_endpoints: vec![member("10.0.0.1", 80), member("::1", 81)],
                priority: 1,
                ..endpoint::LocalityLbEndpoints::default()
            }],
            ..endpoint::ClusterLoadAssignment::default()
        };
        let shown = Shown::decode(&resource(Kind::Eds.type_url(), assignment.encode_to_vec()));
        assert_eq!(
            shown.text(),
            "orders@v1 [10.0.0.1:80 draining w7, [::1]:81 draining w7]"
        );
        assert_eq!(
            serde_json::to_value(&shown).unwrap()["endpoints"][0],
            serde_json::json!({
                "address": "10.0.0.1", "port": 80, "health": "draining", "weight": 7, "priority": 1,
                "locality": { "region": "eu", "zone": "", "sub_zone": "" },
                "metadata": { "envoy.lb": { "version": "v2" } },
            })
        );
    }

    #[test]
    fn a_cluster_names_its_assignment() {
        let cluster = cluster::Cluster {
            name: "orders".to_owned(),
            cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
                cluster::cluster::DiscoveryType::Eds.into(),
            )),
            connect_timeout: Some(protobuf::Duration {
                seconds: 0,
                nanos: 250_000_000,
            }),
            ..cluster::Cluster::default()
        };
        let shown = Shown::decode(&resource(Kind::Cds.type_url(), cluster.encode_to_vec()));
        assert_eq!(shown.text(), "orders@v1 (EDS ROUND_ROBIN)");
        assert_eq!(shown.assignment_name(), Some("orders"));
        assert_eq!(
            serde_json::to_value(&shown).unwrap(),
            serde_json::json!({
                "name": "orders", "version": "v1",
                "cluster": {
                    "type": "EDS", "lb_policy": "ROUND_ROBIN", "connect_timeout": "250ms", "assignment": "orders",
                    "protocol_options": [], "metadata": null,
                },
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_said_and_nothing_else_is_lost() {
        let broken = Shown::decode(&resource(Kind::Cds.type_url(), vec![0xff]));
        assert!(broken.text().starts_with("orders@v1 ("), "{}", broken.text());
        let other = Shown::decode(&resource("type.googleapis.com/x.Y", Vec::new()));
        assert_eq!(other.text(), "orders@v1 (type.googleapis.com/x.Y)");
        let bare = Shown::decode(&Resource {
            name: "a".to_owned(),
            ..Resource::default()
        });
        assert_eq!(bare.text(), "a@ (no body)");
        assert_eq!(
            serde_json::to_value(&bare).unwrap(),
            serde_json::json!({ "name": "a", "version": "", "absent": null })
        );
    }
}
