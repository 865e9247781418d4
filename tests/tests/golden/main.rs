//! What Envoy is told about a recorded record of every layout: written into the real registry, read by the real server, and
//! shown by `leadsman xds watch`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use leadsman_tests::dns::{Change, Named};
use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::kubernetes::{ADMIN, Kubernetes, Setup, slices};
use leadsman_tests::leadsman::{Leadsman, run};
use leadsman_tests::process::workspace;
use leadsman_tests::wait::{PATIENT, until_ok};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// Compares what a client is told with the file, and leaves what it was told beside the other build output.
async fn compare(leadsman: &Leadsman, registry: &str) {
    let expected = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{registry}.golden"));
    let expected = std::fs::read_to_string(&expected).unwrap_or_default();
    let told = workspace().join(format!("target/{registry}.golden"));
    until_ok(
        PATIENT,
        &format!("tests/tests/golden/{registry}.golden (see {})", told.display()),
        async || {
            let seen = watched(leadsman);
            std::fs::write(&told, &seen).unwrap();
            if seen == expected {
                Ok(())
            } else {
                Err(first_difference(&seen, &expected))
            }
        },
    )
    .await;
}

/// Clusters and assignments, a line each, without what differs from run to run.
fn watched(leadsman: &Leadsman) -> String {
    let mut lines = Vec::new();
    for kind in ["cds", "eds"] {
        let server = leadsman.xds().to_string();
        let output = run(&[
            "xds", "watch", "--server", &server, "--type", kind, "-o", "json", "--count", "1",
        ]);
        assert!(output.status.success(), "{output:?}");
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut response: Value = serde_json::from_str(line).unwrap();
            for resource in response["resources"].as_array_mut().unwrap() {
                scrub(resource);
                lines.push(format!("{kind} {resource}"));
            }
        }
    }
    lines.sort();
    lines.join("\n") + "\n"
}

/// Revisions count what else was written, and versions hash the revisions.
fn scrub(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "rev" && name != "version");
            fields.values_mut().for_each(scrub);
        }
        Value::Array(values) => values.iter_mut().for_each(scrub),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn first_difference(seen: &str, expected: &str) -> String {
    let mut pairs = seen.lines().zip(expected.lines().chain(std::iter::repeat("nothing")));
    let differing = pairs.find(|(seen, expected)| seen != expected);
    differing.map_or_else(
        || "less than expected".to_owned(),
        |(seen, expected)| format!("{seen}\nexpected: {expected}"),
    )
}
