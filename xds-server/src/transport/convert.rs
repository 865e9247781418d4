//! Envoy's request to ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use leadsman_core::model::Locality;
use leadsman_core::xds::{Node, Request};

/// Versions that are not ours (another control plane's) are versions we know nothing of.
pub(super) fn request(request: DeltaDiscoveryRequest) -> Request {
    let shared = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
    let versions = request.initial_resource_versions.into_iter();
    let initial_versions: BTreeMap<Arc<str>, _> = versions
        .map(|(name, version)| (Arc::from(name), version.parse().ok()))
        .collect();
    Request {
        node: request.node.map(node),
        type_url: request.type_url,
        subscribe: shared(request.resource_names_subscribe),
        unsubscribe: shared(request.resource_names_unsubscribe),
        initial_versions,
        response_nonce: request.response_nonce,
        error_detail: request.error_detail.map(|status| status.message),
    }
}

fn node(node: core_pb::Node) -> Node {
    let version = match node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version,
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
            .version
            .map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            .unwrap_or_default(),
        None => String::new(),
    };
    let locality = node.locality.map(|l| Locality {
        region: l.region,
        zone: l.zone,
        sub_zone: l.sub_zone,
    });
    Node {
        id: node.id,
        cluster: node.cluster,
        locality: locality.unwrap_or_default(),
        user_agent: format!("{} {version}", node.user_agent_name).trim().to_owned(),
    }
}
