//! What etcd's revisions can do to a watch: leases, compaction, large answers, pages and comparisons.

use std::time::Duration;

use etcd_client::TxnOp;
use leadsman_registry::SourceState;
use leadsman_registry::etcd::{Config, Etcd as Adapter};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::etcd::Version;
use leadsman_tests::instance::{Instance, key};
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, until};

use leadsman_tests::rigs::etcd::{Rig, padded, resyncs};

pub(crate) async fn an_expired_lease_takes_its_instances_in_one_step(version: Version) {
    let mut rig = Rig::start(version).await;
    let stays = Instance::new(9000);
    rig.put("orders", stays).await;
    let lease = rig.etcd.grant(2).await;
    let leased: Vec<Instance> = (9001..=9005).map(Instance::new).collect();
    for &instance in &leased {
        let (key, value) = (key("orders", instance.port), instance.record().to_string());
        rig.etcd.put_leased(&key, &value, lease).await;
    }
    let observed = rig.observe();
    let all: Vec<Instance> = std::iter::once(stays).chain(leased).collect();
    observed.becomes(&state(&[("orders", &all)])).await;
    let before = observed.heard().notes.len();
    observed.becomes(&state(&[("orders", &[stays])])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
}

pub(crate) async fn a_compaction_during_an_outage_hides_no_removal(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    rig.remove("orders", one.port).await;
    rig.put("users", two).await;
    rig.etcd.compact().await;
    rig.heal().await;
    observed.becomes(&state(&[("users", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn a_compaction_that_overtakes_a_slow_watch_hides_no_removal(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.stall();
    // More than the windows and buffers between here and there hold, so that etcd has to set the watch aside.
    for round in 0..400_u32 {
        let large = Instance::new(9003).weighing(f64::from(round));
        rig.etcd.put(&key("large", large.port), &padded(large, 100_000)).await;
    }
    rig.remove("large", 9003).await;
    rig.remove("orders", one.port).await;
    rig.put("users", two).await;
    rig.etcd.compact().await;
    rig.heal().await;
    observed.becomes(&state(&[("users", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// Flags that let one transaction hold seven mebibytes.
const LARGE: [&str; 2] = ["--max-request-bytes=16777216", "--max-txn-ops=2000"];

pub(crate) async fn a_revision_of_seven_mebibytes_arrives_whole(version: Version) {
    let rig = Rig::start_with(version, &LARGE).await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    let instances: Vec<Instance> = (1..=1000).map(Instance::new).collect();
    let put = |instance: &Instance| TxnOp::put(key("orders", instance.port), padded(*instance, 7300), None);
    rig.etcd.transact(instances.iter().map(put)).await;
    observed.becomes(&state(&[("orders", &instances)])).await;
    observed.heard_only(before, &[Note::Apply("orders".into())]);
    assert_eq!(observed.status().counters.sessions, 1);
}

pub(crate) async fn a_listing_larger_than_a_message_arrives_whole(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(1500, 5000).await;
    let observed = rig.observe();
    observed.becomes(&expected).await;
    assert_eq!((observed.status().counters.sessions, resyncs(&observed)), (1, 1));

    // The same as a catch-up after an outage.
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    let expected = rig.put_many(1800, 5000).await;
    rig.proxy.heal();
    observed.becomes(&expected).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn twenty_thousand_keys_are_listed_in_pages_while_history_is_compacted(version: Version) {
    let rig = Rig::start(version).await;
    let expected = rig.put_many(20_000, 0).await;
    rig.proxy.throttle(500_000);
    let observed = rig.observe();
    // The listing asks for its later pages at the revision of the first; compacting takes that away.
    until(PATIENT, "the listing to begin", async || {
        observed.status().state == SourceState::Syncing
    })
    .await;
    rig.etcd.compact().await;
    assert_eq!(observed.heard().notes, [], "the listing ended before the compaction");
    rig.proxy.heal();
    observed.becomes(&expected).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn keys_beside_the_prefix_do_not_count(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.etcd
        .put("/services-old/orders/9002", &two.record().to_string())
        .await;
    let config = Config::new(rig.config().endpoints, "/services");
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    rig.etcd
        .put("/services-old/orders/9003", &two.record().to_string())
        .await;
    rig.etcd.put("/servicesx/orders/9003", &two.record().to_string()).await;
    rig.put("users", two).await;
    observed.becomes(&state(&[("orders", &[one]), ("users", &[two])])).await;
    observed.heard_only(before, &[Note::Apply("users".into())]);
    assert_eq!(observed.heard().unattributed, 0);
}

pub(crate) async fn a_reconcile_with_nothing_lost_finds_nothing(version: Version) {
    let mut rig = Rig::start(version).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let config = Config {
        reconcile: Duration::from_millis(100),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    // Changes race with the comparison, and must not be taken for lost events.
    for round in 0..200_u32 {
        rig.put("users", one.weighing(f64::from(round))).await;
    }
    observed
        .status_becomes("ten reconciles", |status| status.counters.reconciles >= 10)
        .await;
    let notes = observed.heard().notes.split_off(before);
    let expected = |note: &Note| *note == Note::Reconciled { drift: 0 } || *note == Note::Apply("users".into());
    assert!(notes.iter().all(expected), "{notes:?}");
}

/// Nothing is written after the listing, so that only a question can show that nothing was lost.
pub(crate) async fn a_quiet_registry_is_compared_with_too(version: Version) {
    let mut rig = Rig::start(version).await;
    rig.put("orders", Instance::new(9001)).await;
    let config = Config {
        reconcile: Duration::from_millis(500),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("three reconciles", |status| status.counters.reconciles >= 3)
        .await;
    rig.proxy.reset();
    observed
        .status_becomes("a second session", |status| status.counters.resyncs == 2)
        .await;
    let before = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > before)
        .await;
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}
