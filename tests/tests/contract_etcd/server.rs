//! What happens to an etcd itself: locked doors, death, and a return as another one.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::SourceState;
use leadsman_registry::etcd::{Config, Etcd as Adapter};
use leadsman_tests::contract::{Subject, state};
use leadsman_tests::etcd::{Data, Version};
use leadsman_tests::instance::{Instance, PREFIX};
use leadsman_tests::leadsman::replace;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, until};
use tempfile::TempDir;

use leadsman_tests::rigs::etcd::Rig;

pub(crate) async fn a_refused_password_is_told_apart_and_the_right_one_is_read_anew(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    rig.put("orders", one).await;
    rig.etcd.enable_auth("reader", "first", PREFIX).await;
    let directory = TempDir::new().unwrap();
    let password = directory.path().join("password");
    replace(&password, "wrong\n");
    let config = Config {
        username: Some("reader".into()),
        password_file: Some(password.clone()),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed
        .status_becomes("credentials refused", |status| status.counters.auth_failures > 0)
        .await;
    let status = observed.status();
    assert_eq!((status.state, status.synced), (SourceState::Connecting, false));
    assert_eq!(observed.heard().notes, []);

    replace(&password, "first\n");
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed.enters(&[SourceState::Live]).await;

    // The password changes behind our back: what is known stays known.
    let refused = observed.status().counters.auth_failures;
    rig.etcd.change_password("reader", "second").await;
    rig.proxy.reset();
    observed
        .status_becomes("refused again", |status| status.counters.auth_failures > refused)
        .await;
    rig.put("orders", two).await;
    assert_eq!(observed.status().state, SourceState::Degraded);
    assert_eq!(observed.state(), state(&[("orders", &[one])]));
    replace(&password, "second\n");
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    observed.enters(&[SourceState::Live]).await;
}

pub(crate) async fn an_expired_token_costs_neither_state_nor_changes(version: Version) {
    let mut rig = Rig::start_with(version, &["--auth-token-ttl=2"]).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.etcd.enable_auth("reader", "secret", PREFIX).await;
    let directory = TempDir::new().unwrap();
    let password = directory.path().join("password");
    replace(&password, "secret");
    let config = Config {
        username: Some("reader".into()),
        password_file: Some(password),
        // Longer than the token lives, so that every reconcile meets an expired one.
        reconcile: Duration::from_secs(4),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    observed
        .status_becomes("two reconciles", |status| status.counters.reconciles >= 2)
        .await;
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
    rig.proxy.reset();
    rig.put("orders", three).await;
    observed.becomes(&state(&[("orders", &[one, two, three])])).await;
    let counters = observed.status().counters;
    assert_eq!(
        (counters.auth_failures, counters.reconcile_drift, counters.sessions),
        (0, 0, 2)
    );
}

pub(crate) async fn a_killed_etcd_says_nothing_and_comes_back_without_drift(version: Version) {
    let mut rig = Rig::start(version).await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    rig.put("orders", one).await;
    rig.put("orders", two.being(Health::Unhealthy)).await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[one, two.being(Health::Unhealthy)])]);
    observed.becomes(&known).await;

    rig.etcd.kill();
    observed.enters(&[SourceState::Degraded]).await;
    observed.is_silent_for(Duration::from_secs(5)).await;
    assert_eq!(observed.state(), known);
    assert_eq!(observed.status().state, SourceState::Degraded);

    rig.etcd.restart(Data::Kept).await;
    rig.put("orders", three).await;
    observed
        .becomes(&state(&[("orders", &[one, two.being(Health::Unhealthy), three])]))
        .await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > seen)
        .await;
    let status = observed.status();
    assert_eq!((status.state, status.counters.reconcile_drift), (SourceState::Live, 0));
}

pub(crate) async fn an_etcd_that_lost_its_data_is_a_new_epoch(version: Version) {
    a_new_epoch(version, Data::Lost).await;
}

pub(crate) async fn an_etcd_of_another_cluster_is_a_new_epoch(version: Version) {
    a_new_epoch(version, Data::NewCluster).await;
}

/// The revision of the new history has passed that of the old one before anybody looks.
pub(crate) async fn an_etcd_that_lost_its_data_and_wrote_as_much_again_is_a_new_epoch(version: Version) {
    new_epoch(version, Data::Lost, 300).await;
}

async fn a_new_epoch(version: Version, data: Data) {
    new_epoch(version, data, 0).await;
}

async fn new_epoch(version: Version, data: Data, writes: usize) {
    let mut rig = Rig::start(version).await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for port in 9100..9200 {
        rig.put("users", Instance::new(port)).await;
    }
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    rig.proxy.refuse();
    rig.etcd.kill();
    rig.etcd.restart(data).await;
    for write in 0..writes {
        rig.etcd.put("/elsewhere", &write.to_string()).await;
    }
    rig.put("orders", one).await;
    rig.heal().await;
    until(PATIENT, "the new listing", async || {
        observed.heard().notes.len() > before
    })
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
    assert!(!why.is_empty());
    // A new epoch is still watched.
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}
