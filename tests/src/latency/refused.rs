//! How long it takes until the good ones of many new clusters are in use, when Envoy refuses the response for one bad.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::envoy::Envoy;
use crate::etcd::{Etcd, Version};
use crate::http::Http;
use crate::instance::{Instance, PREFIX, key};
use crate::leadsman::Leadsman;
use crate::process::free_port;
use crate::spoiler::{Fault, Spoiler};
use crate::wait::PATIENT;

/// The clusters that are new, and the one of them that Envoy does not take.
pub const CLUSTERS: usize = 100;
const CULPRIT: &str = "c50";

/// Writes the services into etcd at once, and waits until Envoy has the endpoints of all but one. `variant` is Envoy's
/// `api_type`.
///
/// # Errors
/// When they do not come.
pub async fn measure(variant: &str, fault: Fault) -> anyhow::Result<Duration> {
    let etcd = Etcd::start(Version::V36).await;
    // Somebody is there before, or an empty registry would prove nothing.
    let first = Instance::new(9001);
    etcd.put(&key("first", first.port), &first.record().to_string()).await;
    let source = format!(
        "{{ etcd: {{ endpoints: ['http://{}'], prefix: {PREFIX} }} }}",
        etcd.address()
    );
    let leadsman = Leadsman::start(&format!("sources: {{ tested: {source} }}\n")).await;
    let spoiler = Spoiler::start(leadsman.xds(), vec![fault(CULPRIT)]).await;
    let mut bootstrap = leadsman.bootstrap_via(spoiler.address(), "edge-1", free_port());
    bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!(variant);
    let envoy = Envoy::start(&bootstrap, 2).await;
    let http = Http::new();
    in_use(&http, &envoy, 1).await?;
    let names = (0..CLUSTERS).map(|number| format!("c{number:02}"));
    let records: Vec<(String, String)> = names
        .map(|name| (key(&name, first.port), first.record().to_string()))
        .collect();
    let begun = Instant::now();
    etcd.put_all(&records).await;
    in_use(&http, &envoy, CLUSTERS).await?;
    Ok(begun.elapsed())
}

/// Asks Envoy until it has so many clusters of ours with an endpoint: the one that was there, and all but the culprit.
async fn in_use(http: &Http, envoy: &Envoy, count: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let page = http.get(envoy.admin(), "/clusters").await?.text();
        let lines = page
            .lines()
            .filter(|line| line.ends_with(":9001::health_flags::healthy"));
        let seen = lines.count();
        if seen == count {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENT, "{seen} of {count} came in {PATIENT:?}");
    }
}
