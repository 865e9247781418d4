//! An Envoy on a scripted server, or on ours with somebody who listens in between; and the words of the scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, HealthStatus, SocketAddress,
};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::protobuf;
use leadsman_tests::ads::{self, Ads};
use leadsman_tests::envoy::Envoy;
use leadsman_tests::instance::{Instance, document};
use leadsman_tests::leadsman::{Leadsman, replace, run};
use leadsman_tests::process::free_port;
use leadsman_tests::wait::{PATIENT, until, until_ok};
use serde_json::{Value, json};
use tempfile::TempDir;

/// What Envoy does at once takes it a few milliseconds, and what it does not do within this it does not do at once.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);
/// How long the clusters of some scripts wait for their endpoints: long enough to look at Envoy meanwhile.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// A scripted server and an Envoy on it, which has asked for its clusters and for nothing else.
pub(crate) async fn scripted(version: &str) -> (Ads, Envoy) {
    let mut ads = Ads::scripted().await;
    let envoy = Envoy::launch_version(version, &bootstrap(ads.address()), 1);
    assert_eq!(ads.hears(2).await, ["stream", "cds"]);
    (ads, envoy)
}

/// As [`scripted`], with clusters that have their endpoints, on the port 9001 each: Envoy is past its start.
pub(crate) async fn begun(version: &str, clusters: &[&Cluster]) -> (Ads, Envoy) {
    let (mut ads, envoy) = scripted(version).await;
    let resources: Vec<Resource> = clusters.iter().map(|cluster| ads::cluster("1", cluster)).collect();
    ads.say(ads::Kind::Clusters, &resources, &[]).await;
    let assignments = clusters.iter().map(|cluster| assignment(&cluster.name, &[host(9001)]));
    let resources: Vec<Resource> = assignments.map(|all| ads::endpoints("1", &all)).collect();
    ads.say(ads::Kind::Endpoints, &resources, &[]).await;
    // The subscription, and two acknowledgements.
    ads.hears(3).await;
    until(PATIENT, "Envoy to be ready", async || envoy.is_ready().await).await;
    for cluster in clusters {
        has(&envoy, &cluster.name, &[9001]).await;
    }
    (ads, envoy)
}

/// A control plane on files.
pub(crate) async fn leadsman(services: &[(&str, &[Instance])]) -> Leadsman {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    for (service, instances) in services {
        let path = directory.path().join(format!("services/{service}.yaml"));
        replace(&path, &document(service, instances.iter().copied()));
    }
    Leadsman::start_in(directory, FILES).await
}

/// The source of [`leadsman`].
pub(crate) const FILES: &str = "sources: { local: { file: { path: services/ } } }\n";

pub(crate) fn write(leadsman: &Leadsman, service: &str, text: &str) {
    replace(&leadsman.directory().join(format!("services/{service}.yaml")), text);
}

pub(crate) fn remove(leadsman: &Leadsman, service: &str) {
    fs::remove_file(leadsman.directory().join(format!("services/{service}.yaml"))).unwrap();
}

/// What `leadsman bootstrap` prints for an Envoy of a server.
pub(crate) fn bootstrap(xds: SocketAddr) -> Value {
    let (xds, admin) = (xds.to_string(), format!("127.0.0.1:{}", free_port()));
    let printed = run(&["bootstrap", "--node-id", "edge-1", "--xds", &xds, "--admin", &admin]);
    assert!(printed.status.success(), "{printed:?}");
    serde_saphyr::from_str(&String::from_utf8_lossy(&printed.stdout)).unwrap()
}

/// Adds a cluster of fixed name to a bootstrap, whose endpoints come over the same stream.
pub(crate) fn add_static_cluster(bootstrap: &mut Value, name: &str, service: &str) {
    let config = json!({ "resource_api_version": "V3", "ads": {} });
    let cluster = json!({ "name": name, "type": "EDS",
        "eds_cluster_config": { "service_name": service, "eds_config": config } });
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut();
    clusters.unwrap().push(cluster);
}

