//! One registration of every layout, as its framework sends it to an agent.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_tests::consul::{Consul, Setup};
use leadsman_tests::leadsman::Leadsman;
use serde::Deserialize;
use serde_json::Value;

use crate::compare;

#[derive(Deserialize)]
struct Record {
    registration: String,
    /// The check that the framework keeps passing.
    #[serde(default)]
    alive: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layout_in_consul() {
    let records: BTreeMap<String, Record> = serde_saphyr::from_str(include_str!("consul.yaml")).unwrap();
    let consul = Consul::start(Setup::default()).await;
    for Record { registration, .. } in records.values() {
        let registration: Value = serde_json::from_str(registration).unwrap();
        consul.put("/v1/agent/service/register", &registration).await;
    }
    let alive = async || {
        for check in records.values().filter_map(|record| record.alive.as_ref()) {
            consul.put(&format!("/v1/agent/check/pass/{check}"), &Value::Null).await;
        }
    };
    alive().await;
    let endpoint = consul.address();
    let leadsman = Leadsman::start(&format!(
        "sources: {{ agents: {{ consul: {{ endpoints: ['http://{endpoint}'], discovery: 200ms }} }} }}\n"
    ))
    .await;
    // Frameworks go on, or their checks would be critical after a while.
    let keep_alive = async {
        let mut beat = tokio::time::interval(Duration::from_secs(1));
        loop {
            beat.tick().await;
            alive().await;
        }
    };
    tokio::select! {
        () = compare(&leadsman, "consul") => {}
        () = keep_alive => {}
    }
}
