//! What Envoy makes of the health of endpoints.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::LbEndpoint;
use leadsman_core::model::Health;
use leadsman_tests::ads;
use leadsman_tests::ads::Kind::Endpoints;
use leadsman_tests::envoy::Envoy;
use leadsman_tests::instance::Instance;

use crate::stage::{assignment, begun, being, bootstrap, cluster, has, host, leadsman};

crate::observations! {
    l28_every_health_counts_as_envoy_says
    l28_every_health_of_ours_counts_so
}

/// The gauges of a cluster.
async fn membership(envoy: &Envoy, cluster: &str) -> BTreeMap<String, u64> {
    let filter = format!("^cluster\\.{cluster}\\.membership_(total|healthy|degraded|excluded)$");
    let stats = envoy.stats(&filter).await.into_iter();
    stats
        .filter_map(|(name, value)| Some((name.rsplit_once('_')?.1.to_owned(), value)))
        .collect()
}

fn expected(counts: [(&str, u64); 4]) -> BTreeMap<String, u64> {
    counts
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}

async fn l28_every_health_counts_as_envoy_says(version: &str) {
    let all = [
        (9001, HealthStatus::Unknown),
        (9002, HealthStatus::Healthy),
        (9003, HealthStatus::Unhealthy),
        (9004, HealthStatus::Draining),
        (9005, HealthStatus::Timeout),
        (9006, HealthStatus::Degraded),
    ];
    let (mut ads, envoy) = begun(version, &[&cluster("a")]).await;
    let hosts: Vec<LbEndpoint> = all.map(|(port, health)| being(host(port), health)).to_vec();
    ads.say(Endpoints, &[ads::endpoints("2", &assignment("a", &hosts))], &[])
        .await;
    assert_eq!(ads.hears(1).await, ["eds ack 3"]);
    has(&envoy, "a", &all.map(|(port, _)| port)).await;
    // The unhealthy and the timed out are the two that are in the total only.
    let counts = [("total", 6), ("healthy", 2), ("degraded", 1), ("excluded", 1)];
    assert_eq!(membership(&envoy, "a").await, expected(counts));
}

async fn l28_every_health_of_ours_counts_so(version: &str) {
    let all = [
        (9001, Health::Unknown),
        (9002, Health::Healthy),
        (9003, Health::Unhealthy),
        (9004, Health::Draining),
        (9006, Health::Degraded),
    ];
    let instances = all.map(|(port, health)| Instance::new(port).being(health));
    let leadsman = leadsman(&[("a", &instances)]).await;
    let envoy = Envoy::start_version(version, &bootstrap(leadsman.xds()), 1).await;
    has(&envoy, "a", &all.map(|(port, _)| port)).await;
    let counts = [("total", 5), ("healthy", 2), ("degraded", 1), ("excluded", 1)];
    assert_eq!(membership(&envoy, "a").await, expected(counts));
    envoy.assert_clean().await;
}
