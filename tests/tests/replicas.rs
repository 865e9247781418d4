//! Two control planes on the same registry, and real Envoys that are moved from one to the other.
//!
//! Both replicas are behind one address, as behind a load balancer: a client that lost its connection comes back and
//! meets whoever is there.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use leadsman_tests::ads::Ads;
use leadsman_tests::backend::Backend;
use leadsman_tests::envoy::Envoy;
use leadsman_tests::etcd::{Etcd, Version};
use leadsman_tests::fleet::Fleet;
use leadsman_tests::instance::{Instance, PREFIX, key};
use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::process::free_port;
use leadsman_tests::seed;
use leadsman_tests::wait::{PATIENT, until, until_ok};
use serde_json::json;
use tempfile::TempDir;

/// One registry, two control planes on it, and an Envoy that can be moved between them.
struct Pair {
    etcd: Etcd,
    /// The first of them, and whoever is behind its address.
    fleet: Fleet,
    second: Leadsman,
}

impl Pair {
    /// `kept` is there before anybody looks, and has a listener: a registry that was empty at first proves nothing gone.
    async fn start(kept: Instance) -> Self {
        let etcd = Etcd::start(Version::V36).await;
        etcd.put(&key("kept", kept.port), &kept.record().to_string()).await;
        let endpoint = format!("endpoints: ['http://{}']", etcd.address());
        let sources = format!("sources: {{ shop: {{ etcd: {{ {endpoint}, prefix: {PREFIX}, layout: auto }} }} }}\n");
        let fleet = Fleet::start_in(TempDir::new().unwrap(), &["kept"], &sources).await;
        fleet.envoy_has("kept", &[kept]).await;
        let second = Leadsman::start(&sources).await;
        Self { etcd, fleet, second }
    }

    async fn put(&self, service: &str, instance: Instance) {
        let record = instance.record().to_string();
        self.etcd.put(&key(service, instance.port), &record).await;
    }

    async fn remove(&self, service: &str, instance: Instance) {
        self.etcd.delete(&key(service, instance.port)).await;
    }

    /// Waits until both publish exactly these clusters, and the same of them.
    async fn publish(&self, clusters: &[&str]) {
        let expected: BTreeSet<&str> = clusters.iter().copied().collect();
        until_ok(PATIENT, &format!("both to publish {expected:?}"), async || {
            let all = ["cds", "eds"].map(|of| [&self.fleet.leadsman, &self.second].map(|server| server.published(of)));
            let [[clusters, _], _] = &all;
            let named = clusters.as_array().into_iter().flatten();
            let names: BTreeSet<&str> = named.filter_map(|resource| resource["name"].as_str()).collect();
            if names == expected && all.iter().all(|[one, other]| one == other) {
                Ok(())
            } else {
                Err(all.clone())
            }
        })
        .await;
    }
}

/// How often Envoy was told of the endpoints of a cluster.
async fn updates(envoy: &Envoy, cluster: &str) -> Option<u64> {
    envoy.stat(&format!("cluster.{cluster}.update_success")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e44_who_moves_to_another_replica_is_sent_what_changed_meanwhile_and_nothing_else() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let (first, second) = (Instance::of(&one), Instance::of(&two));
    let pair = Pair::start(first).await;
    for service in ["changed", "deleted"] {
        pair.put(service, first).await;
        pair.fleet.envoy_has(service, &[first]).await;
    }
    pair.publish(&["changed", "deleted", "kept"]).await;
    // A second Envoy behind the same address, whose every word is overheard.
    let ads = Ads::overhearing(pair.fleet.xds_path.address()).await;
    let bootstrap = pair.fleet.leadsman.bootstrap_via(ads.address(), "edge-2", free_port());
    let overheard = Envoy::start(&bootstrap, 1).await;
    let load = pair.fleet.load("kept").start();

    pair.fleet.xds_path.sever();
    pair.put("changed", second).await;
    pair.put("new", second).await;
    pair.remove("deleted", first).await;
    pair.publish(&["changed", "kept", "new"]).await;
    for envoy in [&pair.fleet.envoy, &overheard] {
        assert_eq!(updates(envoy, "kept").await, Some(1));
        assert!(envoy.clusters().await.contains_key("deleted"), "nobody told it");
    }
    pair.fleet.xds_path.turn_to(pair.second.xds());
    pair.fleet.xds_path.heal();

    for envoy in [&pair.fleet.envoy, &overheard] {
        until_ok(PATIENT, "what changed to be in Envoy", async || {
            let clusters = envoy.clusters().await;
            let ports = |name: &str| -> Option<BTreeSet<u16>> {
                Some(clusters.get(name)?.keys().map(SocketAddr::port).collect())
            };
            let seen = ["kept", "changed", "new", "deleted"].map(ports);
            let (first, second) = (first.port, second.port);
            let expected = [
                Some([first].into()),
                Some([first, second].into()),
                Some([second].into()),
                None,
            ];
            if seen == expected { Ok(()) } else { Err(seen) }
        })
        .await;
        assert_eq!(updates(envoy, "kept").await, Some(1), "its endpoints are the same");
        assert_eq!(updates(envoy, "changed").await, Some(2));
        assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, Some(0));
        envoy.assert_clean().await;
    }
    // Removals may be said twice, of the cluster and of the endpoints that Envoy still asks for. Resources may not.
    let (sent, mut removed) = told(&ads.said());
    removed.dedup();
    assert_eq!(sent, ["cds +new", "eds +changed", "eds +new"]);
    assert!(
        removed == ["cds -deleted"] || removed == ["cds -deleted", "eds -deleted"],
        "{removed:?}"
    );
    load.stop().await.assert_unharmed();
}

