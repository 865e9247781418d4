//! What a network can do to a watch: closing, silence and resets.

use std::collections::BTreeMap;
use std::time::Duration;

use leadsman_registry::kubernetes::Kubernetes as Adapter;
use leadsman_registry::{SourceState, SuperviseOptions};
use leadsman_tests::contract::Subject;
use leadsman_tests::instance::Instance;
use leadsman_tests::kubernetes::Setup;
use leadsman_tests::observed::{Observed, pace};
use leadsman_tests::rigs::kubernetes::Rig;
use leadsman_tests::seed;
use leadsman_tests::wait::{PATIENT, until};

#[tokio::test]
async fn a_closed_connection_misses_nothing() {
    let mut rig = Rig::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.proxy.refuse();
    rig.proxy.cut();
    observed.enters(&[SourceState::Degraded]).await;
    rig.put("orders", two).await;
    rig.remove("orders", one.port).await;
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &[two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn a_silent_path_is_noticed_and_caught_up_with() {
    let mut rig = Rig::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.proxy.stall();
    rig.put("orders", two).await;
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_and_caught_up_with() {
    let mut rig = Rig::start_own(Setup::default()).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    rig.server.pause();
    observed.enters(&[SourceState::Degraded]).await;
    assert_eq!(observed.state(), rig.state(&[("orders", &[one])]));
    rig.server.resume();
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

/// Watches end in their time and begin anew from where they were: no listing, no loss, and nobody notices.
#[tokio::test]
async fn watches_follow_each_other_without_a_gap() {
    let mut rig = Rig::start().await;
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let mut held = Vec::new();
    let progress = || {
        let heard = observed.heard();
        heard.revisions.len() - heard.notes.len()
    };
    // A watch says so before its end and at its end: the fifth is of the third.
    until(PATIENT, "a third watch", async || {
        let instance = Instance::new(9000 + u16::try_from(held.len() % 1000).unwrap());
        held.retain(|held| *held != instance);
        held.push(instance);
        rig.put("orders", instance).await;
        progress() >= 5
    })
    .await;
    observed.becomes(&rig.state(&[("orders", &held)])).await;
    let status = observed.status();
    assert_eq!(
        (status.counters.sessions, status.counters.resyncs),
        (1, 1),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_storm_of_resets_loses_no_change() {
    const CUTS: usize = 50;
    const CHANGES_BETWEEN: usize = 20;
    let mut random = seed::rng();
    let mut rig = Rig::start().await;
    let quick = SuperviseOptions {
        backoff_max: Duration::from_millis(100),
        ..pace()
    };
    let observed = Observed::start_with(Adapter::new(rig.config()), quick);
    observed.enters(&[SourceState::Live]).await;
    let mut held: BTreeMap<String, BTreeMap<u16, Instance>> = BTreeMap::new();
    for _ in 0..CUTS {
        let cut_at = random.usize(..CHANGES_BETWEEN);
        for turn in 0..CHANGES_BETWEEN {
            let instance = Instance::new(random.u16(9001..9010));
            let service = format!("s{}", random.u8(..10));
            if random.u8(..3) == 0 {
                rig.remove(&service, instance.port).await;
                held.entry(service).or_default().remove(&instance.port);
            } else {
                rig.put(&service, instance).await;
                held.entry(service).or_default().insert(instance.port, instance);
            }
            if turn == cut_at {
                if random.bool() {
                    rig.proxy.reset()
                } else {
                    rig.proxy.cut()
                }
            }
        }
        // Some cuts meet a session that is listing, the others one that watches.
        if random.bool() {
            observed.enters(&[SourceState::Live]).await;
        }
    }
    let held: Vec<(String, Vec<Instance>)> = held
        .into_iter()
        .map(|(service, instances)| (service, instances.into_values().collect()))
        .collect();
    let held = held.iter().filter(|(_, instances)| !instances.is_empty());
    let held: Vec<(&str, &[Instance])> = held.map(|(name, all)| (name.as_str(), all.as_slice())).collect();
    observed.becomes(&rig.state(&held)).await;
    assert!(observed.status().counters.sessions > 10, "{:?}", observed.status());
}
