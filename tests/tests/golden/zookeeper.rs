//! The nodes of every layout, as its framework writes them.

use std::collections::BTreeMap;

use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::zookeeper::Zookeeper;
use serde::Deserialize;

use crate::compare;

#[derive(Deserialize)]
struct Recorded {
    prefix: String,
    nodes: BTreeMap<String, String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_layout_in_zookeeper() {
    let layouts: BTreeMap<String, Recorded> = serde_saphyr::from_str(include_str!("zookeeper.yaml")).unwrap();
    let zookeeper = Zookeeper::start().await;
    let server = zookeeper.address();
    let mut config = "sources:\n".to_owned();
    for (layout, Recorded { prefix, nodes }) in &layouts {
        for (path, data) in nodes {
            zookeeper.put(path, data.as_bytes()).await;
        }
        config += &format!("  {layout}: {{ zookeeper: {{ servers: ['{server}'], prefix: '{prefix}' }} }}\n");
    }
    let leadsman = Leadsman::start(&config).await;
    compare(&leadsman, "zookeeper").await;
}
