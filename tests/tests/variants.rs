//! Every variant of xDS with real Envoys, the oldest and the newest: delta and state of the world, aggregated and one
//! stream a type, on demand, and a resource that Envoy refuses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use leadsman_tests::backend::Backend;
use leadsman_tests::envoy::{Envoy, VERSIONS, add_listener};
use leadsman_tests::http::Load;
use leadsman_tests::instance::{Instance, document};
use leadsman_tests::leadsman::{Leadsman, replace};
use leadsman_tests::process::free_port;
use leadsman_tests::spoiler::{FAULTS, Spoiler};
use leadsman_tests::wait::{PATIENT, until, until_ok};
use serde_json::{Value, json};
use tempfile::TempDir;

const VARIANTS: [&str; 2] = ["DELTA_GRPC", "GRPC"];

async fn leadsman(services: &[(&str, &[Instance])]) -> Leadsman {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    for (service, instances) in services {
        let path = directory.path().join(format!("services/{service}.yaml"));
        replace(&path, &document(service, instances.iter().copied()));
    }
    Leadsman::start_in(directory, "sources: { local: { file: { path: services/ } } }\n").await
}

fn write(leadsman: &Leadsman, service: &str, instances: &[Instance]) {
    let path = leadsman.directory().join(format!("services/{service}.yaml"));
    replace(&path, &document(service, instances.iter().copied()));
}

/// A stream of one type, to the same server.
fn own_stream(variant: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": variant,
            "transport_api_version": "V3",
            "grpc_services": [{ "envoy_grpc": { "cluster_name": "leadsman" } }],
        },
    })
}