/// Waits until the cluster of Envoy has hosts on exactly these ports.
pub(crate) async fn has(envoy: &Envoy, cluster: &str, ports: &[u16]) {
    let expected: BTreeSet<u16> = ports.iter().copied().collect();
    until_ok(PATIENT, &format!("{cluster} to have {expected:?}"), async || {
        let clusters = envoy.clusters().await;
        match ports_of(&clusters, cluster) {
            Some(seen) if seen == expected => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
}

/// The ports of the hosts of an active cluster.
pub(crate) async fn ports(envoy: &Envoy, cluster: &str) -> Option<BTreeSet<u16>> {
    ports_of(&envoy.clusters().await, cluster)
}

fn ports_of<H>(clusters: &BTreeMap<String, BTreeMap<SocketAddr, H>>, cluster: &str) -> Option<BTreeSet<u16>> {
    let hosts = clusters.get(cluster)?;
    Some(hosts.keys().map(SocketAddr::port).collect())
}

/// Waits until a counter or a gauge has a value.
pub(crate) async fn counts(envoy: &Envoy, name: &str, expected: u64) {
    until_ok(PATIENT, &format!("{name} to be {expected}"), async || {
        match envoy.stat(name).await {
            Some(value) if value == expected => Ok(()),
            value => Err(value),
        }
    })
    .await;
}

/// A counter or a gauge of a cluster; zero before it is there.
pub(crate) async fn stat(envoy: &Envoy, cluster: &str, name: &str) -> u64 {
    let name = format!("cluster.{cluster}.{name}");
    envoy.stat(&name).await.unwrap_or_default()
}

/// A cluster of endpoints that come over the same stream.
pub(crate) fn cluster(name: &str) -> Cluster {
    let source = ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: 2,
        ..Default::default()
    };
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(seconds(1)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(source),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same with another content.
pub(crate) fn changed(cluster: &Cluster) -> Cluster {
    Cluster {
        connect_timeout: Some(seconds(3)),
        ..cluster.clone()
    }
}

/// The same, which does not wait long for its endpoints.
pub(crate) fn impatient(mut cluster: Cluster) -> Cluster {
    let config = cluster.eds_cluster_config.as_mut();
    if let Some(source) = config.and_then(|config| config.eds_config.as_mut()) {
        source.initial_fetch_timeout = Some(seconds(SOON.as_secs().cast_signed()));
    }
    cluster
}

/// The same with the policy that adds weights up.
pub(crate) fn ring_hash(cluster: Cluster) -> Cluster {
    Cluster {
        lb_policy: LbPolicy::RingHash.into(),
        ..cluster
    }
}

/// A cluster that every Envoy finds wrong when it makes it: one name to look up, and no name.
pub(crate) fn impossible(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        connect_timeout: Some(seconds(1)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::LogicalDns.into())),
        ..Default::default()
    }
}

pub(crate) fn assignment(cluster: &str, hosts: &[LbEndpoint]) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints {
        lb_endpoints: hosts.to_vec(),
        ..Default::default()
    };
    ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: if hosts.is_empty() { Vec::new() } else { vec![locality] },
        ..Default::default()
    }
}

/// A host on a port of 127.0.0.1.
pub(crate) fn host(port: u16) -> LbEndpoint {
    let socket = SocketAddress {
        address: "127.0.0.1".to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    let endpoint = Endpoint {
        address: Some(Address {
            address: Some(Kind::SocketAddress(socket)),
        }),
        ..Default::default()
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    }
}

pub(crate) fn weighing(host: LbEndpoint, weight: u32) -> LbEndpoint {
    LbEndpoint {
        load_balancing_weight: Some(protobuf::UInt32Value { value: weight }),
        ..host
    }
}

pub(crate) fn being(host: LbEndpoint, health: HealthStatus) -> LbEndpoint {
    LbEndpoint {
        health_status: health.into(),
        ..host
    }
}

/// The endpoints of a cluster, on these ports, as a resource.
pub(crate) fn on(version: &str, cluster: &str, ports: &[u16]) -> Resource {
    let hosts: Vec<LbEndpoint> = ports.iter().map(|port| host(*port)).collect();
    ads::endpoints(version, &assignment(cluster, &hosts))
}

fn seconds(seconds: i64) -> protobuf::Duration {
    protobuf::Duration { seconds, nanos: 0 }
}

/// Lines of which it does not matter which came first.
pub(crate) fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The same, and it does not matter which answers they belong to either.
pub(crate) fn unnumbered(lines: Vec<String>) -> Vec<String> {
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let without = |line: String| {
        line.split(' ')
            .filter(|word| !is_number(word))
            .collect::<Vec<_>>()
            .join(" ")
    };
    sorted(lines.into_iter().map(without).collect())
}