/// What was said, name by name and sorted: resources and removals.
fn told(said: &[String]) -> (Vec<String>, Vec<String>) {
    let mut told: Vec<String> = Vec::new();
    for line in said {
        let mut words = line.split(' ');
        let kind = words.next().unwrap();
        // The number of the response is no matter here.
        told.extend(words.skip(1).map(|word| format!("{kind} {word}")));
    }
    told.sort();
    told.into_iter().partition(|word| word.contains('+'))
}

/// Addresses by service.
type Members = BTreeMap<String, BTreeSet<SocketAddr>>;

/// Registers an instance of some service, or removes it when it is there.
async fn change(pair: &Pair, random: &mut fastrand::Rng, expected: &mut Members) {
    let service = format!("s{}", random.u8(..5));
    let instance = Instance::new(random.u16(9001..9005));
    let held = expected.entry(service.clone()).or_default();
    if held.remove(&instance.address()) {
        pair.remove(&service, instance).await;
    } else {
        held.insert(instance.address());
        pair.put(&service, instance).await;
    }
}

async fn ends_with(envoy: &Envoy, expected: &Members) {
    until_ok(PATIENT, "Envoy to have what the registry has", async || {
        let clusters = envoy.clusters().await.into_iter();
        let seen: Members = clusters
            .filter(|(name, _)| name != "leadsman")
            .map(|(name, hosts)| (name, hosts.into_keys().collect()))
            .collect();
        if seen == *expected {
            Ok(())
        } else {
            Err((seen, expected.clone()))
        }
    })
    .await;
}

/// Changes of the registry, with a move after each [`CHANGES_BETWEEN`] of them.
const MOVES: usize = 10;
const CHANGES_BETWEEN: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e42_and_e44_ten_moves_amid_changes_end_in_the_registrys_own_state_in_both_variants() {
    let mut random = seed::rng();
    let one = Backend::start("one").await;
    let kept = Instance::of(&one);
    let pair = Pair::start(kept).await;
    let mut bootstrap = pair
        .fleet
        .leadsman
        .bootstrap_via(pair.fleet.xds_path.address(), "edge-2", free_port());
    bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!("GRPC");
    let whole = Envoy::start(&bootstrap, 1).await;
    let load = pair.fleet.load("kept").start();

    let mut expected = Members::new();
    expected.insert("kept".into(), [kept.address()].into());
    for turn in 0..MOVES {
        for _ in 0..CHANGES_BETWEEN {
            change(&pair, &mut random, &mut expected).await;
        }
        let next = if turn % 2 == 0 {
            &pair.second
        } else {
            &pair.fleet.leadsman
        };
        pair.fleet.xds_path.turn_to(next.xds());
        if random.bool() {
            pair.fleet.xds_path.cut();
        } else {
            pair.fleet.xds_path.reset();
        }
        // Some moves meet a client that is still being told, the others one that knows everything.
        if random.bool() {
            until(PATIENT, "both clients at the next replica", async || {
                next.api("/api/v1/proxies")
                    .await
                    .as_array()
                    .is_some_and(|all| all.len() == 2)
            })
            .await;
        }
    }
    expected.retain(|_, addresses| !addresses.is_empty());
    for envoy in [&pair.fleet.envoy, &whole] {
        ends_with(envoy, &expected).await;
        let changes = envoy.stat("cluster.kept.membership_change").await;
        assert_eq!(changes, Some(1), "it came, and that was all");
        assert_eq!(envoy.stat("cluster_manager.cluster_modified").await, Some(0));
        envoy.assert_clean().await;
    }
    assert_eq!(
        updates(&pair.fleet.envoy, "kept").await,
        Some(1),
        "said once, on ten streams"
    );
    load.stop().await.assert_unharmed();
}
