//! What an Envoy holds, read from its admin pages. Its JSON comes from outside: whatever is not as expected is not there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// The dynamic part of an Envoy's configuration.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Held {
    /// In use.
    pub(super) clusters: BTreeMap<String, Value>,
    /// Received, and waiting for their endpoints: what was in use before still is.
    pub(super) warming: BTreeMap<String, Value>,
    /// By cluster; those of clusters of the bootstrap too, which may take theirs from a server.
    pub(super) endpoints: BTreeMap<String, Members>,
    /// The clusters of the bootstrap: no server can change them.
    pub(super) fixed: BTreeMap<String, Value>,
}

/// The endpoints of a cluster by address.
pub(super) type Members = BTreeMap<String, Member>;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    /// As EDS said it, in Envoy's capitals.
    pub(super) health: String,
    pub(super) weight: u64,
    /// `region/zone/sub_zone`.
    pub(super) locality: String,
    pub(super) priority: u64,
    pub(super) metadata: Value,
}

impl Held {
    /// From `/config_dump?include_eds` and `/clusters?format=json`.
    pub(super) fn read(dump: &Value, statuses: &Value) -> Self {
        let mut held = Self::default();
        for config in items(&dump["configs"]) {
            clusters(&config["dynamic_active_clusters"], &mut held.clusters);
            clusters(&config["dynamic_warming_clusters"], &mut held.warming);
            clusters(&config["static_clusters"], &mut held.fixed);
            for list in ["dynamic_endpoint_configs", "static_endpoint_configs"] {
                for entry in items(&config[list]) {
                    let assignment = &entry["endpoint_config"];
                    held.endpoints
                        .insert(text(&assignment["cluster_name"]), members(assignment));
                }
            }
        }
        held.refine_health(statuses);
        held
    }

    /// In the dump a draining endpoint is an unhealthy one.
    fn refine_health(&mut self, statuses: &Value) {
        for cluster in items(&statuses["cluster_statuses"]) {
            let Some(members) = self.endpoints.get_mut(&text(&cluster["name"])) else {
                continue;
            };
            for host in items(&cluster["host_statuses"]) {
                let said = host["health_status"]["eds_health_status"].as_str();
                if let (Some(member), Some(said)) = (members.get_mut(&address(&host["address"])), said) {
                    said.clone_into(&mut member.health);
                }
            }
        }
    }

    /// Whether a cluster is in use.
    pub(super) fn uses(&self, cluster: &str) -> bool {
        self.clusters.contains_key(cluster) || self.fixed.contains_key(cluster)
    }
}

/// The endpoints of a `ClusterLoadAssignment`.
pub(super) fn members(assignment: &Value) -> Members {
    let mut members = Members::new();
    for group in items(&assignment["endpoints"]) {
        let place = &group["locality"];
        let parts = ["region", "zone", "sub_zone"].map(|part| text(&place[part]));
        let locality = parts.join("/").trim_end_matches('/').to_owned();
        for endpoint in items(&group["lb_endpoints"]) {
            let health = endpoint["health_status"].as_str().unwrap_or("UNKNOWN");
            let member = Member {
                health: health.to_owned(),
                weight: endpoint["load_balancing_weight"].as_u64().unwrap_or(1),
                locality: locality.clone(),
                priority: group["priority"].as_u64().unwrap_or(0),
                metadata: endpoint["metadata"]["filter_metadata"].clone(),
            };
            members.insert(address(&endpoint["endpoint"]["address"]), member);
        }
    }
    members
}

fn clusters(list: &Value, into: &mut BTreeMap<String, Value>) {
    for entry in items(list) {
        let mut cluster = entry["cluster"].clone();
        if let Some(members) = cluster.as_object_mut() {
            members.remove("@type");
        }
        into.insert(text(&cluster["name"]), cluster);
    }
}

/// `host:port` whatever way the host is written; what is no socket is shown as it stands.
fn address(address: &Value) -> String {
    let socket = &address["socket_address"];
    let host = socket["address"].as_str().and_then(|host| host.parse::<IpAddr>().ok());
    let port = socket["port_value"].as_u64().and_then(|port| u16::try_from(port).ok());
    match (host, port) {
        (Some(host), Some(port)) => SocketAddr::new(host, port).to_string(),
        (None, _) | (_, None) => address.to_string(),
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
