//! A server that forgets: every way in which a watch or a listing comes too late.

use std::time::Duration;

use leadsman_core::model::Evidence;
use leadsman_registry::SourceState;
use leadsman_registry::kubernetes::{Config, Kubernetes as Adapter};
use leadsman_tests::contract::Subject;
use leadsman_tests::instance::Instance;
use leadsman_tests::kubernetes::{Data, Setup};
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::rigs::kubernetes::Rig;
use leadsman_tests::wait::{PATIENT, until};

/// A source that knows one instance.
async fn following(setup: Setup) -> (Rig, Observed, Instance) {
    let mut rig = Rig::start_own(setup).await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one])])).await;
    (rig, observed, one)
}

/// Everything was listed again, as complete as before, and changes are still seen.
async fn went_on(mut rig: Rig, observed: Observed, known: Instance) {
    observed
        .status_becomes("another listing", |status| status.counters.resyncs >= 2)
        .await;
    let two = Instance::new(9002);
    rig.put("orders", two).await;
    observed.becomes(&rig.state(&[("orders", &[known, two])])).await;
    observed.enters(&[SourceState::Live]).await;
    let doubted = |note: &Note| match note {
        Note::Resync { evidence, .. } => *evidence != Evidence::Complete,
        Note::Delete(_) | Note::Impaired(_) => true,
        Note::Apply(_) | Note::Reconciled { .. } => false,
    };
    let notes = observed.heard().notes;
    assert!(!notes.iter().any(doubted), "{notes:?}");
}

/// A watch goes on from a version that etcd has compacted: 410 as an event of the watch.
#[tokio::test]
async fn a_watch_that_comes_too_late_is_told_so_in_the_stream() {
    let setup = Setup {
        uncached: true,
        ..Setup::default()
    };
    let (rig, observed, one) = following(setup).await;
    for _ in 0..3 {
        rig.server.etcd.put("/elsewhere", "").await;
    }
    rig.server.etcd.compact().await;
    went_on(rig, observed, one).await;
}

/// As in every cluster, where the server does so every five minutes, and here every second.
#[tokio::test]
async fn a_server_that_compacts_by_itself_is_listed_anew() {
    let setup = Setup {
        uncached: true,
        forgetful: true,
        ..Setup::default()
    };
    let (rig, observed, one) = following(setup).await;
    until(PATIENT, "another listing", async || {
        rig.server.etcd.put("/elsewhere", "").await;
        observed.status().counters.resyncs >= 2
    })
    .await;
    went_on(rig, observed, one).await;
}

/// A server that is restarted knows nothing older than its start.
#[tokio::test]
async fn a_server_that_is_restarted_forgets_what_was_before() {
    let (mut rig, observed, one) = following(Setup::default()).await;
    rig.server.etcd.put("/elsewhere", "").await;
    rig.cluster().kill();
    rig.cluster().restart(Data::Kept).await;
    went_on(rig, observed, one).await;
}

/// A server in order ends its watches before it ends itself.
#[tokio::test]
async fn a_watch_that_ends_before_its_time_is_not_trusted() {
    let (mut rig, observed, one) = following(Setup::default()).await;
    rig.cluster().terminate();
    rig.cluster().restart(Data::Kept).await;
    went_on(rig, observed, one).await;
}

/// The server loses etcd, which compacts meanwhile: the watches end in order, and can't be resumed.
#[tokio::test]
async fn a_server_that_lost_its_store_for_a_while_is_listed_anew() {
    let setup = Setup {
        relayed: true,
        ..Setup::default()
    };
    let (rig, observed, one) = following(setup).await;
    let relay = rig.server.relay.as_ref().unwrap();
    relay.sever();
    for _ in 0..3 {
        rig.server.etcd.put("/elsewhere", "").await;
    }
    rig.server.etcd.compact().await;
    relay.heal();
    went_on(rig, observed, one).await;
}

/// Etcd compacts while a listing is on its way from page to page: the listing begins anew, in the same session.
#[tokio::test]
async fn a_listing_that_takes_too_long_begins_anew() {
    let setup = Setup {
        uncached: true,
        ..Setup::default()
    };
    let mut rig = Rig::start_own(setup).await;
    let instances: Vec<Instance> = (9001..9013).map(Instance::new).collect();
    for instance in &instances {
        rig.put("orders", *instance).await;
    }
    let config = Config {
        page_size: 1,
        ..rig.config()
    };
    rig.proxy.delay(Duration::from_millis(100));
    let observed = Observed::start(Adapter::new(config));
    observed.enters(&[SourceState::Syncing]).await;
    rig.server.etcd.put("/elsewhere", "").await;
    rig.server.etcd.compact().await;
    let listing = rig.proxy.accepted();
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &instances)])).await;
    let status = observed.status();
    assert_eq!(
        (status.counters.sessions, status.counters.resyncs),
        (1, 1),
        "{listing} {status:?}"
    );
}

/// Nobody remembers what was removed meanwhile, but the rest is still there: the same cluster, and a removal.
#[tokio::test]
async fn a_removal_that_nobody_remembers_is_believed_where_the_rest_is_still_there() {
    let setup = Setup {
        uncached: true,
        ..Setup::default()
    };
    let mut rig = Rig::start_own(setup).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let observed = rig.observe();
    observed.becomes(&rig.state(&[("orders", &[one, two])])).await;
    rig.proxy.sever();
    observed.enters(&[SourceState::Degraded]).await;
    rig.remove("orders", one.port).await;
    rig.server.etcd.put("/elsewhere", "").await;
    rig.server.etcd.compact().await;
    rig.heal().await;
    observed.becomes(&rig.state(&[("orders", &[two])])).await;
    let doubted = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    let notes = observed.heard().notes;
    assert!(!notes.iter().any(doubted), "{notes:?}");
}
