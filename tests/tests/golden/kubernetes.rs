//! Recorded slices, created in a real API server.

use leadsman_tests::kubernetes::{ADMIN, Kubernetes, Setup, slices};
use leadsman_tests::leadsman::Leadsman;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::compare;

/// The namespace is one of the recorded objects'.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_in_kubernetes() {
    let objects: Vec<Value> = serde_json::from_str(include_str!("kubernetes.json")).unwrap();
    let cluster = Kubernetes::start(Setup::default()).await;
    let api = cluster.api();
    api.create("/api/v1/namespaces", &json!({ "metadata": { "name": "shop" } }))
        .await;
    for object in &objects {
        api.create(&slices("shop"), object).await;
    }
    let directory = TempDir::new().unwrap();
    let token = directory.path().join("token");
    std::fs::write(&token, ADMIN).unwrap();
    let config = format!(
        "sources: {{ cluster: {{ kubernetes: {{ server: 'https://{}', token_file: '{}', tls: {{ ca: '{}' }} }} }} }}\n",
        cluster.address(),
        token.display(),
        cluster.file("ca.pem").display()
    );
    let leadsman = Leadsman::start(&config).await;
    compare(&leadsman, "kubernetes").await;
}
