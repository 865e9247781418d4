//! The part of Envoy's API that we publish, as messages that encode deterministically.
//!
//! The generated crate for Envoy's whole API brings the transport with it and keeps protobuf maps in hash maps, so equal
//! messages encode to different bytes. These few messages have the same field numbers and no hash maps; a test of the
//! server decodes what they encode with the generated crate and compares field by field.
//! What Istio reads is in [`istio`]. Sources: `envoy/config/{cluster,endpoint,core}/v3`, `envoy/service/discovery/v3/discovery.proto`.

mod frame;
pub mod istio;

use std::collections::BTreeMap;

use bytes::Bytes;

pub(crate) use frame::{DeltaResponseFrame, ResponseFrame};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
        }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UInt32Value {
    #[prost(uint32, tag = "1")]
    pub value: u32,
}

/// `envoy.service.discovery.v3.Resource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub name: String,
}

/// Field 2 of `envoy.service.discovery.v3.DeltaDiscoveryResponse`, once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceField {
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Resource>,
}

/// `envoy.config.cluster.v3.Cluster`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cluster {
    #[prost(string, tag = "1")]
    pub name: String,
    /// `DiscoveryType`; `EDS` is 3.
    #[prost(int32, tag = "2")]
    pub r#type: i32,
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    #[prost(btree_map = "string, message", tag = "36")]
    pub typed_extension_protocol_options: BTreeMap<String, Any>,
}

pub const DISCOVERY_TYPE_EDS: i32 = 3;

#[derive(Clone, PartialEq, prost::Message)]
pub struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
}

/// `envoy.config.core.v3.ConfigSource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigSource {
    #[prost(message, optional, tag = "3")]
    pub ads: Option<Empty>,
    /// `ApiVersion`; `V3` is 2.
    #[prost(int32, tag = "6")]
    pub resource_api_version: i32,
}

pub const API_VERSION_V3: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpProtocolOptions {
    #[prost(message, optional, tag = "3")]
    pub explicit_http_config: Option<ExplicitHttpConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExplicitHttpConfig {
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Empty>,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
}

/// `envoy.config.endpoint.v3.LocalityLbEndpoints`; its endpoints are already encoded, which is the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub lb_endpoints: Vec<Bytes>,
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<UInt32Value>,
    #[prost(uint32, tag = "5")]
    pub priority: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Locality {
    #[prost(string, tag = "1")]
    pub region: String,
    #[prost(string, tag = "2")]
    pub zone: String,
    #[prost(string, tag = "3")]
    pub sub_zone: String,
}

/// `envoy.config.endpoint.v3.LbEndpoint`
#[derive(Clone, PartialEq, prost::Message)]
pub struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    pub endpoint: Option<Endpoint>,
    /// `HealthStatus`
    #[prost(int32, tag = "2")]
    pub health_status: i32,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub load_balancing_weight: Option<UInt32Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Address {
    #[prost(message, optional, tag = "1")]
    pub socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SocketAddress {
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(uint32, tag = "3")]
    pub port_value: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// A `google.protobuf.Value` that is a string, the only kind we publish.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}

/// `envoy.config.listener.v3.Listener`, of which only a client without sockets of its own can make something.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listener {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`; either `rds` or `route_config`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpConnectionManager {
    #[prost(string, tag = "2")]
    pub stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub rds: Option<Rds>,
    #[prost(message, optional, tag = "4")]
    pub route_config: Option<RouteConfiguration>,
    #[prost(message, repeated, tag = "5")]
    pub http_filters: Vec<HttpFilter>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rds {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
}

/// `envoy.config.route.v3.RouteConfiguration`
#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub virtual_hosts: Vec<VirtualHost>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct VirtualHost {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "2")]
    pub domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub routes: Vec<Route>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Route {
    #[prost(message, optional, tag = "1")]
    pub r#match: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    pub route: Option<RouteAction>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteMatch {
    /// In a `oneof`, so written even when it is empty, which is every path.
    #[prost(string, optional, tag = "1")]
    pub prefix: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RouteAction {
    #[prost(string, tag = "1")]
    pub cluster: String,
    #[prost(message, optional, tag = "8")]
    pub timeout: Option<Duration>,
}
