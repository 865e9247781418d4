//! Two ways to find a service: names in DNS, and an HTTP registry for when DNS says nothing.

use leadsman_registry::dns::Transport;
use leadsman_tests::consul::{Consul, Setup};
use leadsman_tests::contract::Subject;
use leadsman_tests::instance::Instance;
use leadsman_tests::leadsman::Leadsman;
use leadsman_tests::rigs::dns::{Rig, name};
use leadsman_tests::wait::{PATIENT, until_ok};
use serde_json::json;

/// Waits until Envoy would get exactly these endpoints of `orders`, each from this source.
async fn publishes(leadsman: &Leadsman, expected: &[(&str, u16)]) {
    until_ok(PATIENT, &format!("{expected:?}"), async || {
        let explained = leadsman.api("/api/v1/explain/orders").await;
        let endpoints = explained["endpoints"].as_array().cloned().unwrap_or_default();
        let published = endpoints.into_iter().filter(|endpoint| endpoint["in_envoy"] == true);
        let mut seen: Vec<String> = published
            .map(|endpoint| {
                format!(
                    "{} {}",
                    endpoint["source"].as_str().unwrap_or_default(),
                    endpoint["address"].as_str().unwrap_or_default()
                )
            })
            .collect();
        seen.sort();
        let expected: Vec<String> = expected
            .iter()
            .map(|(source, port)| format!("{source} 127.0.0.1:{port}"))
            .collect();
        if seen == expected { Ok(()) } else { Err(explained) }
    })
    .await;
}

/// A Consul that has `orders` at port 9002.
async fn consul() -> Consul {
    let consul = Consul::start(Setup::default()).await;
    let instance = json!({ "ID": "orders-1", "Service": "orders", "Address": "127.0.0.1", "Port": 9002 });
    consul
        .register(&json!({ "Node": "n", "Address": "127.0.0.1", "Service": instance }))
        .await;
    consul
}

/// Both as sources, DNS first; `keys` are further ones of DNS.
fn launch(rig: &Rig, consul: &Consul, keys: &str) -> Leadsman {
    let names = format!(
        "orders: {{ name: '{}' }}, users: {{ name: '{}' }}",
        name("orders"),
        name("users")
    );
    let config = format!(
        "sources:\n  names: {{ dns: {{ names: {{ {names} }}, servers: ['{}'], min_ttl: 50ms, retry: 100ms{keys} }} }}\n  \
         http: {{ consul: {{ endpoints: ['http://{}'], discovery: 100ms }} }}\n\
         services: {{ orders: {{ sources: [names, http], merge: fallback }} }}\n",
        rig.proxy.address(),
        consul.address()
    );
    Leadsman::launch_in(tempfile::tempdir().unwrap(), &config)
}

#[tokio::test]
async fn a_dns_that_is_lost_for_too_long_is_moved_on_from_where_that_is_wanted() {
    let mut rig = Rig::start(Transport::Auto).await;
    rig.put("orders", Instance::new(9001)).await;
    let consul = consul().await;
    let leadsman = launch(&rig, &consul, ", max_stale: 1s");
    publishes(&leadsman, &[("names", 9001)]).await;
    rig.lose().await;
    publishes(&leadsman, &[("http", 9002)]).await;
    rig.heal().await;
    publishes(&leadsman, &[("names", 9001)]).await;
}

#[tokio::test]
async fn an_http_registry_stands_in_while_dns_has_nothing_to_say() {
    let mut rig = Rig::start(Transport::Auto).await;
    rig.put("users", Instance::new(9009)).await;
    let consul = consul().await;
    rig.lose().await;
    let leadsman = launch(&rig, &consul, "");
    // No DNS since the start.
    publishes(&leadsman, &[("http", 9002)]).await;
    // A DNS that does not have it.
    rig.heal().await;
    leadsman.ready().await;
    publishes(&leadsman, &[("http", 9002)]).await;
    // A DNS that does.
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    publishes(&leadsman, &[("names", 9001)]).await;
    // A DNS that is lost keeps its word, so nothing moves.
    rig.lose().await;
    until_ok(PATIENT, "the loss to be noticed", async || {
        let sources = leadsman.api("/api/v1/sources").await;
        let degraded = sources.as_array().is_some_and(|sources| {
            sources
                .iter()
                .any(|source| source["name"] == "names" && source["state"] == "degraded")
        });
        if degraded { Ok(()) } else { Err(sources) }
    })
    .await;
    publishes(&leadsman, &[("names", 9001)]).await;
    rig.heal().await;
    rig.remove("orders", one.port).await;
    publishes(&leadsman, &[("http", 9002)]).await;
    // Decidedly not available in DNS: the other one has it.
    rig.add(&[&format!("{} 0 SRV 0 0 0 .", name("orders"))]).await;
    publishes(&leadsman, &[("http", 9002)]).await;
}
