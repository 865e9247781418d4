//! One instance of every layout, as its framework registers it.

use std::collections::BTreeMap;

use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::nacos::{Nacos, Setup, Version};
use serde::Deserialize;
use serde_json::Value;

use crate::compare;

#[derive(Deserialize)]
struct Record {
    service: String,
    #[serde(default = "usual_group")]
    group: String,
    instance: String,
}

fn usual_group() -> String {
    "DEFAULT_GROUP".to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layout_in_nacos() {
    let records: BTreeMap<String, Record> = serde_saphyr::from_str(include_str!("nacos.yaml")).unwrap();
    let nacos = Nacos::start(Setup::of(Version::V31)).await;
    let writer = nacos.writer("golden").await;
    for Record {
        service,
        group,
        instance,
    } in records.values()
    {
        let instance: Value = serde_json::from_str(instance).unwrap();
        writer.register(group, service, &instance).await;
    }
    let about = format!("endpoints: ['http://{}'], namespace: golden", nacos.address());
    let leadsman = Leadsman::start(&format!(
        "sources:\n  all: {{ nacos: {{ {about} }} }}\n  blue: {{ nacos: {{ {about}, groups: [BLUE], service_name: grouped }} }}\n"
    ))
    .await;
    compare(&leadsman, "nacos").await;
}
