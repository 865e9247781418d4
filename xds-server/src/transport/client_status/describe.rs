//! One client in the words of Envoy's status API.

use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::admin::v3::{
    ClientResourceStatus, ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump, RoutesConfigDump,
    UpdateFailureState,
};
use envoy_types::pb::envoy::config::core::v3 as core_pb;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::per_xds_config::PerXdsConfig as Dump;
use envoy_types::pb::envoy::service::status::v3::{ClientConfig, ConfigStatus, PerXdsConfig};
use envoy_types::pb::google::protobuf::{Any, Timestamp};
use leadsman_core::snapshot::ResourceType;
use leadsman_core::xds::Node;

use crate::content;
use crate::holdings::{Holding, Holdings, Status};
use crate::proxies::Refusal;

/// `contents` is whether the resources themselves are wanted.
pub(super) fn client(node: &Node, holdings: Vec<Holdings>, contents: bool) -> ClientConfig {
    let requested: Vec<Holdings> = holdings.into_iter().filter(|of| of.report.requested).collect();
    let generic = requested.iter().flat_map(|of| {
        let resources = of.resources.iter();
        resources.map(move |holding| resource(of.kind, holding, of.refusal.as_ref(), contents))
    });
    #[expect(deprecated, reason = "the only place of the API for the status of a whole type")]
    ClientConfig {
        node: Some(describe_node(node)),
        generic_xds_configs: generic.collect(),
        xds_config: requested.iter().filter_map(of_type).collect(),
        ..ClientConfig::default()
    }
}

/// The status of a type; what is in it stands among the generic ones. The API knows only types of Envoy's here.
fn of_type(holdings: &Holdings) -> Option<PerXdsConfig> {
    let dump = match holdings.kind {
        ResourceType::Cluster => Dump::ClusterConfig(ClustersConfigDump::default()),
        ResourceType::Endpoint => Dump::EndpointConfig(EndpointsConfigDump::default()),
        ResourceType::Listener => Dump::ListenerConfig(ListenersConfigDump::default()),
        ResourceType::Route => Dump::RouteConfig(RoutesConfigDump::default()),
        ResourceType::ServiceEntry => return None,
    };
    Some(PerXdsConfig {
        status: config_status(Some(holdings.tally().worst())).into(),
        per_xds_config: Some(dump),
        ..PerXdsConfig::default()
    })
}

fn resource(kind: ResourceType, holding: &Holding, refusal: Option<&Refusal>, contents: bool) -> GenericXdsConfig {
    let status = holding.status();
    let version = holding.published.as_ref().map(|resource| resource.version.to_string());
    let content = holding.published.as_ref().filter(|_| contents);
    let failed = refusal.filter(|_| status == Some(Status::Error));
    GenericXdsConfig {
        type_url: kind.type_url().to_owned(),
        name: holding.name.to_string(),
        version_info: version.clone().unwrap_or_default(),
        xds_config: content.and_then(|resource| content::any(resource)).map(|any| Any {
            type_url: any.type_url,
            value: any.value.into(),
        }),
        config_status: config_status(status).into(),
        client_status: client_status(status).into(),
        error_state: failed.map(|refusal| UpdateFailureState {
            last_update_attempt: timestamp(refusal.at),
            details: refusal.message.clone(),
            version_info: version.unwrap_or_default(),
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}

/// The API has no word for a name that is asked for and does not exist.
fn config_status(status: Option<Status>) -> ConfigStatus {
    match status {
        None => ConfigStatus::Unknown,
        Some(Status::Synced) => ConfigStatus::Synced,
        Some(Status::NotSent) => ConfigStatus::NotSent,
        Some(Status::Stale) => ConfigStatus::Stale,
        Some(Status::Error) => ConfigStatus::Error,
    }
}

fn client_status(status: Option<Status>) -> ClientResourceStatus {
    match status {
        None => ClientResourceStatus::DoesNotExist,
        Some(Status::Synced) => ClientResourceStatus::Acked,
        Some(Status::NotSent | Status::Stale) => ClientResourceStatus::Requested,
        Some(Status::Error) => ClientResourceStatus::Nacked,
    }
}

fn describe_node(node: &Node) -> core_pb::Node {
    let (agent, version) = node.user_agent.rsplit_once(' ').unwrap_or((&node.user_agent, ""));
    let locality = &node.locality;
    core_pb::Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        locality: Some(core_pb::Locality {
            region: locality.region.clone(),
            zone: locality.zone.clone(),
            sub_zone: locality.sub_zone.clone(),
        }),
        user_agent_name: agent.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(version.to_owned())),
        ..core_pb::Node::default()
    }
}

fn timestamp(at: SystemTime) -> Option<Timestamp> {
    let since = at.duration_since(UNIX_EPOCH).ok()?;
    Some(Timestamp {
        seconds: i64::try_from(since.as_secs()).ok()?,
        nanos: i32::try_from(since.subsec_nanos()).ok()?,
    })
}

#[cfg(test)]
mod tests;
