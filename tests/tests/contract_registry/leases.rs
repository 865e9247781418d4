//! Leases that run out, leases that are renewed, and times in which nobody could have renewed.

use std::time::Duration;

use http::Method;
use leadsman_registry::SourceState;
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::etcd::Version;
use leadsman_tests::instance::{Instance, key};
use leadsman_tests::observed::Observed;
use leadsman_tests::registrar::{LASTING, Registrar, body, path};
use leadsman_tests::rigs::registry::{Embedded, Shared};
use leadsman_tests::wait::{PATIENT, throughout, until};

use super::world::World;

/// Renewed, an instance of a second stays for three; unrenewed it goes, and the others stay.
async fn a_lease_lasts_as_long_as_it_is_renewed(registrar: &Registrar, observed: &Observed) {
    let (mortal, lasting) = (Instance::new(9001), Instance::new(9002));
    registrar.put("orders", lasting, LASTING).await;
    let receipt = registrar.put("orders", mortal, 1).await;
    let both = state(&[("orders", &[mortal, lasting])]);
    observed.becomes(&both).await;
    let renewal = format!("{}/lease/{}", path("orders", 9001), receipt["lease"].as_str().unwrap());
    throughout(Duration::from_secs(3), "the renewed lease", async || {
        let (status, answer) = registrar.ask(Method::PUT, &renewal, None).await;
        assert_eq!(status, 200, "{answer}");
        observed.state() == both
    })
    .await;
    observed.becomes(&state(&[("orders", &[lasting])])).await;
    assert_eq!(registrar.ask(Method::PUT, &renewal, None).await.0, 404);
}

#[tokio::test]
async fn in_a_directory_a_lease_lasts_as_long_as_it_is_renewed_and_its_end_has_a_reason() {
    let rig = Embedded::start().await;
    let observed = rig.observe();
    a_lease_lasts_as_long_as_it_is_renewed(rig.registrar(), &observed).await;
    let heard = observed.heard();
    let reasons: Vec<&str> = heard.services["orders"]
        .rejections
        .iter()
        .map(|r| r.reason.as_str())
        .collect();
    assert_eq!(reasons, ["its lease of 1 s ran out without being renewed"]);
}

#[tokio::test]
async fn in_an_etcd_a_lease_lasts_as_long_as_it_is_renewed() {
    let rig = Shared::start(Version::V36).await;
    let observed = rig.observe();
    a_lease_lasts_as_long_as_it_is_renewed(rig.registrar(), &observed).await;
}

#[tokio::test]
async fn a_registration_that_is_repeated_is_a_renewal() {
    let rig = Embedded::start().await;
    let observed = rig.observe();
    let one = Instance::new(9001);
    rig.registrar().put("orders", one, 1).await;
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    throughout(Duration::from_secs(3), "the repeated registration", async || {
        rig.registrar()
            .insist(Method::PUT, &path("orders", 9001), Some(body(one, 1)))
            .await["changed"]
            == false
    })
    .await;
    observed.heard_only(before, &[]);
}

#[tokio::test]
async fn the_last_instance_that_dies_takes_the_service_with_it() {
    let rig = Embedded::start().await;
    let observed = rig.observe();
    let one = Instance::new(9001);
    rig.registrar().put("orders", one, 1).await;
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    observed.becomes(&state(&[])).await;
    observed.heard_only(before, &[leadsman_tests::observed::Note::Delete("orders".to_owned())]);
}

#[tokio::test]
async fn nobody_is_evicted_because_the_registry_was_killed() {
    let mut world = World::start().await;
    let one = Instance::new(9001);
    let receipt = world.registrar.put("orders", one, 2).await;
    world.leadsman.process().kill();
    // The time of the lease passes while nobody could have renewed it.
    throughout(Duration::from_millis(2500), "the death", async || true).await;
    world.leadsman.restart();
    let renewal = format!("{}/lease/{}", path("orders", 9001), receipt["lease"].as_str().unwrap());
    let renewed = world.registrar.insist(Method::PUT, &renewal, None).await;
    assert_eq!(renewed["version"], receipt["version"]);
    until(PATIENT, "the instance", async || {
        world.members("orders").await.len() == 1
    })
    .await;
    until(PATIENT, "its end", async || world.members("orders").await.is_empty()).await;
}

#[tokio::test]
async fn nobody_is_evicted_because_the_registry_stood_still() {
    let mut world = World::start().await;
    for port in 1..=20 {
        world.registrar.put("orders", Instance::new(port), 2).await;
    }
    until(PATIENT, "the instances", async || {
        world.members("orders").await.len() == 20
    })
    .await;
    world.leadsman.process().pause();
    throughout(Duration::from_secs(3), "the pause", async || true).await;
    world.leadsman.process().resume();
    // Everybody has its whole time again, from the moment on in which it can be renewed.
    let list = world
        .registrar
        .insist(Method::GET, "/v1/services/orders/instances", None)
        .await;
    assert_eq!(list["instances"].as_array().map(Vec::len), Some(20), "{list}");
    assert!(
        world.leadsman.log().contains("nobody could renew"),
        "{}",
        world.leadsman.log()
    );
    until(PATIENT, "their end", async || world.members("orders").await.is_empty()).await;
}

#[tokio::test]
async fn an_etcd_that_is_away_is_said_to_be_and_takes_nobody_away() {
    let mut rig = Shared::start(Version::V36).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    let here = Registrar::new(rig.listen);
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    // The port stays open: whoever comes while no session runs waits for the next one.
    let (status, answer) = here.ask(Method::GET, &path("orders", 9001), None).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (503, Some("unavailable")),
        "{answer}"
    );
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    rig.proxy.heal();
    here.insist(Method::GET, &path("orders", 9001), None).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn in_an_etcd_a_lease_that_others_granted_is_left_to_them() {
    let rig = Shared::start(Version::V36).await;
    // One lease for several records, as frameworks do it.
    let lease = rig.etcd.grant(LASTING.into()).await;
    for port in [9001, 9002, 9003] {
        let record = Instance::new(port).record().to_string();
        rig.etcd.put_leased(&key("orders", port), &record, lease).await;
    }
    rig.registrar().put("orders", Instance::new(9001), LASTING).await;
    rig.registrar().remove("orders", 9002).await;
    let left = rig.etcd.keys(&key("orders", 9003)).await;
    assert_eq!(left, [key("orders", 9003)], "nobody has ended it");
}
