//! One name of every kind, as BIND serves it.

use leadsman_tests::dns::{Change, Named};
use leadsman_tests::leadsman::Leadsman;
use serde::Deserialize;
use serde_json::Value;

use crate::compare;

#[derive(Deserialize)]
struct Zone {
    names: Value,
    records: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_name_in_dns() {
    let zone: Zone = serde_saphyr::from_str(include_str!("dns.yaml")).unwrap();
    let named = Named::start().await;
    let changes: Vec<Change> = zone.records.into_iter().map(Change::Add).collect();
    named.update(&changes).await;
    let (names, server) = (zone.names, named.address());
    let config = format!("sources: {{ zone: {{ dns: {{ names: {names}, servers: ['{server}'] }} }} }}\n");
    let leadsman = Leadsman::start(&config).await;
    compare(&leadsman, "dns").await;
}
