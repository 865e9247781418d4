//! One key of every layout, as its framework writes it.

use std::collections::BTreeMap;

use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::leadsman::Leadsman;
use serde::Deserialize;

use crate::compare;

#[derive(Deserialize)]
struct Record {
    prefix: String,
    key: String,
    value: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layout_in_etcd() {
    let records: BTreeMap<String, Record> = serde_saphyr::from_str(include_str!("etcd.yaml")).unwrap();
    let etcd = Etcd::start(Version::V36).await;
    let mut config = "sources:\n".to_owned();
    for (layout, Record { prefix, key, value }) in &records {
        etcd.put(key, value).await;
        let endpoint = etcd.address();
        config += &format!("  {layout}: {{ etcd: {{ endpoints: ['http://{endpoint}'], prefix: '{prefix}' }} }}\n");
    }
    let leadsman = Leadsman::start(&config).await;
    compare(&leadsman, "etcd").await;
}
