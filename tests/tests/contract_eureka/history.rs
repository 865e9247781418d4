//! What polling can miss: changes between polls, during an outage, and behind a sum that stays the same.

use std::time::{Duration, SystemTime};

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::eureka::{Config, Eureka as Adapter};
use leadsman_tests::contract::{Subject, network, state};
use leadsman_tests::eureka::Dialect;
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, until};

use leadsman_tests::rigs::eureka::{Rig, id, resyncs};

/// The server tells of a change for half a second only.
const FORGETFUL: [&str; 3] = [
    "--eureka.server.retention-time-in-m-s-in-delta-queue=500",
    "--eureka.server.delta-retention-timer-interval-in-ms=200",
    "--eureka.server.response-cache-auto-expiration-in-seconds=1",
];

/// Waits for an answer that the proxy holds back.
fn patient(rig: &Rig) -> Config {
    Config {
        timeout: PATIENT,
        ..rig.config()
    }
}

/// Waits until the leases of now are so old that the server's clock, which it shows in whole seconds, proves it.
async fn leases_are_old() {
    let began = SystemTime::now();
    until(PATIENT, "leases of two seconds", async || {
        began.elapsed().is_ok_and(|age| age > Duration::from_secs(2))
    })
    .await;
}

/// Shows that up to `most` changes were lost, and counted. The answer that the proxy held back may have told of some.
fn lost(observed: &Observed, most: u64) {
    let drift = observed.status().counters.reconcile_drift;
    assert!((1..=most).contains(&drift), "{drift}");
}

/// Waits until the server's delta tells of nothing.
async fn history_is_forgotten(rig: &Rig) {
    until(PATIENT, "an empty delta", async || {
        !rig.eureka.text("/apps/delta").await.contains("instanceId")
    })
    .await;
}

#[tokio::test]
async fn a_change_that_no_delta_tells_of_is_found_by_the_sum() {
    let mut rig = Rig::shared_with(Dialect::Jackson, &FORGETFUL).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("users", one).await;
    leases_are_old().await;
    let observed = Observed::start(Adapter::new(patient(&rig)));
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    rig.proxy.stall();
    rig.put("orders", two).await;
    rig.put("orders", three).await;
    rig.remove("users", one.port).await;
    history_is_forgotten(&rig).await;
    rig.proxy.heal();
    observed.becomes(&state(&[("orders", &[one, two, three])])).await;
    assert_eq!(observed.status().counters.sessions, 1);
    lost(&observed, 3);
    assert!(
        resyncs(&observed)
            .iter()
            .all(|(_, evidence)| *evidence == Evidence::Complete)
    );
}

#[tokio::test]
async fn a_replacement_of_one_instance_by_another_is_found_by_the_reconcile() {
    let mut rig = Rig::shared_with(Dialect::Jackson, &FORGETFUL).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    leases_are_old().await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..patient(&rig)
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > 0)
        .await;
    assert_eq!(observed.status().counters.reconcile_drift, 0);
    rig.proxy.stall();
    rig.remove("orders", two.port).await;
    rig.put("orders", three).await;
    history_is_forgotten(&rig).await;
    rig.proxy.heal();
    observed.becomes(&state(&[("orders", &[one, three])])).await;
    assert_eq!(observed.status().counters.sessions, 1);
    lost(&observed, 2);
}

#[tokio::test]
async fn a_removal_during_a_long_outage_is_believed_of_the_same_process_only() {
    let mut rig = Rig::shared_with(Dialect::Jackson, &FORGETFUL).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    leases_are_old().await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    rig.lose().await;
    observed.enters(&[SourceState::Degraded]).await;
    rig.remove("orders", two.port).await;
    history_is_forgotten(&rig).await;
    rig.heal().await;
    // The lease of the first is older than the outage.
    observed.becomes(&state(&[("orders", &[one])])).await;
    assert_eq!(resyncs(&observed).last(), Some(&(1, Evidence::Complete)));

    rig.eureka.kill();
    observed.enters(&[SourceState::Degraded]).await;
    rig.eureka.restart().await;
    rig.put("users", one).await;
    observed.becomes(&state(&[("users", &[one])])).await;
    let (_, evidence) = resyncs(&observed)
        .into_iter()
        .find(|(_, evidence)| *evidence != Evidence::Complete)
        .unwrap();
    assert!(
        matches!(&evidence, Evidence::NewEpoch { why } if why.contains("1 instances are gone")),
        "{evidence:?}"
    );
}

#[tokio::test]
async fn an_evicted_instance_goes_and_takes_nobody_with_it() {
    let mut rig = Rig::shared(Dialect::Legacy).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    let mut mortal = leadsman_tests::rigs::eureka::record("orders", two);
    mortal["leaseInfo"]["durationInSecs"] = 1.into();
    rig.eureka.register("orders", &mortal).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    // Nobody sends a heartbeat.
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.heard_only(before, &vec![Note::Apply("orders".into()); 2]);
    assert!(!rig.eureka.lists("orders", &id("orders", two.port)).await);
}

#[tokio::test]
async fn a_server_without_deltas_is_read_in_full() {
    let mut rig = Rig::shared_with(Dialect::Jackson, &["--eureka.server.disable-delta=true"]).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("users", one).await;
    leases_are_old().await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.put("orders", two).await;
    observed
        .becomes(&state(&[("orders", &[one, two]), ("users", &[one])]))
        .await;
    rig.remove("users", one.port).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.heard_only(before, &[Note::Apply("orders".into()), Note::Delete("users".into())]);
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_caught_up_with() {
    network::a_silent_path_is_noticed_and_caught_up_with(&mut Rig::shared(Dialect::Legacy).await).await;
}

#[tokio::test]
async fn a_storm_of_resets_loses_no_change() {
    let mut rig = Rig::shared(Dialect::Legacy).await;
    let config = Config {
        interval: Duration::from_millis(10),
        ..rig.config()
    };
    let observed = network::storm(&mut rig, Adapter::new(config), 0).await;
    assert!(
        resyncs(&observed)
            .iter()
            .all(|(_, evidence)| *evidence == Evidence::Complete)
    );
}
