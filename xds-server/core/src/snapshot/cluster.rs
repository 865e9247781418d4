//! A service to its `Cluster`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use serde::Serialize;

use super::pb;
use crate::model::{MAX_NAME_BYTES, ServiceName};
use crate::policy::{Istio, Protocol, ServiceSettings};

const HTTP_PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const HTTP_PROTOCOL_OPTIONS_URL: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The name of a cluster: the service's own, with everything but `A-Z a-z 0-9 . _ : / | -` escaped as `%XX`, and so is the
/// colon of a leading `xdstp:`, which Envoy would read as an address.
///
/// Escaping loses nothing, so two services never share a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ClusterName(Arc<str>);

impl ClusterName {
    /// The cluster of a service, or of one of its protocols where instances register several addresses. `None` when the
    /// escaped name is longer than [`MAX_NAME_BYTES`], which Envoy's statistics could not bear.
    pub fn derive(service: &ServiceName, scheme: Option<&str>) -> Option<Self> {
        let mut name = String::with_capacity(service.as_str().len());
        escape(service.as_str(), &mut name);
        if let Some(scheme) = scheme {
            name.push('@');
            escape(scheme, &mut name);
        }
        (name.len() <= MAX_NAME_BYTES).then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn escape(text: &str, into: &mut String) {
    let text = match text.strip_prefix("xdstp:") {
        Some(rest) => {
            into.push_str("xdstp%3A");
            rest
        }
        None => text,
    };
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"._:/|-".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What of the settings reaches the cluster, its assignment, the route to it and its entry in Istio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSpec {
    pub protocol: Protocol,
    pub connect_timeout: Duration,
    /// Of the route.
    pub timeout: Duration,
    /// Of the assignment.
    pub weight_localities: bool,
    /// Of the entry.
    pub istio: Option<Istio>,
}

impl From<&ServiceSettings> for ClusterSpec {
    fn from(settings: &ServiceSettings) -> Self {
        Self {
            protocol: settings.protocol,
            connect_timeout: settings.connect_timeout,
            timeout: settings.timeout,
            weight_localities: settings.weight_localities,
            istio: settings.istio.clone(),
        }
    }
}

/// The encoded `Cluster`: endpoints by EDS over the same stream, which is what makes the order of changes hold.
pub(super) fn encode(name: &ClusterName, spec: &ClusterSpec) -> Bytes {
    let ads = pb::ConfigSource {
        ads: Some(pb::Empty {}),
        resource_api_version: pb::API_VERSION_V3,
    };
    let cluster = pb::Cluster {
        name: name.as_str().to_owned(),
        r#type: pb::DISCOVERY_TYPE_EDS,
        eds_cluster_config: Some(pb::EdsClusterConfig { eds_config: Some(ads) }),
        connect_timeout: Some(spec.connect_timeout.into()),
        typed_extension_protocol_options: match spec.protocol {
            Protocol::Http1 | Protocol::Tcp => BTreeMap::new(),
            Protocol::Http2 | Protocol::Grpc => BTreeMap::from([(HTTP_PROTOCOL_OPTIONS.to_owned(), http2())]),
        },
    };
    cluster.encode_to_vec().into()
}

fn http2() -> pb::Any {
    let http2 = pb::ExplicitHttpConfig {
        http2_protocol_options: Some(pb::Empty {}),
    };
    let options = pb::HttpProtocolOptions {
        explicit_http_config: Some(http2),
    };
    pb::Any {
        type_url: HTTP_PROTOCOL_OPTIONS_URL.to_owned(),
        value: options.encode_to_vec().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(service: &str, scheme: Option<&str>, cluster: Option<&str>) {
        let derived = ClusterName::derive(&ServiceName::new(service).unwrap(), scheme);
        assert_eq!(derived.as_ref().map(ClusterName::as_str), cluster);
    }

    #[test]
    fn a_cluster_has_the_name_of_its_service_and_hostile_characters_are_escaped() {
        check("orders", None, Some("orders"));
        check(
            "providers:com.acme.Orders:1.0:g",
            None,
            Some("providers:com.acme.Orders:1.0:g"),
        );
        check("orders", Some("grpc"), Some("orders@grpc"));
        check("a b%", None, Some("a%20b%25"));
        check("orders@grpc", None, Some("orders%40grpc"));
        check("xdstp://orders:1", None, Some("xdstp%3A//orders:1"));
        check("orders", Some("xdstp:"), Some("orders@xdstp%3A"));
        check("été", None, Some("%C3%A9t%C3%A9"));
        check(&"é".repeat(100), None, None);
    }
}
