//! What happens to an ensemble itself: death, a return as another one, and a change of its leader.

use std::time::Duration;

use leadsman_core::model::{Evidence, Health};
use leadsman_registry::zookeeper::{Config, Zookeeper as Adapter};
use leadsman_registry::{SourceState, Tls};
use leadsman_tests::contract::{Subject, network as suite, state};
use leadsman_tests::instance::Instance;
use leadsman_tests::observed::{Note, Observed};
use leadsman_tests::wait::{PATIENT, until};
use leadsman_tests::zookeeper::{Data, Zookeeper};

use leadsman_tests::rigs::zookeeper::{Rig, value};

#[tokio::test]
async fn a_killed_zookeeper_says_nothing_and_comes_back_without_drift() {
    let mut rig = Rig::start().await;
    let (one, two, three) = (Instance::new(9001), Instance::new(9002), Instance::new(9003));
    let two = two.being(Health::Unhealthy);
    rig.put("orders", one).await;
    rig.put("orders", two).await;
    let config = Config {
        reconcile: Duration::from_secs(1),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    let known = state(&[("orders", &[one, two])]);
    observed.becomes(&known).await;

    rig.zookeeper.kill(0);
    observed.enters(&[SourceState::Degraded]).await;
    observed.is_silent_for(Duration::from_secs(2)).await;
    assert_eq!(observed.state(), known);

    rig.zookeeper.restart(0, Data::Kept).await;
    rig.put("orders", three).await;
    observed.becomes(&state(&[("orders", &[one, two, three])])).await;
    let seen = observed.status().counters.reconciles;
    observed
        .status_becomes("a reconcile", |status| status.counters.reconciles > seen)
        .await;
    let status = observed.status();
    assert_eq!((status.state, status.counters.reconcile_drift), (SourceState::Live, 0));
}

#[tokio::test]
async fn a_zookeeper_that_hangs_is_noticed_and_caught_up_with() {
    let (pause, resume) = (
        |rig: &mut Rig| rig.zookeeper.pause(0),
        |rig: &mut Rig| rig.zookeeper.resume(0),
    );
    suite::a_server_that_hangs_is_noticed_and_caught_up_with(&mut Rig::start().await, pause, resume).await;
}

#[tokio::test]
async fn a_zookeeper_that_lost_its_data_is_a_new_epoch() {
    let mut rig = Rig::start().await;
    let (one, two) = (Instance::new(9001), Instance::new(9002));
    for port in 9100..9200 {
        rig.put("users", Instance::new(port)).await;
    }
    let observed = rig.observe();
    observed.enters(&[SourceState::Live]).await;
    let before = observed.heard().notes.len();
    rig.proxy.refuse();
    rig.zookeeper.kill(0);
    rig.zookeeper.restart(0, Data::Lost).await;
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
            evidence: Evidence::NewEpoch { .. },
            ..
        },
    ] = &notes[before..]
    else {
        panic!("{:?}", &notes[before..]);
    };
    // A new epoch is still watched.
    rig.put("orders", two).await;
    observed.becomes(&state(&[("orders", &[one, two])])).await;
}

/// Changes race with the comparison, and must not be taken for lost events.
#[tokio::test]
async fn a_reconcile_with_nothing_lost_finds_nothing() {
    let mut rig = Rig::start().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let config = Config {
        reconcile: Duration::from_millis(100),
        ..rig.config()
    };
    let observed = Observed::start(Adapter::new(config));
    observed.becomes(&state(&[("orders", &[one])])).await;
    let before = observed.heard().notes.len();
    for round in 0..300_u32 {
        let other = Instance::new(9002 + u16::try_from(round % 7).unwrap());
        rig.put("users", one.weighing(f64::from(round))).await;
        rig.put("users", other).await;
        rig.remove("users", other.port).await;
    }
    observed
        .status_becomes("ten reconciles", |status| status.counters.reconciles >= 10)
        .await;
    let notes = observed.heard().notes.split_off(before);
    let expected = |note: &Note| *note == Note::Reconciled { drift: 0 } || *note == Note::Apply("users".into());
    assert!(notes.iter().all(expected), "{notes:?}");
}

