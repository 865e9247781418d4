//! The promise: a registry or a control plane that fails is invisible to traffic, and nothing is forgotten afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use leadsman_tests::backend::Backend;
use leadsman_tests::envoy::Envoy;
use leadsman_tests::etcd::{Data, Etcd, Version};
use leadsman_tests::instance::{Instance, PREFIX, key};
use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::process::free_port;
use leadsman_tests::seed;
use leadsman_tests::wait::{PATIENT, throughout, until};
use leadsman_tests::world::World;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a registry stays away in these tests; the demo takes a minute.
const OUTAGE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_registry_is_invisible_to_traffic() {
    let mut world = World::start(&["orders"]).await;
    let (one, two, late) = (
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("late").await,
    );
    let (first, second) = (Instance::of(&one), Instance::of(&two));
    world.put("orders", first).await;
    world.put("orders", second).await;
    world.envoy_has("orders", &[first, second]).await;
    let (hosts, changes) = (
        world.envoy.hosts("orders").await,
        world.membership_changes("orders").await,
    );
    let load = world.load("orders").start();

    world.etcd.kill();
    world.source_enters("shop", "degraded").await;
    throughout(OUTAGE, "Envoy's endpoints", async || {
        world.envoy.hosts("orders").await == hosts
    })
    .await;
    assert_eq!(world.membership_changes("orders").await, changes);
    assert!(world.leadsman.get("/readyz").await.unwrap().status.is_success());

    world.etcd.restart(Data::Kept).await;
    world.put("orders", Instance::of(&late)).await;
    world.envoy_has("orders", &[first, second, Instance::of(&late)]).await;
    assert_eq!(world.membership_changes("orders").await, changes + 1);
    let before = world.source("shop").await["counters"]["reconciles"].as_u64();
    until(PATIENT, "a reconcile", async || {
        world.source("shop").await["counters"]["reconciles"].as_u64() > before
    })
    .await;
    let shop = world.source("shop").await;
    assert_eq!(
        (&shop["state"], &shop["counters"]["reconcile_drift"]),
        (&json!("live"), &json!(0))
    );
    assert_eq!(
        world
            .leadsman
            .metric(r#"leadsman_reconcile_drift_total{source="shop"}"#)
            .await,
        Some(0.0)
    );

    let report = load.stop().await;
    report.assert_unharmed();
    assert!(report.share("late") > 0.0, "{report:?}");
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_starts_without_its_registry_takes_nothing_away() {
    let mut world = World::start_with(&["orders", "users"], "").await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.put("orders", Instance::of(&one)).await;
    world.write("users", &[Instance::of(&two)]);
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    world.envoy_has("users", &[Instance::of(&two)]).await;
    let hosts = world.envoy.hosts("orders").await;
    let changes = world.membership_changes("orders").await;
    let load = world.load("orders").start();

    world.etcd.kill();
    world.leadsman.restart();
    // It knows the files, waits for etcd as long as it is told to, and then speaks about the files only.
    until(PATIENT, "Envoy to be connected again", async || {
        world
            .leadsman
            .api("/api/v1/proxies")
            .await
            .as_array()
            .is_some_and(|proxies| !proxies.is_empty())
    })
    .await;
    assert!(!world.leadsman.get("/readyz").await.unwrap().status.is_success());
    let longer_than_it_waits = Duration::from_secs(15);
    throughout(longer_than_it_waits, "Envoy's endpoints", async || {
        world.envoy.hosts("orders").await == hosts
    })
    .await;
    world.write("users", &[Instance::of(&two), Instance::of(&one)]);
    world
        .envoy_has("users", &[Instance::of(&two), Instance::of(&one)])
        .await;

    world.etcd.restart(Data::Kept).await;
    world.leadsman.ready().await;
    world.put("orders", Instance::of(&two)).await;
    world
        .envoy_has("orders", &[Instance::of(&one), Instance::of(&two)])
        .await;
    assert_eq!(world.membership_changes("orders").await, changes + 1);
    load.stop().await.assert_unharmed();
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_control_plane_costs_no_request_and_its_return_changes_nothing() {
    let mut world = World::start(&["orders"]).await;
    let one = Backend::start("one").await;
    world.put("orders", Instance::of(&one)).await;
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    let load = world.load("orders").start();
    let quiet =
        "^(cluster_manager.cluster_(added|modified|removed)|cluster.orders.(membership_change|update_success))$";
    let before = world.envoy.stats(quiet).await;
    assert_eq!(before.len(), 5, "{before:?}");

    world.leadsman.restart();
    world.leadsman.ready().await;
    until(PATIENT, "Envoy to be connected again", async || {
        let proxies = world.leadsman.api("/api/v1/proxies").await;
        let types = proxies[0]["types"].as_array().into_iter().flatten();
        types.filter(|of| of["acked"] == 1).count() == 2
    })
    .await;
    // The versions are the ones Envoy has, so there was nothing to send.
    assert_eq!(world.envoy.stats(quiet).await, before);
    load.stop().await.assert_unharmed();
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_lost_its_data_takes_nothing_away_until_an_operator_says_so() {
    let mut world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let (first, second) = (Instance::of(&one), Instance::of(&two));
    world.put("orders", first).await;
    world.put("orders", second).await;
    world.envoy_has("orders", &[first, second]).await;
    let load = world.load("orders").start();

    world.etcd.kill();
    world.etcd.restart(Data::NewCluster).await;
    world.source_enters("shop", "suspect").await;
    world.put("orders", first).await;
    let both = world.explained("orders").await;
    throughout(Duration::from_secs(3), "the held endpoint", async || {
        world.explained("orders").await == both
    })
    .await;
    world.envoy_has("orders", &[first, second]).await;
    assert_eq!(
        world
            .leadsman
            .metric(r#"leadsman_guard_held_endpoints{source="shop"}"#)
            .await,
        Some(1.0)
    );
    let explained = world.leadsman.api("/api/v1/explain/orders").await;
    assert_eq!(decision(&explained, second), "held", "{explained:#}");

    let mut reason = HeaderMap::new();
    let refused = world
        .leadsman
        .post("/api/v1/guard/release/shop", reason.clone())
        .await
        .unwrap();
    assert!(refused.status.is_client_error(), "{refused:?}");
    reason.insert(
        "leadsman-reason",
        HeaderValue::from_static("the second one is gone for good"),
    );
    let released = world.leadsman.post("/api/v1/guard/release/shop", reason).await.unwrap();
    assert!(released.status.is_success(), "{released:?}");
    world.envoy_has("orders", &[first]).await;
    load.stop().await.assert_unharmed();
    world.envoy.assert_clean().await;
}

/// The first word of why an endpoint is where it is.
fn decision(explained: &Value, instance: Instance) -> String {
    let address = instance.address().to_string();
    let mut endpoints = explained["endpoints"].as_array().into_iter().flatten();
    let endpoint = endpoints.find(|endpoint| endpoint["address"] == address.as_str());
    let decision = endpoint
        .and_then(|endpoint| endpoint["decision"].as_str())
        .unwrap_or_default();
    decision.split([' ', ':', ',']).next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_any_registry_has_answered_envoy_is_told_nothing() {
    let mut etcd = Etcd::start(Version::V36).await;
    let one = Backend::start("one").await;
    let instance = Instance::of(&one);
    etcd.put(&key("orders", instance.port), &instance.record().to_string())
        .await;
    etcd.kill();
    let rest = format!(
        "sources:\n  shop: {{ etcd: {{ endpoints: ['http://{}'], prefix: {PREFIX} }} }}\n",
        etcd.address()
    );
    let leadsman = Leadsman::launch_in(TempDir::new().unwrap(), &rest);
    until(PATIENT, "an answer", async || {
        leadsman
            .get("/livez")
            .await
            .is_ok_and(|answer| answer.status.is_success())
    })
    .await;
    let envoy = Envoy::launch(&leadsman.bootstrap("edge-1", free_port()), 1);
    until(PATIENT, "Envoy to be connected", async || {
        leadsman
            .api("/api/v1/proxies")
            .await
            .as_array()
            .is_some_and(|proxies| !proxies.is_empty())
    })
    .await;
    throughout(Duration::from_secs(12), "Envoy's patience", async || {
        !envoy.is_ready().await && !envoy.clusters().await.contains_key("orders")
    })
    .await;
    etcd.restart(Data::Kept).await;
    until(PATIENT, "Envoy to be ready", async || {
        envoy.stat("server.state").await == Some(0)
    })
    .await;
    let hosts: Vec<SocketAddr> = envoy.hosts("orders").await.into_keys().collect();
    assert_eq!(hosts, [one.address()]);
    envoy.assert_clean().await;
}

/// A service that nobody touches, under load the whole time, and others that change while everything around fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_mixture_of_faults_harms_nobody_and_ends_in_the_registrys_own_state() {
    const STEPS: u32 = 60;
    let mut random = seed::rng();
    let mut world = World::start(&["anchor"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let anchors = [Instance::of(&one), Instance::of(&two)];
    for anchor in anchors {
        world.put("anchor", anchor).await;
    }
    world.envoy_has("anchor", &anchors).await;
    let changes = world.membership_changes("anchor").await;
    let untouched = world.envoy.hosts("anchor").await;
    let load = world.load("anchor").start();

    let mut expected: BTreeMap<String, BTreeSet<SocketAddr>> = BTreeMap::new();
    for _ in 0..STEPS {
        for _ in 0..random.u8(1..5) {
            let service = format!("s{}", random.u8(..4));
            let instance = Instance::new(random.u16(1..6)).weighing(f64::from(random.u8(1..100)));
            let held = expected.entry(service.clone()).or_default();
            if random.u8(..3) == 0 {
                held.remove(&instance.address());
                world.remove(&service, instance).await;
            } else {
                held.insert(instance.address());
                world.put(&service, instance).await;
            }
        }
        break_something(&mut world, &mut random).await;
        let pause = Duration::from_millis(random.u64(..300));
        throughout(pause, "the untouched service", async || {
            world.envoy.hosts("anchor").await == untouched
        })
        .await;
    }
    world.registry_path.heal();
    world.xds_path.heal();

    expected.retain(|_, addresses| !addresses.is_empty());
    until(PATIENT, "Envoy to have what etcd has", async || {
        let clusters = world.envoy.clusters().await.into_iter();
        let tested = clusters.filter(|(name, hosts)| name.starts_with('s') && !hosts.is_empty());
        let seen: BTreeMap<String, BTreeSet<SocketAddr>> = tested
            .map(|(name, hosts)| (name, hosts.into_keys().collect()))
            .collect();
        seen == expected
    })
    .await;
    assert_eq!(world.membership_changes("anchor").await, changes);
    load.stop().await.assert_unharmed();
    world.envoy.assert_clean().await;
}

async fn break_something(world: &mut World, random: &mut fastrand::Rng) {
    match random.u8(..16) {
        0..3 => world.registry_path.reset(),
        3..5 => world.registry_path.sever(),
        5..8 => world.registry_path.heal(),
        8 => world.registry_path.delay(Duration::from_millis(200)),
        9..11 => world.xds_path.reset(),
        11 => world.xds_path.sever(),
        12..14 => world.xds_path.heal(),
        14 => {
            world.etcd.kill();
            world.etcd.restart(Data::Kept).await;
        }
        _ => {
            world.leadsman.restart();
            // A moment of its life, wherever that leaves it.
            let _ = world.leadsman.get("/readyz").await;
        }
    }
}
