//! What a Eureka says about its instances and about us: statuses, overrides, locked doors, wrong paths.

use leadsman_core::model::Health;
use leadsman_registry::SourceState;
use leadsman_registry::eureka::{Config, Eureka as Adapter, Naming};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::eureka::Dialect;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::Observed;
use serde_json::json;

use leadsman_tests::rigs::eureka::{Rig, id, record};

#[tokio::test]
async fn every_status_and_an_override_become_a_health() {
    let mut rig = Rig::shared(Dialect::XStream).await;
    let ports = [
        ("UP", 9001),
        ("DOWN", 9002),
        ("OUT_OF_SERVICE", 9003),
        ("UNKNOWN", 9004),
        ("STARTING", 9005),
    ];
    for (status, port) in ports {
        let mut record = record("orders", Instance::new(port));
        record["status"] = json!(status);
        rig.eureka.register("orders", &record).await;
    }
    let observed = rig.observe();
    let up = Instance::new(9001);
    let others = [
        Instance::new(9002).being(Health::Unhealthy),
        Instance::new(9003).being(Health::Draining),
        Instance::new(9004).being(Health::Unhealthy),
    ];
    let all = |first| state(&[("orders", &[first, others[0], others[1], others[2]])]);
    observed.becomes(&all(up)).await;
    rig.eureka
        .override_status("orders", &id("orders", 9001), "OUT_OF_SERVICE")
        .await;
    observed.becomes(&all(up.being(Health::Draining))).await;
    let heard = observed.heard();
    let endpoint = heard.services["orders"]
        .endpoints
        .iter()
        .find(|found| found.address.port() == 9001);
    assert_eq!(
        endpoint.unwrap().health_reason.as_ref(),
        "status=OUT_OF_SERVICE, overridden to OUT_OF_SERVICE"
    );
    rig.eureka.end_override("orders", &id("orders", 9001), "UP").await;
    observed.becomes(&all(up)).await;
    rig.put("orders", Instance::new(9005)).await;
    let started = Instance::new(9005);
    observed
        .becomes(&state(&[("orders", &[up, others[0], others[1], others[2], started])]))
        .await;
}

#[tokio::test]
async fn the_name_of_a_service_is_the_one_that_was_chosen() {
    let rig = Rig::shared(Dialect::XStream).await;
    let one = Instance::new(9001);
    let mut record = record("Orders", one);
    record["vipAddress"] = json!("Orders.internal, legacy");
    rig.eureka.register("Orders", &record).await;
    let named = async |service_name, expected: &[&str]| {
        let config = Config {
            service_name,
            ..rig.config()
        };
        let observed = Observed::start(Adapter::new(config));
        let instances = [one];
        let services: Vec<_> = expected.iter().map(|&name| (name, &instances[..])).collect();
        observed.becomes(&state(&services)).await;
    };
    named(Naming::App, &["orders"]).await;
    named(Naming::AppVerbatim, &["ORDERS"]).await;
    named(Naming::Vip, &["Orders.internal", "legacy"]).await;
}

#[tokio::test]
async fn a_refused_password_is_told_apart_and_the_right_one_is_read_anew() {
    let mut rig = Rig::start_locked().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.write_password("wrong\n");
    let observed = rig.observe();
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    assert_eq!(observed.heard().notes, []);
    rig.write_password("first\n");
    observed.becomes(&state(&[("orders", &[one])])).await;

    // The password changes behind our back: what is known stays known.
    let refused = observed.status().counters.auth_failures;
    rig.eureka.kill();
    rig.eureka.restart_locked("second").await;
    observed
        .status_becomes("refused again", |status| status.counters.auth_failures > refused)
        .await;
    rig.put("orders", two).await;
    rig.put("orders", one).await;
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.write_password("second\n");
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn an_endpoint_without_its_path_is_diagnosed() {
    let rig = Rig::shared(Dialect::XStream).await;
    let config = Config::new(vec![format!("http://{}", rig.proxy.address())]);
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("the diagnosis", |status| {
            status
                .last_error
                .as_ref()
                .is_some_and(|error| error.contains("such as /eureka"))
        })
        .await;
    assert_eq!(observed.heard().notes, []);
}