#[tokio::test]
async fn a_change_of_the_leader_loses_no_change() {
    let mut zookeeper = Zookeeper::start_ensemble().await;
    let instances: Vec<Instance> = (9001..9021).map(Instance::new).collect();
    let servers = zookeeper.addresses().iter().map(ToString::to_string).collect();
    let config = Config {
        session_timeout: Duration::from_secs(4),
        ..Config::new(servers, "/services")
    };
    let observed = Observed::start(Adapter::new(config));
    observed.enters(&[SourceState::Live]).await;
    let (early, late) = instances.split_at(10);
    for instance in early {
        let at = format!("/services/orders/{}", instance.port);
        zookeeper.put(&at, value(*instance).as_bytes()).await;
    }
    observed.becomes(&state(&[("orders", early)])).await;
    let leader = zookeeper.leader().await;
    zookeeper.kill(leader);
    for instance in late {
        let at = format!("/services/orders/{}", instance.port);
        zookeeper.put(&at, value(*instance).as_bytes()).await;
    }
    observed.becomes(&state(&[("orders", &instances)])).await;
    observed.enters(&[SourceState::Live]).await;
    let new_epochs = |note: &Note| matches!(note, Note::Resync { evidence, .. } if *evidence != Evidence::Complete);
    assert!(
        !observed.heard().notes.iter().any(new_epochs),
        "{:?}",
        observed.heard().notes
    );
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_is_read_with_one() {
    let zookeeper = Zookeeper::start_tls().await;
    let one = Instance::new(9001);
    zookeeper.put("/services/orders/9001", value(one).as_bytes()).await;
    let [ca, cert, key] = zookeeper.client_files();
    let observe = |tls: Option<Tls>| {
        let servers = vec![zookeeper.tls_address().to_string()];
        Observed::start(Adapter::new(Config {
            tls,
            ..Config::new(servers, "/services")
        }))
    };
    let (cert, key) = (Some(cert), Some(key));
    let trusted = observe(Some(Tls {
        ca: Some(ca.clone()),
        cert: cert.clone(),
        key: key.clone(),
    }));
    let anonymous = observe(Some(Tls {
        ca: Some(ca),
        ..Tls::default()
    }));
    let distrustful = observe(Some(Tls { ca: None, cert, key }));
    let plain = observe(None);
    trusted.becomes(&state(&[("orders", &[one])])).await;
    trusted.enters(&[SourceState::Live]).await;
    zookeeper
        .put("/services/orders/9002", value(Instance::new(9002)).as_bytes())
        .await;
    trusted
        .becomes(&state(&[("orders", &[one, Instance::new(9002)])]))
        .await;
    for (observed, why) in [(&anonymous, "certificate"), (&distrustful, "certificate"), (&plain, "")] {
        observed
            .status_becomes("an error", |status| {
                let error = status.last_error.as_deref().unwrap_or_default().to_lowercase();
                !error.is_empty() && error.contains(why)
            })
            .await;
        assert_eq!(observed.heard().notes, []);
    }
}

/// Another ensemble that has counted further: only its tree says that it is not the one that was seen.
#[tokio::test]
async fn an_ensemble_that_was_set_up_anew_is_a_new_epoch_however_far_it_counts() {
    let mut rig = Rig::start().await;
    let one = Instance::new(9001);
    rig.put("orders", one).await;
    let observed = rig.observe();
    observed.becomes(&state(&[("orders", &[one])])).await;
    rig.proxy.refuse();
    rig.zookeeper.kill(0);
    rig.zookeeper.restart(0, Data::Lost).await;
    for port in 9100..9200 {
        rig.put("users", Instance::new(port)).await;
    }
    rig.proxy.heal();
    observed
        .status_becomes("another listing", |status| status.counters.resyncs == 2)
        .await;
    let notes = observed.heard().notes;
    let new_epoch = |note: &Note| matches!(note, Note::Resync { evidence: Evidence::NewEpoch { why }, .. } if why.contains("the prefix"));
    assert!(notes.iter().any(new_epoch), "{notes:?}");
}
