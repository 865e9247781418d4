//! What is registered takes traffic: real registries, the real control plane, a real Envoy and requests through it.
//!
//! Envoy is the witness: what counts is what its admin interface and its clients see. Every test ends with an Envoy
//! that refused nothing and waited for nothing in vain.

use std::fs;

use leadsman_core::model::Health;
use leadsman_tests::backend::Backend;
use leadsman_tests::instance::{Instance, key};
use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::wait::{PATIENT, until};
use leadsman_tests::world::{World, sources};
use serde_json::{Value, json};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_registered_in_etcd_and_in_files_takes_traffic() {
    let world = World::start(&["orders", "users"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.write("users", &[Instance::of(&two)]);
    // As go-kratos registers itself.
    let record = json!({ "id": "0", "name": "orders", "version": "v1", "metadata": { "weight": "10" },
                         "endpoints": [format!("http://{}", one.address())] });
    world.etcd.put("/services/orders/0", &record.to_string()).await;

    world.envoy_has("orders", &[Instance::of(&one)]).await;
    world.envoy_has("users", &[Instance::of(&two)]).await;
    let (orders, users) = (
        world.load("orders").burst(20).await,
        world.load("users").burst(20).await,
    );
    orders.assert_unharmed();
    users.assert_unharmed();
    assert_eq!((orders.share("one"), users.share("two")), (1.0, 1.0));

    // The filter tells a change from a repetition by what stands here.
    let metadata = world.envoy.metadata("orders").await;
    let own = &metadata[&one.address()]["leadsman"];
    assert!(own["rev"].is_string() && own["src"] == "shop", "{metadata:?}");
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_weight_moves_the_traffic() {
    let world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.put("orders", Instance::of(&one).weighing(1.0)).await;
    world.put("orders", Instance::of(&two).weighing(3.0)).await;
    world
        .envoy_has("orders", &[Instance::of(&one), Instance::of(&two)])
        .await;
    shares(&world, &two, 0.75).await;
    let changes = world.membership_changes("orders").await;
    world.put("orders", Instance::of(&one).weighing(9.0)).await;
    world.put("orders", Instance::of(&two).weighing(1.0)).await;
    shares(&world, &two, 0.1).await;
    assert_eq!(world.membership_changes("orders").await, changes);
    world.envoy.assert_clean().await;
}

/// Waits until a backend takes its share of the traffic, to five percent.
async fn shares(world: &World, backend: &Backend, expected: f64) {
    until(PATIENT, &format!("{} to take {expected}", backend.name()), async || {
        let report = world.load("orders").burst(200).await;
        report.assert_unharmed();
        (report.share(backend.name()) - expected).abs() < 0.05
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_drains_and_leaves_without_a_failed_request() {
    let world = World::start(&["orders"]).await;
    let (one, two, three) = (
        Backend::start("one").await,
        Backend::start("two").await,
        Backend::start("three").await,
    );
    let all = [Instance::of(&one), Instance::of(&two), Instance::of(&three)];
    for instance in all {
        world.put("orders", instance).await;
    }
    world.envoy_has("orders", &all).await;
    let load = world.load("orders").start();

    let [first, second, third] = all;
    // The two ways a registry has to say it.
    world.put("orders", second.weighing(0.0)).await;
    world.put("orders", third.being(Health::Draining)).await;
    let draining = [first, second.being(Health::Draining), third.being(Health::Draining)];
    world.envoy_has("orders", &draining).await;
    let burst = world.load("orders").burst(50).await;
    assert_eq!(burst.share("one"), 1.0, "{burst:?}");

    world.remove("orders", second).await;
    world.remove("orders", third).await;
    world.envoy_has("orders", &[first]).await;
    load.stop().await.assert_unharmed();
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unhealthy_instance_gets_no_requests_and_stays_listed() {
    let world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let (first, second) = (Instance::of(&one), Instance::of(&two));
    world.write("orders", &[first, second]);
    world.envoy_has("orders", &[first, second]).await;
    world.write("orders", &[first, second.being(Health::Unhealthy)]);
    world
        .envoy_has("orders", &[first, second.being(Health::Unhealthy)])
        .await;
    let burst = world.load("orders").burst(50).await;
    burst.assert_unharmed();
    assert_eq!(burst.share("one"), 1.0, "{burst:?}");
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_service_is_emptied_and_then_forgotten() {
    let world = World::start(&["orders", "users"]).await;
    let one = Backend::start("one").await;
    world.put("orders", Instance::of(&one)).await;
    world.put("users", Instance::of(&one)).await;
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    world.envoy_has("users", &[Instance::of(&one)]).await;
    world.remove("orders", Instance::of(&one)).await;
    until(PATIENT, "an empty cluster", async || {
        let clusters = world.envoy.clusters().await;
        clusters.get("orders").is_some_and(std::collections::BTreeMap::is_empty)
    })
    .await;
    until(PATIENT, "no cluster", async || {
        !world.envoy.clusters().await.contains_key("orders")
    })
    .await;
    world.envoy_has("users", &[Instance::of(&one)]).await;
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_live_and_a_bad_file_keeps_the_old_one() {
    let mut world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.put("orders", Instance::of(&one)).await;
    world.write("orders", &[Instance::of(&two)]);
    // Both know it; `local` comes first by its name.
    world.envoy_has("orders", &[Instance::of(&two)]).await;
    let streams = world.leadsman.api("/api/v1/proxies").await[0]["id"].clone();

    world.configure("services:\n  orders: { sources: [shop, local], merge: priority }\n");
    world.leadsman.process().hang_up();
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    world.configure("services:\n  orders: { merge: union }\n");
    world.leadsman.process().hang_up();
    world
        .envoy_has("orders", &[Instance::of(&one), Instance::of(&two)])
        .await;

    let successful = "leadsman_config_last_reload_successful";
    assert_eq!(world.leadsman.metric(successful).await, Some(1.0));
    world.configure("services:\n  orders: { merge: sideways }\n");
    world.leadsman.process().hang_up();
    until(PATIENT, "the refusal", async || {
        world.leadsman.metric(successful).await == Some(0.0)
    })
    .await;
    assert!(world.leadsman.log().contains("sideways"), "{}", world.leadsman.log());
    world
        .envoy_has("orders", &[Instance::of(&one), Instance::of(&two)])
        .await;

    // A watched file needs no signal.
    world.configure("services:\n  orders: { sources: [local] }\n");
    world.envoy_has("orders", &[Instance::of(&two)]).await;
    assert_eq!(world.leadsman.metric(successful).await, Some(1.0));
    assert_eq!(world.leadsman.api("/api/v1/proxies").await[0]["id"], streams);
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_says_why_each_endpoint_is_there_or_is_not() {
    let world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.write("orders", &[Instance::of(&one)]);
    world.put("orders", Instance::of(&two)).await;
    world
        .etcd
        .put(
            "/services/orders/bad",
            r#"{ "address": "orders.internal", "port": 80 }"#,
        )
        .await;
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    until(PATIENT, "the rejection", async || {
        let explained = world.leadsman.api("/api/v1/explain/orders").await;
        explained["rejected"]
            .as_array()
            .is_some_and(|rejected| rejected.len() == 1)
    })
    .await;

    let output = world.leadsman.ask(&["explain", "orders", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    let explained: Value = serde_json::from_slice(&output.stdout).unwrap();
    let by_address = |backend: &Backend| {
        let address = backend.address().to_string();
        let endpoints = explained["endpoints"].as_array().unwrap().iter();
        endpoints
            .filter(|endpoint| endpoint["address"] == address.as_str())
            .cloned()
            .collect::<Vec<_>>()
    };
    let (told, shadowed) = (by_address(&one), by_address(&two));
    assert_eq!((told.len(), shadowed.len()), (1, 1), "{explained:#}");
    assert_eq!(
        (&told[0]["in_envoy"], &told[0]["source"]),
        (&json!(true), &json!("local"))
    );
    assert_eq!(
        (&shadowed[0]["in_envoy"], &shadowed[0]["source"]),
        (&json!(false), &json!("shop"))
    );
    assert_eq!(shadowed[0]["record"], key("orders", two.address().port()));
    let rejected = &explained["rejected"][0];
    assert_eq!(
        (&rejected["source"], &rejected["record"]),
        (&json!("shop"), &json!("/services/orders/bad"))
    );
    assert!(
        rejected["reason"].as_str().unwrap().contains("orders.internal"),
        "{rejected}"
    );
    assert_eq!(explained["proxies"][0]["assignment"], "acked");

    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_tells_the_same_to_people() {
    let world = World::start(&["orders"]).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    world.write("orders", &[Instance::of(&one)]);
    world.put("orders", Instance::of(&two)).await;
    world.envoy_has("orders", &[Instance::of(&one)]).await;
    for (verb, expected) in [
        (
            vec!["explain", "orders"],
            vec![one.address().to_string(), two.address().to_string()],
        ),
        (vec!["endpoints", "orders"], vec![one.address().to_string()]),
        (vec!["services"], vec!["orders".to_owned(), "local".to_owned()]),
        (vec!["proxies"], vec!["edge-1".to_owned()]),
        (
            vec!["status"],
            vec!["shop".to_owned(), "live".to_owned(), "SYNCED".to_owned()],
        ),
    ] {
        let output = world.leadsman.ask(&verb);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && expected.iter().all(|word| text.contains(word)),
            "{verb:?}: {text}"
        );
    }
    assert_eq!(world.leadsman.ask(&["explain", "nobody"]).status.code(), Some(65));
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_say_the_same_to_the_byte() {
    let world = World::start(&[]).await;
    for number in 1..=20_u16 {
        let instance = Instance::new(number).weighing(f64::from(number));
        world.put(&format!("service-{}", number % 5), instance).await;
    }
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("services")).unwrap();
    let replica = Leadsman::start_in(directory, &sources(world.etcd.address(), "")).await;
    for of in ["cds", "eds"] {
        until(PATIENT, "both to know five services", async || {
            let own = world.leadsman.published(of);
            own.as_array().is_some_and(|resources| resources.len() == 5) && own == replica.published(of)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_records_reach_nobody_and_harm_no_sibling() {
    let world = World::start(&["orders"]).await;
    let one = Backend::start("one").await;
    let port = one.address().port();
    let long = "x".repeat(300_000);
    let poison: Vec<Value> = vec![
        json!({ "address": "0.0.0.0", "port": 80 }),
        json!({ "address": "127.0.0.1", "port": 0 }),
        json!({ "address": "127.0.0.1", "port": 65536 }),
        json!({ "address": "127.0.0.1", "port": "eighty" }),
        json!({ "address": "\u{1b}[31m\u{202e}", "port": 80 }),
        json!({ "address": "127.0.0.1", "port": port, "weight": -1 }),
        json!({ "address": "127.0.0.2", "port": port, "weight": 1e300 }),
        json!({ "address": "127.0.0.3", "port": port, "health": "splendid" }),
        json!({ "address": "127.0.0.4", "port": port, "metadata": { "k": long } }),
        json!([[[[[[]]]]]]),
        json!("\u{0}"),
    ];
    for (number, record) in poison.iter().enumerate() {
        world
            .etcd
            .put(&format!("/services/orders/poison-{number}"), &record.to_string())
            .await;
    }
    world.etcd.put("/services/orders/deep", &"[".repeat(100_000)).await;
    world
        .etcd
        .put(
            "/services/\u{1b}]0;x\u{7}/1",
            r#"{ "address": "127.0.0.1", "port": 80 }"#,
        )
        .await;
    world.etcd.put("/services//", "").await;
    world.put("orders", Instance::of(&one)).await;
    until(PATIENT, "the good record", async || {
        world.envoy.hosts("orders").await.contains_key(&one.address())
    })
    .await;
    until(PATIENT, "every response to be accepted", async || {
        world.leadsman.ask(&["status"]).status.code() == Some(0)
    })
    .await;
    let hosts = world.envoy.hosts("orders").await;
    assert!(hosts.keys().all(|address| address.port() == port), "{hosts:?}");
    assert!(!world.leadsman.log().contains('\u{1b}'), "the log steers terminals");
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_registries_are_compared_before_a_service_moves_from_one_to_the_other() {
    let rest = "services: { orders: { merge: { percentage: { shop: 75, local: 25 } } } }\n";
    let world = World::start_with(&["orders"], rest).await;
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let (first, second) = (Instance::of(&one), Instance::of(&two));
    world.put("orders", first).await;
    world.write("orders", &[first, second.being(Health::Draining)]);
    world
        .envoy_has("orders", &[first, second.being(Health::Draining)])
        .await;
    let differs = world.leadsman.ask(&["compare", "shop", "local", "-o", "json"]);
    assert_eq!(differs.status.code(), Some(79), "{differs:?}");
    let said: Value = serde_json::from_slice(&differs.stdout).unwrap();
    let missing = json!({
        "service": "orders", "address": second.address().to_string(), "what": "endpoint", "a": null, "b": "draining",
    });
    assert_eq!((&said["common"], &said["differences"]), (&json!(1), &json!([missing])));

    world.put("orders", second).await;
    world.write("orders", &[first.weighing(1.0), second.weighing(1.0)]);
    world.envoy_has("orders", &[first, second]).await;
    until(PATIENT, "the two to be the same", async || {
        world.leadsman.ask(&["compare", "shop", "local"]).status.success()
    })
    .await;
    let unknown = world.leadsman.ask(&["compare", "shop", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(65), "{unknown:?}");
    world.envoy.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn percentages_divide_the_traffic_between_registries_and_are_live() {
    let split = |shop: u8| {
        format!(
            "services: {{ orders: {{ merge: {{ percentage: {{ shop: {shop}, local: {} }} }} }} }}\n",
            100 - shop
        )
    };
    let world = World::start_with(&["orders"], &split(0)).await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    world.write("orders", &[Instance::of(&old)]);
    world.put("orders", Instance::of(&new)).await;
    world.envoy_has("orders", &[Instance::of(&old)]).await;
    world.configure(&split(20));
    world
        .envoy_has("orders", &[Instance::of(&old), Instance::of(&new)])
        .await;
    let report = world.load("orders").burst(200).await;
    report.assert_unharmed();
    // Round robin by weight: the share is exact but for where it begins.
    assert!((report.share("new") - 0.2).abs() < 0.03, "{report:?}");
    world.configure(&split(100));
    world.envoy_has("orders", &[Instance::of(&new)]).await;
    world.envoy.assert_clean().await;
}
