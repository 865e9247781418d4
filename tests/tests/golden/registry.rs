//! Recorded calls of the API and the recorded file that they left: what Envoy is told is the same, wherever it is kept.

use std::net::SocketAddr;

use http::Method;
use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::process::free_port;
use leadsman_tests::registrar::Registrar;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::compare;

#[derive(Deserialize)]
struct Call {
    method: String,
    path: String,
    body: Option<Value>,
}

async fn make_calls(registrar: &Registrar) {
    let calls: Vec<Call> = serde_json::from_str(include_str!("registry.json")).unwrap();
    for Call { method, path, body } in calls {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        registrar.insist(method, &path, body).await;
    }
}

/// A source whose store is said by `store`.
async fn start(directory: TempDir, store: &str) -> (Leadsman, Registrar) {
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = format!("sources: {{ own: {{ registry: {{ listen: '{listen}', {store} }} }} }}\n");
    (Leadsman::start_in(directory, &config).await, Registrar::new(listen))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_in_a_file_and_in_etcd() {
    let (leadsman, registrar) = start(TempDir::new().unwrap(), "").await;
    make_calls(&registrar).await;
    compare(&leadsman, "registry").await;

    // The file that these calls left once, which a later program has to be able to read.
    let directory = TempDir::new().unwrap();
    let store = directory.path().join("registry");
    std::fs::create_dir(&store).unwrap();
    std::fs::write(store.join("state-0000000000000001.log"), include_str!("registry.log")).unwrap();
    let (leadsman, _) = start(directory, "").await;
    compare(&leadsman, "registry").await;

    let etcd = Etcd::start(Version::V36).await;
    let store = format!(
        "store: {{ etcd: {{ endpoints: ['http://{}'], prefix: /leadsman/ }} }}",
        etcd.address()
    );
    let (leadsman, registrar) = start(TempDir::new().unwrap(), &store).await;
    make_calls(&registrar).await;
    compare(&leadsman, "registry").await;
}
