//! What a network can do to a watch: closing, silence, resets, delay and a narrow path.

use std::time::Duration;

use leadsman_registry::SourceState;
use leadsman_tests::contract::{Subject, network as suite, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::Note;
use leadsman_tests::wait::throughout;

use leadsman_tests::rigs::zookeeper::{Rig, resyncs, value};

/// ZooKeeper's recursive watches forget what happens between two connections: neither event ever arrives.
#[tokio::test]
async fn what_comes_and_goes_while_the_connection_is_cut_is_not_missed() {
    let mut rig = Rig::shared().await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    rig.proxy.refuse();
    rig.proxy.cut();
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", three).await;
    rig.remove("orders", one.port).await;
    rig.put("users", one).await;
    rig.remove("users", one.port).await;
    rig.put("orders", two.weighing(3.0)).await;
    rig.heal().await;
    observed
        .becomes(&state(&[("orders", &[two.weighing(3.0), three])]))
        .await;
    observed.enters(&[SourceState::Live]).await;
}

/// With a new leader everybody lists and registers anew at the same moment, so what a listing does not show may be back
/// at once: it goes by itself, and a moment later.
#[tokio::test]
async fn what_a_new_listing_does_not_show_is_waited_for_as_long_as_what_was_deleted() {
    let mut rig = Rig::shared().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    rig.proxy.refuse();
    rig.proxy.cut();
    observed.enters(&[SourceState::Degraded]).await;
    let before = observed.heard().notes.len();
    rig.remove("orders", one.port).await;
    rig.heal().await;
    observed.becomes(&state(&[("users", &[one])])).await;
    let notes = observed.heard().notes.split_off(before);
    let [Note::Resync { services: 2, .. }, Note::Delete(gone)] = notes.as_slice() else {
        panic!("{notes:?}");
    };
    assert_eq!(gone, "orders");
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}

/// The grace of a deleted node ends while the answers about others are on their way, and behind them its return.
#[tokio::test]
async fn what_comes_back_while_others_are_read_was_never_away() {
    let mut rig = Rig::shared().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    rig.put("users", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one]), ("users", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.proxy.delay(Duration::from_millis(150));
    for round in 1..=10_u8 {
        let other = one.weighing(f64::from(round));
        rig.remove("orders", one.port).await;
        rig.put("users", other).await;
        rig.put("orders", one).await;
        observed
            .becomes(&state(&[("orders", &[one]), ("users", &[other])]))
            .await;
    }
    let notes = observed.heard().notes.split_off(before);
    assert!(
        notes.iter().all(|note| *note == Note::Apply("users".into())),
        "{notes:?}"
    );
}

#[tokio::test]
async fn a_short_cut_that_the_ensemble_never_notices_is_a_new_listing() {
    let mut rig = Rig::shared().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.cut();
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_caught_up_with() {
    suite::a_silent_path_is_noticed_and_caught_up_with(&mut Rig::shared().await).await;
}

/// Long enough for the ensemble to expire the session, which is no reason to remove anything.
#[tokio::test]
async fn an_expired_session_removes_nothing() {
    let mut rig = Rig::shared().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", two).await;
    observed.is_silent_for(Duration::from_secs(6)).await;
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    rig.heal().await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}

#[tokio::test]
async fn a_storm_of_resets_loses_no_change() {
    suite::a_storm_of_resets_loses_no_change(&mut Rig::shared().await, 0).await;
}

#[tokio::test]
async fn a_slow_network_only_delays() {
    let mut rig = Rig::shared().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.proxy.delay(Duration::from_millis(200));
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));
}

/// More names than fit into `jute.maxbuffer`, which limits what a server takes and not what this client does.
#[tokio::test]
async fn children_of_more_than_a_mebibyte_are_listed() {
    let rig = Rig::shared().await;
    let instances: Vec<Instance> = (1..=8000).map(Instance::new).collect();
    rig.zookeeper.put(&format!("{}/orders/first", rig.prefix), b"{}").await;
    let padded = |instance: &Instance| {
        let path = format!("{}-{}", rig.node("orders", instance.port), "x".repeat(150));
        (path, value(*instance))
    };
    let pairs: Vec<_> = instances.iter().map(padded).collect();
    rig.zookeeper.create_all(&pairs).await;
    rig.zookeeper.delete(&format!("{}/orders/first", rig.prefix)).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &instances)])).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));
}

/// The listing has passed the place already; only the watch tells.
#[tokio::test]
async fn what_registers_while_the_tree_is_listed_is_not_missed() {
    let mut rig = Rig::shared().await;
    let instances: Vec<Instance> = (1..=2000).map(Instance::new).collect();
    rig.put("orders", Instance::new(1)).await;
    let pairs: Vec<_> = instances
        .iter()
        .skip(1)
        .map(|instance| (rig.node("orders", instance.port), value(*instance)))
        .collect();
    rig.zookeeper.create_all(&pairs).await;
    rig.proxy.throttle(100_000);
    let observed = rig.observe();
    observed.enters(&[SourceState::Syncing]).await;
    throughout(Duration::from_millis(500), "the listing", async || {
        observed.status().state == SourceState::Syncing
    })
    .await;
    let late = Instance::new(9001);
    rig.put("users", late).await;
    observed
        .becomes(&state(&[("orders", &instances), ("users", &[late])]))
        .await;
    assert_eq!(observed.status().counters.sessions, 1);
}