/// Waits until Envoy has exactly this endpoint of a cluster.
async fn has(envoy: &Envoy, cluster: &str, instance: Instance, weight: u64) {
    until_ok(PATIENT, &format!("{cluster} in Envoy"), async || {
        let hosts = envoy.hosts(cluster).await;
        let seen: BTreeMap<SocketAddr, u64> = hosts.iter().map(|(address, host)| (*address, host.weight)).collect();
        if seen == BTreeMap::from([(instance.address(), weight)]) {
            Ok(())
        } else {
            Err(hosts)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_envoy_follows_additions_changes_and_removals_in_both_variants() {
    for (version, variant) in VERSIONS
        .into_iter()
        .flat_map(|version| VARIANTS.map(|variant| (version, variant)))
    {
        let (one, two) = (Instance::new(9001), Instance::new(9002));
        let mut leadsman = leadsman(&[("orders", &[one])]).await;
        let mut bootstrap = leadsman.bootstrap("edge-1", free_port());
        bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!(variant);
        let envoy = Envoy::start_version(version, &bootstrap, 1).await;
        has(&envoy, "orders", one, 10).await;
        write(&leadsman, "users", &[two]);
        has(&envoy, "users", two, 10).await;
        write(&leadsman, "orders", &[one.weighing(30.0)]);
        has(&envoy, "orders", one, 30).await;

        // A cluster that changes needs its endpoints again, and does not ask for them.
        let rest = "sources: { local: { file: { path: services/ } } }\nservices: { orders: { connect_timeout: 3s } }\n";
        leadsman.configure(rest);
        leadsman.process().hang_up();
        until(PATIENT, "the changed cluster", async || {
            envoy.stat("cluster_manager.cluster_modified").await == Some(1)
        })
        .await;
        has(&envoy, "orders", one, 30).await;
        fs::remove_file(leadsman.directory().join("services/users.yaml")).unwrap();
        until(PATIENT, "the removal", async || {
            !envoy.clusters().await.contains_key("users")
        })
        .await;

        // The same server, started again: nothing changes for Envoy.
        leadsman.restart();
        leadsman.ready().await;
        write(&leadsman, "orders", &[two]);
        has(&envoy, "orders", two, 10).await;
        assert_eq!(
            envoy.stat("cluster_manager.cluster_modified").await,
            Some(1),
            "{version} {variant}"
        );
        envoy.assert_clean().await;
        assert!(leadsman.ask(&["status"]).status.success(), "{version} {variant}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e01_each_type_can_have_a_stream_of_its_own_in_both_variants() {
    for variant in VARIANTS {
        let one = Instance::new(9001);
        let leadsman = leadsman(&[("orders", &[one]), ("users", &[one])]).await;
        let mut bootstrap = leadsman.bootstrap("edge-1", free_port());
        bootstrap["dynamic_resources"]["cds_config"] = own_stream(variant);
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        clusters.push(json!({
            "name": "fixed",
            "type": "EDS",
            "eds_cluster_config": { "service_name": "users", "eds_config": own_stream(variant) },
        }));
        let envoy = Envoy::start(&bootstrap, 1).await;
        has(&envoy, "orders", one, 10).await;
        has(&envoy, "fixed", one, 10).await;
        write(&leadsman, "users", &[one.weighing(20.0)]);
        has(&envoy, "fixed", one, 20).await;
        has(&envoy, "users", one, 20).await;
        fs::remove_file(leadsman.directory().join("services/users.yaml")).unwrap();
        until(PATIENT, "a cluster without hosts", async || {
            envoy.hosts("fixed").await.is_empty()
        })
        .await;
        until(PATIENT, "the removal", async || {
            !envoy.clusters().await.contains_key("users")
        })
        .await;
        envoy.assert_clean().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e28_clusters_come_on_demand_a_missing_one_fails_at_once_and_works_when_it_is_created() {
    let ads = json!({ "resource_api_version": "V3", "ads": {} });
    // On a stream of its own, Envoy 1.36 accepts what it is told after its first missing cluster and does not act on it.
    let cases = [
        (VERSIONS[0], &ads),
        (VERSIONS[2], &ads),
        (VERSIONS[2], &own_stream("DELTA_GRPC")),
    ];
    for (version, source) in cases {
        let (one, two) = (Backend::start("one").await, Backend::start("two").await);
        let leadsman = leadsman(&[("orders", &[Instance::of(&one)]), ("idle", &[Instance::of(&one)])]).await;
        let mut bootstrap = leadsman.bootstrap("edge-1", free_port());
        bootstrap["dynamic_resources"]
            .as_object_mut()
            .unwrap()
            .remove("cds_config");
        let port = free_port();
        let on_demand = json!({
            "name": "envoy.filters.http.on_demand",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand",
                "odcds": { "source": source, "timeout": "15s" },
            },
        });
        add_listener(&mut bootstrap, port, &["*"], &[on_demand]);
        let listener = &mut bootstrap["static_resources"]["listeners"][0];
        let manager = &mut listener["filter_chains"][0]["filters"][0]["typed_config"];
        manager["route_config"]["virtual_hosts"][0]["routes"][0]["route"] = json!({ "cluster_header": ":authority" });
        let envoy = Envoy::start_version(version, &bootstrap, 1).await;
        let load = |host: &str| Load {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            host: host.to_owned(),
            path: "/".to_owned(),
            requests_per_second: 100,
            workers: 1,
        };
        let first = load("orders").burst(5).await;
        first.assert_unharmed();
        assert_eq!(first.share("one"), 1.0, "{version}: {first:?}");
        assert!(!envoy.clusters().await.contains_key("idle"), "nobody asked for it");

        let missing = tokio::time::timeout(Duration::from_secs(10), load("users").burst(1)).await;
        assert_eq!(
            missing.map(|report| report.failed),
            Ok(1),
            "{version}: sooner than its timeout"
        );
        write(&leadsman, "users", &[Instance::of(&two)]);
        until(PATIENT, "the new cluster", async || {
            load("users").burst(1).await.share("two") > 0.0
        })
        .await;
        write(&leadsman, "orders", &[Instance::of(&two)]);
        until(PATIENT, "the change", async || {
            load("orders").burst(1).await.share("two") > 0.0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e39_of_a_hundred_clusters_the_one_that_envoy_refuses_stays_out_and_is_not_sent_twice() {
    let cases = VERSIONS.into_iter().flat_map(|version| {
        let variants = VARIANTS.into_iter();
        variants.flat_map(move |variant| FAULTS.map(|(_, fault)| (version, variant, fault)))
    });
    for (version, variant, fault) in cases {
        let names: Vec<String> = (0..100).map(|n| format!("c{n:02}")).collect();
        let one = [Instance::new(9001)];
        let services: Vec<(&str, &[Instance])> = names.iter().map(|name| (name.as_str(), &one[..])).collect();
        let leadsman = leadsman(&services).await;
        let spoiler = Spoiler::start(leadsman.xds(), vec![fault("c50")]).await;
        let mut bootstrap = leadsman.bootstrap_via(spoiler.address(), "edge-1", free_port());
        bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!(variant);
        let envoy = Envoy::start_version(version, &bootstrap, 1).await;
        until_ok(PATIENT, "99 clusters with their endpoints", async || {
            let mut clusters = envoy.clusters().await;
            clusters.retain(|name, hosts| names.contains(name) && hosts.len() == 1);
            if clusters.len() == 99 {
                Ok(())
            } else {
                Err(clusters.len())
            }
        })
        .await;
        let proxy = until_ok(PATIENT, "the quarantine", async || {
            let proxies = leadsman.api("/api/v1/proxies").await;
            let of = &proxies[0]["types"][0];
            if of["quarantined"][0]["name"] == "c50" {
                Ok(of.clone())
            } else {
                Err(proxies)
            }
        })
        .await;
        assert_eq!(proxy["rejected"], 1, "{version} {variant}: {proxy:#}");
        let refused = envoy.stat("cluster_manager.cds.update_rejected").await;
        assert_eq!(
            refused,
            Some(1),
            "{version} {variant}: {}",
            proxy["last_nack"]["message"]
        );
        let counted = async |what: &str, of: &str| {
            let name = format!("leadsman_xds_{what}_total{{type=\"{of}\"}}");
            leadsman.metric(&name).await.unwrap()
        };
        assert_eq!(counted("quarantines", "cds").await, 1.0, "{version} {variant}");
        until(PATIENT, "the others to be accepted", async || {
            counted("acks", "cds").await == 1.0
        })
        .await;
        // All of them, and the others once more: two round trips are what keeps it short. `make bench-registries
        // ONLY=refused` says how short.
        let rounds = [counted("responses", "cds").await, counted("nacks", "cds").await];
        assert_eq!(rounds, [2.0, 1.0], "{version} {variant}");
        let endpoints = counted("responses", "eds").await;
        assert!(endpoints <= 3.0, "{version} {variant}: {endpoints}");
    }
}
