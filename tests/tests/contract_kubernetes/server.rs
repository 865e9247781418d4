//! What a cluster can do: die, lose its data, and have more slices than fit on a page.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::kubernetes::{Config, Kubernetes as Adapter};
use leadsman_tests::contract::Subject;
use leadsman_tests::instance::Instance;
use leadsman_tests::kubernetes::{Data, Setup};
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::kubernetes::{Rig, resyncs};
use leadsman_tests::wait::{PATIENT, until};

#[tokio::test]
async fn a_killed_cluster_says_nothing_and_comes_back_without_drift() {
    let mut rig = Rig::start_own(Setup::default()).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    let ill = two.being(Health::Unhealthy);
    rig.put("orders", one).await;
    rig.put("orders", ill).await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let known = rig.state(&[("orders", &[one, ill])]);
    observed.becomes(&known).await;

    rig.cluster().kill();
    observed.enters(&[SourceState::Degraded]).await;
    observed.is_silent_for(Duration::from_secs(2)).await;
    assert_eq!(observed.state(), known);

    rig.cluster().restart(Data::Kept).await;
    rig.put("orders", three).await;
    observed.becomes(&rig.state(&[("orders", &[one, ill, three])])).await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > seen)
        .await;
    let doubted = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    assert!(
        !observed.heard().notes.iter().any(doubted),
        "{:?}",
        observed.heard().notes
    );
    assert_eq!(observed.status().counters.reconcile_drift, 0);
}

/// Loses everything, does what the test wants, and says why the next listing was a new epoch.
async fn lose_everything(mut rig: Rig, meanwhile: impl AsyncFn(&mut Rig)) -> String {
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for port in 9100..9120 {
        rig.put("users", Instance::new(port)).await;
    }
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    rig.proxy.refuse();
    rig.cluster().kill();
    rig.cluster().restart(Data::Lost).await;
    meanwhile(&mut rig).await;
    rig.put("orders", one).await;
    rig.heal().await;
    observed
        .status_becomes("a second listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let [
        Note::Resync {
            services: 1,
            evidence: Evidence::NewEpoch { why },
            ..
        },
    ] = &notes[before..]
    else {
        panic!("{:?}", &notes[before..]);
    };
    // A new epoch is still watched.
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    why.clone()
}

#[tokio::test]
async fn a_cluster_that_lost_its_data_is_a_new_epoch() {
    let rig = Rig::start_own(Setup::default()).await;
    for _ in 0..300 {
        rig.server.etcd.put("/elsewhere", "").await;
    }
    let why = lose_everything(rig, async |_| {}).await;
    assert!(why.contains("went back"), "{why}");
}

#[tokio::test]
async fn a_cluster_that_lost_its_data_and_has_written_as_much_again_is_a_new_epoch() {
    let rig = Rig::start_own(Setup::default()).await;
    let busy = async |rig: &mut Rig| {
        for _ in 0..500 {
            rig.server.etcd.put("/elsewhere", "").await;
        }
    };
    let why = lose_everything(rig, busy).await;
    assert!(why.contains("has never heard of it"), "{why}");
}

#[tokio::test]
async fn a_cluster_that_has_forgotten_the_past_and_lists_nothing_known_is_a_new_epoch() {
    let rig = Rig::start_own(Setup::default()).await;
    let busy = async |rig: &mut Rig| {
        for _ in 0..500 {
            rig.server.etcd.put("/elsewhere", "").await;
        }
        rig.server.etcd.compact().await;
    };
    let why = lose_everything(rig, busy).await;
    assert!(why.starts_with("none of the 20 slices known is listed"), "{why}");
}

#[tokio::test]
async fn a_listing_of_many_pages_is_whole() {
    let mut rig = Rig::start().await;
    let instances: Vec<Instance> = (9001..9051).map(Instance::new).collect();
    for instance in &instances {
        rig.put("orders", *instance).await;
    }
    let config = Config {
        page_size: 7,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&rig.state(&[("orders", &instances)])).await;
    assert_eq!(resyncs(&observed), 1);
}

#[tokio::test]
async fn a_reconcile_with_nothing_lost_finds_nothing() {
    let mut rig = Rig::start().await;
    let one = Instance::new(9001);
    for port in 9001..9010 {
        rig.put("orders", Instance::new(port)).await;
    }
    let config = Config {
        reconcile: Duration::from_millis(100),
        page_size: 4,
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    // Changes race with the comparison, and must not be taken for lost events.
    until(PATIENT, "two reconciles", async || {
        for health in [Health::Healthy, Health::Unhealthy] {
            rig.put("users", one.being(health)).await;
        }
        observed.status().counters.reconciles >= 2
    })
    .await;
    let notes = observed.heard().notes.split_off(before);
    let expected = |note: &Note| *note == Note::Reconciled { drift: 0 } || *note == Note::Apply("users".into());
    assert!(notes.iter().all(expected), "{notes:?}");
}
