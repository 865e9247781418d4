//! One instance of every framework, as Eureka writes it in each of its dialects: all three say the same.

use leadsman_tests::eureka::{Dialect, Eureka};
use leadsman_tests::leadsman::Leadsman;
use serde::Deserialize;

use crate::compare;

#[derive(Deserialize)]
struct Record {
    app: String,
    /// As it was sent.
    instance: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_framework_in_each_dialect_of_eureka() {
    let records: Vec<Record> = serde_saphyr::from_str(include_str!("eureka.yaml")).unwrap();
    // Each takes seconds to start.
    let servers = tokio::join!(
        Eureka::start(Dialect::Legacy),
        Eureka::start(Dialect::XStream),
        Eureka::start(Dialect::Jackson),
    );
    for eureka in <[Eureka; 3]>::from(servers) {
        for Record { app, instance } in &records {
            eureka.register_as_written(app, instance).await;
        }
        let endpoint = eureka.address();
        let config = format!("sources: {{ spring: {{ eureka: {{ endpoints: ['http://{endpoint}/eureka'] }} }} }}\n");
        let leadsman = Leadsman::start(&config).await;
        compare(&leadsman, "eureka").await;
    }
}
